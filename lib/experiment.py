"""Experiment: everything that decides a trained model, as literals; TestSet: what it is tried on.

Both are frozen dataclasses: a grid is a comprehension, a variant is `dataclasses.replace`.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Union

import pandas as pd

from lib import collections, models, retrieval, score_files, store, strategies
from lib.collections import Collection
from lib.models import adapters, backbone

# Whose scores are targets: another run of the kit, a cross-encoder (hub name or folder), a file of scores, or the mean
# of several of these.
Teacher = Union["Experiment", str, tuple[Union["Experiment", str], ...]]

RECIPE = 3  # goes into every run's name: raise it when a change of the code changes a run's numbers


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
        strategy = strategies.named(self.strategy)
        if strategy.needs_teacher and self.teacher is None:
            raise ValueError(f"strategy={self.strategy!r} learns from a teacher's scores: give teacher=Experiment(...)")
        if self.teacher is not None and not strategy.needs_teacher:
            raise ValueError(f"strategy={self.strategy!r} takes no teacher")
        for name in ("group_count", "batch_size", "epochs", "learning_rate", "max_length"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be above 0")
        for name in ("warm_up", "dropout", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be at least 0 and below 1")
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
        if self.start is not None and _model(self.start) != _model(self):
            raise ValueError(f"start={describe(self.start)!r}: it must have the same architecture, backbone and layers")
        if self.batch_size > self.group_count:
            raise ValueError(f"batch_size={self.batch_size}: more than group_count={self.group_count}")

    def _check_batch(self, strategy: strategies.Strategy) -> None:
        """Refuse a chunk or a queue that the architecture or the strategy cannot use."""
        for name, value in (("chunk", self.chunk), ("queue", self.queue or None)):
            if value is None:
                continue
            if self.architecture != "dot":
                raise ValueError(f"{name}={value}: architecture={self.architecture!r}; only bi-encoders (dot) have it")
            if value < 1:
                raise ValueError(f"{name}={value}: must be above 0")
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
    def key(self) -> str:
        """The run's folder name."""
        runs = lineage(self)
        texts = [collections.load(one.collection).fingerprint for one in runs]  # a teacher's may be another
        weights = [backbone.fingerprint(one.backbone) for one in runs]
        files = [fingerprint(one) for run in runs for one in run.teachers if isinstance(one, str)]
        return store.key(RECIPE, dataclasses.asdict(self), texts, weights, files)


@dataclass(frozen=True)
class TestSet:
    """Queries whose BM25 candidates are re-ranked."""

    __test__ = False  # pytest: this is no test

    collection: str = "pydocs"
    split: str = "test"
    queries: int | None = 300  # the first ones of the split; None: all
    depth: int = 20  # candidates a query

    def candidates(self) -> tuple[Collection, list[str], pd.DataFrame]:
        """Collection, query ids, and candidates: columns query, document, rank, first_stage, grade."""
        collection = collections.load(self.collection)
        queries = collection.split(self.split, self.queries)
        run = retrieval.bm25(collection, queries, self.depth).rename(columns={"score": "first_stage"})
        grade = collection.judgements[self.split].set_index(["query", "document"])["grade"]
        found = grade.reindex(pd.MultiIndex.from_frame(run[["query", "document"]])).fillna(0)
        return collection, queries, run.assign(grade=found.astype(int).to_numpy())


def describe(experiment: Experiment) -> str:
    """One line for people."""
    taught = {0: "", 1: " from a teacher"}.get(len(experiment.teachers), f" from {len(experiment.teachers)} teachers")
    if len(experiment.teachers) == 1 and isinstance(experiment.teacher, Experiment):
        taught = f" from {experiment.teacher.size}"
    text = ", cropped queries" if experiment.collection.startswith("cropped:") else ""
    return f"{experiment.architecture} {experiment.strategy}{taught}, {experiment.size}, seed {experiment.seed}{text}"


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


def fingerprint(teacher: str) -> str:
    """Hash of a teacher that is no run of the kit: a score file's content or a model's weights."""
    return score_files.fingerprint(teacher) if is_score_file(teacher) else backbone.fingerprint(teacher)


def is_score_file(teacher: str) -> bool:
    """Whether a teacher's name is a file of scores; else it is a model's folder or its name on the hub."""
    return Path(teacher).is_file()


def _model(experiment: Experiment) -> tuple:
    return experiment.architecture, dict(experiment.options), experiment.backbone, experiment.layers
