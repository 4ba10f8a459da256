"""What decides a number is in its name: every field, every constant, every input's content, and nothing else."""

import ast
import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from lib.analysis import measures
from lib.data import first_stage
from lib.machine import store
from lib.study import identity
from lib.study.experiment import TestSet, fields, vary
from lib.training import strategies
from lib.training.settings import Adapter, GradCache, Queue

LIB = Path(__file__).parents[1] / "lib"


def evaluation_key(run, test):
    return store.key(identity.of_evaluation(run, test))


def test_every_field_of_an_experiment_tells_runs_apart(experiment, tiny_backbone):
    bi_encoder = vary(experiment, architecture="dot")
    cosine = vary(bi_encoder, options=(("similarity", "cosine"),))
    distilled = vary(experiment, strategy="kl", teacher=experiment)
    mutual = vary(experiment, strategy="mutual", peer=experiment)
    changes = {
        "strategy": (experiment, "bce"), "teacher": (distilled, vary(experiment, seed=1)),
        "start": (experiment, experiment), "seed": (experiment, 1), "architecture": (experiment, "dot"),
        "options": (bi_encoder, cosine.model.options), "backbone": (experiment, None), "layers": (experiment, (0,)),
        "max_length": (experiment, 40), "max_query": (experiment, None), "collection": (experiment, None),
        "group_count": (experiment, 12), "docs": (experiment, 4), "negatives": (experiment, bi_encoder),
        "batch_size": (experiment, 2), "epochs": (experiment, 2), "learning_rate": (experiment, 2e-3),
        "warm_up": (experiment, 0.2), "dropout": (experiment, 0.1), "embeddings": (experiment, True),
        "weight_decay": (experiment, 0.1), "clip": (experiment, 2.0), "adapter": (experiment, Adapter("lora")),
        "batching": (bi_encoder, GradCache(2)), "gradient_checkpointing": (experiment, True),
        "positives": (experiment, 1), "reads": (experiment, "typos"), "peer": (mutual, vary(experiment, seed=1)),
        "snapshots": (experiment, 2),
    }  # fmt: skip
    assert set(changes) == set(dict(fields(experiment)))
    changes["backbone"] = experiment, "minilm"
    changes["collection"] = experiment, f"cropped:{experiment.data.collection}"
    for name, (run, value) in changes.items():
        assert vary(run, **{name: value}).key != run.key, name
    adapters = [Adapter("lora"), Adapter("lora", 4), Adapter("prefix")]
    batchings = [GradCache(2), GradCache(4), Queue(2), Queue(4), Queue(4, momentum=0.9)]
    keys = [vary(bi_encoder, adapter=adapter).key for adapter in adapters]
    keys += [vary(bi_encoder, batching=batching).key for batching in batchings]
    assert len(set(keys)) == len(adapters) + len(batchings)


def test_every_field_of_a_test_set_tells_evaluations_apart(experiment, tiny_collection, tmp_path):
    run = str(tmp_path / "run.trec")
    Path(run).write_text("q16 Q0 d1 1 1.0 x\n")
    test = TestSet(tiny_collection, queries=8, depth=10)
    changes = {"collection": f"cropped:{tiny_collection}", "split": "train", "queries": None, "depth": 9, "run": run,
               "skip": 2}  # fmt: skip
    assert set(changes) == {field.name for field in dataclasses.fields(TestSet)}
    keys = {evaluation_key(experiment, dataclasses.replace(test, **{name: value})) for name, value in changes.items()}
    keys |= {evaluation_key(experiment, test), evaluation_key(experiment.before, test)}
    assert len(keys) == len(changes) + 2


def test_equal_numbers_and_spellings_are_one_experiment(experiment):
    assert vary(experiment, dropout=0).key == vary(experiment, dropout=0.0).key
    assert vary(experiment, learning_rate=1).key == vary(experiment, learning_rate=1.0).key
    distilled = vary(experiment, strategy="kl", teacher=experiment)
    equal = [strategies.named("kl", temperature=value) for value in (2, 2.0)]
    assert len({vary(distilled, strategy=strategy).key for strategy in equal}) == 1
    assert vary(distilled, strategy=strategies.named("kl", temperature=1)).key == distilled.key
    dot = vary(experiment, architecture="dot")
    orders = [(("similarity", "cosine"), ("pooling", "cls")), (("pooling", "cls"), ("similarity", "cosine"))]
    assert len({vary(dot, options=order).key for order in orders}) == 1


@pytest.mark.parametrize("name", identity.CONSTANTS)
def test_every_constant_tells_runs_apart(name, experiment, monkeypatch):
    before = experiment.key
    value = identity.constants()[name]
    monkeypatch.setattr(f"lib.{name}", [*value, 1.0] if isinstance(value, tuple) else value + 1)
    assert experiment.key != before


def test_recipe_precision_and_first_stage_tell_runs_apart(experiment, monkeypatch):
    test = TestSet(experiment.data.collection, queries=8, depth=10)
    changes = [
        (identity, "RECIPE", 99), (identity.hardware, "precision", lambda: "other"), (first_stage, "K1", 1.2),
        (first_stage, "B", 0.75), (first_stage.bm25s, "__version__", "9.9"),
    ]  # fmt: skip
    keys = [(experiment.key, evaluation_key(experiment, test))]
    for module, name, value in changes:
        with monkeypatch.context() as patched:
            patched.setattr(module, name, value)
            keys.append((experiment.key, evaluation_key(experiment, test)))
    assert all(len(set(column)) == len(changes) + 1 for column in zip(*keys, strict=True))
    assert (experiment.key, evaluation_key(experiment, test)) == keys[0]
    monkeypatch.setattr(measures, "MEASURES", (*measures.MEASURES, "AP"))
    assert evaluation_key(experiment, test) != keys[0][1] and experiment.key == keys[0][0]


# Numbers at the top of a module that decide no result, or that a fingerprint or a field holds already.
ELSEWHERE = {
    "models.merging.PARALLEL": "in identity.of_merged",
    "data.views.CROPPED_WORDS": "in the fingerprint of a cropped collection",
    "data.views.STAYS_DEV": "in the fingerprint of such a collection",
    "data.corruptions.SHARE": "in the fingerprint of a collection with corrupted queries",
    "data.pydocs": "in the texts, whose content is the fingerprint",
    "data.first_stage": "in first_stage.identity",
    "study.identity": "the description itself",
    "models.packaged.OPENING": "in the fingerprint of a packaged graph",
    "models.tokens.PAD_TO": "padding, which every model masks",
    "training.scoring.AT_ONCE": "how much is in memory at a time",
    "training.loop.READ_EVERY": "how often an accelerator is waited for",
    "analysis.significance.RESAMPLES": "of intervals and tests, which are computed from the table and kept nowhere",
    "analysis.significance.SIGNS": "the same",
}
DECIDING = [
    "models.tokens", "data.groups", "data.first_stage", "data.collections", "data.views", "data.corruptions",
    "training.loop", "training.batches", "training.settings", "training.strategy", "training.strategies",
    "training.peers", "training.scoring", "training.grad_cache", "training.pretraining", "analysis.measures",
    "study.identity", "study.sources", "models.cross_encoder", "models.bi_encoder", "models.colbert",
    "models.prettr", "models.tk", "models.momentum", "models.merging", "models.packaged", "models.adapters",
    "models.parts", "models.masked_lm", "models.ranker", "losses.margins", "losses.listwise", "losses.pairwise",
    "losses.pointwise", "losses.distillation", "losses.preference", "losses.selective", "losses.representations",
]  # fmt: skip


@pytest.mark.parametrize("module", DECIDING)
def test_no_number_at_the_top_of_a_deciding_module_is_forgotten(module):
    tree = ast.parse((LIB / f"{module.replace('.', '/')}.py").read_text())
    numbers = []
    for node in tree.body:
        try:
            value = ast.literal_eval(node.value) if isinstance(node, ast.Assign) else None
        except ValueError:  # made of functions: code, which the recipe stands for (strategies are described in full)
            continue
        parts = value if isinstance(value, tuple | list) else [value]
        if any(type(part) in (int, float) for part in parts):
            targets = [one for target in node.targets for one in getattr(target, "elts", [target])]
            numbers += [f"{module}.{target.id}" for target in targets]
    known = {*identity.CONSTANTS, *ELSEWHERE}
    assert [name for name in numbers if name not in known and name.rpartition(".")[0] not in known] == []


FILES = {
    "config.json": lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), "hidden_act": "relu"})),
    "tokenizer.json": lambda path: path.write_text(path.read_text() + " "),
    "tokenizer_config.json": lambda path: path.write_text(path.read_text() + " "),
    "model.safetensors": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x07"),
}


@pytest.mark.parametrize("file", FILES)
def test_every_file_of_a_backbone_decides_and_an_edit_is_noticed_at_once(file, experiment, tmp_path):
    shutil.copytree(experiment.model.backbone, tmp_path / "copy")
    run = vary(experiment, backbone=str(tmp_path / "copy"))
    assert run.key == experiment.key  # where it lies does not matter
    FILES[file](tmp_path / "copy" / file)
    assert run.key != experiment.key


def test_an_edited_collection_is_another_one_at_once(experiment, tmp_path):
    shutil.copytree(experiment.data.collection, tmp_path / "tiny")
    run = vary(experiment, collection=str(tmp_path / "tiny"))
    cropped = vary(run, collection=f"cropped:{run.data.collection}")
    assert run.key == experiment.key != cropped.key
    before = cropped.key
    text = (tmp_path / "tiny" / "corpus.jsonl").read_text()
    (tmp_path / "tiny" / "corpus.jsonl").write_text(text.replace("alpha", "omega", 1))
    assert run.key != experiment.key and cropped.key != before


def test_a_score_file_decides_by_its_content_and_a_missing_one_is_named(experiment, tmp_path):
    path = tmp_path / "scores.tsv"
    path.write_text("1\t0\tq0\td0\td1\n")
    run = vary(experiment, strategy="kl", teacher=str(path))
    first = run.key
    path.write_text("2\t0\tq0\td0\td1\n")
    assert run.key != first
    path.unlink()
    with pytest.raises(ValueError, match=r"scores.tsv: there is no file .*scores.tsv; give the path"):
        assert run.key


def test_a_key_reads_no_collection(experiment, monkeypatch):
    monkeypatch.setattr("lib.data.collections.load", lambda _: pytest.fail("the collection was loaded"))
    assert experiment.key and experiment.with_seed(0).key
