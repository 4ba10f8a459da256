"""Scores of given pairs, looked up in a pass over a file."""

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lib.data.score_files.faults import ScoreFileError
from lib.data.score_files.reading import ROWS_AT_ONCE, layout_of, read
from lib.data.score_files.rows import ID_LAYOUTS, Chunk, Report, as_strings


def scores_of(
    path: Path | str,
    queries: np.ndarray,
    documents: np.ndarray,
    *,
    layout: str | None = None,
    tolerance: float = 1e-4,
    skip_malformed: bool = False,
    rows_at_once: int = ROWS_AT_ONCE,
    report: Report | None = None,
) -> np.ndarray:
    """The teacher's scores of given pairs, looked up in one pass over a file with ids.

    Memory follows the number of wanted pairs, not the rows of the file. A wanted pair may stand in many rows (in
    2010.02666 a positive stands beside each of its negatives): its first score is taken, and the others must agree.

    Args:
        path: as in `read`, in one of `ID_LAYOUTS`.
        queries: (groups,) query ids.
        documents: (groups, docs) document ids.
        layout: as in `read`.
        tolerance: how far scores of one pair may differ, in the teacher's unit; teachers run in half precision need
            more than the default.
        skip_malformed: as in `read`.
        rows_at_once: as in `read`.
        report: as in `read`.

    Returns:
        (groups, docs) float32.

    Raises:
        ScoreFileError: as in `read`; a wanted pair is missing (names the first, counts all), or stands with different
            scores (names the line).
    """
    path, wanted = Path(path), _Wanted(queries, documents)
    if not len(wanted.pairs):
        return wanted.result(path)
    layout = layout or layout_of(path)
    if layout not in ID_LAYOUTS:
        raise ScoreFileError(f"{path}: the layout {layout!r} holds texts; scores are looked up in files with ids")
    options = {"skip_malformed": skip_malformed, "rows_at_once": rows_at_once, "report": report}
    for chunk in read(path, layout=layout, **options):
        rows, slots, scores = wanted.find(chunk)
        new, first = np.unique(slots, return_index=True)
        new, first = new[np.isnan(wanted.scores[new])], first[np.isnan(wanted.scores[new])]
        wanted.scores[new] = scores[first]
        differs = np.abs(scores - wanted.scores[slots]) > tolerance
        if differs.any():
            at = int(differs.argmax())
            query, document = wanted.name(slots[at])
            raise ScoreFileError(
                f"{path}, line {chunk.lines[rows[at]]}: query {query!r} and document {document!r} have the score "
                f"{scores[at]:.9g} here and {wanted.scores[slots[at]]:.9g} before. Make the file with one teacher, or "
                f"raise tolerance={tolerance}",
                int(chunk.lines[rows[at]]), "two scores",
            )  # fmt: skip
    return wanted.result(path)


class _Wanted:
    """Pairs by number, so that a chunk is compared with them in whole arrays."""

    def __init__(self, queries: np.ndarray, documents: np.ndarray):
        self.queries, self.documents = as_strings(queries), as_strings(documents)
        if self.queries.ndim != 1 or self.documents.shape[:1] != self.queries.shape or self.documents.ndim != 2:
            shapes = f"queries {self.queries.shape} and documents {self.documents.shape}"
            raise ValueError(f"{shapes}: expected (groups,) and (groups, docs)")
        self.query_number = {name: number for number, name in enumerate(dict.fromkeys(self.queries.tolist()))}
        self.document_number = {name: number for number, name in enumerate(dict.fromkeys(self.documents.ravel()))}
        pairs = self._numbers(self.queries, self.query_number)[:, None] * len(self.document_number)
        pairs = pairs + self._numbers(self.documents.ravel(), self.document_number).reshape(self.documents.shape)
        self.pairs, self.slots = np.unique(pairs.ravel(), return_inverse=True)
        self.scores = np.full(len(self.pairs), np.nan, np.float32)  # NaN: not found yet; a file has none

    @staticmethod
    def _numbers(names: np.ndarray, number: Mapping[str, int]) -> np.ndarray:
        return np.fromiter(map(number.get, names.tolist(), itertools.repeat(-1)), np.int64, len(names))

    def find(self, chunk: Chunk) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For the wanted pairs of a chunk, in its order: row of the chunk, place in `scores`, score."""
        query = self._numbers(chunk.queries, self.query_number)
        rows = np.flatnonzero(query >= 0)  # most rows of a large file end here
        document = self._numbers(chunk.documents[rows].ravel(), self.document_number)
        document = document.reshape(len(rows), chunk.documents.shape[1])
        pairs = query[rows, None] * len(self.document_number) + document
        slots = np.searchsorted(self.pairs, pairs).clip(max=len(self.pairs) - 1)
        at, column = np.nonzero((document >= 0) & (self.pairs[slots] == pairs))
        return rows[at], slots[at, column], chunk.scores[rows[at], column]

    def name(self, slot: int) -> tuple[str, str]:
        group, column = divmod(int(np.argmax(self.slots.ravel() == slot)), self.documents.shape[1])
        return self.queries[group], self.documents[group, column]

    def result(self, path: Path) -> np.ndarray:
        found = self.scores[self.slots.ravel()].reshape(self.documents.shape)
        missing = np.flatnonzero(np.isnan(found))
        if len(missing):
            group, column = divmod(int(missing[0]), found.shape[1])
            raise ScoreFileError(
                f"{path}: no score for {len(missing)} of {found.size} pairs; the first is query "
                f"{self.queries[group]!r} with document {self.documents[group, column]!r}. "
                "Score them with the teacher, or leave those groups out"
            )
        return found
