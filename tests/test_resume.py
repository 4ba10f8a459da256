"""A training that was cut short at any step ends with the history and the weights of one that was not."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from lib import models
from lib.data import collections, groups
from lib.machine import store
from lib.models import adapters
from lib.study import rankers, runs, space, tables, targets
from lib.study.experiment import Model, TestSet, vary
from lib.training import loop, resume, scoring, strategies
from lib.training.resume import Checkpoint
from lib.training.settings import Adapter, GradCache, Queue, Training
from tests import kit

NEAR = {"rtol": 1e-4, "atol": 1e-6}  # another model object may lie otherwise in memory, and kernels depend on that
COSINE = (("similarity", "cosine"),)
SCALED = (*COSINE, ("scale", 20.0))
# name -> strategy, architecture, its options, settings
CASES = {
    "dropout": ("info_nce", "cat", (), {"dropout": 0.2}),
    "two epochs": ("ranknet", "cat", (), {"epochs": 2, "batch_size": 4}),
    "embeddings": ("bce", "cat", (), {"embeddings": True}),
    "own margins": ("adaptive_margin", "dot", COSINE, {"dropout": 0.1}),
    "in-batch negatives": ("in_batch", "dot", COSINE, {}),
    "in parts": ("in_batch", "dot", COSINE, {"batching": GradCache(1)}),
    "momentum": ("info_nce", "dot", SCALED, {"batching": Queue(6)}),
    "lora": ("info_nce", "cat", (), {"adapter": Adapter("lora", 2), "dropout": 0.1}),
    "prefix": ("info_nce", "cat", (), {"adapter": Adapter("prefix", 2)}),
    "colbert": ("hinge", "colbert", (("dim", 16), ("masks", 2)), {}),
    "tk": ("hinge", "tk", (("heads", 4), ("depth", 1)), {}),
    "attention over layers": ("afd", "cat", (), {"dropout": 0.1}),
    "transport and a critic": ("wcord", "cat", (), {}),
}


@pytest.fixture
def training(tiny_backbone, tiny_collection, monkeypatch, float32):
    """Train a case anew from its start; with `until`, it is killed when that step begins."""
    monkeypatch.setenv("STUDY_CHECKPOINT_SECONDS", "0")
    collection = collections.load(tiny_collection)
    made = groups.build(collection, count=8, docs=3)
    draw = np.random.default_rng(0)
    made.targets["teacher"] = draw.normal(size=(8, 3)).astype(np.float32)
    made.targets["teacher_states"] = draw.normal(size=(8, 3, 1, 24)).astype(np.float16)

    def train(case, until=None, checkpoint=None):
        strategy, architecture, options, changes = CASES[case]
        model = Model(architecture, options, tiny_backbone, max_length=32)
        settings = Training(**{"batch_size": 2, "learning_rate": 1e-3} | changes)
        teacher = "teacher" if strategies.named(strategy).needs_teacher else None
        run = vary(kit.experiment("info_nce"), strategy=strategy, teacher=teacher, model=model, training=settings)
        ranker = rankers.at_start(run)
        if adapter := run.training.adapter:
            adapters.attach(ranker, adapter.kind, adapter.size, run.seed)
        read = rankers.inputs(ranker, collection, model)
        monkeypatch.setattr(loop.progress, "steps", kit.cut(until))
        history = loop.train(
            ranker, made, read, strategies.named(strategy), run.training, seed=3, checkpoint=checkpoint
        )
        return history, {name: value.detach().clone() for name, value in ranker.state_dict().items()}

    return train


def place(data_folder):
    return data_folder / "checkpoints" / "k.partial" / "0.safetensors"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("until", [1, 3])
def test_a_killed_training_ends_like_an_unbroken_one(case, until, training):
    history, weights = training(case)
    with pytest.raises(kit.Killed):
        training(case, until, Checkpoint("k"))
    checkpoint = Checkpoint("k")
    torch.rand(3)  # the state of the process is another one
    again, others = training(case, None, checkpoint)
    assert checkpoint.spent > 0
    pd.testing.assert_frame_equal(history, again, **NEAR)
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, **NEAR)


def test_it_may_be_killed_twice(training):
    history, _ = training("momentum")
    for until in (1, 2):  # the second counts from where the first ended
        with pytest.raises(kit.Killed):
            training("momentum", until, Checkpoint("k"))
    again, _ = training("momentum", None, Checkpoint("k"))
    pd.testing.assert_frame_equal(history, again, **NEAR)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-100])


def of_one_changed_bit(path):
    content = bytearray(path.read_bytes())
    content[-500] ^= 1
    path.write_bytes(content)


def without(beginning):
    def change(path):
        tensors = safetensors.torch.load_file(path)
        tensors.pop(next(name for name in tensors if name.startswith(beginning)))
        with safetensors.safe_open(path, "pt") as file:
            about = file.metadata()["about"]
        safetensors.torch.save_file(tensors, path, {"about": about, "sha256": resume._digest(tensors, about)})

    return change


@pytest.mark.parametrize("change, said", [
    (cut_off, "the work begins anew"),
    (of_one_changed_bit, "its content is not what was written"),
    (without("model/"), "its weights are those of another model"),
    (without("random/"), "the work begins anew: 'cpu'"),
    (without("history/"), "the work begins anew: 'history/rows'"),
    (lambda path: path.write_bytes(b""), "the work begins anew"),
])  # fmt: skip
def test_what_does_not_fit_is_left_unread_and_changes_nothing(change, said, training, data_folder, capsys):
    history, _ = training("dropout")
    with pytest.raises(kit.Killed):
        training("dropout", 3, Checkpoint("k"))
    change(place(data_folder))
    again, _ = training("dropout", None, Checkpoint("k"))
    pd.testing.assert_frame_equal(history, again, **NEAR)
    assert said in capsys.readouterr().err


def test_a_checkpoint_of_another_training_is_left_unread(training, data_folder, capsys):
    with pytest.raises(kit.Killed):
        training("dropout", 3, Checkpoint("k"))
    place(data_folder).parent.rename(place(data_folder).parent.with_name("other.partial"))
    checkpoint = Checkpoint("other")
    training("dropout", None, checkpoint)
    assert "it is of {'key': 'k', " in capsys.readouterr().err and checkpoint.spent == 0


def test_a_short_training_writes_nothing(training, data_folder, monkeypatch):
    monkeypatch.delenv("STUDY_CHECKPOINT_SECONDS")
    training("dropout", None, Checkpoint("k"))
    assert not place(data_folder).parent.exists()


def test_a_wrong_setting_is_refused_before_anything_is_trained(experiment, monkeypatch, data_folder):
    monkeypatch.setenv("STUDY_CHECKPOINT_SECONDS", "often")
    with pytest.raises(ValueError, match="STUDY_CHECKPOINT_SECONDS='often': give a number of seconds"):
        runs.complete([experiment])
    assert not data_folder.exists()


def test_the_checkpoint_of_a_living_training_stays_and_a_killed_one_is_counted(training, data_folder):
    alive = Checkpoint("k")
    with pytest.raises(kit.Killed):
        training("dropout", 3, alive)
    assert place(data_folder).parent in space.folders() and space.reviewed()[0] == []
    del alive  # as at the end of its process
    gc.collect()
    assert space.reviewed()[0] == [place(data_folder).parent]
    again = Checkpoint("k")
    training("dropout", None, again)
    assert again.spent > 0 and space.reviewed()[0] == []


@pytest.mark.parametrize("architecture", ["cat", "dot"])
def test_scoring_that_is_cut_short_goes_on_and_scores_no_pair_twice(
    architecture, tiny_backbone, found, float32, monkeypatch
):
    monkeypatch.setenv("STUDY_CHECKPOINT_SECONDS", "0")
    monkeypatch.setattr(scoring, "AT_ONCE", 10)
    model = models.build(architecture, tiny_backbone, None, 0)
    queries, documents = np.array(list(found.queries)[:6]), np.array(list(found.documents)[:30]).reshape(6, 5)
    compute, counts = ("_score_jointly" if architecture == "cat" else "_score_separately"), []
    computed = getattr(scoring, compute)

    def score(until=None, key="k"):
        def cut(model, tokens, pairs, *more):
            if len(counts) == until:
                raise kit.Killed
            counts.append(len(pairs))
            return computed(model, tokens, pairs, *more)

        counts.clear()
        monkeypatch.setattr(scoring, compute, cut)
        read = kit.inputs(model, found, tiny_backbone, 32)
        checkpoint = Checkpoint(key, each=True)
        return scoring.score(model, read, queries[:, None], documents, batch_size=10, checkpoint=checkpoint)

    whole = score(key="another")
    assert counts == [10, 10, 10]
    with pytest.raises(kit.Killed):
        score(until=2)
    np.testing.assert_allclose(score(), whole, atol=1e-6, rtol=1e-5)
    assert counts == [10]  # of 30 pairs, those that were not scored yet
    np.testing.assert_allclose(score(), whole, atol=1e-6, rtol=1e-5)
    assert counts == []


@pytest.mark.slow
@pytest.mark.parametrize("what", ["teacher scores", "scoring"])
def test_scoring_that_was_killed_goes_on_and_leaves_no_checkpoint(what, tiny_backbone, tiny_collection, tmp_path,
                                                                  monkeypatch):  # fmt: skip
    """SIGKILL while a teacher scores the groups of its student, or while that is evaluated, through the store."""
    given = f"backbone={tiny_backbone!r}, collection={tiny_collection!r}, group_count=16, docs=8, batch_size=8, max_length=32"
    script = f"""
import os, signal
from lib.machine import progress
from lib.study import tables
from lib.study.experiment import TestSet
from tests import kit
def steps(items, what, total):
    for place, item in enumerate(items):
        if what.startswith({what!r}) and place == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        yield item
progress.steps = steps
teacher = kit.experiment("info_nce", {given})
tables.complete([kit.experiment("kl", teacher=teacher, {given})], [TestSet({tiny_collection!r}, queries=8, depth=10)])
"""
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "killed"))
    environment = os.environ | {"STUDY_CHECKPOINT_SECONDS": "0", "PYTHONPATH": str(Path(__file__).parents[1])}
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", script], env=environment, check=False)
    assert ended.returncode == -9
    (left,) = (path for path in (store.data_folder() / "checkpoints").iterdir() if any(path.iterdir()))
    counts, computed = [], scoring._score_jointly

    def count(model, tokens, pairs, *more):
        counts.append(len(pairs))
        return computed(model, tokens, pairs, *more)

    monkeypatch.setattr(scoring, "_score_jointly", count)
    fields = {"backbone": tiny_backbone, "collection": tiny_collection, "group_count": 16, "docs": 8, "batch_size": 8,
              "max_length": 32}  # fmt: skip
    run = kit.experiment("kl", teacher=kit.experiment("info_nce", **fields), **fields)
    test = TestSet(tiny_collection, queries=8, depth=10)
    kit.complete([run], [test])
    assert not left.exists()
    goes_on = sum(counts)
    learnt, scores = targets.training_groups(run).targets["teacher"], tables.scores(run, test)["score"]
    counts.clear()
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "unbroken"))
    kit.complete([run], [test])
    evaluated = test.candidates()[2].shape[0]
    assert sum(counts) == 16 * 8 + evaluated  # a teacher's pairs, then those of the test
    # The first batch of 64 pairs is not scored again, nor what had ended before.
    assert goes_on == sum(counts) - 64 - (16 * 8 if what == "scoring" else 0)
    np.testing.assert_allclose(learnt, targets.training_groups(run).targets["teacher"], atol=1e-2)
    np.testing.assert_allclose(scores, tables.scores(run, test)["score"], atol=1e-2)


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_and_leaves_no_checkpoint(tiny_backbone, tiny_collection, tmp_path, monkeypatch):
    """SIGKILL in the middle of a training, through the store."""
    made = kit.experiment("info_nce", backbone=tiny_backbone, collection=tiny_collection, group_count=12, docs=3,
                          batch_size=2, max_length=32, dropout=0.1)  # fmt: skip
    script = f"""
import os, signal
from lib.machine import progress
from lib.study import runs
from tests import kit
def steps(items, what, total):
    for place, item in enumerate(items):
        if place == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        yield item
progress.steps = steps
runs.complete([kit.experiment("info_nce", backbone={tiny_backbone!r}, collection={tiny_collection!r}, group_count=12,
               docs=3, batch_size=2, max_length=32, dropout=0.1)])
"""
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "killed"))
    environment = os.environ | {"STUDY_CHECKPOINT_SECONDS": "0", "PYTHONPATH": str(Path(__file__).parents[1])}
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", script], env=environment, check=False)
    assert ended.returncode == -9
    (left,) = (store.data_folder() / "checkpoints").iterdir()
    runs.complete([made])
    assert not left.exists()
    history, weights = runs.history(made), rankers.ranker(made).state_dict()
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "unbroken"))
    runs.complete([made])
    pd.testing.assert_frame_equal(runs.history(made), history, rtol=1e-3)  # of two processes: kernels may differ
    for name, value in rankers.ranker(made).state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-5)
