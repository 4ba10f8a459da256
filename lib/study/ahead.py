"""What a notebook trains and scores, done before it by several processes that share the processor's threads.

Models as small as a laptop's leave threads waiting for each other: on two cores with AMX two processes of one thread
trained 1.37 times as much as one of two threads, and scored 1.19 times as much.
"""

import contextlib
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path

import torch
from tqdm import tqdm

from lib.machine import hardware, progress
from lib.study import engines, grids, notebooks, plan, tables
from lib.study.experiment import Run, TestSet, lineage

MOST = 4  # processes: each has a model and the texts of its own in memory

Task = tuple[Run, tuple[TestSet, ...]]  # a run to train, or one to score with these test sets


def processes() -> int:
    """How many to use: one for each thread that torch has, at most `MOST`; one beside an accelerator."""
    return min(torch.get_num_threads(), MOST) if hardware.device().type == "cpu" else 1


@dataclass(frozen=True)
class Pool:
    """Processes that wait for tasks."""

    executor: Executor
    count: int


@contextlib.contextmanager
def pool(count: int) -> Iterator[Pool]:
    """So many processes, which end with the block, whatever ends it, and with this process."""
    context, threads = get_context("spawn"), max(1, torch.get_num_threads() // count)
    before = set(active_children())
    executor = ProcessPoolExecutor(count, context, initializer=_begin, initargs=(threads, os.getpid()))
    try:
        yield Pool(executor, count)
    except BaseException:
        for process in set(active_children()) - before:
            process.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _begin(threads: int, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the command ends its processes
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(threads)
    tqdm.set_lock(threading.RLock())  # its own is for several processes, and stays when this one is ended
    os.environ["STUDY_PROGRESS"] = os.devnull
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def complete(notebook: Path, parameters: dict[str, object], pool: Pool) -> None:
    """Train and score what a notebook needs and the store lacks; what fails is said, and left to the notebook."""
    left, running, start = _tasks(notebook, parameters, pool.count), {}, time.perf_counter()
    total, done, finished, count = sum(map(_work, left)), 0.0, 0, len(left)
    try:
        while left or running:
            untrained = {run for run, tests in (*left, *running.values()) if not tests}
            for task in [task for task in left if untrained.isdisjoint(_before(task))][: pool.count - len(running)]:
                running[pool.executor.submit(_do, *task)] = task
                left.remove(task)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task = running.pop(future)
                if error := future.result():
                    print(f"  {task[0].about}: {error}; the notebook tries again", file=sys.stderr, flush=True)
                    left = [other for other in left if task[0] not in _before(other)]
                done, finished = done + _work(task), finished + 1
                rest = progress.duration((time.perf_counter() - start) / done * (total - done))
                print(f"  {finished} of {count}: {_name(task)}, about {rest} left", flush=True)
    except BrokenProcessPool:
        print("  a process died, most likely since memory ran out: the notebook goes on alone", file=sys.stderr)


def _tasks(notebook: Path, parameters: dict[str, object], at_once: int) -> list[Task]:
    """What is missing, trainings first, in an order in which it can be done.

    Nothing where the notebook will fail, or has a loss of its own, which no other process has: a table should compare
    what was computed with equally many threads.
    """
    if not any("lib.study" in cell.source for cell in notebooks.read(notebook).cells):
        return []
    try:
        grid = grids.of_notebook(notebook, parameters)
        return _missing(grid, at_once) if all(map(_can_be_sent, grid.runs)) else []
    except Exception:  # of a collection or a model that cannot be read, for one: in the notebook it has its cell
        return []


def _missing(grid: grids.Grid, at_once: int) -> list[Task]:
    tests: dict[Run, list[TestSet]] = {run: [] for run in grid.runs}
    for run, test in grid.scorings:
        if not plan.is_stored(run, test):
            tests.setdefault(run, []).append(test)
    training = [(run, ()) for run in grid.runs if run.stored is run and not plan.is_stored(run)]
    scoring = [(run, tuple(wanted)) for run, wanted in tests.items() if wanted]  # each opens its model once
    if len(scoring) < at_once:
        scoring = [(run, (test,)) for run, wanted in scoring for test in wanted]
    return training + sorted(scoring, key=_work, reverse=True)  # at the end a long one would be alone


def _can_be_sent(run: Run) -> bool:
    """Whether another process can have a run: not one whose loss is written in the notebook."""
    try:
        pickle.dumps(run)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return True


def _before(task: Task) -> list[Run]:
    """What has to be trained before a task."""
    run, tests = task
    return lineage(run) if tests else lineage(run)[:-1]


def _work(task: Task) -> float:
    """In pairs times layers of training; scoring takes a third."""
    run, tests = task
    if not tests:
        return run.work
    return sum(tables.pairs(test) for test in tests) * run.model.layer_count / 3


def _name(task: Task) -> str:
    run, tests = task
    sets = ", ".join(dict.fromkeys(test.collection for test in tests))
    return f"{run.about} scored on {sets}" if tests else f"{run.about} trained"


def _do(run: Run, tests: tuple[TestSet, ...]) -> str:
    """One task, in a process of the pool; what went wrong, as one line."""
    ((_, outcome),) = engines.each("here", tables.complete, [([run], tests)])
    return outcome.error
