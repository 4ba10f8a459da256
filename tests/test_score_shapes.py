"""What scores look like: separation, faults, and a temperature to begin with."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from lib.analysis import score_shapes


def table(scores, grades, queries=None):
    return pd.DataFrame({"query": queries or ["a"] * len(scores), "score": scores, "grade": grades})


def test_auc_by_hand():
    assert score_shapes.auc(table([3.0, 1.0, 2.0, 1.0], [1, 1, 0, 0])) == pytest.approx(2.5 / 4)
    assert np.isnan(score_shapes.auc(table([1.0], [1])))


def test_auc_sees_what_margins_do_not():
    two = table([10.0, 9.0, 1.0, 0.0], [1, 0, 1, 0], ["a", "a", "b", "b"])
    assert score_shapes.summary(two)["correct"] == 1 and score_shapes.auc(two) == 0.75


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        ([5.0, 5.0000001, 5.0000002, 5.0000003], "collapsed"),
        ([1.0, 1.0, 2.0, 3.0], "tied"),
        ([0.9999, 0.9998, 0.0001, 0.5], "saturated"),
        ([0.0, -3.0, 2.0, 5.0], "underflow"),
    ],
)
def test_faults_are_named(scores, says):
    assert any(fault.startswith(says) for fault in score_shapes.faults(table(scores, [1, 0, 0, 0])))


def test_sound_scores_have_no_fault():
    assert score_shapes.faults(table([2.5, -1.0, 0.3, -4.0], [1, 0, 0, 0])) == []


@pytest.mark.parametrize("scale", [0.01, 1.0, 500.0])
def test_the_temperature_follows_the_scale(scale):
    scores = np.random.default_rng(0).normal(size=(50, 4)) * scale + 7
    temperature = score_shapes.suggested_temperature(scores)
    p = softmax(scores / temperature, axis=1)
    assert -(p * np.log(p)).sum(1).mean() == pytest.approx(np.log(4) / 2, rel=1e-6)
    assert temperature == pytest.approx(scale * score_shapes.suggested_temperature((scores - 7) / scale), rel=1e-6)


def test_equal_scores_have_no_temperature():
    with pytest.raises(ValueError, match="every group's scores are equal"):
        score_shapes.suggested_temperature(np.ones((3, 4)))


@pytest.mark.parametrize("scores", [[[1, 1, 0]] * 5, [[1, 1, 0, 0]], [[1, 0]] * 2 + [[3, 3]] * 2])
def test_tied_highest_scores_may_have_no_temperature(scores):
    with pytest.raises(ValueError, match="% of the groups have several highest scores, so at any temperature"):
        score_shapes.suggested_temperature(np.array(scores))
    assert score_shapes.suggested_temperature(np.array([[1, 1, 0, 0]] + [[3, 2, 1, 0]] * 9)) > 0


def test_a_collection_says_which_grade_is_relevant():
    graded = table([3.0, 1.0, 2.0, 0.0], [2, 1, 0, 0])
    binary = table([3.0, 1.0, 2.0, 0.0], [1, 0, 0, 0])
    assert score_shapes.margins(graded, 2).tolist() == score_shapes.margins(binary).tolist() == [2.0, 1.0, 3.0]
    of_graded, of_binary = (pd.Series(score_shapes.summary(*given)) for given in ((graded, 2), (binary,)))
    assert of_graded.equals(of_binary) and score_shapes.summary(graded)["correct"] < of_graded["correct"] == 1
    assert score_shapes.auc(graded, 2) == 1 > score_shapes.auc(graded)
