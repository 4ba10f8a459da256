"""Pointwise losses: every document by itself. The mean is over documents, and neither loss is shift invariant."""

import torch.nn.functional as F

from lib.losses.signature import PerQuery, Scores, ranking_loss


@ranking_loss
def bce(scores: Scores, targets: Scores) -> PerQuery:
    """Binary cross-entropy of sigmoid(score) against a target in [0, 1]; smallest at score = logit(target).

    monoBERT's training loss (Nogueira and Cho 2019, https://arxiv.org/abs/1901.04085); not shift invariant. Grades
    above 1 are no probabilities: map them into [0, 1] first.
    """
    return F.binary_cross_entropy_with_logits(scores, targets, reduction="none").mean(-1)


@ranking_loss
def mse(scores: Scores, targets: Scores) -> PerQuery:
    """Squared error to the teacher's raw score (2010.02666: "pointwise MSE", whose code halves the sum over a pair).

    Zero only at scores = targets, so not shift invariant: the student must copy the teacher's scale and offset, where
    Margin-MSE leaves the offset free.
    """
    return (scores - targets).square().mean(-1)
