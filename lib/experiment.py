"""Experiment: everything that decides a trained model, as literals; TestSet: what it is tried on.

Both are frozen dataclasses: a grid is a comprehension, a variant is `dataclasses.replace`.
"""

import dataclasses
from dataclasses import dataclass

import pandas as pd

from lib import collections, retrieval, store, strategies
from lib.collections import Collection
from lib.models import backbone

RECIPE = 1  # goes into every run's name: raise it when a change of the code changes a run's numbers


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a trained model, as literals. A variant is `dataclasses.replace`."""

    strategy: str
    teacher: "Experiment | None" = None  # whose scores are the targets of a distillation
    start: "Experiment | None" = None  # whose trained weights it starts from; None: the backbone's, with a new head
    seed: int = 0  # head, order of the batches, dropout; the groups are the same for every seed
    # model
    backbone: str = backbone.MINILM
    layers: tuple[int, ...] | None = None  # which of the backbone's layers are kept; None: all
    max_length: int = 96  # tokens of a pair
    # data
    collection: str = "pydocs"
    group_count: int = 4000
    docs: int = 4  # documents a group: one positive, the rest hard negatives from BM25
    # training
    batch_size: int = 8  # groups a step
    epochs: int = 1
    learning_rate: float = 2e-4
    warm_up: float = 0.1  # share of the steps
    dropout: float = 0.0
    embeddings: bool = False  # whether the embedding table, half of a small model's parameters, is trained

    def __post_init__(self) -> None:
        strategy = strategies.named(self.strategy)
        if strategy.needs_teacher and self.teacher is None:
            raise ValueError(f"strategy={self.strategy!r} learns from a teacher's scores: give teacher=Experiment(...)")
        if self.teacher is not None and not strategy.needs_teacher:
            raise ValueError(f"strategy={self.strategy!r} takes no teacher")
        for name in ("group_count", "batch_size", "epochs", "learning_rate", "max_length"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be above 0")
        for name in ("warm_up", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be at least 0 and below 1")
        if self.start is not None and (self.start.backbone, self.start.layers) != (self.backbone, self.layers):
            raise ValueError(f"start={describe(self.start)!r}: it must have the same backbone and layers")
        if self.batch_size > self.group_count:
            raise ValueError(f"batch_size={self.batch_size}: more than group_count={self.group_count}")

    @property
    def size(self) -> str:
        """How many layers, in words."""
        return f"{layer_count(self)} layers"

    @property
    def key(self) -> str:
        """The run's folder name."""
        texts = [collections.load(one.collection).fingerprint for one in lineage(self)]  # a teacher's may be another
        weights = [backbone.fingerprint(one.backbone) for one in lineage(self)]
        return store.key(RECIPE, dataclasses.asdict(self), texts, weights)


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
    taught = f" from {experiment.teacher.size}" if experiment.teacher else ""
    text = ", cropped queries" if experiment.collection.startswith("cropped:") else ""
    return f"{experiment.strategy}{taught}, {experiment.size}, seed {experiment.seed}{text}"


def lineage(experiment: Experiment) -> list[Experiment]:
    """Every run that an experiment needs, in an order in which they can be trained; itself last."""
    needed = [parent for parent in (experiment.start, experiment.teacher) if parent is not None]
    return [one for parent in needed for one in lineage(parent)] + [experiment]


def layer_count(experiment: Experiment) -> int:
    """How many transformer layers the model has."""
    return backbone.layer_count(experiment.backbone) if experiment.layers is None else len(experiment.layers)
