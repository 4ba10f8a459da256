"""Where two rankers differ: the ranks of the relevant documents under both, as a figure."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lib.analysis import measures
from lib.analysis.style import finish, panels

MOVES = {"up": ("#111111", "-"), "down": ("#5c5c5c", "--"), "stay": ("#8a8a8a", ":")}  # hues belong to strategies


def moves(left: pd.DataFrame, right: pd.DataFrame, relevant_grade: int = 1) -> pd.DataFrame:
    """The relevant documents with their ranks under two rankers: columns query, document, left, right, move.

    Each table has columns query, document, grade, score; `relevant_grade` is that of the collection, where it is not 1.
    """
    pairs = ["query", "document"]
    ranked = measures.rank(left).merge(measures.rank(right)[[*pairs, "rank"]], on=pairs, suffixes=("_left", "_right"))
    relevant = ranked[ranked["grade"] >= relevant_grade].rename(columns={"rank_left": "left", "rank_right": "right"})
    move = (relevant["right"] - relevant["left"]).map(lambda by: "up" if by < 0 else "down" if by > 0 else "stay")
    return relevant[[*pairs, "left", "right"]].assign(move=move).reset_index(drop=True)


def figure(tables: Mapping[tuple[str, str], pd.DataFrame]) -> Figure:
    """Where do two rankers put the relevant documents? (left, right) -> `moves` of these rankers."""
    titles = [
        "\n".join([f"{left} to {right}", ", ".join(f"{count} {move}" for move, count in _counts(table).items())])
        for (left, right), table in tables.items()
    ]
    drawn, places = panels(titles, width=3.2, height=4.2, sharey=True)
    for axes, (names, table) in zip(places, tables.items(), strict=True):
        for (before, after, move), part in table.groupby(["left", "right", "move"]):
            colour, dash = MOVES[move]
            axes.plot([0, 1], [before, after], color=colour, linestyle=dash, linewidth=len(part) ** 0.5, label=move)
        axes.set_xticks([0, 1], names)
        axes.set_xlim(-0.3, 1.3)
    places[0].invert_yaxis()  # shared, as are the ticks: ranks are whole numbers, and most of these end at the first
    lowest = max(table[["left", "right"]].to_numpy().max(initial=1) for table in tables.values())
    ticks = MaxNLocator(8, integer=True).tick_values(1, lowest)
    places[0].set_yticks([1, *ticks[(ticks > 1) & (ticks <= lowest)]])
    title = "Where do two rankers put the relevant documents?"
    return finish(drawn, title, x="ranker", y="rank of a relevant document")


def _counts(table: pd.DataFrame) -> dict[str, int]:
    counts = table["move"].value_counts()
    return {move: int(counts.get(move, 0)) for move in MOVES}
