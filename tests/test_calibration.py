"""Calibration: scalings that are found again, errors by hand."""

import numpy as np
import pytest
from scipy import special

from lib.analysis import calibration


def drawn(slope, offset, count=200_000):
    """Scores whose relevance has the probability sigmoid(slope * score + offset)."""
    draw = np.random.default_rng(0)
    scores = draw.normal(1, 3, count)
    return scores, draw.random(count) < special.expit(slope * scores + offset)


@pytest.mark.parametrize("slope, offset", [(0.4, -2.0), (3.0, 0.5), (1.0, 0.0)])
def test_the_scaling_that_made_the_labels_is_found(slope, offset):
    found = calibration.fit(*drawn(slope, offset), offset=True)
    assert found == pytest.approx((slope, offset), rel=0.05, abs=0.05)


def test_temperature_alone_has_no_offset_and_is_found():
    found = calibration.fit(*drawn(0.5, 0.0), offset=False)
    assert found.offset == 0 and 1 / found.slope == pytest.approx(2, rel=0.02)


def test_a_temperature_never_reverses_the_order():
    scores, _ = drawn(0.4, 0.0, 5000)
    scores = scores - scores.min()  # all above 0, and few relevant: the likelihood asks for a slope below 0
    relevant = np.random.default_rng(1).random(5000) < special.expit(0.4 * scores - 8)
    found = calibration.fit(scores, relevant, offset=False)
    assert found == (0.0, 0.0) and set(found(scores)) == {0.5}
    assert calibration.fit(scores, relevant, offset=True).slope > 0


def test_scale_of_the_scores_is_undone():
    scores, relevant = drawn(0.4, -2.0, 5000)
    one, large = (calibration.fit(factor * scores, relevant, offset=True) for factor in (1, 1e4))
    assert large.slope * 1e4 == pytest.approx(one.slope, rel=1e-3)
    assert large(1e4 * scores) == pytest.approx(one(scores), abs=1e-4)


def test_scores_that_separate_the_kinds_have_a_finite_slope():
    found = calibration.fit(np.array([-2.0, -1.0, 1.0, 2.0]), np.array([0, 0, 1, 1]), offset=True)
    assert 0 < found.slope < 100 and np.isfinite(found.offset)


def test_both_kinds_are_needed():
    with pytest.raises(ValueError, match="0 relevant and 3 other documents"):
        calibration.fit(np.arange(3.0), np.zeros(3), offset=True)


def test_reliability_and_its_error_by_hand():
    probabilities = np.array([0.9, 0.1, 0.3, 0.7])
    table = calibration.reliability(probabilities, np.array([1, 0, 1, 1]), bins=2)
    assert table.to_numpy() == pytest.approx(np.array([[0.2, 0.5, 2], [0.8, 1.0, 2]]))
    assert calibration.expected_error(probabilities, np.array([1, 0, 1, 1]), bins=2) == pytest.approx(0.25)


def test_the_error_of_true_probabilities_is_near_zero_and_scaling_lowers_it():
    scores, relevant = drawn(0.4, -2.0)
    before = calibration.expected_error(calibration.Scaling()(scores), relevant)
    after = calibration.expected_error(calibration.fit(scores, relevant, offset=True)(scores), relevant)
    assert after < 0.01 < 0.1 < before
