"""Nearest neighbours by inner product over a vector store (faiss): exact, a graph, or quantised cells.

The inner product of normalised vectors is their cosine, which is what the graph and the cells are made for. A store
may hold several vectors a document (late interaction): the index is over vectors, and `VectorStore.documents_of` tells
whose they are.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import faiss
import numpy as np
import torch

from lib.machine import store
from lib.models.vectors import Identity, VectorStore

CHUNK = 16_384  # vectors added at once; the order of insertion decides the graph, so this is part of an index's key
MAPPED = getattr(faiss, "IO_FLAG_MMAP_IFC", faiss.IO_FLAG_MMAP)  # older versions map cells only
POINTS_PER_CELL = 39  # of the sample, at the least: k-means in faiss asks for as many


class IndexMismatch(RuntimeError):
    """An index is of another model or collection than the one that is asked for."""


class IndexDamaged(RuntimeError):
    """An index lacks a file or part of one."""


@dataclass(frozen=True)
class Flat:
    """Every vector is compared: exact, as slow as there are vectors, four bytes a number."""


@dataclass(frozen=True)
class HNSW:
    """A graph of small worlds (Malkov and Yashunin, 1603.09320); it keeps vectors in the store's number type."""

    m: int = 32  # links of a vector, twice as many on the lowest layer
    ef_construction: int = 100  # candidates held while a vector is linked
    ef_search: int = 64  # candidates held while searching; never fewer than the depth
    threads: int = 1  # in building; with more it is faster, and the graph differs from one build to the next

    def __post_init__(self) -> None:
        _positive(self)
        if self.m < 2:
            raise ValueError("m=1 makes no graph: give at least 2")


@dataclass(frozen=True)
class IVFPQ:
    """Cells of k-means, and in them product-quantised residuals (Jégou et al., 2011): m * bits / 8 bytes a vector.

    For small stores `nlist` is lowered to a cell for 39 sampled vectors, `bits` to as many codes as there are such.
    """

    nlist: int = 1024  # cells
    m: int = 48  # parts of a vector, each with a code; divides the vectors' dimension
    bits: int = 8  # of a code, at most 8
    nprobe: int = 32  # cells that are searched
    sample: int = 65_536  # vectors that cells and codes are learnt from
    seed: int = 0  # draws the sample and starts k-means

    def __post_init__(self) -> None:
        _positive(self, besides="seed")
        if self.bits > 8:
            raise ValueError(f"bits={self.bits}: a code has at most 8")


Parameters = Flat | HNSW | IVFPQ
KINDS: dict[str, type[Parameters]] = {"flat": Flat, "hnsw": HNSW, "ivf_pq": IVFPQ}


@dataclass(frozen=True)
class Index:
    """An opened index: what it holds and how it was built."""

    searcher: faiss.Index
    identity: Identity
    parameters: Parameters  # as used, after lowering
    layout: str  # of the store it was built from: names, order, vectors a document

    @property
    def total(self) -> int:
        """How many vectors it holds."""
        return self.searcher.ntotal


def build(vectors_folder: Path, identity: Identity, parameters: Parameters) -> Path:
    """The folder of the index over a vector store, built where it is missing: whole or absent.

    The same content and parameters give the same index on the same machine and number of threads. Memory holds the
    index, one chunk of vectors and, for IVFPQ, the sample.

    Raises:
        IndexMismatch: the store was encoded by another model or from another collection.
        ValueError: the parameters do not fit the store.
    """
    vectors = VectorStore(vectors_folder)
    _same(vectors.identity, identity, f"the vector store in {vectors_folder}", "Encode the collection with this model")
    fitted = fit(parameters, vectors.total, vectors.dim)
    name = store.key("index", vectors.about, _kind(parameters), asdict(parameters), CHUNK, faiss.__version__)
    return store.keep("indexes", name, lambda folder: _write(vectors, parameters, fitted, folder))


def load(folder: Path, *, model: str, collection: str) -> Index:
    """Open an index of this model and collection; faiss maps its file, so pages are read when they are needed.

    Raises:
        IndexMismatch: it is of another model or collection.
        IndexDamaged: a file is missing, truncated or unreadable.
    """
    folder = Path(folder)
    mend = "Delete the folder and call nearest.build again."
    try:
        about = json.loads((folder / "index.json").read_text())
        size = (folder / "index.faiss").stat().st_size
    except (OSError, ValueError) as error:
        raise IndexDamaged(f"no whole index in {folder}: {error}. {mend}") from error
    identity = Identity(about["model"], about["collection"])
    _same(identity, Identity(model, collection), f"the index in {folder}", "Call nearest.build for these")
    if size != about["bytes"]:
        raise IndexDamaged(f"{folder / 'index.faiss'} has {size} bytes and should have {about['bytes']}. {mend}")
    try:
        searcher = faiss.read_index(str(folder / "index.faiss"), MAPPED)
    except RuntimeError as error:
        raise IndexDamaged(f"faiss cannot read {folder / 'index.faiss'}: {error}. {mend}") from error
    if (searcher.ntotal, searcher.d) != (about["vectors"], about["dim"]):
        raise IndexDamaged(f"{folder / 'index.faiss'} is another index than index.json describes. {mend}")
    return Index(searcher, identity, KINDS[about["kind"]](**about["fitted"]), about["layout"])


def search(
    index: Index, queries: torch.Tensor | np.ndarray, depth: int, *, effort: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Inner products, (n, depth) float32, and rows, (n, depth) int64, of the nearest vectors of `queries` (n, dim).

    Largest first, equal scores by row; an exact index also looks behind the last place for such ties, an approximate
    one orders what it found. Where fewer are found the score is -inf and the row -1. `effort` takes the place of
    ef_search or nprobe, so that a sweep over them needs one index.

    Raises:
        ValueError: queries have another dimension or are not finite, or depth or effort is below 1.
    """
    queries = np.ascontiguousarray(torch.as_tensor(queries).detach().float().cpu().numpy())
    if queries.ndim != 2 or queries.shape[1] != index.searcher.d:
        raise ValueError(f"queries {queries.shape} do not fit an index of {index.searcher.d} dimensions")
    if depth < 1 or (effort is not None and effort < 1):
        raise ValueError(f"depth={depth} and effort={effort} have to be at least 1")
    check_finite(torch.from_numpy(queries))
    found = min(depth, index.total)
    scores = np.full((len(queries), depth), -np.inf, dtype=np.float32)
    rows = np.full((len(queries), depth), -1, dtype=np.int64)
    if len(queries):
        with _faiss_settings(torch.get_num_threads()):
            look = _exact if isinstance(index.parameters, Flat) else _approximate
            scores[:, :found], rows[:, :found] = look(index, queries, found, effort)
    return scores, rows


def check_finite(queries: torch.Tensor) -> None:
    """Refuse query vectors (n, ..., dim) that would be ranked without a word, as no comparison with NaN is true.

    Raises:
        ValueError: a number is NaN or infinite in float32.
    """
    broken = ~queries.isfinite().flatten(1).all(1)
    if broken.any():
        raise ValueError(
            f"queries: the vector in row {int(broken.nonzero()[0])} is not finite in float32; "
            "encode this query again, or mend the model that encoded it"
        )


def rescore(vectors: VectorStore, queries: torch.Tensor, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put found rows, (n, depth), in the order of the store's own vectors: quantised codes only approximate them.

    For stores with one vector per document. Search deeper than you need, rescore, cut. Returns what `search` does.

    Raises:
        ValueError: queries are not finite.
    """
    queries = torch.as_tensor(queries).float()
    check_finite(queries)
    found = torch.from_numpy(vectors.flat[np.maximum(rows, 0)].astype(np.float32))  # (n, depth, dim)
    scores = torch.einsum("nd,nkd->nk", queries, found).numpy()
    return _ordered(np.where(rows < 0, -np.inf, scores), rows)


def recall(approximate: np.ndarray, exact: np.ndarray, depth: int) -> float:
    """Share of the exact `depth` nearest rows that are among the approximate ones, a mean over queries, (n, >=depth).

    Raises:
        ValueError: a ranking is shorter than `depth`.
    """
    if min(approximate.shape[1], exact.shape[1]) < depth or len(approximate) != len(exact):
        raise ValueError(f"rankings {approximate.shape} and {exact.shape} have no {depth} places each")
    shares = [
        np.isin(true[true >= 0], found).mean()
        for found, true in zip(approximate[:, :depth], exact[:, :depth], strict=True)
    ]
    return float(np.mean(shares))


def fit(parameters: Parameters, total: int, dim: int) -> Parameters:
    """Parameters as they can be used for `total` vectors of `dim` numbers: see `IVFPQ` for what is lowered.

    Raises:
        ValueError: there are no vectors, one only for IVFPQ, or its parts do not divide the dimension.
    """
    if not total:
        raise ValueError("there are no vectors to build an index of")
    if not isinstance(parameters, IVFPQ):
        return parameters
    if dim % parameters.m:
        fitting = [parts for parts in range(1, dim + 1) if dim % parts == 0]
        raise ValueError(f"m={parameters.m} does not divide {dim} dimensions; these do: {fitting}")
    sample = min(parameters.sample, total)
    if sample < 2:
        raise ValueError("codes cannot be learnt from one vector: use Flat")
    nlist = min(parameters.nlist, max(1, sample // POINTS_PER_CELL))
    bits = min(parameters.bits, sample.bit_length() - 1)
    return replace(parameters, sample=sample, nlist=nlist, bits=bits, nprobe=min(parameters.nprobe, nlist))


def _write(vectors: VectorStore, asked: Parameters, fitted: Parameters, folder: Path) -> None:
    with _faiss_settings(fitted.threads if isinstance(fitted, HNSW) else torch.get_num_threads()):
        index = _empty(vectors, fitted)
        for chunk in vectors.chunks(CHUNK):
            index.add(chunk)
        faiss.write_index(index, str(folder / "index.faiss"))
    about = asdict(vectors.identity) | {
        "kind": _kind(asked), "parameters": asdict(asked), "fitted": asdict(fitted), "faiss": faiss.__version__,
        "vectors": vectors.total, "dim": vectors.dim, "layout": vectors.about["layout"],
        "bytes": (folder / "index.faiss").stat().st_size,
    }  # fmt: skip
    (folder / "index.json").write_text(json.dumps(about, indent=1))


def _empty(vectors: VectorStore, parameters: Parameters) -> faiss.Index:
    """An index without vectors; cells and codes are learnt."""
    dim, product = vectors.dim, faiss.METRIC_INNER_PRODUCT
    if isinstance(parameters, Flat):
        return faiss.IndexFlatIP(dim)
    if isinstance(parameters, HNSW):
        if vectors.about["dtype"] == "float16":  # nothing is lost, and it is half the size
            index = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_fp16, parameters.m, product)
        else:
            index = faiss.IndexHNSWFlat(dim, parameters.m, product)
        index.hnsw.efConstruction = parameters.ef_construction
        return index
    cells = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFPQ(cells, dim, parameters.nlist, parameters.m, parameters.bits, product)
    for clustering in (index.cp, index.pq.cp):
        clustering.seed = parameters.seed
        clustering.min_points_per_centroid = 1  # faiss would only warn
    draw = np.random.default_rng(parameters.seed)
    rows = np.sort(draw.choice(vectors.total, parameters.sample, replace=False))
    index.train(_sample(vectors, rows))
    return index


def _sample(vectors: VectorStore, rows: np.ndarray) -> np.ndarray:
    """The vectors at ascending places, float32, read chunk by chunk: scattered reads would map the whole store."""
    ends = np.searchsorted(rows, np.arange(CHUNK, vectors.total + CHUNK, CHUNK))
    parts = np.split(rows, ends[:-1])  # the places within each chunk
    chunks = enumerate(zip(vectors.chunks(CHUNK), parts, strict=True))
    return np.concatenate([chunk[part - number * CHUNK] for number, (chunk, part) in chunks])


def _approximate(index: Index, queries: np.ndarray, depth: int, effort: int | None) -> tuple[np.ndarray, np.ndarray]:
    used = index.parameters
    if isinstance(used, HNSW):  # faiss would stop after ef_search good candidates and fill the places behind with worse
        asked = faiss.SearchParametersHNSW(efSearch=max(effort or used.ef_search, depth))
    else:
        asked = faiss.SearchParametersIVF(nprobe=min(effort or used.nprobe, used.nlist))
    scores, rows = index.searcher.search(queries, depth, params=asked)
    return _ordered(np.where(rows < 0, -np.inf, scores), rows)


def _exact(index: Index, queries: np.ndarray, depth: int, _: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Ask for more until nothing unseen can tie with the last place."""
    asked = min(depth + 1, index.total)
    some_scores, some_rows = _ordered(*index.searcher.search(queries, asked))
    scores, rows = some_scores[:, :depth].copy(), some_rows[:, :depth].copy()
    tied = np.flatnonzero(some_scores[:, depth - 1] == some_scores[:, -1])
    while asked < index.total and len(tied):
        asked = min(2 * asked, index.total)
        some_scores, some_rows = _ordered(*index.searcher.search(queries[tied], asked))
        scores[tied], rows[tied] = some_scores[:, :depth], some_rows[:, :depth]
        tied = tied[some_scores[:, depth - 1] == some_scores[:, -1]]
    return scores, rows


def _ordered(scores: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest score first, equal ones by row."""
    order = np.lexsort((rows, -scores), axis=-1)
    return np.take_along_axis(scores, order, -1), np.take_along_axis(rows, order, -1)


@contextlib.contextmanager
def _faiss_settings(threads: int) -> Iterator[None]:
    """Within it faiss uses this many threads, and matrix products from small batches on.

    faiss 1.15 compares query by query unless queries times dimension reach 128,000: 64 queries of 384 dimensions took
    0.90 s over 100,000 vectors with one thread, and 0.09 s as a product; training IVFPQ gains as much. Its pull request
    5109 makes the bound 800 a thread, as here. In older versions the number is a small count of queries.
    """
    before = faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold
    try:
        faiss.omp_set_num_threads(threads)
        if before[1] >= 100_000:
            faiss.cvar.distance_compute_blas_threshold = 800 * threads
        yield
    finally:
        faiss.omp_set_num_threads(before[0])
        faiss.cvar.distance_compute_blas_threshold = before[1]


def _same(there: Identity, expected: Identity, what: str, mend: str) -> None:
    if there != expected:
        raise IndexMismatch(
            f"{what} is of model {there.model!r} and collection {there.collection!r}; expected were model "
            f"{expected.model!r} and collection {expected.collection!r}. {mend}, or open it with its own."
        )


def _kind(parameters: Parameters) -> str:
    return next(name for name, kind in KINDS.items() if isinstance(parameters, kind))


def _positive(parameters: Parameters, besides: str = "") -> None:
    for name, value in asdict(parameters).items():
        if not isinstance(value, int) or (value < 1 and name != besides) or value < 0:
            raise ValueError(f"{name}={value!r} is not a whole number of at least {int(name != besides)}")
