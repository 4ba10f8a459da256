"""What the panels show, as plain data: lists, dictionaries, texts and finite numbers."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.analysis import measures, score_shapes, style
from lib.data.collections import Collection
from lib.training import strategies

DIGITS = 5  # of a score
CHARACTERS = 700  # of a text: more than a ranker reads of it
BINS = 40  # of a histogram


def documents(scores: Mapping[str, pd.DataFrame], collection: Collection) -> dict[str, object]:
    """The candidates of every query under each ranker: texts, grades, scores and ranks.

    Ranker -> columns query, document, grade, score, of the same pairs. Raises ValueError where the pairs differ.
    """
    pairs = ["query", "document"]
    ranked = {name: measures.rank(table).set_index(pairs) for name, table in scores.items()}
    first = next(iter(scores.values())).set_index(pairs)
    for name, table in ranked.items():
        if len(table) != len(first) or len(table.index.difference(first.index)):
            other = next(iter(scores))
            raise ValueError(f"ranker {name!r}: its pairs of query and document differ from those of {other!r}")
    texts = {document: number for number, document in enumerate(first.index.unique("document"))}
    queries = []
    for query, part in first.groupby(level="query", sort=False):
        of_rankers = {name: table.loc[part.index] for name, table in ranked.items()}
        queries.append({
            "id": str(query), "text": collection.queries[query], "grades": part["grade"].tolist(),
            "documents": [texts[document] for document in part.index.get_level_values("document")],
            "scores": {name: _rounded(table["score"]) for name, table in of_rankers.items()},
            "ranks": {name: table["rank"].tolist() for name, table in of_rankers.items()},
        })  # fmt: skip
    kept = [{"id": str(name), "text": _cut(collection.documents[name])} for name in texts]
    return {"rankers": list(scores), "relevant": collection.relevant_grade, "documents": kept, "queries": queries}


def group(scores: list[float], teacher: list[float], labels: list[float]) -> dict[str, object]:
    """One group of documents, the positive first, and the losses that can be asked about it, with their targets."""
    if not 2 <= len(scores) == len(teacher) == len(labels):
        counts = f"{len(scores)} scores, {len(teacher)} of the teacher, {len(labels)} labels"
        raise ValueError(f"{counts}: give two or more, and as many of each")
    kinds = {**dict.fromkeys(strategies.CONTRASTIVE, "labels"), **dict.fromkeys(strategies.DISTILLATION, "teacher")}
    losses = {name: {"targets": kind, "colour": style.style(name).colour} for name, kind in kinds.items()}
    return {"scores": scores, "teacher": teacher, "labels": labels, "losses": losses}


def steps(
    scores: Mapping[str, pd.DataFrame], histories: Mapping[str, pd.DataFrame], relevant_grade: int = 1
) -> dict[str, object]:
    """How scores are distributed at some steps of a training: ranker -> columns step, query, grade, score.

    The histogram of a ranker has the same bins at every step. `histories` are those of the trainings; `relevant_grade`
    as in `lib.analysis.score_shapes`.
    """
    return {
        name: _steps(table, histories[name], relevant_grade) | {"colour": style.style(name).colour}
        for name, table in scores.items()
    }


def _steps(table: pd.DataFrame, history: pd.DataFrame, relevant_grade: int) -> dict[str, object]:
    edges = np.histogram_bin_edges(table["score"], BINS)
    shots = []
    for step, part in table.groupby("step"):
        relevant = part["grade"] >= relevant_grade
        about = score_shapes.summary(part, relevant_grade)
        counts = {"relevant": part["score"][relevant], "other": part["score"][~relevant]}
        shots.append({
            "step": int(step), **{name: np.histogram(values, edges)[0].tolist() for name, values in counts.items()},
            **{name: round(float(about[name]), DIGITS) for name in ("positive", "negative", "margin", "correct")},
        })  # fmt: skip
    window = max(1, len(history) // 20)
    smooth = (history["positive"] - history["negative"]).rolling(window, min_periods=1).mean()
    return {"edges": _rounded(edges), "shots": shots, "margins": _rounded(smooth), "window": window}


def _rounded(values: pd.Series | np.ndarray) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in np.asarray(values, dtype=float)]


def _cut(text: str) -> str:
    return text if len(text) <= CHARACTERS else text[:CHARACTERS].rsplit(" ", 1)[0] + " …"
