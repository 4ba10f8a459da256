"""The settings of the profiles `paper` and `paper-2010.02666`, each with where its value comes from.

`PAPER`: stated by the paper, its code, configuration or model card, where it was read. `STAND_IN`: the paper's value is
not available; this one is of the first author's later code for the same two trainings (texttron/tevatron@dd06310,
docs/megatron_reranker_usage.md). `INFERRED` from what is stated. `OURS`: the kit's choice, since the paper states
nothing, or the kit has nothing else. The bodies of the three papers were not read.
"""

from dataclasses import dataclass

import pandas as pd

from lib.training.settings import Adapter

PAPER, STAND_IN, INFERRED, OURS = "paper", "stand-in", "inferred", "the kit's choice"
TRAIN = "hub:BeIR/msmarco"
DL19 = f"{TRAIN}?relevant_grade=2"  # its test split
GROUPS = 500_000
# BEIR's collections that the hub has in one layout: without CQADupStack, which is twelve.
BEIR = ("arguana", "climate-fever", "dbpedia-entity", "fever", "fiqa", "hotpotqa", "nfcorpus", "nq", "quora", "scidocs",
        "scifact", "trec-covid", "webis-touche2020")  # fmt: skip
_ABSTRACT = "abstract, https://arxiv.org/abs/2507.08336v3"
_MATCHMAKER = "sebastian-hofstaetter/matchmaker@210b9da"
_MARGINS = "webis-de/adaptive-relevance-margin-loss@76fc0d9"


@dataclass(frozen=True)
class Setting:
    """A value of a field of `lib.study.experiment`, its mark, and its source or the reason for the choice."""

    field: str
    value: object
    mark: str
    source: str


_MS_MARCO = Setting("collection", TRAIN, PAPER, "MS MARCO passages, as in all three papers")
_COUNT = Setting("group_count", GROUPS, OURS, "one group per relevant passage, of 532,751 "
                 "(https://huggingface.co/datasets/irds/beir_msmarco_train)")  # fmt: skip
_WHOLE = Setting("embeddings", True, INFERRED, "nothing says that they are not trained")

# 2507.08336: a decoder as re-ranker, from labels or from a larger one's scores, on the same triples.
RERANKER = (
    Setting("architecture", "cat", PAPER, f"cross-encoders: {_ABSTRACT}"),
    Setting("backbone", "Qwen/Qwen2.5-0.5B", INFERRED, f"0.5B, 1.5B, 3B and 7B ({_ABSTRACT}) are Qwen2.5's sizes; "
            "vary(run, backbone=...) gives the others"),
    Setting("layers", None, INFERRED, "whole models"),
    _MS_MARCO, _COUNT, _WHOLE,
    Setting("docs", 8, STAND_IN, "one positive, seven hard negatives"),
    Setting("batch_size", 8, OURS, "64 queries a step in the stand-in: more than one device holds"),
    Setting("learning_rate", 1e-5, STAND_IN, "all weights"),
    Setting("warm_up", 0.2, STAND_IN, ""),
    Setting("epochs", 1, STAND_IN, ""),
    Setting("max_length", 512, STAND_IN, "tokens of a pair"),
)  # fmt: skip
TEACHER = (
    Setting("backbone", "Qwen/Qwen2.5-7B", INFERRED, f"a 7B teacher trained contrastively: {_ABSTRACT}"),
    Setting("adapter", Adapter("lora", 16), STAND_IN, "a whole 7B model has no room on one device"),
    Setting("learning_rate", 1e-4, STAND_IN, "ten times that of all weights"),
    Setting("batch_size", 2, OURS, "what 80 GB hold at this length"),
    Setting("embeddings", False, OURS, "LoRA trains none"),
)
# 2010.02666: Margin-MSE across architectures.
CROSS_ARCHITECTURE = (
    Setting("backbone", "distilbert-base-uncased", PAPER, f"six layers: {_MATCHMAKER} and the authors' model cards"),
    Setting("layers", None, PAPER, "all six: the same"),
    _MS_MARCO, _COUNT, _WHOLE,
    Setting("docs", 2, PAPER, "triples: sebastian-hofstaetter/neural-ranking-kd@aafcc73, README"),
    Setting("batch_size", 32, PAPER, f"{_MATCHMAKER} config/train/defaults.yaml"),
    Setting("learning_rate", 7e-6, PAPER, f"{_MATCHMAKER} config/train/defaults.yaml"),
    Setting("weight_decay", 0.0, PAPER, f"{_MATCHMAKER} config/train/defaults.yaml"),
    Setting("max_query", 30, PAPER, f"{_MATCHMAKER} config/train/defaults.yaml"),
    Setting("max_length", 233, PAPER, "30 + 200 tokens, the same, and three special ones"),
    Setting("epochs", 10, OURS, "the paper stops early: 30 evaluations of nDCG@10, every 4,000 steps, without a gain"),
    Setting("warm_up", 0.0, OURS, "the paper: a cosine after a warm-up, in the code of 2021; the kit: a line"),
)  # fmt: skip
ARCHITECTURES = {  # architecture -> what differs from CROSS_ARCHITECTURE
    "cat": (),
    "prettr": (Setting("options", (("split", 3),), PAPER, f"{_MATCHMAKER} models/prettr.py: join_layer_idx"),),
    "colbert": (Setting("options", (("dim", 768), ("masks", 8), ("similarity", "dot")), PAPER,
                        f"{_MATCHMAKER} models/colbert.py and the model card"),),
    "dot": (Setting("options", (("pooling", "cls"),), PAPER, f"{_MATCHMAKER} models/bert_dot.py: no projection"),),
    "tk": (Setting("options", (("depth", 2), ("heads", 12), ("feed_forward", 300)), OURS, "the paper: ten heads over "
                   "GloVe of 300 dimensions; the kit: the backbone's own word vectors"),
           Setting("learning_rate", 1e-5, PAPER, f"{_MATCHMAKER} config/train/models/tk.yaml")),
}  # fmt: skip
ENSEMBLE = {  # backbones of the teachers, T1 first; together they are T2
    "bert-base-uncased": (PAPER, "BERT-Base_CAT: neural-ranking-kd@aafcc73, README"),
    "bert-large-uncased-whole-word-masking": (PAPER, f"{_MATCHMAKER} models/bert_cat.yaml"),
    "albert-large-v2": (PAPER, f"{_MATCHMAKER} models/bert_cat.yaml"),
}
# 2407.21515: a bi-encoder that learns from its own margins.
OWN_MARGINS = (
    Setting("architecture", "dot", PAPER, f"{_MARGINS} src/"),
    Setting("backbone", "distilbert-base-uncased", PAPER, f"one of three: {_MARGINS} configs/"),
    Setting("options", (("similarity", "cosine"), ("pooling", "cls")), PAPER, f"{_MARGINS} src/loss.py, scripts/"),
    Setting("layers", None, PAPER, f"{_MARGINS} configs/"),
    _MS_MARCO, _COUNT, _WHOLE,
    Setting("docs", 2, PAPER, f"triples: {_MARGINS} src/data.py"),
    Setting("batch_size", 128, PAPER, f"{_MARGINS} configs/"),
    Setting("learning_rate", 5e-7, PAPER, f"{_MARGINS} configs/"),
    Setting("weight_decay", 1e-6, PAPER, f"{_MARGINS} configs/"),
    Setting("epochs", 1, PAPER, f"{_MARGINS} configs/"),
    Setting("max_query", 20, PAPER, f"{_MARGINS} configs/"),
    Setting("max_length", 200, PAPER, f"of a passage: {_MARGINS} configs/"),
    Setting("warm_up", 0.0, OURS, "the paper: its rate falls by 0.99999 a step; the kit: a line"),
)  # fmt: skip
EVALUATION = (
    Setting("tests", "TREC DL 2019 and BEIR", PAPER, "sciencestack.ai/paper/2507.08336; which of BEIR: the stand-in's"),
    Setting("depth", 100, STAND_IN, "of E5's ranking there; BM25's here"),
    Setting("depth, architectures", 1000, PAPER, "BM25: card of distilbert-dot-margin_mse-T2-msmarco"),
    Setting("dev queries", 3200, INFERRED, "of 49,000 (2104.06967, section 4.3); here of BEIR's 6,980"),
    Setting("TREC DL 2020", "by hand", OURS, "no hub dataset in BEIR's layout: a folder, read by notebook 15"),
    Setting("start", "one step", OURS, "notebooks show one and no paper has one: this one changes nothing"),
    Setting("seeds", (0, 1, 2), OURS, "the papers' are of other generators"),
)


def values(*settings: Setting) -> dict[str, object]:
    """Field -> value, for `vary`."""
    return {setting.field: setting.value for setting in settings}


def table() -> pd.DataFrame:
    """One row per setting: of, setting, value, mark, source."""
    groups = {"student, 2507.08336": RERANKER, "teacher, 2507.08336": TEACHER, "architectures, 2010.02666":
              CROSS_ARCHITECTURE}  # fmt: skip
    groups |= {f"{name}, 2010.02666": settings for name, settings in ARCHITECTURES.items()}
    teachers = [Setting("backbone", name, *source) for name, source in ENSEMBLE.items()]
    groups |= {"teachers, 2010.02666": teachers, "bi-encoder, 2407.21515": OWN_MARGINS, "evaluation": EVALUATION}
    rows = [(name, *vars(setting).values()) for name, settings in groups.items() for setting in settings]
    return pd.DataFrame(rows, columns=["of", "setting", "value", "mark", "source"])
