"""Checks of the literals that experiments are made of: a ValueError names the field, its value and what to give."""

import math

import numpy as np


def check_whole(settings: object, *names: str, least: int = 1, none: bool = False) -> None:
    """Refuse fields that are no whole numbers of at least `least`; with `none`, None is allowed."""
    for name in names:
        value = getattr(settings, name)
        if not (none and value is None) and (type(value) is not int or not least <= value < 2**63):
            _refuse(name, value, f"a whole number of at least {least}{' or None' * none}, below 2**63")


def check_number(settings: object, *names: str, above: float | None = None, below: float = math.inf) -> None:
    """Refuse fields that are no finite numbers of at least 0 and below `below`, or above `above` where it is given."""
    for name in names:
        value = getattr(settings, name)
        sound = type(value) in (int, float) and math.isfinite(value) and value < below
        if not sound or not (value >= 0 if above is None else value > above):
            low = "of at least 0" if above is None else f"above {above}"
            _refuse(name, value, f"a finite number {low}" + (f" and below {below}" if below < math.inf else ""))


def check_name(settings: object, *names: str) -> None:
    """Refuse fields that are no text, or an empty one."""
    for name in names:
        if not isinstance(getattr(settings, name), str) or not getattr(settings, name):
            raise ValueError(f"{name}={getattr(settings, name)!r}: give a name")


def is_literal(value: object) -> bool:
    """Whether a value is a number, a text, a truth value, None, or a tuple of these, none of them numpy's."""
    if type(value) is tuple:
        return all(map(is_literal, value))
    return value is None or type(value) in (bool, int, float, str)


def _refuse(name: str, value: object, give: str) -> None:
    if isinstance(value, np.generic):
        give = f"a number of Python instead of numpy: {name}={value.item()!r}"
    raise ValueError(f"{name}={value!r}: give {give}")
