"""What every loss shares: the shapes of its matrices, and their check."""

import functools
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Scores = Float[Tensor, "batch docs"]  # the student's scores, or targets: labels, grades or a teacher's scores
PerQuery = Float[Tensor, " batch"]
Loss = Callable[[Scores, Scores], PerQuery]


def ranking_loss(loss: Loss) -> Loss:
    """Make `loss` refuse matrices of other shapes (ValueError) and compute in float32 at least."""

    @functools.wraps(loss)
    def checked(scores: Tensor, targets: Tensor, **parameters: object) -> PerQuery:
        if scores.ndim != 2 or scores.shape != targets.shape:
            shapes = f"scores {tuple(scores.shape)} and targets {tuple(targets.shape)}"
            raise ValueError(f"{loss.__name__}: {shapes} must both be (batch, docs)")
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        return loss(scores, targets.to(scores.dtype), **parameters)

    return checked
