"""Large batches in little memory: a loss that compares the whole batch, with the activations of one part at a time."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

Part = TypeVar("Part")


def cached_backward(
    encode: Callable[[Part], tuple[Tensor, ...]], parts: Sequence[Part], loss: Callable[..., Tensor],
    backward: Callable[[Tensor], None] = Tensor.backward,
) -> Tensor:  # fmt: skip
    """Gradients of a loss over one large batch, which is encoded part by part; returns the loss, detached.

    Gao et al. 2021 (GradCache), https://arxiv.org/abs/2101.06983. In-batch negatives need all vectors at once, not all
    activations: (1) encode every part without a graph, (2) take the loss and its gradient at the vectors, (3) encode
    every part again and send its share of that gradient back. The gradients are those of the uncached step, dropout
    too: each part sees the same random numbers twice.

    `encode` turns a part into tensors (rows, ...), each joined over the parts along its first axis; `loss` takes them
    in that order and returns a scalar. `backward` is called once a part. Parameters of `loss` itself get no gradient,
    and what a module counts as it runs (a batch norm's statistics, `lib.models.momentum`) counts twice.
    """
    states, encoded = [], []
    with torch.no_grad():
        for part in parts:
            devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
            states.append((torch.get_rng_state(), devices))
            encoded.append(encode(part))
    torch.clear_autocast_cache()  # older torch keeps weights that were cast without a graph, and these learn nothing
    kinds = list(zip(*encoded, strict=True))  # all parts' queries, all parts' documents, ...
    joined = [torch.cat(vectors).requires_grad_() for vectors in kinds]
    value = loss(*joined)
    gradients = torch.autograd.grad(value, joined, allow_unused=True, materialize_grads=True)
    shares = [gradient.split(list(map(len, vectors))) for gradient, vectors in zip(gradients, kinds, strict=True)]
    for part, (processor, devices), *own in zip(parts, states, *shares, strict=True):
        # The random numbers of the first pass again; then the stream goes on as if there had been one pass.
        with torch.random.fork_rng(devices=range(len(devices))):
            torch.set_rng_state(processor)
            torch.cuda.set_rng_state_all(devices)
            vectors = encode(part)
        # Its gradient at the vectors is the loss's own, whatever its value.
        backward(sum((vector * share).sum() for vector, share in zip(vectors, own, strict=True)))
    return value.detach()
