"""Merging state dicts against closed forms."""

import math

import pytest
import torch

from lib.models import merging

BASE = {"w": torch.tensor([1.0, 2.0, 3.0, 4.0]), "b": torch.tensor([[0.5]]), "steps": torch.tensor(3)}


def moved(*changes, b=0.0):
    return BASE | {"w": BASE["w"] + torch.tensor(changes), "b": BASE["b"] + b}


ONE, TWO = moved(1.0, -2.0, 0.0, 0.1, b=0.2), moved(3.0, 1.0, 0.0, -0.3, b=-0.2)
WAYS = {
    "linear": lambda states: merging.linear(states, (0.5, 0.5)),
    "slerp": lambda states: merging.slerp(states, (0.5, 0.5)),
    "task_arithmetic": lambda states: merging.task_arithmetic(states, BASE, (0.5, 0.5), 1.0),
    "ties": lambda states: merging.ties(states, BASE, 1.0, 1.0),
    "dare": lambda states: merging.dare(states, BASE, (0.5, 0.5), 1.0, 1.0, 0),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_merge_of_a_model_with_itself_is_the_model(way):
    found = WAYS[way]([ONE, ONE])
    assert found.keys() == BASE.keys() and found["steps"].dtype == torch.int64 and found["steps"] == 3
    for name, value in ONE.items():
        torch.testing.assert_close(found[name], value)


@pytest.mark.parametrize("way", WAYS)
def test_the_models_are_left_alone(way):
    before = {name: value.clone() for name, value in ONE.items()}
    WAYS[way]([ONE, TWO])["w"].add_(1.0)
    assert all(value.equal(ONE[name]) for name, value in before.items())


def test_linear_is_the_weighted_mean_and_one_model_at_its_end():
    torch.testing.assert_close(merging.linear([ONE, TWO], (0.25, 0.75))["w"], 0.25 * ONE["w"] + 0.75 * TWO["w"])
    torch.testing.assert_close(merging.linear([ONE, TWO], (0.0, 1.0))["w"], TWO["w"])


def test_task_arithmetic_adds_takes_away_and_is_the_mean_of_one_sum():
    merge = lambda weights, scale: merging.task_arithmetic([ONE, TWO], BASE, weights, scale)["w"]  # noqa: E731
    torch.testing.assert_close(merge((1.0, 1.0), 0.4), BASE["w"] + 0.4 * (ONE["w"] + TWO["w"] - 2 * BASE["w"]))
    torch.testing.assert_close(merge((0.5, 0.5), 1.0), merging.linear([ONE, TWO], (0.5, 0.5))["w"])
    torch.testing.assert_close(merge((-1.0, 0.0), 1.0), 2 * BASE["w"] - ONE["w"])


def test_slerp_follows_the_arc_and_keeps_the_norm():
    one, two = {"w": torch.tensor([2.0, 0.0])}, {"w": torch.tensor([0.0, 2.0])}
    half = merging.slerp([one, two], (0.5, 0.5))["w"]
    torch.testing.assert_close(half, torch.tensor([math.sqrt(2), math.sqrt(2)]))
    assert merging.linear([one, two], (0.5, 0.5))["w"].norm() < 1.5  # the chord is nearer to zero
    draw = torch.Generator().manual_seed(0)
    one, two = ({"w": torch.nn.functional.normalize(torch.randn(7, 5, generator=draw), dim=None)} for _ in range(2))
    for share in (0.1, 0.5, 0.9):
        assert merging.slerp([one, two], (1 - share, share))["w"].norm() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(merging.slerp([one, two], (1.0, 0.0))["w"], one["w"])


@pytest.mark.parametrize("other", [torch.tensor([2.0, 1e-3]), torch.tensor([0.0, 0.0]), torch.tensor([-4.0, 0.0])])
def test_slerp_of_what_has_no_arc_is_linear(other):
    one, two = {"w": torch.tensor([2.0, 0.0])}, {"w": other}
    torch.testing.assert_close(merging.slerp([one, two], (0.5, 0.5)), merging.linear([one, two], (0.5, 0.5)))


def test_ties_by_hand():
    # The largest half of what changed. ONE: 1, -2 of (1, -2, .1, b .2); TWO: 3, 1 of (3, 1, -.3, b -.2).
    found = merging.ties([ONE, TWO], BASE, 0.5, 1.0)
    # Signs of the sums 4 and -1: the mean of 1 and 3, and -2 alone; what no one kept stays.
    torch.testing.assert_close(found["w"], BASE["w"] + torch.tensor([2.0, -2.0, 0.0, 0.0]))
    torch.testing.assert_close(found["b"], BASE["b"])
    twice = merging.ties([ONE, TWO], BASE, 0.5, 2.0)
    torch.testing.assert_close(twice["w"], BASE["w"] + torch.tensor([4.0, -4.0, 0.0, 0.0]))


def test_ties_of_one_that_changed_nothing_is_the_other():
    torch.testing.assert_close(merging.ties([BASE, TWO], BASE, 1.0, 1.0), TWO)


def test_dare_drops_and_rescales_by_its_seed():
    size = 20_000
    base, one = {"w": torch.zeros(size)}, {"w": torch.ones(size)}
    found = merging.dare([one, one], base, (1.0, 0.0), 0.25, 1.0, 3)["w"]
    assert set(found.unique().tolist()) == {0.0, 4.0}
    assert (found > 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert found.mean().item() == pytest.approx(1.0, abs=0.06)  # task arithmetic, on average
    again, other = (merging.dare([one, one], base, (1.0, 0.0), 0.25, 1.0, seed)["w"] for seed in (3, 4))
    assert again.equal(found) and not other.equal(found)
