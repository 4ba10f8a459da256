"""Listwise losses from labels: the whole group of a query at once."""

import torch
from torch import Tensor


def info_nce(scores: Tensor, targets: Tensor, *, temperature: float = 1.0) -> Tensor:
    """InfoNCE: minus the log of the softmax mass on the positives (targets above 0).

    van den Oord et al. 2018, https://arxiv.org/abs/1807.03748; over a query's own hard negatives it is localised
    contrastive estimation (Gao et al. 2021, https://arxiv.org/abs/2101.08751). Several positives share the mass:
    it does not matter which of them holds it. scores, targets: (batch, docs) -> (batch,). Shift invariant.
    A query without a positive is an error of the data and gives infinity.
    """
    scores = scores / temperature
    positives = scores.masked_fill(targets <= 0, -torch.inf)
    return torch.logsumexp(scores, -1) - torch.logsumexp(positives, -1)
