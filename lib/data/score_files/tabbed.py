"""`pairs` and `texts`, tab-separated: blocks into rows, rows into lines."""

import itertools
import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

from lib.data.score_files.blocks import MARK, blocks_of, decoded
from lib.data.score_files.faults import Fault, ScoreFileError, fault_of
from lib.data.score_files.rows import OVERFLOW, Chunk, Pass, Row

_FIELDS = ("pos_score", "neg_score", "query", "positive", "negative")
_NUMBER = re.compile(r" *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)? *", re.ASCII)
_NO_NUMBER = re.compile(r" *[+-]?(nan|inf|infinity) *", re.IGNORECASE)


def tabbed_chunks(work: Pass) -> Iterator[Chunk]:
    """The rows of a tab-separated file, a chunk a block; only a block with a fault is looked at line by line."""
    for first, block in blocks_of(work.path):
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


def _parsed(block: bytes, lines: np.ndarray, work: Pass) -> Chunk | None:
    """The rows of a block; None if any line is malformed."""
    if b"\r" in block or block.startswith(MARK):  # arrow would take these for a line end and for nothing
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


def _sound_lines(block: bytes, first: int, work: Pass) -> tuple[bytes, np.ndarray]:
    """The lines of a block without fault, and their numbers; the others are reported."""
    kept, numbers = [], []
    for number, line in enumerate(block.split(b"\n")[:-1], first):
        fault = line_fault(line, work)
        if fault is None:
            kept.append(line + b"\n")
            numbers.append(number)
        else:
            work.fault(number, fault)
    return b"".join(kept), np.array(numbers, np.int64)


def line_fault(line: bytes, work: Pass | None) -> Fault | None:
    """What is wrong with a line, if anything; ids are checked where a pass is given."""
    return fault_of(_check_line, line, work)


def _check_line(line: bytes, work: Pass | None) -> None:
    fields = decoded(line).split("\t")
    wanted = "expected pos_score, neg_score, query, positive and negative, tab-separated"
    if len(fields) != len(_FIELDS):
        kind = "missing column" if len(fields) < len(_FIELDS) else "extra column"
        raise Fault(kind, f"{len(fields)} columns; {wanted}", "Mend the line; a header line must go")
    for name, value in zip(_FIELDS, fields, strict=True):
        if not value:
            raise Fault("empty field", f"{name} is empty", "Fill it in or remove the line")
    for name, value in zip(_FIELDS[:2], fields[:2], strict=True):
        if _NO_NUMBER.fullmatch(value) or (_NUMBER.fullmatch(value) and abs(float(value)) >= OVERFLOW):
            raise Fault("not finite", f"{name} is {value!r}, which float32 cannot hold", "Score the pair again")
        if not _NUMBER.fullmatch(value):
            raise Fault("not a number", f"{name} is {value!r}; {wanted}", "Mend the line; a header line must go")
    if "\r" in line.decode():
        raise Fault("carriage return", "a carriage return stands inside the line", "Put a space in its place")
    if work is not None:
        work.check_known(fields[2], fields[3:])


def tabbed_lines(row: Row) -> str:
    """The lines of a group: one a negative."""
    query, (positive, *negatives), (score, *others) = row
    return "".join(
        f"{score:.9g}\t{other:.9g}\t{query}\t{positive}\t{negative}\n"
        for negative, other in zip(negatives, others, strict=True)
    )
