"""Checks of notebook 12: a verdict from two intervals, Holm's procedure step by step, a plan for another evening."""

from collections.abc import Callable

import numpy as np

from lib.exercises.examine import Exercise, Function

# low, high: the 95 % interval of a difference; low_90, high_90; within
INTERVALS = (
    (0.02, 0.06, 0.023, 0.057, 0.01), (-0.06, -0.02, -0.057, -0.023, 0.01), (-0.004, 0.006, -0.003, 0.005, 0.01),
    (-0.03, 0.05, -0.024, 0.044, 0.01), (-0.008, 0.0105, -0.0065, 0.009, 0.01), (0.001, 0.007, 0.0015, 0.0065, 0.01),
    (-0.008, -0.002, -0.0075, -0.0025, 0.01), (-0.001, 0.03, 0.002, 0.027, 0.01), (-0.03, 0.001, -0.027, -0.002, 0.01),
    (0.004, 0.03, 0.006, 0.028, 0.01), (-0.05, 0.004, -0.046, 0.002, 0.01), (-0.004, 0.05, -0.002, 0.046, 0.01),
    (-0.02, 0.022, -0.017, 0.019, 0.01), (-0.02, 0.022, -0.017, 0.019, 0.05),
    (-0.008, 0.008, -0.007, 0.007, 0.01),
)  # fmt: skip
WORDS = ("better", "worse", "equivalent", "not resolvable")


def _side(low: float, high: float) -> str | None:
    return "better" if low > 0 else "worse" if high < 0 else None


def _close(is_close: bool) -> str:
    return "equivalent" if is_close else "not resolvable"


def _verdict(low: float, high: float, low_90: float, high_90: float, within: float) -> str:
    return _side(low, high) or _close(-within < low_90 and high_90 < within)


verdict = Exercise(
    task="The word for a difference: better or worse if its 95 % interval lies above or below zero; else equivalent "
    "if its 90 % interval lies between -within and within; else not resolvable.",
    praise="What is not significant is not therefore equal: only an interval inside the bound says so.",
    cases=INTERVALS,
    right=_verdict,
    returns="one of the words " + ", ".join(map(repr, WORDS)),
    slips={
        "An interval that contains zero is taken for equality: equivalent needs the 90 % interval within the bound.": (
            lambda low, high, *_: _side(low, high) or "equivalent"
        ),
        "Nothing is ever equivalent here: a 90 % interval within the bound shows that the difference is small.": (
            lambda low, high, *_: _side(low, high) or "not resolvable"
        ),
        "The 95 % interval is held against the bound; two one-sided tests at 5 % are the 90 % interval.": (
            lambda low, high, _l, _h, within: _side(low, high) or _close(-within < low and high < within)
        ),
        "Better and worse are read from the 90 % interval; a two-sided test at 5 % is the 95 % interval.": (
            lambda low, high, low_90, high_90, within: _verdict(low_90, high_90, low_90, high_90, within)
        ),
        "Equivalence comes first here: a difference that is surely not zero is better or worse, however small.": (
            lambda low, high, *rest: (
                "equivalent" if -rest[2] < rest[0] and rest[1] < rest[2] else _verdict(low, high, *rest)
            )
        ),
        "Only the upper end is held against the bound; both ends have to be within it.": (
            lambda low, high, _, high_90, within: _side(low, high) or _close(high_90 < within)
        ),
        "Only the lower end is held against the bound; both ends have to be within it.": (
            lambda low, high, low_90, _, within: _side(low, high) or _close(-within < low_90)
        ),
        "One end within the bound is enough here; both have to be.": (
            lambda low, high, low_90, high_90, within: _side(low, high) or _close(-within < low_90 or high_90 < within)
        ),
        "The middle of the interval is held against the bound; the whole interval has to be within it.": (
            lambda low, high, _l, _h, within: _side(low, high) or _close(abs(low + high) / 2 < within)
        ),
        "The width of the interval is compared with the bound; it is where the interval lies that counts.": (
            lambda low, high, low_90, high_90, within: _side(low, high) or _close(high_90 - low_90 < within)
        ),
        "The middle alone decides here; better and worse need the whole 95 % interval on one side of zero.": (
            lambda low, high, *_: _side(low + high, low + high)
        ),
        "Better and worse are swapped: a difference above zero is better.": (
            lambda low, high, low_90, high_90, within: _verdict(-high, -low, -high_90, -low_90, within)
        ),
        "Better and worse have to exceed the bound here; an interval on one side of zero is enough.": (
            lambda low, high, low_90, high_90, within: (
                _side(low - within, high + within) or _close(-within < low_90 and high_90 < within)
            )
        ),
        "The ends are swapped: it is the lower end that has to be above zero, the upper one that has to be below.": (
            lambda low, high, *rest: "better" if high > 0 else "worse" if low < 0 else _close(False)
        ),
    },
)

# p, level
TESTS = tuple((np.array(p), level) for p, level in (
    ([0.04, 0.001, 0.03, 0.6], 0.05), ([0.02, 0.015, 0.5, 0.011, 0.4], 0.05), ([0.001, 0.03, 0.024], 0.05),
    ([0.02, 0.045], 0.05), ([0.3, 0.012, 0.014, 0.002], 0.05), ([0.04, 0.03, 0.06], 0.1), ([0.2], 0.05),
    ([0.004, 0.018, 0.019, 0.9, 0.8], 0.05), ([0.03, 0.04], 0.05)))  # fmt: skip


def _stepped(bound: Callable[[int, np.ndarray], np.ndarray], *, stops: bool = True, back: bool = True) -> Function:
    """Sorted p-values against bounds per level, `bound(n, rank)`, with an end at the first that fails."""

    def rejected(p: np.ndarray, level: float) -> np.ndarray:
        order = np.argsort(p)
        passed = p[order] <= level * bound(len(p), np.arange(1, len(p) + 1))
        passed = np.logical_and.accumulate(passed) if stops else passed
        return passed[np.argsort(order)] if back else passed

    return rejected


def _upwards(bound: Callable[[int, np.ndarray], np.ndarray]) -> Function:
    """From the largest p downwards: all up to the last that passes."""

    def rejected(p: np.ndarray, level: float) -> np.ndarray:
        order = np.argsort(p)
        passed = p[order] <= level * bound(len(p), np.arange(1, len(p) + 1))
        return np.logical_or.accumulate(passed[::-1])[::-1][np.argsort(order)]

    return rejected


def _one_more(p: np.ndarray, level: float) -> np.ndarray:
    """The procedure, and the first hypothesis that it does not reject."""
    kept = _holm(p, level)
    rest = np.where(kept, np.inf, p)
    return kept | (np.arange(len(p)) == rest.argmin())


_holm = _stepped(lambda n, rank: 1 / (n - rank + 1))

rejected = Exercise(
    task="Which hypotheses Holm's procedure rejects at a level, (n,) of bool in the order of p (n,): the smallest p is "
    "held against level / n, the next against level / (n - 1), and so on; it ends at the first that is larger.",
    praise="It rejects what has a corrected p-value of at most the level, and never less than Bonferroni does.",
    cases=TESTS,
    right=_holm,
    returns="one truth value per p-value",
    slips={
        "This is Bonferroni's procedure: only the smallest p is held against level / n, the next against more.": (
            lambda p, level: p <= level / len(p)
        ),
        "It goes on after a failure: a larger p cannot be rejected once a smaller one is not (the running maximum).": (
            _stepped(lambda n, rank: 1 / (n - rank + 1), stops=False)
        ),
        "The divisor runs the wrong way: it is n for the smallest p and 1 for the largest.": (
            _stepped(lambda n, rank: 1 / rank)
        ),
        "The divisor begins with n - 1; for the smallest p it is n.": _stepped(
            lambda n, rank: 1 / np.maximum(n - rank, 1)
        ),
        "The divisor begins with n + 1; for the smallest p it is n.": _stepped(lambda n, rank: 1 / (n - rank + 2)),
        "The p-values are not sorted first: the smallest has the divisor n, not the first.": (
            lambda p, level: np.logical_and.accumulate(p <= level / np.arange(len(p), 0, -1))
        ),
        "The p-values are not sorted first, and it does not end at a failure.": (
            lambda p, level: p <= level / np.arange(len(p), 0, -1)
        ),
        "The truth values come back sorted by p; give them in the order of the arguments.": (
            _stepped(lambda n, rank: 1 / (n - rank + 1), back=False)
        ),
        "This is Hochberg's procedure, which comes from the largest p; Holm's comes from the smallest.": (
            _upwards(lambda n, rank: 1 / (n - rank + 1))
        ),
        "This is the procedure of Benjamini and Hochberg, which is for the false discovery rate.": (
            _upwards(lambda n, rank: rank / n)
        ),
        "Nothing is corrected: each p is held against the level itself.": lambda p, level: p <= level,
        "The truth values are reversed: these are the hypotheses that are kept.": lambda p, level: ~_holm(p, level),
        "The hypothesis at which it ends is rejected too: its p is too large.": _one_more,
    },
)

# sd_queries, sd_seeds, seconds to train a seed, seconds to score a query, budget in seconds
EVENINGS = {
    "queries": (0.3, 0.004, 30.0, 0.5, 3600.0),
    "seeds": (0.1, 0.05, 60.0, 0.2, 7200.0),
    "both": (0.25, 0.02, 120.0, 0.3, 14400.0),
}
FACTOR = 1.5  # by which the variance may exceed that of the best plan


def _variance(evening: tuple[float, ...], queries: int, seeds: int) -> float:
    return evening[0] ** 2 / queries + evening[1] ** 2 / seeds


def _queries(evening: tuple[float, ...], seeds: int) -> int:
    """What the budget allows."""
    *_, train, score, budget = evening
    return int((budget / seeds - train) / score)


def _is_good(yours: Function, evening: tuple[float, ...]) -> bool:
    allowed = {seeds: count for seeds in range(2, 200) if (count := _queries(evening, seeds)) >= 2}
    best = min(_variance(evening, count, seeds) for seeds, count in allowed.items())
    return _variance(evening, *yours(*evening)) <= FACTOR * best


def _whole(plan: object) -> bool:
    return len(plan) == 2 and all(int(one) == one and one >= 2 for one in plan)


def _cost(evening: tuple[float, ...], queries: int, seeds: int) -> float:
    *_, train, score, _ = evening
    return seeds * (train + queries * score)


plan = Exercise(
    task="How many queries and seeds (two whole numbers) to compute in `budget` seconds, by a rule of your own that "
    "makes sd_queries^2 / queries + sd_seeds^2 / seeds small; a seed costs `train` seconds and `score` per query.",
    praise="Queries and seeds are both samples, and the larger part of the variance gets the time.",
    cases=tuple(EVENINGS.values()),
    demands={
        "Your result is not two whole numbers of at least 2: one seed or query says nothing of what another changes.": (
            lambda f: all(_whole(f(*one)) for one in EVENINGS.values())
        ),
        "Your plan takes longer than the budget: every seed is trained, and scores every query.": (
            lambda f: all(_cost(one, *f(*one)) <= one[-1] + 1e-6 for one in EVENINGS.values())
        ),
        "A tenth of the budget is exceeded by your plan: it has to shrink with the time there is.": (
            lambda f: all(_cost(one, *f(*one[:-1], one[-1] / 10)) <= one[-1] / 10 + 1e-6 for one in EVENINGS.values())
        ),
        "Where queries add most of the variance, your plan has too few of them: fewer seeds leave time for more.": (
            lambda f: _is_good(f, EVENINGS["queries"])
        ),
        "Where seeds add most of the variance, your plan has too few of them: fewer queries leave time for more.": (
            lambda f: _is_good(f, EVENINGS["seeds"])
        ),
        "Where both matter, the variance of your plan is more than one and a half times that of the best.": (
            lambda f: _is_good(f, EVENINGS["both"])
        ),
    },
)
