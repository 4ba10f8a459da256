"""Trackers: what they are told, that they change nothing, and what is refused before any training."""

import pandas as pd
import pytest
from accelerate import tracking

from lib.machine import store
from lib.study import runs
from lib.study.experiment import vary
from lib.training import loop, trackers
from tests import kit


class Told(tracking.GeneralTracker):
    """It remembers, and needs a folder, as TensorBoard does."""

    name, requires_logging_directory, tracker = "tensorboard", True, None

    def __init__(self, project, folder):
        super().__init__()
        self.project, self.folder, self.config, self.steps, self.ended = project, folder, None, [], False
        MADE.append(self)

    def store_init_configuration(self, values):
        self.config = values

    def log(self, values, step, **_):
        self.steps.append(values | {"step": step})

    def finish(self):
        self.ended = True


MADE: list[Told] = []


@pytest.fixture
def told(monkeypatch):
    """The trackers that were made, with one in the place of TensorBoard."""
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "tensorboard", Told)
    monkeypatch.setattr(tracking, "_available_trackers", [tracking.LoggerType.TENSORBOARD])
    monkeypatch.setenv("STUDY_TRACKER", "tensorboard")
    MADE.clear()
    return MADE


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


def test_a_tracker_is_told_of_the_run_and_of_every_step_and_changes_nothing(run, told, monkeypatch, tmp_path):
    runs.complete([run])
    (made,) = told
    followed = runs.history(run)
    assert made.config["name"] == run.about and made.config["key"] == run.key and made.config["batch_size"] == 2
    assert made.config["strategy"] == "info_nce" and made.config["collection"] == run.data.collection
    assert all(isinstance(value, bool | int | float | str) for value in made.config.values())
    expected = followed.drop(columns="similarity")  # NaN: this strategy compares no documents
    pd.testing.assert_frame_equal(pd.DataFrame(made.steps)[expected.columns], expected, check_dtype=False)
    assert made.ended and made.folder == str(tmp_path / "data" / "tracked" / run.key)
    monkeypatch.delenv("STUDY_TRACKER")
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "other"))
    runs.complete([run])
    assert len(told) == 1
    pd.testing.assert_frame_equal(runs.history(run), followed, rtol=1e-3)


def test_a_tracker_ends_with_a_training_that_fails(run, told, monkeypatch):
    def fail(*given, **more):
        raise FloatingPointError

    monkeypatch.setattr(loop, "train", fail)
    with pytest.raises(FloatingPointError):
        runs.complete([run])
    assert told[0].ended


def test_of_the_processes_of_a_launch_the_main_one_tells(told, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with trackers.following("a run", "k", {}) as log:
        assert log is None and not told


def test_tensorboard_has_every_step(run, monkeypatch):
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("STUDY_TRACKER", "tensorboard")
    other = vary(run, strategy="bce")
    runs.complete([run, other])
    for one in (run, other):
        folder = store.data_folder() / "tracked" / one.key
        events = EventAccumulator(str(folder / "study"))
        events.Reload()
        history = runs.history(one)
        for column in ("loss", "learning_rate", "gradient_norm", "positive", "negative"):
            scalars = events.Scalars(column)
            assert [scalar.step for scalar in scalars] == history["step"].tolist()
            assert [scalar.value for scalar in scalars] == pytest.approx(history[column].tolist())
        (settings,) = folder.rglob("hparams.yml")
        assert f"key: {one.key}" in settings.read_text()


def test_a_tracker_is_no_part_of_an_experiment(run, monkeypatch):
    key = run.key
    monkeypatch.setenv("STUDY_TRACKER", "tensorboard")
    assert vary(run, seed=run.seed).key == key
