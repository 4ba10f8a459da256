"""Merging: one model's weights out of several models' of the same shape, without any training.

Every function takes state dicts of equal names and shapes and gives another; what is no float is the first model's.
A task vector is what training changed: a model's weights minus those of the base from which all were trained.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

State = dict[str, Tensor]
PARALLEL = 0.9995  # cosine from which on SLERP is linear: the sine of the angle, by which it divides, is nearly 0


def linear(states: Sequence[State], weights: Sequence[float]) -> State:
    """The weighted sum of the models; with weights that sum to one a model soup.

    Wortsman et al. 2022, https://arxiv.org/abs/2203.05482 (there with equal weights).
    """
    return _by_name(states, lambda values: _sum(values, weights))


def slerp(states: Sequence[State], weights: Sequence[float]) -> State:
    """Spherical interpolation of two models, tensor by tensor: along the arc, where `linear` takes the chord.

    Shoemake 1985, https://doi.org/10.1145/325334.325242. Between tensors of equal norm the norm stays, which the chord
    makes shorter. Nearly parallel tensors (`PARALLEL`) and zeros are interpolated linearly, as in mergekit.
    """

    def between(values: list[Tensor]) -> Tensor:
        one, two = (value.flatten().double() for value in values)
        cosine = (one @ two / (one.norm() * two.norm())).item() if one.any() and two.any() else 1.0
        if abs(cosine) > PARALLEL:
            return _sum(values, weights)
        angle = math.acos(cosine)
        shares = [math.sin(weight * angle) / math.sin(angle) for weight in weights]
        return _sum([one, two], shares).view(values[0].shape)

    return _by_name(states, between)


def task_arithmetic(states: Sequence[State], base: State, weights: Sequence[float], scale: float) -> State:
    """The base plus `scale` times the weighted sum of the task vectors.

    Ilharco et al. 2023, https://arxiv.org/abs/2212.04089. With weights that sum to one and scale 1 it is `linear`; a
    weight below 0 takes a task away.
    """
    return _add(base, _tasks(states, base), lambda values: _sum(values, weights), scale)


def ties(states: Sequence[State], base: State, density: float, scale: float) -> State:
    """TIES: trim each task vector to its largest changes, elect a sign for every weight, average the changes of it.

    Yadav et al. 2023, https://arxiv.org/abs/2306.01708. `density` is the share of a task's changes that is kept, over
    all tensors. The sign of a weight is that of the sum of its kept changes; `scale` multiplies the mean.
    """

    def disjoint_mean(values: list[Tensor]) -> Tensor:
        changes = torch.stack(values)
        agree = (changes.sign() == changes.sum(0).sign()) & (changes != 0)
        return (changes * agree).sum(0) / agree.sum(0).clamp(min=1)

    trimmed = [_trimmed(task, density) for task in _tasks(states, base)]
    return _add(base, trimmed, disjoint_mean, scale)


def dare(
    states: Sequence[State], base: State, weights: Sequence[float], density: float, scale: float, seed: int
) -> State:
    """DARE: keep each change with probability `density`, divide it by that, and go on as `task_arithmetic`.

    Yu et al. 2024, https://arxiv.org/abs/2311.03099 (its drop rate is 1 - density). In the mean over draws it is task
    arithmetic itself.
    """
    draw = torch.Generator().manual_seed(seed)

    def thinned(task: State) -> State:
        kept = {name: torch.rand(value.shape, generator=draw) < density for name, value in task.items()}
        return {name: value * kept[name] / density for name, value in task.items()}

    tasks = [thinned(task) for task in _tasks(states, base)]
    return _add(base, tasks, lambda values: _sum(values, weights), scale)


def _sum(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    return sum(value * weight for value, weight in zip(values, weights, strict=True))


def _by_name(states: Sequence[State], merge: Callable[[list[Tensor]], Tensor]) -> State:
    """What `merge` makes of every float tensor, in the first model's type."""
    return {
        name: merge([state[name] for state in states]).to(first.dtype) if first.is_floating_point() else first.clone()
        for name, first in states[0].items()
    }


def _tasks(states: Sequence[State], base: State) -> list[State]:
    names = [name for name, value in base.items() if value.is_floating_point()]
    return [{name: state[name] - base[name] for name in names} for state in states]


def _add(base: State, tasks: list[State], merge: Callable[[list[Tensor]], Tensor], scale: float) -> State:
    """The base plus `scale` times what `merge` makes of the changes of every tensor."""
    changed = _by_name(tasks, merge)
    return {name: value + scale * changed[name] if name in changed else value.clone() for name, value in base.items()}


def _trimmed(task: State, density: float) -> State:
    """A task vector whose smallest changes, of all tensors together, are 0: of what changed, a share is kept."""
    sizes = torch.cat([value.abs().flatten() for value in task.values()])
    sizes = sizes[sizes > 0]  # a table that was not trained would count as trimmed
    if not len(sizes):
        return task
    least = sizes.kthvalue(len(sizes) - max(1, round(density * len(sizes))) + 1).values
    return {name: torch.where(value.abs() >= least, value, 0) for name, value in task.items()}
