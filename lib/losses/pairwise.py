"""Pairwise losses: documents of one query, two at a time."""

import torch
import torch.nn.functional as F
from torch import Tensor


def ranknet(scores: Tensor, targets: Tensor) -> Tensor:
    """RankNet: log(1 + exp(-(s_i - s_j))), mean over the pairs whose targets say i before j.

    Burges et al. 2005, https://doi.org/10.1145/1102351.1102363. Targets may be labels or a teacher's scores: only
    their order is used. scores, targets: (batch, docs) -> (batch,); 0 where all targets tie. Shift invariant.
    """
    before = (targets.unsqueeze(-1) > targets.unsqueeze(-2)).to(scores.dtype)  # (batch, i, j)
    margins = scores.unsqueeze(-1) - scores.unsqueeze(-2)  # (batch, i, j)
    return (F.softplus(-margins) * before).sum((-1, -2)) / before.sum((-1, -2)).clamp(min=1)


def margin_mse(scores: Tensor, targets: Tensor) -> Tensor:
    """Margin-MSE: squared difference of the student's and the teacher's margin, mean over the negatives.

    Hofstaetter et al. 2020, https://arxiv.org/abs/2010.02666. The margin of document j is score 0 - score j, with
    the positive in column 0. scores, targets: (batch, docs) -> (batch,). Shift invariant on both sides, not scale
    invariant. Zero where all margins agree.
    """
    margins = scores[..., :1] - scores[..., 1:]
    wanted = targets[..., :1] - targets[..., 1:]
    return torch.square(margins - wanted).mean(-1)
