"""What queries are like, so that a difference between rankers can be looked at for each kind of query."""

import re

import numpy as np
import pandas as pd
from scipy import stats

from lib.analysis import significance
from lib.data.collections import Collection
from lib.models.vectors import VectorStore


def features(candidates: pd.DataFrame, collection: Collection, vectors: VectorStore) -> pd.DataFrame:
    """One row per query with a relevant candidate, by the query's id.

    `candidates` has the columns query, document, rank, grade; `vectors` has one vector of unit length per document.

    - query words: how many
    - overlap: share of the query's distinct words that its first relevant candidate has
    - first-stage rank: of that candidate
    - similarity: highest cosine of that candidate and one that is not relevant; 0 without any
    """
    rows = {}
    for query, part in candidates.sort_values("rank").groupby("query", sort=False):
        relevant = part["grade"] >= collection.relevant_grade
        if not relevant.any():
            continue
        first, others = part.loc[relevant.idxmax()], part.loc[~relevant, "document"]
        text, document = collection.queries[query], first["document"]
        mine, *theirs = vectors.take(vectors.rows([document, *others])).values[:, 0].numpy()
        rows[query] = {
            "query words": len(_words(text)), "overlap": overlap(text, collection.documents[document]),
            "first-stage rank": first["rank"], "similarity": float(max((one @ mine for one in theirs), default=0.0)),
        }  # fmt: skip
    return pd.DataFrame(rows).T


def overlap(query: str, document: str) -> float:
    """Share of a query's distinct words that a document has; 0 for a query without words."""
    words = set(_words(query))
    return len(words & set(_words(document))) / max(len(words), 1)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def in_bins(differences: pd.DataFrame, feature: pd.Series, *, bins: int = 3) -> pd.DataFrame:
    """Mean differences for queries of low to high values of a feature: columns bin, ranker, mean, low, high, queries.

    `differences` are as `significance.contrasts` takes them; the bins hold about equally many queries, and queries of
    one value are in one bin. Raises ValueError as `correlations`.
    """
    _check(differences, feature.index)
    ranks = feature.rank(method="average")
    groups = pd.qcut(ranks, bins, duplicates="drop", labels=False)
    if groups.nunique() < min(bins, feature.nunique()):  # ties: those queries have a bin of their own
        groups = ((ranks - 0.5) / len(ranks) * bins).astype(int)
    members_of_bins, parts = [members for _, members in feature.groupby(groups)], []
    for members, label in zip(members_of_bins, _labels(members_of_bins), strict=True):
        rows = differences[differences.index.get_level_values(0).isin(members.index)]
        found = significance.contrasts(rows).rename(columns={"difference": "mean"})
        parts.append(found.assign(bin=label)[["bin", "ranker", "mean", "low", "high", "queries"]])
    return pd.concat(parts, ignore_index=True)


def _labels(bins: list[pd.Series]) -> list[str]:
    """A name for each bin, its lowest and highest value: with two digits, or as many as tell all of them apart."""
    ends = [sorted({members.min(), members.max()}) for members in bins]
    for digits in range(2, 18):
        texts = [[_text(value, digits) for value in pair] for pair in ends]
        labels = [" to ".join(pair) for pair in texts]
        if len(set(labels)) == len(labels) and all(len(set(pair)) == len(pair) for pair in texts):
            break
    return labels


def _text(value: float, digits: int) -> str:
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+" in text else text


def _check(differences: pd.DataFrame, queries: pd.Index) -> None:
    """Refuse queries without a difference: a bin or a correlation would silently be of the others."""
    if len(lacking := queries.difference(differences.index.get_level_values(0))):
        what = f"{len(lacking)} of {len(queries)} queries with a feature have no difference, the first {lacking[0]!r}"
        raise ValueError(f"{what}: give features and differences of the same queries")


def correlations(differences: pd.DataFrame, features: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rank correlation of each feature and each ranker's differences: columns feature, ranker, rho, p.

    Differences are averaged over seeds; p has Holm's correction over all rows. A feature that has one value gives nan,
    and p is then 1. Raises ValueError if queries with a feature have no difference.
    """
    _check(differences, features.index)
    by_query = differences.groupby(level=0).mean().round(12).loc[features.index]  # a tie of means up to rounding is one
    rows = []
    for feature, values in features.items():
        for ranker, column in by_query.items():
            varies = np.ptp(values) > 0 and np.ptp(column) > 0
            rho, p = stats.spearmanr(values, column) if varies else (float("nan"), 1.0)
            rows.append({"feature": feature, "ranker": ranker, "rho": rho, "p": p})
    table = pd.DataFrame(rows)
    return table.assign(p=significance.holm(table["p"]))
