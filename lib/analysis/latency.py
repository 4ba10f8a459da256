"""What re-ranking costs: time per query."""

import time

import numpy as np

from lib.models import Ranker
from lib.models.tokens import PairTokens, SeparateTokens
from lib.models.vectors import VectorStore
from lib.training import scoring


def seconds_per_query(
    ranker: Ranker, tokens: PairTokens | SeparateTokens, queries: np.ndarray, documents: np.ndarray, *,
    stored: VectorStore | None = None,
) -> dict[str, float]:  # fmt: skip
    """Median seconds to re-rank one query's documents: `alone` (a query at a time) and `batched` (all queries at once).

    Query ids (queries,) and document ids (queries, depth). With `stored`, only the queries are encoded. What is done
    once for a model, such as ordering its weights, is not counted.
    """

    def seconds(rows: slice) -> float:
        start = time.perf_counter()
        pairs = documents[rows].size
        if stored is None:
            scoring.score(ranker, tokens, queries[rows, None], documents[rows], batch_size=pairs)
        else:
            scoring.score_stored(ranker, tokens, stored, queries[rows], documents[rows], batch_size=pairs)
        return time.perf_counter() - start  # scores are on the processor: nothing is still being computed

    with scoring.ready(ranker):
        seconds(slice(1))  # to warm up
        alone = [seconds(slice(row, row + 1)) for row in range(len(queries))]
        batched = [seconds(slice(None)) / len(queries) for _ in range(3)]
    return {"alone": float(np.median(alone)), "batched": float(np.median(batched))}
