"""The rows of a file, whatever its layout, and what is kept account of in a pass over them."""

from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lib.data.score_files.blocks import is_parquet
from lib.data.score_files.faults import Fault, ScoreFileError

ID_LAYOUTS = ("pairs", "lists", "tevatron")
LAYOUTS = (*ID_LAYOUTS, "texts", "tuples", "flag")
TABBED = ("pairs", "texts")
OVERFLOW = 3.4028235677973366e38  # from here on float32 rounds to infinity

Known = tuple[Container[str] | None, Container[str] | None]
Row = tuple[str, list[str], list[float]]  # query, documents, scores


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some rows of a file, in its order; every row of a chunk has the same number of documents."""

    queries: np.ndarray  # (n,) str objects: ids, or texts
    documents: np.ndarray  # (n, docs) str objects
    scores: np.ndarray  # (n, docs) float32, in the teacher's own unit
    lines: np.ndarray  # (n,) int64, 1-based line of each row; a line with k positives gives k rows

    def __len__(self) -> int:
        return len(self.queries)


@dataclass
class Report:
    """What a pass over a file gave. Hand one to `read` or `scores_of`; it is filled while they read."""

    rows: int = 0  # sound rows given
    skipped: Counter[str] = field(default_factory=Counter)  # kind of fault -> lines left out
    first: dict[str, int] = field(default_factory=dict)  # kind of fault -> its first line

    def __str__(self) -> str:
        kinds = (f"{count} {kind} (first in line {self.first[kind]})" for kind, count in self.skipped.items())
        return f"{self.rows} rows, {self.skipped.total()} malformed lines skipped: {', '.join(kinds) or 'none'}"


@dataclass
class Pass:
    """One pass over one file: what is checked, and what becomes of a fault."""

    path: Path
    layout: str
    known: Known
    skip: bool
    report: Report

    def fault(self, line: int, fault: Fault) -> None:
        """Raise a fault, or count it where faults are skipped."""
        if not self.skip:
            raise error_of(self.path, line, fault)
        self.report.skipped[fault.kind] += 1
        self.report.first.setdefault(fault.kind, line)

    def check_known(self, query: str, documents: Iterable[str]) -> None:
        """Refuse a row with an id beyond those that are known."""
        for what, ids, given in zip(("query", "document"), self.known, ((query,), documents), strict=True):
            for name in given if ids is not None else ():
                if name not in ids:
                    mend = "Take the collection that the file was made for, or skip the line"
                    raise Fault("unknown id", f"{what} {name!r} is not among the known ids", mend)


def error_of(path: Path, line: int, fault: Fault) -> ScoreFileError:
    """A fault of a line as the error that names the file and the line."""
    unit = "row" if is_parquet(path) else "line"
    message = f"{path}, {unit} {line}: {fault.what}. {fault.mend}, or read with skip_malformed=True"
    return ScoreFileError(message, line, fault.kind)


def as_strings(names: np.ndarray) -> np.ndarray:
    """Names as str objects, of the same shape."""
    names = np.asarray(names, object)
    return np.array([str(name) for name in names.ravel()], object).reshape(names.shape)
