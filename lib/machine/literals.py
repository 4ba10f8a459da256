"""Checks of the literals that experiments are made of: each names the field, its value and what to give instead."""

import math


def check_whole(settings: object, *names: str, least: int = 1, none: bool = False) -> None:
    """Refuse fields that are no whole numbers of at least `least`; with `none`, None is allowed.

    Raises:
        ValueError: it names the field.
    """
    for name in names:
        value = getattr(settings, name)
        if not (none and value is None) and (type(value) is not int or value < least):
            raise ValueError(f"{name}={value!r}: give a whole number of at least {least}{' or None' * none}")


def check_number(settings: object, *names: str, above: float | None = None, below: float = math.inf) -> None:
    """Refuse fields that are no finite numbers of at least 0 and below `below`, or above `above` where it is given.

    Raises:
        ValueError: it names the field.
    """
    for name in names:
        value = getattr(settings, name)
        sound = type(value) in (int, float) and math.isfinite(value) and value < below
        if not sound or not (value >= 0 if above is None else value > above):
            low = "of at least 0" if above is None else f"above {above}"
            high = f" and below {below}" if below < math.inf else ""
            raise ValueError(f"{name}={value!r}: give a finite number {low}{high}")


def check_name(settings: object, *names: str) -> None:
    """Refuse fields that are no text, or an empty one.

    Raises:
        ValueError: it names the field.
    """
    for name in names:
        if not isinstance(getattr(settings, name), str) or not getattr(settings, name):
            raise ValueError(f"{name}={getattr(settings, name)!r}: give a name")
