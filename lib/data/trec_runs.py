"""TREC runs: a ranking that another system stored, read as a first stage (`lib.analysis.measures` writes them).

A line is `query Q0 document rank score tag`, separated by white space; the file may be compressed with gzip. As for
trec_eval (https://github.com/usnistgov/trec_eval, form_res_rels.c), the score in float32 alone decides the order, and
of documents with equal scores the one with the larger id is first: a stored run has the values that trec_eval gives it.
"""

import gzip
import re
import warnings
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data.beir import CollectionError, CollectionWarning
from lib.data.collections import Collection
from lib.machine import digest


def read(path: Path, collection: Collection, queries: list[str], depth: int | None = None) -> pd.DataFrame:
    """Columns query, document, rank (from 1), score: the `depth` best documents of each query id, or all.

    This is what `first_stage.bm25` gives. Other queries of the file are left out. Warns of documents that the
    collection lacks (they are left out), of queries without a document (they count as zero), of ranks that contradict
    the scores or leave gaps, and of equal scores. Raises CollectionError if a line is malformed, a document appears
    twice for a query, or the file has none of the queries or none of the documents.
    """
    if not path.is_file():
        raise CollectionError(f"{path}: no such run")
    return _read(path, digest.of_file(path), collection, tuple(queries), depth).copy()


@lru_cache(maxsize=8)  # so that each file is read, and its faults are counted, once
def _read(path: Path, _: str, collection: Collection, queries: tuple[str, ...], depth: int | None) -> pd.DataFrame:
    run = _rows(path)
    run = run[run["query"].isin(set(queries))]
    if run.empty:
        raise CollectionError(f"{path}: none of its queries is one of the {len(queries)} that are asked for")
    known = run["document"].isin(set(run["document"]) & collection.documents.keys())
    if not known.any():
        raise CollectionError(f"{path}: none of its {len(run)} documents is in {collection.name}; is it of another?")
    ordered = run.sort_values(["query", "score", "stored"], ascending=[True, False, True])
    steps = ordered.groupby("query")[["stored", "score"]].diff()
    gaps = run.sort_values(["query", "stored"]).groupby("query")["stored"].diff() > 1
    run = run.sort_values(["query", "score", "document"], ascending=[True, False, False])
    found = set(run["query"][known])
    lacking = [query for query in queries if query not in found]
    _warn(path, run["line"], {
        f"of {len(run)} documents are not in {collection.name} and are left out": ~known,
        "ranks contradict the scores, which decide": (steps["stored"] <= 0) & (steps["score"] < 0),
        "ranks come after a gap; only the order counts": gaps,
        "documents share their score with another of their query; the larger id is first":
            run.duplicated(["query", "score"], keep=False),
    }, f"{len(lacking)} of {len(queries)} queries have no document and count as zero, the first {lacking[:1]}"
       if lacking else "")  # fmt: skip
    # The kit orders equal scores by the smaller id, so later ones are lowered by steps far below float32's.
    later = run.groupby(["query", "score"]).cumcount()
    run["score"] -= later * np.spacing(run["score"].abs())
    run = run[known[run.index]]
    run = run.assign(rank=run.groupby("query").cumcount() + 1)
    run = run if depth is None else run[run["rank"] <= depth]
    order = {query: place for place, query in enumerate(queries)}
    run = run.sort_values(["query", "rank"], key=lambda part: part.map(order) if part.name == "query" else part)
    return run[["query", "document", "rank", "score"]].reset_index(drop=True)


def _rows(path: Path) -> pd.DataFrame:
    """Columns query, document, stored (its rank), score, line (its number) of every line."""
    rows, number = {}, 0
    try:
        with path.open("rb") as file:
            lines = gzip.GzipFile(fileobj=file) if file.peek(2).startswith(b"\x1f\x8b") else file
            for line in lines:
                number += 1
                if fields := line.decode("utf-8-sig" if number == 1 else "utf-8").split():
                    pair, values = _parsed(fields)
                    if pair in rows:
                        raise ValueError(f"document {pair[1]!r} appears twice for query {pair[0]!r}")
                    rows[pair] = *values, number
    except (OSError, EOFError, zlib.error) as error:
        raise CollectionError(f"{path}, after line {number}: {error}; fetch or write it again") from None
    except ValueError as error:
        advice = "; repair it or convert the file to UTF-8" if isinstance(error, UnicodeError) else ""
        raise CollectionError(f"{path}, line {number}: {error}{advice}") from None
    if not rows:
        raise CollectionError(f"{path}: empty")
    return pd.DataFrame(
        [pair + values for pair, values in rows.items()], columns=["query", "document", "stored", "score", "line"]
    )


def _parsed(fields: list[str]) -> tuple[tuple[str, str], tuple[int, float]]:
    """((query, document), (rank, score)) of a line."""
    if len(fields) != 6:
        raise ValueError(f"{len(fields)} fields; expected query, Q0, document, rank, score, tag")
    query, _, document, rank, score, _ = fields
    if not re.fullmatch(r"-?[0-9]+", rank) or "_" in score or not score.isascii():
        raise ValueError(f"rank {rank!r} and score {score!r}: expected a whole number and a number")
    value = float(score)
    if not abs(value) <= float(np.finfo(np.float32).max):
        raise ValueError(f"score {score} is not finite in float32")
    return (query, document), (int(rank), float(np.float32(value)))


def _warn(path: Path, lines: pd.Series, faults: dict[str, pd.Series], more: str) -> None:
    """Of each fault: how many rows have it, and the first line of these."""
    found = [f"{rows.sum()} {text} (the first in line {lines[rows[lines.index]].min()})"
             for text, rows in faults.items() if rows.any()]  # fmt: skip
    if found or more:
        text = "; ".join([*found, *filter(None, [more])])
        warnings.warn(f"{path}: {text}", CollectionWarning, stacklevel=4)  # the caller of `read`
