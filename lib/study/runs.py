"""The run store: `complete` trains a run once, the other functions read it.

A run is a folder named by a hash of everything that decides it (`lib.study.identity`), kept by `lib.machine.store`.
"""

import json
import reprlib
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from lib.data import collections
from lib.data.groups import Groups
from lib.machine import hardware, processes, progress, store
from lib.machine.provenance import conditions
from lib.models import Ranker, adapters, backbone, changes, masked_lm, tokens
from lib.models.masked_lm import MaskedLM
from lib.models.tokens import PairTokens, SeparateTokens
from lib.study import checks, engines, forecast, identity, rankers, targets
from lib.study.derived import Merged, Pretrained, snapshots
from lib.study.experiment import Experiment, Run, TestSet, fields, lineage
from lib.training import loop, pretraining, resume, trackers
from lib.training.peers import Students

ABOUT = "experiment.json"  # the description that the run's name is a hash of, and where its inputs were


def complete(
    grid: Iterable[Run], tests: Iterable[TestSet] = (), *, engine: str = "here",
    resources: engines.Needs = None,
) -> None:  # fmt: skip
    """Make every run of a grid, and every run that it needs, that is not in the store; first check all of them.

    With another `engine` each training is a task of its own with these `resources`, which a function may give by run
    (`lib.study.engines`). Raises ValueError if a run or a test set asks for what does not exist; nothing is trained
    then (`lib.study.checks`). Raises RuntimeError if trainings on an engine failed, after those that need none of them.
    """
    grid = distinct(grid)
    needed = distinct(ancestor for run in grid for ancestor in lineage(run))
    # Said by the main process, since another study may end a run while the processes of a launch look.
    there = processes.from_main([run.key for run in needed if store.is_whole(store.data_folder() / "runs" / run.key)])
    missing = [run for run in needed if run.key not in there]
    checks.check([*missing, *(run for run in grid if run.stored is None)], tests)
    if progress.alone() and missing and (seconds := forecast.training(missing)) >= 5:
        about = progress.duration(seconds)
        print(f"Models to train first: {len(missing)}, about {about} on this machine, without scoring", flush=True)
    if engine != "here":
        return _on(engine, missing, resources)
    one_by_one(missing, "training", lambda run: run.about, lambda run: run.work, _keep)


def _on(engine: str, missing: list[Run], resources: engines.Needs) -> None:
    """Train runs as tasks, in rounds: first those whose starts and teachers are there."""
    before = {run.key: {one.key for one in lineage(run)[:-1]} for run in missing}
    left, failed = {run.key: run for run in missing}, {}
    while ready := [run for key, run in left.items() if before[key].isdisjoint([*left, *failed])]:
        for (run,), outcome in engines.each(engine, _keep, [(run,) for run in ready], resources):
            error = outcome.error
            if not error and not store.is_whole(store.data_folder() / "runs" / run.key):
                error = "its worker gave it another name: it computes in another precision, or has another lib"
            if error:
                failed[run.key] = f"{run.about}: {error}"
            progress.say(f"{failed.get(run.key, run.about + ' is trained')}; {len(left) - 1} left")
            del left[run.key]
    if failed:
        needing = f"; not trained, since they need these: {len(left)}" if left else ""
        raise RuntimeError(f"{len(failed)} of {len(missing)} trainings failed: {' | '.join(failed.values())}{needing}")


def history(run: Run) -> pd.DataFrame:
    """The training history of a run, one row per step (see `lib.training.loop.train`); raises NotTrained."""
    path = rankers.folder(run) / "history.parquet"
    if not path.exists():
        raise rankers.NotTrained(f"{run.about}: nothing was trained here, so it has no history; ask for its runs'")
    return pd.read_parquet(path)


def costs(run: Run) -> pd.DataFrame:
    """What training a run cost, and under which conditions, as `with_conditions` has it; raises NotTrained."""
    return pd.read_parquet(rankers.folder(run) / "costs.parquet")


def distinct(grid: Iterable[Run]) -> list[Run]:
    """The runs of a grid, each once: those of one key are one run, however they are written."""
    runs: dict[str, Run] = {}
    for run in grid:
        if not isinstance(run, Run):
            raise TypeError(f"{reprlib.repr(run)} in a grid: give Experiments and other runs of lib.study")
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
    groups, ranker = targets.training_groups(run), _student(run)
    return ranker, groups, rankers.inputs(ranker, collections.load(run.data.read), run.model)


def _student(run: Experiment) -> Ranker:
    """The model that a run starts from, ready to be trained."""
    ranker = rankers.at_start(run)
    ranker.set_attention(hardware.attention(training=True))
    if run.training.gradient_checkpointing:
        ranker.checkpoint_gradients()
    return ranker


def _keep(run: Run) -> None:
    ancestors = [f"runs/{ancestor.key}" for ancestor in lineage(run)[:-1]]
    place = store.keep("runs", run.key, partial(MAKE[type(run)], run), of=ancestors, together=True)
    resume.remove(place.name)


def _write(run: Run, ranker: Ranker, measured: dict[str, float], folder: Path, **about: object) -> None:
    """Write what every run keeps: costs with their conditions, weights, and a description.

    Raises FloatingPointError for a weight that is not finite.
    """
    for name, weight in ranker.state_dict().items():
        if weight.numel() and not torch.stack(weight.aminmax()).isfinite().all():  # 15 times as fast as each by itself
            fix = "lower the learning rate, or the scale of a merge"
            raise FloatingPointError(f"{run.about}: {name} is not finite, so the run is not kept; {fix}")
    with_conditions(measured).to_parquet(folder / "costs.parquet")
    _save(run, ranker, folder / run.file)
    known = {"name": run.about, "backbone": run.model.backbone, **about}
    (folder / ABOUT).write_text(json.dumps(known, indent=1))


def _save(run: Run, ranker: Ranker, path: Path) -> None:
    with torch.random.fork_rng():  # in the middle of a training, too, it changes nothing
        changes.save(ranker, rankers.built(run.model, run.seed), rankers.drawn(run.model), path)


def _train(run: Experiment, folder: Path | None) -> None:
    """Train one run and write it; without a folder (all processes of a launch but the main one) only train it."""
    key = run.key
    ranker, groups, inputs = at_start(run)
    adapter, parameters = run.training.adapter, sum(weight.numel() for weight in ranker.parameters())
    if adapter is not None:
        adapters.attach(ranker, adapter.kind, adapter.size, run.seed)
    trained = sum(weight.numel() for weight in ranker.parameters() if weight.requires_grad)
    checkpoint = resume.Checkpoint(key)
    kept = {run.steps * one.number // run.training.snapshots: one for one in snapshots(run) if not one.is_last}

    def keep(step: int) -> None:
        if step in kept and processes.is_main():
            checkpoint.write(kept[step].file, lambda path: _save(run, ranker, path))

    told = dict(fields(run)) | {"strategy": run.strategy.name}
    students = Students(ranker, _student(replace(run, start=run.peer))) if run.peer else ranker
    with trackers.following(run.about, key, told) as log, hardware.Meter() as meter:
        steps = loop.train(
            students, groups, inputs, run.strategy, run.training, seed=run.seed, checkpoint=checkpoint, log=log,
            after=keep if kept else None,
        )  # fmt: skip
    if adapter is not None:
        adapters.finish(ranker)
    if folder is None:
        return
    if run.key != key:
        raise ValueError(f"{run.about}: what decides it changed while it was trained, so it is not kept: let a "
                         "loss change none of the values that it uses, and edit no text, model or score file meanwhile"
                         )  # fmt: skip
    seconds = checkpoint.spent + meter.seconds
    joules = float("nan") if checkpoint.spent else meter.energy_joules  # those before are not known
    measured = {
        "train_seconds": seconds, "train_pairs_per_second": steps["documents"].sum() / seconds,
        "peak_memory_gib": meter.peak_memory_gib, "energy_joules": joules, "parameters": parameters,
        "trained_parameters": trained,
    }  # fmt: skip
    steps.to_parquet(folder / "history.parquet")
    for one in kept.values():
        shutil.copyfile(checkpoint.beside(one.file), folder / one.file)
    _write(run, ranker, measured, folder, collection=run.data.collection, identity=identity.of_run(run))


def _merge(run: Merged, folder: Path | None) -> None:
    """Merge runs and write the model; other processes of a launch than the main one do nothing."""
    if folder is None:
        return
    with hardware.Meter() as meter:
        ranker = rankers.built(run.model, run.seed)
        ranker.load_state_dict(run.merge([rankers.ranker(one).state_dict() for one in run.parents]))
    measured = {"merge_seconds": meter.seconds, "parameters": sum(weight.numel() for weight in ranker.parameters())}
    _write(run, ranker, measured, folder, identity=identity.of_merged(run))


def _pretrain(run: Pretrained, folder: Path | None) -> None:
    """Pre-train a backbone further and write it; without a folder as `_train`."""
    collection = collections.load(run.collection)
    name, tokenizer = run.model.backbone, backbone.tokenizer(run.model.backbone)
    stored = tokens.tokenise(collection.documents, tokenizer, collection.documents_digest)
    rows = stored.rows(list(collection.documents)[: run.document_count])
    model = MaskedLM.open(
        name, run.model.layers, run.seed, dropout=run.training.dropout, embeddings=run.training.embeddings
    )
    checkpoint = resume.Checkpoint(run.key)
    with trackers.following(run.about, run.key, dict(fields(run))) as log, hardware.Meter() as meter:
        steps = pretraining.train(
            model, masked_lm.side(stored, name, run.model.max_length), rows, tokenizer, run.training,
            seed=run.seed, checkpoint=checkpoint, log=log,
        )  # fmt: skip
    if folder is None:
        return
    ranker = rankers.built(run.model, run.seed)
    model.give(ranker)
    seconds = checkpoint.spent + meter.seconds
    measured = {
        "train_seconds": seconds, "train_documents_per_second": steps["documents"].sum() / seconds,
        "peak_memory_gib": meter.peak_memory_gib, "parameters": sum(weight.numel() for weight in ranker.parameters()),
    }  # fmt: skip
    steps.to_parquet(folder / "history.parquet")
    _write(run, ranker, measured, folder, collection=run.collection, identity=identity.of_pretrained(run))


MAKE: dict[type, Callable[[Run, Path | None], None]] = {Experiment: _train, Merged: _merge, Pretrained: _pretrain}
