"""Where results come from: commit, machine and versions; and whether a table mixes several."""

import subprocess
import warnings
from pathlib import Path

import pandas as pd

from lib.machine import hardware

# Runs that differ in one of these are comparable up to rounding at best, so a table of them says so.
COMPARED = ("device", "features", "precision", "threads", "python", *hardware.PACKAGES)


def conditions() -> dict[str, str]:
    """The project's commit, and the device and versions that this process computes with."""
    return {"commit": commit(), **hardware.description()}


def commit() -> str:
    """The project's git commit, with "+changes" where lib/ differs from it; "unknown" outside git or without it."""
    root = Path(__file__).parents[2]

    def git(*arguments: str) -> list[str]:
        said = subprocess.check_output(["git", *arguments], cwd=root, stderr=subprocess.DEVNULL, text=True)
        return said.splitlines()

    try:
        repository, known = git("rev-parse", "--show-toplevel", "--short=12", "HEAD")
        if not root.samefile(repository):
            return "unknown"
        return known + ("+changes" if git("diff", "--name-only", "HEAD", "--", "lib") else "")
    except (OSError, subprocess.CalledProcessError):  # git is missing, cannot be started, or knows no commit here
        return "unknown"


def mixed(table: pd.DataFrame) -> dict[str, dict[str, list[str]]]:
    """Condition -> value -> rankers whose runs have it; of a results table, the conditions that differ within it."""
    rows = _differing(table)
    return {name: part.groupby("text")["ranker"].unique().map(sorted).to_dict()
            for name, part in rows.groupby("measure")}  # fmt: skip


def warn_if_mixed(table: pd.DataFrame) -> None:
    """Warn which conditions are not the same for all rows of a results table; one without conditions says nothing."""
    rows = _differing(table)
    if len(rows):
        values = rows.groupby("measure")["text"].unique().map(sorted).map(" | ".join)
        differing = "; ".join(f"{name}: {values[name]}" for name in COMPARED if name in values)
        advice = "Compare them with care, or compute all in one data folder on one machine."
        warnings.warn(f"these results were computed under different conditions ({differing}). {advice}", stacklevel=3)


def _differing(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of those conditions that have more than one value in a table."""
    if "text" not in table:
        return table.head(0)
    rows = table[table["measure"].isin(COMPARED)]
    return rows[rows.groupby("measure")["text"].transform("nunique") > 1]
