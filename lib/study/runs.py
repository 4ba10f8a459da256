"""Run store and results table: a run is trained once and read ever after.

    results(grid)  ->  one tidy table: one row per (run, collection, query, measure); costs and provenance are rows too

A run is a folder named by a hash of everything that decides it (`lib.study.identity`); its scores on a test set are a
folder beside it. Both are kept through `lib.machine.store`: whole or absent, made by one process.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from lib import models
from lib.analysis import measures
from lib.data import collections, groups, score_files
from lib.data.collections import Collection
from lib.data.first_stage import bm25
from lib.data.groups import Groups
from lib.machine import hardware, progress, store
from lib.machine.provenance import conditions, warn_if_mixed
from lib.models import LateRanker, Ranker, adapters, backbone, changes, tokens
from lib.models.momentum import Momentum
from lib.models.vectors import Identity, VectorStore
from lib.search import nearest
from lib.study import checks, identity
from lib.study.experiment import Experiment, TestSet, describe, layer_count, lineage, ranker_names
from lib.training import loop, scoring, strategies


def results(grid: Iterable[Experiment], tests: Iterable[TestSet]) -> pd.DataFrame:
    """The table of all runs of a grid: those that are missing are trained, teachers first; the rest is read.

    Columns: run (key), ranker (the strategy, and where runs of one strategy differ in more than the seed what they
    differ in), configuration (a key that runs share if they differ in the seed alone), the experiment's architecture,
    strategy, paradigm, number of teachers, layers and seed, collection, query, measure, value, text.
    Quality has a query. Costs (unit in the measure's name) and provenance (in `text`) have an empty query; those of
    training have an empty collection too. Warns if runs were computed under different conditions.

    Raises:
        ValueError: a run or a test set asks for what is not there; nothing is trained then (`lib.study.checks`).
    """
    grid, tests = list(dict.fromkeys(grid)), list(tests)
    complete(grid, tests)
    tables = []
    for experiment, ranker in zip(grid, ranker_names(grid), strict=True):
        parts = [pd.read_parquet(_place("runs", experiment.key) / "costs.parquet")]
        parts += [_evaluated(experiment, test) for test in tests]
        about = {
            "run": experiment.key, "ranker": ranker, "configuration": experiment.configuration,
            "architecture": experiment.architecture, "strategy": experiment.strategy,
            "paradigm": strategies.named(experiment.strategy).paradigm, "teachers": len(experiment.teachers),
            "layers": layer_count(experiment), "seed": experiment.seed,
        }  # fmt: skip
        tables.append(pd.concat(parts).assign(**about))
    table = pd.concat(tables, ignore_index=True)[COLUMNS]
    warn_if_mixed(table)
    return table


COLUMNS = [
    "run", "ranker", "configuration", "architecture", "strategy", "paradigm", "teachers", "layers", "seed",
    "collection", "query", "measure", "value", "text",
]  # fmt: skip


def complete(grid: Iterable[Experiment], tests: Iterable[TestSet] = ()) -> None:
    """Train every run of a grid that is missing, then score the tests that are: one list, one estimate of the time."""
    grid, tests = list(dict.fromkeys(grid)), list(tests)
    _train_missing(grid, tests)
    _evaluate_missing(grid, tests)


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
        values = measures.measure(run.rename(columns={column: "score"}), collection, test.split, queries)
        tables.append(values.assign(collection=test.collection))
    about = {
        "run": strategy, "ranker": strategy, "configuration": strategy, "architecture": "", "strategy": strategy,
        "paradigm": paradigm, "teachers": 0, "layers": 0, "seed": 0, "text": "",
    }  # fmt: skip
    return pd.concat(tables, ignore_index=True).assign(**about)[COLUMNS]


def history(experiment: Experiment) -> pd.DataFrame:
    """The training history of a run, one row per step (see `lib.training.loop.train`)."""
    return pd.read_parquet(_run(experiment) / "history.parquet")


def scores(experiment: Experiment, test: TestSet, *, trained: bool = True) -> pd.DataFrame:
    """Raw test scores of a run: columns query, document, rank, first_stage (BM25's score), grade, score.

    With `trained=False` of the model that the run starts from.
    """
    return pd.read_parquet(evaluate(experiment, test, trained=trained) / "scores.parquet")


def values(runs: Experiment | Iterable[Experiment], test: TestSet, measure: str, *, trained: bool = True) -> pd.Series:
    """One measure of a run by query, or the mean of several runs that differ in the seed; `trained` as in `scores`.

    Raises:
        ValueError: the runs differ in more than the seed, or there is no such measure.
    """
    runs = [runs] if isinstance(runs, Experiment) else list(runs)
    if len({run.configuration for run in runs}) != 1:
        raise ValueError(
            "a mean is taken over runs that differ in nothing but the seed, and these differ in more: "
            + "; ".join(sorted(set(ranker_names(runs))))
        )
    table = pd.concat([_evaluated(run, test, trained=trained) for run in runs])
    named = measures.named(measure, table.loc[table["query"] != "", "measure"])
    return table[table["measure"] == named].groupby("query", sort=False)["value"].mean()


def costs(experiment: Experiment, *tests: TestSet) -> pd.Series:
    """What a run and its scoring of test sets cost, by measure with its unit: train_seconds, peak_memory_gib, ..."""
    table = pd.read_parquet(_run(experiment) / "costs.parquet")
    table = pd.concat([table, *(_evaluated(experiment, test) for test in tests)])
    table = table[(table["query"] == "") & (table["text"] == "")]
    return table.set_index("measure")["value"]


def model(experiment: Experiment) -> Ranker:
    """The trained model of a run, ready to score."""
    return _restored(experiment, experiment).eval()


def export(experiment: Experiment, folder: Path | str) -> Path:
    """Write a run's model in the hub's layout, which sentence-transformers opens as it is; the folder's path.

    Raises:
        FileExistsError: the folder is there and holds something.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not an empty folder: give another one, so that nothing is overwritten")
    model(experiment).save(folder, backbone.tokenizer(experiment.backbone), experiment.max_length)
    return folder


def untrained(experiment: Experiment) -> Ranker:
    """The model that a run starts from."""
    return _built(experiment) if experiment.start is None else _restored(experiment, experiment.start)


def _built(experiment: Experiment, seed: int | None = None) -> Ranker:
    """A model of an experiment's architecture from its backbone; new weights are drawn from `seed` (None: its own)."""
    return models.build(
        experiment.architecture, experiment.backbone, experiment.layers, experiment.seed if seed is None else seed,
        dropout=experiment.dropout, embeddings=experiment.embeddings, **dict(experiment.options),
    )  # fmt: skip


def _restored(experiment: Experiment, trained: Experiment) -> Ranker:
    """The model of `trained`, with dropout and trained parts as `experiment` wants them."""
    ranker = _built(experiment, seed=trained.seed)
    if trained.prefix:
        adapters.attach(ranker, "prefix", trained.prefix, trained.seed)
        if experiment is not trained:  # a run that starts from one with a prefix trains all weights, the prefix too
            ranker.transformer.base_model.requires_grad_(True)
            backbone.prepare(ranker.transformer, embeddings=experiment.embeddings)
    changes.restore(ranker, _run(trained) / WEIGHTS)
    return ranker


WEIGHTS = "weights.safetensors"


def layout(
    ranker: Ranker, collection: Collection, name: str, max_length: int, max_query: int | None = 64
) -> tokens.PairTokens | tokens.SeparateTokens:
    """The token stores of a collection as a ranker reads them; `name` is the backbone, whose tokenizer it has.

    `max_length` and `max_query` as in `Experiment`.
    """
    tokenizer = backbone.tokenizer(name)
    return ranker.layout(
        tokens.tokenise(collection.queries, tokenizer, collection.queries_digest),
        tokens.tokenise(collection.documents, tokenizer, collection.documents_digest),
        tokenizer, max_length, max_query,
    )  # fmt: skip


def pair_tokens(experiment: Experiment, collection: Collection) -> tokens.PairTokens | tokens.SeparateTokens:
    """The token stores of a collection as an experiment's model reads them."""
    return _layout(untrained(experiment), collection, experiment)


def _layout(
    ranker: Ranker, collection: Collection, experiment: Experiment
) -> tokens.PairTokens | tokens.SeparateTokens:
    return layout(ranker, collection, experiment.backbone, experiment.max_length, experiment.max_query)


def encode(
    ranker: LateRanker, found: tokens.SeparateTokens, model_key: str, collection: Collection, *,
    names: np.ndarray | None = None,
) -> VectorStore:  # fmt: skip
    """The vectors of a collection's documents (`names`; None: all), computed once.

    `model_key` names the model, as a run's key does.
    """
    whose = Identity(model_key, collection.fingerprint)
    chosen = None if names is None else [str(one) for one in names]
    name = store.key(model_key, collection.fingerprint, hardware.precision(), chosen)
    of = [f"runs/{model_key}"] if store.is_whole(_place("runs", model_key)) else []
    folder = store.keep("vectors", name, lambda into: scoring.encode(ranker, found, into, whose, names=names), of=of)
    return VectorStore(folder)


def training_groups(experiment: Experiment) -> Groups:
    """The groups of an experiment, with its teacher's scores where it has a teacher."""
    collection = collections.load(experiment.collection)
    find = bm25 if experiment.negatives is None else partial(nearest_documents, experiment.negatives)
    made = groups.build(collection, count=experiment.group_count, docs=experiment.docs, find=find)
    if experiment.teachers:
        found = [teacher_scores(one, made, collection, experiment.max_length) for one in experiment.teachers]
        made.targets[strategies.TEACHER] = np.mean(found, axis=0)  # of raw scores, as in 2010.02666
    return made


def nearest_documents(experiment: Experiment, collection: Collection, queries: list[str], depth: int) -> pd.DataFrame:
    """What a bi-encoder finds in the whole collection, exactly: columns query, document, score."""
    run = _run(experiment)

    def compute(folder: Path) -> None:
        ranker = model(experiment)
        read = _layout(ranker, collection, experiment)
        stored = encode(ranker, read, experiment.key, collection)
        index = nearest.build(stored, Identity(experiment.key, collection.fingerprint), "Flat")
        scores, rows = nearest.search(index, scoring.encode_queries(ranker, read, queries).values[:, 0], depth)
        measures.as_run(queries, stored.names, rows, scores).to_parquet(folder / "run.parquet")

    name = store.key(experiment.key, collection.fingerprint, queries, depth)
    return pd.read_parquet(store.keep("first_stage", name, compute, of=[f"runs/{run.name}"]) / "run.parquet")


def teacher_scores(
    teacher: Experiment | str, made: Groups, collection: Collection, max_length: int = 512
) -> np.ndarray:
    """A teacher's raw scores of groups, (groups, docs) float32: computed once, then read.

    A run of the kit, a cross-encoder (hub name or folder; pairs of `max_length` tokens), or a file of scores by ids.
    """
    of = [] if isinstance(teacher, str) else [f"runs/{_run(teacher).name}"]

    def compute(folder: Path) -> None:
        if isinstance(teacher, str) and score_files.is_file_name(teacher):
            found = score_files.scores_of(teacher, made.queries, made.documents)
        else:
            if isinstance(teacher, str):
                ranker = models.load(backbone.folder(teacher))
                pairs = layout(ranker, collection, teacher, max_length)
            else:
                ranker = model(teacher)
                pairs = _layout(ranker, collection, teacher)
            found = scoring.score(ranker, pairs, made.queries[:, None], made.documents, what="teacher scores")
        np.save(folder / "scores.npy", found)

    name = store.key(identity.of_teacher_scores(teacher, collection.fingerprint, made.key, max_length))
    return np.load(store.keep("teacher_scores", name, compute, of=of) / "scores.npy")


def evaluate(experiment: Experiment, test: TestSet, *, trained: bool = True) -> Path:
    """The folder with a run's scores and values on one test set; computed where it is missing.

    With `trained=False` those of the model that the run starts from.
    """
    needed = [experiment] if trained else [one for one in (experiment.start,) if one is not None]
    _train_missing(needed)

    def compute(folder: Path) -> None:
        collection, queries, run = test.candidates()
        ranker = model(experiment) if trained else untrained(experiment)
        pairs = _layout(ranker, collection, experiment)
        asked, given = run["query"].to_numpy(), run["document"].to_numpy()
        with hardware.Meter() as meter:
            run["score"] = scoring.score(ranker, pairs, asked, given, what=f"scoring {test.collection}")
        found = {"score_pairs_per_second": len(run) / meter.seconds, "score_peak_memory_gib": meter.peak_memory_gib}
        table = measures.measure(run, collection, test.split, queries)
        run.to_parquet(folder / "scores.parquet")
        _tidy(pd.concat([table, _costs_and_conditions(found)])).to_parquet(folder / "values.parquet")

    name = store.key(identity.of_evaluation(experiment, test, trained=trained))
    return store.keep("evaluations", name, compute, of=[f"runs/{one.key}" for one in needed])


def _evaluated(experiment: Experiment, test: TestSet, *, trained: bool = True) -> pd.DataFrame:
    """The values of `evaluate`, under the name that the test set's collection has here."""
    return pd.read_parquet(evaluate(experiment, test, trained=trained) / "values.parquet").assign(
        collection=test.collection
    )


def _costs_and_conditions(costs: dict[str, float]) -> pd.DataFrame:
    """Columns measure, value, text: costs by name with their unit, and under which conditions they were measured."""
    said = conditions()
    return pd.concat([
        pd.DataFrame({"measure": list(costs), "value": list(costs.values())}),
        pd.DataFrame({"measure": list(said), "text": list(said.values())}),
    ])  # fmt: skip


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
    return _trained(experiment)


def _train_missing(grid: Sequence[Experiment], tests: Sequence[TestSet] = ()) -> None:
    """Train every run of a grid, and every start and teacher, that is not in the store; first check all of them."""
    wanted = dict.fromkeys(one for experiment in grid for one in lineage(experiment))
    missing = [experiment for experiment in wanted if not store.is_whole(_place("runs", experiment.key))]
    checks.check(missing, tests)
    _each(missing, "training", describe, _training_work, _trained)


def _trained(experiment: Experiment) -> Path:
    return store.keep(
        "runs", experiment.key, lambda folder: _train(experiment, folder),
        of=[f"runs/{one.key}" for one in lineage(experiment)[:-1]],
        together=True,
    )  # fmt: skip


def _evaluate_missing(grid: list[Experiment], tests: list[TestSet]) -> None:
    missing = [
        (experiment, test) for experiment in grid for test in tests
        if not store.is_whole(_place("evaluations", store.key(identity.of_evaluation(experiment, test, trained=True))))
    ]  # fmt: skip

    def work(item: tuple[Experiment, TestSet]) -> float:
        return (item[1].queries or 1000) * item[1].depth * layer_count(item[0])

    _each(missing, "scoring", lambda item: f"{item[1].collection} with {describe(item[0])}", work,
          lambda item: evaluate(*item))  # fmt: skip


def _each(items: list, what: str, name: Callable, work: Callable, do: Callable) -> None:
    """Do one thing after another; one line for each says which, and how long the rest will take at the pace so far."""
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


def _train(experiment: Experiment, folder: Path | None) -> None:
    """Train one run and write it; without a folder (all processes of a launch but the main one) only train it."""
    made = training_groups(experiment)
    ranker = untrained(experiment)
    ranker.set_attention(hardware.attention(training=True))
    pairs = _layout(ranker, collections.load(experiment.collection), experiment)
    parameters = sum(parameter.numel() for parameter in ranker.parameters())
    if experiment.adapter is not None:
        adapters.attach(ranker, experiment.adapter, experiment.adapter_size, experiment.seed)
    trained = sum(parameter.numel() for parameter in ranker.parameters() if parameter.requires_grad)
    with hardware.Meter() as meter:
        steps = loop.train(
            Momentum(ranker, experiment.queue, experiment.momentum) if experiment.queue else ranker, made, pairs,
            strategies.named(experiment.strategy), learning_rate=experiment.learning_rate,
            batch_size=experiment.batch_size, epochs=experiment.epochs, warm_up=experiment.warm_up,
            seed=experiment.seed, chunk=experiment.chunk,
        )  # fmt: skip
    if experiment.adapter is not None:
        adapters.finish(ranker)
    if folder is None:
        return
    costs = {
        "train_seconds": meter.seconds, "train_pairs_per_second": steps["documents"].sum() / meter.seconds,
        "peak_memory_gib": meter.peak_memory_gib, "energy_joules": meter.energy_joules, "parameters": parameters,
        "trained_parameters": trained,
    }  # fmt: skip
    _tidy(_costs_and_conditions(costs)).to_parquet(folder / "costs.parquet")
    steps.to_parquet(folder / "history.parquet")
    changes.save(ranker, _built(experiment), _built(experiment, seed=experiment.seed + 1), folder / WEIGHTS)
    about = {"experiment": dataclasses.asdict(experiment), "identity": identity.of_run(experiment)}
    (folder / ABOUT).write_text(json.dumps(about, indent=1))


ABOUT = "experiment.json"  # the experiment, and the description that its key is a hash of
