"""What every loss shares: the check of its two matrices, and float32 at least."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor


def ranking_loss(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Make `loss` compute in float32 at least, with targets of the scores' type, and refuse other shapes.

    bfloat16 and float16 inputs are widened first, so the result drifts only by what rounding the inputs costs.

    Raises:
        ValueError: scores and targets are not two (batch, docs) matrices of one shape.
    """

    @functools.wraps(loss)
    def checked(scores: Tensor, targets: Tensor, **parameters: object) -> Tensor:
        if scores.ndim != 2 or scores.shape != targets.shape:
            raise ValueError(
                f"{loss.__name__}: scores {tuple(scores.shape)} and targets {tuple(targets.shape)} "
                "must both be (batch, docs)"
            )
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        return loss(scores, targets.to(scores.dtype), **parameters)

    return checked
