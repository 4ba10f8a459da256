"""Losses that choose what a teacher teaches: which of its draws, which queries, and which relations of documents.

None is in `lib.losses.__all__`: each is one term of a strategy of its own (`lib.training.strategies`).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lib.losses.distillation import kl
from lib.losses.signature import PerQuery, Scores, ranking_loss

Draws = Float[Tensor, "batch docs draws"]


def student_guided(scores: Scores, targets: Tensor, *, temperature: float = 5.0, share: float = 0.5) -> PerQuery:
    """KL to the mean of a teacher's draws that the student agrees with: the best `share` of them, weighted.

    Aslam et al. 2025 (SSD), https://arxiv.org/abs/2504.14307: dropout gives one teacher many outputs, of which the
    student chooses and weights those near its own. Translated: an output is a query's scores, agreement is the product
    of centred scores, and weights are its softmax over draws at `temperature`; in the authors' code the best tenth of
    30 draws is kept and the error is squared. Targets (batch, docs) are one draw, which gives `kl`. Invariant to shift
    on both sides.
    """
    if targets.ndim == 2:
        targets = targets.unsqueeze(-1)
    if targets.ndim != 3 or targets.shape[:2] != scores.shape:
        shapes = f"scores {tuple(scores.shape)} and targets {tuple(targets.shape)}"
        raise ValueError(f"student_guided: {shapes}; give (batch, docs) and (batch, docs, draws)")
    return kl(scores, guided(scores.detach(), targets.to(scores.dtype), temperature, share))


def guided(scores: Scores, draws: Draws, temperature: float, share: float) -> Scores:
    """The weighted mean of the draws that are kept, (batch, docs)."""
    draws = draws - draws.mean(1, keepdim=True)  # a draw's own level says nothing of the order
    agreement = torch.einsum("bd,bdk->bk", scores - scores.mean(1, keepdim=True), draws)
    kept = max(1, round(share * agreement.shape[1]))
    least = agreement.topk(kept, dim=1).values[:, -1:]
    weights = torch.softmax((agreement / temperature).masked_fill(agreement < least, -torch.inf), 1)
    return torch.einsum("bk,bdk->bd", weights, draws)


@ranking_loss
def teachable(scores: Scores, targets: Scores, *, share: float = 0.5) -> PerQuery:
    """KL from the teacher on the queries of a batch that it knows and the student does not; zero on the others.

    Shao et al. 2023 (TST), https://arxiv.org/abs/2212.05422: teach where the teacher is strong and the student weak.
    There a network learns to augment images so; translated, training queries are chosen, those with the largest
    probability of the positive (column 0) by the teacher minus that by the student. `share`: of the batch; with 1 it
    is `kl`. What is kept counts 1 / share, so the mean over the batch is that of the chosen. Shift invariant on both
    sides.
    """
    gap = (F.softmax(targets, -1) - F.softmax(scores, -1))[:, 0].detach()
    kept = max(1, round(share * len(gap)))
    chosen = torch.zeros_like(gap).index_fill(0, gap.topk(kept).indices, len(gap) / kept)
    return kl(scores, targets) * chosen


@ranking_loss
def relations(scores: Scores, targets: Scores) -> PerQuery:
    """Huber error between the relations of a query's documents: score differences over their mean size.

    Park et al. 2019 (RKD, distance-wise), https://arxiv.org/abs/1904.05068; one of the kinds of knowledge in Sun et al.
    2021 (CTSL-MKT), https://arxiv.org/abs/2101.08471. Translated: samples are the documents of one query, and a
    relation has a sign, as a ranker's order has a direction. Invariant to shift and positive scale on both sides.
    """

    def relation(matrix: Scores) -> Float[Tensor, "batch docs docs"]:
        differences = matrix[:, :, None] - matrix[:, None, :]
        size = differences.abs().mean((1, 2), keepdim=True)
        return differences / torch.where(size > 0, size, 1)  # equal scores have no relation

    return F.huber_loss(relation(scores), relation(targets), reduction="none").mean((1, 2))
