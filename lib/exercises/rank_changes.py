"""Checks of notebook 13 on two rankings of the same documents: moves, queries that one gets right, a distance."""

import numpy as np
import scipy.stats

from lib.exercises.examine import Exercise, Function, draw

# before, after: scores of documents in the order of their ids
SCORES = tuple((np.array(before), np.array(after)) for before, after in (
    ([3.0, 2.0, 1.0], [1.0, 2.5, 2.0]), ([0.5, 0.1, 0.5, 0.9], [0.2, 0.8, 0.4, 0.1]),
    ([0.1, 0.4, 0.2, 0.3, 0.9], [0.7, 0.7, 0.0, 0.7, 0.1]), ([1.0, 1.0, 0.0, 0.0], [0.0, 2.0, 2.0, 1.0])))  # fmt: skip


def _ranks(scores: np.ndarray) -> np.ndarray:
    return 1 + np.argsort(np.argsort(-scores, kind="stable"))


def _moved(before: np.ndarray, after: np.ndarray, ranks: Function = _ranks) -> np.ndarray:
    return ranks(before) - ranks(after)


def _rankdata(method: str) -> Function:
    return lambda scores: scipy.stats.rankdata(-scores, method=method)


moved = Exercise(
    task="By how many ranks each document moves up from one ranker to the other, (docs,), from its scores under both; "
    "below 0 where it falls. Of equal scores the first document is ranked higher.",
    praise="Every rank that one document gains another one loses: the moves of a query sum to zero.",
    cases=SCORES,
    right=_moved,
    returns="one value per document",
    sizes=lambda before, _: {"documents": len(before)},
    slips={
        "The sign is wrong: a document that rises from rank 3 to rank 1 moves up by 2, not by -2.": (
            lambda *a: -_moved(*a)
        ),
        "From argsort come the documents in the order of their ranks; the rank of each is the argsort of that.": (
            lambda *a: _moved(*a, ranks=lambda s: np.argsort(-s, kind="stable"))
        ),
        "From argsort come the documents from the lowest score on, not the rank of each.": (
            lambda *a: _moved(*a, ranks=lambda s: np.argsort(s, kind="stable"))
        ),
        "The lowest score has rank 1 here, which turns every move round: the highest has.": (
            lambda *a: _moved(*a, ranks=lambda s: np.argsort(np.argsort(s, kind="stable")))
        ),
        "Of equal scores the last document is ranked higher; it should be the first.": (
            lambda *a: _moved(*a, ranks=lambda s: np.argsort(np.argsort(s, kind="stable")[::-1]))
        ),
        "Equal scores share the mean of their ranks; each rank is taken once, the first of them first.": (
            lambda *a: _moved(*a, ranks=_rankdata("average"))
        ),
        "Equal scores share their best rank; each rank is taken once, the first of them first.": (
            lambda *a: _moved(*a, ranks=_rankdata("min"))
        ),
        "Equal scores share a rank, and no rank is left out after them; a ranking has one document at each rank.": (
            lambda *a: _moved(*a, ranks=_rankdata("dense"))
        ),
        "The direction is lost: a document that falls moves by less than 0.": lambda *a: np.abs(_moved(*a)),
        "These are differences of scores, whose scales differ from ranker to ranker; take those of ranks.": (
            lambda before, after: after - before
        ),
        "The moves are in the order of the first ranking; give them in the order of the arguments.": (
            lambda before, after: _moved(before, after)[np.argsort(-before, kind="stable")]
        ),
        "These are the ranks under the second ranker; subtract them from those under the first.": (
            lambda _, after: _ranks(after)
        ),
        "This is the sum of all moves; one per document is due.": lambda *a: np.abs(_moved(*a)).sum(),
    },
)  # fmt: skip


def _judged(queries: int, docs: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    grades = np.random.default_rng(seed).choice([0, 0, 1, 2], (queries, docs))
    return draw(queries, docs, seed=seed).numpy(), draw(queries, docs, seed=seed + 50).numpy(), grades


PAIRS = tuple(_judged(*sizes) for sizes in ((2, 3, 5), (12, 4, 1), (9, 3, 2)))  # scores under A and under B, grades


def _at_top(scores: np.ndarray, grades: np.ndarray, best: Function = np.argmax) -> np.ndarray:
    """The grade of each query's first document."""
    return np.take_along_axis(grades, best(scores, axis=1)[:, None], 1)[:, 0]


def _right(*arguments: object, **how: object) -> np.ndarray:
    return _at_top(*arguments, **how) > 0


def _best_rank(scores: np.ndarray, grades: np.ndarray) -> np.ndarray:
    """The rank of each query's first relevant document; behind all if it has none."""
    ranks = 1 + np.argsort(np.argsort(-scores, axis=1), axis=1)
    return np.where(grades > 0, ranks, 99).min(1)


only_a_right = Exercise(
    task="The queries of which only ranker A has a relevant document first, (queries,) of bool, from the scores under "
    "A, the scores under B and the grades, (queries, docs) each.",
    praise="These queries, and those that only B gets right, are where a mean of differences comes from.",
    cases=PAIRS,
    right=lambda a, b, g: _right(a, g) & ~_right(b, g),
    returns="one truth value per query",
    sizes=lambda a, *_: {"queries": len(a), "documents": a.shape[1]},
    slips={
        "Queries that both get right count too: B's first document must not be relevant.": lambda a, b, g: _right(a, g),
        "Queries that A gets wrong count too: A's first document has to be relevant.": lambda a, b, g: ~_right(b, g),
        "Queries that only B gets right count too (exclusive or): A has to be the one that is right.": (
            lambda a, b, g: _right(a, g) ^ _right(b, g)
        ),
        "The rankers are swapped: these are the queries that only B gets right.": (
            lambda a, b, g: _right(b, g) & ~_right(a, g)
        ),
        "These are the queries that both get right.": lambda a, b, g: _right(a, g) & _right(b, g),
        "These are the queries that one of the two or both get right.": lambda a, b, g: _right(a, g) | _right(b, g),
        "These are the queries that neither gets right.": lambda a, b, g: ~_right(a, g) & ~_right(b, g),
        "Grades are compared: B is right too with a document of a lower grade, if that is above 0.": (
            lambda a, b, g: _at_top(a, g) > _at_top(b, g)
        ),
        "Only grade 1 counts as relevant; every grade above 0 does.": (
            lambda a, b, g: (_at_top(a, g) == 1) & (_at_top(b, g) != 1)
        ),
        "Only the highest grade of a query counts as right; every grade above 0 does.": (
            lambda a, b, g: (_right(a, g * (g == g.max(1, keepdims=True)))
                             & ~_right(b, g * (g == g.max(1, keepdims=True))))
        ),
        "The lowest score is taken for the first document; it is the highest.": (
            lambda a, b, g: _right(a, g, best=np.argmin) & ~_right(b, g, best=np.argmin)
        ),
        "A query counts where A ranks a relevant document higher than B does; it has to be the first document.": (
            lambda a, b, g: _best_rank(a, g) < _best_rank(b, g)
        ),
        "A query counts where the two first documents differ; whether they are relevant should decide.": (
            lambda a, b, g: a.argmax(1) != b.argmax(1)
        ),
        "Column 0 is taken for the relevant document; the grades say which ones are.": (
            lambda a, b, g: (a.argmax(1) == 0) & (b.argmax(1) != 0)
        ),
        "This is the share of such queries; one truth value per query is due.": (
            lambda a, b, g: (_right(a, g) & ~_right(b, g)).mean()
        ),
        "This is the number of such queries; one truth value per query is due.": (
            lambda a, b, g: (_right(a, g) & ~_right(b, g)).sum()
        ),
    },
)  # fmt: skip

_FALLING = np.array([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
_OTHER = draw(6, seed=7).numpy()


def _swapped(one: int, other: int) -> np.ndarray:
    scores = _FALLING.copy()
    scores[[one, other]] = scores[[other, one]]
    return scores


unlike = Exercise(
    task="How far apart two rankings of the same documents are, by a measure of your own, from the scores (docs,) "
    "under both; 0 for equal rankings, and more for a change at the top than for one at the bottom.",
    praise="Sorting by it shows the queries whose reader would notice the change of the ranker.",
    cases=((_FALLING, _swapped(0, 1)), (_FALLING, _OTHER)),
    demands={
        "Your result is not one finite number of at least 0.": lambda f: all(
            np.ndim(value := f(_FALLING, other)) == 0 and np.isfinite(value) and value >= 0
            for other in (_OTHER, -_FALLING, _swapped(4, 5))
        ),
        "Equal rankings do not measure 0: a distance is due, not an agreement.": lambda f: np.isclose(
            f(_FALLING, _FALLING), 0
        ),
        "Scores count, not ranks: twice the scores, or their exponentials, are the same ranking.": lambda f: all(
            np.isclose(f(2 * _FALLING, change), f(_FALLING, _OTHER)) for change in (_OTHER, np.exp(_OTHER))
        ),
        "Your distance from A to B is not that from B to A.": lambda f: np.isclose(
            f(_FALLING, _OTHER), f(_OTHER, _FALLING)
        ),
        "It changes with the order in which the documents are given: permute both scores together.": (
            lambda f: np.isclose(f(_FALLING[[3, 1, 5, 0, 2, 4]], _OTHER[[3, 1, 5, 0, 2, 4]]), f(_FALLING, _OTHER))
        ),
        "Two documents that change places at the bottom go unnoticed.": lambda f: f(_FALLING, _swapped(4, 5)) > 1e-12,
        "A change of places at the top counts no more than one at the bottom, as in a sum of all moves.": (
            lambda f: f(_FALLING, _swapped(0, 1)) > f(_FALLING, _swapped(4, 5)) + 1e-9
        ),
        "The reverse ranking is no further away than a single change of places.": (
            lambda f: f(_FALLING, -_FALLING) > f(_FALLING, _swapped(0, 1)) + 1e-9
        ),
        "A query with a single document gives an error or no 0.": lambda f: np.isclose(f(np.ones(1), np.ones(1)), 0),
    },
)
