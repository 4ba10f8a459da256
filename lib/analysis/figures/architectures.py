"""Figures of notebook 07: five architectures."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from lib.analysis.figures.scores import score_distributions
from lib.analysis.figures.style import finish, log_ticks, panels, points, style


def training_margins(histories: dict[str, pd.DataFrame], *, window: int = 10) -> Figure:
    """How do scores move during training? Histories by architecture (columns step, positive, negative).

    The first figure of 2010.02666 in form: mean raw score of positives and negatives, the margin between them shaded.
    """
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


def before_and_after(scores: dict[tuple[str, str], pd.DataFrame]) -> Figure:
    """How far apart are relevant and other documents before and after training?

    (when, architecture) -> columns score, grade.
    """
    columns = len({name for _, name in scores})
    return score_distributions({f"{name}, {when}": scores[when, name] for when, name in scores}, columns=columns)


def by_supervision(table: pd.DataFrame, columns: Sequence[str], measure: str) -> Figure:
    """How good is each architecture with each supervision? One row per pair of these: mean, low, high."""
    figure, (axes,) = panels(width=9, height=4)
    dodge = 0.14 * (table["architecture"].nunique() - 1)
    points(axes, table, "architecture", x="supervision", y="value", order=columns, dodge=dodge)
    axes.set_xticks(range(len(columns)), [column.replace(", ", ",\n") for column in columns], fontsize=8)
    title = "How good is each architecture with each kind of supervision?"
    return finish(figure, title, x="supervision", y=f"{measure} (95 % interval over queries)")


def quality_and_cost(table: pd.DataFrame, measure: str) -> Figure:
    """What does quality cost? A vertical line per architecture, from labels to distilled.

    Columns architecture, milliseconds, labels, distilled.
    """
    figure, (axes,) = panels(width=7, height=4)
    for row in table.itertuples():
        colour, marker, _ = style(row.architecture)
        axes.plot([row.milliseconds] * 2, [row.labels, row.distilled], color=colour, linewidth=2)
        axes.plot(row.milliseconds, row.labels, marker, color="white", markeredgecolor=colour, markersize=9)
        axes.plot(row.milliseconds, row.distilled, marker, color=colour, markersize=9, label=row.architecture)
    log_ticks(axes)
    title = "What does quality cost? Hollow: from labels; filled: distilled"
    return finish(figure, title, x="milliseconds to re-rank one query (log)", y=measure)
