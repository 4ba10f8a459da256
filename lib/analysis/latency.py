"""What re-ranking costs: time per query."""

import time

import numpy as np
import torch

from lib.models import Ranker
from lib.models.tokens import PairTokens, SeparateTokens
from lib.models.vectors import VectorStore
from lib.training import scoring


def seconds_per_query(
    ranker: Ranker, tokens: PairTokens | SeparateTokens, queries: np.ndarray, documents: np.ndarray, *,
    stored: VectorStore | None = None, repeats: int = 3,
) -> dict[str, float]:  # fmt: skip
    """Median seconds to re-rank one query's documents: `alone` (a query at a time) and `batched` (all queries at once).

    Query ids (queries,) and document ids (queries, depth). With `stored`, documents come from the store and only
    the query is encoded, which architectures that encode texts apart can do. One untimed call comes first.
    """

    def rank(asked: np.ndarray, given: np.ndarray) -> None:
        if stored is None:
            scoring.score(ranker, tokens, asked[:, None], given, batch_size=given.size)
        else:
            scoring.score_stored(ranker, tokens, stored, asked, given)

    rank(queries[:1], documents[:1])
    alone = [
        _seconds(lambda row=row: rank(queries[row : row + 1], documents[row : row + 1])) for row in range(len(queries))
    ]
    batched = [_seconds(lambda: rank(queries, documents)) / len(queries) for _ in range(repeats)]
    return {"alone": float(np.median(alone)), "batched": float(np.median(batched))}


def _seconds(call) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
