"""Experiment: everything that decides a trained model, as literals; TestSet: what it is tried on.

Both are frozen dataclasses: a grid is a comprehension, a variant is `dataclasses.replace`. What a literal can say wrong
is refused here; what takes a look at files is refused by `lib.study.checks`, before anything is trained.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Union

import pandas as pd

from lib import models
from lib.data import collections, first_stage, groups
from lib.data.collections import Collection
from lib.machine import store
from lib.models import adapters, backbone
from lib.study import identity
from lib.training import strategies

# Whose scores are targets: another run of the kit, a cross-encoder (hub name or folder), a file of scores, or the mean
# of several of these.
Teacher = Union["Experiment", str, tuple[Union["Experiment", str], ...]]

WHOLE = ("seed", "max_length", "group_count", "docs", "batch_size", "epochs", "adapter_size", "queue")  # whole numbers


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a trained model, as literals. A variant is `dataclasses.replace`."""

    strategy: str
    teacher: Teacher | None = None  # whose scores are the targets of a distillation; several: their mean
    start: "Experiment | None" = None  # whose trained weights it starts from; None: the backbone's, with a new head
    seed: int = 0  # head, order of the batches, dropout; the groups are the same for every seed
    # model
    architecture: str = "cat"  # cat, dot, colbert, prettr or tk
    options: tuple[tuple[str, object], ...] = ()  # of the architecture, such as (("similarity", "cosine"),)
    backbone: str = backbone.MINILM
    layers: tuple[int, ...] | None = None  # which of the backbone's layers are kept; None: all
    max_length: int = 96  # tokens of a pair
    max_query: int | None = (
        64  # tokens of its query; None: the longer text of the two is cut, as sentence-transformers does
    )
    # data
    collection: str = "pydocs"
    group_count: int = 4000
    docs: int = 4  # documents a group: one positive, the rest hard negatives
    negatives: "Experiment | None" = None  # a bi-encoder that finds the hard negatives; None: BM25
    # training
    batch_size: int = 8  # groups a step
    epochs: int = 1
    learning_rate: float = 2e-4
    warm_up: float = 0.1  # share of the steps
    dropout: float = 0.0
    embeddings: bool = False  # whether the embedding table, half of a small model's parameters, is trained
    adapter: str | None = None  # "lora" or "prefix": only an adapter and new heads are trained
    adapter_size: int = 8  # rank of LoRA, or virtual tokens of the prefix
    # bi-encoders only
    chunk: int | None = None  # groups whose activations are in memory at a time (GradCache); None: the whole batch
    queue: int = 0  # earlier positives that serve as negatives (momentum contrast); 0: none
    momentum: float = 0.99  # how much of itself the copy that encodes the queue keeps a step

    def __post_init__(self) -> None:
        self._check_types()
        strategy = strategies.named(self.strategy)
        if strategy.needs_teacher and not self.teachers:
            raise ValueError(f"strategy={self.strategy!r} learns from a teacher's scores: give teacher=Experiment(...)")
        if self.teacher is not None and not strategy.needs_teacher:
            raise ValueError(f"strategy={self.strategy!r} takes no teacher")
        if not 2 <= self.docs <= groups.DEPTH:
            raise ValueError(f"docs={self.docs}: a group holds 2 to {groups.DEPTH} documents")
        if self.batch_size > self.group_count:
            raise ValueError(f"batch_size={self.batch_size}: more than group_count={self.group_count}")
        options = dict(self.options)
        models.check(self.architecture, options)
        cosine = options.get("similarity") == "cosine" and options.get("scale", 1) == 1
        if strategy.columns is not None and not (self.architecture == "dot" and cosine):
            raise ValueError(
                f"strategy={self.strategy!r} compares cosines of a whole batch: give architecture='dot' and "
                "options=(('similarity', 'cosine'),), without a scale"
            )
        self._check_batch(strategy)
        if self.adapter is not None:
            adapters.check(self.architecture, self.adapter, self.adapter_size)
        if self.negatives is not None and self.negatives.architecture != "dot":
            raise ValueError(f"negatives={describe(self.negatives)!r}: hard negatives come from a bi-encoder (dot)")
        if self.start is not None:
            self._check_start()

    def _check_types(self) -> None:
        """Refuse values that are of another kind than a field's, before anything compares them."""
        for name in WHOLE:
            value, least = getattr(self, name), 0 if name in ("seed", "queue") else 1
            if type(value) is not int or value < least:
                raise ValueError(f"{name}={value!r}: must be a whole number of at least {least}")
        for name in ("max_query", "chunk"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"{name}={value!r}: must be a whole number above 0, or None")
        for name in ("learning_rate", "warm_up", "dropout", "momentum"):
            value, share = getattr(self, name), name != "learning_rate"
            if (
                type(value) not in (int, float)
                or not math.isfinite(value)
                or not (0 <= value < 1 if share else value > 0)
            ):
                raise ValueError(f"{name}={value!r}: must be {'at least 0 and below 1' if share else 'above 0'}")
        if type(self.embeddings) is not bool:
            raise ValueError(f"embeddings={self.embeddings!r}: must be True or False")
        layers = () if self.layers is None else self.layers
        if type(layers) is not tuple or any(type(one) is not int or one < 0 for one in layers) or self.layers == ():
            raise ValueError(
                f"layers={self.layers!r}: give whole numbers from 0 on, such as (0, 2, 4), or None for all"
            )
        if len(set(layers)) < len(layers):
            raise ValueError(f"layers={self.layers}: a layer appears twice")
        pairs = isinstance(self.options, tuple) and all(
            isinstance(one, tuple) and len(one) == 2 for one in self.options
        )
        if not pairs or len(dict(self.options)) < len(self.options):
            raise ValueError(f"options={self.options!r}: give pairs of different names, such as (('dim', 64),)")
        for name, one in (("start", self.start), ("negatives", self.negatives)):
            if one is not None and not isinstance(one, Experiment):
                raise ValueError(f"{name}={one!r}: must be an Experiment or None")
        if self.teacher is not None and not (
            self.teachers and all(isinstance(one, Experiment | str) and one for one in self.teachers)
        ):
            raise ValueError(
                f"teacher={self.teacher!r}: give an Experiment, a model, a score file, or a tuple of these"
            )
        for name in ("strategy", "architecture", "backbone", "collection"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ValueError(f"{name}={getattr(self, name)!r}: must be a name")

    def _check_start(self) -> None:
        if _model(self.start) != _model(self):
            raise ValueError(f"start={describe(self.start)!r}: it must have the same architecture, backbone and layers")
        if self.adapter is not None and self.start.prefix:
            raise ValueError(f"start={describe(self.start)!r} has a prefix already: give adapter=None")

    def _check_batch(self, strategy: strategies.Strategy) -> None:
        """Refuse a chunk or a queue that the architecture or the strategy cannot use."""
        for name, value in (("chunk", self.chunk), ("queue", self.queue or None)):
            if value is not None and self.architecture != "dot":
                raise ValueError(f"{name}={value}: architecture={self.architecture!r}; only bi-encoders (dot) have it")
        if self.queue and self.chunk:
            raise ValueError(f"queue={self.queue}, chunk={self.chunk}: give one of them")
        if self.queue and (strategy.paradigm != "contrastive" or strategy.columns is not None):
            raise ValueError(
                f"queue={self.queue}: strategy={self.strategy!r}; a queue has no teacher's scores and no group of its "
                "own: give a contrastive strategy such as 'info_nce'"
            )

    @property
    def size(self) -> str:
        """How many layers, in words."""
        return f"{layer_count(self)} layers"

    @property
    def teachers(self) -> tuple["Experiment | str", ...]:
        """Whose scores are averaged; empty without a teacher."""
        if self.teacher is None:
            return ()
        return self.teacher if isinstance(self.teacher, tuple) else (self.teacher,)

    @property
    def prefix(self) -> int:
        """How many virtual tokens stand before every layer's own, from this run or from its start; 0 without any."""
        if self.adapter == "prefix":
            return self.adapter_size
        return self.start.prefix if self.start is not None else 0

    @property
    def key(self) -> str:
        """The run's folder name: see `lib.study.identity`."""
        return store.key(identity.of_run(self))

    @property
    def configuration(self) -> str:
        """As `key`, whatever the seed of the run and of its start: runs that share it differ in nothing else."""
        return without_seed(self).key


@dataclass(frozen=True)
class TestSet:
    """Queries whose BM25 candidates are re-ranked."""

    __test__ = False  # pytest: this is no test

    collection: str = "pydocs"
    split: str = "test"
    queries: int | None = 300  # the first ones of the split; None: all
    depth: int = 20  # candidates per query

    def __post_init__(self) -> None:
        for name in ("queries", "depth"):
            value = getattr(self, name)
            if not (value is None and name == "queries") and (type(value) is not int or value < 1):
                raise ValueError(
                    f"{name}={value!r}: must be a whole number above 0{', or None for all' * (name == 'queries')}"
                )
        for name in ("collection", "split"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ValueError(f"{name}={getattr(self, name)!r}: must be a name")

    def candidates(self) -> tuple[Collection, list[str], pd.DataFrame]:
        """Collection, query ids, and candidates: columns query, document, rank, first_stage, grade."""
        collection = collections.load(self.collection)
        queries = collection.split(self.split, self.queries)
        run = first_stage.bm25(collection, queries, self.depth).rename(columns={"score": "first_stage"})
        grade = collection.judgements[self.split].set_index(["query", "document"])["grade"]
        found = grade.reindex(pd.MultiIndex.from_frame(run[["query", "document"]])).fillna(0)
        return collection, queries, run.assign(grade=found.astype(int).to_numpy())


def without_seed(experiment: Experiment) -> Experiment:
    """A run with seed 0, and so its start, which follows the run's seed."""
    start = experiment.start and without_seed(experiment.start)
    return replace(experiment, seed=0, start=start)


def describe(experiment: Experiment) -> str:
    """One line for people."""
    taught = {0: "", 1: " from a teacher"}.get(len(experiment.teachers), f" from {len(experiment.teachers)} teachers")
    if len(experiment.teachers) == 1 and isinstance(experiment.teacher, Experiment):
        taught = f" from {experiment.teacher.size}"
    text = ", cropped queries" if experiment.collection.startswith("cropped:") else ""
    return f"{experiment.architecture} {experiment.strategy}{taught}, {experiment.size}, seed {experiment.seed}{text}"


def ranker_names(runs: Sequence[Experiment]) -> list[str]:
    """A name for each run, which runs share exactly if they differ in nothing but the seed.

    It is the strategy; where runs of one strategy differ in more, what they differ in follows in brackets.
    """
    alike: dict[str, dict[str, Experiment]] = {}
    for run in runs:
        alike.setdefault(run.strategy, {}).setdefault(run.configuration, without_seed(run))
    names = {}
    for strategy, found in alike.items():
        settings = {configuration: _settings(run) for configuration, run in found.items()}
        differing = [
            name for name in next(iter(settings.values())) if len({one[name] for one in settings.values()}) > 1
        ]
        for configuration, values in settings.items():
            told = ", ".join(f"{name}={values[name]}" for name in differing)
            names[configuration] = f"{strategy} [{told}]" if told else strategy
    if len(set(names.values())) < len(names):  # equal literals over inputs that changed in between
        names = {configuration: f"{name} [{configuration}]" for configuration, name in names.items()}
    return [names[run.configuration] for run in runs]


def _settings(run: Experiment) -> dict[str, str]:
    """Field -> its value as text; another run, whose text may hide what differs, by its key."""

    def told(value: object) -> str:
        if isinstance(value, Experiment):
            return f"{describe(value)} ({value.key[:6]})"
        return " and ".join(told(one) for one in value) if isinstance(value, tuple) else str(value)

    return {field.name: told(getattr(run, field.name)) for field in dataclasses.fields(run)}


def lineage(experiment: Experiment) -> list[Experiment]:
    """Every run that an experiment needs, in an order in which they can be trained; itself last."""
    parents = (experiment.start, experiment.negatives, *experiment.teachers)
    needed = [one for one in parents if isinstance(one, Experiment)]
    return [one for parent in needed for one in lineage(parent)] + [experiment]


def layer_count(experiment: Experiment) -> int:
    """How many transformer layers the model has."""
    if experiment.architecture == "tk":
        return dict(experiment.options).get("depth", 2)
    return backbone.layer_count(experiment.backbone) if experiment.layers is None else len(experiment.layers)


def _model(experiment: Experiment) -> tuple:
    return experiment.architecture, dict(experiment.options), experiment.backbone, experiment.layers
