"""Functions with values for their keyword parameters, which compare and hash by value: losses and margins as data."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType, UnionType
from typing import Union, get_args, get_origin

from lib.machine.literals import is_literal


@dataclass(frozen=True)
class Bound:
    """A function with values for its keyword parameters: a `functools.partial` that compares by value."""

    function: Callable
    values: tuple[tuple[str, object], ...]

    def __call__(self, *arguments: object) -> object:
        """Call the function with these values."""
        return self.function(*arguments, **dict(self.values))


def bind(function: Callable, **values: object) -> Callable:
    """The function with other values for some of its keyword parameters; ValueError if one cannot be."""
    inner = inner_function(function)
    for name, value in values.items():
        _check_value(inner, name, value)
    bound = {**dict(getattr(function, "values", ())), **values}
    return Bound(inner, tuple(sorted(bound.items()))) if bound else function


def parameters(function: Callable) -> dict[str, object]:
    """The keyword-only parameters of a loss or of a function of similarities: name -> value."""
    signature = inspect.signature(inner_function(function)).parameters
    own = {name: one.default for name, one in signature.items() if one.kind is one.KEYWORD_ONLY}
    return own | dict(getattr(function, "values", ()))


def inner_function(function: Callable) -> FunctionType:
    """A function without its bound values; ValueError for other callables, whose content could not be compared."""
    inner = function.function if isinstance(function, Bound) else function
    if not isinstance(inner, FunctionType):
        fix = "give a function, written with def, or bind(function, name=value)"
        raise ValueError(f"{inner!r} is a {type(inner).__name__}: {fix}")
    return inner


_POSITIVE = (lambda value: value > 0, "a finite number above 0")
_NOT_NEGATIVE = (lambda value: value >= 0, "a finite number of at least 0")
_COUNT = (lambda value: value >= 1, "a whole number of at least 1")
_LIMITS: dict[str, tuple[Callable[[float], bool], str]] = {
    "temperature": _POSITIVE, "target_temperature": _POSITIVE, "sigma": _POSITIVE, "epsilon": _POSITIVE,
    "beta": _POSITIVE, "mu": _NOT_NEGATIVE, "odds_weight": _NOT_NEGATIVE,
    "cutoff": _COUNT, "size": _COUNT, "iterations": _COUNT,
    "share": (lambda value: 0 < value <= 1, "a share above 0 and at most 1"),
    "threshold": (lambda value: -1 <= value <= 1, "a cosine, -1 to 1"),
}  # fmt: skip


def _check_value(function: FunctionType, name: str, value: object) -> None:
    signature = inspect.signature(function).parameters
    if name not in (own := parameters(function)):
        known = ", ".join(sorted(own)) or "none"
        place = "; write it after a * in the definition" if name in signature else ""
        raise ValueError(f"{function.__name__}: no keyword-only parameter {name!r}; it has {known}{place}")
    annotation = signature[name].annotation
    types = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    fits = type(value) in types or (type(value) is int and float in types)
    checkable = annotation is not inspect.Parameter.empty and all(type(one) is type for one in types)
    if (checkable and not fits) or not (is_literal(value) or isinstance(value, FunctionType | Bound)):
        wanted = " or ".join(one.__name__ for one in types if checkable) or "a number, a text, None or a tuple of these"
        raise ValueError(f"{function.__name__}: {name}={value!r} has the wrong type; give {wanted}")
    possible, description = _LIMITS.get(name, (lambda _: True, "a finite number"))
    if type(value) in (int, float) and not (math.isfinite(value) and possible(value)):
        raise ValueError(f"{function.__name__}: {name}={value!r} is impossible; give {description}")
