"""Listwise losses from labels or grades: the whole group of a query at once.

All are shift invariant. Negative grades count as 0. Documents with equal targets are treated alike, so the order of the
documents never matters; libraries that sort keep the input's order or shuffle instead.
"""

import torch
import torch.nn.functional as F

from lib.losses.signature import PerQuery, Scores, ranking_loss


@ranking_loss
def info_nce(scores: Scores, targets: Scores, *, temperature: float = 1.0) -> PerQuery:
    """InfoNCE: minus the log of the softmax mass on the positives (targets above 0); 0 without a positive.

    van den Oord et al. 2018, https://arxiv.org/abs/1807.03748. Over a query's own hard negatives it is localised
    contrastive estimation (Gao et al. 2021, https://arxiv.org/abs/2101.08751); over the whole batch
    (`margins.contrast`) it is sentence-transformers' MultipleNegativesRankingLoss. Several positives share the mass.
    It is also what supervised fine-tuning is for a ranker: see `lib.losses.preference`. Shift invariant.
    """
    scores, positive = scores / temperature, targets > 0
    mass = torch.logsumexp(scores.masked_fill(~positive, torch.finfo(scores.dtype).min), -1)
    return torch.where(positive.any(-1), torch.logsumexp(scores, -1) - mass, 0)


@ranking_loss
def gist(scores: Scores, targets: Scores, *, temperature: float = 1.0, margin: float = 0.0) -> PerQuery:
    """InfoNCE of column 0 without the negatives that a guide takes for relevant; 0 where no negative remains.

    GISTEmbed (Solatorio 2024, https://arxiv.org/abs/2402.16829): targets are the guide's scores, and document j is left
    out where the guide scores it above the positive's score minus `margin`. Shift invariant on both sides.
    """
    negative = targets <= targets[..., :1] - margin
    kept = negative | (torch.arange(scores.shape[-1], device=scores.device) == 0)
    scores = (scores / temperature).masked_fill(~kept, torch.finfo(scores.dtype).min)
    return torch.logsumexp(scores, -1) - scores[..., 0]


@ranking_loss
def list_net(scores: Scores, targets: Scores) -> PerQuery:
    """ListNet: cross-entropy of softmax(scores) against softmax(targets), the top-one probabilities.

    Cao et al. 2007, https://doi.org/10.1145/1273496.1273513. It is KL plus the targets' entropy: the same gradient, but
    not zero at its minimum. Shift invariant on both sides. allRank's and sentence-transformers' ListNet are the same.
    """
    return -(F.softmax(targets, -1) * F.log_softmax(scores, -1)).sum(-1)


@ranking_loss
def list_mle(scores: Scores, targets: Scores) -> PerQuery:
    """ListMLE: minus the log-likelihood of the targets' order under Plackett-Luce, summed over positions.

    Xia et al. 2008, https://doi.org/10.1145/1390156.1390306. Documents with equal targets each compete with all of
    their equals (Breslow's rule), so ties cost least where their scores are equal. Shift invariant; only the targets'
    order is used. Without ties allRank (shuffles them) and sentence-transformers (keeps the input's order) agree.
    """
    return _plackett_luce(scores, targets).sum(-1)


@ranking_loss
def position_list_mle(scores: Scores, targets: Scores) -> PerQuery:
    """Position-aware ListMLE: each position's term weighted by 2^(docs - rank) - 1, the weights summing to one.

    Lan et al. 2014 (p-ListMLE), https://auai.org/uai2014/proceedings/individuals/164.pdf; normalised weights as in
    sentence-transformers' PListMLELoss. Shift invariant; only the targets' order is used. Ties share their mean rank.
    """
    places = scores.shape[-1] - _ranks(targets)  # docs - rank: 0 for the last
    top = places.amax(-1, keepdim=True)
    weights = torch.exp2(places - top) - torch.exp2(-top)  # scaled by 2^-top: long lists would overflow
    return (_plackett_luce(scores, targets) * weights / weights.sum(-1, keepdim=True).clamp(min=1e-30)).sum(-1)


@ranking_loss
def approx_ndcg(scores: Scores, targets: Scores, *, temperature: float = 1.0) -> PerQuery:
    """ApproxNDCG: 1 - nDCG with gains 2^grade - 1 and smoothed ranks; 0 to 1, and 0 where no grade is above 0.

    Qin et al. 2010, https://doi.org/10.1007/s10791-009-9124-x. Shift invariant. It approaches 1 - nDCG as the
    temperature falls. allRank's returns minus nDCG; lightning-ir's is this one.
    """
    gains = torch.exp2(targets.clamp(min=0)) - 1
    places = torch.arange(2, scores.shape[-1] + 2, device=scores.device, dtype=scores.dtype)
    ideal = (gains.sort(dim=-1, descending=True).values / torch.log2(places)).sum(-1)
    dcg = (gains / torch.log2(1 + approximate_ranks(scores, temperature))).sum(-1)
    return torch.where(ideal > 0, 1 - dcg / ideal.clamp(min=torch.finfo(scores.dtype).tiny), 0)


@ranking_loss
def smooth_mrr(scores: Scores, targets: Scores, *, temperature: float = 1.0) -> PerQuery:
    """SmoothMRR: 1 - reciprocal smoothed rank of the first relevant document (target above 0); 1 without one.

    Ranks as in `approx_ndcg` (Qin et al. 2010, https://doi.org/10.1007/s10791-009-9124-x). Shift invariant.
    lightning-ir's ApproxMRR is the same.
    """
    return 1 - (1 / approximate_ranks(scores, temperature)).masked_fill(targets <= 0, 0).amax(-1)


@ranking_loss
def adr_mse(scores: Scores, targets: Scores, *, temperature: float = 1.0) -> PerQuery:
    """ADR-MSE: squared difference of smoothed and true rank over log2(1 + true rank), mean over documents.

    Schlatt et al. 2024 (Rank-DistiLLM), https://arxiv.org/abs/2405.07920. Shift invariant; only the targets' order is
    used, and ties share their mean rank. In the right order it tends to 0 as score differences outgrow the temperature.
    """
    ranks = _ranks(targets)
    return ((ranks - approximate_ranks(scores, temperature)).square() / torch.log2(1 + ranks)).mean(-1)


def approximate_ranks(scores: Scores, temperature: float) -> Scores:
    """Smoothed ranks: 1 + sum over the other documents of sigmoid((s_j - s_i) / temperature)."""
    ahead = torch.sigmoid((scores.unsqueeze(-2) - scores.unsqueeze(-1)) / temperature)  # (batch, i, j): j before i
    return 0.5 + ahead.sum(-1)  # a document counts itself for one half


def _ranks(targets: Scores) -> Scores:
    """Ranks (from 1) of the targets, the highest first; equal targets share the mean of their ranks."""
    above = (targets.unsqueeze(-2) > targets.unsqueeze(-1)).sum(-1)
    equal = (targets.unsqueeze(-2) == targets.unsqueeze(-1)).sum(-1)
    return above.to(targets.dtype) + (equal.to(targets.dtype) + 1) / 2


def _plackett_luce(scores: Scores, targets: Scores) -> Scores:
    """-log p of each document being drawn before all those with no higher target."""
    competing = targets.unsqueeze(-2) <= targets.unsqueeze(-1)  # (batch, i, j): j is still there when i is drawn
    others = scores.unsqueeze(-2).expand_as(competing).masked_fill(~competing, torch.finfo(scores.dtype).min)
    return torch.logsumexp(others, -1) - scores
