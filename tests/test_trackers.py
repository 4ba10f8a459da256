"""Trackers: what they are told, that they change nothing, and what is refused before any training."""

import pandas as pd
import pytest
from accelerate import tracking

from lib.study import runs
from lib.study.experiment import vary
from lib.training import loop, trackers
from tests import kit


class Told(tracking.GeneralTracker):
    """It remembers."""

    name, requires_logging_directory, said = "told", False, []

    @property
    def tracker(self):
        return self.said

    def store_init_configuration(self, values):
        self.said.append(("config", values))

    def log(self, values, step, **_):
        self.said.append((step, values))

    def finish(self):
        self.said.append(("end", None))


@pytest.fixture
def run(tiny_backbone, tiny_collection):
    return kit.experiment("info_nce", backbone=tiny_backbone, collection=tiny_collection, group_count=8, docs=3,
                          batch_size=2, max_length=32)  # fmt: skip


@pytest.mark.parametrize("name, said", [
    ("nothing", "STUDY_TRACKER='nothing': Accelerate has .*mlflow.*tensorboard.*wandb"),
    ("comet_ml", "STUDY_TRACKER='comet_ml' is not installed: pip install comet-ml"),
])  # fmt: skip
def test_what_there_is_not_is_refused_before_any_training(name, said, run, monkeypatch):
    monkeypatch.setenv("STUDY_TRACKER", name)
    monkeypatch.setattr(loop, "train", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(ValueError, match=said):
        runs.complete([run])


def test_a_tracker_is_told_of_the_run_and_of_every_step(run, monkeypatch):
    runs.complete([run])
    without = runs.history(run)
    monkeypatch.setattr(trackers, "chosen", lambda: [Told()])
    Told.said.clear()
    tracked = vary(run, learning_rate=run.training.learning_rate * (1 + 1e-15))  # another key, the same training
    runs.complete([tracked])
    pd.testing.assert_frame_equal(runs.history(tracked), without, rtol=1e-3)
    (_, config), *steps, end = Told.said
    assert (
        config["key"] == tracked.key and config["collection"] == tracked.data.collection and config["batch_size"] == 2
    )
    assert all(isinstance(value, bool | int | float | str) for value in config.values())
    assert [step for step, _ in steps] == list(without["step"]) and end[0] == "end"
    for (_, values), (_, row) in zip(steps, runs.history(tracked).iterrows(), strict=True):
        assert values["loss"] == pytest.approx(row["loss"]) and values["learning_rate"] == pytest.approx(
            row["learning_rate"]
        )


def test_a_tracker_is_no_part_of_an_experiment(run, monkeypatch):
    key = run.key
    monkeypatch.setenv("STUDY_TRACKER", "tensorboard")
    assert run.key == key
