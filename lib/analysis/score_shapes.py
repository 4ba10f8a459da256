"""What scores look like: margins, separation, spread. Works on a table with the columns query, score, grade.

`relevant_grade` is the lowest grade that counts as relevant: that of the collection, where it is not 1.
"""

import numpy as np
import pandas as pd
from scipy import optimize, special, stats


def margins(table: pd.DataFrame, relevant_grade: int = 1) -> np.ndarray:
    """Raw score of each relevant document minus that of each other document of its query, (pairs,) in table order."""
    parts = [np.empty(0)]
    for _, part in table.groupby("query", sort=False):
        relevant, scores = part["grade"].to_numpy() >= relevant_grade, part["score"].to_numpy(dtype=float)
        parts.append(np.subtract.outer(scores[relevant], scores[~relevant]).ravel())
    return np.concatenate(parts)


def summary(table: pd.DataFrame, relevant_grade: int = 1) -> dict[str, float]:
    """Numbers that describe a ranker's raw scores.

    positive, negative: mean score of relevant and of other documents. margin: median. correct: share of margins above
    0, ties counted half (AUC within queries). spread: mean over queries of the scores' standard deviation. ties: share
    of scores that occur again in their query. offset: standard deviation over queries of their mean score, which no
    ranking loss sees.
    """
    differences, by_query = pd.Series(margins(table, relevant_grade)), table.groupby("query")["score"]
    relevant = table["grade"] >= relevant_grade
    return {
        "positive": table.loc[relevant, "score"].mean(), "negative": table.loc[~relevant, "score"].mean(),
        "margin": differences.median(), "correct": (differences > 0).mean() + (differences == 0).mean() / 2,
        "spread": by_query.std().mean(), "ties": float(table.duplicated(["query", "score"], keep=False).mean()),
        "offset": by_query.mean().std(),
    }  # fmt: skip


def auc(table: pd.DataFrame, relevant_grade: int = 1) -> float:
    """Chance that a relevant document of any query scores above another document of any query; ties count half."""
    relevant, scores = table["grade"] >= relevant_grade, table["score"]
    if relevant.all() or not relevant.any():
        return float("nan")
    larger = stats.mannwhitneyu(scores[relevant], scores[~relevant], method="asymptotic").statistic
    return float(larger / (relevant.sum() * (~relevant).sum()))


def faults(table: pd.DataFrame) -> list[str]:
    """What is wrong with a ranker's raw scores, in plain words; empty where nothing is."""
    found, scores = [], table["score"].to_numpy(dtype=float)
    spread = table.groupby("query")["score"].std().median()
    if spread < 1e-3 * max(np.abs(scores).mean(), 1e-12):
        found.append(f"collapsed: within a query scores differ by {spread:.2g} around {scores.mean():.3g}")
    if (ties := table.duplicated(["query", "score"], keep=False).mean()) > 0.01:
        found.append(f"tied: {ties:.0%} of the scores appear twice in their query; score in float32, without a sigmoid")
    if scores.min() >= 0 and scores.max() <= 1 and np.mean((scores < 1e-3) | (scores > 1 - 1e-3)) > 0.5:
        found.append("saturated: over half of the scores are at 0 or 1; take the logits")
    if (zeros := np.mean(np.abs(scores) < np.finfo(np.float32).tiny)) > 0.01:
        found.append(f"underflow: {zeros:.0%} of the scores are zero")
    return found


def suggested_temperature(scores: np.ndarray) -> float:
    """The temperature at which the mean entropy of a teacher's softmax over scores (groups, docs) is log(docs) / 2.

    A rule of thumb, no paper's: a colder teacher says little more than a label, a hotter one hardly tells documents
    apart. Raises ValueError if the scores of every group are equal, or so many groups have several highest scores that
    the coldest softmax is no sharper.
    """
    scores = scores.astype(float) - scores.max(axis=1, keepdims=True)
    if not scores.any():
        raise ValueError("every group's scores are equal: no temperature tells its documents apart")

    def excess_entropy(log_temperature: float) -> float:
        weights = special.softmax(scores / np.exp(log_temperature), axis=1)
        return float(special.entr(weights).sum(1).mean() / np.log(scores.shape[1]) - 0.5)

    scale = np.log(np.abs(scores).max())
    if (excess := excess_entropy(scale - 25)) > -1e-9:
        tied = ((scores == 0).sum(axis=1) > 1).mean()
        raise ValueError(
            f"{tied:.0%} of the groups have several highest scores, so at any temperature the mean entropy stays "
            f"above {excess + 0.5:.2f} log(docs), and 0.50 is asked for: leave such groups out, or give scores that "
            "tell documents apart"
        )
    return float(np.exp(optimize.brentq(excess_entropy, scale - 25, scale + 10)))
