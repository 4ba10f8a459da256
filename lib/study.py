"""Run store and results table: a run is trained once and read ever after.

    results(grid)  ->  one tidy table: a row a (run, collection, query, measure); costs and provenance are rows too

A run is a folder named by a hash of its experiment (its teacher's included), of its collection's fingerprint and of its
backbone's weights; its scores on a test set are a folder beside. Both are kept through `lib.store`: whole or absent,
made by one process.
"""

import dataclasses
import json
import subprocess
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from lib import (
    collections,
    evaluation,
    groups,
    hardware,
    models,
    nearest,
    progress,
    retrieval,
    score_files,
    scoring,
    store,
    strategies,
    tokens,
    training,
)
from lib.collections import Collection
from lib.experiment import Experiment, TestSet, describe, fingerprint, is_score_file, layer_count, lineage
from lib.groups import Groups
from lib.models import LateRanker, Ranker, adapters, backbone
from lib.models.momentum import Momentum
from lib.vectors import Identity, VectorStore


def results(grid: Iterable[Experiment], tests: Iterable[TestSet]) -> pd.DataFrame:
    """The table of all runs of a grid: those that are missing are trained, teachers first; the rest is read.

    Columns: run (key), the experiment's architecture, strategy, paradigm, number of teachers, layers and seed,
    collection, query, measure, value, text.
    Quality has a query. Costs (unit in the measure's name) and provenance (in `text`) have an empty query.
    """
    grid, tests = list(dict.fromkeys(grid)), list(tests)
    complete(grid, tests)
    tables = []
    for experiment in grid:
        parts = [pd.read_parquet(_place("runs", experiment.key) / "costs.parquet")]
        parts += [pd.read_parquet(evaluate(experiment, test) / "values.parquet") for test in tests]
        about = {
            "run": experiment.key, "architecture": experiment.architecture, "strategy": experiment.strategy,
            "paradigm": strategies.named(experiment.strategy).paradigm, "teachers": len(experiment.teachers),
            "layers": layer_count(experiment), "seed": experiment.seed,
        }  # fmt: skip
        tables.append(pd.concat(parts).assign(**about))
    return pd.concat(tables, ignore_index=True)[COLUMNS]


COLUMNS = [
    "run", "architecture", "strategy", "paradigm", "teachers", "layers", "seed", "collection", "query", "measure",
    "value", "text",
]  # fmt: skip


def complete(grid: Iterable[Experiment], tests: Iterable[TestSet] = ()) -> None:
    """Train every run of a grid that is missing, then score the tests that are: one list, one estimate of the time."""
    grid = list(dict.fromkeys(grid))
    _train_missing(grid)
    _evaluate_missing(grid, list(tests))


def first_stage(tests: Iterable[TestSet]) -> pd.DataFrame:
    """The same table for BM25 itself (strategy "bm25"), over the candidates that every run re-ranks."""
    return _ranked_by("first_stage", tests, strategy="bm25", paradigm="first stage")


def best_order(tests: Iterable[TestSet]) -> pd.DataFrame:
    """The same table for the best order of the candidates (strategy "best"): what re-ranking could reach."""
    return _ranked_by("grade", tests, strategy="best", paradigm="ceiling")


def _ranked_by(column: str, tests: Iterable[TestSet], *, strategy: str, paradigm: str) -> pd.DataFrame:
    """The table of ranking the candidates by one of their columns, without a model."""
    tables = []
    for test in tests:
        collection, queries, run = test.candidates()
        values = evaluation.measure(run.rename(columns={column: "score"}), collection, test.split, queries)
        tables.append(values.assign(collection=test.collection))
    about = {
        "run": strategy, "architecture": "", "strategy": strategy, "paradigm": paradigm, "teachers": 0, "layers": 0,
        "seed": 0, "text": "",
    }  # fmt: skip
    return pd.concat(tables, ignore_index=True).assign(**about)[COLUMNS]


def history(experiment: Experiment) -> pd.DataFrame:
    """The training history of a run, a row a step (see `lib.training.train`)."""
    return pd.read_parquet(_run(experiment) / "history.parquet")


def scores(experiment: Experiment, test: TestSet, *, trained: bool = True) -> pd.DataFrame:
    """Raw test scores of a run: columns query, document, rank, first_stage (BM25's score), grade, score.

    With `trained=False` of the model that the run starts from.
    """
    return pd.read_parquet(evaluate(experiment, test, trained=trained) / "scores.parquet")


def values(runs: Experiment | Iterable[Experiment], test: TestSet, measure: str, *, trained: bool = True) -> pd.Series:
    """One measure of a run by query, or the mean of several runs (seeds); `trained` as in `scores`."""
    runs = [runs] if isinstance(runs, Experiment) else list(runs)
    tables = [pd.read_parquet(evaluate(run, test, trained=trained) / "values.parquet") for run in runs]
    table = pd.concat(tables)
    return table[table["measure"] == measure].groupby("query", sort=False)["value"].mean()


def costs(experiment: Experiment, *tests: TestSet) -> pd.Series:
    """What a run and its scoring of test sets cost, by measure with its unit: train_seconds, peak_memory_gib, ..."""
    folders = [_run(experiment) / "costs.parquet", *(evaluate(experiment, test) / "values.parquet" for test in tests)]
    table = pd.concat([pd.read_parquet(folder) for folder in folders])
    table = table[(table["query"] == "") & (table["text"] == "")]
    return table.set_index("measure")["value"]


def model(experiment: Experiment) -> Ranker:
    """The trained model of a run."""
    return models.load(model_folder(experiment))


def model_folder(experiment: Experiment) -> Path:
    """Where a run's model lies in the hub's layout; sentence-transformers opens it as it is."""
    return _run(experiment) / "model"


def untrained(experiment: Experiment) -> Ranker:
    """The model that a run starts from."""
    settings = {"dropout": experiment.dropout, "embeddings": experiment.embeddings}
    if experiment.start is not None:
        return models.load(model_folder(experiment.start), **settings)
    return models.build(
        experiment.architecture, experiment.backbone, experiment.layers, experiment.seed, **settings,
        **dict(experiment.options),
    )  # fmt: skip


def layout(
    ranker: Ranker, collection: Collection, name: str, max_length: int
) -> tokens.PairTokens | tokens.SeparateTokens:
    """The token stores of a collection as a ranker reads them; `name` is the backbone, whose tokenizer it has."""
    tokenizer = backbone.tokenizer(name)
    return ranker.layout(
        tokens.tokenise(collection.queries, tokenizer, f"{collection.fingerprint} queries"),
        tokens.tokenise(collection.documents, tokenizer, f"{collection.fingerprint} documents"),
        tokenizer, max_length,
    )  # fmt: skip


def pair_tokens(experiment: Experiment, collection: Collection) -> tokens.PairTokens | tokens.SeparateTokens:
    """The token stores of a collection as an experiment's model reads them."""
    return layout(untrained(experiment), collection, experiment.backbone, experiment.max_length)


def encode(
    ranker: LateRanker, found: tokens.SeparateTokens, model_key: str, collection: Collection, *,
    names: np.ndarray | None = None,
) -> VectorStore:  # fmt: skip
    """The vectors of a collection's documents (`names`; None: all), computed once.

    `model_key` names the model, as a run's key does.
    """
    identity = Identity(model_key, collection.fingerprint)
    name = store.key(model_key, collection.fingerprint, None if names is None else [str(one) for one in names])
    folder = store.keep("vectors", name, lambda into: scoring.encode(ranker, found, into, identity, names=names))
    return VectorStore(folder)


def training_groups(experiment: Experiment) -> Groups:
    """The groups of an experiment, with its teacher's scores where it has a teacher."""
    collection = collections.load(experiment.collection)
    find = retrieval.bm25 if experiment.negatives is None else partial(nearest_documents, experiment.negatives)
    made = groups.build(collection, count=experiment.group_count, docs=experiment.docs, find=find)
    if experiment.teachers:
        found = [teacher_scores(one, made, collection, experiment.max_length) for one in experiment.teachers]
        made.targets[strategies.TEACHER] = np.mean(found, axis=0)  # of raw scores, as in 2010.02666
    return made


def nearest_documents(experiment: Experiment, collection: Collection, queries: list[str], depth: int) -> pd.DataFrame:
    """What a bi-encoder finds in the whole collection, exactly: columns query, document, score."""

    def compute(folder: Path) -> None:
        ranker = model(experiment)
        read = layout(ranker, collection, experiment.backbone, experiment.max_length)
        stored = encode(ranker, read, experiment.key, collection)
        index = nearest.load(
            nearest.build(stored.folder, stored.identity, nearest.Flat()), model=experiment.key,
            collection=collection.fingerprint,
        )  # fmt: skip
        vectors, _ = scoring.encode_queries(ranker, read, queries)
        scores, rows = nearest.search(index, vectors[:, 0], depth)
        evaluation.as_run(queries, stored.names, rows, scores).to_parquet(folder / "run.parquet")

    name = store.key(experiment.key, collection.fingerprint, queries, depth)
    return pd.read_parquet(store.keep("first_stage", name, compute) / "run.parquet")


def teacher_scores(
    teacher: Experiment | str, made: Groups, collection: Collection, max_length: int = 512
) -> np.ndarray:
    """A teacher's raw scores of groups, (groups, docs) float32: computed once, then read.

    A run of the kit, a cross-encoder (hub name or folder; pairs of `max_length` tokens), or a file of scores by ids.
    """
    if isinstance(teacher, str) and is_score_file(teacher):
        return score_files.scores_of(teacher, made.queries, made.documents)

    def compute(folder: Path) -> None:
        if isinstance(teacher, str):
            ranker, name, length = models.load(backbone.folder(teacher)), teacher, max_length
        else:
            ranker, name, length = model(teacher), teacher.backbone, teacher.max_length
        pairs = layout(ranker, collection, name, length)
        found = scoring.score(ranker, pairs, made.queries[:, None], made.documents, what="teacher scores")
        np.save(folder / "scores.npy", found)

    whose = [fingerprint(teacher), max_length] if isinstance(teacher, str) else teacher.key
    name = store.key(whose, collection.fingerprint, made.key)
    return np.load(store.keep("teacher_scores", name, compute) / "scores.npy")


def evaluate(experiment: Experiment, test: TestSet, *, trained: bool = True) -> Path:
    """The folder with a run's scores and values on one test set; computed where it is missing.

    With `trained=False` those of the model that the run starts from.
    """

    def compute(folder: Path) -> None:
        collection, queries, run = test.candidates()
        ranker = model(experiment) if trained else untrained(experiment)
        pairs = layout(ranker, collection, experiment.backbone, experiment.max_length)
        asked, given = run["query"].to_numpy(), run["document"].to_numpy()
        with hardware.Meter() as meter:
            run["score"] = scoring.score(ranker, pairs, asked, given, what=f"scoring {test.collection}")
        found = {"score_pairs_per_second": len(run) / meter.seconds, "score_peak_memory_gib": meter.peak_memory_gib}
        table = evaluation.measure(run, collection, test.split, queries)
        table = pd.concat([table, pd.DataFrame({"measure": list(found), "value": list(found.values())})])
        run.to_parquet(folder / "scores.parquet")
        _tidy(table.assign(collection=test.collection)).to_parquet(folder / "values.parquet")

    key = _evaluation_key(experiment, test)
    return store.keep("evaluations", key if trained else store.key("start", key), compute)


def conditions() -> dict[str, str]:
    """On what and with which versions this process computes, and the project's commit."""
    return {"commit": commit(), **hardware.description()}


def _evaluation_key(experiment: Experiment, test: TestSet) -> str:
    return store.key(experiment.key, dataclasses.asdict(test), collections.load(test.collection).fingerprint)


def _tidy(table: pd.DataFrame) -> pd.DataFrame:
    """Columns collection, query, measure, value, text: texts empty rather than missing."""
    table = table.reindex(columns=["collection", "query", "measure", "value", "text"])
    table[["collection", "query", "text"]] = table[["collection", "query", "text"]].fillna("").astype(str)
    return table


def _place(kind: str, key: str) -> Path:
    return store.data_folder() / kind / key


def _run(experiment: Experiment) -> Path:
    """The run's folder; it is trained where it is missing."""
    _train_missing([experiment])
    return _place("runs", experiment.key)


def _train_missing(grid: list[Experiment]) -> None:
    """Train every run of a grid, and every start and teacher, that is not in the store."""
    wanted = dict.fromkeys(one for experiment in grid for one in lineage(experiment))
    missing = [experiment for experiment in wanted if not _place("runs", experiment.key).is_dir()]

    def train(experiment: Experiment) -> None:
        store.keep("runs", experiment.key, lambda folder: _train(experiment, folder))

    _each(missing, "training", describe, _training_work, train)


def _evaluate_missing(grid: list[Experiment], tests: list[TestSet]) -> None:
    missing = [
        (experiment, test) for experiment in grid for test in tests
        if not _place("evaluations", _evaluation_key(experiment, test)).is_dir()
    ]  # fmt: skip

    def work(item: tuple[Experiment, TestSet]) -> float:
        return (item[1].queries or 1000) * item[1].depth * layer_count(item[0])

    _each(missing, "scoring", lambda item: f"{item[1].collection} with {describe(item[0])}", work,
          lambda item: evaluate(*item))  # fmt: skip


def _each(items: list, what: str, name: Callable, work: Callable, do: Callable) -> None:
    """Do one thing after another; a line each says which, and how long the rest will take at the pace so far."""
    spent, done, total = 0.0, 0.0, sum(map(work, items))
    for number, item in enumerate(items, 1):
        left = f", about {progress.duration(spent / done * (total - done))} left" if done else ""
        progress.say(f"{what} {number} of {len(items)}: {name(item)}{left}")
        with hardware.Meter() as meter:
            do(item)
        spent, done = spent + meter.seconds, done + work(item)
    progress.clear()


def _training_work(experiment: Experiment) -> float:
    """Roughly how long training takes, in no unit: documents times layers."""
    return experiment.group_count * experiment.docs * experiment.epochs * layer_count(experiment)


def _train(experiment: Experiment, folder: Path) -> None:
    """Train and write one run."""
    made = training_groups(experiment)
    ranker = untrained(experiment)
    ranker.set_attention(hardware.attention(training=True))
    pairs = layout(ranker, collections.load(experiment.collection), experiment.backbone, experiment.max_length)
    parameters = sum(parameter.numel() for parameter in ranker.parameters())
    if experiment.adapter is not None:
        adapters.attach(ranker, experiment.adapter, experiment.adapter_size, experiment.seed)
    trained = sum(parameter.numel() for parameter in ranker.parameters() if parameter.requires_grad)
    with hardware.Meter() as meter:
        steps = training.train(
            Momentum(ranker, experiment.queue, experiment.momentum) if experiment.queue else ranker, made, pairs,
            strategies.named(experiment.strategy), learning_rate=experiment.learning_rate,
            batch_size=experiment.batch_size, epochs=experiment.epochs, warm_up=experiment.warm_up,
            seed=experiment.seed, chunk=experiment.chunk,
        )  # fmt: skip
    if experiment.adapter is not None:
        adapters.finish(ranker)
    costs = {
        "train_seconds": meter.seconds, "train_pairs_per_second": steps["documents"].sum() / meter.seconds,
        "peak_memory_gib": meter.peak_memory_gib, "energy_joules": meter.energy_joules, "parameters": parameters,
        "trained_parameters": trained,
    }  # fmt: skip
    provenance = conditions()
    table = pd.concat([
        pd.DataFrame({"measure": list(costs), "value": list(costs.values())}),
        pd.DataFrame({"measure": list(provenance), "text": list(provenance.values())}),
    ])  # fmt: skip
    _tidy(table).to_parquet(folder / "costs.parquet")
    steps.to_parquet(folder / "history.parquet")
    ranker.save(folder / "model", backbone.tokenizer(experiment.backbone), experiment.max_length)
    (folder / "experiment.json").write_text(json.dumps(dataclasses.asdict(experiment), indent=1))


def commit() -> str:
    """The project's git commit, with "+changes" where lib/ differs from it; "unknown" outside git."""
    git = ["git", "-C", str(Path(__file__).parents[1])]
    asked = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    if asked.returncode:
        return "unknown"
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "lib"], capture_output=True, check=False)
    return asked.stdout.strip() + ("+changes" if changed.returncode else "")
