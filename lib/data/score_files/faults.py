"""What can be wrong: with a file, which raises, and with a line, which raises or is counted."""

from collections.abc import Callable
from typing import Any


class ScoreFileError(ValueError):
    """A score file is missing, malformed or contradicts itself; the message names file, line, fault and mend.

    Attributes:
        line: 1-based line, or row of a parquet file; None where the fault is the whole file's.
        kind: which fault, as counted in `Report.skipped`; None where the fault is the whole file's.
    """

    def __init__(self, message: str, line: int | None = None, kind: str | None = None):
        super().__init__(message)
        self.line, self.kind = line, kind


class Fault(Exception):
    """What is wrong with one line."""

    def __init__(self, kind: str, what: str, mend: str):
        super().__init__(what)
        self.kind, self.what, self.mend = kind, what, mend


def fault_of(check: Callable, *given: Any) -> Fault | None:
    """What `check` finds wrong with what is given, if anything."""
    try:
        check(*given)
    except Fault as fault:
        return fault
    return None
