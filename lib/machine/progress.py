"""One line a step of work, with an estimate of what is left, kept out of the executed notebook.

In a terminal lines go to standard error. In a notebook one output is updated in place and removed at the end, so
the executed notebook does not grow. The batch command names a file in STUDY_PROGRESS and prints its lines.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator

from lib.machine import processes

_display = None  # the notebook output in use; it exists only while work is shown


def say(line: str) -> None:
    """Show one line of progress now; of the processes of one launch the main one speaks."""
    if not processes.is_main():
        return
    if path := os.environ.get("STUDY_PROGRESS"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    elif _in_notebook():
        _update(line)
    else:
        print(line, file=sys.stderr, flush=True)


def clear() -> None:
    """Remove the notebook's progress output; nothing happens elsewhere."""
    global _display
    if _display is not None:
        _display.update({"text/plain": ""}, raw=True)
        _display = None


def steps(items: Iterable, what: str, total: int, *, every_seconds: float = 10.0) -> Iterator:
    """Yield `items`; at most one line each `every_seconds` says how far the work is and what is left."""
    start = last = time.perf_counter()
    for done, item in enumerate(items):
        now = time.perf_counter()
        if done and now - last >= every_seconds:
            last = now
            left = (now - start) / done * (total - done)
            say(f"  {what}: {done} of {total}, about {duration(left)} left")
        yield item


def duration(seconds: float) -> str:
    """'45 s', '3 min 20 s', '2 h 5 min'."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


def _update(line: str) -> None:
    global _display
    from IPython.display import display

    if _display is None:
        _display = display({"text/plain": line}, raw=True, display_id=True)
    else:
        _display.update({"text/plain": line}, raw=True)
