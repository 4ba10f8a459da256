"""Checks of notebook 09 on retrieval: recall of an index, exact search, fusion of two rankings."""

import numpy as np

from lib.exercises.examine import Exercise, Function

FOUND = (
    (np.array([[3, 1, 2, 9], [5, 6, 7, 8]]), np.array([[1, 2, 3, 4], [5, 9, 8, 7]]), 3),
    (np.array([[0, 1, 2], [3, 4, 5], [8, 7, -1]]), np.array([[2, 9, 0], [5, 3, 4], [1, 2, 3]]), 2),
    (np.array([[1, 2, 9, 8], [4, 5, 6, 7]]), np.array([[7, 6, 1, 2], [4, 8, 5, 6]]), 2),
)


def _lists(found: np.ndarray, exact: np.ndarray, depth: int) -> list[tuple[set, set]]:
    return [
        (set(mine), set(true)) for mine, true in zip(found[:, :depth].tolist(), exact[:, :depth].tolist(), strict=True)
    ]


def _recall(found: np.ndarray, exact: np.ndarray, depth: int) -> float:
    return _share(found[:, :depth], exact[:, :depth])


def _share(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.mean([np.isin(true, mine).mean() for mine, true in zip(found, exact, strict=True)]))


def _common(found: np.ndarray, exact: np.ndarray) -> float:
    return _share(found, exact) * exact.shape[1]


recall = Exercise(
    task="Share of the first `depth` rows of `exact` (queries, places) among the first `depth` of `found`, mean "
    "over queries.",
    praise="Only what is found counts, not in which order.",
    cases=FOUND,
    right=_recall,
    sizes=lambda found, _, depth: {"queries": len(found), "places": depth},
    slips={
        "Places are compared one by one; a row that is found at another place counts too.": (
            lambda found, exact, depth: (found[:, :depth] == exact[:, :depth]).mean()
        ),
        "The depth is ignored: compare the first `depth` places of each alone.": (
            lambda found, exact, _: _recall(found, exact, found.shape[1])
        ),
        "The depth cuts the exact places alone; cut those of the index too.": (
            lambda found, exact, depth: _share(found, exact[:, :depth])
        ),
        "The depth cuts the places of the index alone; cut the exact ones too.": (
            lambda found, exact, depth: _share(found[:, :depth], exact)
        ),
        "All queries' rows are thrown together: a row that another query found counts here.": (
            lambda found, exact, depth: np.isin(exact[:, :depth], found[:, :depth]).mean()
        ),
        "A query counts fully as soon as one row is found; its share is due.": (
            lambda *a: np.mean([bool(mine & true) for mine, true in _lists(*a)])
        ),
        "A query counts only if all rows are found; its share is due.": (
            lambda *a: np.mean([true <= mine for mine, true in _lists(*a)])
        ),
        "The depth divides alone: it cuts neither list, so that rows beyond it count.": (
            lambda found, exact, depth: _common(found, exact) / depth
        ),
        "The depth cuts the places of the index alone, and divides: exact rows beyond it count.": (
            lambda found, exact, depth: _common(found[:, :depth], exact) / depth
        ),
        "The rows found are divided by the length of the whole list; divide by the depth.": (
            lambda found, exact, depth: _common(found[:, :depth], exact[:, :depth]) / found.shape[1]
        ),
        "All queries' rows are thrown together in one set: compare each query's with its own.": (
            lambda found, exact, depth: np.isin(np.unique(exact[:, :depth]), found[:, :depth]).mean()
        ),
        "A query counts only if all places agree, in their order; the share of its rows is due, in any order.": (
            lambda found, exact, depth: (found[:, :depth] == exact[:, :depth]).all(1).mean()
        ),
        "Only the first places are compared; all `depth` of them count.": (
            lambda found, exact, _: (found[:, 0] == exact[:, 0]).mean()
        ),
        "Rows are counted here; divide by the depth.": lambda *a: _recall(*a) * a[2],
        "Rows are counted over all queries; divide by the depth and by the number of queries.": (
            lambda *a: _recall(*a) * a[2] * len(a[0])
        ),
        "The rows found are divided by those of both lists together (Jaccard); divide by the depth.": (
            lambda *a: np.mean([len(mine & true) / len(mine | true) for mine, true in _lists(*a)])
        ),
        "Only the first exact row is looked for; all `depth` of them count.": (
            lambda found, exact, depth: np.mean([b[0] in a for a, b in zip(found[:, :depth], exact, strict=True)])
        ),
        "This is the share that is missed.": lambda *a: 1 - _recall(*a),
    },
)


def _vectors(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3)) * np.arange(1, count + 1)[:, None] ** 0.5


def _search(queries: np.ndarray, documents: np.ndarray, depth: int) -> np.ndarray:
    return np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, :depth]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


_MANY = (_vectors(1, 4), _vectors(2000, 5), 300)  # among few, partial sorts happen to be sorted

search = Exercise(
    task="Rows of the `depth` documents (documents, dim) with the largest inner product for each query (queries, "
    "dim), the best first; (queries, depth).",
    praise="This is what every index approximates.",
    cases=((_vectors(3, 0), _vectors(9, 1), 4), (_vectors(4, 2), _vectors(6, 3), 2), _MANY),
    right=_search,
    returns="one row number per query and place",
    slips={
        "The order is reversed: these are the documents with the smallest inner products.": (
            lambda q, d, depth: np.argsort(q @ d.T, axis=1)[:, :depth]
        ),
        "The best documents are there, but the best comes last.": lambda *a: _search(*a)[:, ::-1],
        "The best documents are there, but sorted by row and not by score.": lambda *a: np.sort(_search(*a), axis=1),
        "These are the documents with the smallest inner products, the best of them first: after [:, ::-1] the first "
        "`depth` are due, and not the last.": lambda q, d, depth: np.argsort(q @ d.T, axis=1)[:, ::-1][:, -depth:],
        "The queries are turned round by [::-1], and not the documents of each: write [:, ::-1].": (
            lambda q, d, depth: np.argsort(q @ d.T, axis=1)[::-1][:, :depth]
        ),
        "The queries are turned round by [::-1], and not the documents of each: [:, ::-1][:, :depth] is due.": (
            lambda q, d, depth: np.argsort(q @ d.T, axis=1)[::-1][:, -depth:]
        ),
        "The queries are in the reverse order: [::-1] turns them round, and is not needed with a minus in argsort.": (
            lambda *a: _search(*a)[::-1]
        ),
        "The best document is left out, as if the query itself were among the documents.": (
            lambda q, d, depth: _search(q, d, depth + 1)[:, 1:]
        ),
        "Rows are counted from 1; they begin at 0.": lambda *a: _search(*a) + 1,
        "Only the best document is returned (argmax); `depth` of them are due.": lambda q, d, _: (q @ d.T).argmax(1),
        "The cut is along the queries: [:depth] takes the first queries, [:, :depth] the first documents of each.": (
            lambda q, d, depth: _search(q, d, len(d))[:depth]
        ),
        "The documents of all queries are sorted together: sort along the documents (axis 1).": (
            lambda q, d, depth: np.argsort(-(q @ d.T), axis=None).reshape(len(q), -1)[:, :depth]
        ),
        "Only the first query's documents are ranked; each query has its own.": (
            lambda q, d, depth: np.repeat(_search(q[:1], d, depth), len(q), 0)
        ),
        "The vectors are normalised: this ranks by cosine, and the inner product is due.": (
            lambda q, d, depth: _search(q, _unit(d), depth)
        ),
        "This ranks by Euclidean distance; the inner product is due.": (
            lambda q, d, depth: np.argsort(((q[:, None] - d) ** 2).sum(-1), axis=1)[:, :depth]
        ),
        "The depth is ignored.": lambda q, d, _: _search(q, d, len(d)),
        "Scores are returned; the rows of the documents are due.": (
            lambda q, d, depth: -np.sort(-(q @ d.T), axis=1)[:, :depth]
        ),
        "Queries are ranked for each document: sort along the documents (axis 1).": (
            lambda q, d, depth: np.argsort(-(q @ d.T), axis=0)[:, :depth]
        ),
        "Ranks are returned (argsort of argsort); the rows of the best documents are due.": (
            lambda q, d, depth: np.argsort(np.argsort(-(q @ d.T), axis=1), axis=1)[:, :depth]
        ),
        "Absolute inner products are ranked: a strongly negative one is a bad match.": (
            lambda q, d, depth: np.argsort(-np.abs(q @ d.T), axis=1)[:, :depth]
        ),
    },
    demands={
        "The best documents are found, but not in the order of their scores: argpartition, for one, does not sort.": (
            lambda f: (
                not np.array_equal(np.sort(f(*_MANY)), np.sort(_search(*_MANY)))
                or np.array_equal(f(*_MANY), _search(*_MANY))
            )
        ),
    },
)


def _fuses(yours: Function, first: str, second: str) -> list[str]:
    return list(yours(first.split(), second.split()))


fuse = Exercise(
    task="One ranking from two (lists of names, the best first), by a rule of your own that needs no scores.",
    praise="It needs no scores, so that two rankers on different scales can be joined.",
    cases=((["a", "b"], ["b", "c"]),),
    demands={
        "The order is reversed: the worst come first.": lambda f: _fuses(f, "c a b", "c a b") != ["b", "a", "c"],
        "Your result lacks a document of one of the two rankings, or has one twice.": (
            lambda f: sorted(_fuses(f, "a b c", "c d e")) == list("abcde")
        ),
        "A ranking fused with itself changes.": lambda f: _fuses(f, "c a b", "c a b") == ["c", "a", "b"],
        "A ranking fused with an empty one changes.": (
            lambda f: _fuses(f, "c a b", "") == ["c", "a", "b"] == _fuses(f, "", "c a b")
        ),
        "The first of one ranking is behind the last of the other: this puts one ranking after the other.": (
            lambda f: all(
                r.index("a") < r.index("h") and r.index("e") < r.index("d")
                for r in (_fuses(f, "a b c d", "e f g h"), _fuses(f, "e f g h", "a b c d"))
            )
        ),
        "A document gains from being missing in one ranking (rank 0 there?): one that is ahead of it, and is found by "
        "both, is behind it in yours.": (
            lambda f: all(
                r.index("y") < r.index("x") for r in (_fuses(f, "y x", "a b c y"), _fuses(f, "a b c y", "y x"))
            )
        ),
        "A document that both rank first is not first.": lambda f: _fuses(f, "x a b c", "x c d a")[0] == "x",
        "A document that is ahead of another in both rankings is behind it in yours.": (
            lambda f: (r := _fuses(f, "a b c d", "c a d b")).index("a") < r.index("b") and r.index("c") < r.index("d")
        ),
        "A document that both rankings have high loses to one that a single ranking has as high.": (
            lambda f: (r := _fuses(f, "a x b c", "d x e f")).index("x") < min(r.index("b"), r.index("e"))
        ),
        "The names decide: other names give another order.": (
            lambda f: (
                [dict(zip("abcde", "vzwyx", strict=True))[n] for n in _fuses(f, "a b c", "c d a")]
                == _fuses(f, "v z w", "w y v")
            )
        ),
    },
)
