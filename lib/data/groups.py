"""Training groups: a query, one positive and hard negatives, with labels and, by source, other targets.

Every strategy sees the same groups in the same columns: column 0 is the positive. Groups depend on the collection
alone, not on a run's seed, so that strategies and seeds are compared on the same data and a teacher scores it once.
"""

import warnings
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from lib.data import first_stage
from lib.data.beir import CollectionWarning
from lib.data.collections import Collection
from lib.data.texts import Ids, Texts
from lib.machine import store

LABELS = "labels"  # the source of targets that every group has
DEPTH = 50  # candidates that hard negatives are drawn from: deeper ones are easier, and fewer are relevant but unjudged


@dataclass(frozen=True)
class Groups:
    """Ids and targets; axis 0 is the query, axis 1 the document."""

    queries: np.ndarray  # (groups,)
    documents: np.ndarray  # (groups, docs)
    targets: dict[str, np.ndarray]  # source -> (groups, docs) float32
    related: dict[str, Set[str]]  # query id -> documents that are no negatives for it

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def key(self) -> str:
        """Names the (query, document) pairs, whatever the targets."""
        return store.key(self.queries.tolist(), self.documents.tolist())


def available(collection: Collection, positives: int | None = None) -> int:
    """How many groups the training split has: one for each relevant document of a query that the corpus holds.

    `positives`: so many of a query at most.
    """
    return sum(len(list(relevant)[:positives]) for relevant in collection.relevant("train").values())


def judged_negatives(collection: Collection, queries: list[str], depth: int) -> pd.DataFrame:
    """What `build` draws from instead of a search: the training documents of grade 0, such as a triple's negatives."""
    rows = collection.judgements["train"]
    return rows[(rows["grade"] <= 0) & rows["query"].isin(set(queries))].groupby("query").head(depth)


def no_candidates(_collection: Collection, _queries: list[str], _depth: int) -> pd.DataFrame:
    """Where `build` should draw from the whole collection."""
    return pd.DataFrame({"query": [], "document": []}, dtype=str)


def build(
    collection: Collection, *, count: int, docs: int, positives: int | None = None,
    find: Callable[[Collection, list[str], int], pd.DataFrame] = first_stage.bm25, strata: bool = False,
) -> Groups:  # fmt: skip
    """`count` groups of `docs` documents: one relevant, the others drawn from the top `DEPTH` that `find` gives.

    `find(collection, query ids, depth)` gives columns query and document. A query has a group for each of its
    positives, or for its first `positives`. Documents judged with a grade above 0 are never negatives, nor are copies
    of relevant ones or the query's own (`Collection.themselves`), and judged documents that the corpus lacks are left
    out. Where candidates are too few, random documents are added. With `strata` the candidates, in their order, are
    parted into as many as a group has negatives, and one is drawn from each. Warns if few queries fill most groups, or
    chance most negatives that `find` should give. Raises ValueError if there are fewer groups than `count` or fewer
    documents than `docs`.
    """
    if not 2 <= docs <= DEPTH:
        raise ValueError(f"docs={docs}: a group is a positive and negatives from {DEPTH} candidates; give 2 to {DEPTH}")
    relevant, there = collection.relevant("train"), available(collection, positives)
    if not 1 <= count <= there:
        raise ValueError(f"count={count}: {collection.name} has {there} groups in its train split; give 1 to {there}")
    pairs = [(query, document) for query in relevant for document in sorted(relevant[query])[:positives]][:count]
    queries = list(dict.fromkeys(query for query, _ in pairs))
    if 4 * len(queries) < min(count, len(relevant)):
        fix = "give positives=1, or another small number, for groups of more queries"
        _warn(f"{collection.name}: {count} groups are of {len(queries)} of {len(relevant)} training queries; {fix}")
    judged = collection.judgements["train"]
    judged = judged[(judged["grade"] > 0) & judged["query"].isin(queries)]
    related = judged.groupby("query", sort=False)["document"].agg(set).to_dict()
    for query in collection.themselves(queries):
        related[query].add(query)
    found = find(collection, queries, DEPTH)
    known = set(found["document"]) & collection.documents.keys()
    candidates = found.groupby("query", sort=False)["document"].agg(list).to_dict()
    given = collection.documents
    ids = given.ids if isinstance(given, Texts) else Ids.of([list(given)])
    pools, documents, by_chance = _Pools(collection.name, ids, candidates, known, related, docs, strata), [], 0
    for number, (query, positive) in enumerate(pairs):
        texts = {given[one] for one in related[query] if one in relevant[query] or one == query}
        negatives, pool, missing = pools.draw(number, query)
        while any(given[one] in texts for one in negatives):
            related[query] |= {one for one in pool if given[one] in texts}  # copies, which nobody had to judge
            negatives, pool, missing = pools.draw(number, query)
        documents.append([positive, *negatives])
        by_chance += missing
    if find is not no_candidates and 2 * by_chance > count * (docs - 1):
        what = f"{by_chance} of {count * (docs - 1)} negatives are random documents"
        _warn(f"{collection.name}: {what}, since what should find them gives too few")
    labels = np.zeros((count, docs), np.float32)
    labels[:, 0] = 1.0
    return Groups(np.array([query for query, _ in pairs]), np.array(documents), {LABELS: labels}, related)


class _Pools(NamedTuple):
    """What the negatives of each query are drawn from."""

    name: str  # of the collection
    ids: Ids
    candidates: dict[str, list[str]]
    known: set[str]  # candidates that the collection has
    related: dict[str, set[str]]  # what is no negative of a query
    docs: int
    strata: bool

    def draw(self, number: int, query: str) -> tuple[list[str], list[str], int]:
        """The negatives of group `number`, the pool they were drawn from, and how many of that are there by chance."""
        draw = np.random.default_rng([number, self.docs])  # by position: the first groups do not depend on `count`
        unique = dict.fromkeys(self.candidates.get(query, []))
        pool = [one for one in unique if one not in self.related[query] and one in self.known]
        missing = max(self.docs - 1 - len(pool), 0)
        if missing:
            taken = np.unique(self.ids.rows([*self.related[query], *pool]))
            taken = taken[taken >= 0]
            if (left := len(self.ids) - len(taken)) < missing:
                what = f"{self.name} has only {len(pool) + left} documents that can be negatives of query"
                raise ValueError(f"docs={self.docs}: {what} {query!r}; give fewer docs or a larger collection")
            pool += _others(self.ids, taken, missing, draw)
        if self.strata:
            return [draw.choice(part) for part in np.array_split(pool, self.docs - 1)], pool, missing
        return list(draw.choice(pool, self.docs - 1, replace=False)), pool, missing


def _warn(what: str) -> None:
    warnings.warn(what, CollectionWarning, stacklevel=3)


def _others(ids: Ids, taken: np.ndarray, count: int, draw: np.random.Generator) -> list[str]:
    """Random documents, each once, that are not in the rows `taken` (rising); no document is walked over."""
    places = draw.choice(len(ids) - len(taken), count, replace=False)  # counted without the taken rows
    rows = places + np.searchsorted(taken - np.arange(len(taken)), places, side="right")
    return ids.names.take(pa.array(rows)).to_pylist()
