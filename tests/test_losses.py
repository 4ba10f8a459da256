"""Each loss against a hand-worked number, then the properties that every loss must have."""

import math
from functools import partial

import pytest
import torch

from lib import losses

STUDENT = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.5, 0.5, 0.0, 1.0]], dtype=torch.float64)
TEACHER = torch.tensor([[4.0, 2.0, 2.0, 0.0], [3.0, 1.0, -1.0, 0.0]], dtype=torch.float64)
LABELS = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)


def value(loss, scores, targets):
    return loss(torch.tensor([scores], dtype=torch.float64), torch.tensor([targets], dtype=torch.float64)).item()


def test_info_nce_by_hand():
    assert value(losses.info_nce, [1.0, 0.0], [1, 0]) == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-12)
    assert losses.info_nce(STUDENT, LABELS).tolist() == pytest.approx(
        [0.4401896985611953, 1.4481539683602134], abs=1e-12
    )
    assert value(losses.info_nce, [1.0, 1.0, 1.0, 1.0], [1, 1, 0, 0]) == pytest.approx(math.log(2), abs=1e-12)
    assert value(partial(losses.info_nce, temperature=2), [2.0, 0.0], [1, 0]) == pytest.approx(
        math.log(1 + math.exp(-1))
    )


def test_bce_by_hand():
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 2
    assert value(losses.bce, [2.0, -1.0], [1, 0]) == pytest.approx(expected, abs=1e-12)


def test_ranknet_by_hand():
    assert value(losses.ranknet, [0.5, 0.2], [1, 0]) == pytest.approx(math.log(1 + math.exp(-0.3)), abs=1e-12)
    assert value(losses.ranknet, [0.5, 0.2, 0.1], [1, 0, 0]) == pytest.approx(0.5336852669715881, abs=1e-6)
    assert value(losses.ranknet, [0.5, 0.2], [7, 7]) == 0


def test_kl_by_hand():
    assert losses.kl(STUDENT, TEACHER).tolist() == pytest.approx([0.06713075445313231, 0.83999164816663], abs=1e-12)
    assert losses.kl(STUDENT, TEACHER, temperature=2).mean().item() == pytest.approx(0.6114848828157456, abs=1e-12)
    tevatron = losses.kl(STUDENT, TEACHER, temperature=1, target_temperature=2).mean().item()
    assert tevatron == pytest.approx(0.1977833730, abs=1e-9)


def test_hot_kl_is_margin_mse_over_eight_for_two_documents():
    scores, targets = torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.tensor([[3.0, 0.0]], dtype=torch.float64)
    limit = losses.margin_mse(scores, targets).item() / 8
    assert limit == 0.5
    assert losses.kl(scores, targets, temperature=1000).item() == pytest.approx(limit, abs=1e-5)


def test_margin_mse_by_hand():
    for scores, targets, expected in (([2, 1], [5, 2], 4), ([0.5, 1.5], [3, 4], 0), ([-1, -3], [0, -1], 1)):
        assert value(losses.margin_mse, scores, targets) == expected
    assert losses.margin_mse(STUDENT, TEACHER).mean().item() == pytest.approx(5.083333333333333, abs=1e-12)


def test_mse_by_hand():
    assert value(losses.mse, [2.0, 1.0], [5.0, 2.0]) == 5.0


LABELLED = {"info_nce": losses.info_nce, "bce": losses.bce, "ranknet": losses.ranknet}
DISTILLED = {
    "kl": losses.kl,
    "kl hot": partial(losses.kl, temperature=3.0),
    "margin_mse": losses.margin_mse,
    "mse": losses.mse,
}
EVERY = {**LABELLED, **DISTILLED}
POINTWISE = {"bce", "mse"}


def test_the_list_is_complete():
    assert {name.partition(" ")[0] for name in EVERY} == set(losses.__all__)


def targets_for(name):
    return LABELS if name in LABELLED else TEACHER


@pytest.mark.parametrize("name", EVERY)
class TestEveryLoss:
    def test_one_finite_value_a_query_even_far_out(self, name):
        for size in (1.0, 1e4):
            found = EVERY[name](STUDENT * size, targets_for(name))
            assert found.shape == (2,) and found.isfinite().all()

    def test_gradient(self, name):
        scores = STUDENT.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda some: EVERY[name](some, targets_for(name)), scores)

    def test_order_of_the_negatives_does_not_matter(self, name):
        order = [0, 3, 1, 2]
        permuted = EVERY[name](STUDENT[:, order], targets_for(name)[:, order])
        torch.testing.assert_close(permuted, EVERY[name](STUDENT, targets_for(name)))

    def test_a_constant_added_to_the_scores(self, name):
        same = torch.allclose(EVERY[name](STUDENT + 5, targets_for(name)), EVERY[name](STUDENT, targets_for(name)))
        assert same == (name not in POINTWISE)

    def test_the_right_order_costs_less_than_the_reverse(self, name):
        targets = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        right = EVERY[name](torch.tensor([[1.0, 0.0]], dtype=torch.float64), targets)
        assert right < EVERY[name](torch.tensor([[0.0, 1.0]], dtype=torch.float64), targets)


@pytest.mark.parametrize("name", DISTILLED)
def test_a_perfect_student_is_at_zero_with_zero_gradient(name):
    scores = TEACHER.clone().requires_grad_()
    found = DISTILLED[name](scores, TEACHER)
    (gradient,) = torch.autograd.grad(found.sum(), scores)
    assert found.abs().max() < 1e-12 and gradient.abs().max() < 1e-12
    assert (DISTILLED[name](STUDENT, TEACHER) > 0).all()


@pytest.mark.parametrize("name", ["kl", "margin_mse"])
def test_a_constant_added_to_the_teacher_changes_nothing(name):
    torch.testing.assert_close(EVERY[name](STUDENT, TEACHER + 7), EVERY[name](STUDENT, TEACHER))
