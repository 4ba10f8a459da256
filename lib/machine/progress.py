"""One line per step of work, with an estimate of the time left, kept out of the executed notebook.

In a terminal lines go to standard error. In a notebook one output is updated in place and removed at the end. The
batch command names a file in STUDY_PROGRESS and prints the lines written to it.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator

from lib.machine import processes

_display = None  # the notebook output in use; it exists only while work is shown


def say(line: str) -> None:
    """Show one line of progress now; of the processes of one launch only the main one does."""
    global _display
    if not processes.is_main():
        return
    if path := os.environ.get("STUDY_PROGRESS"):
        with contextlib.suppress(OSError):  # nobody reads it any more, or it is a pipe of another machine
            to = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)
            with open(to, "w", encoding="utf-8") as file:
                file.write(line + "\n")
    elif not _in_notebook():
        print(line, file=sys.stderr, flush=True)
    elif _display is None:
        from IPython.display import display

        _display = display({"text/plain": line}, raw=True, display_id=True)
    else:
        _display.update({"text/plain": line}, raw=True)


def alone() -> bool:
    """Whether somebody runs a notebook's cells: no batch command, which forecasts a whole study, waits for them."""
    return processes.is_main() and _in_notebook() and "STUDY_PROGRESS" not in os.environ


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


def clear() -> None:
    """Remove the notebook's progress output; nothing happens elsewhere."""
    global _display
    if _display is not None:
        _display.update({"text/plain": ""}, raw=True)
        _display = None


def steps(items: Iterable, what: str, total: int) -> Iterator:
    """Yield `items`; every ten seconds a line says how many are done and how much time is left."""
    start = last = time.perf_counter()
    for done, item in enumerate(items):
        now = time.perf_counter()
        if done and now - last >= 10:
            last = now
            say(f"  {what}: {done} of {total}, about {duration((now - start) / done * (total - done))} left")
        yield item


def duration(seconds: float) -> str:
    """'45 s', '3 min 20 s', '2 h 5 min'."""
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    return f"{minutes // 60} h {minutes % 60} min"
