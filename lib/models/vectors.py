"""Vector store: the vectors of many documents in one array on disk, memory-mapped.

A bi-encoder gives a document one vector, late interaction one a token. Both are one flat array and where each
document starts in it. Encoding is fastest with the longest documents first, so vectors may be put in any order.
"""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

DTYPES = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}


class StoreDamaged(RuntimeError):
    """A vector store lacks a file or part of one."""


@dataclass(frozen=True)
class Identity:
    """Whose vectors these are. Texts are cut by the model's settings, so its key has to contain them."""

    model: str  # key of the model that encoded
    collection: str  # fingerprint of the collection that was encoded


class VectorStore:
    """The vectors of many documents; reading maps the file and loads what is asked for."""

    def __init__(self, folder: Path):
        """Open what `create` or `write` made.

        Raises:
            StoreDamaged: a file is missing, truncated or does not belong to the others.
        """
        self.folder = Path(folder)
        try:
            self.about = json.loads((self.folder / "about.json").read_text())
            self.names: list[str] = json.loads((self.folder / "names.json").read_text())
            self.starts = np.load(self.folder / "starts.npy")
            flat = np.load(self.folder / "vectors.npy", mmap_mode="r")  # refuses a file shorter than its header says
        except (OSError, ValueError) as error:
            raise StoreDamaged(f"no whole vector store in {folder}: {error}. Delete it and encode again.") from error
        self.total, self.dim = int(self.starts[-1]), flat.shape[1]
        if len(self.starts) != len(self.names) + 1 or len(flat) != max(self.total, 1):
            raise StoreDamaged(f"the files of the vector store in {folder} disagree. Delete it and encode again.")
        self.flat = np.asarray(flat)[: self.total]  # (vectors, dim), still mapped
        self.identity = Identity(self.about["model"], self.about["collection"])
        self.lengths = np.diff(self.starts)  # (documents,): vectors of each

    def __len__(self) -> int:
        return len(self.names)

    @functools.cached_property
    def row(self) -> dict[str, int]:
        """Document id -> where it stands; made when first asked for, as building an index needs none."""
        return {name: row for row, name in enumerate(self.names)}

    @property
    def bytes_per_document(self) -> float:
        """Mean size of a document's vectors on disk."""
        return self.total * self.dim * self.flat.itemsize / max(len(self), 1)

    def rows(self, names: Sequence[str]) -> np.ndarray:
        """Where the documents of these ids stand in the store, (names,)."""
        return np.fromiter((self.row[name] for name in names), dtype=np.int64, count=len(names))

    def take(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """The vectors of some documents, (n, width, dim) float32, zero where `mask`, (n, width) bool, is false.

        `width` is the largest number of vectors that one of them has.
        """
        rows = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[rows]
        place = np.arange(lengths.max(initial=0))[None, :]  # (1, width)
        mask = place < lengths[:, None]
        vectors = np.zeros((*mask.shape, self.dim), dtype=np.float32)
        vectors[mask] = self.flat[(self.starts[rows][:, None] + place)[mask]]
        return torch.from_numpy(vectors), torch.from_numpy(mask)

    def documents_of(self, places: np.ndarray) -> np.ndarray:
        """Which document the vectors at these places of the flat array belong to, same shape; -1 stays -1."""
        places = np.asarray(places)
        return np.where(places < 0, -1, np.searchsorted(self.starts, places, side="right") - 1)

    def chunks(self, size: int) -> Iterator[np.ndarray]:
        """All vectors in order as float32 arrays of at most `size` rows.

        Each chunk is read through a mapping of its own: pages read do not pile up in the process's memory.
        """
        for start in range(0, self.total, size):
            mapped = np.load(self.folder / "vectors.npy", mmap_mode="r")[: self.total]
            yield np.array(mapped[start : start + size], dtype=np.float32)


class Writer:
    """Fills a store whose documents' lengths are known, in any order of documents: see `create`."""

    def __init__(self, folder: Path, names: Sequence[str], starts: np.ndarray):
        self._path = folder / "vectors.npy"
        self._names = names
        self._starts = starts
        self._written = np.diff(starts) == 0  # (documents,): nothing is awaited from those without vectors

    def put(self, rows: np.ndarray, vectors: torch.Tensor, mask: torch.Tensor | None = None) -> None:
        """Write the vectors of the documents `rows`, (n,).

        `vectors` are (n, width, dim) with `mask` (n, width), true for each vector that is kept; or (n, dim), one a
        document.

        Raises:
            ValueError: shapes or a document's number of vectors are not the expected ones, or a value is not finite
                in the store's type (float16 ends at 65504).
        """
        rows = np.asarray(rows, dtype=np.int64)
        vectors = _array(vectors)
        if vectors.ndim == 2:
            vectors, mask = vectors[:, None], np.ones((len(vectors), 1), dtype=bool)
        mask = _array(mask).astype(bool)
        lengths = mask.sum(1)
        expected = self._starts[rows + 1] - self._starts[rows]
        if vectors.shape[:2] != mask.shape or len(rows) != len(mask) or not np.array_equal(lengths, expected):
            raise ValueError(
                f"vectors {vectors.shape} and mask {mask.shape} with {lengths.tolist()[:8]} vectors a document do not "
                f"fit {len(rows)} rows that were announced with {expected.tolist()[:8]}"
            )
        place = (self._starts[rows][:, None] + np.cumsum(mask, axis=1) - 1)[mask]
        # a mapping of its own for each call: written pages do not pile up in the process's memory
        flat = np.load(self._path, mmap_mode="r+")
        flat[place] = _finite(
            vectors[mask], flat.dtype, flat.shape[1], lambda number: self._names[np.repeat(rows, lengths)[number]]
        )
        self._written[rows] = True

    def close(self) -> None:
        """Say that everything was put.

        Raises:
            ValueError: some documents were not.
        """
        if missing := int((~self._written).sum()):
            raise ValueError(f"{missing} of {len(self._written)} documents were not written")

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            self.close()


def create(
    folder: Path, names: Sequence[str], lengths: Sequence[int], dim: int, dtype: str, identity: Identity
) -> Writer:
    """A store of known sizes, to be filled in any order: `with create(...) as writer: writer.put(rows, ...)`.

    Its place on the disk is taken at once, so a full disk is an error here and not a crash in the middle. Call it
    from a `build` of `lib.machine.store.keep`, which makes the folder whole or absent.

    Raises:
        ValueError: names repeat, lengths are negative or not one a name, or the type is neither float16 nor float32.
        OSError: the disk is full.
    """
    _check(names, dtype)
    lengths = np.asarray(lengths, dtype=np.int64)
    if lengths.shape != (len(names),) or (lengths < 0).any():
        raise ValueError(f"{len(names)} names need as many lengths of at least 0, not {lengths.shape} numbers")
    starts = np.concatenate([[0], np.cumsum(lengths)])
    _describe(folder, names, starts, dim, dtype, identity)
    shape = (max(int(starts[-1]), 1), dim)  # never empty: it can be mapped
    np.lib.format.open_memmap(folder / "vectors.npy", mode="w+", dtype=DTYPES[dtype], shape=shape)
    if hasattr(os, "posix_fallocate"):  # a mapped hole on a full disk would kill the process instead of raising
        with open(folder / "vectors.npy", "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    return Writer(folder, names, starts)


def write(
    folder: Path, names: Sequence[str], chunks: Iterable[Sequence], dim: int, dtype: str, identity: Identity
) -> None:
    """A store written in the order of `names`, with lengths that are not known before; memory holds one chunk.

    A chunk is some documents' vectors, each (length, dim), or one (n, dim) array with one vector a document.

    Raises:
        ValueError: as in `create` and `Writer.put`, or the chunks hold more or fewer documents than there are names.
    """
    _check(names, dtype)
    lengths: list[int] = []
    with open(folder / "vectors.npy", "wb") as file:
        _header(file, (0, dim), dtype)  # numpy leaves room in it for a larger first axis
        for chunk in chunks:
            first = len(lengths)
            if isinstance(chunk, np.ndarray | torch.Tensor) and chunk.ndim == 2:
                lengths += [1] * len(chunk)
                block = _array(chunk)
            else:
                documents = [_array(document) for document in chunk]
                lengths += [len(document) for document in documents]
                block = np.concatenate([np.zeros((0, dim), np.float32), *documents])
            if len(lengths) > len(names):
                break  # said below
            owners = np.repeat(np.arange(first, len(lengths)), lengths[first:])
            file.write(
                _finite(block, DTYPES[dtype], dim, lambda number, owners=owners: names[owners[number]]).tobytes()
            )
        if len(lengths) != len(names):
            raise ValueError(f"{len(names)} names, but vectors of {len(lengths)} documents")
        if not sum(lengths):
            file.write(np.zeros((1, dim), DTYPES[dtype]).tobytes())  # never empty: it can be mapped
        file.seek(0)
        _header(file, (max(sum(lengths), 1), dim), dtype)
    _describe(folder, names, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), dim, dtype, identity)


def _header(file, shape: tuple[int, int], dtype: str) -> None:
    described = np.lib.format.dtype_to_descr(DTYPES[dtype])
    np.lib.format.write_array_header_1_0(file, {"descr": described, "fortran_order": False, "shape": shape})


def _check(names: Sequence[str], dtype: str) -> None:
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    if len(set(names)) != len(names):
        raise ValueError("names repeat: a document has one id")


def _describe(folder: Path, names: Sequence[str], starts: np.ndarray, dim: int, dtype: str, identity: Identity) -> None:
    text = json.dumps(list(names))
    layout = hashlib.sha256(text.encode() + starts.astype("<i8").tobytes()).hexdigest()[:16]
    about = {"dim": dim, "dtype": dtype, "documents": len(names), "vectors": int(starts[-1]), "layout": layout}
    np.save(folder / "starts.npy", starts.astype(np.int64))
    (folder / "names.json").write_text(text)
    (folder / "about.json").write_text(json.dumps(asdict(identity) | about, indent=1))


def _array(vectors: object) -> np.ndarray:
    """A numpy array of a tensor of any type and device, or of anything that numpy reads."""
    if isinstance(vectors, torch.Tensor):
        vectors = vectors.detach().cpu()
        return (vectors.float() if vectors.dtype == torch.bfloat16 else vectors).numpy()  # numpy has no bfloat16
    return np.asarray(vectors)


def _finite(vectors: np.ndarray, dtype: np.dtype, dim: int, owner: Callable[[int], str]) -> np.ndarray:
    """Vectors (vectors, dim) in the store's type; `owner` tells whose document each is."""
    if vectors.shape[1:] != (dim,):
        raise ValueError(f"vectors of {vectors.shape[1:]} numbers, the store has {dim}")
    with np.errstate(over="ignore"):  # said below
        stored = vectors.astype(dtype)
    if len(broken := np.flatnonzero(~np.isfinite(stored).all(1))):
        mend = "give dtype='float32'" if np.isfinite(vectors[broken[0]]).all() else "mend the model that encoded it"
        raise ValueError(f"document {owner(broken[0])!r}: a vector is not finite in {dtype.name}; {mend}")
    return stored
