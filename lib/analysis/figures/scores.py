"""Figures of notebooks 01 and 02: the data, and what scores look like."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.analysis.figures.style import finish, panels, style


def first_stage(quality: pd.DataFrame) -> Figure:
    """How well does BM25 rank, and how much could a re-ranker gain? Columns collection, bm25, best."""
    figure, (axes,) = panels(width=9, height=3.6)
    bars = {"data": quality, "x": "collection", "edgecolor": "black", "ax": axes}
    sns.barplot(**bars, y="best", color="white", hatch="//", label="best order of its candidates")
    sns.barplot(**bars, y="bm25", color=style("bm25").colour, label="BM25's order")
    title = "How well does BM25 rank, and what could re-ranking gain?"
    return finish(figure, title, x="collection", y="RR@10 (mean over queries)")


def lengths(lengths_by_name: dict[str, np.ndarray], limit: int) -> Figure:
    """How long are pairs, and how many does the model's limit cut?"""
    figure, (axes,) = panels(width=9, height=3.6)
    for number, (name, values) in enumerate(lengths_by_name.items()):
        colour, _, dash = style(name, number)
        sns.ecdfplot(x=values, color=colour, linestyle=dash, label=f"{name} (median {np.median(values):.0f})", ax=axes)
    axes.axvline(limit, color="black", linewidth=1)
    axes.annotate(f" cut at {limit}", (limit, 0.02))
    labels = {"x": "tokens of query and passage together", "y": "share of pairs up to this length"}
    return finish(figure, "How long are the pairs, and what does the limit cut?", **labels)


def score_distributions(scores: dict[str, pd.DataFrame], *, columns: int = 4) -> Figure:
    """How far apart do rankers put relevant and other documents? Ranker -> columns score, grade."""
    figure, places = panels(scores, width=3, height=2.3, columns=columns)
    for axes, (name, table) in zip(places, scores.items(), strict=True):
        relevant = table["grade"] > 0
        bars = {"bins": np.histogram_bin_edges(table["score"], 40), "stat": "density", "element": "step", "ax": axes}
        sns.histplot(table["score"][~relevant], color="#cccccc", alpha=1, linewidth=0, label="not relevant", **bars)
        sns.histplot(table["score"][relevant], color=style(name).colour, fill=False, label="relevant", **bars)
        axes.xaxis.set_major_locator(plt.MaxNLocator(3))
    return finish(figure, "How far apart are relevant and other documents?", x="raw score", y="density")


def margins(values: dict[str, np.ndarray]) -> Figure:
    """How large is the margin between a positive and its negatives? Name -> margins."""
    figure, (axes,) = panels(width=10, height=3.8)
    for number, (name, of_pairs) in enumerate(values.items()):
        colour, marker, dash = style(name)
        label = f"{name}: median {np.median(of_pairs):.2g}, {np.mean(of_pairs < 0):.0%} below 0"
        marks = {"marker": marker, "markersize": 5, "markevery": (0.02 * number, 0.14)}  # shares of the diagonal
        sns.ecdfplot(x=of_pairs, color=colour, linestyle=dash, label=label, ax=axes, **marks)
    axes.axvline(0, color="black", linewidth=0.5)
    labels = {"x": "margin: raw score of the positive minus a negative's", "y": "share of margins up to this value"}
    return finish(figure, "How large are the margins, and how many are negative?", **labels)


def teacher_against_student(teacher: np.ndarray, students: dict[str, np.ndarray]) -> Figure:
    """Does the student copy the teacher's scores, or only their order? Margins of the same pairs."""
    figure, places = panels(students, width=3.4, height=3.4, sharex=True)
    for axes, (name, values) in zip(places, students.items(), strict=True):
        axes.xaxis.set_major_locator(plt.MaxNLocator(4))
        axes.plot(teacher, values, ".", color=style(name).colour, markersize=2, alpha=0.4, rasterized=True)
        axes.axline((0, 0), slope=1, color="black", linewidth=1, linestyle="--")
        axes.set_title(f"{name}: r = {np.corrcoef(teacher, values)[0, 1]:.2f}")
    title = "Does the student copy the teacher's margins (dashed), or only their order?"
    return finish(figure, title, x="teacher's margin", y="student's margin")
