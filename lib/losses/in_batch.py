"""In-batch negatives: other queries' documents as columns, so that every loss works on them as it is."""

import torch
from torch import Tensor


def in_batch(positives: Tensor, negatives: Tensor) -> Tensor:
    """Columns of the in-batch losses: own positive, the other queries' positives, the other queries' negatives.

    positives, negatives: (batch, batch), row i the query, column j the positive or negative of query j ->
    (batch, 2 * batch - 1). On such a matrix of the student's and one of the teacher's scores `margin_mse` is the
    in-batch half of TAS-B's dual supervision (Hofstaetter et al. 2021, https://arxiv.org/abs/2104.06967, equation 6;
    the other half is `margin_mse` on each query's own pair), and `info_nce` with column 0 as the label is the loss with
    in-batch negatives.
    """
    batch = len(positives)
    other = ~torch.eye(batch, dtype=torch.bool, device=positives.device)
    others = [matrix[other].view(batch, batch - 1) for matrix in (positives, negatives)]
    return torch.cat([positives.diagonal().unsqueeze(1), *others], dim=1)
