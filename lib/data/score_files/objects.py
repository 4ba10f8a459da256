"""Rows of named values in a file: JSON lines and parquet, read and written."""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from lib.data.score_files.blocks import HALF_PAIR, blocks_of, clear_read_errors, decoded, is_parquet
from lib.data.score_files.columns import PARSERS
from lib.data.score_files.faults import Fault, ScoreFileError
from lib.data.score_files.rows import Chunk, Pass, Row

_PARQUET_ROWS = 1024


def object_chunks(work: Pass) -> Iterator[Chunk]:
    """The rows of a file of JSON lines or parquet, in chunks of one number of documents."""
    for batch in _parquet_batches(work.path) if is_parquet(work.path) else _json_batches(work.path):
        rows: list[tuple[int, Row]] = []
        for line, made in batch:
            try:
                found = PARSERS[work.layout](made())
                for query, documents, _ in found:
                    work.check_known(query, documents)
                rows += [(line, row) for row in found]
            except Fault as fault:
                work.fault(line, fault)
        for _, same in itertools.groupby(rows, key=lambda row: len(row[1][1])):  # a chunk is rectangular
            lines, found = zip(*same, strict=True)
            queries, documents, scores = zip(*found, strict=True)
            yield Chunk(
                np.array(queries, object), np.array(documents, object), np.array(scores, np.float32), np.array(lines)
            )


def _json_batches(path: Path) -> Iterator[list[tuple[int, Callable[[], dict]]]]:
    for first, block in blocks_of(path):
        lines = enumerate(block.split(b"\n")[:-1], first)
        yield [(number, lambda line=line: object_of(line)) for number, line in lines]


def object_of(line: bytes) -> dict:
    """The named values of a line of JSON, or the fault."""
    text = decoded(line)
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Fault("not JSON", f"no JSON object ({error})", "Mend the line") from None
    if "\\u" in text and HALF_PAIR.search(json.dumps(row, ensure_ascii=False)):
        raise Fault("bad UTF-8", "an escaped character is half a surrogate pair, no text", "Replace it")
    if not isinstance(row, dict):
        raise Fault("not JSON", f"no JSON object but a {type(row).__name__}", "Mend the line")
    return row


def object_line(row: dict) -> str:
    """A line of JSON."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def _parquet_batches(path: Path) -> Iterator[list[tuple[int, Callable[[], dict]]]]:
    first = 1
    with clear_read_errors(path), parquet_file(path) as file:
        for batch in file.iter_batches(_PARQUET_ROWS, use_threads=False):
            yield [(number, lambda row=row: row) for number, row in enumerate(batch.to_pylist(), first)]
            first += len(batch)
    if first == 1:
        raise ScoreFileError(f"{path}: empty")


def parquet_file(path: Path) -> "pa.parquet.ParquetFile":
    """A parquet file, opened."""
    from pyarrow import parquet  # only those who have such a file pay for it

    return parquet.ParquetFile(path)


def write_parquet(place: Path, rows: Iterator[dict]) -> None:
    """Write named values as parquet, some rows at a time."""
    from pyarrow import parquet

    first = pa.Table.from_pylist(list(itertools.islice(rows, _PARQUET_ROWS)))
    with parquet.ParquetWriter(place, first.schema) as file:
        file.write_table(first)
        while batch := list(itertools.islice(rows, _PARQUET_ROWS)):
            file.write_table(pa.Table.from_pylist(batch, schema=first.schema))
