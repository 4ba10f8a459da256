"""Figures of notebooks 08 and 10: margins of the model's own, what they need and what they cost."""

import pandas as pd
from matplotlib.figure import Figure

from lib.analysis.figures.style import finish, log_ticks, panels, points, style
from lib.training import strategies


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


def over_data(table: pd.DataFrame, measure: str, start: float) -> Figure:
    """How much data does each strategy need? Columns strategy, groups, mean, low, high; `start` is without any."""
    figure, (axes,) = panels(width=7.5, height=4)
    axes.axhline(start, color="black", linewidth=1, linestyle=":", label="before training")
    for number, (name, part) in enumerate(table.groupby("strategy", sort=False)):
        colour, marker, dash = style(name)
        part = part.sort_values("groups")
        place = part["groups"] * 1.03**number  # so that intervals are side by side
        axes.plot(place, part["mean"], color=colour, marker=marker, linestyle=dash, label=name)
        axes.vlines(place, part["low"], part["high"], color=colour, linewidth=1)
    log_ticks(axes)
    axes.set_xticks(table["groups"].unique())
    labels = {"x": "training groups (log)", "y": f"{measure} (95 % interval over queries)"}
    return finish(figure, "How much data does each strategy need?", **labels)


def ablations(table: pd.DataFrame, measure: str) -> Figure:
    """What does each choice change? Columns question, answer, mean, low, high; one panel per question."""
    questions = table["question"].unique()
    figure, places = panels(questions, width=3.6, height=2.6, columns=4, sharex=True)
    for axes, question in zip(places, questions, strict=True):
        points(axes, table[table["question"] == question], "answer", x="value", y="answer")
        axes.tick_params(labelsize=8, labelbottom=True)
    return finish(figure, "What does each choice change? Mean and 95 % interval over dev queries", x=measure, y="")


def quality_over_time(table: pd.DataFrame, measure: str) -> Figure:
    """What does each training method cost in total? Columns training, mean, low, high, "all in, seconds"."""
    figure, (axes,) = panels(width=8.5, height=4.2)
    paradigms = {"labels": "in_batch", "own margins": "adaptive_margin", "teacher": "margin_mse"}
    for number, (_, row) in enumerate(table.iterrows()):
        colour, place = style(paradigms[row["training"].split(",")[0]]).colour, row["all in, seconds"]
        axes.vlines(place, row["low"], row["high"], color=colour, linewidth=1)
        axes.plot(place, row["mean"], "osD^vPX<"[number % 8], color=colour, markersize=8, label=row["training"])
    log_ticks(axes)
    labels = {
        "x": "training time with all that it needs, seconds (log)",
        "y": f"{measure} (95 % interval over queries)",
    }
    return finish(figure, "What does each training method cost in total?", **labels)
