"""Figures of notebooks 03 to 06 and 09: how rankers learn, how well they rank, how sure that is."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.analysis import significance
from lib.analysis.figures.style import finish, line, panels, points, style


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


def quality(values: pd.DataFrame, names: Sequence[str], measure: str, *, title: str) -> Figure:
    """Which ranker ranks best, and how certain is it? Columns ranker, query, value; bars are 95 % intervals."""
    figure, (axes,) = panels(width=7, height=0.42 * len(names) + 1.4)
    points(axes, values, "ranker", x="value", y="ranker", order=names, errorbar=significance.interval)
    means = values.groupby("ranker")["value"].mean()
    axes.set_yticks(range(len(names)), [f"{name}  {means[name]:.3f}" for name in names])
    return finish(figure, title, x=f"{measure}: mean and 95 % interval over {values['query'].nunique()} queries", y="")


def retrieval(by_query: pd.DataFrame, measure: str) -> Figure:
    """How well does each way of searching rank? One column per way, one row per query."""
    values = by_query.rename_axis("query").reset_index().melt("query", var_name="ranker")
    return quality(values, list(by_query), measure, title="How well does each way of searching the collection rank?")


def differences(table: pd.DataFrame, measure: str, baseline: str, *, title: str) -> Figure:
    """Which rankers differ from the baseline, and where? Columns ranker, collection, difference, low, high."""
    table = table.rename(columns={"difference": "mean"})
    rankers, collections = table["ranker"].unique(), table["collection"].unique()
    figure, places = panels(collections, width=2.6, height=0.3 * len(rankers) + 1.2, sharex=True, sharey=True)
    for axes, collection in zip(places, collections, strict=True):
        points(axes, table[table["collection"] == collection], "ranker", x="value", y="ranker", order=rankers)
        axes.axvline(0, color="black", linewidth=1)
        axes.xaxis.set_major_locator(plt.MaxNLocator(4))
    title = f"{title} (paired with {baseline}, 95 % intervals over queries)"
    return finish(figure, title, x=f"difference in {measure}", y="")


def in_and_out_of_domain(means: pd.DataFrame, measure: str) -> Figure:
    """Do in-domain gains carry over to other domains? Columns ranker, in_domain, out_of_domain."""
    figure, (axes,) = panels(width=6.6, height=4.4)
    for row in means.itertuples():
        colour, marker, _ = style(row.ranker)
        axes.plot(row.in_domain, row.out_of_domain, marker, color=colour, markersize=10, label=row.ranker)
    labels = {"x": f"in-domain {measure}", "y": f"out-of-domain {measure} (mean of the sets)"}
    return finish(figure, "Do in-domain gains carry over to other domains?", **labels)


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
