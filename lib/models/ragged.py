"""Rows of different lengths as one array on disk: the joined rows, memory-mapped, and where each of them starts."""

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from lib.data.texts import Ids


class Ragged:
    """Named rows, such as the token ids of many texts; only what is asked for is loaded."""

    def __init__(self, folder: Path, file: str):
        self.folder, self.file = Path(folder), file
        self.ids = Ids.of([json.loads((self.folder / "names.json").read_text())])
        self.starts = np.load(self.folder / "starts.npy")  # (rows + 1,)
        self.lengths = np.diff(self.starts)
        self.total = int(self.starts[-1])
        self.flat = self.mapped()  # (total, ...)

    def mapped(self) -> np.ndarray:
        """The joined rows through a mapping of their own, which gives its pages back when it is no longer used."""
        return np.asarray(np.load(self.folder / self.file, mmap_mode="r"))[: self.total]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def names(self) -> list[str]:
        """The name of each row."""
        return self.ids.names.to_pylist()

    def rows(self, names: Collection[str]) -> np.ndarray:
        """Numbers of the rows with these names, (names,). Raises KeyError for a name that no row has."""
        names = list(names)
        rows = self.ids.rows(names)
        if (rows < 0).any():
            raise KeyError(names[int(np.argmin(rows))])
        return rows


def write(
    path: Path, names: Sequence[str], chunks: Iterable[Collection], dtype: DTypeLike, shape: tuple[int, ...] = ()
) -> np.ndarray:
    """Write rows (length, *shape) in the order of `names`; return where each starts. Memory holds one chunk of rows.

    Raises ValueError if names repeat, or if there are more or fewer rows than names.
    """
    if len(set(names)) != len(names):
        raise ValueError("names repeat: give each row a name of its own")
    lengths: list[int] = []
    with path.open("wb") as file:
        _header(file, (0, *shape), dtype)  # numpy leaves room in it for a larger first axis
        for chunk in chunks:
            lengths += [len(row) for row in chunk]
            file.write(np.concatenate([np.zeros((0, *shape), dtype), *chunk]).astype(dtype).tobytes())
        if len(lengths) != len(names):
            raise ValueError(f"{len(names)} names, but {len(lengths)} rows")
        starts = np.cumsum([0, *lengths], dtype=np.int64)
        if not starts[-1]:
            file.write(np.zeros((1, *shape), dtype).tobytes())  # an empty file cannot be mapped
        file.seek(0)
        _header(file, (max(int(starts[-1]), 1), *shape), dtype)
    np.save(path.parent / "starts.npy", starts)
    (path.parent / "names.json").write_text(json.dumps(list(names)))
    return starts


def _header(file, shape: tuple[int, ...], dtype: DTypeLike) -> None:
    described = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(file, {"descr": described, "fortran_order": False, "shape": shape})
