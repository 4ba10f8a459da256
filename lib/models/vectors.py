"""Vectors of texts in memory and on disk: one per document for a bi-encoder, one per token for late interaction."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lib.models import ragged

FILE = "vectors.npy"


class Vectors(NamedTuple):
    """Vectors of texts, and which of them count."""

    values: Float[Tensor, "*texts vectors dim"]
    mask: Bool[Tensor, "*texts vectors"]

    def map(self, change: Callable[[Tensor], Tensor]) -> "Vectors":
        """Change both in the same way."""
        return Vectors(change(self.values), change(self.mask))


class Identity(NamedTuple):
    """Whose vectors these are."""

    model: str  # key of the model that encoded, which contains how texts are cut
    collection: str  # fingerprint of the collection that was encoded


class VectorStore(ragged.Ragged):
    """The vectors of many documents, as `write` left them."""

    def __init__(self, folder: Path):
        super().__init__(folder, FILE)
        self.about = json.loads((self.folder / "about.json").read_text())
        self.identity = Identity(self.about["model"], self.about["collection"])
        self.dim = self.flat.shape[1]

    @property
    def bytes_per_document(self) -> float:
        """Mean size of a document's vectors on disk."""
        return self.flat.nbytes / max(len(self), 1)

    def take(self, rows: np.ndarray) -> Vectors:
        """The vectors of documents `rows`, (n,): (n, most that one of them has, dim) float32, zero where masked."""
        lengths = self.lengths[rows]
        place = np.arange(lengths.max(initial=0))
        mask = place < lengths[:, None]
        vectors = np.zeros((*mask.shape, self.dim), dtype=np.float32)
        vectors[mask] = self.flat[(self.starts[rows][:, None] + place)[mask]]
        return Vectors(torch.from_numpy(vectors), torch.from_numpy(mask))

    def documents_of(self, places: np.ndarray) -> np.ndarray:
        """Which document the vectors at these places of `flat` belong to, same shape; -1 stays -1."""
        return np.where(places < 0, -1, np.searchsorted(self.starts, places, side="right") - 1)

    def chunks(self, size: int) -> Iterator[np.ndarray]:
        """All vectors in order as float32 arrays of at most `size` rows; pages read do not pile up in memory."""
        for start in range(0, self.total, size):
            yield np.array(self.mapped()[start : start + size], dtype=np.float32)


def write(
    folder: Path, names: Sequence[str], chunks: Iterable[Collection], dim: int, dtype: str, identity: Identity
) -> None:
    """Write the store of documents `names`, whose vectors are (length, dim) each; memory holds one chunk of documents.

    `dtype` is "float32" or "float16", which halves the store. Raises ValueError as `ragged.write` does.
    """
    starts = ragged.write(folder / FILE, names, chunks, dtype, (dim,))
    layout = hashlib.sha256(json.dumps(list(names)).encode() + starts.astype("<i8").tobytes()).hexdigest()[:16]
    about = identity._asdict() | {"dim": dim, "dtype": dtype, "layout": layout}
    (folder / "about.json").write_text(json.dumps(about, indent=1))
