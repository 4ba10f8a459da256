"""Late interaction end to end: neighbours of each query token, then exact MaxSim over the documents they belong to.

Khattab and Zaharia 2020 (ColBERT), https://arxiv.org/abs/2004.12832, section 3.6.
"""

import numpy as np

from lib.models.colbert import max_sim
from lib.models.vectors import Vectors, VectorStore
from lib.search import nearest

BATCH_VECTORS = 2**16  # document vectors in memory at once, padding included


def score(store: VectorStore, query: Vectors, rows: np.ndarray) -> np.ndarray:
    """MaxSim of one query, (1, tokens, dim), with the documents `rows`, (n,), of a store; (n,) float32."""
    scores = np.empty(len(rows), dtype=np.float32)
    order = np.argsort(store.lengths[rows], kind="stable")  # similar lengths together: little padding
    while len(order):
        sizes = store.lengths[rows[order]] * np.arange(1, len(order) + 1)  # the last of a batch is its longest
        batch, order = np.split(order, [max(1, np.searchsorted(sizes, BATCH_VECTORS, side="right"))])
        documents = store.take(rows[batch]).map(lambda part: part.unsqueeze(0))
        scores[batch] = max_sim(query, documents)[0].numpy()
    return scores


def search(
    index: nearest.Index, queries: Vectors, *, neighbours: int, depth: int, effort: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """MaxSim, (n, depth) float32, and rows, (n, depth) int64, of the best documents for queries (n, width, dim).

    Candidates are the documents that own one of the `neighbours` vectors nearest to a token; with as many neighbours as
    vectors the search is exact. Order, missing candidates and `effort` are as in `nearest.search`. Raises ValueError
    if a vector that counts is not finite.
    """
    _, places = nearest.search(index, queries.values[queries.mask], neighbours, effort=effort)  # (tokens, neighbours)
    owners = np.split(index.vectors.documents_of(places), queries.mask.sum(1).cumsum(0).numpy())  # by query
    scores = np.full((len(queries.mask), depth), -np.inf, dtype=np.float32)
    rows = np.full((len(queries.mask), depth), -1, dtype=np.int64)
    for number, (values, mask) in enumerate(zip(*queries, strict=True)):
        candidates = np.setdiff1d(owners[number], [-1])
        found = score(index.vectors, Vectors(values[None], mask[None]), candidates)
        best = np.lexsort((candidates, -found))[:depth]
        scores[number, : len(best)], rows[number, : len(best)] = found[best], candidates[best]
    return scores, rows
