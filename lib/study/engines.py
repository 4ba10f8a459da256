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
from lib.machine.literals import check_number, check_whole

NAMES = ("here", "ray", "submitit")


@dataclass(frozen=True)
class Resources:
    """What one task may use, and how often it is done again after a failure."""

    cpus: int = 1
    gpus: float = 0  # on Ray also a part: with .25 four tasks share an accelerator, and have to fit into its memory
    retries: int = 0  # by the same worker; on Ray a task whose worker died goes to another one
    submitit: dict[str, object] = field(default_factory=dict)  # of AutoExecutor.update_parameters: slurm_partition, ...

    def __post_init__(self) -> None:
        check_whole(self, "cpus")
        check_whole(self, "retries", least=0)
        check_number(self, "gpus")


@dataclass(frozen=True)
class Outcome:
    """How a task ended."""

    seconds: float
    error: str = ""  # one line; "": it did its work


Needs = Resources | Callable[..., Resources] | None  # of every task, or by a task's arguments; None: the usual ones
Asked = tuple[tuple, Resources]  # a task, and what it may use


def each(engine: str, work: Callable, tasks: list[tuple], resources: Needs = None) -> Iterator[tuple[tuple, Outcome]]:
    """Do `work(*task)` for every task; yield (task, outcome) as they end. A task that fails stops no other.

    `work` is a function of an importable module. `resources` are those of every task, or a function that has a task's
    arguments and gives its own. Leaving the loop early stops what still runs. Raises ValueError for an unknown engine,
    or what one machine lacks, and ModuleNotFoundError, with the command that installs it, where a package is missing.
    """
    if engine not in NAMES:
        raise ValueError(f"engine={engine!r}: give one of {', '.join(NAMES)}")
    run = {"here": _here, "ray": _on_ray, "submitit": _on_submitit}[engine]
    return run(work, [(task, resources(*task) if callable(resources) else resources or Resources()) for task in tasks])


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
    own.pop("STUDY_PROGRESS", None)  # a pipe of this machine
    return own | {"STUDY_DATA": str(store.data_folder()), "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
                  "OMP_NUM_THREADS": str(resources.cpus)}  # fmt: skip


def _here(work: Callable, tasks: list[Asked]) -> Iterator[tuple[tuple, Outcome]]:
    for task, resources in tasks:
        yield task, _timed(work, task, resources.retries, {})


def _on_ray(work: Callable, tasks: list[Asked]) -> Iterator[tuple[tuple, Outcome]]:
    """On the cluster that RAY_ADDRESS names, else on one that is started on this machine and stopped at the end."""
    ray = package("ray")
    ray.init(include_dashboard=False, logging_level="ERROR")
    try:
        if "RAY_ADDRESS" not in os.environ:  # a real cluster may grow
            _check(ray.cluster_resources(), [resources for _, resources in tasks])
        remote = ray.remote(max_calls=1)(_timed)  # a worker serves one task: the memory is given back
        waiting = {}
        for task, asked in tasks:
            environment = _environment(asked)
            needs = {"num_cpus": asked.cpus, "num_gpus": asked.gpus, "max_retries": asked.retries}
            chosen = remote.options(**needs, runtime_env={"env_vars": environment})
            waiting[chosen.remote(work, task, asked.retries, environment)] = task
        while waiting:
            (done,), _ = ray.wait(list(waiting))
            try:
                outcome = ray.get(done)
            except ray.exceptions.RayError as error:  # the worker died, out of memory for one
                outcome = Outcome(float("nan"), " ".join(str(error).split()))
            yield waiting.pop(done), outcome
    finally:
        ray.shutdown()


def _check(there: dict[str, float], asked: list[Resources]) -> None:
    """Refuse what Ray would wait for without an end."""
    for name, wanted in (("CPU", max(one.cpus for one in asked)), ("GPU", max(one.gpus for one in asked))):
        if (has := there.get(name, 0)) < wanted:
            fix = "give fewer, or RAY_ADDRESS for a cluster"
            raise ValueError(f"a task asks for {wanted:g} {name}s, and this machine has {has:g}; {fix}")


def _on_submitit(work: Callable, tasks: list[Asked]) -> Iterator[tuple[tuple, Outcome]]:
    """Job arrays of Slurm, one for the tasks of equal resources, or processes of this machine, all of them at once."""
    submitit, jobs, given, different = package("submitit"), [], [], []
    for _, resources in tasks:
        if resources.gpus % 1:
            raise ValueError(f"gpus={resources.gpus:g}: submitit gives whole accelerators; use the engine ray")
        if resources not in different:
            different.append(resources)
    for resources in different:
        environment = _environment(resources)
        executor = submitit.AutoExecutor(folder=store.data_folder() / "jobs" / "%j")
        executor.update_parameters(name="study", cpus_per_task=resources.cpus, gpus_per_node=int(resources.gpus),
                                   **{"timeout_min": 24 * 60, **resources.submitit})  # fmt: skip
        own = [task for task, asked in tasks if asked == resources]
        # Jobs inherit the environment of the submission: another copy of `lib` may be the installed one.
        with mock.patch.dict(os.environ, environment), executor.batch():
            jobs += [executor.submit(_timed, work, task, resources.retries, environment) for task in own]
        given += own
    try:
        for job in submitit.helpers.as_completed(jobs, poll_frequency=1):
            try:
                outcome = job.result()
            except submitit.core.utils.UncompletedJobError as error:  # killed: memory, time, or the user
                outcome = Outcome(float("nan"), f"{' '.join(str(error).split())[:300]}; its log: {job.paths.stderr}")
            yield given[jobs.index(job)], outcome
    finally:
        for job in jobs:
            if not job.done():
                job.cancel()
