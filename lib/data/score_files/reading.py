"""A file of any layout, told by its content, read in one pass."""

import contextlib
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path

from lib.data.score_files.blocks import blocks_of, clear_read_errors, is_parquet
from lib.data.score_files.columns import layout_of_keys
from lib.data.score_files.faults import Fault, ScoreFileError, fault_of
from lib.data.score_files.objects import object_chunks, object_of, parquet_file
from lib.data.score_files.rows import ID_LAYOUTS, LAYOUTS, TABBED, Chunk, Known, Pass, Report, error_of
from lib.data.score_files.tabbed import line_fault, tabbed_chunks
from lib.machine import progress

ROWS_AT_ONCE = 65_536


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
    if layout in TABBED and is_parquet(path):
        raise ScoreFileError(f"{path}: a parquet file, which cannot have the layout {layout!r}")
    if known is not None and layout not in ID_LAYOUTS:
        raise ValueError(f"{path}: the layout {layout!r} holds texts, which `known` ids cannot be compared with")
    known = tuple(_container(ids) for ids in known or (None, None))
    return _chunks(Pass(path, layout, known, skip_malformed, report or Report()), rows_at_once)


def _chunks(work: Pass, rows_at_once: int) -> Iterator[Chunk]:
    chunks = tabbed_chunks(work) if work.layout in TABBED else object_chunks(work)
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


def _container(ids: Iterable[str] | None) -> Container[str] | None:
    return ids if ids is None or isinstance(ids, set | frozenset | Mapping) else frozenset(ids)


def layout_of(path: Path | str) -> str:
    """Which of `LAYOUTS` a file has, by its first row that fits one.

    `pairs` and `texts` differ only in what their last three columns hold: texts if one of them contains a space.

    Raises:
        ScoreFileError: the file is missing, empty or of no known layout.
    """
    path = Path(path)
    if is_parquet(path):
        with clear_read_errors(path), parquet_file(path) as file:
            return layout_of_keys(file.schema_arrow.names, path, None)
    lines = next(blocks_of(path))[1].split(b"\n")[:-1]
    sound = next((line for line in lines if line_fault(line, None) is None), None)
    if sound is not None:
        return "texts" if any(b" " in part for part in sound.split(b"\t")[2:]) else "pairs"
    for line in lines:
        with contextlib.suppress(Fault, ScoreFileError):
            return layout_of_keys(list(object_of(line)), path, None)
    if not lines[0].lstrip().startswith(b"{"):
        raise error_of(path, 1, line_fault(lines[0], None))
    if fault := fault_of(object_of, lines[0]):
        raise error_of(path, 1, fault)
    return layout_of_keys(list(object_of(lines[0])), path, 1)  # raises: no line fits
