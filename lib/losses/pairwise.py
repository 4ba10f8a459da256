"""Pairwise losses: documents of one query, two at a time."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.losses.signature import ranking_loss


@ranking_loss
def hinge(scores: Tensor, targets: Tensor, *, margin: float = 1.0) -> Tensor:
    """Hinge: max(0, margin - (s_i - s_j)), mean over the pairs whose targets say i before j.

    RankSVM's loss (Joachims 2002, https://doi.org/10.1145/775047.775067); torch's `margin_ranking_loss` for one pair.
    Targets may be labels or a teacher's scores: only their order is used. scores, targets: (batch, docs) -> (batch,);
    0 where all targets tie. Shift invariant. Zero where every pair is right by at least `margin`.
    """
    before, margins = _pairs(scores, targets)
    return _mean_over(F.relu(margin - margins), before)


@ranking_loss
def ranknet(scores: Tensor, targets: Tensor) -> Tensor:
    """RankNet: log(1 + exp(-(s_i - s_j))), mean over the pairs whose targets say i before j.

    Burges et al. 2005, https://doi.org/10.1145/1102351.1102363. Targets may be labels or a teacher's scores: only
    their order is used. scores, targets: (batch, docs) -> (batch,); 0 where all targets tie. Shift invariant. It falls
    towards 0 as right margins grow and has no minimum. matchmaker averages over given pairs, as here; allRank too.
    """
    before, margins = _pairs(scores, targets)
    return _mean_over(F.softplus(-margins), before)


@ranking_loss
def weighted_ranknet(scores: Tensor, targets: Tensor, *, bounded: bool = True) -> Tensor:
    """RankNet with the teacher's margin as each pair's weight: (t_0 - t_j) log(1 + exp(-(s_0 - s_j))), mean over j.

    Hofstaetter et al. 2020 (2010.02666, "Weighted RankNet"): pairs are the positive (column 0) with each other
    document. As published the weight is not clamped, so a pair on which the teacher contradicts the label has a
    negative one and the loss is unbounded below: `bounded=False`. With `bounded=True` each pair is turned to the
    teacher's order: |t_0 - t_j| log(1 + exp(-sign(t_0 - t_j) (s_0 - s_j))), which is never negative and equal to the
    published one wherever the teacher agrees with the label. scores, targets: (batch, docs) -> (batch,). Shift
    invariant on both sides; grows with the teacher's scale.
    """
    margins = scores[..., :1] - scores[..., 1:]
    weights = targets[..., :1] - targets[..., 1:]
    if bounded:
        return (weights.abs() * F.softplus(-weights.sign() * margins)).mean(-1)
    return (weights * F.softplus(-margins)).mean(-1)


@ranking_loss
def margin_mse(scores: Tensor, targets: Tensor) -> Tensor:
    """Margin-MSE: squared difference of the student's and the teacher's margin, mean over the negatives.

    Hofstaetter et al. 2020, https://arxiv.org/abs/2010.02666. The margin of document j is score 0 - score j, with
    the positive in column 0. scores, targets: (batch, docs) -> (batch,). Shift invariant on both sides, not scale
    invariant. Zero where all margins agree. sentence-transformers' MarginMSELoss and lightning-ir's MarginMSE mean
    the same; lightning-ir's is NaN where all targets tie, this one is not.
    """
    return _margin_errors(scores, targets).square().mean(-1)


@ranking_loss
def margin_error(scores: Tensor, targets: Tensor, *, error: str = "l2") -> Tensor:
    """An error of the margin against the wanted one, mean over the negatives: Margin-MSE with a choice of error.

    Gienapp et al. 2024 (adaptive relevance margins), https://arxiv.org/abs/2407.21515, whose targets are built in
    `lib.losses.margins`. With z = (s_0 - s_j) - (t_0 - t_j), the positive in column 0, the error is "l2" (z^2: this is
    `margin_mse`), "l1" (|z|) or "soft" (log(1 + exp(-z)): RankNet around the wanted margin, which goes on falling above
    it). scores, targets: (batch, docs) -> (batch,). Shift invariant on both sides, not scale invariant. "l2" and "l1"
    are zero where all margins agree; both also punish a margin above the wanted one.

    Raises:
        ValueError: the error is unknown.
    """
    if error not in _ERRORS:
        raise ValueError(f"error={error!r}: give one of {', '.join(_ERRORS)}")
    return _ERRORS[error](_margin_errors(scores, targets)).mean(-1)


_ERRORS = {"l2": torch.square, "l1": torch.abs, "soft": lambda z: F.softplus(-z)}


def _margin_errors(scores: Tensor, targets: Tensor) -> Tensor:
    """(s_0 - s_j) - (t_0 - t_j) for each negative j; (batch, docs - 1)."""
    return (scores[..., :1] - scores[..., 1:]) - (targets[..., :1] - targets[..., 1:])


@ranking_loss
def lambda_loss(
    scores: Tensor, targets: Tensor, *, scheme: str = "ndcg_loss_2pp", sigma: float = 1.0, cutoff: int | None = None,
    mu: float = 10.0,
) -> Tensor:  # fmt: skip
    """LambdaLoss: RankNet pairs weighted by what a swap would change in nDCG, summed over pairs.

    Wang et al. 2018, https://doi.org/10.1145/3269206.3271784, in base 2 as there. targets are grades of 0 and more;
    gains are (2^grade - 1) / maxDCG, discounts log2(1 + rank) with ranks from the current scores (held constant).
    scores, targets: (batch, docs) -> (batch,). Shift invariant. Ranks change in jumps, so it is smooth only between
    ties. schemes: "ranknet" (weight 1), "ndcg_loss_1" (gain of i over its discount, all pairs), "ndcg_loss_2"
    (difference in rank), "lambda_rank" (both discounts), "ndcg_loss_2pp" (mu times loss 2 plus LambdaRank). `cutoff`
    keeps pairs of which either rank is within it (equation 18). allRank's `lambdaLoss` has the same schemes and, at a
    cutoff, wants both ranks within it; sentence-transformers' LambdaLoss is this one divided by the number of pairs.

    Raises:
        ValueError: the scheme is unknown.
    """
    if scheme not in _SCHEMES:
        raise ValueError(f"scheme={scheme!r}: give one of {', '.join(_SCHEMES)}")
    order = scores.detach().argsort(dim=-1, descending=True, stable=True)
    scores, grades = scores.gather(-1, order), targets.gather(-1, order)  # (batch, docs) by rank
    ranks = torch.arange(1, scores.shape[-1] + 1, device=scores.device, dtype=scores.dtype)
    discounts = torch.log2(1 + ranks)  # (docs,)
    ideal = (torch.exp2(grades.sort(dim=-1, descending=True).values) - 1) / discounts
    best = ideal[..., :cutoff].sum(-1, keepdim=True)  # (batch, 1)
    gains = torch.where(best > 0, (torch.exp2(grades) - 1) / best.clamp(min=torch.finfo(scores.dtype).tiny), 0)
    weights = _SCHEMES[scheme](gains, discounts, mu)  # (batch, i, j) or fewer axes
    wanted = torch.ones_like(gains.unsqueeze(-1) * gains.unsqueeze(-2), dtype=torch.bool)
    if scheme != "ndcg_loss_1":
        wanted = grades.unsqueeze(-1) > grades.unsqueeze(-2)
    within = ranks <= (cutoff or scores.shape[-1])
    wanted = wanted & (within.unsqueeze(-1) | within.unsqueeze(-2))
    margins = scores.unsqueeze(-1) - scores.unsqueeze(-2)
    bits = F.softplus(-sigma * margins) / torch.log(torch.tensor(2.0, dtype=scores.dtype, device=scores.device))
    return (weights * bits * wanted).sum((-1, -2))


def _rank_gap(discounts: Tensor) -> Tensor:
    """|1/D(|i-j|) - 1/D(|i-j|+1)| of LambdaLoss, (docs, docs); zero on the diagonal."""
    places = torch.arange(1, len(discounts) + 1, device=discounts.device, dtype=discounts.dtype)
    gap = (places.unsqueeze(-1) - places.unsqueeze(-2)).abs()
    difference = (1 / torch.log2(1 + gap.clamp(min=1)) - 1 / torch.log2(2 + gap)).abs()
    return torch.where(gap > 0, difference, 0)


def _gain_gap(gains: Tensor) -> Tensor:
    return (gains.unsqueeze(-1) - gains.unsqueeze(-2)).abs()


def _lambda_rank(gains: Tensor, discounts: Tensor, _: float) -> Tensor:
    return (1 / discounts.unsqueeze(-1) - 1 / discounts.unsqueeze(-2)).abs() * _gain_gap(gains)


def _ndcg_loss_2(gains: Tensor, discounts: Tensor, _: float) -> Tensor:
    return _rank_gap(discounts) * _gain_gap(gains)


_SCHEMES = {
    "ranknet": lambda gains, discounts, mu: torch.ones_like(gains).unsqueeze(-1),
    "ndcg_loss_1": lambda gains, discounts, mu: (gains / discounts).unsqueeze(-1),
    "ndcg_loss_2": _ndcg_loss_2,
    "lambda_rank": _lambda_rank,
    "ndcg_loss_2pp": lambda gains, discounts, mu: (
        mu * _ndcg_loss_2(gains, discounts, mu) + _lambda_rank(gains, discounts, mu)
    ),
}


def _pairs(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Which pairs the targets put in order, as 0 and 1, and the margins of all pairs; (batch, i, j) both."""
    before = (targets.unsqueeze(-1) > targets.unsqueeze(-2)).to(scores.dtype)
    return before, scores.unsqueeze(-1) - scores.unsqueeze(-2)


def _mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    return (values * chosen).sum((-1, -2)) / chosen.sum((-1, -2)).clamp(min=1)
