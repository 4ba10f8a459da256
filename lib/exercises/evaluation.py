"""Checks of notebook 05 on what is concluded: an effect size, a correction, a test of your own."""

from collections.abc import Callable

import numpy as np
from scipy.stats import ttest_rel

from lib.exercises.examine import Exercise, Function, draw

VALUES = tuple((draw(8, seed=seed).numpy(), draw(8, seed=seed + 5).numpy() + 1 - seed) for seed in (0, 1, 2))

effect = Exercise(
    task="Paired effect size of values `mine` and `baseline` (queries,): mean difference over its standard "
    "deviation over queries (n - 1).",
    praise="Pairing leaves the difficulty of the queries out of it.",
    cases=VALUES,
    right=lambda a, b: (a - b).mean() / (a - b).std(ddof=1),
    sizes=lambda a, _: {"queries": len(a)},
    slips={
        "The sign is wrong: it is mine minus the baseline.": lambda a, b: (b - a).mean() / (a - b).std(ddof=1),
        "The standard deviation divides by n; use n - 1 (ddof=1).": lambda a, b: (a - b).mean() / (a - b).std(),
        "The spread is that of the values, unpaired: take the standard deviation of the differences.": (
            lambda a, b: (a.mean() - b.mean()) / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
        ),
        "The spread is that of the baseline alone: take the standard deviation of the differences.": (
            lambda a, b: (a - b).mean() / b.std(ddof=1)
        ),
        "This divides by the standard error, which makes it a t value that grows with the number of queries.": (
            lambda a, b: (a - b).mean() / (a - b).std(ddof=1) * len(a) ** 0.5
        ),
        "This divides by the variance; take its root.": lambda a, b: (a - b).mean() / (a - b).var(ddof=1),
        "The mean difference is not divided by its standard deviation.": lambda a, b: (a - b).mean(),
        "The absolute value hides which of the two is better.": lambda a, b: abs((a - b).mean()) / (a - b).std(ddof=1),
        "The mean is divided by the baseline's mean; divide by the standard deviation of the differences.": (
            lambda a, b: (a - b).mean() / b.mean()
        ),
        "The median stands where the mean is due.": lambda a, b: np.median(a - b) / (a - b).std(ddof=1),
        "The spread is the root of both variances' sum, unpaired: take the standard deviation of the differences.": (
            lambda a, b: (a.mean() - b.mean()) / np.sqrt(a.var(ddof=1) + b.var(ddof=1))
        ),
        "The spread is that of all values together: take the standard deviation of the differences.": (
            lambda a, b: (a - b).mean() / np.concatenate([a, b]).std(ddof=1)
        ),
        "The spread is that of mine alone: take the standard deviation of the differences.": (
            lambda a, b: (a - b).mean() / a.std(ddof=1)
        ),
        "The two spreads are averaged: take the standard deviation of the differences.": (
            lambda a, b: (a - b).mean() / ((a.std(ddof=1) + b.std(ddof=1)) / 2)
        ),
        "The spreads are subtracted: take the standard deviation of the differences.": (
            lambda a, b: (a - b).mean() / (a.std(ddof=1) - b.std(ddof=1))
        ),
        "This is an unpaired t value: take the mean difference over the standard deviation of the differences.": (
            lambda a, b: (a - b).mean() / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a))
        ),
        "The spread is that of the values, unpaired, and divides by n: take that of the differences, with n - 1.": (
            lambda a, b: (a - b).mean() / np.sqrt((a.var() + b.var()) / 2)
        ),
        "This is the p-value of a paired t-test; the effect size has no test in it.": (
            lambda a, b: ttest_rel(a, b).pvalue
        ),
        "The fraction is upside down: divide the mean difference by its standard deviation.": (
            lambda a, b: (a - b).std(ddof=1) / (a - b).mean()
        ),
        "This is the share of queries that are won; the size of the differences counts.": lambda a, b: (a > b).mean(),
        "The absolute differences are averaged, so that wins and losses add up.": (
            lambda a, b: np.abs(a - b).mean() / (a - b).std(ddof=1)
        ),
    },
)

P_VALUES = tuple((np.array(values),) for values in (
    [0.04, 0.001, 0.03, 0.6], [0.02, 0.015, 0.5, 0.011, 0.4], [0.5, 0.4, 0.9], [0.01, 0.04, 0.03]))  # fmt: skip


def _sorted(p: np.ndarray, factors: np.ndarray, *, cumulate: bool = True, back: bool = True) -> np.ndarray:
    order = np.argsort(p)
    grown = p[order] * factors
    grown = np.minimum(np.maximum.accumulate(grown) if cumulate else grown, 1)
    return grown[np.argsort(order)] if back else grown


def _descending(p: np.ndarray) -> np.ndarray:
    order = np.argsort(-p)
    return np.minimum(np.maximum.accumulate(p[order] * _steps(p)), 1)[np.argsort(order)]


def _step_up(p: np.ndarray, factor: Callable[[int, np.ndarray], np.ndarray]) -> np.ndarray:
    """The corrections that take the smallest product from the largest p downwards."""
    order, n = np.argsort(p), len(p)
    grown = p[order] * factor(n, np.arange(1, n + 1))
    return np.minimum(np.minimum.accumulate(grown[::-1])[::-1], 1)[np.argsort(order)]


def _steps(p: np.ndarray) -> np.ndarray:
    return np.arange(len(p), 0, -1)


holm = Exercise(
    task="P-values (n,) with Holm's correction, in the order given.",
    praise="It is never less powerful than Bonferroni's correction, and holds as widely.",
    cases=P_VALUES,
    right=lambda p: _sorted(p, _steps(p)),
    returns="one corrected value per p-value",
    sizes=lambda p: {"tests": len(p)},
    slips={
        "This is Bonferroni's correction: Holm multiplies only the smallest p by n, the next by n - 1, and so on.": (
            lambda p: np.minimum(p * len(p), 1)
        ),
        "This is Bonferroni's correction, and values above 1 are left: Holm multiplies only the smallest p by n.": (
            lambda p: p * len(p)
        ),
        "A corrected value is below that of a smaller p: take the largest so far (np.maximum.accumulate).": (
            lambda p: _sorted(p, _steps(p), cumulate=False)
        ),
        "Values above 1 are left: a probability is at most 1.": lambda p: np.maximum.accumulate(np.sort(p) * _steps(p))[
            np.argsort(np.argsort(p))
        ],
        "They are put back with argsort of p; it takes the inverse, argsort of the argsort.": (
            lambda p: _sorted(p, _steps(p), back=False)[np.argsort(p)]
        ),
        "The p-values are not sorted first: the smallest is multiplied by n, not the first.": (
            lambda p: np.minimum(np.maximum.accumulate(p * _steps(p)), 1)
        ),
        "The p-values are not sorted first, nothing keeps them in order, and values above 1 are left.": (
            lambda p: p * _steps(p)
        ),
        "The products are added up; take the largest so far (np.maximum.accumulate).": (
            lambda p: np.minimum(np.cumsum(np.sort(p) * _steps(p)), 1)[np.argsort(np.argsort(p))]
        ),
        "The smallest product so far is taken; take the largest (np.maximum.accumulate).": (
            lambda p: np.minimum(np.minimum.accumulate(np.sort(p) * _steps(p)), 1)[np.argsort(np.argsort(p))]
        ),
        "Whether each p is below 0.05 is returned; the corrected p-values are due.": lambda p: p < 0.05,
        "Each p is multiplied by n over its rank (false discovery rate); Holm multiplies by n - rank + 1.": (
            lambda p: np.minimum(p / (np.argsort(np.argsort(p)) + 1) * len(p), 1)
        ),
        "Each p is multiplied by n - rank; Holm multiplies by n - rank + 1, that is, the smallest p by n.": (
            lambda p: np.minimum(p * (len(p) - 1 - np.argsort(np.argsort(p))), 1)
        ),
        "The p-values are not sorted first, and nothing keeps them in order.": lambda p: np.minimum(p * _steps(p), 1),
        "The factors run the wrong way: the smallest p is multiplied by n, the largest by 1.": (
            lambda p: _sorted(p, _steps(p)[::-1])
        ),
        "The factors begin with n - 1; the smallest p is multiplied by n.": lambda p: _sorted(p, _steps(p) - 1),
        "The factors begin with n + 1; the smallest p is multiplied by n.": lambda p: _sorted(p, _steps(p) + 1),
        "This is Hochberg's correction, which takes the smallest from above; Holm takes the largest from below.": (
            lambda p: _step_up(p, lambda n, rank: n - rank + 1)
        ),
        "This is the correction of Benjamini and Hochberg, which is for the false discovery rate.": (
            lambda p: _step_up(p, lambda n, rank: n / rank)
        ),
        "This is Sidak's correction: Holm multiplies.": lambda p: 1 - (1 - p) ** len(p),
        "The p-values come back uncorrected.": lambda p: p,
        "The p-values are sorted the wrong way round: the smallest is the first, and is multiplied by n.": (
            lambda p: _descending(p)
        ),
        "The p-values are divided; a correction makes them larger.": lambda p: p / len(p),
    },
    wraps={
        "The values come back sorted; give them in the order of the arguments.": lambda f: (
            lambda p: f(p)[np.argsort(p)]
        ),
    },
)

_EASY, _NOISE = 3 * draw(60, seed=3).numpy(), 0.2 * draw(60, seed=4).numpy()


def _false_alarms(yours: Function) -> float:
    values = np.random.default_rng(0).normal(size=(200, 2, 25))
    return float(np.mean([yours(*pair) < 0.05 for pair in values]))


p_value = Exercise(
    task="P-value of a two-sided paired test of your choice that `mine` and `baseline` (queries,) have the same mean.",
    praise="It keeps its level where there is no difference, and finds a small one where queries differ a lot.",
    cases=VALUES,
    demands={
        "Your value is not one number from 0 to 1.": lambda f: all(0 <= float(f(*pair)) <= 1 for pair in VALUES),
        "Your value changes when the two rankers are swapped: the test should be two-sided.": (
            lambda f: abs(f(_NOISE + 0.05, 0 * _NOISE) - f(0 * _NOISE, _NOISE + 0.05)) < 0.02
        ),
        "A clear difference has a large value: return the p-value, not 1 minus it or the statistic.": (
            lambda f: f(_NOISE + 1, 0 * _NOISE) < 0.01
        ),
        "The value does not fall as queries of the same kind are added: divide by the standard error, which is the "
        "standard deviation over the root of their number.": (
            lambda f: f(np.tile(_NOISE[:12] + 0.1, 10), np.zeros(120)) < f(_NOISE[:12] + 0.1, np.zeros(12)) / 2
        ),
        "The test ignores that values are paired: their large spread hides a small difference on every query.": (
            lambda f: f(_EASY + _NOISE + 0.2, _EASY) < 0.01
        ),
        "Without any difference the value is below 0.05 much more often than once in twenty.": lambda f: (
            _false_alarms(f) < 0.1
        ),
        "Without any difference the value is hardly ever below 0.05: the test is too strict.": lambda f: (
            _false_alarms(f) > 0.01
        ),
        "Equal rankers have a value below 1, or none.": lambda f: np.isclose(f(_EASY, _EASY), 1),
    },
)
