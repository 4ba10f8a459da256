"""The run store: `complete` trains a run once, the other functions read it.

A run is a folder named by a hash of everything that decides it (`lib.study.identity`), kept by `lib.machine.store`.
"""

import json
import reprlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pandas as pd

from lib.data import collections
from lib.data.groups import Groups
from lib.machine import hardware, progress, store
from lib.machine.provenance import conditions
from lib.models import Ranker, adapters, changes
from lib.models.tokens import PairTokens, SeparateTokens
from lib.study import checks, engines, identity, rankers, targets
from lib.study.experiment import Experiment, Run, TestSet, Untrained, describe, fields, lineage
from lib.training import loop, resume, trackers

ABOUT = "experiment.json"  # the description that the run's name is a hash of, and where its inputs were


def complete(
    grid: Iterable[Run], tests: Iterable[TestSet] = (), *, engine: str = "here",
    resources: engines.Resources | None = None,
) -> None:  # fmt: skip
    """Train every run of a grid, and every start and teacher, that is not in the store; first check all of them.

    With another `engine` each training is a task of its own (`lib.study.engines`). Raises ValueError if a run or a test
    set asks for what does not exist; nothing is trained then (`lib.study.checks`). Raises RuntimeError if trainings on
    an engine failed, after those that need none of them.
    """
    grid = distinct(grid)
    needed = distinct(ancestor for run in grid if isinstance(run, Experiment) for ancestor in lineage(run))
    missing = [run for run in needed if not store.is_whole(store.data_folder() / "runs" / run.key)]
    checks.check([*missing, *(run for run in grid if isinstance(run, Untrained))], tests)
    if engine != "here":
        return _on(engine, missing, resources)
    one_by_one(
        missing, "training", describe,
        lambda run: run.data.group_count * run.data.docs * run.training.epochs * run.model.layer_count, _keep,
    )  # fmt: skip


def _on(engine: str, missing: list[Experiment], resources: engines.Resources | None) -> None:
    """Train runs as tasks, in rounds: first those whose starts and teachers are there."""
    before = {run.key: {one.key for one in lineage(run)[:-1]} for run in missing}
    left, failed = {run.key: run for run in missing}, {}
    while ready := [run for key, run in left.items() if before[key].isdisjoint([*left, *failed])]:
        for (run,), outcome in engines.each(engine, _keep, [(run,) for run in ready], resources):
            if outcome.error:
                failed[run.key] = f"{describe(run)}: {outcome.error}"
            progress.say(f"{failed.get(run.key, describe(run) + ' is trained')}; {len(left) - 1} left")
            del left[run.key]
    if failed:
        needing = f"; not trained, since they need these: {len(left)}" if left else ""
        raise RuntimeError(f"{len(failed)} of {len(missing)} trainings failed: {' | '.join(failed.values())}{needing}")


def history(run: Experiment) -> pd.DataFrame:
    """The training history of a run, one row per step (see `lib.training.loop.train`); raises NotTrained."""
    return pd.read_parquet(rankers.folder(run) / "history.parquet")


def costs(run: Experiment) -> pd.DataFrame:
    """What training a run cost, and under which conditions, as `with_conditions` has it; raises NotTrained."""
    return pd.read_parquet(rankers.folder(run) / "costs.parquet")


def distinct(grid: Iterable[Run]) -> list[Run]:
    """The runs of a grid, each once: those of one key are one run, however they are written."""
    runs: dict[str, Run] = {}
    for run in grid:
        if not isinstance(run, Run):
            raise TypeError(f"{reprlib.repr(run)} in a grid: give Experiments and Untrained models")
        runs.setdefault(run.key, run)
    return list(runs.values())


def one_by_one(items: list, what: str, name: Callable, work: Callable, do: Callable) -> None:
    """Do one item after another; a line for each says which, and how long the rest takes. `work` is in any unit."""
    spent, done, total = 0.0, 0.0, sum(map(work, items))
    for number, item in enumerate(items, 1):
        left = f", about {progress.duration(spent / done * (total - done))} left" if done else ""
        progress.say(f"{what} {number} of {len(items)}: {name(item)}{left}")
        with hardware.Meter() as meter:
            do(item)
        spent, done = spent + meter.seconds, done + work(item)
    progress.clear()


def with_conditions(measured: dict[str, float], quality: pd.DataFrame | None = None) -> pd.DataFrame:
    """Columns collection, query, measure, value, text: quality, costs by name with their unit, and the conditions."""
    under = conditions()
    table = pd.concat([
        quality, pd.DataFrame({"measure": list(measured), "value": list(measured.values())}),
        pd.DataFrame({"measure": list(under), "text": list(under.values())}),
    ]).reindex(columns=["collection", "query", "measure", "value", "text"])  # fmt: skip
    return table.assign(**table[["collection", "query", "text"]].fillna("").astype(str))


def at_start(run: Experiment) -> tuple[Ranker, Groups, PairTokens | SeparateTokens]:
    """What training a run begins with: its model, its groups with their targets, and what the model reads."""
    groups = targets.training_groups(run)
    ranker = rankers.at_start(run)
    ranker.set_attention(hardware.attention(training=True))
    if run.training.gradient_checkpointing:
        ranker.checkpoint_gradients()
    return ranker, groups, rankers.inputs(ranker, collections.load(run.data.collection), run.model)


def _keep(run: Experiment) -> None:
    ancestors = [f"runs/{ancestor.key}" for ancestor in lineage(run)[:-1]]
    place = store.keep("runs", run.key, partial(_train, run), of=ancestors, together=True)
    resume.remove(place.name)


def _train(run: Experiment, folder: Path | None) -> None:
    """Train one run and write it; without a folder (all processes of a launch but the main one) only train it."""
    key = run.key
    ranker, groups, inputs = at_start(run)
    adapter, parameters = run.training.adapter, sum(weight.numel() for weight in ranker.parameters())
    if adapter is not None:
        adapters.attach(ranker, adapter.kind, adapter.size, run.seed)
    trained = sum(weight.numel() for weight in ranker.parameters() if weight.requires_grad)
    checkpoint = resume.Checkpoint(key)
    told = dict(fields(run)) | {"strategy": run.strategy.name}
    with trackers.following(describe(run), key, told) as log, hardware.Meter() as meter:
        steps = loop.train(
            ranker, groups, inputs, run.strategy, run.training, seed=run.seed, checkpoint=checkpoint, log=log
        )
    if adapter is not None:
        adapters.finish(ranker)
    if folder is None:
        return
    if run.key != key:
        raise ValueError(f"{describe(run)}: what decides it changed while it was trained, so it is not kept: let a "
                         "loss change none of the values that it uses, and edit no text, model or score file meanwhile"
                         )  # fmt: skip
    seconds = checkpoint.spent + meter.seconds
    joules = float("nan") if checkpoint.spent else meter.energy_joules  # those before are not known
    measured = {
        "train_seconds": seconds, "train_pairs_per_second": steps["documents"].sum() / seconds,
        "peak_memory_gib": meter.peak_memory_gib, "energy_joules": joules, "parameters": parameters,
        "trained_parameters": trained,
    }  # fmt: skip
    with_conditions(measured).to_parquet(folder / "costs.parquet")
    steps.to_parquet(folder / "history.parquet")
    built, redrawn = (rankers.built(run.model, seed, run) for seed in (run.seed, run.seed + 1))
    changes.save(ranker, built, redrawn, folder / rankers.WEIGHTS)
    about = {"name": describe(run), "collection": run.data.collection, "backbone": run.model.backbone,
             "identity": identity.of_run(run)}  # fmt: skip
    (folder / ABOUT).write_text(json.dumps(about, indent=1))
