"""Checks of notebook 04 on training: the loss of guessing, the step that leaves its plateau, a schedule."""

import numpy as np
import pandas as pd

from lib.exercises.examine import Exercise, Function

guessing_loss = Exercise(
    task="InfoNCE of a ranker that gives each of `docs` documents the same score.",
    praise="A loss that stays there has learned nothing.",
    cases=((2,), (4,), (9,)),
    right=lambda docs: np.log(docs),
    sizes=lambda docs: {"documents": docs},
    slips={
        "The logarithm has base 2; the loss has the natural one.": lambda docs: np.log2(docs),
        "The logarithm has base 10; the loss has the natural one.": lambda docs: np.log10(docs),
        "The sign is wrong: minus the log of a probability is above zero.": lambda docs: -np.log(docs),
        "This is the probability of the positive; the loss is minus its log.": lambda docs: 1 / docs,
        "This is the probability of a wrong guess; the loss is minus the log of that of the right one.": (
            lambda docs: 1 - 1 / docs
        ),
        "Only the negatives are counted; the positive is one of the documents.": lambda docs: np.log(docs - 1),
        "The positive is counted twice: it is one of the documents.": lambda docs: np.log(docs + 1),
        "This is minus the log of missing the positive; take that of finding it.": lambda docs: -np.log(1 - 1 / docs),
        "The logarithm is missing.": lambda docs: float(docs),
        "The loss is averaged over the documents; only the positive's term counts.": lambda docs: np.log(docs) / docs,
        "The logarithm divides 1; the loss is the logarithm itself.": lambda docs: 1 / np.log(docs),
        "This is RankNet's or a binary loss at score 0, which has no group.": lambda docs: np.log(2) + 0 * docs,
    },
)


def _losses(*parts: tuple[int, float]) -> np.ndarray:
    """Constant stretches (steps, level) with a dip that smoothing removes."""
    return np.concatenate([np.full(count, level) for count, level in parts])


CURVES = (
    (_losses((9, 1.4), (1, 0.1), (10, 1.4), (20, 0.9)), 1.4, 5),
    (
        _losses(
            (30, 1.4),
        ),
        1.4,
        5,
    ),
    (_losses((6, 1.6), (12, 1.2), (6, 1.5), (6, 1.0)), 1.5, 4),
    (
        _losses(
            (8, 1.0),
        ),
        1.4,
        3,
    ),
    (_losses((10, 1.4), (10, 1.35)), 1.4, 5),
    (_losses((8, 1.5), (12, 1.38)), 1.5, 4),  # 0.12 below, which is less than a tenth
    (_losses((4, 9.0), (16, 1.4)), 1.4, 3),  # high at first, so that zeros before it do not pull it below
)


def _left(losses: np.ndarray, guess: float, window: int, drop: float = 0.1, **more: object) -> float:
    return _first(pd.Series(losses).rolling(window, **{"min_periods": 1, **more}).mean() < guess - drop)


def _first(below: np.ndarray | pd.Series) -> float:
    return float(np.flatnonzero(below)[0]) if np.any(below) else np.nan


def _before(losses: np.ndarray, window: int) -> np.ndarray:
    """Means of the `window` losses before each step, with none for the first steps."""
    return pd.Series(losses).rolling(window).mean().shift(1)


def _convolved(losses: np.ndarray, window: int, mode: str) -> np.ndarray:
    return np.convolve(losses, np.ones(window) / window, mode)


departure = Exercise(
    task="First step (from 0) at which the mean of the last `window` losses (fewer at the start) is more than 0.1 "
    "below `guess`; NaN if there is none.",
    praise="A single low loss is no departure.",
    cases=CURVES,
    right=_left,
    slips={
        "The losses are not smoothed: a single low one counts as leaving.": lambda losses, guess, _: _left(
            losses, guess, 1
        ),
        "The drop is missing: the mean has to be more than 0.1 below guessing.": (
            lambda losses, guess, window: _left(losses, guess, window, 0.0)
        ),
        "The drop is added to the loss of guessing; it is subtracted.": (
            lambda losses, guess, window: _left(losses, guess, window, -0.1)
        ),
        "The threshold is a tenth below guessing (0.9 * guess); it is 0.1 below, guess - 0.1.": (
            lambda losses, guess, window: _left(losses, guess, window, guess / 10)
        ),
        "The window looks ahead or to both sides; it holds the last losses.": (
            lambda losses, guess, window: _left(losses, guess, window, center=True)
        ),
        "The window looks ahead, as np.convolve's 'valid' counts its steps: a mean belongs to its last step.": (
            lambda losses, guess, window: _first(_convolved(losses, window, "valid") < guess - 0.1)
        ),
        "Zeros are averaged in at both ends, with which np.convolve's 'same' fills up; average the losses there are.": (
            lambda losses, guess, window: _first(_convolved(losses, window, "same") < guess - 0.1)
        ),
        "Zeros are averaged in at both ends, with which np.convolve's 'full' fills up; average the losses there are.": (
            lambda losses, guess, window: _first(_convolved(losses, window, "full") < guess - 0.1)
        ),
        "Zeros are averaged in before the first loss; with fewer losses than the window, average those there are.": (
            lambda losses, guess, window: _first(_convolved(losses, window, "full")[: len(losses)] < guess - 0.1)
        ),
        "The mean is exponential, in which every loss so far has a part; only the last `window` count.": (
            lambda losses, guess, window: _first(pd.Series(losses).ewm(span=window).mean() < guess - 0.1)
        ),
        "The median of the window is taken; take its mean.": (
            lambda losses, guess, window: _first(
                pd.Series(losses).rolling(window, min_periods=1).median() < guess - 0.1
            )
        ),
        "The first steps have no value: with fewer losses than the window, average those there are.": (
            lambda losses, guess, window: _left(losses, guess, window, min_periods=window)
        ),
        "The last such step is returned; the first is due.": (
            lambda losses, guess, window: float(
                max(
                    np.flatnonzero(pd.Series(losses).rolling(window, min_periods=1).mean() < guess - 0.1),
                    default=np.nan,
                )
            )
        ),
        "A run that never leaves gives 0, as if it had left at once: return NaN.": (
            lambda *a: float(np.nan_to_num(_left(*a)))
        ),
        "A run that never leaves gives its last step: return NaN.": (
            lambda *a: len(a[0]) - 1.0 if np.isnan(_left(*a)) else _left(*a)
        ),
        "A run that never leaves gives its length: return NaN.": (
            lambda *a: float(len(a[0])) if np.isnan(_left(*a)) else _left(*a)
        ),
        "A run that never leaves gives -1: return NaN.": lambda *a: -1.0 if np.isnan(_left(*a)) else _left(*a),
        "The window is one too long: it holds `window` losses, that of the step among them.": (
            lambda losses, guess, window: _left(losses, guess, window + 1)
        ),
        "The first `window` steps are skipped; with fewer losses than the window, average those there are.": (
            lambda losses, guess, window: _first(_before(losses, window) < guess - 0.1)
        ),
        "Every loss of the window has to be below; their mean should.": (
            lambda losses, guess, window: _first(pd.Series(losses).rolling(window, min_periods=1).max() < guess - 0.1)
        ),
        "A mean above guessing counts too (an absolute difference); leaving means below.": (
            lambda losses, guess, window: _first(
                (pd.Series(losses).rolling(window, min_periods=1).mean() - guess).abs() > 0.1
            )
        ),
        "The mean is compared with the first loss; compare it with `guess`.": (
            lambda losses, guess, window: _left(losses, losses[0], window)
        ),
        "The threshold is a tenth of guessing (0.1 * guess); it is guess - 0.1.": (
            lambda losses, guess, window: _left(losses, guess, window, 0.9 * guess)
        ),
        "Steps are counted from 1, or the window leaves out the step's own loss; they begin at 0, and it is in.": (
            lambda *a: _left(*a) + 1
        ),
        "The number of steps below is returned; the first of them is due.": (
            lambda losses, guess, window: float(
                (pd.Series(losses).rolling(window, min_periods=1).mean() < guess - 0.1).sum()
            )
        ),
        "The comparison is the wrong way round: leaving means a loss below guessing.": (
            lambda losses, guess, window: _left(-losses, -guess, window)
        ),
        "The mean runs over all steps so far; only the last `window` count.": (
            lambda losses, guess, _: _left(losses, guess, len(losses))
        ),
    },
)


def _rates(yours: Function, steps: int) -> np.ndarray:
    return np.array([float(yours(step, steps)) for step in range(steps)])


schedule = Exercise(
    task="The factor of the learning rate at `step` (from 0) of `steps`, from 0 to 1; a schedule of your own with a"
    " warm-up and a decay.",
    praise="It starts gently, reaches the full rate and ends near zero, for 200 steps as for 400.",
    cases=((0, 100), (99, 100)),
    demands={
        "The factor leaves the range from 0 to 1.": lambda f: all(0 <= rate <= 1 for rate in _rates(f, 100)),
        "The full rate, 1, is never reached.": lambda f: _rates(f, 200).max() > 0.98,
        "The first step has more than a fifth of the full rate: that is no warm-up.": lambda f: (
            _rates(f, 200)[0] <= 0.2
        ),
        "The first step has rate 0 and teaches nothing: count it from 1.": lambda f: _rates(f, 200)[0] > 0,
        "The full rate is reached only in the second half.": lambda f: _rates(f, 200).argmax() < 100,
        "The rate does not end near zero.": lambda f: _rates(f, 200)[-1] < 0.1,
        "After the warm-up the rate rises again.": lambda f: (
            np.diff(_rates(f, 200)[_rates(f, 200).argmax() :]) <= 1e-9
        ).all(),
        "The rate jumps by more than a fifth from one step to the next.": lambda f: (
            np.abs(np.diff(_rates(f, 200))).max() < 0.2
        ),
        "The schedule does not depend on the number of steps: a longer training is cut off or never ends.": (
            lambda f: not np.allclose(_rates(f, 400)[:200], _rates(f, 200))
        ),
        "A training of a single step fails.": lambda f: 0 < _rates(f, 1)[0] <= 1,
    },
)
