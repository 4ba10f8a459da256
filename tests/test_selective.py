"""Losses that choose what a teacher teaches: by hand, what they reduce to, and where they have no gradient."""

import math

import pytest
import torch

from lib import losses
from lib.losses import selective

DRAW = torch.Generator().manual_seed(0)
SCORES = torch.randn(6, 4, generator=DRAW, dtype=torch.float64)
TEACHER = torch.randn(6, 4, generator=DRAW, dtype=torch.float64) * 2
DRAWS = TEACHER[:, :, None] + torch.randn(6, 4, 5, generator=DRAW, dtype=torch.float64)


def gradient(loss, scores, targets):
    scores = scores.clone().requires_grad_()
    return torch.autograd.grad(loss(scores, targets).sum(), scores)[0]


# ---- draws of one teacher -------------------------------------------------------------------------------------------


def test_one_draw_is_plain_distillation():
    for targets in (TEACHER, TEACHER[:, :, None], TEACHER[:, :, None].expand(-1, -1, 3)):
        torch.testing.assert_close(selective.student_guided(SCORES, targets), losses.kl(SCORES, TEACHER))


def test_draws_are_kept_and_weighted_by_hand():
    scores, draws = torch.tensor([[1.0, -1.0]]), torch.tensor([[[2.0, -3.0, 1.0], [-2.0, 3.0, -1.0]]])
    # agreement: products of centred scores, 4, -6 and 2; two of three are kept
    first, second = (math.exp(value / 5) for value in (4, 2))
    expected = (2 * first + 1 * second) / (first + second)
    found = selective.guided(scores, draws, 5.0, 2 / 3)
    torch.testing.assert_close(found, torch.tensor([[expected, -expected]]))


def test_a_draw_that_the_student_contradicts_teaches_nothing():
    against = torch.cat([DRAWS, -100 * SCORES[:, :, None]], -1)
    torch.testing.assert_close(
        selective.student_guided(SCORES, against, share=5 / 6), selective.student_guided(SCORES, DRAWS, share=1.0)
    )


def test_the_students_choice_has_no_gradient():
    chosen = selective.guided(SCORES, DRAWS, 5.0, 0.5)
    torch.testing.assert_close(gradient(selective.student_guided, SCORES, DRAWS), gradient(losses.kl, SCORES, chosen))


def test_a_shift_of_a_draw_or_of_the_student_changes_nothing():
    shift = torch.tensor([10.0, -20.0, 0.0, 5.0, 7.0], dtype=torch.float64)
    expected = selective.student_guided(SCORES, DRAWS)
    torch.testing.assert_close(selective.student_guided(SCORES + 3, DRAWS + shift), expected)


@pytest.mark.parametrize("shape", [(6,), (6, 3), (5, 4, 2), (6, 4, 2, 1)])
def test_targets_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"student_guided: scores \(6, 4\).*give \(batch, docs\) and"):
        selective.student_guided(SCORES, torch.zeros(shape))


# ---- queries that a teacher knows and the student does not ----------------------------------------------------------


def test_all_queries_are_plain_distillation():
    torch.testing.assert_close(selective.teachable(SCORES, TEACHER, *[], share=1.0), losses.kl(SCORES, TEACHER))


def test_the_queries_with_the_largest_gap_are_taught():
    knows, guesses, errs = [5.0, 0.0], [0.0, 0.0], [0.0, 5.0]
    scores = torch.tensor([guesses, knows, errs, guesses])
    teacher = torch.tensor([knows, knows, knows, errs])  # gaps: about .5, 0, 1, -.5
    found = selective.teachable(scores, teacher, share=0.5)
    expected = losses.kl(scores, teacher) * torch.tensor([2.0, 0.0, 2.0, 0.0])
    torch.testing.assert_close(found, expected)
    untaught = gradient(lambda *both: selective.teachable(*both, share=0.5), scores, teacher)[[1, 3]]
    assert not untaught.any()


def test_at_least_one_query_is_taught():
    assert (selective.teachable(SCORES, TEACHER, share=0.01) > 0).sum() == 1


# ---- relations ------------------------------------------------------------------------------------------------------


def test_relations_by_hand():
    # differences of two documents over their mean size over all four pairs, a half: 2 and -2, against -2 and 2
    one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    huber = 4 - 0.5  # beyond 1 it is the distance less a half
    assert selective.relations(one, other).item() == pytest.approx(huber * 2 / 4)


def test_relations_are_those_of_any_shift_and_positive_scale():
    assert selective.relations(SCORES, 3 * SCORES + 7).abs().max() < 1e-12
    torch.testing.assert_close(selective.relations(SCORES * 5, TEACHER - 2), selective.relations(SCORES, TEACHER))
    assert (selective.relations(SCORES, -SCORES) > 0).all()


def test_equal_scores_have_no_relation_and_a_finite_gradient():
    assert selective.relations(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 0
    assert gradient(selective.relations, torch.zeros(1, 3), torch.tensor([[1.0, 2.0, 3.0]])).isfinite().all()
