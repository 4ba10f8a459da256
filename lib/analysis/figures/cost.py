"""Figures of what quality costs in time."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.analysis.style import finish, log_ticks, panels, references, style


def quality_and_cost(table: pd.DataFrame, measure: str, others: pd.Series) -> Figure:
    """What does quality cost? Columns architecture, milliseconds, supervision, mean, low, high; `references`."""
    figure, (axes,) = panels(width=8.5, height=4.6)
    references(axes, others)
    for row in table.itertuples():
        colour, marker, _ = style(row.architecture)
        hollow = row.supervision == "labels"
        place = row.milliseconds * (0.97 if hollow else 1.03)  # so that the two intervals are side by side
        axes.vlines(place, row.low, row.high, color=colour, linewidth=1)
        marks = {"markerfacecolor": "white"} if hollow else {"label": row.architecture}
        axes.plot(place, row.mean, marker, color=colour, markersize=8, **marks)
    log_ticks(axes)
    title = "What does quality cost? Hollow: from labels; filled: distilled"
    x, y = "milliseconds to re-rank one query (log)", f"{measure} (95 % interval over queries)"
    return finish(figure, title, x=x, y=y)


def quality_over_time(table: pd.DataFrame, measure: str, baseline: str, others: pd.Series) -> Figure:
    """What does a training cost in total? Columns training, strategy, difference, low, high, "all in, seconds".

    Differences are to the baseline, which has none; those of `others` too, which are drawn as lines. Every training has
    a marker of its own: that of its strategy, or another where a second one would have it too.
    """
    figure, (axes,) = panels(width=8.5, height=4.6)
    references(axes, others)
    looks = [style(strategy) for strategy in table["strategy"]]
    owners = {look.marker: strategy for look, strategy in zip(looks, table["strategy"], strict=True)}
    spare = iter([marker for marker in "vPX<>dp8*" if marker not in owners])
    for (_, row), (colour, own, _), again in zip(table.iterrows(), looks, table["strategy"].duplicated(), strict=True):
        place, marker = row["all in, seconds"], own if owners[own] == row["strategy"] and not again else next(spare)
        look = {"color": colour, "markersize": 8, "label": row["training"]}
        if row["training"] == baseline:
            axes.plot(place, 0, marker, **look, markerfacecolor="white")
            continue
        axes.vlines(place, row["low"], row["high"], color=colour, linewidth=1)
        axes.plot(place, row["difference"], marker, **look)
    axes.axhline(0, color="black", linewidth=1, zorder=0)
    log_ticks(axes)
    title, x = "What does each training method cost in total?", "training time with all that it needs, seconds (log)"
    return finish(figure, title, x=x, y=f"{measure} minus that of {baseline} (hollow)\n(paired, 95 % intervals)")


def where_time_goes(parts: pd.DataFrame) -> Figure:
    """Where does the time of a step go? Milliseconds per pair: one row per kind of work, one column per way."""
    figure, (axes,) = panels(width=8.5, height=4)
    shares = (100 * parts / parts.sum()).rename_axis("kind").reset_index().melt("kind", var_name="way")
    names = {way: f"{way}: {total:.1f} ms per pair" for way, total in parts.sum().items()}
    shares["way"] = shares["way"].map(names)
    grey = dict(zip(names.values(), ("white", "#444444"), strict=True))
    sns.barplot(shares, x="value", y="kind", hue="way", palette=grey, saturation=1, edgecolor="black", ax=axes)
    for bars in axes.containers:
        axes.bar_label(bars, fmt=" {:.0f}", fontsize=7)
    return finish(figure, "Where does the time of a training step go?", x="share of the step's time, percent", y="")


def ladder(table: pd.DataFrame, *, title: str) -> Figure:
    """What does each step bring? Rows from slow to fast; columns pairs_per_second, ratio, to_first."""
    figure, (axes,) = panels(width=9, height=0.36 * len(table) + 1.4)
    axes.barh(table.index, table["pairs_per_second"], color="#bbbbbb", edgecolor="black")
    for place, row in enumerate(table.itertuples()):
        text = f" {row.pairs_per_second:.0f}" + (f"  ({row.ratio:.2f}; {row.to_first:.1f} in all)" if place else "")
        axes.text(row.pairs_per_second, place, text, va="center", fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.25)
    return finish(figure, title, x="pairs per second (ratio to the step above; to the first)", y="")
