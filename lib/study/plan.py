"""What a study would train, fetch and cost, printed before anything runs: `python -m lib.study.plan paper *.ipynb`.

It needs no network. Grids are those of the notebooks (`lib.study.grids`), costs are estimates: operations of the layers
alone, 2 per parameter and token in scoring and 6 in training (Kaplan et al. 2020, https://arxiv.org/abs/2001.08361), 4
where only an adapter is trained, all at full length; a short measurement says how many this machine does a second.
"""

from __future__ import annotations  # transformers reads its model classes, for seconds, when one is named

import argparse
import contextlib
import math
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import huggingface_hub
import pandas as pd
import torch
import transformers
from huggingface_hub.errors import HFValidationError

from lib.data import collections, irds, score_files, views
from lib.machine import hardware, store
from lib.models import backbone, packaged
from lib.models.weights import config
from lib.study import forecast, grids, identity, papers, profiles
from lib.study.derived import Pretrained
from lib.study.experiment import Experiment, Model, Run, Teacher, TestSet, Untrained
from lib.study.notebooks import NotebookError

Trained = Experiment | Pretrained  # a merge costs next to nothing

# Configurations of hub models that are not on this machine, as their cards have them: (type, what differs from
# transformers' defaults, which are those of the base models).
CONFIGS = {
    "distilbert-base-uncased": ("distilbert", {}),
    "bert-base-uncased": ("bert", {}),
    "bert-large-uncased-whole-word-masking": ("bert", {"hidden_size": 1024, "num_hidden_layers": 24,
                                                       "num_attention_heads": 16, "intermediate_size": 4096}),
    "albert-large-v2": ("albert", {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
                                   "intermediate_size": 4096}),
    "Qwen/Qwen2.5-0.5B": ("qwen2", {"hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14,
                                    "num_key_value_heads": 2, "intermediate_size": 4864}),
    "Qwen/Qwen2.5-7B": ("qwen2", {"hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28,
                                  "num_key_value_heads": 4, "intermediate_size": 18944, "vocab_size": 152064}),
}  # fmt: skip
# (test queries, thousands of documents) of BEIR's collections: https://github.com/beir-cellar/beir, README.md (ef83d29)
BEIR = {
    "msmarco": (6980, 8840), "trec-covid": (50, 171), "nfcorpus": (323, 3.6), "nq": (3452, 2680), "fiqa": (648, 57),
    "hotpotqa": (7405, 5230), "arguana": (1406, 8.67), "webis-touche2020": (49, 382), "quora": (10000, 523),
    "dbpedia-entity": (400, 4630), "scidocs": (1000, 25), "fever": (6666, 5420), "climate-fever": (1535, 5420),
    "scifact": (300, 5),
}  # fmt: skip
UNKNOWN_QUERIES = UNKNOWN_DEPTH = 1000  # what a test set of all queries, or with all of a stored run, is counted as
# Bytes per token, width and layer in training (Korthikanti et al. 2022, https://arxiv.org/abs/2205.05198, fused); with
# gradient checkpointing two for the input of every layer, and those of one layer.
ACTIVATIONS = 34


class Size(NamedTuple):
    """Of a backbone; parameters are counted."""

    parameters: int
    of_layer: int
    layers: int
    width: int


@cache
def size(name: str) -> Size | None:
    """The size of a backbone from its configuration here, else from `CONFIGS`; None where neither has it."""
    found = _config(name)
    if found is None:
        return None
    with torch.device("meta"):  # nothing is allocated
        model = transformers.AutoModel.from_config(found)
    counts = {name: weight.numel() for name, weight in model.named_parameters()}
    layer = sum(count for name, count in counts.items() if re.search(r"layers?\.0\.", name))
    return Size(sum(counts.values()), layer, found.num_hidden_layers, found.hidden_size)


def _config(name: str) -> transformers.PreTrainedConfig | None:
    if name == backbone.MINILM or Path(name).is_dir():
        return config(backbone.folder(name))
    if name in packaged.MODELS:
        return transformers.AutoConfig.for_model(**packaged.CONFIG)
    if path := _cached(name):
        return config(path.parent)
    kind, changes = CONFIGS.get(name, (None, {}))
    return kind and transformers.AutoConfig.for_model(kind, **changes)


def _cached(name: str) -> Path | None:
    """The configuration of a model in the hub's cache on this machine."""
    with contextlib.suppress(HFValidationError):  # the name of a collection or a file
        path = huggingface_hub.try_to_load_from_cache(name, "config.json")
        return Path(path) if isinstance(path, str) else None


def is_here(name: str) -> bool:
    """Whether a collection, a backbone or a score file (`lib.study.experiment` has all by name) is on this machine."""
    return name in packaged.MODELS or Path(name).exists() or collections.is_here(name) or _cached(name) is not None


def operations(model: Model, pairs: float, groups: float, per_parameter: int) -> float:
    """Floating-point operations of a model's layers over (query, document) pairs of so many groups; NaN if unknown."""
    if (of := size(model.backbone)) is None:
        return float("nan")
    layers = len(model.layers or range(of.layers))
    if model.architecture == "tk":
        layers = dict(model.options).get("depth", 2)
    separate = model.architecture not in ("cat", "prettr")  # the query is encoded once
    tokens = pairs * model.max_length + separate * groups * (model.max_query or model.max_length)
    return per_parameter * of.of_layer * layers * tokens


def training(run: Trained) -> float:
    """Operations of training a run, without those of its teachers."""
    if isinstance(run, Pretrained):
        texts = run.document_count * run.training.epochs  # each alone, so it is no pair
        return operations(run.model, texts, 0, 6)
    groups = run.data.group_count * run.training.epochs
    return operations(run.model, groups * run.data.docs, groups, 4 if run.training.adapter else 6)


def teaching(runs: list[Trained]) -> float:
    """Operations of the teachers' scores: each teacher scores each set of groups once, for draws once a draw."""
    asked = set()
    for run in runs:
        for teacher in getattr(run, "teachers", ()):
            asked |= {(one, run.data, times) for one, times in _scoring(teacher, run)}
    return _sum(
        times * operations(one.model, data.group_count * data.docs, data.group_count, 2) for one, data, times in asked
    )


def _scoring(teacher: Teacher, student: Experiment) -> list[tuple[Run, int]]:
    """The models that compute a teacher's scores for a student, and how often: none where they come from a file."""
    if isinstance(teacher, str):
        named = Untrained(Model(backbone=teacher, max_length=student.model.max_length))
        return [] if score_files.is_file_name(teacher) else [(named, 1)]
    if isinstance(teacher, Run):
        return [(teacher, 1)]
    return [(one, getattr(teacher, "count", 1)) for one in teacher.parents]


def _sum(work: Iterable[float]) -> float:
    """The sum of what is known; `_costs` names the rest."""
    return sum(one for one in work if not math.isnan(one))


def scoring(run: Run, test: TestSet) -> float:
    """Operations of scoring a test set."""
    queries = test.queries or BEIR.get(test.collection.removeprefix("hub:BeIR/"), (UNKNOWN_QUERIES,))[0]
    queries = max(queries - test.skip, 0)
    return operations(run.model, queries * (test.depth or UNKNOWN_DEPTH), queries, 2)


def memory(run: Trained) -> float:
    """GiB of training: weights, of what is trained gradients and Adam's moments too, and a step's activations."""
    if (of := size(run.model.backbone)) is None:
        return float("nan")
    weights = of.parameters * 4 * (1 if run.training.adapter else 4)
    pairs = (run.training.chunk or run.training.batch_size) * (run.data.docs if isinstance(run, Experiment) else 1)
    layers = len(run.model.layers or range(of.layers))
    kept = 2 * layers + ACTIVATIONS if run.training.gradient_checkpointing else layers * ACTIVATIONS
    return (weights + pairs * run.model.max_length * of.width * kept) / 2**30


def is_stored(run: Run, test: TestSet | None = None) -> bool:
    """Whether a run, or its scoring of a test set, is in the store; what it is made from has to be here to name it."""
    if not all(map(is_here, _made_from(run))) or (test and not is_here(test.collection)):
        return False
    name = identity.evaluation(run, test) if test else run.key
    return store.is_whole(store.data_folder() / ("evaluations" if test else "runs") / name)


@cache
def _made_from(run: Run) -> set[str]:
    """The collections and backbones of a run, and of what it starts and learns from."""
    own = {run.model.backbone}
    if isinstance(run, Pretrained):
        own |= {run.collection}
    if isinstance(run, Experiment):
        own |= {run.data.collection, *(one for one in run.teachers if isinstance(one, str))}
    return own.union(*map(_made_from, run.parents))


def show(profile: str, chosen: list[Path]) -> None:
    """Print the plan of a study of these notebooks with a profile."""
    runs, scorings, rows = {}, {}, []
    found = {path.stem: grids.of_notebook(path, {"profile": profile}) for path in chosen}
    for name, grid in found.items():
        own = [run for run in grid.runs if isinstance(run, Trained)]
        new = Counter(run.taught["strategy"].partition("(")[0] for run in own if run not in runs)
        rows.append([name, len(own), new.total(), ", ".join(f"{count} {what}" for what, count in new.items())])
        runs |= dict.fromkeys(own)
        scorings |= grid.scorings
    missing = [run for run in runs if not is_stored(run)]
    to_score = [pair for pair in scorings if not is_stored(*pair)]
    print(f"Grid of profile {profile}: {len(runs)} trainings, {len(runs) - len(missing)} of them in the store; "
          f"{len(scorings)} scorings, {len(scorings) - len(to_score)} of them in the store")  # fmt: skip
    print(_text(pd.DataFrame(rows, columns=["notebook", "trainings", "new", "of them"])))
    for name, grid in found.items():
        for line in grid.left_out:
            print(f"not counted, since only texts or results decide it: {name}: {line}")
    if profile.startswith("paper"):
        _heading("Settings and their sources (lib/study/papers.py)")
        print(_text(papers.table()))
    _heading("Data and models")
    used = {test.collection for _, test in scorings}.union(*map(_made_from, {*runs, *(run for run, _ in scorings)}))
    for name in sorted({views.parted(name)[1].partition(collections.GRADE)[0] for name in used}):
        print(f"  {name}: {'here' if is_here(name) else _to_get(name)}")
    _costs(missing, to_score)


def _to_get(name: str) -> str:
    if name in collections.BUILT:
        return "built from installed packages, in a minute"
    if score_files.is_file_name(name):
        return "a file that is missing"
    what = "of a size that is not known here"
    if name.startswith("ir:"):
        count = irds.documents(name.removeprefix("ir:"))
    else:
        count = int(1000 * BEIR.get(name.removeprefix("hub:BeIR/"), (None, 0))[1])
    if count:
        what = f"about {count:,} documents"
    elif ":" not in name and (of := size(name)):
        what = f"about {of.parameters * 4 / 1e9:.1f} GB in float32"
    return f"to fetch from {'ir_datasets' if name.startswith('ir:') else 'the hub'}, {what}"


def _costs(missing: list[Trained], to_score: list[tuple[Run, TestSet]]) -> None:
    _heading(f"Cost of the {len(missing)} trainings and {len(to_score)} scorings that are missing")
    needed = [*missing, *(run for run, _ in to_score)]
    needed += [one for run in missing for teacher in getattr(run, "teachers", ()) for one, _ in _scoring(teacher, run)]
    if unknown := sorted({run.model.backbone for run in needed if size(run.model.backbone) is None}):
        print(f"  in no number below, since their size is not known here: {', '.join(unknown)}")
    heaviest = max((run for run in missing if size(run.model.backbone)), key=memory, default=None)
    disk = sum(of.parameters * 4 for run in missing if (of := size(run.model.backbone)))
    data = store.data_folder()
    free = shutil.disk_usage(next(path for path in (data, *data.parents) if path.exists())).free
    print(f"  disk: at most {disk / 1e9:.1f} GB of weights, of {free / 1e9:.0f} GB that are free; data, tokens, BM25 "
          "indexes and vectors come on top")  # fmt: skip
    if heaviest is not None:
        print(f"  memory: about {memory(heaviest):.1f} GiB for {heaviest.model.backbone}, the largest training")
    rate = forecast.rate()
    parts = {"training": _sum(map(training, missing)), "teachers' scores": teaching(missing),
             "scoring": _sum(scoring(*pair) for pair in to_score)}  # fmt: skip
    device = hardware.description()["device"]
    print(f"  {device} did {rate / 1e12:.2g} TFLOP/s in a short measurement. Hours at that rate, and at 100 TFLOP/s, "
          "which a large accelerator may reach:")  # fmt: skip
    for name, work in parts.items():
        print(f"    {name:<16} {work / rate / 3600:>14,.1f} {work / 1e14 / 3600:>10,.1f}")
    print(f"  not counted: attention's products, BM25, encoding of whole collections, notebooks' own computing; a test "
          f"set of all queries counts as {UNKNOWN_QUERIES}, where their number is not known")  # fmt: skip


def _heading(text: str) -> None:
    print(f"\n{text}")


def _text(table: pd.DataFrame) -> str:
    rows = [list(table), *([str(value) for value in row] for row in table.itertuples(index=False, name=None))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m lib.study.plan", description=__doc__.splitlines()[0])
    parser.add_argument("profile", choices=profiles.PROFILES)
    parser.add_argument("notebooks", nargs="+", type=Path)
    given = parser.parse_args(arguments)
    try:
        show(given.profile, given.notebooks)
    except NotebookError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
