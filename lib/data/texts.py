"""Texts by id in Arrow files, memory-mapped: memory holds what is read of them, and no Python object for each.

An id is found by its hash (xxHash64, 8 bytes each) in a sorted array; ids of equal hashes are then compared.
"""

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from itertools import compress, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash
from pyarrow import compute, ipc

BATCH = 4096  # texts in memory at once while they are written
IDS, TEXTS = "ids.arrow", "texts.arrow"
STRING = pa.large_string()


def _hash(name: str) -> int:
    return xxhash.xxh64_intdigest(name.encode("utf-8", "surrogatepass"))


class Ids:
    """Ids in their order, and the row of each."""

    def __init__(self, names: pa.Array, hashes: np.ndarray, order: np.ndarray):
        self.names = names  # (rows,) strings
        self.hashes, self.order = hashes, order  # (rows,) uint64, sorted; the row of each

    @classmethod
    def of(cls, parts: Iterable[Sequence[str]]) -> "Ids":
        """From lists of ids, one after the other."""
        names, hashes = [pa.array([], STRING)], [np.zeros(0, np.uint64)]
        for part in parts:
            names.append(pa.array(part, STRING))
            hashes.append(np.fromiter(map(_hash, part), np.uint64, len(part)))
        joined = np.concatenate(hashes)
        order = np.argsort(joined, kind="stable")
        return cls(pa.concat_arrays(names), joined[order], order)

    def __len__(self) -> int:
        return len(self.names)

    def row(self, name: str) -> int | None:
        """The row of an id; None if there is none."""
        wanted = np.uint64(_hash(name))
        place = int(self.hashes.searchsorted(wanted))
        while place < len(self) and self.hashes[place] == wanted:
            row = int(self.order[place])
            if self.names[row].as_py() == name:
                return row
            place += 1
        return None

    def rows(self, names: Sequence[str]) -> np.ndarray:
        """The rows of many ids, (names,); -1 where there is none."""
        wanted = np.fromiter(map(_hash, names), np.uint64, len(names))
        asked, places = pa.array(names, STRING), self.hashes.searchsorted(wanted)
        found, left = np.full(len(names), -1), np.arange(len(names))
        while len(left):  # once, and again for ids that share their hash with another
            left = left[places[left] < len(self)]
            left = left[self.hashes[places[left]] == wanted[left]]
            rows = self.order[places[left]]
            same = compute.equal(self.names.take(pa.array(rows)), asked.take(pa.array(left)))
            same = same.to_numpy(zero_copy_only=False)
            found[left[same]] = rows[same]
            left = left[~same]
            places[left] += 1
        return found

    def repeated(self) -> int | None:
        """The first row with an id that an earlier one has; None if each is there once."""
        alike = np.flatnonzero(self.hashes[1:] == self.hashes[:-1])
        seen = set()
        for row in np.unique(self.order[np.concatenate([alike, alike + 1])]):
            name = self.names[int(row)].as_py()
            if name in seen:
                return int(row)
            seen.add(name)
        return None


class Texts(Mapping[str, str]):
    """Id -> text in the order of their file, read-only; it equals a dict of the same."""

    def __init__(self, folder: Path):
        names, hashes, order = (column.chunk(0) for column in _mapped(folder / IDS).columns)
        self.ids = Ids(names, hashes.to_numpy(), order.to_numpy())
        self.texts = _mapped(folder / TEXTS)["text"]

    def __getitem__(self, name: str) -> str:
        if (row := self.ids.row(name)) is None:
            raise KeyError(name)
        return self.texts[row].as_py()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.ids.row(name) is not None

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return _values(self.ids.names)

    def keys(self) -> KeysView[str]:
        """The ids; `some & texts.keys()` looks up all of `some` together."""
        return _Keys(self)

    def values(self) -> ValuesView[str]:
        """The texts."""
        return _Values(self)

    def items(self) -> ItemsView[str, str]:
        """(id, text) of each."""
        return _Items(self)

    def empty(self) -> list[str]:
        """The ids of empty texts; no text is read."""
        return self.ids.names.filter(compute.equal(compute.binary_length(self.texts), 0).combine_chunks()).to_pylist()


class _Keys(KeysView):
    def __and__(self, some: Iterable[str]) -> set[str]:
        names = list(some)
        return set(compress(names, self._mapping.ids.rows(names) >= 0))

    __rand__ = __and__


class _Values(ValuesView):
    def __iter__(self) -> Iterator[str]:
        for chunk in self._mapping.texts.chunks:
            yield from _values(chunk)


class _Items(ItemsView):
    def __iter__(self) -> Iterator[tuple[str, str]]:
        return zip(self._mapping, self._mapping.values(), strict=True)


def _values(column: pa.Array) -> Iterator[str]:
    for start in range(0, len(column), BATCH):
        yield from column[start : start + BATCH].to_pylist()


def _mapped(path: Path) -> pa.Table:
    return ipc.open_file(pa.memory_map(str(path))).read_all()


def write(folder: Path, entries: Iterable[tuple[str, str]]) -> int | None:
    """Write (id, text) pairs for `Texts`; returns the number of pairs before the first with an earlier one's id."""
    entries = iter(entries)

    def names() -> Iterator[list[str]]:
        schema = pa.schema({"text": STRING})
        with ipc.new_file(str(folder / TEXTS), schema) as file:
            while batch := list(islice(entries, BATCH)):
                file.write_batch(pa.record_batch([pa.array([text for _, text in batch], STRING)], schema))
                yield [name for name, _ in batch]

    ids = Ids.of(names())
    table = pa.table({"id": ids.names, "hash": ids.hashes, "row": ids.order})
    with ipc.new_file(str(folder / IDS), table.schema) as file:
        file.write_table(table)
    return ids.repeated()
