"""Experiment: everything that decides a trained model, as literals; TestSet: the queries on which it is evaluated.

All are frozen dataclasses: a grid is a comprehension, a variant is `vary(run, seed=1, learning_rate=1e-4)`. A literal
that is impossible is refused here (ValueError); what needs a look at files, by `lib.study.checks` before any training.
"""

import dataclasses
import reprlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from lib import models
from lib.data import collections, corruptions, first_stage, groups, score_files, trec_runs
from lib.data.collections import Collection, CollectionError, CollectionWarning
from lib.machine import store
from lib.machine.literals import check_name, check_whole
from lib.models import adapters
from lib.study import identity
from lib.study.mining import JUDGEMENTS, RANDOM, Mined
from lib.study.run import Model, Run, Source, Untrained
from lib.training import strategies
from lib.training.settings import Queue, Training
from lib.training.strategy import Strategy

# Whose scores are targets: a run of the kit, a cross-encoder (a name of lib.models.packaged or of the hub, or a
# folder), a file of scores, or the mean of several of these; or what is no ranker (lib.study.sources).
Teacher = Run | Source | str


@dataclass(frozen=True)
class Data:
    """What a run is trained on: the groups are the same for every seed."""

    collection: str = "pydocs"
    group_count: int = 4000
    docs: int = 4  # documents per group: one positive, the rest hard negatives
    positives: int | None = None  # groups of a query at most; None: one for each of its relevant documents
    # What finds the negatives: a bi-encoder, "judgements" (grade 0), "random", `lib.study.mining.Mined`; None: BM25.
    negatives: Run | Mined | str | None = None
    reads: str = ""  # how the student's queries are corrupted (lib.data.corruptions); its teachers read the clean ones

    def __post_init__(self) -> None:
        check_name(self, "collection")
        check_whole(self, "group_count", "docs")
        check_whole(self, "positives", none=True)
        if not 2 <= self.docs <= groups.DEPTH:
            raise ValueError(f"docs={self.docs}: a group holds 2 to {groups.DEPTH} documents")
        if self.reads and self.reads not in corruptions.KINDS:
            raise ValueError(f"reads={self.reads!r}: give '', or one of {', '.join(corruptions.KINDS)}")
        if self.negatives in (None, JUDGEMENTS, RANDOM) or isinstance(self.negatives, Mined):
            return
        if not isinstance(self.negatives, Run):
            known = f"a bi-encoder's run, Mined(run), {JUDGEMENTS!r}, {RANDOM!r} or None"
            raise ValueError(f"negatives={self.negatives!r}: give {known}")
        if self.negatives.model.architecture != "dot":
            raise ValueError(f"negatives={self.negatives.about!r}: no bi-encoder (dot); give Mined(run)")

    @property
    def read(self) -> str:
        """The name of the collection whose queries the student reads."""
        return f"{self.reads}:{self.collection}" if self.reads else self.collection


@dataclass(frozen=True)
class Experiment(Run):
    """Everything that decides a trained model: `Experiment("kl", teacher=run, data=Data(docs=8), seed=1)`."""

    strategy: Strategy | str  # a name of lib.training.strategies stands for its strategy
    teacher: Teacher | tuple[Teacher, ...] | None = None  # whose scores are a distillation's targets, or their mean
    start: Run | None = None  # whose weights it starts from; None: the backbone's, with a new head
    data: Data = Data()
    model: Model = Model()  # noqa: RUF009, it is frozen, as the next one
    training: Training = Training()  # noqa: RUF009
    seed: int = 0  # of the head, the order of the batches and dropout
    peer: Run | None = None  # what a student starts from that is trained beside it (lib.training.peers)

    def __post_init__(self) -> None:
        if isinstance(self.strategy, str):
            object.__setattr__(self, "strategy", strategies.named(self.strategy))
        for name, kind in (("strategy", Strategy), ("data", Data), ("model", Model), ("training", Training)):
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"{name}={getattr(self, name)!r}: give a {kind.__name__}")
        check_whole(self, "seed", least=0)
        self._check_teacher()
        self._check_training()
        for name in ("start", "peer"):
            if getattr(self, name) is not None:
                self._check_start(name)
        if self.training.gradient_checkpointing and self.prefix:
            raise ValueError("gradient_checkpointing=True: no run with a prefix, its own or its start's, can have it: "
                             "give False")  # fmt: skip
        if (self.peer is not None) != (self.strategy.peers is not None):
            fix = f"strategy={self.strategy.name!r}: give another start if it has peers, and else peer=None"
            raise ValueError(f"peer={reprlib.repr(self.peer)} with {fix}")

    def _check_teacher(self) -> None:
        known = all(isinstance(teacher, Run | Source | str) and teacher for teacher in self.teachers)
        if not known or self.teacher == ():
            raise ValueError(f"teacher={reprlib.repr(self.teacher)}: give an Experiment, an Untrained model, "
                             "the name of a model, a score file, or a tuple of these")  # fmt: skip
        strategy = self.strategy.name
        if self.strategy.needs_teacher and not self.teachers:
            raise ValueError(f"{strategy=} learns from a teacher's scores: give teacher=Experiment(...)")
        if self.teachers and not self.strategy.needs_teacher:
            raise ValueError(f"{strategy=} takes no teacher")
        if len(self.teachers) > 1 and any(isinstance(teacher, Source) for teacher in self.teachers):
            raise ValueError(f"teacher={reprlib.repr(self.teacher)}: a source is no part of a mean: give it alone")
        if self.strategy.compares_states:
            self._check_states()

    def _check_states(self) -> None:
        what = f"strategy={self.strategy.name!r} compares hidden states"
        if len(self.teachers) > 1 or isinstance(self.teacher, Source) or score_files.is_file_name(self.teacher):
            fix = "give one model, no score file and no source"
            raise ValueError(f"{what}: teacher={reprlib.repr(self.teacher)}: {fix}")
        for name, one in (("model", self), ("teacher", *self.teachers)):
            if isinstance(one, Run) and not models.ARCHITECTURES[one.model.architecture].has_states:
                fault = f"{name} with architecture={one.model.architecture!r} gives none of a pair"
                raise ValueError(f"{what}: {fault}; give architecture='cat'")

    def _check_training(self) -> None:
        strategy, architecture, options = self.strategy.name, self.model.architecture, dict(self.model.options)
        batch_size, batching, adapter = self.training.batch_size, self.training.batching, self.training.adapter
        if batch_size > self.data.group_count:
            raise ValueError(f"{batch_size=}: more than group_count={self.data.group_count}")
        if (snapshots := self.training.snapshots) > self.steps:
            raise ValueError(f"{snapshots=}: the training has {self.steps} steps; give so many or less")
        cosines = architecture == "dot" and options.get("similarity") == "cosine" and options.get("scale", 1) == 1
        if self.strategy.columns is not None and not cosines:
            raise ValueError(f"{strategy=} compares cosines of a whole batch: give architecture='dot' and "
                             "options=(('similarity', 'cosine'),), without a scale")  # fmt: skip
        if self.training.gradient_checkpointing and architecture == "tk":
            raise ValueError("gradient_checkpointing=True: architecture='tk' is no transformer; give False")
        if batching is not None and architecture != "dot":
            raise ValueError(f"{batching=}: {architecture=}; only bi-encoders (dot) have it")
        if isinstance(batching, Queue) and (self.strategy.needs_teacher or self.strategy.columns is not None):
            raise ValueError(f"{batching=}: {strategy=}; a queue has no teacher's scores and no group of its own: "
                             "give a contrastive strategy such as 'info_nce'")  # fmt: skip
        if self.strategy.peers is not None and (batching or adapter):
            raise ValueError(f"{strategy=} trains students beside each other: give batching=None and adapter=None")
        if adapter is not None:
            adapters.check(architecture, adapter.kind)

    def _check_start(self, name: str) -> None:
        start = getattr(self, name)
        if not isinstance(start, Run) or start.stored is None:
            fix = "give an Experiment or another run that has weights of its own (lib.study.derived), or None"
            raise ValueError(f"{name}={start!r}: {fix}")
        if start.model.shape != self.model.shape:
            raise ValueError(f"{name}={start.about!r}: it must have the same architecture, backbone and layers")
        if self.training.adapter is not None and start.prefix:
            raise ValueError(f"{name}={start.about!r} has a prefix already: give adapter=None")

    @property
    def teachers(self) -> tuple[Teacher, ...]:
        """Whose scores are averaged; empty without a teacher."""
        if self.teacher is None:
            return ()
        return self.teacher if isinstance(self.teacher, tuple) else (self.teacher,)

    @property
    def before(self) -> Run:
        """What the run starts from."""
        return self.start or Untrained(self.model, self.seed)

    @property
    def parents(self) -> tuple[Run, ...]:
        """Its start, a peer's start, what finds its negatives, and its teachers."""
        named = (self.start, self.peer, self.data.negatives, *self.teachers)
        behind = (run for one in named if isinstance(one, Source | Mined) for run in one.parents)
        return tuple(one for one in (*named, *behind) if isinstance(one, Run))

    @property
    def taught(self) -> dict[str, object]:
        """As columns of a table."""
        return {"strategy": self.strategy.name, "paradigm": self.strategy.paradigm, "teachers": len(self.teachers)}

    @property
    def steps(self) -> int:
        """Of its training."""
        return self.data.group_count // self.training.batch_size * self.training.epochs

    @property
    def work(self) -> float:
        """Documents times layers."""
        return self.data.group_count * self.data.docs * self.training.epochs * self.model.layer_count

    @property
    def about(self) -> str:
        """Architecture, strategy, teachers and size."""
        source = {0: "", 1: " from a teacher"}.get(len(self.teachers), f" from {len(self.teachers)} teachers")
        if isinstance(self.teacher, Run):
            source = f" from {self.teacher.model.layer_count} layers"
        text = ", cropped queries" if self.data.collection.startswith("cropped:") else ""
        return f"{self.model.architecture} {self.strategy.name}{source}, {self.size}{text}"

    def with_seed(self, seed: int) -> "Experiment":
        """The run, and its start, with another seed; a peer's start moves by as much."""
        peer = self.peer and self.peer.with_seed(self.peer.seed + seed - self.seed)
        return replace(self, seed=seed, start=self.start and self.start.with_seed(seed), peer=peer)

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
    depth: int | None = 20  # candidates per query; None: all that a stored run has
    run: str = ""  # a TREC run: a path, or a file of the collection's `runs/`; "": the kit's own BM25
    skip: int = 0  # the first ones of `queries` that are left out: they belong to another test set

    def __post_init__(self) -> None:
        check_whole(self, "queries", none=True)
        check_whole(self, "depth", none=bool(self.run))
        check_whole(self, "skip", least=0)
        check_name(self, "collection", "split")
        if not isinstance(self.run, str):
            raise ValueError(f"run={self.run!r}: give the name of a TREC run, or '' for BM25")

    @classmethod
    def of(cls, text: str, depth: int | None = None) -> "TestSet":
        """All queries of 'collection', 'collection | split' or 'collection | split | run', depth 100 or the run's."""
        parts = [part.strip() for part in text.split("|")]
        if not 1 <= len(parts) <= 3 or not all(parts):
            raise ValueError(f"{text!r}: give 'collection', 'collection | split' or 'collection | split | run'")
        collection, split, run = (*parts, *("test", "")[len(parts) - 1 :])
        return cls(collection, split, None, depth or (None if run else 100), run)

    @property
    def ranked_by(self) -> str:
        """The name of the first stage: "bm25", or that of the stored run's file without its ending."""
        return Path(self.run).name.removesuffix(".gz").removesuffix(".trec") or "bm25"

    def candidates(self) -> tuple[Collection, list[str], pd.DataFrame]:
        """Collection, query ids, and candidates: columns query, document, rank, first_stage, grade."""
        collection = collections.load(self.collection)
        queries = collection.split(self.split, self.queries, self.skip)
        if self.run:
            own = collection.themselves(queries)
            place, depth = collections.stored_run(self.collection, self.run), self.depth and self.depth + bool(own)
            ranking = first_stage.without_own(trec_runs.read(place, collection, queries, depth), own, self.depth)
        else:
            ranking = first_stage.bm25(collection, queries, self.depth)
            if empty := sorted(set(queries) - set(ranking["query"])):
                what = f"{len(empty)} of {len(queries)} queries share no word with a document and count as zero"
                if len(empty) == len(queries):
                    raise CollectionError(f"{self.collection}: {what}: BM25 finds nothing; give a stored run")
                warnings.warn(f"{self.collection}: {what}, the first {empty[0]!r}", CollectionWarning, stacklevel=2)
        judged = collection.judgements[self.split]
        ranking = ranking.rename(columns={"score": "first_stage"}).merge(judged, "left", ["query", "document"])
        return collection, queries, ranking.assign(grade=ranking["grade"].fillna(0).astype(int))


PARTS = {"data": Data, "model": Model, "training": Training}


def vary(run: Run, **changes: object) -> Run:
    """A run with other values, whichever part they belong to, as in `vary(run, seed=1, layers=(0, 1))`."""
    names = [field.name for field in dataclasses.fields(run)]
    own = {name: changes.pop(name) for name in names if name in changes}
    for part, kind in [(part, kind) for part, kind in PARTS.items() if part in names]:
        inner = {field.name: changes.pop(field.name) for field in dataclasses.fields(kind) if field.name in changes}
        if inner and isinstance(own.setdefault(part, getattr(run, part)), kind):  # else Experiment refuses it
            own[part] = replace(own[part], **inner)
    if changes:
        raise TypeError(f"an experiment has no field {', '.join(changes)}; it has {', '.join(dict(fields(run)))}")
    return replace(run, **own)


def fields(run: Run | Data | Model | Training) -> Iterator[tuple[str, object]]:
    """(name, value) of every field of a run and of its parts."""
    for field in dataclasses.fields(run):
        value = getattr(run, field.name)
        yield from fields(value) if field.name in PARTS else [(field.name, value)]


def lineage(run: Run) -> list[Run]:
    """Every run with a folder of its own that a run needs, in an order in which they can be made; itself last."""
    return [ancestor for parent in run.parents for ancestor in lineage(parent)] + [run] * (run.stored is run)
