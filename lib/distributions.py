"""What scores look like: margins, separation, spread. Works on a table with the columns query, score, grade."""

import numpy as np
import pandas as pd


def margins(table: pd.DataFrame) -> np.ndarray:
    """Raw score of each relevant document minus that of each other document of its query, (pairs,).

    Pairs come in the table's order, so two rankers' margins over the same table belong together.
    """
    found = []
    for _, part in table.groupby("query", sort=False):
        relevant = part["grade"].to_numpy() > 0
        values = part["score"].to_numpy(dtype=float)
        found.append((values[relevant][:, None] - values[~relevant][None, :]).ravel())
    return np.concatenate(found) if found else np.empty(0)


def summary(table: pd.DataFrame) -> dict[str, float]:
    """Numbers that describe a ranker's raw scores.

    positive, negative: mean score of relevant and of other documents. margin: median margin. correct: share of
    margins above 0, ties counted half, which is the AUC within queries. spread: mean over queries of the standard
    deviation of the scores. ties: share of scores that another document of the query has too. offset: standard
    deviation over queries of their mean score, which no ranking loss sees.
    """
    some = margins(table)
    relevant = table["grade"] > 0
    by_query = table.groupby("query")["score"]
    return {
        "positive": table.loc[relevant, "score"].mean(), "negative": table.loc[~relevant, "score"].mean(),
        "margin": float(np.median(some)) if len(some) else np.nan,
        "correct": float(np.mean(some > 0) + np.mean(some == 0) / 2) if len(some) else np.nan,
        "spread": by_query.std().mean(), "ties": float(table.duplicated(["query", "score"], keep=False).mean()),
        "offset": by_query.mean().std(),
    }  # fmt: skip
