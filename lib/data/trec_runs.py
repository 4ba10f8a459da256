"""TREC runs: a ranking that another system stored, read as a first stage (`lib.analysis.measures` writes them).

A line is `query Q0 document rank score tag`, separated by white space. The score alone decides the order; documents of
equal scores are ordered by their ids, as everywhere in the kit (trec_eval orders them the other way round).
"""

import math
import warnings
from functools import lru_cache
from pathlib import Path

import pandas as pd

from lib.data.beir import CollectionError, CollectionWarning
from lib.data.collections import Collection
from lib.machine import digest


def read(path: Path, collection: Collection, queries: list[str], depth: int) -> pd.DataFrame:
    """Columns query, document, rank (from 1), score: the `depth` best documents of each query id.

    This is what `first_stage.bm25` gives. Other queries of the file are left out. Warns of documents that the
    collection lacks (they are left out), of queries without a document (they count as zero), of ranks that contradict
    the scores, and of equal scores. Raises CollectionError if a line is malformed, a document appears twice for a
    query, or no query is in the file.
    """
    if not path.is_file():
        raise CollectionError(f"{path}: no such run")
    return _read(path, digest.of_file(path), collection, tuple(queries), depth).copy()


@lru_cache(maxsize=8)  # so that each file is read, and its faults are counted, once
def _read(path: Path, _: str, collection: Collection, queries: tuple[str, ...], depth: int) -> pd.DataFrame:
    run = _rows(path)
    run = run[run["query"].isin(set(queries))]
    if run.empty:
        raise CollectionError(f"{path}: none of its queries is one of the {len(queries)} that are asked for")
    known = run["document"].isin(set(run["document"]) & collection.documents.keys())
    run = run.sort_values(["query", "score", "document"], ascending=[True, False, True], kind="stable")
    against = (run.groupby("query")["stored"].diff() <= 0).sum()
    ties = run.duplicated(["query", "score"], keep=False).sum()
    _warn(path, {
        f"{(~known).sum()} of {len(run)} documents are not in {collection.name} and are left out": not known.all(),
        f"{len(queries) - run['query'].nunique()} of {len(queries)} queries have no document and count as zero":
            run["query"].nunique() < len(queries),
        f"{against} ranks contradict the scores, which decide": against > 0,
        f"{ties} documents share their score with another of their query; ids decide their order": ties > 0,
    })  # fmt: skip
    run = run[known[run.index]]
    run = run.assign(rank=run.groupby("query").cumcount() + 1)
    run = run[run["rank"] <= depth]
    order = {query: place for place, query in enumerate(queries)}
    run = run.sort_values(["query", "rank"], key=lambda part: part.map(order) if part.name == "query" else part)
    return run[["query", "document", "rank", "score"]].reset_index(drop=True)


def _rows(path: Path) -> pd.DataFrame:
    """Columns query, document, stored (its rank), score of every line."""
    rows, seen = [], set()
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                fields = line.decode("utf-8").split()
                if not fields:
                    continue
                if len(fields) != 6:
                    raise ValueError(f"{len(fields)} fields; expected query, Q0, document, rank, score, tag")
                query, _, document, rank, score, _ = fields
                if (query, document) in seen:
                    raise ValueError(f"document {document!r} appears twice for query {query!r}")
                if not math.isfinite(float(score)):
                    raise ValueError(f"score {score} is not finite")
                seen.add((query, document))
                rows.append((query, document, int(rank), float(score)))
            except ValueError as error:
                advice = "; repair it or convert the file to UTF-8" if isinstance(error, UnicodeError) else ""
                raise CollectionError(f"{path}, line {number}: {error}{advice}") from None
    if not rows:
        raise CollectionError(f"{path}: empty")
    return pd.DataFrame(rows, columns=["query", "document", "stored", "score"])


def _warn(path: Path, faults: dict[str, bool]) -> None:
    found = [text for text, there in faults.items() if there]
    if found:
        warnings.warn(f"{path}: {'; '.join(found)}", CollectionWarning, stacklevel=4)  # the caller of `read`
