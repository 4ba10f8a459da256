"""Files of teacher scores, published ones and the kit's own: read in a stream, looked up, written.

Ids are strings; an integer in JSON becomes its digits. Document 0 is the positive, but `lists` do not tell which one
is; each of several positives gives a row with the same negatives. The layouts, of which the last four are JSON lines or
parquet, whose other keys are ignored:

- `pairs`: pos_score, neg_score, query_id, pos_id, neg_id, tab-separated, no header: the teacher files of 2010.02666
  (https://zenodo.org/record/4068216, https://github.com/sebastian-hofstaetter/neural-ranking-kd).
- `texts`: the same with texts in place of ids, from that repository's teacher_id_to_text.py.
- `lists`: {query_id, document_ids: [], scores: []}, PyLate's: https://huggingface.co/datasets/lightonai/ms-marco-en-bge
- `tevatron`: {query_id, positive_passages: [{docid, score}, ...], negative_passages: [...]}:
  https://huggingface.co/datasets/rlhn/default-680K-bge-reranker-v2-gemma
- `tuples`: {query, positive, negative_1, ..., scores: []}, from sentence-transformers' `mine_hard_negatives` with
  output_format="n-tuple", output_scores=True (https://sbert.net/docs/package_reference/util/hard_negatives.html).
- `flag`: {query, pos: [], neg: [], pos_scores: [], neg_scores: []}, FlagEmbedding's:
  https://huggingface.co/datasets/Shitao/bge-m3-data
"""

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from functools import partial
from itertools import count, islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import compute, csv, parquet

from lib.machine import digest, progress, store

TABBED, ID_LAYOUTS = ("pairs", "texts"), ("pairs", "lists", "tevatron")
LAYOUTS = (*ID_LAYOUTS, "texts", "tuples", "flag")
FIELDS = ("pos_score", "neg_score", "query", "positive", "negative")  # of a tab-separated line
NEGATIVE = r"negative(_[0-9]+)?"  # the name of a column
# The first of these that a row has says its layout.
COLUMNS = {"document_ids": "lists", "positive_passages": "tevatron", "pos": "flag", "negative_1": "tuples",
           "negative": "tuples"}  # fmt: skip
ALIASES = {"anchor": "query", "question": "query", "answer": "positive", "score": "scores"}
ENDINGS = {".tsv", ".csv", ".txt", ".json", ".jsonl", ".parquet", ".gz", ".trec", ".run"}
FAULTS = {UnicodeDecodeError: "bad UTF-8", KeyError: "missing column", TypeError: "wrong type"}
NUMBER = re.compile(r" *[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf(inity)?) *", re.ASCII | re.IGNORECASE)
OVERFLOW = 3.4028235677973366e38  # from here on float32 rounds to infinity
BATCH = 1024  # lines in memory at once
LONGEST = 1 << 26  # bytes of a line; a file with a longer one is not a file of lines
Known = tuple[Container[str] | None, Container[str] | None]  # the ids of queries and of documents; None: any


class Row(NamedTuple):
    """A query with its documents and their scores, in the teacher's unit."""

    line: int  # from 1; the row of a parquet file
    query: str
    documents: Sequence[str]
    scores: Sequence[float]


class ScoreFileError(ValueError):
    """A score file is missing, malformed or contradicts itself; `kind` of fault and `line` if a line is at fault."""

    def __init__(self, message: str, kind: str | None = None, line: int | None = None):
        super().__init__(message)
        self.kind, self.line = kind, line


def read(
    path: Path | str, *, known: Known = (None, None), skip_malformed: bool = False, report: Counter[str] | None = None
) -> Iterator[Row]:
    """The rows of a score file, plain or gzip, in a stream: memory depends on `BATCH`, not on the number of rows.

    An id that is not `known` is a fault. A malformed line raises ScoreFileError or, with `skip_malformed`, is left out;
    `report` counts the "rows" and, by kind of fault, the lines left out. A file that is missing, empty, damaged or of
    no known layout raises ScoreFileError, too.
    """
    path, layout, report = Path(path), layout_of(path), Counter() if report is None else report
    records, first = _records(path), 1
    while batch := list(islice(records, BATCH)):
        rows = _parsed(batch, first) if layout in TABBED else None
        if rows is None or not _all_known(rows, *known):
            rows = []
            for line, record in enumerate(batch, first):
                try:
                    rows += [_checked(line, *group, known) for group in _groups(record, layout)]
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    kind = getattr(error, "kind", FAULTS.get(type(error), "not JSON"))
                    if not skip_malformed:
                        what = f"{'line' if isinstance(record, bytes) else 'row'} {line}: {kind}: {error}"
                        message = f"{path}, {what}. Fix or remove it, or write the file again"
                        raise ScoreFileError(message, kind, line) from None
                    report[kind] += 1
        report["rows"] += len(rows)
        yield from rows
        first += len(batch)
    if not report["rows"]:
        raise ScoreFileError(f"{path}: no sound row; {dict(report)}")
    if len(report) > 1:
        progress.say(f"{path}: malformed lines are left out; {dict(report)}")


def layout_of(path: Path | str) -> str:
    """Which of `LAYOUTS` a file has, by its first line that fits one; a space in a name tells `texts` from `pairs`."""
    for record in _records(Path(path)):
        if isinstance(record, bytes) and record[:1] != b"{" and record.count(b"\t") == len(FIELDS) - 1:
            return "texts" if b" " in record.split(b"\t", 2)[2] else "pairs"
        names = record if isinstance(record, dict) else re.findall(r'"(\w+)"\s*:', record.decode(errors="replace"))
        named = {ALIASES.get(name, name) for name in names}
        for name, layout in COLUMNS.items():
            if name in named:
                return layout
    expected = f"{', '.join(FIELDS)} (tab-separated), or a column of {', '.join(COLUMNS)} (JSON lines or parquet)"
    raise ScoreFileError(f"{path}: empty or of no known layout; expected {expected}")


def _records(path: Path) -> Iterator[bytes | dict]:
    """The lines of a text file, or the rows of a parquet file."""
    try:
        with path.open("rb") as file:
            if file.peek(4).startswith(b"PAR1"):
                for batch in parquet.ParquetFile(file).iter_batches(BATCH, use_threads=False):
                    yield from batch.to_pylist()
                return
            text = gzip.GzipFile(fileobj=file) if file.peek(2).startswith(b"\x1f\x8b") else file
            while line := text.readline(LONGEST):
                if len(line) == LONGEST:
                    raise ScoreFileError(f"{path}: a line is longer than {LONGEST >> 20} MiB; is it a file of lines?")
                yield line
    except (OSError, EOFError, zlib.error, pa.ArrowInvalid) as error:
        raise ScoreFileError(f"{path}: missing, broken off or damaged ({error}). Fetch or write it again") from error


def _parsed(lines: list, first: int) -> list[Row] | None:
    """The rows of tab-separated lines, parsed together for speed; None if one of the lines may be malformed."""
    read = csv.ReadOptions(use_threads=False, column_names=FIELDS)
    parse = csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False)
    types = dict.fromkeys(FIELDS[:2], pa.float64()) | dict.fromkeys(FIELDS[2:], pa.string())
    convert = csv.ConvertOptions(column_types=types, null_values=[])
    try:
        table = csv.read_csv(pa.BufferReader(b"".join(lines)), read, parse, convert)
    except pa.ArrowInvalid:
        return None
    narrow = (column.cast(pa.float32(), safe=False) for column in table.columns[:2])
    finite = all(compute.all(compute.is_finite(column)).as_py() for column in narrow)
    *scores, queries, positives, negatives = (column.to_pylist() for column in table.columns)
    if len(table) != len(lines) or not finite or any("" in names for names in (queries, positives, negatives)):
        return None  # lengths differ where a carriage return is inside a line
    return list(map(Row, count(first), queries, zip(positives, negatives, strict=True), zip(*scores, strict=True)))


def _all_known(rows: list[Row], queries: Container[str] | None, documents: Container[str] | None) -> bool:
    return (queries is None or all(row.query in queries for row in rows)) and (
        documents is None or all(name in documents for row in rows for name in row.documents)
    )


def _groups(record: bytes | dict, layout: str) -> list[tuple]:
    """The groups of a line, one for each positive, unchecked: (query, documents, scores)."""
    if layout in TABBED:
        fields = record.decode("utf-8-sig").removesuffix("\n").removesuffix("\r").split("\t")
        if len(fields) != len(FIELDS):
            raise ScoreFileError(f"{len(fields)}; expected {', '.join(FIELDS)}, without a header", "number of columns")
        return [(fields[2], fields[3:], [float(text) if NUMBER.fullmatch(text) else text for text in fields[:2]])]
    values = record if isinstance(record, dict) else json.loads(record.decode("utf-8-sig").rstrip())
    if layout == "lists":
        return [(values["query_id"], _list(values, "document_ids"), _list(values, "scores"))]
    if layout == "tuples":
        values = {ALIASES.get(name, name): value for name, value in dict(values).items()} | values
        negatives = [name for name in values if re.fullmatch(NEGATIVE, name)] or ["negative_1"]
        names = ["positive", *sorted(negatives, key=lambda name: int(name[9:] or 0))]
        return [(values["query"], [values[name] for name in names], _list(values, "scores"))]
    if layout == "tevatron":
        query, sides = values["query_id"], [_list(values, f"{side}_passages") for side in ("positive", "negative")]
        positives, negatives = ([(passage["docid"], passage["score"]) for passage in side] for side in sides)
    else:
        query, sides = values["query"], [(side, f"{side}_scores") for side in ("pos", "neg")]
        positives, negatives = (list(zip_longest(*(_list(values, name) for name in side))) for side in sides)
    return [(query, *zip(positive, *negatives, strict=True)) for positive in positives] or [(query, [], [])]


def _list(values: dict, column: str) -> list:
    if not isinstance(values[column], list):
        raise ScoreFileError(f"{column} is of type {type(values[column]).__name__}; expected a list", "wrong type")
    return values[column]


def _checked(line: int, query: Any, documents: Sequence, scores: Sequence, known: Known = (None, None)) -> Row:
    """A group as a row, or the fault in it."""
    if not documents or len(documents) != len(scores):
        raise ScoreFileError(f"{len(scores)} scores (not margins) for {len(documents)} documents", "wrong length")
    names = [str(name) if type(name) is int else name for name in (query, *documents)]
    for place, name in enumerate(names):
        what, ids = ("document", known[1]) if place else ("query", known[0])
        if name is None or name == "":
            raise ScoreFileError(what, "empty field")
        if not isinstance(name, str):
            raise ScoreFileError(f"{what} {name!r:.40}", "wrong type")
        if re.search("[\ud800-\udfff]", name):
            raise ScoreFileError(f"{what} with half a surrogate pair", "bad UTF-8")
        if ids is not None and name not in ids:
            raise ScoreFileError(f"{what} {name!r}", "unknown id")
    for score in scores:
        if type(score) not in (float, int):
            raise ScoreFileError(f"score {score!r:.40}", "not a number")
        if not -OVERFLOW < score < OVERFLOW:
            raise ScoreFileError(f"score {score!r:.40} in float32", "not finite")
    return Row(line, names[0], names[1:], scores)


def scores_of(path: Path | str, queries: Sequence, documents: Sequence, *, tolerance: float = 1e-4) -> np.ndarray:
    """The teacher's scores, (groups, docs) float32, of (groups,) query ids with (groups, docs) document ids in a file.

    A pair may be in many rows (in 2010.02666 a positive is with each of its negatives): its first score counts, and the
    others may differ by `tolerance`, in the teacher's unit; half precision needs more. Raises ScoreFileError as `read`
    does, or if the file holds texts, or lacks a pair.
    """
    shapes = np.shape(queries), np.shape(documents)
    if len(shapes[1]) != 2 or shapes[0] != shapes[1][:1]:
        raise ValueError(f"shapes {shapes}: expected (groups,), (groups, docs)")
    if (layout := layout_of(path)) not in ID_LAYOUTS:
        raise ScoreFileError(f"{path}: the layout {layout!r} holds texts; scores are looked up in files with ids")
    pairs = [(str(query), str(name)) for query, names in zip(queries, documents, strict=True) for name in names]
    looked_up, asked, scores = set(pairs), {query for query, _ in pairs}, {}
    for row in read(path):
        for document, score in zip(row.documents, row.scores, strict=True) if row.query in asked else ():
            pair = row.query, document
            if pair in looked_up and abs(score - scores.setdefault(pair, score)) > tolerance:
                what = f"query {row.query!r} and document {document!r} have the score {score:.9g} here"
                place = f"{path}, {'line' if isinstance(next(_records(Path(path))), bytes) else 'row'} {row.line}"
                message = f"{place}: {what} and {scores[pair]:.9g} before. Keep one score for each pair"
                raise ScoreFileError(message, "two scores", row.line)
    if missing := [pair for pair in pairs if pair not in scores]:
        what = f"no score for {len(missing)} of {len(pairs)} pairs of query and document; the first is {missing[0]}"
        raise ScoreFileError(f"{path}: {what}. Score them with the teacher, or leave out those groups")
    return np.array([scores[pair] for pair in pairs], np.float32).reshape(shapes[1])


def write(path: Path | str, queries: Sequence, documents: Sequence, scores: Sequence, layout: str = "pairs") -> None:
    """Write (groups,) queries, (groups, docs) documents and their scores; the file is whole or absent.

    The ending .gz compresses, .parquet gives parquet (not for `pairs` and `texts`, which have one line per negative).
    Every float32 comes back exactly. Equal content gives equal bytes. Raises ScoreFileError for a name that cannot be
    written or a score that is not finite, and ValueError for other shapes or an unknown layout.
    """
    path, scores = Path(path), np.asarray(scores, float)
    if layout not in LAYOUTS or (path.suffix == ".parquet" and layout in TABBED):
        raise ValueError(f"layout={layout!r} for {path.name}: give one of {', '.join(LAYOUTS)}; parquet holds no tabs")
    shapes = np.shape(queries), np.shape(documents), scores.shape
    if shapes != (scores.shape[:1], scores.shape, scores.shape) or not scores.size or scores.shape[1] < 2:
        raise ValueError(f"shapes {shapes}: expected (groups,), (groups, docs), (groups, docs), of 2 documents or more")
    records = []
    for number, (query, names, values) in enumerate(zip(queries, documents, scores.tolist(), strict=True)):
        try:
            records += _written(_checked(number, str(query), [str(name) for name in names], values), layout)
        except ScoreFileError as fault:
            raise ScoreFileError(f"{path}: group {number}: {fault.kind}: {fault}") from None
    if path.suffix == ".parquet":
        store.replace_file(path, partial(parquet.write_table, pa.Table.from_pylist(records)))
        return
    lines = (text if isinstance(text, str) else json.dumps(text, ensure_ascii=False) for text in records)
    content = "".join(f"{line}\n" for line in lines).encode()
    content = gzip.compress(content, mtime=0) if path.suffix == ".gz" else content
    store.replace_file(path, lambda place: place.write_bytes(content))


def _written(row: Row, layout: str) -> list[str] | list[dict]:
    """A row as lines, or as named values."""
    query, documents = row.query, row.documents
    scores = [float(f"{np.float32(score):.9g}") for score in row.scores]  # nine digits tell any two float32 apart
    if layout in TABBED:
        if layout == "pairs" and any(re.search(r"[ \t\n\r]", name) for name in (query, *documents)):
            raise ScoreFileError("an id has a space, a tab or a line end; give layout='lists'", "wrong type")
        query, positive, *negatives = (re.sub(r"[\t\n\r]+", " ", name) for name in (query, *documents))
        pairs = zip(scores[1:], negatives, strict=True)
        return [f"{scores[0]:.9g}\t{score:.9g}\t{query}\t{positive}\t{negative}" for score, negative in pairs]
    if layout == "lists":
        return [{"query_id": query, "document_ids": documents, "scores": scores}]
    if layout == "tuples":
        negatives = {f"negative_{place}": name for place, name in enumerate(documents) if place}
        return [{"query": query, "positive": documents[0], **negatives, "scores": scores}]
    if layout == "tevatron":
        passages = [{"docid": name, "score": score} for name, score in zip(documents, scores, strict=True)]
        return [{"query_id": query, "positive_passages": passages[:1], "negative_passages": passages[1:]}]
    sides = {"pos": documents[:1], "neg": documents[1:], "pos_scores": scores[:1], "neg_scores": scores[1:]}
    return [{"query": query} | sides]


def fingerprint(path: Path | str) -> str:
    """SHA-256 of a file's bytes, compressed or not, in 64 hexadecimal digits."""
    if not (path := Path(path)).is_file():
        advice = "give the path of a score file (or, as a teacher, a model's folder or its name on the hub)"
        raise ScoreFileError(f"{path}: there is no file {path.absolute()}; {advice}")
    return digest.of_file(path)


def is_file_name(name: object) -> bool:
    """Whether a teacher is named by a file of scores, present or not, and is no model's folder, hub name or run."""
    if not isinstance(name, str):
        return False
    path = Path(name)
    return path.is_file() or (not path.is_dir() and not ENDINGS.isdisjoint(path.suffixes[-2:]))
