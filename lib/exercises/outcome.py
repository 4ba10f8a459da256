"""What a function does with some arguments: its value, its gradients, its error, and whether they were left alone."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

TOLERANCE = {"rtol": 1e-5, "atol": 1e-8, "equal_nan": True}  # float32 on the way is no error


@dataclass(frozen=True)
class Outcome:
    """Of one call."""

    value: object = None  # an array where it is numbers
    gradients: tuple[np.ndarray, ...] = ()  # of the value's sum, one per argument that counts; zeros where none arrives
    error: Exception | None = None
    changed: bool = False  # whether an argument was changed in place


def of(function: Callable, arguments: tuple, gradients: tuple[int, ...] = ()) -> Outcome:
    """Call a function on copies of the arguments, and take the gradients of those with these numbers."""
    copies = [_copy(one, place in gradients) for place, one in enumerate(arguments)]
    passed = [one.clone() if place in gradients else one for place, one in enumerate(copies)]  # may be changed in place
    try:
        # A wrong function may divide by zero; what comes of it is reported, so its warnings would say it twice.
        with torch.enable_grad(), warnings.catch_warnings(action="ignore"):
            value = function(*passed)
            found = _gradients(value, [copies[place] for place in gradients])
    except Exception as error:  # whatever a learner's function raises becomes a sentence
        return Outcome(error=error)
    changed = not all(_equal(one, before) for one, before in zip(passed, arguments, strict=True))
    return Outcome(numbers(value), found, changed=changed)


def same_value(one: Outcome, other: Outcome) -> bool:
    """Whether two calls gave equal values, or errors of one type."""
    if one.error is not None or other.error is not None:
        return type(one.error) is type(other.error)
    if one.changed or not isinstance(one.value, np.ndarray) or not isinstance(other.value, np.ndarray):
        return not one.changed and type(one.value) is type(other.value) and bool(np.all(one.value == other.value))
    return one.value.shape == other.value.shape and np.allclose(one.value, other.value, **TOLERANCE)


def same(one: Outcome, other: Outcome) -> bool:
    """Whether two calls gave equal values and gradients."""
    return same_value(one, other) and all(
        np.allclose(mine, theirs, **TOLERANCE) for mine, theirs in zip(one.gradients, other.gradients, strict=True)
    )


def numbers(value: object) -> object:
    """Numbers, tensors, tables and lists of numbers as a float array; anything else as it is."""
    if isinstance(value, Tensor):
        return value.detach().to(torch.float64).numpy()
    if isinstance(value, str | bytes | set | dict | None) or type(value).__module__ == "torch.return_types":
        return value
    try:
        return np.asarray(value.to_numpy() if isinstance(value, pd.Series | pd.DataFrame) else value, dtype=float)
    except (TypeError, ValueError):
        return value


def ratio(one: np.ndarray, other: np.ndarray) -> float | None:
    """By which factor one array is the other, if by any."""
    one, other = np.ravel(one), np.ravel(other)
    counts = np.isfinite(other) & (np.abs(other) > 1e-9)
    if not counts.any() or not np.allclose(one[~counts], other[~counts], **TOLERANCE):
        return None
    ratios = one[counts] / other[counts]
    return float(ratios[0]) if np.allclose(ratios, ratios[0], rtol=1e-4) else None


def shown(value: object) -> str:
    """Arguments or a value in a few characters."""
    if isinstance(value, tuple):
        return ", ".join(map(shown, value))
    if isinstance(value, pd.DataFrame):
        return f"the table {value.to_dict('list')}"
    if isinstance(value, Tensor | np.ndarray):
        return str(
            np.round(np.asarray(value.detach() if isinstance(value, Tensor) else value, dtype=float), 4).tolist()
        )
    return repr(value)


def _copy(one: object, needs_gradient: bool) -> object:
    if isinstance(one, Tensor):
        return one.detach().clone().requires_grad_(needs_gradient)
    return one.copy() if hasattr(one, "copy") else one


def _equal(one: object, before: object) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, before)
    if isinstance(one, pd.DataFrame):
        return one.equals(before)
    return np.array_equal(one, before) if isinstance(one, np.ndarray) else one == before


def _gradients(value: object, leaves: list[Tensor]) -> tuple[np.ndarray, ...]:
    zeros = [torch.zeros_like(leaf) for leaf in leaves]
    if not leaves or not isinstance(value, Tensor) or not value.requires_grad:
        return tuple(zero.numpy() for zero in zeros)
    found = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
    return tuple((zero if one is None else one).detach().numpy() for one, zero in zip(found, zeros, strict=True))
