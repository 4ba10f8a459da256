"""Nearest neighbours by inner product over a vector store, in any index that faiss's `index_factory` describes.

"Flat" compares every vector and is exact. "HNSW32" is a graph with 32 links per vector (Malkov and Yashunin,
1603.09320). "IVF64,PQ48" has 64 cells of k-means, and in them product-quantised residuals of 48 bytes (Jégou et al.,
2011). All are listed at https://github.com/facebookresearch/faiss/wiki/The-index-factory. Graphs and cells are made for
normalised vectors, whose inner product is the cosine.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import torch

from lib.machine import store
from lib.models.vectors import Identity, VectorStore

CHUNK = 16_384  # vectors added at once; the order of insertion decides the graph, so this is part of an index's key
CANDIDATES = 100  # held while a vector is linked into a graph
SAMPLE = 65_536  # vectors that cells and codes are learnt from, at the most
POINTS_PER_CELL = 39  # of the sample, at the least: k-means in faiss asks for as many
MAPPED = getattr(faiss, "IO_FLAG_MMAP_IFC", faiss.IO_FLAG_MMAP)  # older versions map cells only


@dataclass(frozen=True)
class Index:
    """An opened index over a store's vectors."""

    searcher: faiss.Index
    factory: str
    vectors: VectorStore


def build(vectors: VectorStore, identity: Identity, factory: str) -> Index:
    """The index over a vector store, built where it is missing and mapped from its file; `factory` describes it.

    Few vectors get fewer cells and shorter codes than described. Raises ValueError if the vectors are of another model
    or collection than `identity` says, or if faiss does not know the description or it does not fit the vectors.
    """
    if vectors.identity != identity:
        raise ValueError(
            f"the vector store in {vectors.folder} is of {vectors.identity}; expected was {identity}. Encode the "
            "collection with this model."
        )
    name = store.key("index", vectors.about, factory, CHUNK, CANDIDATES, SAMPLE, faiss.__version__)
    folder = store.keep("indexes", name, lambda folder: _write(vectors, factory, folder))
    return Index(faiss.read_index(str(folder / "index.faiss"), MAPPED), factory, vectors)


def _write(vectors: VectorStore, factory: str, folder: Path) -> None:
    few = min(vectors.total, SAMPLE)
    cells, bits = max(1, few // POINTS_PER_CELL), max(1, few.bit_length() - 1)
    fitted = re.sub(r"\bIVF(\d+)", lambda found: f"IVF{min(int(found[1]), cells)}", factory)
    fitted = re.sub(r"\bPQ(\d+)(?:x(\d+))?", lambda found: f"PQ{found[1]}x{min(int(found[2] or 8), bits)}", fitted)
    with _settings(1 if "HNSW" in factory else torch.get_num_threads()):  # a graph depends on the order of its threads
        try:
            index = faiss.index_factory(vectors.dim, fitted, faiss.METRIC_INNER_PRODUCT)
            if isinstance(index, faiss.IndexHNSW):
                index.hnsw.efConstruction = CANDIDATES
            if isinstance(index, faiss.IndexIVFPQ):
                index.do_polysemous_training = False  # slow, and only for a search by Hamming distance
                for clustering in (index.cp, index.pq.cp):
                    clustering.seed, clustering.min_points_per_centroid = 0, 1  # with fewer faiss would only warn
            if not index.is_trained:
                step = max(1, -(-vectors.total // SAMPLE))
                index.train(np.concatenate([chunk[::step] for chunk in vectors.chunks(CHUNK)]))
            for chunk in vectors.chunks(CHUNK):
                index.add(chunk)
        except (RuntimeError, ValueError, AssertionError) as error:
            raise ValueError(
                f"index {factory!r} cannot be built over {vectors.total} vectors of {vectors.dim} numbers: "
                f"{str(error).strip().splitlines()[-1]}. Give one that fits, like 'Flat', 'HNSW32' or 'IVF64,PQ48'."
            ) from error
        faiss.write_index(index, str(folder / "index.faiss"))


def search(
    index: Index, queries: torch.Tensor | np.ndarray, depth: int, *, effort: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """Inner products, (n, depth) float32, and rows, (n, depth) int64, of the nearest vectors of `queries` (n, dim).

    Largest first, equal scores by row; an exact index also looks behind the last place for such ties. Where fewer are
    found the score is -inf and the row -1. `effort` is how many candidates a graph holds (never fewer than `depth`), or
    how many cells are searched. Raises ValueError if queries do not fit or are not finite, or a number is below 1.
    """
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    if queries.ndim != 2 or queries.shape[1] != index.searcher.d:
        raise ValueError(f"queries {queries.shape} do not fit an index of {index.searcher.d} dimensions")
    if depth < 1 or effort < 1:
        raise ValueError(f"depth={depth} and effort={effort} have to be at least 1")
    broken = ~np.isfinite(queries).all(1)  # no comparison with NaN is true
    if broken.any():
        raise ValueError(f"queries: the vector in row {broken.argmax()} is not finite; fix the model that encoded it")
    with _settings(torch.get_num_threads()):
        if index.factory == "Flat":
            scores, rows = _exact(index.searcher, queries, depth, depth + 1)
        else:  # with a smaller efSearch, faiss would fill the last places with what it happened to see
            kinds = {"IVF": ("nprobe", effort), "HNSW": ("efSearch", max(effort, depth))}
            if kind := next((kind for kind in kinds if kind in index.factory), None):
                faiss.ParameterSpace().set_index_parameter(index.searcher, *kinds[kind])
            scores, rows = _ordered(*index.searcher.search(queries, depth))
    return np.where(rows < 0, -np.inf, scores).astype(np.float32), rows


def _exact(searcher: faiss.Index, queries: np.ndarray, depth: int, more: int) -> tuple[np.ndarray, np.ndarray]:
    """Search `more` than `depth` until nothing unseen can tie with the last place."""
    scores, rows = _ordered(*searcher.search(queries, more))
    tied = scores[:, depth - 1] == scores[:, -1]
    if more < searcher.ntotal and tied.any():
        scores[tied, :depth], rows[tied, :depth] = _exact(searcher, queries[tied], depth, 2 * more)
    return scores[:, :depth], rows[:, :depth]


def _ordered(scores: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest score first, equal ones by row."""
    order = np.lexsort((rows, -scores), axis=-1)
    return np.take_along_axis(scores, order, -1), np.take_along_axis(rows, order, -1)


def recall(approximate: np.ndarray, exact: np.ndarray, depth: int) -> float:
    """Share of the exact `depth` nearest rows that are among the approximate ones (n, >= depth), mean over queries."""
    if min(approximate.shape[1], exact.shape[1]) < depth or len(approximate) != len(exact):
        raise ValueError(f"rankings {approximate.shape} and {exact.shape} have no {depth} places each")
    pairs = zip(approximate[:, :depth], exact[:, :depth], strict=True)
    return float(np.mean([np.isin(true[true >= 0], found).mean() for found, true in pairs]))


@contextlib.contextmanager
def _settings(threads: int) -> Iterator[None]:
    """Within it faiss uses this many threads, and matrix products for few queries too.

    faiss 1.15 compares query by query, ten times slower, unless queries times dimension reach 128,000; its pull request
    5109 makes the bound 800 per thread, as here. In older versions the number is a small count of queries.
    """
    before, bound = faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold
    try:
        faiss.omp_set_num_threads(threads)
        faiss.cvar.distance_compute_blas_threshold = 800 * threads if bound >= 100_000 else bound
        yield
    finally:
        faiss.omp_set_num_threads(before)
        faiss.cvar.distance_compute_blas_threshold = bound
