"""Large batches in little memory: a loss that compares the whole batch, with the activations of one part at a time."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
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
    every part again and send its share of that gradient back. One more forward pass buys memory for one part only. The
    gradients are those of the uncached step, dropout too: each part sees the same random numbers twice.

    `encode` turns a part into tensors (rows, ...), each joined over the parts along its first axis; `loss` takes them
    in that order and returns a scalar. `backward` is called once a part, so a pass that scales its gradient
    (Accelerate's `accelerator.backward`) scales it once. Parameters of `loss` itself get no gradient, and what a module
    counts as it runs (a batch norm's statistics, `lib.models.momentum`) counts twice: keep both out.

    Raises:
        ValueError: there are no parts.
    """
    if not parts:
        raise ValueError("parts is empty: there is nothing to encode")
    states, encoded = [], []
    with torch.no_grad():
        for part in parts:
            states.append(_random_state())
            encoded.append(encode(part))
    torch.clear_autocast_cache()  # older torch keeps weights that were cast without a graph, and these learn nothing
    value, gradients = _at_the_vectors(loss, encoded)
    for part, state, shares in zip(parts, states, gradients, strict=True):
        with _replayed(state):
            vectors = encode(part)
        # Its gradient at the vectors is the loss's own, whatever its value.
        backward(sum((vector * share).sum() for vector, share in zip(vectors, shares, strict=True)))
    return value


def _at_the_vectors(
    loss: Callable[..., Tensor], encoded: list[tuple[Tensor, ...]]
) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
    """The loss, and its gradient at every part's vectors, parted as these are."""
    kinds = list(zip(*encoded, strict=True))  # all parts' queries, all parts' documents, ...
    joined = [torch.cat(vectors).requires_grad_() for vectors in kinds]
    value = loss(*joined)
    gradients = torch.autograd.grad(value, joined, allow_unused=True, materialize_grads=True)
    split = [
        gradient.split([len(vector) for vector in vectors]) for gradient, vectors in zip(gradients, kinds, strict=True)
    ]
    return value.detach(), list(zip(*split, strict=True))


def _random_state() -> tuple[Tensor, list[Tensor]]:
    """The random state of the processor and of every CUDA device in use."""
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


@contextlib.contextmanager
def _replayed(state: tuple[Tensor, list[Tensor]]) -> Iterator[None]:
    """A block that draws the random numbers that followed `state`; the stream then goes on as if it had not run."""
    processor, devices = state
    with torch.random.fork_rng(devices=range(len(devices))):
        torch.set_rng_state(processor)
        torch.cuda.set_rng_state_all(devices)
        yield
