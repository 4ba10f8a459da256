"""What figures share: palette, panels, points with intervals, saving.

A strategy looks the same everywhere. Marker and dash together tell the strategies of a paradigm apart, so figures can
be read in grey; every colour has a contrast of 3:1 or more on white.
"""

import re
from collections import namedtuple
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from lib.machine import outputs, store
from lib.training import strategies

if TYPE_CHECKING:
    from IPython.display import Image

Dash = str | tuple[int, tuple[float, ...]]
# name -> (colour, marker, dash), beside the strategies, whose styles are in lib.training.strategies. Hues belong to
# their paradigms, so all else is grey: a line of reference has a dash of its own, an architecture a marker.
REFERENCES: dict[str, tuple[str, str, Dash]] = {
    "bm25": ("#777777", "x", ":"), "minilm": ("#5c5c5c", "h", (0, (3, 1, 1, 1))), "bge-small": ("#4d4d4d", "8", "--"),
    "colbert-small": ("#737373", "<", "-."), "msmarco-minilm-l12": ("#2b2b2b", ">", (0, (12, 2))),
    "untrained": ("#6b6b6b", "d", (0, (5, 5))), "start": ("#444444", "p", (0, (8, 2, 2, 2, 2, 2))),
    "teacher": ("#111111", "*", "-"), "best": ("#8a8a8a", "+", (0, (1, 3))),
}  # fmt: skip
ARCHITECTURES: dict[str, tuple[str, str, Dash]] = {
    "cat": ("#111111", "o", "-"), "prettr": ("#6f6f6f", "s", "--"), "colbert": ("#2f2f2f", "^", "-."),
    "dot": ("#858585", "D", ":"), "dense": ("#858585", "D", ":"), "tk": ("#4a4a4a", "v", (0, (6, 1, 1, 1, 1, 1))),
}  # fmt: skip
PALETTE = {**REFERENCES, **ARCHITECTURES, **{name: one.style for name, one in strategies.STRATEGIES.items()}}
# for what has no entry above, such as variants of one run
PLAIN = (("#111111", "o", "-"), ("#6f6f6f", "s", "--"), ("#2f2f2f", "^", "-."), ("#858585", "D", ":"),
         ("#4a4a4a", "v", (0, (6, 1, 1, 1, 1, 1))), ("#262626", "P", (0, (3, 1, 1, 1))))  # fmt: skip
Style = namedtuple("Style", ("colour", "marker", "dash"))


def style(name: str, number: int = 0) -> Style:
    """The style of a strategy, ranker or architecture by the first word of its name, or else by its number."""
    first = re.split(r"[(\[, ]", name)[0].lower()
    return Style(*PALETTE.get(first, PLAIN[number % len(PLAIN)]))


def folder(profile: str, **parameters: object) -> Path:
    """Where a profile's figures go; the README shows copies of them, made by `make figures`."""
    return store.data_folder() / "figures" / outputs.variant_folder(profile, **parameters)


def save(figure: Figure, name: str, profile: str, **parameters: object) -> "Image":
    """Write `<name>.png` and return it for a notebook to show, with `described` as its alternative text.

    `parameters` are those of the notebook that the figure depends on.
    """
    from IPython.display import Image

    path = folder(profile, **parameters) / f"{name}.png"
    store.replace_file(path, partial(figure.savefig, dpi=110, bbox_inches="tight", metadata={"Software": None}))
    plt.close(figure)  # or the notebook would show it a second time
    return Image(filename=path, alt=described(figure))


def described(figure: Figure) -> str:
    """What a figure shows, in words: its title, panels, axes, named rows and legend."""
    first, titles = figure.axes[0], [axes.get_title() for axes in figure.axes]
    legend = [text.get_text() for one in figure.legends for text in one.get_texts()]
    rows = [] if first.get_ylabel() else [label.get_text() for label in first.get_yticklabels()]
    parts = {"panels": titles, "horizontal": [first.get_xlabel()], "vertical": [first.get_ylabel()],
             "rows": rows, "legend": legend}  # fmt: skip
    said = {part: "; ".join(filter(None, words)).replace("\n", " ") for part, words in parts.items()}
    return " ".join(
        [figure.get_suptitle(), *(f"{part.capitalize()}: {words}." for part, words in said.items() if words)]
    )


def save_text(text: str, name: str, profile: str, **parameters: object) -> None:
    """Write `<name>.md` beside the figures, and print it; the README holds copies, made by `make figures`."""
    print(text)
    store.replace_file(folder(profile, **parameters) / f"{name}.md", lambda path: path.write_text(text + "\n"))


def save_table(table: pd.DataFrame, name: str, profile: str, **parameters: object) -> pd.DataFrame:
    """Write a table as `<name>.csv`, `.tex` (with booktabs' rules) and `.md` beside the figures; returns it rounded."""
    table = table.astype(dict.fromkeys(table.select_dtypes("float32"), float)).round(3)  # 0.1 of float32 is no 0.1
    place, texts = folder(profile, **parameters), _texts(table)
    latex = texts.to_latex(index=False, escape=True, column_format="l" + "r" * (texts.shape[1] - 1))
    store.replace_file(place / f"{name}.csv", table.to_csv)
    store.replace_file(place / f"{name}.tex", lambda path: path.write_text(latex))
    store.replace_file(place / f"{name}.md", lambda path: path.write_text(markdown(table)))
    return table


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, its index first; missing values are empty."""
    texts = _texts(table)
    lines = [texts.columns.map(str), ["---"] * texts.shape[1], *texts.to_numpy()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _texts(table: pd.DataFrame) -> pd.DataFrame:
    return table.astype(object).where(table.notna(), "").reset_index().astype(str)


def panels(
    titles: Iterable[str] = ("",), *, width: float, height: float, columns: int = 5, **shared: bool | str
) -> tuple[Figure, list[plt.Axes]]:
    """A figure of one panel per title, at most `columns` in a row; width and height in inches per panel."""
    titles = list(titles)
    columns = min(columns, len(titles))
    rows = -(-len(titles) // columns)  # rounded up
    shared |= {"figsize": (width * columns, height * rows), "squeeze": False, "layout": "constrained"}
    with plt.rc_context({"axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False}):
        figure, places = plt.subplots(rows, columns, **shared)
    for unused in places.flat[len(titles) :]:
        unused.remove()
    for axes, title in zip(figure.axes, titles, strict=True):
        axes.set_title(title)
    return figure, figure.axes


def finish(figure: Figure, title: str, *, x: str, y: str) -> Figure:
    """Add the title, the labels of the axes, and one legend to the right of all panels."""
    handles = {}
    for axes in figure.axes:
        axes.set_xlabel(x, visible=True)
        axes.set_ylabel(y if axes.get_subplotspec().is_first_col() else "")
        if x == "step":
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if axes.get_legend():  # seaborn's
            axes.get_legend().remove()
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize=8)
    figure.suptitle(title)
    return figure


def line(axes: plt.Axes, values: pd.Series, name: str, number: int) -> None:
    """Values over their index, with a few markers, whose places depend on the number so that they do not overlap."""
    colour, marker, dash = style(name, number)
    every = max(1, len(values) // 8)
    marks = {"marker": marker, "markersize": 5, "markevery": (number * 7 % every, every)}
    axes.plot(values, color=colour, linestyle=dash, label=name, **marks)


def moved(
    axes: plt.Axes, place: object, before: object, after: object, colour: str, *, marker: str = "o", size: int = 5,
    label: str | None = None,
) -> None:  # fmt: skip
    """A line from a hollow point to a filled one at each place."""
    axes.vlines(place, before, after, color=colour, linewidth=2)
    axes.plot(place, before, marker, color="white", markeredgecolor=colour, markersize=size)
    axes.plot(place, after, marker, color=colour, markersize=size, label=label)


def points(axes: plt.Axes, table: pd.DataFrame, names: str, **more: object) -> None:
    """Means with intervals, in the styles of the names in a column (`seaborn.pointplot`)."""
    if "low" in table:  # seaborn takes samples: these three, from the lowest to the highest
        table = table.melt(table.columns.drop(["low", "mean", "high"]), ["low", "mean", "high"])
        more |= {"estimator": "median", "errorbar": ("pi", 100)}
    styles = {name: style(name) for name in table[names].unique()}
    colours, markers, _ = map(list, zip(*styles.values(), strict=True))
    sns.pointplot(
        table, hue=names, hue_order=styles, palette=colours, markers=markers, linestyle="none",
        err_kws={"linewidth": 2}, ax=axes, **more,
    )  # fmt: skip


def references(axes: plt.Axes, means: pd.Series, *, vertical: bool = False) -> None:
    """A line for each ranker that was not trained here, and for the ideal ranking, with its mean in the legend."""
    for name, value in means.items():
        colour, _, dash = style(str(name))
        draw = axes.axvline if vertical else axes.axhline
        draw(value, color=colour, linestyle=dash, linewidth=1, zorder=0, label=f"{name} ({value:.3f})")


def log_ticks(axes: plt.Axes) -> None:
    """A logarithmic x axis with ticks at 1, 2 and 5, written as numbers."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
