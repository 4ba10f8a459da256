"""Groups and their scores, written in any layout."""

import contextlib
import gzip
import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lib.data.score_files.blocks import HALF_PAIR
from lib.data.score_files.columns import MAKERS
from lib.data.score_files.faults import ScoreFileError
from lib.data.score_files.objects import object_line, write_parquet
from lib.data.score_files.rows import LAYOUTS, TABBED, Row, as_strings
from lib.data.score_files.tabbed import tabbed_lines
from lib.machine import store


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
        lib.machine.store.StoreError: the folder cannot be written.
    """
    path, queries, documents = Path(path), as_strings(queries), as_strings(documents)
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
        scores = np.asarray(scores, np.float32)
    least = 1 if layout == "lists" else 2
    if layout not in LAYOUTS or (path.suffix == ".parquet" and layout in TABBED):
        raise ValueError(f"layout={layout!r} for {path.name}: give one of {', '.join(LAYOUTS)}; parquet holds no tabs")
    if documents.ndim != 2 or documents.shape != scores.shape or queries.shape != scores.shape[:1]:
        shapes = f"queries {queries.shape}, documents {documents.shape}, scores {scores.shape}"
        raise ValueError(f"{shapes}: expected (groups,), (groups, docs) and (groups, docs)")
    if not len(queries) or scores.shape[1] < least:
        raise ValueError(f"scores {scores.shape}: at least one group of {least} documents")
    rows = _sound_groups(path, queries, documents, scores, layout)
    store.replace_file(path, lambda place: _write(place, rows, layout))


def _sound_groups(
    path: Path, queries: np.ndarray, documents: np.ndarray, scores: np.ndarray, layout: str
) -> Iterator[Row]:
    for number, (query, names, values) in enumerate(zip(queries, documents, scores, strict=True)):
        texts = [query, *names]
        if layout == "texts":
            texts = [re.sub(r"[\t\n\r]+", " ", text) for text in texts]
        elif layout == "pairs" and any(re.search(r"[\t\n\r]", text) for text in texts):
            raise ScoreFileError(f"{path}: group {number} has an id with a tab or a line end: {texts!r:.200}")
        if "" in texts:
            raise ScoreFileError(f"{path}: group {number} has an empty query or document")
        if HALF_PAIR.search("".join(texts)):
            raise ScoreFileError(f"{path}: group {number} has half a surrogate pair, which UTF-8 cannot hold")
        if not np.isfinite(values).all():
            raise ScoreFileError(f"{path}: group {number} has a score that is not finite: {values}")
        # nine digits: the shortest count that tells any two float32 apart
        yield texts[0], texts[1:], [float(f"{value:.9g}") for value in values.tolist()]


def _write(place: Path, rows: Iterator[Row], layout: str) -> None:
    if place.suffix == ".parquet":
        write_parquet(place, map(MAKERS[layout], rows))
        return
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(place.open("wb"))
        if place.suffix == ".gz":  # neither name nor time: equal content, equal bytes
            file = stack.enter_context(gzip.GzipFile("", "wb", fileobj=file, mtime=0))
        with io.TextIOWrapper(file, encoding="utf-8", newline="\n") as lines:
            for row in rows:
                lines.write(tabbed_lines(row) if layout in TABBED else object_line(MAKERS[layout](row)))
