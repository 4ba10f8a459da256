"""Where numbers come from: the project's commit, the machine and the versions; and whether a table mixes several."""

import subprocess
import warnings
from pathlib import Path

import pandas as pd

from lib.machine import hardware

# Runs that differ in one of these are comparable up to rounding at best, so a table of them says so.
COMPARED = ("device", "features", "precision", "threads", "python", "torch", "transformers", "accelerate", "bm25s")


class MixedConditions(UserWarning):
    """A results table has rows that were computed under different conditions."""


def conditions() -> dict[str, str]:
    """On what and with which versions this process computes, and the project's commit."""
    return {"commit": commit(), **hardware.description()}


def commit() -> str:
    """The project's git commit, with "+changes" where lib/ differs from it; "unknown" outside git or without it."""
    root = Path(__file__).parents[2]

    def git(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)

    try:
        top, head = git("rev-parse", "--show-toplevel"), git("rev-parse", "--short=12", "HEAD")
        if top.returncode or head.returncode or not root.samefile(top.stdout.strip()):
            return "unknown"
        return head.stdout.strip() + ("+changes" if git("diff", "--quiet", "HEAD", "--", "lib").returncode else "")
    except OSError:  # no git on the path, or one that cannot be started
        return "unknown"


def mixed(table: pd.DataFrame) -> dict[str, list[str]]:
    """Condition -> its values, for the conditions that are not the same for all rows of a results table."""
    found = {name: sorted(set(table.loc[table["measure"] == name, "text"])) for name in COMPARED}
    return {name: values for name, values in found.items() if len(values) > 1}


def warn_if_mixed(table: pd.DataFrame) -> None:
    """Say which conditions differ within a results table."""
    if differing := mixed(table):
        which = "; ".join(f"{name}: {' | '.join(values)}" for name, values in differing.items())
        warnings.warn(
            f"these results were computed under different conditions ({which}). Compare them with care, or compute "
            "all of them in one data folder on one machine.",
            MixedConditions,
            stacklevel=3,
        )
