"""Guesses before a figure, compared with the data after it.

A cell holds `guess = None`; a reader replaces None, runs the figure, and the next cell says how far off the guess was.
Without a guess it says what the data say, so that a notebook runs from top to bottom.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

NONE = "No guess was made: to compare yours, set `guess` above and run both cells again."


def number(guess: float | None, value: float, what: str, digits: int = 3) -> None:
    """Print a value, and by how much a guess of it was off; NaN, which this run cannot say, is compared with no guess.

    Raises TypeError unless the guess is a finite number or None.
    """
    kind = isinstance(guess, int | float) and not isinstance(guess, bool)
    if guess is not None and not (kind and math.isfinite(guess)):
        raise TypeError(f"guess={guess!r}: give a number, such as 0.5, or None")
    if math.isnan(value):
        print(f"{what}: no value in this run, which is too short for it.")
        return
    print(
        f"{what}: {value:.{digits}f}.", NONE if guess is None else f"You said {guess:g}, {_off(guess, value, digits)}."
    )


def order(guess: Sequence[str] | None, values: Mapping[str, float], what: str) -> None:
    """Print names from the highest value to the lowest, and how many pairs a guess has in the wrong order.

    Pairs of equal values are in neither order, and NaN is left out. Raises ValueError unless the guess has every name
    once.
    """
    known = {name: value for name, value in values.items() if not math.isnan(value)}
    best_first = sorted(known, key=known.get, reverse=True)
    print(f"{what}, from the highest: " + ", ".join(f"{name} ({known[name]:.3f})" for name in best_first) + ".")
    if guess is None:
        print(NONE)
        return
    if isinstance(guess, str) or sorted(guess) != sorted(values):
        raise ValueError(f"guess={guess!r}: give a list of {', '.join(map(repr, sorted(values)))}, each once, or None")
    pairs = list(combinations([name for name in guess if name in known], 2))
    wrong = [f"{low} before {high}" for low, high in pairs if known[low] < known[high]]
    which = f" ({', '.join(wrong)})" if wrong else ""
    print(f"You said {', '.join(guess)}. Pairs in the wrong order: {len(wrong)} of {len(pairs)}{which}.")


def choice(guess: str | None, right: str, options: Sequence[str], what: str) -> None:
    """Print which of some options is right, and whether it was guessed; raises ValueError for another guess."""
    if guess is not None and guess not in options:
        raise ValueError(f"guess={guess!r}: give one of {', '.join(map(repr, options))}, or None")
    print(f"{what}: {right}.", NONE if guess is None else "As you said." if guess == right else f"You said {guess}.")


def _off(guess: float, value: float, digits: int) -> str:
    distance = abs(guess - value)
    if round(distance, digits) == 0:
        return "which is right"
    share = f" ({distance / abs(value):.0%} of it)" if value else ""
    return f"too {'high' if guess > value else 'low'} by {distance:.{digits}f}{share}"
