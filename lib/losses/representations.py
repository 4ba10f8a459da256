"""Losses between a student's and a teacher's hidden states: one vector per pair and layer, loss(states, targets).

States are (batch, docs, layers, dim). Where the teacher has fewer layers than the student, the student's last ones are
compared with them, in order. Vectors are compared at length 1, as in PKD (Sun et al. 2019,
https://arxiv.org/abs/1908.09355): models differ in the lengths of their states, and layers too.
"""

import functools
from collections.abc import Callable

import numpy as np
import scipy.optimize
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lib.losses.signature import PerQuery

States = Float[Tensor, "batch docs layers dim"]
Targets = Float[Tensor, "batch docs teacher_layers dim"]


def state_loss(loss: Callable[..., PerQuery]) -> Callable[..., PerQuery]:
    """Make `loss` refuse states of other shapes (ValueError) and compute in float32 at least."""

    @functools.wraps(loss)
    def checked(states: Tensor, targets: Tensor, *more: Tensor, **parameters: object) -> PerQuery:
        shapes = f"{loss.__name__}: states {tuple(states.shape)} and targets {tuple(targets.shape)}"
        if not (states.ndim == targets.ndim == 4 and states.shape[:2] == targets.shape[:2]):
            raise ValueError(f"{shapes} must both be (batch, docs, layers, dim)")
        if states.shape[3] != targets.shape[3]:
            raise ValueError(f"{shapes} differ in width: give a part that projects one to the other")
        kind = torch.promote_types(states.dtype, torch.float32)
        return loss(states.to(kind), targets.to(kind), *more, **parameters)

    return checked


@state_loss
def matching(states: States, targets: Targets) -> PerQuery:
    """Squared distance of the states from the teacher's, at length 1, as the mean over documents and layers: 0 to 4.

    In PKD it is a sum over layers (cited from memory). Zero where every state points the teacher's way.
    """
    return (_unit(_last(states, targets)) - _unit(targets)).square().sum(-1).mean((1, 2))


@state_loss
def attended(
    states: States, targets: Targets, attention: Float[Tensor, "batch docs teacher_layers layers"]
) -> PerQuery:
    """Squared distances of each teacher layer from all student layers, weighted by attention: 0 to 4.

    Ji et al. 2021 (AFD), https://arxiv.org/abs/2102.02973: as in the authors' code, rows of `attention` are teacher
    layers and sum to one over the student's. There the sum over teacher layers is taken, and the mean over dimensions.
    """
    distances = (_unit(targets).unsqueeze(3) - _unit(states).unsqueeze(2)).square().sum(-1)
    return (attention * distances).sum(-1).mean((1, 2))


@state_loss
def wasserstein(states: States, targets: Targets, *, epsilon: float = 0.1, iterations: int = 50) -> PerQuery:
    """How far a batch's states must be carried to lie where the teacher's lie; the cost of a step is 1 - cosine.

    The local part of WCoRD (Chen et al. 2021, https://arxiv.org/abs/2012.08674: the primal form of the Wasserstein
    distance within a mini-batch). It compares two clouds of pairs, whichever pair is where. Instead of the plain
    entropic distance, which is not zero at equality, this is the Sinkhorn divergence OT(s, t) - OT(s, s) / 2 - OT(t, t)
    / 2 (Feydy et al. 2019, https://arxiv.org/abs/1810.08278), whose terms of each pair are the query's. `epsilon`:
    smoothing, in units of the mean cost. Layers are averaged.
    """
    own, teacher = (_unit(part).flatten(0, 1).transpose(0, 1) for part in (_last(states, targets), targets))
    scale = (epsilon * _cost(own, teacher).detach().mean((1, 2), keepdim=True)).clamp_min(1e-9)
    # All three problems at once: they are small, and there is one call of torch for each iteration.
    one, other = torch.cat([own, own, teacher]), torch.cat([teacher, own, teacher])
    f, g = (part.chunk(3) for part in potentials(one, other, scale.repeat(3, 1, 1), iterations))
    each = f[0] - f[1] + g[0] - g[2]  # (layers, pairs)
    return each.mean(0).view(states.shape[:2]).mean(1)


@state_loss
def contrast(states: States, targets: Targets, *, temperature: float = 0.07) -> PerQuery:
    """Cross-entropy of finding a pair's own teacher state among all pairs' of the batch, by dot product / temperature.

    The global part of WCoRD, in the InfoNCE form (van den Oord et al. 2018, https://arxiv.org/abs/1807.03748): the dual
    form's critic gives the dot products, here of vectors whose lengths its part bounds (`lib.models.parts.critic`).
    log(pairs) minus the loss is a lower bound on the mutual information of both. The paper takes negatives from a
    memory of the training set (cited from memory); here they are the batch's.
    """
    own, teacher = (part.flatten(0, 1).transpose(0, 1) for part in (_last(states, targets), targets))
    found = F.log_softmax(own @ teacher.transpose(1, 2) / temperature, -1)  # (layers, pairs, pairs)
    return -found.diagonal(dim1=1, dim2=2).mean(0).view(states.shape[:2]).mean(1)


def potentials(
    one: Float[Tensor, "layers rows dim"], other: Float[Tensor, "layers columns dim"],
    epsilon: Float[Tensor, "layers 1 1"], iterations: int,
) -> tuple[Float[Tensor, "layers rows"], Float[Tensor, "layers columns"]]:  # fmt: skip
    """Dual potentials of entropic transport between vectors of equal weight, by Sinkhorn's iterations in log space.

    Cuturi 2013, https://arxiv.org/abs/1306.0895. The sum of both means is the cost; the plan has the entries
    exp((f_i + g_j - cost_ij) / epsilon) / (rows * columns). Iterations keep no graph: at their end the gradient is that
    of the last step (the envelope theorem), of f towards `one` and of g towards `other`.
    """
    with torch.no_grad():
        cost = _cost(one, other)
        f, g = torch.zeros_like(cost[:, :, 0]), torch.zeros_like(cost[:, 0])
        for _ in range(iterations):
            f = _soft_minimum(cost, g, epsilon)
            g = _soft_minimum(cost.transpose(1, 2), f, epsilon)
    return (
        _soft_minimum(_cost(one, other.detach()), g, epsilon),
        _soft_minimum(_cost(other, one.detach()), f, epsilon),
    )


def permuted(targets: np.ndarray, states: np.ndarray) -> np.ndarray:
    """The teacher's states with each layer's channels in the student's order: (groups, docs, layers, dim) both, as is.

    Han et al. 2021, https://arxiv.org/abs/2103.16844: the same channel means other things in two models, so the
    teacher's are made consistent with the student before it is trained. Which channel stands for which is inferred:
    the assignment with the largest sum of correlations over all pairs. Of a wider teacher the channels that no student
    channel asks for are left out. Raises ValueError for a narrower one.
    """
    width, own = targets.shape[-1], states.shape[-1]
    if width < own:
        raise ValueError(f"a teacher of width {width} has too few channels for a student of width {own}: give another")
    layers = []
    for layer in range(targets.shape[2]):
        one, other = (_standard(part[:, :, layer]) for part in (states, targets))
        _, order = scipy.optimize.linear_sum_assignment(one.T @ other, maximize=True)
        layers.append(targets[:, :, layer, order])
    return np.stack(layers, axis=2)


def _standard(part: np.ndarray) -> np.ndarray:
    """(groups, docs, dim) -> (pairs, dim) float32 with mean 0 and length 1 in every channel."""
    rows = part.reshape(-1, part.shape[-1]).astype(np.float32)
    rows -= rows.mean(0)
    lengths = np.linalg.norm(rows, axis=0)
    return rows / np.where(lengths > 0, lengths, 1)


def _last(states: States, targets: Targets) -> Tensor:
    own, teachers = states.shape[2], targets.shape[2]
    if teachers > own:
        fix = "name fewer of the teacher's `layers`, at most one for each of the student's"
        raise ValueError(f"{teachers} layers of a teacher, and the student has {own}: {fix}")
    return states[:, :, own - teachers :]


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors, dim=-1)


def _cost(one: Tensor, other: Tensor) -> Tensor:
    return 1 - one @ other.transpose(1, 2)


def _soft_minimum(cost: Tensor, potential: Tensor, epsilon: Tensor) -> Tensor:
    """(layers, rows, columns) and (layers, columns) -> (layers, rows)."""
    mean = torch.logsumexp((potential.unsqueeze(1) - cost) / epsilon, -1) - np.log(cost.shape[2])
    return -epsilon[:, 0] * mean
