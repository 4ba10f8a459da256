"""Measures with ir_measures, one row per query.

Tie rule: documents are ranked by falling score, equal scores by document id. ir_measures breaks ties one way for RR and
the other way for nDCG, so a ranking is made first and the measures see its positions, never the scores.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import ir_measures
import numpy as np
import pandas as pd

from lib.data.collections import Collection
from lib.machine import store

MEASURES = ("nDCG@10", "RR@10", "R@10")  # of every evaluation, by ir_measures' names


def named(measure: str, names: Iterable[str]) -> str:
    """Which measure a name means, which may leave out the grade that counts; raises ValueError if none, or several."""
    names = list(dict.fromkeys(names))
    if measure in names:
        return measure
    matches = [name for name in names if measure == re.sub(r"\(rel=\d+\)", "", name)]
    if len(matches) != 1:
        raise ValueError(f"measure {measure!r}: {'ambiguous' if matches else 'unknown'}; there are {', '.join(names)}")
    return matches[0]


def check(measure: str) -> None:
    """Raise ValueError if no collection has a measure of this name."""
    named(re.sub(r"\(rel=\d+\)", "", measure), MEASURES)


def select(results: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The rows of one measure in a results table, on each collection by the name that it has there (`named`)."""
    quality = results[results["query"] != ""]
    names = {name: named(measure, part.unique()) for name, part in quality.groupby("collection")["measure"]}
    return quality[quality["measure"] == quality["collection"].map(names)]


def of(collection: Collection) -> list[str]:
    """The names of `MEASURES` on a collection: those that know only relevant and not have its grade, if it is above 1.

    RR(rel=2)@10 counts documents of grade 2 and more.
    """
    parsed, grade = map(ir_measures.parse_measure, MEASURES), collection.relevant_grade
    return [str(one(rel=grade) if grade > 1 and "rel" in one.SUPPORTED_PARAMS else one) for one in parsed]


def rank(run: pd.DataFrame) -> pd.DataFrame:
    """Add the column rank (from 1) to a run with the columns query, document, score.

    Raises ValueError if a score is not finite or a query has a document twice.
    """
    for row in run[~np.isfinite(run["score"].to_numpy(dtype=float))].itertuples():
        raise ValueError(f"query {row.query!r}, document {row.document!r}: score {row.score} is not finite")
    for row in run[run.duplicated(["query", "document"])].itertuples():
        raise ValueError(f"query {row.query!r}: document {row.document!r} is ranked twice")
    run = run.sort_values(["query", "score", "document"], ascending=[True, False, True], kind="stable")
    return run.assign(rank=run.groupby("query").cumcount() + 1)


def as_run(queries: list[str], names: list[str], rows: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    """Columns query, document, score from rows and scores, (queries, depth) both; a row of -1 is no document."""
    filled = rows >= 0
    return pd.DataFrame({
        "query": np.repeat(queries, filled.sum(1)), "document": np.array(names)[rows[filled]], "score": scores[filled],
    })  # fmt: skip


def measure(run: pd.DataFrame, collection: Collection, split: str, queries: list[str]) -> pd.DataFrame:
    """Columns query, measure, value: every measure of every query in `queries`, in that order.

    `run` has the columns query, document, score; a query that it lacks counts as zero. nDCG has trec_eval's linear
    gain; names are those of `of`.
    """
    fields = {"query": "query_id", "document": "doc_id", "grade": "relevance"}  # what ir_measures calls them
    ranked = rank(run).rename(columns=fields)
    judged = collection.judgements[split].rename(columns=fields)
    judged = judged[judged["query_id"].isin(set(queries))]
    judged = judged.assign(relevance=judged["relevance"].clip(lower=0))  # below -1 pytrec_eval leaves its arrays
    names = of(collection)
    calculated = ir_measures.iter_calc(
        map(ir_measures.parse_measure, names), judged, ranked.assign(score=-ranked["rank"].astype(float))
    )
    values = {(value.query_id, str(value.measure)): value.value for value in calculated}
    rows = [(query, name, values.get((query, name), 0.0)) for query in queries for name in names]
    return pd.DataFrame(rows, columns=["query", "measure", "value"])


def write_trec(run: pd.DataFrame, judgements: pd.DataFrame, path: Path, tag: str) -> None:
    """Write a run for trec_eval, and beside it its judgements, with the ending .qrels.

    A run's line is query, Q0, document, rank, score, tag. trec_eval orders by the score in float32 and ignores the
    rank, so of equal scores the second is lowered to the next float32: trec_eval then has the order of `rank`, and so
    the values of `measure`. Raises ValueError as `rank`, and if an id or the tag is empty or has a space in it.
    """
    ranked, lines, before = rank(run), [], np.float32(np.inf)
    for name in (tag, *ranked["query"], *ranked["document"], *judgements["query"], *judgements["document"]):
        if len(name.split()) != 1:
            raise ValueError(f"{name!r}: spaces separate the columns of a TREC file, so no id or tag can have one")
    for row in ranked.itertuples():
        score = np.float32(row.score)
        if row.rank > 1:
            score = min(score, np.nextafter(before, np.float32(-np.inf)))
        lines.append(f"{row.query} Q0 {row.document} {row.rank} {score!s} {tag}\n")
        before = score
    judged = [f"{row.query} 0 {row.document} {row.grade}\n" for row in judgements.itertuples()]  # no quotes, as in CSV
    store.replace_file(path, lambda into: into.write_text("".join(lines)))
    store.replace_file(path.with_suffix(".qrels"), lambda into: into.write_text("".join(judged)))
