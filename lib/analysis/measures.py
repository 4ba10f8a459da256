"""Measures with ir_measures, one row per query.

Tie rule: documents are ranked by falling score, equal scores by document id. ir_measures breaks ties one way for RR and
the other way for nDCG, so a ranking is made first and the measures see its positions, never the scores.
"""

import re
from collections.abc import Iterable

import ir_measures
import numpy as np
import pandas as pd
from ir_measures import RR, R, nDCG

from lib.data.collections import Collection

MEASURES = ("nDCG@10", "RR@10", "R@10")


def measures(relevant_grade: int) -> list[ir_measures.Measure]:
    """`MEASURES` for collections in which documents count as relevant from `relevant_grade` on.

    The grade is part of a measure's name: RR@10 counts grades of 1 and more, RR(rel=2)@10 of 2 and more. nDCG takes the
    grades as they are.
    """
    graded = {} if relevant_grade == 1 else {"rel": relevant_grade}
    return [nDCG @ 10, RR(**graded) @ 10, R(**graded) @ 10]


def named(measure: str, names: Iterable[str]) -> str:
    """Which of the measures in a table is meant by a name, which may leave out the grade that counts.

    Raises:
        ValueError: none of them, or several.
    """
    names = list(dict.fromkeys(names))
    found = [name for name in names if measure in (name, re.sub(r"\(rel=\d+\)", "", name))]
    found = [measure] if measure in found else found
    if len(found) != 1:
        raise ValueError(f"measure {measure!r}: {'ambiguous' if found else 'unknown'}; there are {', '.join(names)}")
    return found[0]


def rank(run: pd.DataFrame) -> pd.DataFrame:
    """Add the column rank (from 1) to a run with the columns query, document, score.

    Raises:
        ValueError: a score is not finite, or a document appears twice for a query.
    """
    broken = ~np.isfinite(run["score"].to_numpy(dtype=float))
    if broken.any():
        row = run[broken].iloc[0]
        raise ValueError(f"query {row['query']!r}, document {row['document']!r}: score {row['score']} is not finite")
    twice = run.duplicated(["query", "document"])
    if twice.any():
        row = run[twice].iloc[0]
        raise ValueError(f"query {row['query']!r}: document {row['document']!r} is ranked twice")
    run = run.sort_values(["query", "score", "document"], ascending=[True, False, True], kind="stable")
    return run.assign(rank=run.groupby("query").cumcount() + 1)


def as_run(queries: list[str], names: list[str], rows: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    """Columns query, document, score from found rows and scores, (queries, depth) both; a row of -1 is no document."""
    names = np.array(names)
    found = rows >= 0
    return pd.DataFrame({
        "query": np.repeat(np.array(queries), found.sum(1)), "document": names[rows[found]], "score": scores[found],
    })  # fmt: skip


def measure(run: pd.DataFrame, collection: Collection, split: str, queries: list[str]) -> pd.DataFrame:
    """Columns query, measure, value: every measure of every query in `queries`, in that order.

    `run` has the columns query, document, score. A query that the run lacks counts as zero. nDCG has linear gain
    (trec_eval's); RR and R count the grades that the collection counts as relevant, and their names say so where that
    is not 1 and more (`measures`).
    """
    wanted = measures(collection.relevant_grade)
    ranked = rank(run)
    documents = [
        ir_measures.ScoredDoc(query, document, -float(place))
        for query, document, place in zip(ranked["query"], ranked["document"], ranked["rank"], strict=True)
    ]
    judged = collection.judgements[split]
    judged = judged[judged["query"].isin(set(queries))]
    grades = [
        ir_measures.Qrel(query, document, int(grade)) for query, document, grade in judged.itertuples(index=False)
    ]
    found = {
        (value.query_id, str(value.measure)): value.value for value in ir_measures.iter_calc(wanted, grades, documents)
    }
    names = [str(measure) for measure in wanted]
    rows = [(query, name, found.get((query, name), 0.0)) for query in queries for name in names]
    return pd.DataFrame(rows, columns=["query", "measure", "value"])
