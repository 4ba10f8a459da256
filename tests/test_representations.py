"""Losses between hidden states: hand values, zero at the teacher, gradients; transport against exact solvers."""

import math
from functools import partial

import numpy as np
import pytest
import scipy.optimize
import torch
import torch.nn.functional as F

from lib.losses import representations
from lib.models import parts

LOSSES = {
    "matching": representations.matching, "wasserstein": representations.wasserstein,
    "contrast": representations.contrast,
}  # fmt: skip
DIVERGENCES = ("matching", "wasserstein")


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pair(layers=2, teachers=2, dim=6):
    return drawn(3, 4, layers, dim), drawn(3, 4, teachers, dim, seed=1)


def vectors(*values):
    """One query with one document for each of the values, one layer."""
    return torch.tensor(values, dtype=torch.float64)[None, :, None]


def test_matching_by_hand():
    states, targets = vectors([3.0, 0.0], [0.0, 2.0]), vectors([5.0, 0.0], [1.0, 0.0])
    assert representations.matching(states, targets).item() == pytest.approx((0 + 2) / 2)
    assert representations.matching(vectors([1.0, 0.0]), vectors([-7.0, 0.0])).item() == pytest.approx(4)
    assert representations.matching(vectors([1.0, 0.0]), vectors([1.0, 1.0])).item() == pytest.approx(2 - math.sqrt(2))


def test_the_students_last_layers_are_compared():
    states, targets = pair(layers=3, teachers=2)
    for loss in LOSSES.values():
        torch.testing.assert_close(loss(states, targets), loss(states[:, :, 1:], targets))
        with pytest.raises(ValueError, match="3 layers of a teacher, and the student has 2"):
            loss(targets, states)


@pytest.mark.parametrize("name", LOSSES)
def test_one_value_per_query_with_a_gradient_that_lowers_it(name):
    states, targets = pair()
    states.requires_grad_()
    values = LOSSES[name](states, targets)
    assert values.shape == (3,) and values.isfinite().all()
    (gradient,) = torch.autograd.grad(values.mean(), states)
    assert gradient.abs().sum((-1, -2)).min() > 0  # of every pair
    assert LOSSES[name](states.detach() - 0.1 * gradient, targets).mean() < values.mean()


@pytest.mark.parametrize("name", DIVERGENCES)
def test_zero_with_zero_gradient_at_the_teacher_and_positive_elsewhere(name):
    states, targets = pair()
    at = targets.clone().requires_grad_()
    value = LOSSES[name](at, targets)
    torch.testing.assert_close(value, torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)
    (gradient,) = torch.autograd.grad(value.sum(), at)
    torch.testing.assert_close(gradient, torch.zeros_like(at), atol=1e-6, rtol=0)
    assert LOSSES[name](states, targets).mean() > 1e-3


@pytest.mark.parametrize("name", LOSSES)
def test_what_does_not_fit_is_refused(name):
    states, targets = pair()
    with pytest.raises(ValueError, match=r"differ in width: give a part"):
        LOSSES[name](states, targets[..., :5])
    with pytest.raises(ValueError, match=r"must both be \(batch, docs, layers, dim\)"):
        LOSSES[name](states, targets[:2])
    with pytest.raises(ValueError, match=r"must both be \(batch, docs, layers, dim\)"):
        LOSSES[name](states[:, :, 0], targets[:, :, 0])


@pytest.mark.parametrize("name", LOSSES)
def test_bfloat16_is_compared_in_float32(name):
    states, targets = (part.bfloat16() for part in pair())
    value = LOSSES[name](states, targets)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, LOSSES[name](states.float(), targets.float()))


# ---- attention over layers ------------------------------------------------------------------------------------------


def test_attention_of_one_layer_on_either_side_is_plain_matching():
    states, targets = pair(1, 1)
    part = parts.layer_attention(1, 6, 1, 6).double()
    torch.testing.assert_close(
        representations.attended(*part(states, targets)), representations.matching(states, targets)
    )


def test_attention_sums_to_one_over_the_students_layers_and_differs_between_pairs():
    states, targets = pair(3, 2)
    *compared, attention = parts.layer_attention(3, 6, 2, 6, size=8).double()(states, targets)
    assert torch.equal(compared[0], states) and torch.equal(compared[1], targets)
    assert attention.shape == (3, 4, 2, 3) and attention.min() > 0
    torch.testing.assert_close(attention.sum(-1), torch.ones(3, 4, 2, dtype=torch.float64))
    assert attention.std(0).min() > 0


def test_attended_by_hand():
    east, north = [1.0, 0.0], [0.0, 1.0]
    states, targets = (torch.tensor([[[east, north]]]).double() for _ in range(2))
    attention = torch.tensor([[[[0.75, 0.25], [0.4, 0.6]]]], dtype=torch.float64)
    assert representations.attended(states, targets, attention).item() == pytest.approx((0.25 * 2 + 0.4 * 2) / 2)


def test_attention_learns_which_layer_follows_which():
    """Student layer 2 is what the teacher's first layer is, and the student's layer 1 what its second is."""
    targets = drawn(8, 4, 2, 6)
    states = targets[:, :, [1, 0]] + 0.05 * drawn(8, 4, 2, 6, seed=1)
    torch.manual_seed(0)
    part = parts.layer_attention(2, 6, 2, 6, size=8).double()
    optimizer = torch.optim.Adam(part.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        representations.attended(*part(states, targets)).mean().backward()
        optimizer.step()
    attention = part(states, targets)[2].mean((0, 1))
    assert attention[0, 1] > 0.9 and attention[1, 0] > 0.9


def test_the_gradient_of_attention_and_states_is_that_of_the_values():
    states, targets = drawn(1, 2, 2, 3).requires_grad_(), drawn(1, 2, 2, 3, seed=1)
    attention = drawn(1, 2, 2, 2, seed=2).softmax(-1).requires_grad_()
    assert torch.autograd.gradcheck(lambda one, rows: representations.attended(one, targets, rows), (states, attention))


# ---- transport ------------------------------------------------------------------------------------------------------


def clouds(rows, columns, dim=3):
    return F.normalize(drawn(1, rows, dim), dim=-1), F.normalize(drawn(1, columns, dim, seed=1), dim=-1)


def solved(one, other, epsilon, iterations=2000):
    """Cost, its entropic value and the plan of `potentials`."""
    f, g = representations.potentials(one, other, torch.full((1, 1, 1), epsilon, dtype=torch.float64), iterations)
    cost = 1 - one @ other.transpose(1, 2)
    plan = ((f[0, :, None] + g[0, None] - cost[0]) / epsilon).exp() / cost[0].numel()
    return cost[0], (f.mean() + g.mean()).item(), plan


def exact(cost):
    """The least cost of transport between equal weights, as a linear programme."""
    rows, columns = cost.shape
    sums = np.zeros((rows + columns, rows * columns))
    for row in range(rows):
        sums[row, row * columns : (row + 1) * columns] = 1
    for column in range(columns):
        sums[rows + column, column::columns] = 1
    weights = np.r_[np.full(rows, 1 / rows), np.full(columns, 1 / columns)]
    return scipy.optimize.linprog(cost.ravel(), A_eq=sums, b_eq=weights).fun


@pytest.mark.parametrize(("rows", "columns"), [(5, 5), (4, 6), (1, 3)])
def test_transport_is_that_of_a_linear_programme(rows, columns):
    cost, value, plan = solved(*clouds(rows, columns), 0.005)
    torch.testing.assert_close(plan.sum(1), torch.full((rows,), 1 / rows, dtype=torch.float64), atol=1e-3, rtol=0)
    torch.testing.assert_close(plan.sum(0), torch.full((columns,), 1 / columns, dtype=torch.float64), atol=1e-3, rtol=0)
    assert (plan * cost).sum().item() == pytest.approx(exact(cost.numpy()), abs=5e-3)
    assert value == pytest.approx(exact(cost.numpy()), abs=0.005 * math.log(rows * columns))


def test_transport_of_equally_many_is_the_best_assignment():
    cost, value, plan = solved(*clouds(6, 6), 0.002)
    best = scipy.optimize.linear_sum_assignment(cost.numpy())
    assert value == pytest.approx(cost.numpy()[best].mean(), abs=0.01)
    assert plan.argmax(1).tolist() == best[1].tolist()


def test_wasserstein_compares_clouds_whichever_pair_is_where():
    states, targets = pair(1, 1)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    mixed = states.flatten(0, 1)[order].view_as(states)
    wasserstein = partial(representations.wasserstein, iterations=1000)
    torch.testing.assert_close(
        wasserstein(mixed, targets).mean(), wasserstein(states, targets).mean(), atol=1e-6, rtol=1e-5
    )
    same = wasserstein(targets.flatten(0, 1)[order].view_as(targets), targets)
    torch.testing.assert_close(same.mean(), torch.zeros((), dtype=torch.float64), atol=1e-6, rtol=0)
    assert representations.matching(mixed, states).mean() > 0.5


def test_the_gradient_of_the_last_step_is_that_of_the_whole_problem():
    one, other = clouds(4, 5)
    epsilon = torch.full((1, 1, 1), 0.1, dtype=torch.float64)
    point = one.clone().requires_grad_()
    f, g = representations.potentials(point, other, epsilon, 500)
    (gradient,) = torch.autograd.grad(f.mean() + g.mean(), point)
    for place in [(0, 0, 0), (0, 3, 2)]:
        step = torch.zeros_like(one)
        step[place] = 1e-5
        values = [sum(part.mean() for part in representations.potentials(one + sign * step, other, epsilon, 500))
                  for sign in (1, -1)]  # fmt: skip
        assert gradient[place].item() == pytest.approx(((values[0] - values[1]) / 2e-5).item(), rel=1e-4)


# ---- contrast -------------------------------------------------------------------------------------------------------


def test_contrast_by_hand():
    states = vectors([1.0, 0.0], [0.0, 1.0])
    assert representations.contrast(states, states, temperature=1.0).item() == pytest.approx(math.log(1 + math.exp(-1)))
    alike = vectors([1.0, 0.0], [1.0, 0.0])
    assert representations.contrast(alike, alike).item() == pytest.approx(math.log(2))


def test_the_critic_begins_as_the_dot_product_and_stays_1_lipschitz():
    states, targets = pair()
    part = parts.critic(2, 6, 2, 6).double()
    found, wanted = part(states, targets)
    torch.testing.assert_close(found, F.normalize(states, dim=-1), atol=1e-6, rtol=0)
    torch.testing.assert_close(wanted, F.normalize(targets, dim=-1))
    with torch.no_grad():
        part.linear.parametrizations.weight.original.copy_(5 * drawn(6, 6, seed=3))
    part.train()
    for _ in range(200):  # one power iteration a step
        part(states, targets)
    assert torch.linalg.matrix_norm(part.linear.weight, 2).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("maker", [parts.projected, parts.layer_attention, parts.critic])
def test_parts_bring_the_student_to_the_teachers_width(maker):
    states, targets = drawn(2, 3, 3, 5), drawn(2, 3, 2, 7, seed=1)
    found, wanted, *_ = maker(3, 5, 2, 7).double()(states, targets)
    assert found.shape == (2, 3, 3, 7) and wanted.shape == targets.shape


def test_a_projection_is_nothing_where_the_widths_are_equal():
    states, targets = pair()
    part = parts.projected(2, 6, 2, 6)
    assert not list(part.parameters())
    assert part(states, targets)[0] is states


# ---- consistent channels --------------------------------------------------------------------------------------------


def test_shuffled_channels_are_found_and_the_teachers_own_order_is_kept():
    states = drawn(20, 3, 2, 6).numpy().astype(np.float16)
    orders = [np.random.default_rng(seed).permutation(6) for seed in (0, 1)]
    shuffled = np.stack([3 * states[:, :, layer, order] + 2 for layer, order in enumerate(orders)], 2)
    found = representations.permuted(shuffled, states)
    assert found.dtype == shuffled.dtype
    np.testing.assert_allclose(found, 3 * states + 2, rtol=1e-2)  # each layer has its own order
    np.testing.assert_array_equal(representations.permuted(states, states), states)


def test_of_a_wider_teacher_the_channels_that_correlate_are_taken():
    states = drawn(30, 3, 1, 4).numpy()
    wide = np.concatenate([drawn(30, 3, 1, 3, seed=1).numpy(), states[..., ::-1]], -1)
    np.testing.assert_array_equal(representations.permuted(wide, states), states)
    with pytest.raises(ValueError, match="width 4 has too few channels for a student of width 7"):
        representations.permuted(states, wide)
