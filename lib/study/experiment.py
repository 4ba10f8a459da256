"""Experiment: everything that decides a trained model, as literals; TestSet: the queries on which it is evaluated.

All are frozen dataclasses: a grid is a comprehension, a variant is `vary(run, seed=1, learning_rate=1e-4)`. A literal
that is impossible is refused here; what needs a look at files is refused by `lib.study.checks`, before any training.
"""

import dataclasses
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Union

import pandas as pd

from lib import models
from lib.data import collections, first_stage, groups
from lib.data.collections import Collection
from lib.machine import store
from lib.machine.literals import check_name, check_whole, is_literal
from lib.models import adapters, backbone
from lib.study import identity
from lib.training import strategies
from lib.training.settings import Training
from lib.training.strategies import Strategy

# Whose scores are targets: another run of the kit, an untrained model of it, a cross-encoder (hub name or folder), a
# file of scores, or the mean of several of these.
Teacher = Union["Experiment", "Untrained", str]


@dataclass(frozen=True)
class Data:
    """What a run is trained on: the groups are the same for every seed."""

    collection: str = "pydocs"
    group_count: int = 4000
    docs: int = 4  # documents per group: one positive, the rest hard negatives
    negatives: "Experiment | Untrained | None" = None  # a bi-encoder that finds the hard negatives; None: BM25

    def __post_init__(self) -> None:
        check_name(self, "collection")
        check_whole(self, "group_count", "docs")
        if not 2 <= self.docs <= groups.DEPTH:
            raise ValueError(f"docs={self.docs}: a group holds 2 to {groups.DEPTH} documents")
        if self.negatives is not None and not isinstance(self.negatives, Experiment | Untrained):
            raise ValueError(f"negatives={self.negatives!r}: give an Experiment, an Untrained model or None")
        if self.negatives is not None and self.negatives.model.architecture != "dot":
            raise ValueError(f"negatives={describe(self.negatives)!r}: hard negatives come from a bi-encoder (dot)")


@dataclass(frozen=True)
class Model:
    """A ranker before any training."""

    architecture: str = "cat"  # cat, dot, colbert, prettr or tk
    options: tuple[tuple[str, object], ...] = ()  # of the architecture, such as (("similarity", "cosine"),)
    backbone: str = backbone.MINILM
    layers: tuple[int, ...] | None = None  # which of the backbone's layers are kept; None: all
    max_length: int = 96  # tokens of a pair
    max_query: int | None = 64  # of its query; None: the longer text is cut, as in sentence-transformers

    def __post_init__(self) -> None:
        check_name(self, "architecture", "backbone")
        check_whole(self, "max_length")
        check_whole(self, "max_query", none=True)
        layers = self.layers
        if layers is not None and (
            type(layers) is not tuple or not layers or any(type(layer) is not int or layer < 0 for layer in layers)
        ):
            raise ValueError(f"layers={layers!r}: give whole numbers from 0 on, such as (0, 2, 4), or None for all")
        if layers is not None and len(set(layers)) < len(layers):
            raise ValueError(f"layers={layers}: a layer appears twice")
        pairs = is_literal(self.options) and all(isinstance(p, tuple) and len(p) == 2 for p in self.options or ())
        if not pairs or self.options is None or len(dict(self.options)) < len(self.options):
            raise ValueError(
                f"options={self.options!r}: give pairs of different names and literals, such as (('dim', 64),)"
            )
        models.check(self.architecture, dict(self.options))

    @property
    def layer_count(self) -> int:
        """How many transformer layers it has."""
        if self.architecture == "tk":
            return dict(self.options).get("depth", 2)
        return backbone.layer_count(self.backbone) if self.layers is None else len(self.layers)

    @property
    def gives_cosines(self) -> bool:
        """Whether its scores are cosines, which margins of document similarities are compared with."""
        options = dict(self.options)
        return self.architecture == "dot" and options.get("similarity") == "cosine" and options.get("scale", 1) == 1


@dataclass(frozen=True)
class Untrained:
    """A model that is evaluated without any training: the start of a run, or a zero-shot baseline."""

    model: Model = Model()
    seed: int = 0  # of new weights, such as a cross-encoder's head

    def __post_init__(self) -> None:
        if not isinstance(self.model, Model):
            raise ValueError(f"model={reprlib.repr(self.model)}: give a Model")
        check_whole(self, "seed", least=0)

    @property
    def key(self) -> str:
        """A name for everything that decides its scores: see `lib.study.identity`."""
        return store.key(identity.of_untrained(self))


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a trained model: `Experiment("kl", teacher=run, data=Data(docs=8), seed=1)`.

    Raises:
        ValueError: a value, or a combination of them, is impossible; it names the field and what to give instead.
    """

    strategy: Strategy | str  # a name of lib.training.strategies stands for its strategy
    teacher: Teacher | tuple[Teacher, ...] | None = None  # whose scores are a distillation's targets, or their mean
    start: "Experiment | None" = None  # whose trained weights it starts from; None: the backbone's, with a new head
    data: Data = Data()
    model: Model = Model()
    training: Training = Training()  # noqa: RUF009, it is frozen
    seed: int = 0  # of the head, the order of the batches and dropout

    def __post_init__(self) -> None:
        if isinstance(self.strategy, str):
            object.__setattr__(self, "strategy", strategies.named(self.strategy))
        for name, kind in (("strategy", Strategy), ("data", Data), ("model", Model), ("training", Training)):
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"{name}={getattr(self, name)!r}: give a {kind.__name__}")
        check_whole(self, "seed", least=0)
        self._check_teacher()
        if self.training.batch_size > self.data.group_count:
            raise ValueError(f"batch_size={self.training.batch_size}: more than group_count={self.data.group_count}")
        if self.strategy.columns is not None and not self.model.gives_cosines:
            raise ValueError(
                f"strategy={self.strategy.name!r} compares cosines of a whole batch: give architecture='dot' and "
                "options=(('similarity', 'cosine'),), without a scale"
            )
        self._check_training()
        self._check_start()

    def _check_teacher(self) -> None:
        teachers, name = self.teachers, self.strategy.name
        if self.teacher is not None and not (
            teachers and all(isinstance(teacher, Experiment | Untrained | str) and teacher for teacher in teachers)
        ):
            raise ValueError(
                f"teacher={reprlib.repr(self.teacher)}: give an Experiment, an Untrained model, the name of a model, a "
                "score file, or a tuple of these"
            )
        if self.strategy.needs_teacher and not teachers:
            raise ValueError(f"strategy={name!r} learns from a teacher's scores: give teacher=Experiment(...)")
        if teachers and not self.strategy.needs_teacher:
            raise ValueError(f"strategy={name!r} takes no teacher")

    def _check_training(self) -> None:
        architecture, batching = self.model.architecture, self.training.batching
        if batching is not None and architecture != "dot":
            raise ValueError(f"batching={batching}: architecture={architecture!r}; only bi-encoders (dot) have it")
        if batching is not None and self.training.chunk is None and (
            self.strategy.needs_teacher or self.strategy.columns is not None
        ):  # fmt: skip
            raise ValueError(
                f"batching={batching}: strategy={self.strategy.name!r}; a queue has no teacher's scores and no group "
                "of its own: give a contrastive strategy such as 'info_nce'"
            )
        if self.training.adapter is not None:
            adapters.check(architecture, self.training.adapter.kind)

    def _check_start(self) -> None:
        if self.start is None:
            return
        if not isinstance(self.start, Experiment):
            raise ValueError(f"start={self.start!r}: give an Experiment or None")
        if _shape(self.start.model) != _shape(self.model):
            raise ValueError(f"start={describe(self.start)!r}: it must have the same architecture, backbone and layers")
        if self.training.adapter is not None and self.start.prefix:
            raise ValueError(f"start={describe(self.start)!r} has a prefix already: give adapter=None")

    @property
    def teachers(self) -> tuple[Teacher, ...]:
        """Whose scores are averaged; empty without a teacher."""
        if self.teacher is None:
            return ()
        return self.teacher if isinstance(self.teacher, tuple) else (self.teacher,)

    @property
    def before(self) -> "Experiment | Untrained":
        """What the run starts from."""
        return self.start or Untrained(self.model, self.seed)

    @property
    def prefix(self) -> int:
        """How many virtual tokens precede every layer's own, from this run or from its start; 0 without any."""
        adapter = self.training.adapter
        if adapter is not None and adapter.kind == "prefix":
            return adapter.size
        return self.start.prefix if self.start is not None else 0

    @property
    def key(self) -> str:
        """The run's folder name: see `lib.study.identity`."""
        return store.key(identity.of_run(self))

    @property
    def configuration(self) -> str:
        """As `key`, whatever the seed of the run and of its start: runs that share it differ in nothing else."""
        return with_seed(self, 0).key


@dataclass(frozen=True)
class TestSet:
    """Queries whose BM25 candidates are re-ranked."""

    __test__ = False  # pytest: this is no test

    collection: str = "pydocs"
    split: str = "test"
    queries: int | None = 300  # the first ones of the split; None: all
    depth: int = 20  # candidates per query

    def __post_init__(self) -> None:
        check_whole(self, "queries", none=True)
        check_whole(self, "depth")
        check_name(self, "collection", "split")

    def candidates(self) -> tuple[Collection, list[str], pd.DataFrame]:
        """Collection, query ids, and candidates: columns query, document, rank, first_stage, grade."""
        collection = collections.load(self.collection)
        queries = collection.split(self.split, self.queries)
        ranking = first_stage.bm25(collection, queries, self.depth).rename(columns={"score": "first_stage"})
        grades = collection.judgements[self.split].set_index(["query", "document"])["grade"]
        grades = grades.reindex(pd.MultiIndex.from_frame(ranking[["query", "document"]])).fillna(0)
        return collection, queries, ranking.assign(grade=grades.astype(int).to_numpy())


PARTS = {"data": Data, "model": Model, "training": Training}


def vary(run: Experiment, **changes: object) -> Experiment:
    """A run with other values, whichever part they belong to: `vary(run, seed=1, layers=(0, 1), learning_rate=1e-4)`.

    Raises:
        TypeError: an experiment has no such field.
        ValueError: as `Experiment`.
    """
    own = {name: changes.pop(name) for name in [f.name for f in dataclasses.fields(run)] if name in changes}
    for part, kind in [(part, kind) for part, kind in PARTS.items() if hasattr(run, part)]:
        inner = {name: changes.pop(name) for name in [f.name for f in dataclasses.fields(kind)] if name in changes}
        if inner and isinstance(own.setdefault(part, getattr(run, part)), kind):  # else Experiment refuses it
            own[part] = replace(own[part], **inner)
    if changes:
        raise TypeError(f"an experiment has no field {', '.join(changes)}; it has {', '.join(dict(fields(run)))}")
    return replace(run, **own)


def with_seed(run: Experiment, seed: int) -> Experiment:
    """A run, and its start, with another seed."""
    return replace(run, seed=seed, start=run.start and with_seed(run.start, seed))


def fields(run: Experiment) -> Iterator[tuple[str, object]]:
    """(name, value) of every field of a run and of its parts."""
    for field in dataclasses.fields(run):
        value = getattr(run, field.name)
        if field.name in PARTS:
            yield from ((inner.name, getattr(value, inner.name)) for inner in dataclasses.fields(value))
        else:
            yield field.name, value


def lineage(run: Experiment) -> list[Experiment]:
    """Every run that an experiment needs, in an order in which they can be trained; itself last."""
    parents = (run.start, run.data.negatives, *run.teachers)
    needed = [parent for parent in parents if isinstance(parent, Experiment)]
    return [ancestor for parent in needed for ancestor in lineage(parent)] + [run]


def describe(run: Experiment | Untrained) -> str:
    """One line for people."""
    about = f"{run.model.layer_count} layers, seed {run.seed}"
    if isinstance(run, Untrained):
        return f"{run.model.architecture}, untrained, {about}"
    source = {0: "", 1: " from a teacher"}.get(len(run.teachers), f" from {len(run.teachers)} teachers")
    if isinstance(run.teacher, Experiment | Untrained):
        source = f" from {run.teacher.model.layer_count} layers"
    text = ", cropped queries" if run.data.collection.startswith("cropped:") else ""
    return f"{run.model.architecture} {run.strategy.name}{source}, {about}{text}"


def _shape(model: Model) -> tuple:
    return model.architecture, dict(model.options), model.backbone, model.layers
