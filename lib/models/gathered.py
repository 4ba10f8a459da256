"""The rows of a batch that the processes of one launch share, joined again."""

import accelerate
import torch
from torch import Tensor

from lib.machine import processes


def gathered(values: Tensor, width: int | None = None) -> Tensor:
    """The rows of all processes, (processes * rows, ...), in the order of the processes; alone, the values themselves.

    All processes have to call this, with equally many rows. `width` is an axis along which they may differ in size: all
    are filled up with zeros. Gradients flow back to the process that a row came from: the sum over what all processes
    compute from it. So where each takes the loss of the whole batch, the mean of their gradients, which
    DistributedDataParallel takes, is the gradient of that loss.
    """
    if processes.count() == 1:
        return values
    if width is not None:
        numbers = values.byte() if values.dtype == torch.bool else values  # padding would make a mask's type another
        values = accelerate.utils.pad_across_processes(numbers, dim=width).to(values.dtype)
    return _Gather.apply(values) if values.is_floating_point() else accelerate.utils.gather(values)


class _Gather(torch.autograd.Function):
    """As `torch.distributed.nn.functional.all_gather`, which is deprecated."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, values: Tensor) -> Tensor:
        ctx.rows = len(values)
        return accelerate.utils.gather(values)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        first = ctx.rows * accelerate.PartialState().process_index
        return accelerate.utils.reduce(gradient.contiguous(), "sum")[first : first + ctx.rows]
