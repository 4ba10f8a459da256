"""Checks of notebook 14 on failure modes: the share of what re-ranking can gain, ECE, a calibration of your own."""

import numpy as np

from lib.analysis import calibration
from lib.exercises.examine import Exercise, Function, draw

ENDS = ((0.55, 0.5, 0.7), (0.42, 0.45, 0.8), (0.9, 0.3, 0.95))  # a ranker's mean, BM25's, the best


reached_share = Exercise(
    task="The share of what re-ranking can gain that a ranker reaches, from its `mean`, that of the `first` stage and "
    "that of the `best` order; NaN where there is nothing to gain.",
    praise="Sets with little to gain can be compared with sets that have much; below zero a ranker does harm.",
    cases=ENDS,
    right=lambda mean, first, best: (mean - first) / (best - first) if best > first else np.nan,
    slips={
        "This is the gain itself; divide it by what there is to gain.": (lambda mean, first, best: mean - first),
        "The mean is divided by the ideal ranking's; subtract the first stage's from both first.": (
            lambda mean, first, best: mean / best
        ),
        "The gain is relative to the first stage; divide it by what there is to gain.": (
            lambda mean, first, best: (mean - first) / first
        ),
        "The first stage is not subtracted from the ideal ranking: only the difference can be gained.": (
            lambda mean, first, best: (mean - first) / best
        ),
        "The first stage is not subtracted from the ranker's mean.": (lambda mean, first, best: mean / (best - first)),
        "This is the share that is left; the share that is reached is 1 minus it.": (
            lambda mean, first, best: (best - mean) / (best - first)
        ),
        "The sign is wrong: the gain is the ranker's mean minus the first stage's.": (
            lambda mean, first, best: (first - mean) / (best - first)
        ),
        "Brackets are missing: subtract on both sides before you divide.": (
            lambda mean, first, best: mean - first / best - first
        ),
        "The gain is divided by what is left; divide it by all there is to gain.": (
            lambda mean, first, best: (mean - first) / (best - mean)
        ),
        "A loss is cut off at 0: a ranker below the first stage has a share below 0.": (
            lambda mean, first, best: max(0.0, (mean - first) / (best - first))
        ),
        "This is a percentage; a share is from 0 to 1.": (
            lambda mean, first, best: 100 * (mean - first) / (best - first)
        ),
    },
    demands={
        "Where the first stage's order is the best one there is nothing to gain: return NaN.": lambda f: (
            np.isnan(f(0.5, 0.5, 0.5)) and np.isnan(f(0.0, 0.0, 0.0))
        ),
    },
)


def _judged(count: int, bins: int, seed: int, tilt: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Probabilities, in no order, that are too low or too high by a tilt; relevance; bins."""
    probabilities = (draw(count, seed=seed) - 0.5).sigmoid().numpy()
    return probabilities, draw(count, seed=seed + 50).sigmoid().numpy() < probabilities + tilt, bins


PROBABILITIES = (_judged(23, 5, 0, 0.25), _judged(40, 8, 1, -0.15), _judged(18, 4, 2, 0.0))


def _bins(p: np.ndarray, relevant: np.ndarray, order: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """For every bin: predicted minus observed, and its size."""
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return np.array([p[part].mean() - relevant[part].mean() for part in parts]), np.array(list(map(len, parts)))


def _sorted_bins(p: np.ndarray, relevant: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    return _bins(p, relevant, np.argsort(p), bins)


def _equal_width(p: np.ndarray, relevant: np.ndarray, bins: int) -> float:
    place = np.minimum((p * bins).astype(int), bins - 1)
    return sum(abs(p[place == one].sum() - relevant[place == one].sum()) for one in range(bins)) / len(p)


calibration_error = Exercise(
    task="ECE: sort the pairs by probability, cut them into `bins` bins of equally many (np.array_split), and take the "
    "mean over bins of |mean probability - share of relevant ones|, weighted by the pairs in a bin.",
    praise="It is 0 for a ranker that gives every document the share of relevant ones, so it does not measure quality.",
    cases=PROBABILITIES,
    right=lambda p, relevant, bins: calibration.expected_error(p, relevant, bins=bins),
    sizes=lambda p, _, bins: {"pairs": len(p), "bins": bins},
    slips={
        "There are no bins: the distance is taken pair by pair, and no pair is relevant by half.": (
            lambda p, relevant, _: np.abs(p - relevant).mean()
        ),
        "All pairs are in one bin: errors at low and at high probabilities cancel.": (
            lambda p, relevant, _: abs(p.mean() - relevant.mean())
        ),
        "The differences keep their signs, so that bins cancel: take absolute values before the mean.": (
            lambda p, relevant, _: p.mean() - relevant.mean()
        ),
        "The differences are squared; take their absolute values.": lambda p, relevant, bins: np.average(
            np.square((found := _sorted_bins(p, relevant, bins))[0]), weights=found[1]
        ),
        "This is the largest distance of a bin; take the mean over bins.": (
            lambda p, relevant, bins: np.abs(_sorted_bins(p, relevant, bins)[0]).max()
        ),
        "The distances are added up; take their mean, weighted by the pairs in a bin.": (
            lambda p, relevant, bins: np.abs(_sorted_bins(p, relevant, bins)[0]).sum()
        ),
        "The bins count alike although their sizes differ: weight them by the pairs in them.": (
            lambda p, relevant, bins: np.abs(_sorted_bins(p, relevant, bins)[0]).mean()
        ),
        "The bins have equal width; they should hold equally many pairs.": _equal_width,
        "This is the Brier score, which has no bins.": lambda p, relevant, _: np.square(p - relevant).mean(),
        "The pairs are not sorted by probability before they are cut into bins.": lambda p, relevant, bins: np.average(
            np.abs((found := _bins(p, relevant, np.arange(len(p)), bins))[0]), weights=found[1]
        ),
        "The probabilities are sorted, and the judgements are not: both need the same order (argsort).": (
            lambda p, relevant, bins: np.average(
                np.abs((found := _bins(np.sort(p), relevant, np.arange(len(p)), bins))[0]), weights=found[1]
            )
        ),
        "The pairs that do not fill a bin are left out: np.array_split keeps them.": (
            lambda p, relevant, bins: np.abs(_bins(p, relevant, np.argsort(p)[: len(p) // bins * bins], bins)[0]).mean()
        ),
    },
)

_DRAWN = np.random.default_rng(7)
_SCORES = _DRAWN.normal(0, 1.5, 6000)
_RELEVANT = _DRAWN.random(6000) < 1 / (1 + np.exp(2 - 1.5 * _SCORES))
_DEV, _TEST = slice(3000), slice(3000, None)


def _applied(yours: Function, size: float = 1.0, level: float = 0.0) -> np.ndarray:
    scores = size * _SCORES + level
    return np.asarray(yours(scores[_DEV], _RELEVANT[_DEV], scores[_TEST]), dtype=float)


calibrated = Exercise(
    task="Probabilities of relevance for `scores` (n,), by a rule of your own that is fitted on a dev set's scores and "
    "judgements, (m,) twice.",
    praise="Its probabilities can be read as shares of relevant documents, and the ranking stays.",
    cases=((_SCORES[:50], _RELEVANT[:50], _SCORES[50:60]),),
    demands={
        "Your result is not one probability from 0 to 1 for each score.": lambda f: (
            (found := _applied(f)).shape == (3000,) and bool(((found >= 0) & (found <= 1)).all())
        ),
        "All scores get one probability: that is calibrated, and ranks nothing.": lambda f: np.ptp(_applied(f)) > 0.3,
        "A higher score gets a lower probability.": lambda f: bool(
            (np.diff(_applied(f)[np.argsort(_SCORES[_TEST])]) >= -1e-9).all()
        ),
        "The level is wrong: the mean probability is not the share of relevant documents, so fit an offset too.": (
            lambda f: abs(_applied(f).mean() - _RELEVANT[_TEST].mean()) < 0.03
        ),
        "In bins the probabilities are off by more than 3 in a hundred, although their mean is right: fit the slope.": (
            lambda f: calibration.expected_error(_applied(f), _RELEVANT[_TEST]) < 0.03
        ),
        "Scores ten times as large, on both sets, get other probabilities: the scale has to be fitted.": (
            lambda f: np.abs(_applied(f, 10.0) - _applied(f)).max() < 0.05
        ),
        "A constant added to all scores of both sets changes the probabilities: the offset has to be fitted.": (
            lambda f: np.abs(_applied(f, level=4.0) - _applied(f)).max() < 0.05
        ),
        "A probability depends on the other scores of the call: only the dev set may be learned from.": lambda f: (
            np.allclose(f(_SCORES[_DEV], _RELEVANT[_DEV], _SCORES[_TEST][:5]), _applied(f)[:5])
        ),
        "Scores that separate the relevant documents of the dev set make the result infinite or undefined.": (
            lambda f: bool(np.isfinite(f(_SCORES[_DEV], _SCORES[_DEV] > 3, _SCORES[_TEST])).all())
        ),
    },
)
