"""One tuning rule for every arm of a comparison: the same values for each, judged on dev queries alone.

The value with the highest mean is chosen. If it is the first or the last of the values, the best one may lie beyond
them, so nothing is chosen: the grid has to be extended.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from lib.analysis import measures, significance
from lib.study import tables
from lib.study.experiment import Experiment, TestSet, vary


class GridEdge(ValueError):
    """The best value is at the edge of the grid."""


def tuned(
    arms: Mapping[str, Experiment], field: str, values: Sequence[float], dev: TestSet, measure: str = "RR@10"
) -> pd.DataFrame:
    """Train every arm with every value of a field: one row per arm and value, with mean, low and high on `dev`.

    low and high are a 95 % interval over queries. What is missing is trained. Raises ValueError if `dev` is a test
    split, or there are fewer than three different values, which have no inside, or they do not rise.
    """
    if dev.split == "test":
        raise ValueError("split='test': choices are made on dev queries; give TestSet(split='dev')")
    if len(values) < 3 or list(values) != sorted(set(values)):
        raise ValueError(f"values={list(values)}: give three or more, rising, so that the best can be inside")
    grid = {(arm, value): vary(run, **{field: value}) for arm, run in arms.items() for value in values}
    measures.check(measure)
    tables.complete(grid.values(), [dev])
    rows = []
    for (arm, value), run in grid.items():
        by_query = tables.values(run, dev, measure)
        low, high = significance.interval(by_query.to_numpy())
        rows.append({"arm": arm, field: value, "mean": by_query.mean(), "low": low, "high": high})
    return pd.DataFrame(rows)


def chosen(table: pd.DataFrame, arm: str) -> float:
    """The best value of an arm of a table of `tuned`; of equal ones the lowest.

    Raises ValueError if there is no such arm, and GridEdge at the grid's edge.
    """
    field, part = table.columns[1], table[table["arm"] == arm].reset_index(drop=True)
    if part.empty:
        raise ValueError(f"{arm=}: give one of {', '.join(table['arm'].unique())}")
    best = part["mean"].idxmax()
    if best in (0, len(part) - 1):
        where = "lower" if best == 0 else "higher"
        raise GridEdge(f"{arm}: the best {field} is {part[field][best]:g}, at the edge of the grid: add {where} values")
    return part[field][best]
