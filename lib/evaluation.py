"""Measures with ir_measures, a row a query.

Tie rule: documents are ranked by falling score, equal scores by document id. ir_measures breaks ties one way for RR and
the other way for nDCG, so a ranking is made first and the measures see its positions, never the scores.
"""

import ir_measures
import numpy as np
import pandas as pd
from ir_measures import RR, R, nDCG

from lib.collections import Collection

MEASURES = ("nDCG@10", "RR@10", "R@10")
_BY_NAME = {"nDCG@10": nDCG @ 10, "RR@10": RR @ 10, "R@10": R @ 10}


def rank(run: pd.DataFrame) -> pd.DataFrame:
    """Add the column rank (from 1) to a run with the columns query, document, score.

    Raises:
        ValueError: a score is not finite, or a document stands twice for a query.
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
    (trec_eval's); RR and R count grades of 1 and more as relevant.
    """
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
        (value.query_id, str(value.measure)): value.value
        for value in ir_measures.iter_calc(list(_BY_NAME.values()), grades, documents)
    }
    rows = [
        (query, name, found.get((query, str(measure)), 0.0)) for query in queries for name, measure in _BY_NAME.items()
    ]
    return pd.DataFrame(rows, columns=["query", "measure", "value"])
