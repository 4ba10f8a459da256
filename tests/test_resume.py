"""A training that was cut short at any step ends with the history and the weights of one that was not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import safetensors.torch
import torch

from lib.data import collections, groups
from lib.machine import store
from lib.models import adapters
from lib.study import rankers, runs
from lib.study.experiment import Model, vary
from lib.training import loop, strategies
from lib.training.resume import Checkpoint
from lib.training.settings import Adapter, GradCache, Queue, Training
from tests import kit

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
}


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def training(tiny_backbone, tiny_collection, tmp_path, monkeypatch):
    """Train a case anew from its start; with `until`, it is killed when that step begins."""
    monkeypatch.setenv("STUDY_CHECKPOINT_SECONDS", "0")
    collection = collections.load(tiny_collection)
    made = groups.build(collection, count=8, docs=3)

    def train(case, until=None, checkpoint=None):
        strategy, architecture, options, changes = CASES[case]
        model = Model(architecture, options, tiny_backbone, max_length=32)
        settings = Training(**{"batch_size": 2, "learning_rate": 1e-3} | changes)
        run = vary(kit.experiment("info_nce"), strategy=strategy, model=model, training=settings)
        ranker = rankers.at_start(run)
        if adapter := run.training.adapter:
            adapters.attach(ranker, adapter.kind, adapter.size, run.seed)
        read = rankers.inputs(ranker, collection, model)

        def cut(items, what, total):
            for place, item in enumerate(items):
                if place == until:
                    raise Killed
                yield item

        monkeypatch.setattr(loop.progress, "steps", cut)
        history = loop.train(
            ranker, made, read, strategies.named(strategy), run.training, seed=3, checkpoint=checkpoint
        )
        return history, {name: value.detach().clone() for name, value in ranker.state_dict().items()}

    return train


def place(tmp_path):
    return tmp_path / "checkpoints" / "k.partial" / "state.safetensors"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("until", [1, 3])
def test_a_killed_training_ends_like_an_unbroken_one(case, until, training, tmp_path):
    history, weights = training(case)
    with pytest.raises(Killed):
        training(case, until, Checkpoint(place(tmp_path), "k"))
    checkpoint = Checkpoint(place(tmp_path), "k")
    torch.rand(3)  # the state of the process is another one
    again, others = training(case, None, checkpoint)
    assert checkpoint.spent > 0
    pd.testing.assert_frame_equal(history, again, check_exact=True)
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, rtol=0, atol=0)


def test_it_may_be_killed_twice(training, tmp_path):
    history, _ = training("momentum")
    for until in (1, 2):  # the second counts from where the first ended
        with pytest.raises(Killed):
            training("momentum", until, Checkpoint(place(tmp_path), "k"))
    again, _ = training("momentum", None, Checkpoint(place(tmp_path), "k"))
    pd.testing.assert_frame_equal(history, again, check_exact=True)


def damaged(path):
    path.write_bytes(path.read_bytes()[:-100])


def of_another_model(path):
    tensors = safetensors.torch.load_file(path)
    about = {"key": "k", "torch": torch.__version__, "step": 3, "known": [], "spent": 1.0}
    tensors.pop(next(name for name in tensors if name.startswith("model/")))
    safetensors.torch.save_file(tensors, path, {"about": json.dumps(about)})


@pytest.mark.parametrize("change, said", [
    (damaged, "the training begins anew"),
    (of_another_model, "its weights are those of another model"),
    (lambda path: path.write_bytes(b""), "the training begins anew"),
])  # fmt: skip
def test_what_does_not_fit_is_left_unread_and_changes_nothing(change, said, training, tmp_path, capsys):
    history, _ = training("dropout")
    with pytest.raises(Killed):
        training("dropout", 3, Checkpoint(place(tmp_path), "k"))
    change(place(tmp_path))
    again, _ = training("dropout", None, Checkpoint(place(tmp_path), "k"))
    pd.testing.assert_frame_equal(history, again, check_exact=True)
    assert said in capsys.readouterr().err


def test_a_checkpoint_of_another_training_is_left_unread(training, tmp_path, capsys):
    with pytest.raises(Killed):
        training("dropout", 3, Checkpoint(place(tmp_path), "k"))
    checkpoint = Checkpoint(place(tmp_path), "other")
    training("dropout", None, checkpoint)
    assert "it is of training k with torch" in capsys.readouterr().err and checkpoint.spent == 0


def test_a_short_training_writes_nothing(training, tmp_path, monkeypatch):
    monkeypatch.delenv("STUDY_CHECKPOINT_SECONDS")
    training("dropout", None, Checkpoint(place(tmp_path), "k"))
    assert not place(tmp_path).parent.exists()


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
