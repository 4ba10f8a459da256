"""Training groups: a query, one positive and hard negatives, with labels and, by source, other targets.

Every strategy sees the same groups in the same columns: column 0 is the positive. Groups depend on the collection
alone, not on a run's seed, so that strategies and seeds are compared on the same data and a teacher scores it once.
"""

from collections.abc import Callable, Set
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lib.data import first_stage
from lib.data.collections import Collection
from lib.machine import store

LABELS = "labels"  # the source of targets that every group has
DEPTH = 50  # candidates that hard negatives are drawn from: deeper ones are easier, and fewer are relevant but unjudged


@dataclass(frozen=True)
class Groups:
    """Ids and targets; axis 0 is the query, axis 1 the document."""

    queries: np.ndarray  # (groups,) query ids
    documents: np.ndarray  # (groups, docs) document ids
    targets: dict[str, np.ndarray] = field(default_factory=dict)  # source -> (groups, docs) float32
    related: dict[str, Set[str]] = field(default_factory=dict)  # query id -> documents that are no negatives for it

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def key(self) -> str:
        """Names the (query, document) pairs, whatever the targets."""
        return store.key(self.queries.tolist(), self.documents.tolist())


def available(collection: Collection, split: str = "train") -> int:
    """How many groups a split has: one for each relevant document of a query that the corpus holds."""
    return len(_positives(collection, split))


def build(
    collection: Collection, *, count: int, docs: int, depth: int = DEPTH, split: str = "train",
    find: Callable[[Collection, list[str], int], pd.DataFrame] = first_stage.bm25,
) -> Groups:  # fmt: skip
    """`count` groups of `docs` documents: one relevant, the others drawn from the top `depth` that `find` gives.

    `find(collection, query ids, depth)` is BM25, or any search that gives columns query and document.
    Documents judged with a grade above 0 are never negatives, and judged documents that the corpus lacks are left out.
    A query with several positives gives as many groups, so `count` counts groups, not queries. A query with too few
    candidates is filled up with random documents.

    Raises:
        ValueError: `count` is below 1 or above what is `available`, `docs` is below 2 or above `depth`, or a query has
            fewer other documents than a group needs.
    """
    if not 2 <= docs <= depth:
        raise ValueError(
            f"docs={docs}: a group holds a positive and negatives from {depth} candidates; give 2 to {depth}"
        )
    wanted = _positives(collection, split)
    if not 1 <= count <= len(wanted):
        raise ValueError(
            f"count={count}: {collection.name} has {len(wanted)} groups in its {split} split; give 1 to {len(wanted)}"
        )
    wanted = wanted[:count]
    related = _related(collection, split)
    asked = list(dict.fromkeys(query for query, _ in wanted))
    run = find(collection, asked, depth)
    candidates = {query: list(dict.fromkeys(part["document"])) for query, part in run.groupby("query", sort=False)}
    documents = []
    for number, (query, positive) in enumerate(wanted):
        draw = np.random.default_rng([number, docs])  # by position: the first groups do not depend on `count`
        negatives = _negatives(collection, query, candidates.get(query, []), related[query], docs, draw)
        documents.append([positive, *negatives])
    labels = np.zeros((count, docs), np.float32)
    labels[:, 0] = 1.0
    queries = np.array([query for query, _ in wanted])
    return Groups(queries, np.array(documents), {LABELS: labels}, {query: related[query] for query in asked})


def _positives(collection: Collection, split: str) -> list[tuple[str, str]]:
    """Every (query, relevant document) that the corpus holds, in the queries' order."""
    relevant = collection.relevant(split)
    return [(query, one) for query in relevant for one in sorted(relevant[query]) if one in collection.documents]


def _related(collection: Collection, split: str) -> dict[str, set[str]]:
    """Query id -> the documents judged with a grade above 0, which may be fewer than make a positive."""
    related = {query: set(found) for query, found in collection.relevant(split).items()}
    judged = collection.judgements[split]
    for query, part in judged[judged["grade"] > 0].groupby("query", sort=False):
        related.setdefault(query, set()).update(part["document"])
    return related


def _negatives(
    collection: Collection, query: str, found: list[str], related: Set[str], docs: int, draw: np.random.Generator
) -> np.ndarray:
    """`docs` - 1 of the candidates `found` that are not related to the query, filled up with random documents."""
    pool = [one for one in found if one not in related and one in collection.documents]
    if (missing := docs - 1 - len(pool)) > 0:
        others = [one for one in collection.documents if one not in related and one not in pool]
        if len(others) < missing:
            raise ValueError(
                f"docs={docs}: {collection.name} has only {len(pool) + len(others)} documents that can be negatives of "
                f"query {query!r}; give fewer docs or a larger collection"
            )
        pool += draw.choice(others, missing, replace=False).tolist()
    return draw.choice(pool, docs - 1, replace=False)
