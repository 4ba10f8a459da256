"""Where the tasks of a batch run: one after another here, as tasks of a Ray cluster, or as a job array by submitit.

A task is a tuple of arguments for one function; tasks know nothing of each other. What they make lies in the data
folder, whose locks keep two workers from making one thing twice, so machines need a file system that they share, with
locks, on which STUDY_DATA and this project have one path.
"""

import importlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from unittest import mock

from lib.machine import store

NAMES = ("here", "ray", "submitit")


@dataclass(frozen=True)
class Resources:
    """What one task may use, and how often it is done again after a failure."""

    cpus: int = 1
    gpus: int = 0
    retries: int = 0  # by the same worker; on Ray a task whose worker died goes to another one
    submitit: dict[str, object] = field(default_factory=dict)  # of AutoExecutor.update_parameters: slurm_partition, ...


@dataclass(frozen=True)
class Outcome:
    """How a task ended."""

    seconds: float
    error: str = ""  # one line; "": it did its work


def each(
    engine: str, work: Callable, tasks: list[tuple], resources: Resources | None = None
) -> Iterator[tuple[tuple, Outcome]]:
    """Do `work(*task)` for every task; yield (task, outcome) as they end. A task that fails stops no other.

    `work` is a function of an importable module. Leaving the loop early stops what still runs. Raises ValueError for an
    unknown engine and ModuleNotFoundError, with the command that installs it, where its package is missing.
    """
    if engine not in NAMES:
        raise ValueError(f"engine={engine!r}: give one of {', '.join(NAMES)}")
    run = {"here": _here, "ray": _on_ray, "submitit": _on_submitit}[engine]
    return run(work, tasks, resources or Resources())


def package(engine: str) -> ModuleType | None:
    """The package of an engine; raises ModuleNotFoundError, with the command that installs it."""
    try:
        return None if engine == "here" else importlib.import_module(engine)
    except ModuleNotFoundError as error:
        fix = "install it with `pip install --constraint constraints.txt --editable '.[cluster]'`"
        raise ModuleNotFoundError(f"engine {engine}: {error}; {fix}") from error


def _timed(work: Callable, task: tuple, retries: int, environment: dict[str, str]) -> Outcome:
    """Runs in the worker; whatever `work` raises becomes text, since not every exception can be sent."""
    os.environ.update(environment)
    start, error = time.perf_counter(), ""
    for _ in range(retries + 1):
        try:
            work(*task)
            return Outcome(time.perf_counter() - start)
        except Exception as raised:
            own = type(raised).__module__.startswith("lib.")  # its message says everything
            error = " ".join((str(raised) if own else f"{type(raised).__name__}: {raised}").split())
    return Outcome(time.perf_counter() - start, error)


def _environment(resources: Resources) -> dict[str, str]:
    """The caller's data folder and this `lib`, whatever the worker's folder; a thread per processor."""
    paths = [str(Path(__file__).parents[2]), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    own = {name: value for name, value in os.environ.items() if name.startswith("STUDY_")}
    return own | {"STUDY_DATA": str(store.data_folder()), "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
                  "OMP_NUM_THREADS": str(resources.cpus)}  # fmt: skip


def _here(work: Callable, tasks: list[tuple], resources: Resources) -> Iterator[tuple[tuple, Outcome]]:
    for task in tasks:
        yield task, _timed(work, task, resources.retries, {})


def _on_ray(work: Callable, tasks: list[tuple], resources: Resources) -> Iterator[tuple[tuple, Outcome]]:
    """On the cluster that RAY_ADDRESS names, else on one that is started on this machine and stopped at the end."""
    ray, environment = package("ray"), _environment(resources)
    ray.init(include_dashboard=False, logging_level="ERROR", runtime_env={"env_vars": environment})
    try:
        there = ray.cluster_resources()
        for name, wanted in (("CPU", resources.cpus), ("GPU", resources.gpus)):
            if "RAY_ADDRESS" not in os.environ and there.get(name, 0) < wanted:  # a real cluster may grow
                fix = "give fewer, or RAY_ADDRESS for a cluster"
                raise ValueError(
                    f"a task asks for {wanted} {name}s, and this machine has {there.get(name, 0):g}; {fix}"
                )
        # A worker serves one task: the environment of the next one is its own, and memory is given back.
        asked = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "max_retries": resources.retries}
        remote = ray.remote(max_calls=1, **asked)(_timed)
        waiting = {remote.remote(work, task, resources.retries, environment): task for task in tasks}
        while waiting:
            (done,), _ = ray.wait(list(waiting))
            try:
                outcome = ray.get(done)
            except ray.exceptions.RayError as error:  # the worker died, out of memory for one
                outcome = Outcome(float("nan"), " ".join(str(error).split()))
            yield waiting.pop(done), outcome
    finally:
        ray.shutdown()


def _on_submitit(work: Callable, tasks: list[tuple], resources: Resources) -> Iterator[tuple[tuple, Outcome]]:
    """A job array of Slurm where it is installed, else processes of this machine, all of them at once."""
    submitit, environment = package("submitit"), _environment(resources)
    executor = submitit.AutoExecutor(folder=store.data_folder() / "jobs" / "%j")
    executor.update_parameters(name="study", cpus_per_task=resources.cpus, gpus_per_node=resources.gpus,
                               **{"timeout_min": 24 * 60, **resources.submitit})  # fmt: skip
    # Jobs inherit the environment of the submission: another copy of `lib` may be the installed one.
    with mock.patch.dict(os.environ, environment), executor.batch():
        jobs = [executor.submit(_timed, work, task, resources.retries, environment) for task in tasks]
    try:
        for job in submitit.helpers.as_completed(jobs, poll_frequency=1):
            try:
                outcome = job.result()
            except submitit.core.utils.UncompletedJobError as error:  # killed: memory, time, or the user
                outcome = Outcome(float("nan"), f"{' '.join(str(error).split())[:300]}; its log: {job.paths.stderr}")
            yield tasks[jobs.index(job)], outcome
    finally:
        for job in jobs:
            if not job.done():
                job.cancel()
