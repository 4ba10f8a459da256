"""Each loss against a hand-worked number, then the properties that every loss must have."""

import inspect
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import TypeCheckError

from lib import losses
from lib.losses import descent, distillation, listwise, pairwise, pointwise, preference, signature
from lib.training import strategies

STUDENT = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.5, 0.5, 0.0, 1.0]], dtype=torch.float64)
TEACHER = torch.tensor([[4.0, 2.0, 2.0, 0.0], [3.0, 1.0, -1.0, 0.0]], dtype=torch.float64)
LABELS = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
GRADES = torch.tensor([[3.0, 0.0, 1.0, 0.0], [2.0, 1.0, 0.0, 3.0]], dtype=torch.float64)

# What each loss is given as targets in the tests of properties. A loss that is not here fails the test of the list.
TARGETS = {
    "bce": LABELS, "info_nce": LABELS, "hinge": GRADES, "ranknet": GRADES, "smooth_mrr": LABELS, "list_mle": GRADES,
    "position_list_mle": GRADES, "lambda_loss": GRADES, "approx_ndcg": GRADES, "adr_mse": TEACHER, "list_net": TEACHER,
    "gist": TEACHER, "weighted_ranknet": TEACHER, "bounded_weighted_ranknet": TEACHER, "margin_mse": TEACHER, "mse": TEACHER, "kl": TEACHER,
    "reverse_kl": TEACHER, "jensen_shannon": TEACHER, "pearson": TEACHER, "margin_error": TEACHER,
    "dpo": TEACHER, "orpo": GRADES,
}  # fmt: skip
VARIANTS = {
    "kl hot": partial(losses.kl, temperature=3.0), "kl softened teacher": partial(losses.kl, target_temperature=2.0),
    "reverse_kl hot": partial(losses.reverse_kl, temperature=3.0),
    "jensen_shannon hot": partial(losses.jensen_shannon, temperature=3.0),
    "info_nce cold": partial(losses.info_nce, temperature=0.5),
    **{f"lambda_loss {scheme}": partial(losses.lambda_loss, scheme=scheme)
       for scheme in ("ranknet", "ndcg_loss_1", "ndcg_loss_2", "lambda_rank")},
    "lambda_loss at 2": partial(losses.lambda_loss, cutoff=2),
    "approx_ndcg cold": partial(losses.approx_ndcg, temperature=0.2),
    "margin_error l1": partial(losses.margin_error, error="l1"),
    "margin_error soft": partial(losses.margin_error, error="soft"),
    "dpo cautious": partial(losses.dpo, beta=0.1), "orpo strong": partial(losses.orpo, odds_weight=2.0),
}  # fmt: skip
PLAIN = {name: getattr(losses, name) for name in losses.__all__}
EVERY = {**PLAIN, **VARIANTS}
# Zero, with zero gradient, where the student equals the teacher, and positive elsewhere.
AT_THE_TEACHER = [name for name in EVERY if name.split()[0] in
                  {"mse", "margin_mse", "margin_error", "kl", "reverse_kl", "jensen_shannon", "pearson"}
                  and name not in ("kl softened teacher", "margin_error soft")]  # fmt: skip
SEES_A_SHIFT = {"bce", "mse"}
SEES_NO_SCALE = {"pearson"}


def targets_of(name):
    return TARGETS[name.split()[0]]


def value(loss, scores, targets):
    return loss(torch.tensor([scores], dtype=torch.float64), torch.tensor([targets], dtype=torch.float64)).item()


def test_every_loss_is_found_and_has_targets():
    assert set(PLAIN) == set(TARGETS)
    defined = {
        name for module in (distillation, listwise, pairwise, pointwise, preference) for name, loss in vars(module).items()
        if inspect.isfunction(loss) and loss.__module__ == module.__name__ and not name.startswith("_")
    }  # fmt: skip
    assert defined - {"approximate_ranks"} == set(PLAIN)  # none is missing from the package's list


def test_every_loss_can_be_named_in_a_strategy():
    margins = {"margin_error"}  # its targets are the model's own, and its strategies bear their names: strategies.SELF
    named = {*strategies.CONTRASTIVE, *strategies.DISTILLATION, *strategies.PREFERENCE}
    assert named == set(PLAIN) - margins
    assert set(PLAIN) - margins <= set(strategies.STRATEGIES)


def test_every_loss_states_shapes_invariance_and_a_source():
    for name, loss in PLAIN.items():
        parameters = inspect.signature(loss).parameters
        assert parameters["scores"].annotation is parameters["targets"].annotation is signature.Scores, name
        assert inspect.signature(loss).return_annotation is signature.PerQuery, name
        text = inspect.getdoc(loss)
        assert "nvariant" in text, name
        assert any(mark in text for mark in ("http", "2010.02666")), name


# ---- by hand --------------------------------------------------------------------------------------------------------


def test_info_nce_by_hand():
    assert value(losses.info_nce, [1.0, 0.0], [1, 0]) == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-12)
    assert losses.info_nce(STUDENT, LABELS).tolist() == pytest.approx(
        [0.4401896985611953, 1.4481539683602134], abs=1e-12
    )
    assert value(losses.info_nce, [1.0, 1.0, 1.0, 1.0], [1, 1, 0, 0]) == pytest.approx(math.log(2), abs=1e-12)
    assert value(partial(losses.info_nce, temperature=2), [2.0, 0.0], [1, 0]) == pytest.approx(
        math.log(1 + math.exp(-1))
    )
    assert value(losses.info_nce, [1.0, 0.0], [0, 0]) == 0


def test_info_nce_gradient():
    scores = STUDENT.clone().requires_grad_()
    losses.info_nce(scores, LABELS).mean().backward()
    expected = [[-0.17804287005601382, 0.11844140904495508, 0.043572159371016286, 0.016029301640042494],
                [-0.3824981438992028, 0.11750185610079725, 0.07126847829827547, 0.19372780950013002]]  # fmt: skip
    torch.testing.assert_close(scores.grad, torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=0)


def test_gist_by_hand():
    assert value(losses.gist, [1.0, 0.0, 5.0], [2.0, 1.0, 3.0]) == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-12)
    assert value(partial(losses.gist, margin=1.5), [1.0, 0.0, 5.0], [2.0, 1.0, 3.0]) == 0


def test_bce_by_hand():
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 2
    assert value(losses.bce, [2.0, -1.0], [1, 0]) == pytest.approx(expected, abs=1e-12)


def test_pairwise_by_hand():
    assert value(losses.ranknet, [0.5, 0.2], [1, 0]) == pytest.approx(math.log(1 + math.exp(-0.3)), abs=1e-12)
    assert value(losses.ranknet, [0.5, 0.2, 0.1], [1, 0, 0]) == pytest.approx(0.5336852669715881, abs=1e-6)
    assert value(losses.ranknet, [0.5, 0.2], [7, 7]) == 0
    assert value(losses.hinge, [0.5, 0.2, 3.0], [1, 0, 0]) == pytest.approx((0.7 + 3.5) / 2)
    assert value(partial(losses.hinge, margin=0.1), [0.5, 0.2], [1, 0]) == 0


def test_weighted_ranknet_as_published_goes_below_zero_and_bounded_does_not():
    scores = torch.tensor([[2.0, 1.0], [0.5, 1.5], [-1.0, -3.0]], dtype=torch.float64)
    targets = torch.tensor([[5.0, 2.0], [3.0, 4.0], [0.0, -1.0]], dtype=torch.float64)
    published = losses.weighted_ranknet(scores, targets)
    bounded = losses.bounded_weighted_ranknet(scores, targets)
    assert published.mean().item() == pytest.approx(-0.08218287130686056, abs=1e-12)
    assert bounded[[0, 2]].tolist() == pytest.approx(published[[0, 2]].tolist())
    assert bounded[1].item() == pytest.approx(math.log(1 + math.exp(-1)))  # the teacher's order, one apart
    assert losses.ranknet(scores, torch.tensor([[1.0, 0.0]] * 3)).mean().item() == pytest.approx(
        0.584483795359806, abs=1e-12
    )


def test_dpo_by_hand():
    softplus = lambda x: math.log(1 + math.exp(x))  # noqa: E731
    found = value(losses.dpo, [2.0, 1.0, -1.0], [1.0, 0.5, 0.0])  # margins 1 and 3, of the reference 0.5 and 1
    assert found == pytest.approx((softplus(-0.5) + softplus(-2)) / 2, abs=1e-12)
    assert value(partial(losses.dpo, beta=0.1), [2.0, 1.0], [1.0, 0.5]) == pytest.approx(softplus(-0.05), abs=1e-12)
    assert value(losses.dpo, [2.0, 1.0, -1.0], [2.0, 1.0, -1.0]) == pytest.approx(math.log(2))  # before training


def test_dpo_is_ranknet_on_what_was_added_to_the_reference():
    equal = torch.full_like(STUDENT, 3.0)
    torch.testing.assert_close(losses.dpo(STUDENT, equal), losses.ranknet(STUDENT, LABELS))
    torch.testing.assert_close(losses.dpo(STUDENT, TEACHER), losses.ranknet(STUDENT - TEACHER, LABELS))
    torch.testing.assert_close(losses.dpo(STUDENT, TEACHER, beta=2.0), losses.dpo(2 * STUDENT, 2 * TEACHER))
    torch.testing.assert_close(  # of one pair it is the "soft" error around the reference's margin
        losses.dpo(STUDENT, TEACHER), losses.margin_error(STUDENT, TEACHER, error="soft")
    )


def test_the_gradient_of_dpo():
    scores = torch.tensor([[2.0, 1.0]], dtype=torch.float64, requires_grad=True)
    losses.dpo(scores, torch.tensor([[0.0, 1.0]], dtype=torch.float64), beta=0.5).sum().backward()
    share = 0.5 / (1 + math.exp(0.5 * (1 - -1)))  # beta * sigmoid(-beta * added margin)
    assert scores.grad[0].tolist() == pytest.approx([-share, share], abs=1e-12)


def test_orpo_by_hand():
    scores = [math.log(2), 0.0, 0.0]  # p: 1/2, 1/4, 1/4; odds: 1, 1/3, 1/3
    expected = math.log(2) + 0.1 * math.log(1 + 1 / 3)
    assert value(losses.orpo, scores, [1, 0, 0]) == pytest.approx(expected, abs=1e-12)
    torch.testing.assert_close(losses.orpo(STUDENT, LABELS, odds_weight=0.0), losses.info_nce(STUDENT, LABELS))
    pair, labels = STUDENT[:, :2], LABELS[:, :2]
    both = losses.ranknet(pair, labels) + 0.1 * losses.ranknet(2 * pair, labels)
    torch.testing.assert_close(losses.orpo(pair, labels), both)


def test_orpo_is_its_definition_and_stays_so_where_a_probability_is_one():
    p = STUDENT.softmax(-1)
    odds = (p / (1 - p)).log()
    expected = losses.info_nce(STUDENT, LABELS) - F.logsigmoid(odds[:, :1] - odds[:, 1:]).mean(-1)
    torch.testing.assert_close(losses.orpo(STUDENT, LABELS, odds_weight=1.0), expected)
    sure = torch.tensor([[60.0, 0.0]], requires_grad=True)  # float32 has no odds of p = 1
    losses.orpo(sure, torch.tensor([[1.0, 0.0]])).sum().backward()
    assert sure.grad.abs().max() < 1e-20
    wrong = torch.tensor([[0.0, 60.0]], requires_grad=True)
    found = losses.orpo(wrong, torch.tensor([[1.0, 0.0]]))
    found.sum().backward()
    assert found.item() == pytest.approx(60 + 0.1 * 120) and wrong.grad[0].tolist() == pytest.approx([-1.2, 1.2])


def test_lambda_loss_by_hand():
    bits = lambda margin: math.log2(1 + math.exp(-margin))  # noqa: E731
    of = lambda scheme, **more: value(partial(losses.lambda_loss, scheme=scheme, **more), [0.5, 0.3, 0.1], [0, 1, 0])  # noqa: E731
    assert of("ranknet") * math.log(2) == pytest.approx((bits(-0.2) + bits(0.2)) * math.log(2))
    assert of("ndcg_loss_1") == pytest.approx((bits(-0.2) + bits(0) + bits(0.2)) / math.log2(3))
    swaps = [1 - 1 / math.log2(3), 1 / math.log2(3) - 1 / 2]  # what moving the relevant one up or down changes
    assert of("lambda_rank") == pytest.approx(swaps[0] * bits(-0.2) + swaps[1] * bits(0.2))
    gap = 1 - 1 / math.log2(3)  # both pairs are one rank apart
    assert of("ndcg_loss_2") == pytest.approx(gap * (bits(-0.2) + bits(0.2)))
    assert of("ndcg_loss_2pp", mu=3) == pytest.approx(3 * of("ndcg_loss_2") + of("lambda_rank"))
    assert of("ranknet", cutoff=1) == pytest.approx(bits(-0.2))
    assert of("ranknet", sigma=2) == pytest.approx(bits(-0.4) + bits(0.4))
    with pytest.raises(ValueError, match="scheme='none'"):
        of("none")


def test_lambda_loss_as_allrank_counts():
    found = value(partial(losses.lambda_loss, scheme="ranknet"), [0.5, 0.3, 0.5], [1, 0, 1]) * math.log(2)
    assert found == pytest.approx(1.1962778568, abs=1e-6)


def test_list_net_by_hand():
    assert value(losses.list_net, [0.5, 0.2], [1, 0]) == pytest.approx(0.6350376708795256, abs=1e-6)
    assert losses.list_net(STUDENT, TEACHER).mean().item() == pytest.approx(1.1164383994796796, abs=1e-12)
    entropy = torch.tensor([0.7306677101744153, 0.5950866861651818], dtype=torch.float64)
    torch.testing.assert_close(losses.list_net(STUDENT, TEACHER), losses.kl(STUDENT, TEACHER) + entropy)


def test_list_mle_by_hand():
    assert value(losses.list_mle, [0.5, 0.3], [1, 0]) == pytest.approx(0.5981389284133911, abs=1e-6)
    lse = lambda *some: math.log(sum(map(math.exp, some)))  # noqa: E731
    expected = lse(2, 0, 1) - 0 + lse(2, 1) - 1
    assert value(losses.list_mle, [1.0, 2.0, 0.0], [1, 0, 2]) == pytest.approx(expected)
    assert value(losses.list_mle, [1.0, 0.0], [5, 5]) == pytest.approx(2 * lse(1, 0) - 1)  # ties: each against both
    # weights 2^2 - 1, 2^1 - 1, 2^0 - 1, which sum to 4
    assert value(losses.position_list_mle, [1.0, 2.0, 0.0], [1, 0, 2]) == pytest.approx(
        (3 * lse(2, 0, 1) + lse(2, 1) - 1) / 4
    )


def test_smoothed_measures_by_hand():
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    rank = 1 + sigmoid(1)  # of the document that is one behind
    assert value(losses.smooth_mrr, [1.0, 2.0], [1, 0]) == pytest.approx(1 - 1 / rank)
    assert value(losses.approx_ndcg, [1.0, 2.0], [1, 0]) == pytest.approx(1 - 1 / math.log2(1 + rank))
    assert value(losses.adr_mse, [1.0, 2.0], [1, 0]) == pytest.approx(
        ((1 - rank) ** 2 + (2 - (1 + sigmoid(-1))) ** 2 / math.log2(3)) / 2
    )
    assert value(losses.smooth_mrr, [1.0, 2.0], [0, 0]) == 1 and value(losses.approx_ndcg, [1.0, 2.0], [0, 0]) == 0


def test_cold_smoothed_measures_are_the_measures():
    ranked, grades = [5.0, 4.0, 3.0, 2.0, 1.0], [3, 0, 2, 0, 1]
    ideal = 7 + 3 / math.log2(3) + 1 / math.log2(4)
    ndcg = (7 + 3 / math.log2(4) + 1 / math.log2(6)) / ideal
    assert value(partial(losses.approx_ndcg, temperature=0.01), ranked, grades) == pytest.approx(1 - ndcg)
    assert value(partial(losses.smooth_mrr, temperature=0.01), ranked, [0, 0, 1, 0, 1]) == pytest.approx(1 - 1 / 3)
    right = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert value(partial(losses.adr_mse, temperature=0.01), right, right) == pytest.approx(0)


def test_divergences_by_hand():
    assert losses.kl(STUDENT, TEACHER).tolist() == pytest.approx([0.06713075445313231, 0.83999164816663], abs=1e-12)
    assert losses.kl(STUDENT, TEACHER, temperature=2).mean().item() == pytest.approx(0.6114848828157456, abs=1e-12)
    half = losses.kl(STUDENT, TEACHER, temperature=0.5).mean().item()
    assert half == pytest.approx(0.1984226117, abs=1e-9)
    tevatron = losses.kl(STUDENT, TEACHER, temperature=1, target_temperature=2).mean().item()
    assert tevatron == pytest.approx(0.1977833730, abs=1e-9)
    assert losses.reverse_kl(STUDENT, TEACHER).mean().item() == pytest.approx(0.5723088341, abs=1e-9)
    torch.testing.assert_close(losses.reverse_kl(STUDENT, TEACHER), losses.kl(TEACHER, STUDENT))
    torch.testing.assert_close(losses.jensen_shannon(STUDENT, TEACHER), losses.jensen_shannon(TEACHER, STUDENT))
    apart = value(losses.jensen_shannon, [1e4, 0.0], [0.0, 1e4])
    assert apart == pytest.approx(math.log(2))


def test_pearson_by_hand():
    assert value(losses.pearson, [1.0, 2.0, 4.0], [1.0, 3.0, 2.0]) == pytest.approx(1 - 1 / math.sqrt(14 / 3 * 2))
    assert value(losses.pearson, [1.0, 2.0], [3.0, 7.0]) == pytest.approx(0)
    assert value(losses.pearson, [1.0, 2.0], [7.0, 3.0]) == pytest.approx(2)
    equal = torch.tensor([[0.1, 0.1, 0.1], [1.0, 2.0, 4.0]], requires_grad=True)
    found = losses.pearson(equal, torch.tensor([[2.0, 1.0, 0.0], [5.0, 5.0, 5.0]]))
    found.sum().backward()
    assert found.tolist() == [1, 1] and not equal.grad.any()


def test_hot_kl_is_margin_mse_over_eight_for_two_documents():
    scores, targets = torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.tensor([[3.0, 0.0]], dtype=torch.float64)
    for temperature, expected in ((1, 0.1698225895893472), (10, 0.4929918967375747), (100, 0.4999291742618841)):
        assert losses.kl(scores, targets, temperature=temperature).item() == pytest.approx(expected, abs=1e-9)
    assert losses.margin_mse(scores, targets).item() / 8 == 0.5
    centred = (STUDENT - STUDENT.mean(-1, keepdim=True)) - (TEACHER - TEACHER.mean(-1, keepdim=True))
    limit = centred.square().sum(-1) / 8  # one over twice the number of documents
    assert limit.mean().item() == pytest.approx(0.578125)
    torch.testing.assert_close(losses.kl(STUDENT, TEACHER, temperature=1e4), limit, atol=1e-3, rtol=0)


def test_regressions_by_hand():
    for scores, targets, expected in (([2, 1], [5, 2], 4), ([0.5, 1.5], [3, 4], 0), ([-1, -3], [0, -1], 1)):
        assert value(losses.margin_mse, scores, targets) == expected
    assert losses.margin_mse(STUDENT, TEACHER).mean().item() == pytest.approx(5.083333333333333, abs=1e-12)
    assert value(losses.mse, [2.0, 1.0], [5.0, 2.0]) == 5.0


def test_margin_error_by_hand():
    scores, targets = [2.0, 1.0, -1.0], [1.0, 0.5, 0.0]  # margins 1 and 3, wanted 0.5 and 1: 0.5 and 2 above
    of = lambda error: value(partial(losses.margin_error, error=error), scores, targets)  # noqa: E731
    assert of("l2") == value(losses.margin_error, scores, targets) == value(losses.margin_mse, scores, targets) == 2.125
    assert of("l1") == 1.25
    assert of("soft") == pytest.approx((math.log(1 + math.exp(-0.5)) + math.log(1 + math.exp(-2))) / 2, abs=1e-12)
    with pytest.raises(ValueError, match="error='huber': give one of l2, l1, soft"):
        of("huber")


def test_dual_supervision_by_hand():
    """TAS-B: the pair, and each positive against the other queries' passages."""
    student = torch.tensor([[2.0, 1.0], [1.0, 3.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    teacher = torch.tensor([[5.0, 1.0], [0.0, 4.0]]), torch.tensor([[2.0, 1.0], [1.0, 0.0]])
    pairs = [
        torch.stack([positives.diagonal(), negatives.diagonal()], 1) for positives, negatives in (student, teacher)
    ]
    assert losses.margin_mse(*pairs).mean() == 4.0
    in_batch = torch.tensor([[2.0, 1.0, 0.0], [3.0, 1.0, 0.0]]), torch.tensor([[5.0, 1.0, 1.0], [4.0, 0.0, 1.0]])
    assert losses.margin_mse(*in_batch).mean() == 4.25


# ---- agreement with torch -------------------------------------------------------------------------------------------


def test_torch_agrees():
    first = torch.zeros(2, dtype=torch.long)
    torch.testing.assert_close(losses.info_nce(STUDENT, LABELS), F.cross_entropy(STUDENT, first, reduction="none"))
    torch.testing.assert_close(
        losses.list_net(STUDENT, TEACHER), F.cross_entropy(STUDENT, TEACHER.softmax(-1), reduction="none")
    )
    student, teacher = STUDENT.log_softmax(-1), TEACHER.log_softmax(-1)
    torch.testing.assert_close(
        losses.kl(STUDENT, TEACHER).mean(), F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    )
    torch.testing.assert_close(losses.mse(STUDENT, TEACHER).mean(), F.mse_loss(STUDENT, TEACHER))
    torch.testing.assert_close(losses.bce(STUDENT, LABELS).mean(), F.binary_cross_entropy_with_logits(STUDENT, LABELS))
    pair, labels = STUDENT[:, :2], LABELS[:, :2]
    ones = torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(
        losses.hinge(pair, labels), F.margin_ranking_loss(*pair.T, ones, margin=1.0, reduction="none")
    )
    torch.testing.assert_close(
        losses.ranknet(pair, labels), F.soft_margin_loss(pair[:, 0] - pair[:, 1], ones, reduction="none")
    )
    torch.testing.assert_close(
        losses.pearson(STUDENT, TEACHER)[0], 1 - torch.corrcoef(torch.stack([STUDENT[0], TEACHER[0]]))[0, 1]
    )


# ---- properties -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
class TestEveryLoss:
    def test_one_finite_value_a_query_even_far_out(self, name):
        for size in (1.0, 1e4, -1e4):
            for kind in (torch.float32, torch.float64):
                scores = (STUDENT * size).to(kind).requires_grad_()
                found = EVERY[name](scores, targets_of(name).to(kind))
                (gradient,) = torch.autograd.grad(found.sum(), scores)
                assert found.shape == (2,) and found.isfinite().all() and gradient.isfinite().all()

    def test_finite_where_all_targets_tie(self, name):
        for target in (0.0, 1.0):
            for scores in (STUDENT, torch.zeros_like(STUDENT), STUDENT * 1e4):
                scores = scores.clone().requires_grad_()
                found = EVERY[name](scores, torch.full_like(STUDENT, target))
                (gradient,) = torch.autograd.grad(found.sum(), scores)
                assert found.isfinite().all() and gradient.isfinite().all()

    def test_gradient(self, name):
        draw = torch.Generator().manual_seed(0)
        scores = torch.randn(3, 5, dtype=torch.float64, generator=draw).requires_grad_()
        targets = torch.cat([targets_of(name), targets_of(name)[:1]])[:, [0, 1, 2, 3, 1]]
        assert torch.autograd.gradcheck(lambda some: EVERY[name](some, targets), scores)

    def test_order_of_the_other_documents_does_not_matter(self, name):
        for order in ([0, 3, 1, 2], [0, 2, 3, 1]):
            permuted = EVERY[name](STUDENT[:, order], targets_of(name)[:, order])
            torch.testing.assert_close(permuted, EVERY[name](STUDENT, targets_of(name)))

    def test_a_constant_added_to_the_scores(self, name):
        same = torch.allclose(EVERY[name](STUDENT + 5, targets_of(name)), EVERY[name](STUDENT, targets_of(name)))
        assert same == (name not in SEES_A_SHIFT)
        says = " ".join(inspect.getdoc(PLAIN[name.split()[0]]).split())
        assert ("not shift invariant" not in says) == same

    def test_a_factor_on_the_scores(self, name):
        same = torch.allclose(EVERY[name](STUDENT * 2, targets_of(name)), EVERY[name](STUDENT, targets_of(name)))
        assert same == (name in SEES_NO_SCALE)

    def test_the_right_order_costs_less_than_the_reverse(self, name):
        targets = torch.tensor([[3.0, 2.0, 1.0, 0.0]], dtype=torch.float64)
        if name.split()[0] in ("bce", "info_nce", "smooth_mrr"):
            targets = LABELS[:1]
        scores = torch.tensor([[3.0, 2.0, 1.0, 0.0]], dtype=torch.float64)
        assert EVERY[name](scores, targets) < EVERY[name](scores.flip(-1), targets)

    def test_queries_do_not_touch_each_other(self, name):
        alone = torch.cat([EVERY[name](STUDENT[[row]], targets_of(name)[[row]]) for row in (0, 1)])
        torch.testing.assert_close(EVERY[name](STUDENT, targets_of(name)), alone)

    def test_bfloat16_drifts_little(self, name):
        """bfloat16 keeps 8 bits: within 2 per cent, or 0.01, of the exact value at scores of a few units."""
        draw = torch.Generator().manual_seed(0)
        scores = torch.randn(64, 4, dtype=torch.float64, generator=draw) * 2
        targets = targets_of(name).repeat(32, 1)
        found = EVERY[name](scores.bfloat16(), targets.bfloat16())
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), EVERY[name](scores, targets), rtol=0.02, atol=0.01)

    def test_inputs_are_left_alone(self, name):
        scores, targets = STUDENT.clone(), targets_of(name).clone()
        EVERY[name](scores, targets)
        assert torch.equal(scores, STUDENT) and torch.equal(targets, targets_of(name))

    def test_other_shapes_are_refused(self, name):
        with pytest.raises(ValueError, match=r"scores \(2, 4\) and targets \(2, 3\) must both be"):
            EVERY[name](STUDENT, targets_of(name)[:, :3])

    def test_integer_targets_are_taken(self, name):
        whole = targets_of(name).round().long()
        if name.split()[0] != "bce":  # a probability
            torch.testing.assert_close(EVERY[name](STUDENT, whole), EVERY[name](STUDENT, whole.double()))


@pytest.mark.parametrize("name", AT_THE_TEACHER)
def test_a_perfect_student_is_at_zero_with_zero_gradient(name):
    scores = TEACHER.clone().requires_grad_()
    found = EVERY[name](scores, TEACHER)
    (gradient,) = torch.autograd.grad(found.sum(), scores)
    assert found.abs().max() < 1e-12 and gradient.abs().max() < 1e-12
    assert (EVERY[name](STUDENT, TEACHER) > 0).all()


@pytest.mark.parametrize(
    "name",
    [
        "kl",
        "reverse_kl",
        "jensen_shannon",
        "margin_mse",
        "margin_error",
        "list_net",
        "pearson",
        "gist",
        "weighted_ranknet",
        "bounded_weighted_ranknet",
        "dpo",
    ],
)
def test_a_constant_added_to_the_teacher_changes_nothing(name):
    torch.testing.assert_close(EVERY[name](STUDENT, TEACHER + 7), EVERY[name](STUDENT, TEACHER))


@pytest.mark.parametrize("name", ["hinge", "ranknet", "list_mle", "position_list_mle", "adr_mse"])
def test_only_the_order_of_the_targets_counts(name):
    torch.testing.assert_close(EVERY[name](STUDENT, TEACHER), EVERY[name](STUDENT, TEACHER.exp()))


@pytest.mark.parametrize("name", EVERY)
def test_a_large_batch_takes_no_loop(name):
    """The number of operations does not grow with queries or documents."""

    def operations(batch, docs):
        scores = torch.randn(batch, docs)
        targets = torch.rand(batch, docs)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            EVERY[name](scores, targets)
        return len(profile.events())

    operations(2, 4)
    assert operations(64, 32) <= operations(4, 4) + 8


def test_shapes_are_checked_in_tests():
    """The import hook of conftest.py is at work: a wrong shape or type inside the package is an error."""
    with pytest.raises(TypeCheckError, match="parameter 'scores'"):
        listwise.approximate_ranks(STUDENT[0], 1.0)
    with pytest.raises(TypeCheckError, match="parameter 'targets'"):
        descent.descend(losses.mse, STUDENT, TEACHER[:, :3])
    with pytest.raises(TypeCheckError, match="the return value"):
        signature.ranking_loss(lambda scores, targets: scores)(STUDENT, TEACHER)


def test_descent_finds_the_teacher():
    found = descent.descend(losses.mse, STUDENT, TEACHER)
    torch.testing.assert_close(found, TEACHER, atol=1e-2, rtol=0)
    found = descent.descend(losses.margin_mse, STUDENT, TEACHER)
    torch.testing.assert_close(
        found - found.mean(-1, keepdim=True), TEACHER - TEACHER.mean(-1, keepdim=True), atol=1e-2, rtol=0
    )


def test_approximate_ranks_add_up():
    ranks = listwise.approximate_ranks(STUDENT, 1.0)
    torch.testing.assert_close(ranks.sum(-1), torch.full((2,), 10.0, dtype=torch.float64))
