"""Run: a ranker named by literals, whose weights can be had; Model and Untrained, the first of its kinds.

The others are `lib.study.experiment.Experiment` and those of `lib.study.derived`. Whatever takes a run, to score it, to
learn from it or to start from it, asks for what is here, and not which kind it is.
"""

import reprlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np

from lib import models
from lib.data.collections import Collection
from lib.data.groups import Groups
from lib.machine import store
from lib.machine.literals import check_name, check_whole, is_literal
from lib.models import backbone
from lib.study import identity


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
        check_whole(self, "max_length", least=8)  # special tokens, and something of either text
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

    @property
    def shape(self) -> tuple[object, ...]:
        """What two models must share for the weights of one to fit the other."""
        return self.architecture, dict(self.options), self.backbone, self.layers


class Run(ABC):
    """What can be scored. Its fields are literals; `key` names everything that decides its scores."""

    model: Model
    seed: int
    file = "weights.safetensors"  # its weights, in the folder of `stored`

    @property
    @abstractmethod
    def key(self) -> str:
        """A name for everything that decides its scores: see `lib.study.identity`."""

    @property
    @abstractmethod
    def taught(self) -> dict[str, object]:
        """How it was taught, as columns of a table: strategy, paradigm, and the number of teachers."""

    @property
    @abstractmethod
    def about(self) -> str:
        """One line for people."""

    @property
    def size(self) -> str:
        """The end of that line."""
        return f"{self.model.layer_count} layers, seed {self.seed}"

    @property
    def before(self) -> "Run":
        """What it starts from; itself where nothing comes before."""
        return self

    @property
    def parents(self) -> tuple["Run", ...]:
        """The runs that it is made from, whose weights must be there first."""
        return ()

    @property
    def stored(self) -> "Run | None":
        """The run in whose folder of the store its weights are; None: it needs none."""
        return self

    @property
    def prefix(self) -> int:
        """How many virtual tokens precede every layer's own; 0 without any."""
        return 0

    @property
    def work(self) -> float:
        """What making it costs, in texts times layers; a small number where nothing is trained."""
        return 1.0

    def with_seed(self, seed: int) -> "Run":
        """The same with another seed."""
        return replace(self, seed=seed)


class Source(ABC):
    """What gives targets and is no ranker (`lib.study.sources`): a frozen dataclass of literals."""

    parents: tuple[Run, ...] = ()  # the runs that it is made from

    @property
    @abstractmethod
    def key(self) -> str:
        """A name for everything that decides its targets, but the groups and their texts."""

    @property
    @abstractmethod
    def about(self) -> str:
        """One line for people."""

    @abstractmethod
    def scores(self, pairs: Groups, collection: Collection) -> np.ndarray:
        """Targets of groups, (groups, docs) or (groups, docs, draws) float32."""


@dataclass(frozen=True)
class Untrained(Run):
    """A model that is evaluated without any training: the start of a run, or a zero-shot baseline."""

    model: Model = Model()
    seed: int = 0  # of new weights, such as a cross-encoder's head

    def __post_init__(self) -> None:
        if not isinstance(self.model, Model):
            raise ValueError(f"model={reprlib.repr(self.model)}: give a Model")
        check_whole(self, "seed", least=0)

    stored = None
    taught = {"strategy": "untrained", "paradigm": "zero-shot", "teachers": 0}  # noqa: RUF012, nothing changes it

    @property
    def key(self) -> str:
        """A name for everything that decides its scores: see `lib.study.identity`."""
        return store.key(identity.of_untrained(self))

    @property
    def about(self) -> str:
        """Its architecture and size."""
        return f"{self.model.architecture}, untrained, {self.size}"
