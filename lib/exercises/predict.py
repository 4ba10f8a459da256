"""Guesses before a figure, compared with the data after it.

A cell holds `guess = None`; a reader replaces None, runs the figure, and the next cell says how far off the guess was.
Without a guess it says what the data say, so that a notebook runs from top to bottom.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

NONE = "You made no guess: set `guess` above and run both cells again."


def number(guess: float | None, value: float, what: str, digits: int = 3) -> None:
    """Print a value, and by how much a guess of it was off; raises TypeError unless the guess is a number or None."""
    if guess is not None and (isinstance(guess, bool) or not isinstance(guess, int | float)):
        raise TypeError(f"guess={guess!r}: give a number, such as {value * 1.3:.1g}, or None")
    print(
        f"{what}: {value:.{digits}f}.", NONE if guess is None else f"You said {guess:g}, {_off(guess, value, digits)}."
    )


def order(guess: Sequence[str] | None, values: Mapping[str, float], what: str) -> None:
    """Print names from the highest value to the lowest, and how many pairs a guessed order has the other way round.

    Pairs of equal values count for neither. Raises ValueError unless the guess has every name once.
    """
    best_first = sorted(values, key=values.get, reverse=True)
    print(f"{what}, from the highest: " + ", ".join(f"{name} ({values[name]:.3f})" for name in best_first) + ".")
    if guess is None:
        print(NONE)
        return
    if isinstance(guess, str) or sorted(guess) != sorted(values):
        raise ValueError(f"guess={guess!r}: give a list of {', '.join(map(repr, sorted(values)))}, each once, or None")
    pairs = list(combinations(guess, 2))
    wrong = [f"{low} before {high}" for low, high in pairs if values[low] < values[high]]
    print(f"Of your {len(pairs)} pairs, {len(wrong)} are the other way round{': ' if wrong else ''}{', '.join(wrong)}.")


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
