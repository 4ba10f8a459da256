"""Late interaction end to end: neighbours of each query token, then exact MaxSim over the documents they belong to.

Khattab and Zaharia 2020 (ColBERT), https://arxiv.org/abs/2004.12832, section 3.6.
"""

from collections.abc import Iterator

import numpy as np

from lib.models.colbert import max_sim
from lib.models.vectors import Vectors, VectorStore
from lib.search import nearest

BATCH_VECTORS = 2**16  # document vectors in memory at once, padding included
BATCH_QUERIES = 64  # queries whose neighbours are in memory at once


def score(store: VectorStore, query: Vectors, rows: np.ndarray) -> np.ndarray:
    """MaxSim of one query, (1, tokens, dim), with the documents `rows`, (n,), of a store; (n,) float32."""
    scores = np.empty(len(rows), dtype=np.float32)
    for batch in _batches(store.lengths[rows]):
        documents = store.take(rows[batch]).map(lambda part: part.unsqueeze(0))
        scores[batch] = max_sim(query, documents)[0].numpy()
    return scores


def search(
    index: nearest.Index, queries: Vectors, *, neighbours: int, depth: int, effort: int = nearest.EFFORT
) -> tuple[np.ndarray, np.ndarray]:
    """MaxSim, (n, depth) float32, and rows, (n, depth) int64, of the best documents for queries (n, width, dim).

    Candidates are the documents that own one of the `neighbours` vectors nearest to a token; with as many neighbours as
    vectors the search is exact. Order, missing candidates and `effort` are as in `nearest.search`. Raises ValueError
    if a vector that counts is not finite.
    """
    queries = Vectors(queries.values.detach().float().cpu(), queries.mask.cpu())
    nearest.check_finite(queries.values.masked_fill(~queries.mask.unsqueeze(-1), 0))
    scores = np.full((len(queries.mask), depth), -np.inf, dtype=np.float32)
    rows = np.full((len(queries.mask), depth), -1, dtype=np.int64)
    for number, candidates in enumerate(_candidates(index, queries, neighbours, effort)):
        query = Vectors(queries.values[number, None], queries.mask[number, None])
        found = score(index.vectors, query, candidates)
        best = np.lexsort((candidates, -found))[:depth]
        scores[number, : len(best)], rows[number, : len(best)] = found[best], candidates[best]
    return scores, rows


def _candidates(index: nearest.Index, queries: Vectors, neighbours: int, effort: int) -> Iterator[np.ndarray]:
    """For each query, the documents, ascending, that own a neighbour of one of its tokens."""
    for start in range(0, len(queries.mask), BATCH_QUERIES):
        values, mask = (part[start : start + BATCH_QUERIES] for part in queries)
        _, places = nearest.search(index, values[mask], neighbours, effort=effort)  # (tokens, neighbours)
        ends = np.cumsum(mask.sum(1).numpy())
        for owners in np.split(index.vectors.documents_of(places), ends[:-1]):
            yield np.unique(owners[owners >= 0])


def _batches(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Positions of documents, similar lengths together: little padding, and at most `BATCH_VECTORS` with it."""
    order = np.argsort(lengths, kind="stable")
    while len(order):
        sizes = lengths[order] * np.arange(1, len(order) + 1)  # the last of a batch is its longest
        end = max(1, int(np.searchsorted(sizes, BATCH_VECTORS, side="right")))
        yield order[:end]
        order = order[end:]
