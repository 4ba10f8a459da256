"""Files of teacher scores, the published and the kit's own: read in one pass, looked up, written.

A file may hold tens of millions of rows, so it is read block by block; what is in memory depends on the size of a
block, never on the number of rows. Ids are strings: "007" stays "007", and a number in JSON becomes its digits.

Layouts, and who uses them (`ID_LAYOUTS` hold ids, the others texts):

- `pairs`: `pos_score neg_score query_id pos_id neg_id`, tab-separated, no header: the teacher files of 2010.02666,
  about 40 million rows (https://zenodo.org/record/4068216, https://github.com/sebastian-hofstaetter/neural-ranking-kd).
- `texts`: the same with `query_text pos_text neg_text`, what that repository's teacher_id_to_text.py writes.
- `lists`: `{"query_id", "document_ids": [...], "scores": [...]}`, PyLate's distillation layout, for instance
  https://huggingface.co/datasets/lightonai/ms-marco-en-bge with 32 candidates. Which one is relevant is not said.
- `tevatron`: `{"query_id", "positive_passages": [{"docid", "score"}, ...], "negative_passages": [...]}`, Tevatron's
  with a score a passage, for instance https://huggingface.co/datasets/rlhn/default-680K-bge-reranker-v2-gemma.
- `tuples`: `{"query", "positive", "negative_1", ..., "negative_n", "scores": [...]}`, what sentence-transformers'
  `mine_hard_negatives(output_format="n-tuple", output_scores=True)` gives; `negative` alone, `score` for `scores`,
  `anchor` or `question` for `query` and `answer` for `positive` are read as well
  (https://sbert.net/docs/package_reference/util/hard_negatives.html).
- `flag`: `{"query", "pos": [...], "neg": [...], "pos_scores": [...], "neg_scores": [...]}`, FlagEmbedding's, for
  instance https://huggingface.co/datasets/Shitao/bge-m3-data.

The last four are JSON lines or parquet; other keys are ignored. `tevatron` and `flag` rows with several positives give
a row each, with the same negatives. But for `lists`, column 0 is the positive, as everywhere in the kit. Files of
margins alone (sentence-transformers/msmarco, bert-ensemble-margin-mse) hold no score of a document and are not read.
"""

import contextlib
import gzip
import hashlib
import io
import itertools
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

from lib import progress, store

ID_LAYOUTS = ("pairs", "lists", "tevatron")
LAYOUTS = (*ID_LAYOUTS, "texts", "tuples", "flag")
ROWS_AT_ONCE = 65_536

_TABBED = ("pairs", "texts")
_BLOCK = 1 << 21  # bytes: larger ones are not faster, and Python strings of a block take several times its size
_LONGEST = 1 << 26  # bytes of a line; beyond, the file is not one of lines
_PARQUET_ROWS = 1024
_MARK = b"\xef\xbb\xbf"  # of UTF-8, put at the start of files by some editors
_NUMBER = re.compile(r" *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)? *", re.ASCII)
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_NO_NUMBER = re.compile(r" *[+-]?(nan|inf|infinity) *", re.IGNORECASE)
_OVERFLOW = 3.4028235677973366e38  # from here on float32 rounds to infinity
_FIELDS = ("pos_score", "neg_score", "query", "positive", "negative")

Known = tuple[Container[str] | None, Container[str] | None]
_Row = tuple[str, list[str], list[float]]  # query, documents, scores


class ScoreFileError(ValueError):
    """A score file is missing, malformed or contradicts itself; the message names file, line, fault and mend.

    Attributes:
        line: 1-based line, or row of a parquet file; None where the fault is the whole file's.
        kind: which fault, as counted in `Report.skipped`; None where the fault is the whole file's.
    """

    def __init__(self, message: str, line: int | None = None, kind: str | None = None):
        super().__init__(message)
        self.line, self.kind = line, kind


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


class _Fault(Exception):
    """What is wrong with one line."""

    def __init__(self, kind: str, what: str, mend: str):
        super().__init__(what)
        self.kind, self.what, self.mend = kind, what, mend


@dataclass
class _Pass:
    """One pass over one file: what is checked, and what becomes of a fault."""

    path: Path
    layout: str
    known: Known
    skip: bool
    report: Report

    def fault(self, line: int, fault: _Fault) -> None:
        if not self.skip:
            raise _error(self.path, line, fault)
        self.report.skipped[fault.kind] += 1
        self.report.first.setdefault(fault.kind, line)

    def check_known(self, query: str, documents: Iterable[str]) -> None:
        for what, ids, given in zip(("query", "document"), self.known, ((query,), documents), strict=True):
            for name in given if ids is not None else ():
                if name not in ids:
                    mend = "Take the collection that the file was made for, or skip the line"
                    raise _Fault("unknown id", f"{what} {name!r} is not among the known ids", mend)


def read(
    path: Path | str,
    *,
    layout: str | None = None,
    known: Known | None = None,
    skip_malformed: bool = False,
    rows_at_once: int = ROWS_AT_ONCE,
    report: Report | None = None,
) -> Iterator[Chunk]:
    """The rows of a score file of any layout, plain or gzip, in chunks of at most `rows_at_once`.

    Kinds of malformed lines: missing column, extra column, empty field, not a number, not finite (also beyond
    float32), bad UTF-8, unknown id, carriage return (inside a line), not JSON, wrong length (not a score a document).
    Windows line ends and a byte order mark are no fault. How a file is cut into chunks changes no row and no error,
    but rows shortly before a malformed line may not be given.

    Args:
        path: tab-separated, JSON lines or parquet; told by its content, not by its name.
        layout: one of `LAYOUTS`; None tells it by the first row that fits one.
        known: query ids and document ids (sets or mappings, such as a collection's `queries` and `documents`; None for
            either) beyond which an id is a fault; id layouts only.
        skip_malformed: leave malformed lines out, count them in `report`, and say so at the end; else the first raises.
        rows_at_once: most rows of a chunk.
        report: filled while reading.

    Raises:
        ScoreFileError: the file is missing, empty, broken off or of no known layout (at the call or while reading), a
            line is malformed, or no line is sound.
    """
    path = Path(path)
    if layout not in (None, *LAYOUTS):
        raise ValueError(f"layout={layout!r}: give one of {', '.join(LAYOUTS)}, or None")
    if rows_at_once < 1:
        raise ValueError(f"rows_at_once={rows_at_once}: at least 1")
    layout = layout or layout_of(path)
    if layout in _TABBED and _is_parquet(path):
        raise ScoreFileError(f"{path}: a parquet file, which cannot have the layout {layout!r}")
    if known is not None and layout not in ID_LAYOUTS:
        raise ValueError(f"{path}: the layout {layout!r} holds texts, which `known` ids cannot be compared with")
    known = tuple(_container(ids) for ids in known or (None, None))
    return _chunks(_Pass(path, layout, known, skip_malformed, report or Report()), rows_at_once)


def layout_of(path: Path | str) -> str:
    """Which of `LAYOUTS` a file has, by its first row that fits one.

    `pairs` and `texts` differ only in what their last three columns hold: texts if one of them contains a space.

    Raises:
        ScoreFileError: the file is missing, empty or of no known layout.
    """
    path = Path(path)
    if _is_parquet(path):
        with _clear_read_errors(path), _parquet(path) as file:
            return _layout_of_keys(file.schema_arrow.names, path, None)
    lines = next(_blocks(path))[1].split(b"\n")[:-1]
    sound = next((line for line in lines if _line_fault(line, None) is None), None)
    if sound is not None:
        return "texts" if any(b" " in part for part in sound.split(b"\t")[2:]) else "pairs"
    for line in lines:
        with contextlib.suppress(_Fault, ScoreFileError):
            return _layout_of_keys(list(_object(line)), path, None)
    if not lines[0].lstrip().startswith(b"{"):
        raise _error(path, 1, _line_fault(lines[0], None))
    if fault := _fault_of(_object, lines[0]):
        raise _error(path, 1, fault)
    return _layout_of_keys(list(_object(lines[0])), path, 1)  # raises: no line fits


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
        self.queries, self.documents = _ids(queries), _ids(documents)
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


def write(
    path: Path | str, queries: np.ndarray, documents: np.ndarray, scores: np.ndarray, layout: str = "pairs"
) -> None:
    """Write groups with their teacher scores in one of `LAYOUTS`; the file is whole or absent.

    A name that ends in .gz is compressed, one in .parquet (not for `pairs`, `texts`) is parquet. In `pairs` and `texts`
    every (positive, negative) pair is a row, so a group gives docs - 1 rows. Scores are written with nine significant
    digits, which brings every float32 back exactly. Equal content gives equal bytes (parquet: with one pyarrow).

    Tab-separated fields cannot hold tabs or line ends: in texts each run of them becomes one space, in ids they are
    refused. `tevatron` is written without the texts of passages.

    Args:
        path: the file; one that exists is replaced.
        queries: (groups,) query ids, or texts in a text layout.
        documents: (groups, docs) document ids or texts, the positive in column 0.
        scores: (groups, docs), the teacher's.
        layout: one of `LAYOUTS`.

    Raises:
        ScoreFileError: a field is empty or cannot be written, or a score is not finite; names the group.
        ValueError: the shapes differ, a group has no negative (`lists` needs none), or the layout is unknown.
        lib.store.StoreError: the folder cannot be written.
    """
    path, queries, documents = Path(path), _ids(queries), _ids(documents)
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
        scores = np.asarray(scores, np.float32)
    least = 1 if layout == "lists" else 2
    if layout not in LAYOUTS or (path.suffix == ".parquet" and layout in _TABBED):
        raise ValueError(f"layout={layout!r} for {path.name}: give one of {', '.join(LAYOUTS)}; parquet holds no tabs")
    if documents.ndim != 2 or documents.shape != scores.shape or queries.shape != scores.shape[:1]:
        shapes = f"queries {queries.shape}, documents {documents.shape}, scores {scores.shape}"
        raise ValueError(f"{shapes}: expected (groups,), (groups, docs) and (groups, docs)")
    if not len(queries) or scores.shape[1] < least:
        raise ValueError(f"scores {scores.shape}: at least one group of {least} documents")
    rows = _sound_groups(path, queries, documents, scores, layout)
    store.replace_file(path, lambda place: _write(place, rows, layout))


def fingerprint(path: Path | str) -> str:
    """SHA-256 of a file's bytes, as they lie there (compressed if it is), in 64 hexadecimal digits.

    Raises:
        ScoreFileError: the file is missing.
    """
    with _clear_read_errors(Path(path)), Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Reading: what all layouts share


def _chunks(work: _Pass, rows_at_once: int) -> Iterator[Chunk]:
    chunks = _tabbed_chunks(work) if work.layout in _TABBED else _object_chunks(work)
    for chunk in chunks:
        for start in range(0, len(chunk), rows_at_once):
            part = slice(start, start + rows_at_once)
            given = Chunk(chunk.queries[part], chunk.documents[part], chunk.scores[part], chunk.lines[part])
            work.report.rows += len(given)
            yield given
    if not work.report.rows:
        raise ScoreFileError(f"{work.path}: no sound row; {work.report}")
    if work.report.skipped:
        progress.say(f"{work.path}: {work.report}")


def _blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """(1-based number of the first line, whole lines): every line ends in one newline, also the file's last."""
    line, rest = 1, b""
    with _clear_read_errors(path), _open(path) as file:
        while data := file.read(_BLOCK):
            whole, newline, rest = (rest + data).rpartition(b"\n")
            if newline:
                yield line, _tidy(whole + newline, line)
                line += whole.count(b"\n") + 1
            if len(rest) > _LONGEST:
                raise ScoreFileError(f"{path}, line {line}: longer than {_LONGEST >> 20} MiB; is it a file of lines?")
        if rest:
            yield line, _tidy(rest + b"\n", line)
        elif line == 1:
            raise ScoreFileError(f"{path}: empty")


def _tidy(block: bytes, line: int) -> bytes:
    block = block.removeprefix(_MARK) if line == 1 else block
    return block.replace(b"\r\n", b"\n") if b"\r" in block else block


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if compressed else path.open("rb")


@contextlib.contextmanager
def _clear_read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error, pa.ArrowInvalid) as error:
        raise ScoreFileError(f"{path}: broken off or damaged ({error}). Fetch or write it again") from error
    except OSError as error:
        raise ScoreFileError(f"{path}: cannot be read ({error.strerror or error})") from error


def _error(path: Path, line: int, fault: _Fault) -> ScoreFileError:
    unit = "row" if _is_parquet(path) else "line"
    message = f"{path}, {unit} {line}: {fault.what}. {fault.mend}, or read with skip_malformed=True"
    return ScoreFileError(message, line, fault.kind)


def _container(ids: Iterable[str] | None) -> Container[str] | None:
    return ids if ids is None or isinstance(ids, set | frozenset | Mapping) else frozenset(ids)


def _ids(names: np.ndarray) -> np.ndarray:
    """Names as str objects, of the same shape."""
    names = np.asarray(names, object)
    return np.array([str(name) for name in names.ravel()], object).reshape(names.shape)


def _fault_of(check: Callable, *given: Any) -> _Fault | None:
    try:
        check(*given)
    except _Fault as fault:
        return fault
    return None


# Reading `pairs` and `texts`: a block is parsed at once, and only a block with a fault is looked at line by line


def _tabbed_chunks(work: _Pass) -> Iterator[Chunk]:
    for first, block in _blocks(work.path):
        count = block.count(b"\n")
        lines = np.arange(first, first + count)
        chunk = _parsed(block, lines, work)
        if chunk is None:
            block, lines = _sound_lines(block, first, work)
            if not len(lines):
                continue
            chunk = _parsed(block, lines, work)
            if chunk is None:  # the two ways of looking disagree: better an error than other rows
                raise ScoreFileError(f"{work.path}: lines {first} to {first + count - 1} cannot be parsed", first)
        yield chunk


def _parsed(block: bytes, lines: np.ndarray, work: _Pass) -> Chunk | None:
    """The rows of a block; None if any line is malformed."""
    if b"\r" in block or block.startswith(_MARK):  # arrow would take these for a line end and for nothing
        return None
    types = dict.fromkeys(_FIELDS[:2], pa.float32()) | dict.fromkeys(_FIELDS[2:], pa.string())
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(block),
            pa.csv.ReadOptions(use_threads=False, column_names=_FIELDS, block_size=len(block) + 1),
            pa.csv.ParseOptions(delimiter="\t", quote_char=False, escape_char=False, ignore_empty_lines=False),
            pa.csv.ConvertOptions(column_types=types, null_values=[], strings_can_be_null=False),
        )
    except pa.ArrowInvalid:
        return None
    # by dlpack: pyarrow's own to_numpy loads pandas
    scores = np.stack([np.from_dlpack(table[name].combine_chunks()) for name in _FIELDS[:2]], axis=1)
    if len(table) != len(lines) or not np.isfinite(scores).all():
        return None
    if any(pa.compute.min(pa.compute.binary_length(table[name])).as_py() == 0 for name in _FIELDS[2:]):
        return None
    query, positive, negative = (table[name].to_pylist() for name in _FIELDS[2:])
    queries, documents = work.known
    if queries is not None and not all(map(queries.__contains__, query)):
        return None
    if documents is not None and not all(map(documents.__contains__, itertools.chain(positive, negative))):
        return None
    names = np.empty((len(lines), 2), object)
    names[:, 0], names[:, 1] = positive, negative
    return Chunk(np.array(query, object), names, scores, lines)


def _sound_lines(block: bytes, first: int, work: _Pass) -> tuple[bytes, np.ndarray]:
    """The lines of a block without fault, and their numbers; the others are reported."""
    kept, numbers = [], []
    for number, line in enumerate(block.split(b"\n")[:-1], first):
        fault = _line_fault(line, work)
        if fault is None:
            kept.append(line + b"\n")
            numbers.append(number)
        else:
            work.fault(number, fault)
    return b"".join(kept), np.array(numbers, np.int64)


def _line_fault(line: bytes, work: _Pass | None) -> _Fault | None:
    return _fault_of(_check_line, line, work)


def _check_line(line: bytes, work: _Pass | None) -> None:
    fields = _decoded(line).split("\t")
    wanted = "expected pos_score, neg_score, query, positive and negative, tab-separated"
    if len(fields) != len(_FIELDS):
        kind = "missing column" if len(fields) < len(_FIELDS) else "extra column"
        raise _Fault(kind, f"{len(fields)} columns; {wanted}", "Mend the line; a header line must go")
    for name, value in zip(_FIELDS, fields, strict=True):
        if not value:
            raise _Fault("empty field", f"{name} is empty", "Fill it in or remove the line")
    for name, value in zip(_FIELDS[:2], fields[:2], strict=True):
        if _NO_NUMBER.fullmatch(value) or (_NUMBER.fullmatch(value) and abs(float(value)) >= _OVERFLOW):
            raise _Fault("not finite", f"{name} is {value!r}, which float32 cannot hold", "Score the pair again")
        if not _NUMBER.fullmatch(value):
            raise _Fault("not a number", f"{name} is {value!r}; {wanted}", "Mend the line; a header line must go")
    if "\r" in line.decode():
        raise _Fault("carriage return", "a carriage return stands inside the line", "Put a space in its place")
    if work is not None:
        work.check_known(fields[2], fields[3:])


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise _Fault("bad UTF-8", f"byte {error.start + 1} is not UTF-8", "Convert the file to UTF-8") from None


# Reading rows of named values, from JSON lines or parquet


def _object_chunks(work: _Pass) -> Iterator[Chunk]:
    for batch in _parquet_batches(work.path) if _is_parquet(work.path) else _json_batches(work.path):
        rows: list[tuple[int, _Row]] = []
        for line, made in batch:
            try:
                found = _PARSERS[work.layout](made())
                for query, documents, _ in found:
                    work.check_known(query, documents)
                rows += [(line, row) for row in found]
            except _Fault as fault:
                work.fault(line, fault)
        for _, same in itertools.groupby(rows, key=lambda row: len(row[1][1])):  # a chunk is rectangular
            lines, found = zip(*same, strict=True)
            queries, documents, scores = zip(*found, strict=True)
            yield Chunk(
                np.array(queries, object), np.array(documents, object), np.array(scores, np.float32), np.array(lines)
            )


def _json_batches(path: Path) -> Iterator[list[tuple[int, Callable[[], dict]]]]:
    for first, block in _blocks(path):
        lines = enumerate(block.split(b"\n")[:-1], first)
        yield [(number, lambda line=line: _object(line)) for number, line in lines]


def _parquet_batches(path: Path) -> Iterator[list[tuple[int, Callable[[], dict]]]]:
    first = 1
    with _clear_read_errors(path), _parquet(path) as file:
        for batch in file.iter_batches(_PARQUET_ROWS, use_threads=False):
            yield [(number, lambda row=row: row) for number, row in enumerate(batch.to_pylist(), first)]
            first += len(batch)
    if first == 1:
        raise ScoreFileError(f"{path}: empty")


def _parquet(path: Path) -> "pa.parquet.ParquetFile":
    from pyarrow import parquet  # only those who have such a file pay for it

    return parquet.ParquetFile(path)


def _is_parquet(path: Path) -> bool:
    with _clear_read_errors(path), path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _object(line: bytes) -> dict:
    text = _decoded(line)
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Fault("not JSON", f"no JSON object ({error})", "Mend the line") from None
    if "\\u" in text and _HALF_PAIR.search(json.dumps(row, ensure_ascii=False)):
        raise _Fault("bad UTF-8", "an escaped character is half a surrogate pair, no text", "Replace it")
    if not isinstance(row, dict):
        raise _Fault("not JSON", f"no JSON object but a {type(row).__name__}", "Mend the line")
    return row


def _layout_of_keys(keys: list[str], path: Path, line: int | None) -> str:
    for layout, needed in _KEYS.items():
        if all(any(name in keys for name in names) for names in needed):
            return layout
    wanted = "; ".join(f"{layout}: {', '.join(names[0] for names in needed)}" for layout, needed in _KEYS.items())
    place = f"{path}, line {line}" if line else str(path)
    what = f"the columns {', '.join(keys)} are no known layout"
    raise ScoreFileError(f"{place}: {what}. Rename them to those of {wanted}", line, "missing column")


def _value(row: Mapping, *names: str) -> Any:
    """The first of several names for a column that the row has."""
    for name in names:
        if name in row:
            return row[name]
    raise _Fault("missing column", f"{names[0]!r} is missing", "Add it, or give another layout")


def _list(row: Mapping, *names: str) -> list:
    found = _value(row, *names)
    if not isinstance(found, list):
        what = f"{names[0]!r} is no list but {found!r:.40}"
        raise _Fault("wrong length", what, "Make it a list with a value a document")
    return found


def _names(values: Iterable, what: str) -> list[str]:
    values = list(values)
    if not set(map(type, values)) <= {str}:
        for value in values:
            if value is not None and (not isinstance(value, str | int) or isinstance(value, bool)):
                raise _Fault("wrong type", f"{what} is {value!r:.40}, no id or text", "Write it as a string")
        values = ["" if value is None else str(value) for value in values]
    if "" in values:
        raise _Fault("empty field", f"{what} is empty", "Fill it in or remove the line")
    return values


def _row(query: Any, documents: Iterable, scores: list) -> _Row:
    """A sound row of these, or the fault."""
    [query], documents = _names([query], "the query"), _names(documents, "a document")
    if not documents or len(documents) != len(scores):
        what = f"{len(scores)} scores for {len(documents)} documents"
        raise _Fault("wrong length", what, "Give every document its score; margins are not scores")
    if not set(map(type, scores)) <= {float, int}:
        odd = next(score for score in scores if type(score) not in (float, int))
        raise _Fault("not a number", f"a score is {odd!r:.40}", "Write it as a number")
    # ints may be beyond float64, where isfinite raises; NaN compares as False
    if not all(-_OVERFLOW < score < _OVERFLOW for score in scores):
        odd = next(score for score in scores if not -_OVERFLOW < score < _OVERFLOW)
        raise _Fault("not finite", f"a score is {odd!r:.40}, which float32 cannot hold", "Score the pair again")
    return query, documents, scores


def _parse_lists(row: Mapping) -> list[_Row]:
    return [_row(_value(row, "query_id"), _list(row, "document_ids"), _list(row, "scores"))]


def _parse_tevatron(row: Mapping) -> list[_Row]:
    sides = []
    for side in ("positive_passages", "negative_passages"):
        passages = _list(row, side)
        if not all(isinstance(passage, Mapping) for passage in passages):
            raise _Fault("wrong type", f"{side} holds no objects", "Write each as {docid, score}")
        sides.append([(_value(passage, "docid"), _value(passage, "score")) for passage in passages])
    return _a_row_a_positive(_value(row, "query_id"), *sides)


def _parse_flag(row: Mapping) -> list[_Row]:
    sides = []
    for side in ("pos", "neg"):
        texts, scores = _list(row, side), _list(row, f"{side}_scores")
        if len(texts) != len(scores):
            what = f"{len(scores)} {side}_scores for {len(texts)} {side}"
            raise _Fault("wrong length", what, "Give every text its score")
        sides.append(list(zip(texts, scores, strict=True)))
    return _a_row_a_positive(_value(row, "query"), *sides)


def _a_row_a_positive(query: Any, positives: list[tuple], negatives: list[tuple]) -> list[_Row]:
    if not positives:
        raise _Fault("wrong length", "no positive", "Remove the line")
    groups = ([positive, *negatives] for positive in positives)
    return [_row(query, [name for name, _ in group], [score for _, score in group]) for group in groups]


def _parse_tuples(row: Mapping) -> list[_Row]:
    numbered = sorted((int(name[9:]), name) for name in row if name.startswith("negative_") and name[9:].isdecimal())
    negatives = [name for _, name in numbered] or ["negative"]
    documents = [_value(row, *_POSITIVE), *(_value(row, name) for name in negatives)]
    return [_row(_value(row, *_QUERY), documents, _list(row, *_SCORES))]


_QUERY, _POSITIVE, _SCORES = ("query", "anchor", "question"), ("positive", "answer"), ("scores", "score")
_PARSERS: dict[str, Callable[[Mapping], list[_Row]]] = {
    "lists": _parse_lists,
    "tevatron": _parse_tevatron,
    "tuples": _parse_tuples,
    "flag": _parse_flag,
}
# layout -> the columns it needs, each by any of its names
_KEYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "lists": (("query_id",), ("document_ids",), ("scores",)),
    "tevatron": (("query_id",), ("positive_passages",), ("negative_passages",)),
    "flag": (("query",), ("pos",), ("neg",), ("pos_scores",), ("neg_scores",)),
    "tuples": (_QUERY, _POSITIVE, ("negative_1", "negative"), _SCORES),
}


# Writing


def _sound_groups(
    path: Path, queries: np.ndarray, documents: np.ndarray, scores: np.ndarray, layout: str
) -> Iterator[_Row]:
    for number, (query, names, values) in enumerate(zip(queries, documents, scores, strict=True)):
        texts = [query, *names]
        if layout == "texts":
            texts = [re.sub(r"[\t\n\r]+", " ", text) for text in texts]
        elif layout == "pairs" and any(re.search(r"[\t\n\r]", text) for text in texts):
            raise ScoreFileError(f"{path}: group {number} has an id with a tab or a line end: {texts!r:.200}")
        if "" in texts:
            raise ScoreFileError(f"{path}: group {number} has an empty query or document")
        if _HALF_PAIR.search("".join(texts)):
            raise ScoreFileError(f"{path}: group {number} has half a surrogate pair, which UTF-8 cannot hold")
        if not np.isfinite(values).all():
            raise ScoreFileError(f"{path}: group {number} has a score that is not finite: {values}")
        # nine digits: the shortest count that tells any two float32 apart
        yield texts[0], texts[1:], [float(f"{value:.9g}") for value in values.tolist()]


def _write(place: Path, rows: Iterator[_Row], layout: str) -> None:
    if place.suffix == ".parquet":
        _write_parquet(place, map(_OBJECTS[layout], rows))
        return
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(place.open("wb"))
        if place.suffix == ".gz":  # neither name nor time: equal content, equal bytes
            file = stack.enter_context(gzip.GzipFile("", "wb", fileobj=file, mtime=0))
        with io.TextIOWrapper(file, encoding="utf-8", newline="\n") as lines:
            for row in rows:
                lines.write(_tabbed(row) if layout in _TABBED else _line_of(_OBJECTS[layout](row)))


def _tabbed(row: _Row) -> str:
    query, (positive, *negatives), (score, *others) = row
    return "".join(
        f"{score:.9g}\t{other:.9g}\t{query}\t{positive}\t{negative}\n"
        for negative, other in zip(negatives, others, strict=True)
    )


def _line_of(row: dict) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _write_parquet(place: Path, rows: Iterator[dict]) -> None:
    from pyarrow import parquet

    first = pa.Table.from_pylist(list(itertools.islice(rows, _PARQUET_ROWS)))
    with parquet.ParquetWriter(place, first.schema) as file:
        file.write_table(first)
        while batch := list(itertools.islice(rows, _PARQUET_ROWS)):
            file.write_table(pa.Table.from_pylist(batch, schema=first.schema))


def _lists_object(row: _Row) -> dict:
    return {"query_id": row[0], "document_ids": row[1], "scores": row[2]}


def _tevatron_object(row: _Row) -> dict:
    passages = [{"docid": name, "score": score} for name, score in zip(row[1], row[2], strict=True)]
    return {"query_id": row[0], "positive_passages": passages[:1], "negative_passages": passages[1:]}


def _tuples_object(row: _Row) -> dict:
    negatives = {f"negative_{number}": text for number, text in enumerate(row[1][1:], 1)}
    return {"query": row[0], "positive": row[1][0], **negatives, "scores": row[2]}


def _flag_object(row: _Row) -> dict:
    names, scores = row[1], row[2]
    return {"query": row[0], "pos": names[:1], "neg": names[1:], "pos_scores": scores[:1], "neg_scores": scores[1:]}


_OBJECTS: dict[str, Callable[[_Row], dict]] = {
    "lists": _lists_object,
    "tevatron": _tevatron_object,
    "tuples": _tuples_object,
    "flag": _flag_object,
}
