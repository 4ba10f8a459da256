"""Figures of how well rankers rank."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from lib.analysis import significance
from lib.analysis.style import finish, panels, points, references, style


def differences(table: pd.DataFrame, measure: str, baseline: str, *, title: str) -> Figure:
    """Which rankers differ from the baseline, and where? Columns ranker, collection, difference, low, high."""
    table = table.rename(columns={"difference": "mean"})
    rankers, collections = table["ranker"].unique(), table["collection"].unique()
    shape = {"width": 3.4, "height": 0.26 * len(rankers) + 1, "columns": 3}
    figure, places = panels(collections, **shape, sharex=True, sharey=True)
    for axes, collection in zip(places, collections, strict=True):
        points(axes, table[table["collection"] == collection], "ranker", x="value", y="ranker", order=rankers)
        axes.axvline(0, color="black", linewidth=1)
        axes.xaxis.set_major_locator(plt.MaxNLocator(4))
    title = f"{title} (paired with {baseline}, 95 % intervals)"
    return finish(figure, title, x=f"difference in {measure}", y="")


def quality(
    values: pd.DataFrame, names: Sequence[str], measure: str, *, title: str, lines: Sequence[str] = ()
) -> Figure:
    """Which ranker ranks best, and how certain is it? Columns ranker, query, value; bars are 95 % intervals.

    A vertical line is at the mean of each ranker of `lines`.
    """
    figure, (axes,) = panels(width=7, height=0.42 * len(names) + 1.4)
    points(axes, values, "ranker", x="value", y="ranker", order=names, errorbar=significance.interval)
    means = values.groupby("ranker")["value"].mean()
    references(axes, means[list(lines)], vertical=True)
    axes.set_yticks(range(len(names)), [f"{name}  {means[name]:.3f}" for name in names])
    return finish(figure, title, x=f"{measure}: mean and 95 % interval over {values['query'].nunique()} queries", y="")


def by_supervision(table: pd.DataFrame, columns: Sequence[str], measure: str, others: pd.Series) -> Figure:
    """How good is each architecture with each supervision? One row per pair of these: mean, low, high; `references`."""
    figure, (axes,) = panels(width=9, height=4.6)
    references(axes, others)
    dodge = 0.14 * (table["architecture"].nunique() - 1)
    points(axes, table, "architecture", x="supervision", y="value", order=columns, dodge=dodge)
    axes.set_xticks(range(len(columns)), [column.replace(", ", ",\n") for column in columns], fontsize=8)
    title = "How good is each architecture with each kind of supervision?"
    return finish(figure, title, x="supervision", y=f"{measure} (95 % interval over queries)")


def by_feature(table: pd.DataFrame, measure: str, baseline: str) -> Figure:
    """For which queries does a strategy win? Columns feature, bin, ranker, mean, low, high; a panel per feature."""
    features = table["feature"].unique()
    figure, places = panels(features, width=3.3, height=3.4, columns=4, sharey=True)
    for axes, feature in zip(places, features, strict=True):
        part = table[table["feature"] == feature]
        dodge = 0.14 * (part["ranker"].nunique() - 1)
        points(axes, part, "ranker", x="bin", y="value", order=part["bin"].unique(), dodge=dodge)
        axes.axhline(0, color="black", linewidth=1)
        axes.tick_params(axis="x", labelsize=7)
    title = f"For which queries does a strategy win? (paired with {baseline}, 95 % intervals)"
    return finish(figure, title, x="queries with values from, to", y=f"difference in {measure}")


def reliability(tables: dict[str, dict[str, pd.DataFrame]]) -> Figure:
    """Are scores probabilities? Ranker -> scaling -> `lib.analysis.calibration.reliability`; a panel per ranker."""
    figure, places = panels(tables, width=2.7, height=2.8, columns=4, sharex=True, sharey=True)
    for axes, by_scaling in zip(places, tables.values(), strict=True):
        axes.axline((0, 0), slope=1, color="black", linewidth=1, linestyle=":")
        for number, (name, table) in enumerate(by_scaling.items()):
            colour, marker, dash = style(name, number)
            marks = {"marker": marker, "markersize": 4, "label": name}
            axes.plot(table["predicted"], table["observed"], color=colour, linestyle=dash, **marks)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    title = "Are scores probabilities of relevance? Ten bins of equally many pairs; dotted: as predicted"
    return finish(figure, title, x="predicted", y="observed share of relevant")


def verdicts(table: pd.DataFrame, measure: str, within: float, *, title: str) -> Figure:
    """Which claims hold? Columns claim, where, difference, low, high, verdict; the band counts as equivalent."""
    places, claims = table["where"].unique(), list(dict.fromkeys(table["claim"]))
    figure, panes = panels(places, width=5, height=0.34 * len(claims) + 1.2, sharey=True)
    marks = {"better": ("#111111", ">"), "worse": ("#111111", "<"), "equivalent": ("#111111", "o")}
    for axes, place in zip(panes, places, strict=True):
        axes.axvspan(-within, within, color="#dddddd")
        axes.axvline(0, color="black", linewidth=1)
        for row in table[table["where"] == place].itertuples():
            colour, marker = marks.get(row.verdict, ("#777777", "x"))
            height = claims.index(row.claim)
            axes.plot([row.low, row.high], [height, height], color=colour, linewidth=2)
            axes.plot(row.difference, height, marker, color=colour, markersize=7, label=row.verdict)
        axes.set_yticks(range(len(claims)), claims)
        axes.xaxis.set_major_locator(plt.MaxNLocator(4))
    panes[0].invert_yaxis()
    title = f"{title} 95 % intervals; band: equivalent within {within:g}"
    return finish(figure, title, x=f"difference in {measure}", y="")
