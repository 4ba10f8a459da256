"""Pairwise losses: documents of one query, two at a time, so all are shift invariant."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lib.losses.signature import PerQuery, Scores, ranking_loss


@ranking_loss
def hinge(scores: Scores, targets: Scores, *, margin: float = 1.0) -> PerQuery:
    """Hinge: max(0, margin - (s_i - s_j)), mean over the pairs whose targets say i before j; 0 where all tie.

    RankSVM's loss (Joachims 2002, https://doi.org/10.1145/775047.775067); torch's `margin_ranking_loss` for one pair.
    Shift invariant; only the targets' order is used, of labels or of a teacher's scores.
    """
    return _mean_over_ordered_pairs(lambda margins: F.relu(margin - margins), scores, targets)


@ranking_loss
def ranknet(scores: Scores, targets: Scores) -> PerQuery:
    """RankNet: log(1 + exp(-(s_i - s_j))), mean over the pairs whose targets say i before j; 0 where all tie.

    Burges et al. 2005, https://doi.org/10.1145/1102351.1102363. Shift invariant; only the targets' order is used, of
    labels or of a teacher's scores. It has no minimum: it falls towards 0 as correct margins grow. matchmaker and
    allRank average in the same way.
    """
    return _mean_over_ordered_pairs(lambda margins: F.softplus(-margins), scores, targets)


@ranking_loss
def weighted_ranknet(scores: Scores, targets: Scores) -> PerQuery:
    """RankNet with the teacher's margin as each pair's weight: (t_0 - t_j) log(1 + exp(-(s_0 - s_j))), mean over j.

    Hofstaetter et al. 2020 (2010.02666, "Weighted RankNet"), as published: a pair on which the teacher contradicts the
    label has a negative weight, and the loss is unbounded below (`bounded_weighted_ranknet` is not). Shift invariant on
    both sides; grows with the teacher's scale.
    """
    return (_margins(targets) * F.softplus(-_margins(scores))).mean(-1)


@ranking_loss
def bounded_weighted_ranknet(scores: Scores, targets: Scores) -> PerQuery:
    """`weighted_ranknet`, with the pairs on which the teacher contradicts the label turned to the teacher's order.

    |t_0 - t_j| log(1 + exp(-sign(t_0 - t_j) (s_0 - s_j))), mean over j: never negative. The kit's own, after
    2010.02666. Shift invariant on both sides; grows with the teacher's scale.
    """
    weights = _margins(targets)
    return (weights.abs() * F.softplus(-weights.sign() * _margins(scores))).mean(-1)


@ranking_loss
def margin_mse(scores: Scores, targets: Scores) -> PerQuery:
    """Margin-MSE: squared difference of the student's and the teacher's margin, mean over the negatives.

    Hofstaetter et al. 2020, https://arxiv.org/abs/2010.02666. The margin of document j is score 0 - score j. Shift
    invariant on both sides, not scale invariant. With the other queries' documents as further columns it is the
    in-batch half of TAS-B's dual supervision (Hofstaetter et al. 2021, https://arxiv.org/abs/2104.06967, equation 6).
    sentence-transformers' MarginMSELoss is the same, and so is lightning-ir's except that it is NaN where targets tie.
    """
    return margin_error(scores, targets, error="l2")


@ranking_loss
def margin_error(scores: Scores, targets: Scores, *, error: str = "l2") -> PerQuery:
    """Margin-MSE with a choice of error, mean over the negatives; its targets are built in `lib.losses.margins`.

    Gienapp et al. 2024 (adaptive relevance margins), https://arxiv.org/abs/2407.21515. With
    z = (s_0 - s_j) - (t_0 - t_j) the error is "l2" (z^2: `margin_mse`), "l1" (|z|) or "soft" (log(1 + exp(-z)): RankNet
    around the target margin, which goes on falling above it, where the others rise). Shift invariant on both sides.
    """
    if error not in _ERRORS:
        raise ValueError(f"error={error!r}: give one of {', '.join(_ERRORS)}")
    return _ERRORS[error](_margins(scores) - _margins(targets)).mean(-1)


_ERRORS = {"l2": torch.square, "l1": torch.abs, "soft": lambda z: F.softplus(-z)}


@ranking_loss
def lambda_loss(
    scores: Scores, targets: Scores, *, scheme: str = "ndcg_loss_2pp", sigma: float = 1.0, cutoff: int | None = None,
    mu: float = 10.0,
) -> PerQuery:  # fmt: skip
    """LambdaLoss: RankNet pairs weighted by what a swap would change in nDCG, summed over pairs.

    Wang et al. 2018, https://doi.org/10.1145/3269206.3271784, in base 2 as there. Targets are grades of 0 and more;
    gains are (2^grade - 1) / maxDCG, discounts log2(1 + rank) with ranks from the current scores, held constant. Shift
    invariant, and smooth only between ties. Schemes: "ranknet" (weight 1), "ndcg_loss_1" (gain of i over its discount,
    all pairs), "ndcg_loss_2" (difference in rank), "lambda_rank" (both discounts), "ndcg_loss_2pp" (mu times
    ndcg_loss_2, plus lambda_rank). `cutoff` keeps the pairs of which either rank is within it (equation 18); allRank's
    `lambdaLoss` wants both. sentence-transformers' LambdaLoss is this one divided by the number of pairs.
    """
    order = scores.detach().argsort(dim=-1, descending=True, stable=True)
    scores, grades = scores.gather(-1, order), targets.gather(-1, order)  # by rank
    ranks = torch.arange(1, scores.shape[-1] + 1, device=scores.device, dtype=scores.dtype)
    discounts = torch.log2(1 + ranks)
    ideal = (torch.exp2(grades.sort(dim=-1, descending=True).values) - 1) / discounts
    best = ideal[..., :cutoff].sum(-1, keepdim=True)
    gains = torch.where(best > 0, (torch.exp2(grades) - 1) / best.clamp(min=torch.finfo(scores.dtype).tiny), 0)
    weights = _swap_weights(gains, ranks, discounts, mu)
    if scheme not in weights:
        raise ValueError(f"scheme={scheme!r}: give one of {', '.join(weights)}")
    within = ranks <= (cutoff or scores.shape[-1])
    pairs = within.unsqueeze(-1) | within.unsqueeze(-2)
    if scheme != "ndcg_loss_1":
        pairs = pairs & (grades.unsqueeze(-1) > grades.unsqueeze(-2))
    bits = F.softplus(-sigma * _differences(scores)) / scores.new_tensor(2.0).log()
    return (weights[scheme] * bits * pairs).sum((-1, -2))


def _swap_weights(gains: Scores, ranks: Tensor, discounts: Tensor, mu: float) -> dict[str, Tensor]:
    """Scheme -> weights of the pairs (batch, i, j) by rank; one per document i where they do not depend on j."""
    gap = _differences(ranks).abs()
    rank_change = (1 / torch.log2(1 + gap.clamp(min=1)) - 1 / torch.log2(2 + gap)).abs()
    gain_change = _differences(gains).abs()
    ndcg_loss_2 = torch.where(gap > 0, rank_change, 0) * gain_change
    lambda_rank = _differences(1 / discounts).abs() * gain_change
    return {
        "ranknet": torch.ones_like(gains).unsqueeze(-1), "ndcg_loss_1": (gains / discounts).unsqueeze(-1),
        "ndcg_loss_2": ndcg_loss_2, "lambda_rank": lambda_rank, "ndcg_loss_2pp": mu * ndcg_loss_2 + lambda_rank,
    }  # fmt: skip


def _mean_over_ordered_pairs(cost: Callable[[Tensor], Tensor], scores: Scores, targets: Scores) -> PerQuery:
    """Mean of cost(s_i - s_j) over the pairs whose targets say i before j."""
    before = (targets.unsqueeze(-1) > targets.unsqueeze(-2)).to(scores.dtype)
    return (cost(_differences(scores)) * before).sum((-1, -2)) / before.sum((-1, -2)).clamp(min=1)


def _differences(values: Float[Tensor, "*batch docs"]) -> Float[Tensor, "*batch docs docs"]:
    """values_i - values_j for every pair (i, j)."""
    return values.unsqueeze(-1) - values.unsqueeze(-2)


def _margins(values: Scores) -> Float[Tensor, "batch docs-1"]:
    """values_0 - values_j for each negative j."""
    return values[..., :1] - values[..., 1:]
