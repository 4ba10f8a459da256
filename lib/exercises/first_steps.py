"""Checks of notebook 00: RR@10 and nDCG@10 by hand, the gradient of one group, a measure of your own."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.exercises import properties
from lib.exercises.examine import Exercise, Function, draw

DEPTH = 10


def _scored(*grades: int, order: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Scores and grades, shuffled, of documents that have these grades in the order of their ranks."""
    places = np.random.default_rng(order).permutation(len(grades))
    return np.linspace(2, -1, len(grades))[places], np.array(grades)[places]


RANKED = (
    _scored(0, 1, 0, order=0), _scored(0, 0, 1, 0, 2, 0), _scored(0, 0, 0, 0), _scored(1, 0, 0, 0, order=4),
    _scored(*[0] * 9, 1, 0, 0), _scored(*[0] * 10, 1, 0), _scored(*[0] * 11, 1),
    _scored(0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1, 0, order=5),
)  # fmt: skip


def _ranks(scores: np.ndarray, grades: np.ndarray, depth: int = DEPTH) -> np.ndarray:
    """Of the relevant documents."""
    ranks = 1 + np.flatnonzero(grades[np.argsort(-scores)] > 0)
    return ranks[ranks <= depth]


def _first(ranks: np.ndarray) -> float:
    return float((1 / ranks).max(initial=0))


def _from_zero(scores: np.ndarray, grades: np.ndarray) -> float:
    return next((1 / (rank - 1) for rank in _ranks(scores, grades).tolist()), 0.0)


rr_at_10 = Exercise(
    task="RR@10 of one query from the scores and grades (docs,) of its documents: 1 over the rank of the first "
    "relevant one, 0 if none is among the first ten.",
    praise="A document at rank 11 is worth as little as one that was never found.",
    cases=RANKED,
    right=lambda *a: _first(_ranks(*a)),
    sizes=lambda scores, _: {"documents": len(scores)},
    slips={
        "Ranks are counted from 0 here: the first document has rank 1.": _from_zero,
        "Ranks are counted from 0 here, so that a hit at the top divides by 0: the first document has rank 1.": (
            lambda *a: float(1 / (_ranks(*a).astype(float)[0] - 1)) if len(_ranks(*a)) else 0.0
        ),
        "The cut is missing: without a relevant document among the first ten, RR@10 is 0.": (
            lambda *a: _first(_ranks(*a, depth=99))
        ),
        "The cut is one too early: the document at rank 10 still counts.": lambda *a: _first(_ranks(*a, depth=9)),
        "The cut is one too late: the document at rank 11 does not count.": lambda *a: _first(_ranks(*a, depth=11)),
        "The last relevant document counts here; the first one should.": lambda *a: (
            float((1 / _ranks(*a)).min()) if len(_ranks(*a)) else 0.0
        ),
        "This is the mean over the relevant documents; only the first of them counts.": lambda *a: (
            float((1 / _ranks(*a)).mean()) if len(_ranks(*a)) else 0.0
        ),
        "The reciprocal ranks of all relevant documents are added up; only the first counts.": (
            lambda *a: float((1 / _ranks(*a)).sum())
        ),
        "The rank itself is returned; its reciprocal is due.": lambda *a: (
            float(_ranks(*a).min()) if len(_ranks(*a)) else 0.0
        ),
        "The documents are taken in the order given; a ranking sorts them by falling score.": (
            lambda s, g: _first(_ranks(-np.arange(len(s)), g))
        ),
        "The ranking has the lowest score first; it should be the highest.": lambda s, g: _first(_ranks(-s, g)),
        "From argsort come the documents in the order of their ranks, not the rank of each: sort the grades with it.": (
            lambda s, g: _first((ranks := 1 + np.argsort(-s)[g > 0])[ranks <= DEPTH])
        ),
        "Only a document of the highest grade counts here; every grade above 0 is relevant.": (
            lambda s, g: _first(_ranks(s, g * (g == g.max())))
        ),
        "Column 0 is taken for the relevant document; the grades say which ones are.": (
            lambda s, g: _first(_ranks(s, np.eye(len(s))[0]))
        ),
        "This is the share of relevant documents among the first ten (precision), without their ranks.": (
            lambda *a: len(_ranks(*a)) / DEPTH
        ),
        "The discount is that of nDCG, 1 / log2(rank + 1); it should be 1 / rank.": (
            lambda *a: float((1 / np.log2(_ranks(*a) + 1)).max(initial=0))
        ),
        "It fails where no relevant document is among the first ten: the minimum of nothing is an error, RR@10 is 0.": (
            lambda *a: 1 / float(_ranks(*a).min())
        ),
    },
)  # fmt: skip

# grades, in the order of the ranks
GRADES = tuple((np.array(grades),) for grades in (
    [0, 1, 0], [0, 2, 0, 1], [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0], [3, 2, 3, 0, 1, 2], [0, 0], [1, 0],
    [1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]))  # fmt: skip


def _falling(grades: np.ndarray) -> np.ndarray:
    return np.sort(grades)[::-1]


def _dcg(grades: np.ndarray, depth: int = DEPTH, discount: Function = lambda rank: 1 / np.log2(rank + 1)) -> float:
    return float((grades[:depth] * discount(np.arange(1, len(grades) + 1.0))[:depth]).sum())


def _ndcg(grades: np.ndarray, ideal: np.ndarray | None = None, best: int = DEPTH, **how: object) -> float:
    """With another ideal ranking, its depth, or another way to add up."""
    divisor = _dcg(_falling(grades) if ideal is None else ideal, **{"depth": best} | how)
    return _dcg(grades, **how) / divisor if divisor else 0.0


def _or_zero(grades: np.ndarray, divisor: float) -> float:
    return _dcg(grades) / divisor if divisor else 0.0


ndcg_at_10 = Exercise(
    task="nDCG@10 from the grades (docs,) of all documents in the order of their ranks: the first ten grades, each "
    "over log2(rank + 1), added up, divided by the same sum for the ideal ranking; 0 if nothing is relevant.",
    praise="The base of the logarithm cancels, since the ideal ranking has it too; the gain, 2^g - 1 or g, does not.",
    cases=GRADES,
    right=_ndcg,
    sizes=lambda grades: {"documents": len(grades)},
    slips={
        "The ideal ranking is missing: this is DCG@10; divide by the same sum for the ideal ranking.": _dcg,
        "The gain is 2^g - 1 here; the kit's is the grade itself, as in trec_eval.": lambda g: _ndcg(2.0**g - 1),
        "The cut is missing: only the first ten documents count, in the ideal ranking too.": lambda g: _ndcg(
            g, depth=99, best=99
        ),
        "The ideal ranking is not cut: it has ten documents too.": lambda g: _ndcg(g, best=99),
        "The ideal ranking is one of the first ten alone; a relevant document below them belongs in it too.": (
            lambda g: _ndcg(g, ideal=_falling(g[:DEPTH]))
        ),
        "The ideal ranking has the lowest grade first; it should be the highest.": lambda g: _ndcg(g, ideal=np.sort(g)),
        "The discount is log2(rank), which is 0 at rank 1: it should be log2(rank + 1).": lambda g: (
            float(np.float64(_dcg(g, discount=lambda r: 1 / np.log2(r)))
                  / np.float64(_dcg(_falling(g), discount=lambda r: 1 / np.log2(r))))
        ),
        "The discount is log2(rank) from rank 2 on, which leaves two documents without any: use log2(rank + 1).": (
            lambda g: _ndcg(g, discount=lambda rank: 1 / np.maximum(1, np.log2(rank)))
        ),
        "The discount is log2(rank + 2): with ranks from 1 it is log2(rank + 1), so that the first document has 1.": (
            lambda g: _ndcg(g, discount=lambda rank: 1 / np.log2(rank + 2))
        ),
        "The discount is the rank itself; it should be log2(rank + 1).": lambda g: _ndcg(
            g, discount=lambda rank: 1 / rank
        ),
        "The grades are multiplied by log2(rank + 1); divide, so that a low rank is worth less.": (
            lambda g: _ndcg(g, discount=lambda rank: np.log2(rank + 1))
        ),
        "There is no discount: every rank among the first ten counts alike.": lambda g: _ndcg(g, discount=np.ones_like),
        "The divisor is the sum of the grades; the ideal ranking has its discount too.": lambda g: _or_zero(g, g.sum()),
        "The divisor is the number of documents; it is the sum for the ideal ranking.": lambda g: _or_zero(g, len(g)),
        "The divisor is the number of relevant documents; it is the sum for the ideal ranking.": (
            lambda g: _or_zero(g, (g > 0).sum())
        ),
        "All grades above 0 count alike; a higher grade is worth more.": lambda g: _ndcg((g > 0).astype(float)),
        "Without a relevant document this is 0 / 0, which is not a number; return 0.": (
            lambda g: _ndcg(g) if g.any() else np.nan
        ),
        "Without a relevant document this divides by zero; return 0.": lambda g: _dcg(g) / _dcg(_falling(g)),
    },
)  # fmt: skip

GROUPS = ((draw(4), 0.5), (draw(3, seed=1), 2.0), (draw(5, seed=2), 0.2))  # scores, temperature


def _label(scores: Tensor) -> Tensor:
    return F.one_hot(torch.tensor(0), len(scores)).to(scores.dtype)


def _highest_first(f: Function) -> Function:
    return lambda s, t: f(s[order := s.argsort(descending=True)], t)[order.argsort()]


group_gradient = Exercise(
    task="The derivative of one group's InfoNCE by each of its scores (docs,), positive in column 0, where the scores "
    "are divided by a temperature first; by the formula.",
    praise="A low temperature makes the push strong and gives it to the hardest negatives.",
    cases=GROUPS,
    right=lambda s, t: ((s / t).softmax(0) - _label(s)) / t,
    returns="one value per document",
    sizes=lambda s, _: {"documents": len(s), "negatives": len(s) - 1},
    slips={
        "The inner derivative is missing: the scores are divided by the temperature, so their derivative is too.": (
            lambda s, t: (s / t).softmax(0) - _label(s)
        ),
        "The derivative is multiplied by the temperature; the scores are divided by it, so it is divided too.": (
            lambda s, t: ((s / t).softmax(0) - _label(s)) * t
        ),
        "The temperature multiplies the scores; it should divide them.": lambda s, t: (
            ((s * t).softmax(0) - _label(s)) * t
        ),
        "The temperature multiplies the scores in the softmax; it should divide them.": (
            lambda s, t: ((s * t).softmax(0) - _label(s)) / t
        ),
        "The temperature is left out: scores and derivative are both divided by it.": (
            lambda s, _: s.softmax(0) - _label(s)
        ),
        "The softmax is that of the scores themselves; divide them by the temperature first.": (
            lambda s, t: (s.softmax(0) - _label(s)) / t
        ),
        "The label is missing: 1 has to be subtracted from the positive's probability.": (
            lambda s, t: (s / t).softmax(0) / t
        ),
        "1 is subtracted from every document's probability; subtract it from the positive's alone.": (
            lambda s, t: ((s / t).softmax(0) - 1) / t
        ),
        "The 1 is subtracted after the division by the temperature; subtract it from the probability.": (
            lambda s, t: (s / t).softmax(0) / t - _label(s)
        ),
        "This is the loss itself; its derivative by each score is due.": lambda s, t: -(s / t).log_softmax(0)[0],
        "This is the derivative of the positive's probability, not of minus its log.": (
            lambda s, t: (s / t).softmax(0)[0] * (_label(s) - (s / t).softmax(0)) / t
        ),
        "The probabilities are log-probabilities here: the derivative has the softmax itself.": (
            lambda s, t: ((s / t).log_softmax(0) - _label(s)) / t
        ),
        "The sigmoid of each score by itself is taken; the documents share one softmax.": (
            lambda s, t: ((s / t).sigmoid() - _label(s)) / t
        ),
        "The positive is missing in the softmax: it is one of the documents there.": (
            lambda s, t: torch.cat([s.new_tensor([-1.0]), (s[1:] / t).softmax(0)]) / t
        ),
    },
    wraps={
        "The sign is wrong: a higher score of the positive lowers the loss, so its derivative is below zero.": (
            lambda f: lambda s, t: -f(s, t)
        ),
        properties.LAST: lambda f: lambda s, t: f(s.roll(1), t).roll(-1),
        properties.HIGHEST: _highest_first,
    },
    demands={
        "Your derivative is not finite when scores are as large as 10,000: an exp overflows, so use torch's softmax.": (
            lambda f: bool(torch.isfinite(f(1e4 * draw(4), 0.05)).all())
        ),
    },
)

_TWO = np.array([1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1])


def _places(*ranks: int) -> np.ndarray:
    """Twelve grades, 1 at these ranks."""
    return np.isin(np.arange(1, 13), ranks).astype(int)


own_measure = Exercise(
    task="A measure of your own of a ranking, from 0 to 1, from the grades (docs,) of all its documents in the order "
    "of their ranks.",
    praise="It is a measure; whose search it describes is yours to say.",
    cases=((_TWO,), (_places(3),)),
    demands={
        "Your measure is not one number from 0 to 1.": lambda f: all(
            0 <= float(f(grades)) <= 1 + 1e-9 for grades in (_TWO, 2 * _TWO, _places(1, 2), _places(*range(1, 13)))
        ),
        "The ideal ranking does not measure 1: divide by what it would have.": (
            lambda f: all(np.isclose(f(one), 1) for one in (_places(1), _places(1, 2, 3), _places(*range(1, 13))))
        ),
        "A query without a relevant document does not measure 0.": lambda f: f(_places()) == 0,
        "A relevant document at rank 11 counts; nobody reads that far.": lambda f: f(_places(11)) == 0,
        "A relevant document that rises by one rank, somewhere among the first ten, does not raise your measure.": (
            lambda f: all(f(_places(rank)) > f(_places(rank + 1)) + 1e-9 for rank in range(1, 11))
        ),
        "Only the first relevant document counts, as in RR@10: a second that rises from 4 to 3 should matter too.": (
            lambda f: f(_places(1, 3)) > f(_places(1, 4)) + 1e-9
        ),
        "A relevant document that rises from rank 2 to 1 is worth no more than one that rises from 9 to 8.": (
            lambda f: f(_places(1)) - f(_places(2)) > f(_places(8)) - f(_places(9))
        ),
        "A ranking of fewer than ten documents gives an error or no finite number.": (
            lambda f: np.isfinite(float(f(np.array([0, 1, 0]))))
        ),
    },
)
