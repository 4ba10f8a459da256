"""Experiment: everything that decides a trained model, as literals; TestSet: the queries on which it is evaluated.

All are frozen dataclasses: a grid is a comprehension, a variant is `vary(run, seed=1, learning_rate=1e-4)`. A literal
that is impossible is refused here (ValueError); what needs a look at files, by `lib.study.checks` before any training.
"""

import dataclasses
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Union

import pandas as pd

from lib import models
from lib.data import collections, first_stage, groups, trec_runs
from lib.data.collections import Collection
from lib.machine import store
from lib.machine.literals import check_name, check_whole, is_literal
from lib.models import adapters, backbone
from lib.study import identity
from lib.training import strategies
from lib.training.settings import Queue, Training
from lib.training.strategies import Strategy

# Whose scores are targets: another run of the kit, an untrained model of it, a cross-encoder (a name of
# lib.models.packaged or of the hub, or a folder), a file of scores, or the mean of several of these.
Teacher = Union["Experiment", "Untrained", str]
JUDGEMENTS = "judgements"  # where hard negatives come from


@dataclass(frozen=True)
class Data:
    """What a run is trained on: the groups are the same for every seed."""

    collection: str = "pydocs"
    group_count: int = 4000
    docs: int = 4  # documents per group: one positive, the rest hard negatives
    # What finds the hard negatives: a bi-encoder; "judgements": those of grade 0; None: BM25.
    negatives: "Experiment | Untrained | str | None" = None

    def __post_init__(self) -> None:
        check_name(self, "collection")
        check_whole(self, "group_count", "docs")
        if not 2 <= self.docs <= groups.DEPTH:
            raise ValueError(f"docs={self.docs}: a group holds 2 to {groups.DEPTH} documents")
        if self.negatives in (None, JUDGEMENTS):
            return
        if not isinstance(self.negatives, Experiment | Untrained):
            what = f"give an Experiment, an Untrained model, {JUDGEMENTS!r} or None"
            raise ValueError(f"negatives={self.negatives!r}: {what}")
        if self.negatives.model.architecture != "dot":
            raise ValueError(f"negatives={describe(self.negatives)!r}: hard negatives come from a bi-encoder (dot)")


@dataclass(frozen=True)
class Model:
    """A ranker before any training."""

    architecture: str = "cat"  # cat, dot, colbert, prettr or tk
    options: tuple[tuple[str, object], ...] = ()  # of the architecture, such as (("similarity", "cosine"),)
    backbone: str = backbone.MINILM  # or another name of lib.models.packaged, a hub model, or a folder
    layers: tuple[int, ...] | None = None  # which of the backbone's layers are kept; None: all
    max_length: int = 96  # tokens of a pair
    max_query: int | None = 64  # of its query; None: the longer text is cut, as in sentence-transformers

    def __post_init__(self) -> None:
        check_name(self, "architecture", "backbone")
        check_whole(self, "max_length")
        check_whole(self, "max_query", none=True)
        layers, options = self.layers, self.options
        if layers is not None:
            if type(layers) is not tuple or not layers or any(type(one) is not int or one < 0 for one in layers):
                raise ValueError(f"{layers=}: give whole numbers from 0 on, such as (0, 2, 4), or None for all")
            if len(set(layers)) < len(layers):
                raise ValueError(f"{layers=}: a layer appears twice")
        pairs = type(options) is tuple and all(type(one) is tuple and len(one) == 2 for one in options)
        if not pairs or not is_literal(options) or len(dict(options)) < len(options):
            raise ValueError(f"{options=}: give pairs of different names and literals, such as (('dim', 64),)")
        models.check(self.architecture, dict(options))

    @property
    def layer_count(self) -> int:
        """How many transformer layers it has."""
        if self.architecture == "tk":
            return dict(self.options).get("depth", 2)
        return backbone.layer_count(self.backbone) if self.layers is None else len(self.layers)


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
    """Everything that decides a trained model: `Experiment("kl", teacher=run, data=Data(docs=8), seed=1)`."""

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
        self._check_training()
        if self.start is not None:
            self._check_start()

    def _check_teacher(self) -> None:
        known = all(isinstance(teacher, Experiment | Untrained | str) and teacher for teacher in self.teachers)
        if not known or self.teacher == ():
            raise ValueError(f"teacher={reprlib.repr(self.teacher)}: give an Experiment, an Untrained model, "
                             "the name of a model, a score file, or a tuple of these")  # fmt: skip
        strategy = self.strategy.name
        if self.strategy.needs_teacher and not self.teachers:
            raise ValueError(f"{strategy=} learns from a teacher's scores: give teacher=Experiment(...)")
        if self.teachers and not self.strategy.needs_teacher:
            raise ValueError(f"{strategy=} takes no teacher")

    def _check_training(self) -> None:
        strategy, architecture, options = self.strategy.name, self.model.architecture, dict(self.model.options)
        batch_size, batching, adapter = self.training.batch_size, self.training.batching, self.training.adapter
        if batch_size > self.data.group_count:
            raise ValueError(f"{batch_size=}: more than group_count={self.data.group_count}")
        cosines = architecture == "dot" and options.get("similarity") == "cosine" and options.get("scale", 1) == 1
        if self.strategy.columns is not None and not cosines:
            raise ValueError(f"{strategy=} compares cosines of a whole batch: give architecture='dot' and "
                             "options=(('similarity', 'cosine'),), without a scale")  # fmt: skip
        if self.training.gradient_checkpointing and architecture == "tk":
            raise ValueError(
                "gradient_checkpointing=True: architecture='tk' has no layers of a transformer; give False"
            )
        if batching is not None and architecture != "dot":
            raise ValueError(f"{batching=}: {architecture=}; only bi-encoders (dot) have it")
        if isinstance(batching, Queue) and (self.strategy.needs_teacher or self.strategy.columns is not None):
            raise ValueError(f"{batching=}: {strategy=}; a queue has no teacher's scores and no group of its own: "
                             "give a contrastive strategy such as 'info_nce'")  # fmt: skip
        if adapter is not None:
            adapters.check(architecture, adapter.kind)

    def _check_start(self) -> None:
        if not isinstance(self.start, Experiment):
            raise ValueError(f"start={self.start!r}: give an Experiment or None")
        shapes = [(one.architecture, dict(one.options), one.backbone, one.layers)
                   for one in (self.start.model, self.model)]  # fmt: skip
        if shapes[0] != shapes[1]:
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


@dataclass(frozen=True)
class TestSet:
    """Queries whose candidates are re-ranked: those of BM25, or those of a stored TREC run."""

    __test__ = False  # pytest: this is no test

    collection: str = "pydocs"
    split: str = "test"
    queries: int | None = 300  # the first ones of the split; None: all
    depth: int = 20  # candidates per query
    run: str = ""  # a TREC run: a path, or a file of the collection's `runs/`; "": the kit's own BM25

    def __post_init__(self) -> None:
        check_whole(self, "queries", none=True)
        check_whole(self, "depth")
        check_name(self, "collection", "split")
        if not isinstance(self.run, str):
            raise ValueError(f"run={self.run!r}: give the name of a TREC run, or '' for BM25")

    @classmethod
    def of(cls, text: str, depth: int = 100) -> "TestSet":
        """A test set of all queries from 'collection', 'collection | split' or 'collection | split | run'."""
        parts = [part.strip() for part in text.split("|")]
        if not 1 <= len(parts) <= 3 or not all(parts):
            raise ValueError(f"{text!r}: give 'collection', 'collection | split' or 'collection | split | run'")
        collection, split, run = (*parts, *("test", "")[len(parts) - 1 :])
        return cls(collection, split, None, depth, run)

    @property
    def ranked_by(self) -> str:
        """The name of the first stage: "bm25", or that of the stored run's file without its ending."""
        return Path(self.run).name.removesuffix(".gz").removesuffix(".trec") or "bm25"

    def candidates(self) -> tuple[Collection, list[str], pd.DataFrame]:
        """Collection, query ids, and candidates: columns query, document, rank, first_stage, grade."""
        collection = collections.load(self.collection)
        queries = collection.split(self.split, self.queries)
        if self.run:
            path = collections.stored_run(self.collection, self.run)
            ranking = trec_runs.read(path, collection, queries, self.depth)
        else:
            ranking = first_stage.bm25(collection, queries, self.depth)
        ranking = ranking.rename(columns={"score": "first_stage"}).merge(
            collection.judgements[self.split], "left", ["query", "document"]
        )
        return collection, queries, ranking.assign(grade=ranking["grade"].fillna(0).astype(int))


Run = Experiment | Untrained  # what can be scored
PARTS = {"data": Data, "model": Model, "training": Training}


def vary(run: Experiment, **changes: object) -> Experiment:
    """A run with other values, whichever part they belong to, as in `vary(run, seed=1, layers=(0, 1))`."""
    own = {field.name: changes.pop(field.name) for field in dataclasses.fields(run) if field.name in changes}
    for part, kind in [(part, kind) for part, kind in PARTS.items() if hasattr(run, part)]:
        inner = {field.name: changes.pop(field.name) for field in dataclasses.fields(kind) if field.name in changes}
        if inner and isinstance(own.setdefault(part, getattr(run, part)), kind):  # else Experiment refuses it
            own[part] = replace(own[part], **inner)
    if changes:
        raise TypeError(f"an experiment has no field {', '.join(changes)}; it has {', '.join(dict(fields(run)))}")
    return replace(run, **own)


def with_seed(run: Run, seed: int) -> Run:
    """A run, and its start, with another seed."""
    start = {"start": with_seed(run.start, seed)} if isinstance(run, Experiment) and run.start else {}
    return replace(run, seed=seed, **start)


def fields(run: Run | Data | Model | Training) -> Iterator[tuple[str, object]]:
    """(name, value) of every field of a run and of its parts."""
    for field in dataclasses.fields(run):
        value = getattr(run, field.name)
        yield from fields(value) if field.name in PARTS else [(field.name, value)]


def lineage(run: Experiment) -> list[Experiment]:
    """Every run that an experiment needs, in an order in which they can be trained; itself last."""
    parents = (run.start, run.data.negatives, *run.teachers)
    needed = [parent for parent in parents if isinstance(parent, Experiment)]
    return [ancestor for parent in needed for ancestor in lineage(parent)] + [run]


def describe(run: Run) -> str:
    """One line for people."""
    about = f"{run.model.layer_count} layers, seed {run.seed}"
    if isinstance(run, Untrained):
        return f"{run.model.architecture}, untrained, {about}"
    source = {0: "", 1: " from a teacher"}.get(len(run.teachers), f" from {len(run.teachers)} teachers")
    if isinstance(run.teacher, Run):
        source = f" from {run.teacher.model.layer_count} layers"
    text = ", cropped queries" if run.data.collection.startswith("cropped:") else ""
    return f"{run.model.architecture} {run.strategy.name}{source}, {about}{text}"
