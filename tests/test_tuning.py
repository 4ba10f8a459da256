"""The tuning rule: dev queries alone, the same values for every arm, nothing chosen at the edge."""

import inspect

import pandas as pd
import pytest

from lib.study import tuning
from lib.study.experiment import Experiment, TestSet, vary

DEV = TestSet(split="dev", queries=8, depth=6)
ARM = vary(Experiment("info_nce"), layers=(0,), group_count=4, docs=2, batch_size=4)


@pytest.fixture
def scored(monkeypatch):
    """Instead of training: the mean that each learning rate gives."""
    asked = []
    monkeypatch.setattr(tuning.tables, "complete", lambda grid, tests: asked.extend((run, *tests) for run in grid))
    monkeypatch.setattr(
        tuning.tables, "values",
        lambda run, test, measure: pd.Series([0.5 - abs(run.training.learning_rate - 1e-4) * 100] * 4),
    )  # fmt: skip
    return asked


def test_every_arm_has_every_value_on_dev_queries(scored):
    table = tuning.tuned({"one": ARM, "two": vary(ARM, strategy="bce")}, "learning_rate", (3e-5, 1e-4, 3e-4), DEV)
    assert table.groupby("arm")["learning_rate"].apply(list).tolist() == [[3e-5, 1e-4, 3e-4]] * 2
    assert len(scored) == 6 and {test for _, test in scored} == {DEV}
    assert tuning.chosen(table, "one") == tuning.chosen(table, "two") == 1e-4


@pytest.mark.parametrize("values, where", [((1e-4, 3e-4, 1e-3), "lower"), ((1e-5, 3e-5, 1e-4), "higher")])
def test_the_edge_of_the_grid_is_an_error(scored, values, where):
    table = tuning.tuned({"one": ARM}, "learning_rate", values, DEV)
    with pytest.raises(tuning.GridEdge, match=f"best learning_rate is 0.0001, at the edge of the grid: add {where}"):
        tuning.chosen(table, "one")


def test_an_unknown_arm_is_told_with_the_known_ones(scored):
    table = tuning.tuned({"one": ARM, "two": ARM}, "learning_rate", (3e-5, 1e-4, 3e-4), DEV)
    with pytest.raises(ValueError, match="arm='three': give one of one, two"):
        tuning.chosen(table, "three")


def test_no_choice_reads_a_test_split(scored):
    with pytest.raises(ValueError, match="choices are made on dev queries"):
        tuning.tuned({"one": ARM}, "learning_rate", (1e-5, 1e-4, 1e-3), TestSet(queries=8, depth=6))
    assert not scored
    # `chosen` sees what `tuned` returned and nothing else.
    assert list(inspect.signature(tuning.chosen).parameters) == ["table", "arm"]
    assert "tables" not in tuning.chosen.__code__.co_names


@pytest.mark.parametrize("values", [(1e-4, 3e-4), (3e-4, 1e-4, 1e-3), (1e-4, 1e-4, 1e-3)])
def test_a_grid_has_an_inside_and_rises(scored, values):
    with pytest.raises(ValueError, match="give three or more, rising"):
        tuning.tuned({"one": ARM}, "learning_rate", values, DEV)
