"""Checks of notebook 01 on rankings and texts: a measure, leaks between splits, how much a passage gives away."""

import math

import numpy as np
import pandas as pd

from lib.exercises.examine import Exercise

# ranking, relevant, depth
RANKED = (
    (["a", "b", "c"], {"b"}, 10),
    (["a", "b", "c", "d", "e"], {"c", "e"}, 10),
    (["a", "b", "c", "d"], {"d"}, 3),
    (["a", "b", "c"], {"c"}, 3),
    (["a", "b"], {"a"}, 2),
    (["a", "b"], {"x"}, 2),
    (["a", "b", "c", "d"], {"b", "d", "y"}, 4),
    (["a", "b", "c", "d", "e"], {"e"}, 3),
    (["d", "e", "c"], {"c", "e"}, 3),
)


def _ranks(ranking: list[str], relevant: set[str], depth: int) -> list[int]:
    return [rank for rank, name in enumerate(ranking[:depth], 1) if name in relevant]


def _reciprocal_rank(ranking: list[str], relevant: set[str], depth: int) -> float:
    return max((1 / rank for rank in _ranks(ranking, relevant, depth)), default=0.0)


reciprocal_rank = Exercise(
    task="Reciprocal rank of the first name of `ranking` that is in `relevant`, 0 if none is within `depth`.",
    praise="The first relevant document alone decides it, and only within the depth.",
    cases=RANKED,
    right=_reciprocal_rank,
    sizes=lambda ranking, *_: {"documents": len(ranking)},
    slips={
        "Ranks are counted from 0 here: the first document has rank 1.": (
            lambda names, good, depth: next((1 / i for i, name in enumerate(names[:depth]) if name in good), 0.0)
        ),
        "Ranks are counted from 2 here: the first document has rank 1.": (
            lambda names, good, depth: next((1 / (i + 2) for i, name in enumerate(names[:depth]) if name in good), 0.0)
        ),
        "The rank itself is returned; its reciprocal is due.": (lambda *a: float(min(_ranks(*a), default=0))),
        "The depth is ignored: a document below it counts as not found.": (
            lambda names, good, _: _reciprocal_rank(names, good, len(names))
        ),
        "The depth is one too small: the document at rank `depth` still counts.": (
            lambda names, good, depth: _reciprocal_rank(names, good, depth - 1)
        ),
        "The depth is one too large: the document after rank `depth` does not count.": (
            lambda names, good, depth: _reciprocal_rank(names, good, depth + 1)
        ),
        "The last relevant document counts here; the first one should.": (
            lambda *a: min((1 / rank for rank in _ranks(*a)), default=0.0)
        ),
        "The reciprocal ranks of all relevant documents are added up; only the first counts.": (
            lambda *a: sum(1 / rank for rank in _ranks(*a))
        ),
        "The reciprocal ranks of all relevant documents are averaged; only the first counts.": (
            lambda *a: float(np.mean([1 / rank for rank in _ranks(*a)] or [0.0]))
        ),
        "The sum is divided by the number of relevant documents; only the first document found counts.": (
            lambda *a: sum(1 / rank for rank in _ranks(*a)) / len(a[1])
        ),
        "This is the share of relevant documents in the list (precision), without their ranks.": (
            lambda *a: len(_ranks(*a)) / a[2]
        ),
        "This is the share of the relevant documents that is found (recall), without their ranks.": (
            lambda *a: len(_ranks(*a)) / len(a[1])
        ),
        "This is 1 wherever a relevant document is found; its rank should count.": lambda *a: float(bool(_ranks(*a))),
        "The discount is that of nDCG, 1 / log2(rank + 1); it should be 1 / rank.": (
            lambda *a: max((1 / math.log2(rank + 1) for rank in _ranks(*a)), default=0.0)
        ),
        "The position is returned, counted from 0; 1 / rank is due, with ranks from 1.": (
            lambda *a: min(_ranks(*a), default=1) - 1.0
        ),
        "The names are sorted first; the ranking is in order, the best first.": (
            lambda names, good, depth: _reciprocal_rank(sorted(names), good, depth)
        ),
        "The first document that is not relevant counts here; the first relevant one should.": (
            lambda names, good, depth: _reciprocal_rank(names, set(names) - good, depth)
        ),
        "The score falls by the same amount with each rank; it should be 1 / rank.": (
            lambda *a: max((1 - (rank - 1) / a[2] for rank in _ranks(*a)), default=0.0)
        ),
        "Only the first relevant document of the set is looked for, at any depth: any counts, within the depth.": (
            lambda names, good, _: _reciprocal_rank(names, {min(good)}, len(names))
        ),
        "Only the first relevant document of the set is looked for: any of them counts.": (
            lambda names, good, depth: _reciprocal_rank(names, {min(good)}, depth)
        ),
    },
    demands={
        "The function fails for an empty ranking, for which it should be 0.": lambda f: f([], {"a"}, 10) == 0,
    },
)


def _judgements(*pairs: str) -> pd.DataFrame:
    return pd.DataFrame([pair.split() for pair in pairs], columns=["query", "document"])


SPLITS = (
    (_judgements("q1 d1", "q2 d2"), _judgements("t1 d1", "t2 d8", "t3 d9", "t4 d7")),
    (_judgements("q1 d1", "q2 d2", "q3 d1"), _judgements("t1 d1", "t1 d2", "t2 d3", "t1 d4", "q3 d9")),
    (_judgements("q1 d1", "q2 d5", "q4 d6"), _judgements("t1 d1", "t2 d1", "t3 d3", "t1 d9")),
    (_judgements("q1 d1", "q2 d2", "q5 d7"), _judgements("q1 d1", "t2 d2", "t3 d3", "t4 d8", "t3 d4")),
    (_judgements("q1 d1", "q2 d2"), _judgements("t1 d3", "t1 d1", "t2 d4", "t3 d2", "t3 d5")),
)


def _leaky(train: pd.DataFrame, test: pd.DataFrame) -> pd.Series:
    return test["document"].isin(train["document"])


def _leaking(train: pd.DataFrame, test: pd.DataFrame) -> int:
    return test["query"][_leaky(train, test)].nunique()


share_of_leaks = Exercise(
    task="Share of the test queries with a relevant document that is relevant to a training query too; both tables "
    "have the columns query, document, one row per judgement.",
    praise="A query counts once, however many of its documents leak.",
    cases=SPLITS,
    right=lambda train, test: _leaky(train, test).groupby(test["query"]).any().mean(),
    sizes=lambda train, test: {"test queries": test["query"].nunique(), "training queries": train["query"].nunique()},
    slips={
        "Judgements are counted, not queries: a query with several relevant documents counts once.": (
            lambda train, test: _leaky(train, test).mean()
        ),
        "Queries are compared with queries; it is the documents that leak.": (
            lambda train, test: test["query"].drop_duplicates().isin(train["query"]).mean()
        ),
        "The leaking queries are counted; their share of the test queries is due.": (
            lambda train, test: float(_leaking(train, test))
        ),
        "The leaking judgements are counted; the share of test queries with one is due.": (
            lambda train, test: _leaky(train, test).sum()
        ),
        "The leaking queries are divided by the training queries; divide by the test queries.": (
            lambda train, test: _leaking(train, test) / train["query"].nunique()
        ),
        "The leaking queries are divided by the judgements; divide by the test queries.": (
            lambda train, test: _leaking(train, test) / len(test)
        ),
        "The leaking judgements are divided by the test queries: a query with two of them counts twice.": (
            lambda train, test: _leaky(train, test).sum() / test["query"].nunique()
        ),
        "A query counts here only if all of its documents leak; one is enough.": (
            lambda train, test: _leaky(train, test).groupby(test["query"]).all().mean()
        ),
        "The two splits are swapped: this is the share of training queries.": (
            lambda train, test: _leaky(test, train).groupby(train["query"]).any().mean()
        ),
        "This is the share of documents that leak; the share of queries is due.": (
            lambda train, test: test["document"].drop_duplicates().isin(train["document"]).mean()
        ),
        "Each query has the share of its documents that leak; it counts fully if one does.": (
            lambda train, test: _leaky(train, test).groupby(test["query"]).mean().mean()
        ),
        "The tables are merged on query and document; a leak is the same document under another query.": (
            lambda train, test: len(test.merge(train)) / test["query"].nunique()
        ),
        "A merge repeats a row for each training query of its document: count distinct test queries.": (
            lambda train, test: len(test.merge(train, on="document")) / test["query"].nunique()
        ),
        "The leaking queries are divided by the documents of the test split; divide by its queries.": (
            lambda train, test: _leaking(train, test) / test["document"].nunique()
        ),
        "The leaking queries are divided by the queries of both splits; divide by the test queries.": (
            lambda train, test: _leaking(train, test) / pd.concat([train, test])["query"].nunique()
        ),
        "The leaking documents are divided by the test queries; count the queries that leak.": (
            lambda train, test: test["document"][_leaky(train, test)].nunique() / test["query"].nunique()
        ),
        "Only the first document of each test query is looked at; all of its relevant documents count.": (
            lambda train, test: test.groupby("query")["document"].first().isin(train["document"]).mean()
        ),
        "A merge repeats a row for each training query of its document, and rows are divided by rows.": (
            lambda train, test: len(test.merge(train, on="document")) / len(test)
        ),
        "Training queries are counted; count the test queries that leak.": (
            lambda train, test: _leaking(test, train) / test["query"].nunique()
        ),
        "This is the share of queries that do not leak.": (
            lambda train, test: 1 - _leaky(train, test).groupby(test["query"]).any().mean()
        ),
    },
)

_PASSAGE = "Return the sorted unique elements of an array"

overlap = Exercise(
    task="How much of a query its passage gives away, from 0 to 1, by a measure of your own of the two texts.",
    praise="A threshold on it finds passages that give most of their query away, though not word for word.",
    cases=(("unique elements", _PASSAGE), ("matrix inverse", _PASSAGE)),
    demands={
        "Your measure is not one number from 0 to 1.": (
            lambda f: all(0 <= float(f(query, _PASSAGE)) <= 1 for query in ("unique elements", "matrix", _PASSAGE))
        ),
        "A passage that has its query word for word does not measure 1.": lambda f: np.isclose(
            f("sorted unique elements", _PASSAGE), 1
        ),
        "A passage without any word of its query does not measure 0.": lambda f: np.isclose(
            f("matrix inverse", _PASSAGE), 0
        ),
        "Your measure changes with capitals or punctuation, which hide no leak.": (
            lambda f: np.isclose(f("Sorted, UNIQUE elements!", _PASSAGE), f("sorted unique elements", _PASSAGE))
        ),
        "Your measure does not grow with the number of words that query and passage share.": (
            lambda f: f("matrix inverse", _PASSAGE) < f("sorted inverse", _PASSAGE) < f("sorted array", _PASSAGE)
        ),
        "Parts of words count here: 'art' is no word of a passage about 'cartesian' products.": (
            lambda f: np.isclose(f("art", "cartesian products"), 0)
        ),
        "An empty query gives an error or no finite number.": lambda f: np.isfinite(float(f("", _PASSAGE))),
    },
)
