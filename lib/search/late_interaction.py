"""Late interaction end to end: neighbours of each query token, then exact MaxSim over the documents they belong to.

ColBERT (Khattab and Zaharia, 2004.12832): a query's score for a document is the sum, over the query's tokens, of the
largest inner product with a token of the document.
"""

from collections.abc import Iterator

import numpy as np
import torch

from lib.models.colbert import max_sim
from lib.models.vectors import VectorStore
from lib.search import nearest

BATCH_VECTORS = 2**16  # document vectors in memory at once, padding included
BATCH_QUERIES = 64  # queries whose neighbours are in memory at once


def score(store: VectorStore, query: torch.Tensor, query_mask: torch.Tensor, rows: np.ndarray) -> np.ndarray:
    """MaxSim of one query, (tokens, dim), with the documents `rows`, (n,), of a store; (n,) float32.

    Raises:
        ValueError: a token that counts has a vector that is not finite.
    """
    nearest.check_finite(query.masked_fill(~query_mask.unsqueeze(-1), 0)[None])
    scores = np.empty(len(rows), dtype=np.float32)
    for some in _batches(store.lengths[rows]):
        documents, mask = store.take(rows[some])
        scores[some] = max_sim(query[None], query_mask[None], documents[None], mask[None])[0].numpy()
    return scores


def search(
    store: VectorStore, index: nearest.Index, queries: torch.Tensor, mask: torch.Tensor, *,
    neighbours: int, depth: int, effort: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """MaxSim, (n, depth) float32, and rows, (n, depth) int64, of the best documents for `queries` (n, width, dim).

    `mask`, (n, width) bool, is true for the tokens that count. Candidates are the documents that own one of the
    `neighbours` vectors nearest to a token; with as many neighbours as vectors the search is exact. Largest first,
    equal scores by row; where there are fewer candidates the score is -inf and the row -1. `effort` as in
    `nearest.search`.

    Raises:
        IndexMismatch: the index was not built from this store.
        ValueError: a query's token that counts has a vector that is not finite.
    """
    if (index.identity, index.layout) != (store.identity, store.about["layout"]):
        raise nearest.IndexMismatch(
            f"the index is of {index.identity} and the vectors are of {store.identity}, or of other documents. Build "
            f"the index from this store: nearest.build({str(store.folder)!r}, ...)."
        )
    queries, mask = queries.detach().float().cpu(), mask.bool().cpu()
    nearest.check_finite(queries.masked_fill(~mask.unsqueeze(-1), 0))
    scores = np.full((len(queries), depth), -np.inf, dtype=np.float32)
    rows = np.full((len(queries), depth), -1, dtype=np.int64)
    for number, candidates in enumerate(_candidates(store, index, queries, mask, neighbours, effort)):
        found = score(store, queries[number], mask[number], candidates)
        best = np.lexsort((candidates, -found))[:depth]
        scores[number, : len(best)], rows[number, : len(best)] = found[best], candidates[best]
    return scores, rows


def _candidates(
    store: VectorStore, index: nearest.Index, queries: torch.Tensor, mask: torch.Tensor, neighbours: int,
    effort: int | None,
) -> Iterator[np.ndarray]:  # fmt: skip
    """The documents, ascending, that own a neighbour of one of the query's tokens: an array a query."""
    for start in range(0, len(queries), BATCH_QUERIES):
        some, counted = queries[start : start + BATCH_QUERIES], mask[start : start + BATCH_QUERIES]
        _, places = nearest.search(index, some[counted], neighbours, effort=effort)  # (tokens, neighbours)
        ends = np.cumsum(counted.sum(1).numpy())
        for owners in np.split(store.documents_of(places), ends[:-1]):
            yield np.unique(owners[owners >= 0])


def _batches(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Positions of documents, similar lengths together, so that padding is little and a batch's memory bounded."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        # the last of a batch is its longest: the largest batch that stays within the bound
        sizes = lengths[order[start:]] * np.arange(1, len(order) - start + 1)
        end = start + max(1, int(np.searchsorted(sizes, BATCH_VECTORS, side="right")))
        yield order[start:end]
        start = end
