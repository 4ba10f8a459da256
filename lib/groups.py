"""Training groups: a query, one positive and hard negatives, with labels and, by source, other targets.

Every strategy sees the same groups in the same columns: column 0 is the positive. Groups depend on the collection
alone, not on a run's seed, so that strategies and seeds are compared on the same data and a teacher scores it once.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lib import retrieval, store
from lib.collections import Collection

LABELS = "labels"  # the source of targets that every group has


@dataclass(frozen=True)
class Groups:
    """Ids and targets; axis 0 is the query, axis 1 the document."""

    queries: np.ndarray  # (groups,) query ids
    documents: np.ndarray  # (groups, docs) document ids
    targets: dict[str, np.ndarray] = field(default_factory=dict)  # source -> (groups, docs) float32

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def key(self) -> str:
        """Names the (query, document) pairs, whatever the targets."""
        return store.key(self.queries.tolist(), self.documents.tolist())


def build(
    collection: Collection, *, count: int, docs: int, depth: int = 50, split: str = "train",
    find: Callable[[Collection, list[str], int], pd.DataFrame] = retrieval.bm25,
) -> Groups:  # fmt: skip
    """`count` groups of `docs` documents: one relevant, the others drawn from the top `depth` that `find` gives.

    `find(collection, query ids, depth)` is BM25, or any search that gives columns query and document.
    Judged relevant documents are never negatives. A query with several positives gives as many groups, so `count`
    counts groups, not queries. A query with too few candidates is filled up with random documents.

    Raises:
        ValueError: the split has fewer groups than `count`, or `docs` is below 2 or above `depth`.
    """
    if not 2 <= docs <= depth:
        raise ValueError(f"docs={docs}: a group holds 2 to depth={depth} documents")
    relevant = collection.relevant(split)
    wanted = [(query, document) for query in relevant for document in sorted(relevant[query])][:count]
    if len(wanted) < count:
        raise ValueError(f"count={count}: {collection.name} has {len(wanted)} groups in its {split} split")
    asked = list(dict.fromkeys(query for query, _ in wanted))
    run = find(collection, asked, depth)
    candidates = {query: part["document"].to_numpy() for query, part in run.groupby("query", sort=False)}
    everything = np.array(list(collection.documents))
    queries, documents = [], []
    for number, (query, positive) in enumerate(wanted):
        draw = np.random.default_rng([number, docs])  # by position: the first groups do not depend on `count`
        found = candidates.get(query, everything[:0])
        pool = found[~np.isin(found, list(relevant[query]))]
        if len(pool) < docs - 1:
            others = everything[~np.isin(everything, [*pool, *relevant[query]])]
            pool = np.concatenate([pool, draw.choice(others, docs - 1 - len(pool), replace=False)])
        queries.append(query)
        documents.append([positive, *draw.choice(pool, docs - 1, replace=False)])
    labels = np.zeros((count, docs), np.float32)
    labels[:, 0] = 1.0
    return Groups(np.array(queries), np.array(documents), {LABELS: labels})
