"""Pointwise losses: every document by itself."""

import torch.nn.functional as F
from torch import Tensor

from lib.losses.signature import ranking_loss


@ranking_loss
def bce(scores: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of sigmoid(score) against a target in [0, 1], mean over documents.

    monoBERT's training loss (Nogueira and Cho 2019, https://arxiv.org/abs/1901.04085).
    scores, targets: (batch, docs) -> (batch,). Least at score = logit(target); not shift invariant. Grades above 1 are
    no probabilities: turn them into targets in [0, 1] first.
    """
    return F.binary_cross_entropy_with_logits(scores, targets, reduction="none").mean(-1)


@ranking_loss
def mse(scores: Tensor, targets: Tensor) -> Tensor:
    """Squared error to the teacher's raw score, mean over documents (2010.02666: "pointwise MSE").

    scores, targets: (batch, docs) -> (batch,). Zero only at scores = targets, so it is not shift invariant: the student
    must copy the teacher's scale and offset, of which Margin-MSE leaves out the offset. The authors' code halves the
    sum over a pair, which is this mean.
    """
    return (scores - targets).square().mean(-1)
