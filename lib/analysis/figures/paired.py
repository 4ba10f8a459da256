"""Figures of paired differences: rankers answer the same queries, and intervals are of what differs between them."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.analysis import significance
from lib.analysis.style import finish, log_ticks, panels, references, style


def ahead(differences: pd.Series, measure: str, first: str, second: str) -> Figure:
    """On which queries is the first ahead, on which the second? Values of the first minus the second's, by query."""
    figure, (axes,) = panels(width=9, height=3.8)
    ordered = differences.round(12).sort_values(ascending=False).to_numpy()  # a tie is one up to rounding
    row = significance.contrasts(differences.to_frame(first)).iloc[0]
    bars = {"width": 1, "edgecolor": "black", "linewidth": 0.3}
    sides = {f"{first} ahead": (ordered > 0, style(first).colour, ""), f"{second} ahead": (ordered < 0, "white", "///")}
    for label, (there, colour, hatch) in sides.items():
        label = f"{label}: {there.sum()} queries"
        axes.bar(np.flatnonzero(there), ordered[there], color=colour, hatch=hatch, label=label, **bars)
    equal = (ordered == 0).sum()
    axes.axhline(0, color="black", linewidth=1, label=f"as good: {equal} queries")
    axes.axhspan(row.low, row.high, color="#dddddd", zorder=0)
    text = f"mean {significance.size(row)}\n(band: 95 % interval)"
    axes.axhline(row.difference, color="#555555", linestyle="--", linewidth=1, label=text)
    labels = {"x": "queries, sorted by the difference", "y": f"{measure}: {first} minus {second}"}
    return finish(figure, f"On which queries is {first} ahead, and on which {second}?", **labels)


def retrieval(table: pd.DataFrame, measure: str, baseline: str) -> Figure:
    """How far is each way of searching from the baseline? Columns ranker, mean, difference, low, high, wins, losses."""
    figure, (axes,) = panels(width=8.5, height=0.42 * len(table) + 1.4)
    for height, row in enumerate(table.itertuples()):
        colour, marker, _ = style(row.ranker)
        axes.plot([row.low, row.high], [height, height], color=colour, linewidth=2)
        axes.plot(row.difference, height, marker, color=colour, markersize=8)
    names = [f"{row.ranker}  {row.mean:.3f}\n{row.wins} won, {row.losses} lost" for row in table.itertuples()]
    axes.set_yticks(range(len(table)), names, fontsize=8)
    axes.axvline(0, color="black", linewidth=1)
    axes.invert_yaxis()
    title = f"How far is each way of searching from {baseline}? Paired over queries, 95 % intervals"
    return finish(figure, title, x=f"{measure} minus that of {baseline}", y="")


def ablations(table: pd.DataFrame, measure: str) -> Figure:
    """What does each choice change? Columns question, answer, taught, difference, low, high; a panel per question.

    Without a difference an answer is the default. `taught` names the strategy that the question is about.
    """
    questions = table["question"].unique()
    figure, places = panels(questions, width=3.4, height=2.3, columns=3, sharex=True)
    for axes, question in zip(places, questions, strict=True):
        part = table[table["question"] == question].reset_index(drop=True)
        for height, row in part.iterrows():
            colour, marker, _ = style(row["taught"])
            if pd.isna(row["difference"]):
                axes.plot(0, height, marker, color=colour, markerfacecolor="white", markersize=8)
                continue
            axes.plot([row["low"], row["high"]], [height, height], color=colour, linewidth=2)
            named = {"label": row["taught"]} if row["taught"] != row["answer"] else {}  # else the row has its name
            axes.plot(row["difference"], height, marker, color=colour, markersize=7, **named)
        axes.set_yticks(range(len(part)), part["answer"])
        axes.axvline(0, color="black", linewidth=1, zorder=0)
        axes.set_ylim(len(part) - 0.5, -0.5)
        axes.tick_params(labelsize=8, labelbottom=True)
    title = "What does each choice change? Differences from the default (hollow), paired over dev queries, 95 % intervals"
    return finish(figure, title, x=f"difference in {measure}", y="")


def over_data(means: pd.DataFrame, compared: pd.DataFrame, measure: str, baseline: str, others: pd.Series) -> Figure:
    """How much data does each strategy need? Columns strategy, groups; mean or difference, low, high; `references`."""
    titles = ("mean over queries", f"difference from {baseline} with as many groups")
    figure, (left, right) = panels(titles, width=5.6, height=4.4)
    references(left, others)
    for number, (name, part) in enumerate(means.groupby("strategy", sort=False)):
        (colour, marker, dash), part = style(name), part.sort_values("groups")
        look = {"color": colour, "marker": marker, "linestyle": dash}
        left.plot(part["groups"], part["mean"], label=name, **look)
        own = compared[compared["strategy"] == name].sort_values("groups")
        place = own["groups"] * 1.03**number  # so that intervals are side by side
        right.plot(place, own["difference"], **look)
        right.vlines(place, own["low"], own["high"], color=colour, linewidth=2)
    right.axhline(0, color="black", linewidth=1)
    for axes in (left, right):
        log_ticks(axes)
        axes.set_xticks(means["groups"].unique())
    title = "How much data does each strategy need? Right: paired over queries, with 95 % intervals"
    finish(figure, title, x="training groups (log)", y=measure)
    right.set_ylabel(f"difference in {measure}")
    return figure
