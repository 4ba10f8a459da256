"""What minimises a loss: gradient descent on the scores themselves, with no model in between."""

from collections.abc import Callable

import torch
from torch import Tensor


def descend(
    loss: Callable[[Tensor, Tensor], Tensor], scores: Tensor, targets: Tensor, *, steps: int = 1000, rate: float = 0.05
) -> Tensor:
    """Scores (batch, docs) after `steps` of Adam from `scores`, on the sum of the loss over queries."""
    free = scores.detach().clone().requires_grad_()
    search = torch.optim.Adam([free], lr=rate)
    for _ in range(steps):
        search.zero_grad()
        loss(free, targets).sum().backward()
        search.step()
    return free.detach()
