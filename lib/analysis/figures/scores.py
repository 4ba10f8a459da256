"""Figures of texts, scores and margins, and of how they move during training."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.analysis import score_shapes
from lib.analysis.style import finish, line, moved, panels, style
from lib.training import strategies


def first_stage(quality: pd.DataFrame) -> Figure:
    """How well does BM25 rank, and how much could a re-ranker gain? Columns collection, bm25, best."""
    figure, (axes,) = panels(width=9, height=3.6)
    bars = {"data": quality, "x": "collection", "edgecolor": "black", "ax": axes}
    sns.barplot(**bars, y="best", color="white", hatch="//", label="ideal ranking of its candidates")
    sns.barplot(**bars, y="bm25", color=style("bm25").colour, label="BM25's order")
    title = "How well does BM25 rank, and what could re-ranking gain?"
    return finish(figure, title, x="collection", y="RR@10 (mean over queries)")


def lengths(lengths_by_name: dict[str, np.ndarray], limit: int) -> Figure:
    """How long are pairs, and how many does the model's limit cut?"""
    figure, (axes,) = panels(width=9, height=3.6)
    for number, (name, values) in enumerate(lengths_by_name.items()):
        colour, marker, dash = style(name, number)
        marks = {"marker": marker, "markersize": 5, "markevery": (0.02 * number, 0.14)}  # shares of the diagonal
        label = f"{name} (median {np.median(values):.0f})"
        sns.ecdfplot(x=values, color=colour, linestyle=dash, label=label, ax=axes, **marks)
    axes.axvline(limit, color="black", linewidth=1)
    axes.annotate(f" cut at {limit}", (limit, 0.02))
    labels = {"x": "tokens of query and passage together", "y": "share of pairs up to this length"}
    return finish(figure, "How long are the pairs, and what does the limit cut?", **labels)


def score_distributions(
    scores: dict[str, pd.DataFrame], relevant_grade: int = 1, *, columns: int = 4, bins: int = 40, **shared: str
) -> Figure:
    """How far apart do rankers put relevant and other documents? Ranker -> columns score, grade.

    `relevant_grade` as in `lib.analysis.score_shapes`.
    """
    figure, places = panels(scores, width=3, height=2.3, columns=columns, **shared)
    for axes, (name, table) in zip(places, scores.items(), strict=True):
        relevant = table["grade"] >= relevant_grade
        bars = {"bins": np.histogram_bin_edges(table["score"], bins), "stat": "density", "element": "step", "ax": axes}
        sns.histplot(table["score"][~relevant], color="#d6d6d6", alpha=1, linewidth=0, label="not relevant", **bars)
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


def learning_curves(histories: dict[str, pd.DataFrame], plateau: float | None = None, *, title: str) -> Figure:
    """How do loss and margin move? Name -> history; both are smoothed over a twentieth of the steps."""
    figure, (left, right) = panels(["loss", "margin"], width=5.2, height=3.4)
    for number, (name, history) in enumerate(histories.items()):
        smooth = history.set_index("step").rolling(max(1, len(history) // 20), min_periods=1).mean()
        line(left, smooth["loss"], name, number)
        line(right, smooth["positive"] - smooth["negative"], name, number)
    if plateau is None:
        left.set_yscale("log")
    else:
        left.axhline(plateau, color="black", linewidth=1, linestyle=":", label="ln(group size): a guess")
    finish(figure, title, x="step", y="training loss")
    right.set_ylabel("positive minus negative score")
    return figure


def gradients(margin: np.ndarray, pushes: dict[str, np.ndarray], groups: dict[str, Sequence[str]]) -> Figure:
    """How hard does each loss push a pair apart? Margins (points,), pushes by loss (points,), losses by panel."""
    figure, places = panels(groups, width=5.6, height=4.2, sharey=True)
    for axes, names in zip(places, groups.values(), strict=True):
        for number, name in enumerate(names):
            line(axes, pd.Series(pushes[name], margin), name, number)
        axes.axhline(0, color="black", linewidth=1)
        axes.set_ylim(-3, 5)
    labels = {"x": "the student's margin: positive minus negative", "y": "push to a larger margin (minus the gradient)"}
    return finish(figure, "How hard does each loss push a pair apart?", **labels)


def training_margins(histories: dict[str, pd.DataFrame], *, window: int = 10) -> Figure:
    """How do scores move during training? Histories by architecture, drawn as in the first figure of 2010.02666."""
    figure, places = panels(histories, width=3.4, height=3.2)
    for axes, (name, history) in zip(places, histories.items(), strict=True):
        colour = style(name).colour
        smooth = history.set_index("step")[["positive", "negative"]].rolling(window, min_periods=1).mean()
        axes.fill_between(smooth.index, *smooth.to_numpy().T, color=colour, alpha=0.25, label="margin")
        marks = {"marker": ".", "markevery": max(1, len(smooth) // 8)}  # a single step has no line
        axes.plot(smooth["positive"], color=colour, label="positives", **marks)
        axes.plot(smooth["negative"], color=colour, linestyle="--", label="negatives", **marks)
    title = "How do scores move during training? Each architecture has its own scale"
    return finish(figure, title, x="step", y=f"mean raw score (over {window} steps)")


def before_and_after(scores: dict[tuple[str, str], pd.DataFrame], relevant_grade: int = 1) -> Figure:
    """How large are scores before and after training? By (when, architecture); grades as in `score_distributions`.

    The panels of a row share one scale, which leaves out the lowest and the highest 0.2 % of its scores.
    """
    titled, of_rows = {}, {}
    for (when, name), table in scores.items():
        size, margin = table["score"].abs().mean(), np.median(np.abs(score_shapes.margins(table, relevant_grade)))
        titled[f"{name}, {when}\nmean |score| {size:.2g}, median |margin| {margin:.2g}"] = table
        of_rows.setdefault(when, []).append(table["score"])
    columns = len({name for _, name in scores})
    figure = score_distributions(titled, relevant_grade, columns=columns, bins=25, sharex="row")
    for axes in figure.axes:
        axes.set_title(axes.get_title(), fontsize=9)
    for axes, of_row in zip(figure.axes[::columns], of_rows.values(), strict=True):
        axes.set_xlim(*pd.concat(of_row).quantile([0.002, 0.998]))
    figure.suptitle("How large are raw scores, and how far apart are relevant and other documents?")
    return figure


def margins_and_similarities(histories: dict[str, pd.DataFrame], *, window: int = 5) -> Figure:
    """How do margins, target margins and document similarities move? Histories by strategy."""
    figure, places = panels(histories, width=3, height=3, sharey=True)
    for axes, (name, history) in zip(places, histories.items(), strict=True):
        smooth = history.set_index("step").rolling(window, min_periods=1).mean()
        colour = style(name).colour
        axes.plot(smooth["positive"] - smooth["negative"], color=colour, label="margin")
        if strategies.named(name).paradigm == "self-distillation":  # else its targets are labels
            axes.plot(smooth["target_margin"], color=colour, linestyle="--", label="target margin")
        axes.plot(smooth["similarity"], color="#777777", linestyle=":", label="cos(positive, negative)")
    title = "How do margins and document similarities move during training?"
    return finish(figure, title, x="step", y=f"cosine (mean over {window} steps)")


def moves(before: np.ndarray, after: dict[str, np.ndarray]) -> Figure:
    """How does one training step move the scores of a query's documents? Scores (docs,), after the step by strategy."""
    figure, places = panels(after, width=3.6, height=3.2, sharey=True)
    for axes, (name, scores) in zip(places, after.items(), strict=True):
        moved(axes, [str(column) for column in range(len(before))], before, scores, style(name).colour)
    title = "How does one step move the scores of a query's ten documents? Hollow: before; filled: after"
    return finish(figure, title, x="column: 0 is the positive", y="score (cosine)")
