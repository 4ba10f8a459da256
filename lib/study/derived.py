"""Runs that are no `Experiment`: merges of several runs, snapshots that one has kept, and continued pre-training.

Each goes wherever an experiment does: into a table, as a teacher, as a start. What is needed is trained first.
"""

import reprlib
from dataclasses import dataclass, replace

import torch

from lib.machine import store
from lib.machine.literals import check_name, check_number, check_whole
from lib.models import merging
from lib.study import identity
from lib.study.experiment import Experiment
from lib.study.run import Model, Run, Untrained
from lib.training.settings import Training

# How runs are merged -> the fields that it has, with their defaults; weights None: of a mean, else 1 for each run.
HOW: dict[str, dict[str, object]] = {
    "linear": {"weights": None}, "slerp": {"weights": None}, "task_arithmetic": {"weights": None, "scale": 1.0},
    "ties": {"density": 0.2, "scale": 1.0}, "dare": {"weights": None, "density": 0.5, "scale": 1.0},
}  # fmt: skip
MEANS = ("linear", "slerp")


@dataclass(frozen=True)
class Merged(Run):
    """One model out of several runs', without any training: see `lib.models.merging`.

    The runs have one shape. Task vectors are counted from what all of them start from, and where they start from
    different runs, from the untrained model of the first.
    """

    runs: tuple[Run, ...]
    how: str = "linear"  # linear, slerp, task_arithmetic, ties or dare
    weights: tuple[float, ...] | None = None  # of the runs; of linear and slerp they sum to one; None: equal ones
    scale: float | None = None  # of the merged task vector; None: 1
    density: float | None = None  # share of each task vector's changes that is kept; None: 0.2 in TIES, 0.5 in DARE
    seed: int = 0  # of what DARE drops

    def __post_init__(self) -> None:
        runs, how = self.runs, self.how
        whole = type(runs) is tuple and all(isinstance(run, Run) and run.stored is not None for run in runs)
        if not whole or len(runs) < 2:
            raise ValueError(f"runs={reprlib.repr(runs)}: give a tuple of two or more runs that were trained")
        if how not in HOW:
            raise ValueError(f"{how=}: give one of {', '.join(HOW)}")
        for run in runs:
            if run.model.shape != self.model.shape:
                raise ValueError(f"runs: {run.about!r} must have the architecture, options, backbone and layers of "
                                 f"{runs[0].about!r}")  # fmt: skip
            if run.prefix:
                raise ValueError(f"runs: {run.about!r} has a prefix, which no other weights fit: give runs without one")
        if how == "slerp" and len(runs) != 2:
            raise ValueError(f"{how=}: an arc has two ends; give two runs instead of {len(runs)}")
        check_whole(self, "seed", least=0)
        self._check_numbers()

    def _check_numbers(self) -> None:
        how, weights = self.how, self.weights
        for name in ("weights", "scale", "density"):
            if getattr(self, name) is not None and name not in HOW[how]:
                raise ValueError(f"{name}={getattr(self, name)!r}: {how=} has none; give None")
        if self.scale is not None:
            check_number(self, "scale", above=0)
        if self.density is not None:
            check_number(self, "density", above=0)
            if self.density > 1:
                raise ValueError(f"density={self.density}: give a share above 0 and at most 1")
        if weights is not None:
            finite = type(weights) is tuple and all(type(one) in (int, float) and abs(one) < 1e6 for one in weights)
            if not finite or len(weights) != len(self.runs):
                raise ValueError(f"{weights=}: give a tuple of {len(self.runs)} numbers, one for each run")
            if how in MEANS and (min(weights) < 0 or abs(sum(weights) - 1) > 1e-6):
                raise ValueError(f"{weights=}: with {how=} give numbers of at least 0 that sum to 1")

    @property
    def model(self) -> Model:
        """That of its runs."""
        return self.runs[0].model

    @property
    def settings(self) -> dict[str, object]:
        """What decides the merge beside its runs, with every default."""
        found = {name: default if getattr(self, name) is None else getattr(self, name)
                 for name, default in HOW[self.how].items()}  # fmt: skip
        if found.get("weights", ()) is None:
            found["weights"] = (1 / len(self.runs) if self.how in MEANS else 1.0,) * len(self.runs)
        return found | ({"seed": self.seed} if self.how == "dare" else {})

    @property
    def key(self) -> str:
        """A name for everything that decides its scores."""
        return store.key(identity.of_merged(self))

    @property
    def before(self) -> Run:
        """From what task vectors are counted."""
        starts = {run.before.key: run.before for run in self.runs}
        return next(iter(starts.values())) if len(starts) == 1 else Untrained(self.model, self.runs[0].seed)

    @property
    def parents(self) -> tuple[Run, ...]:
        """The runs that are merged, and what their task vectors are counted from."""
        return self.runs if self.how in MEANS else (*self.runs, self.before)

    @property
    def taught(self) -> dict[str, object]:
        """As columns of a table."""
        return {"strategy": self.how, "paradigm": "merge", "teachers": 0}

    @property
    def about(self) -> str:
        """How many runs, how merged."""
        return f"{self.model.architecture} {self.how} of {len(self.runs)} runs, {self.size}"

    def with_seed(self, seed: int) -> "Merged":
        """With another seed, which the runs take too if they share one; runs of several seeds stay as they are."""
        same = len({run.seed for run in self.runs}) == 1
        return replace(self, seed=seed, runs=tuple(run.with_seed(seed) for run in self.runs) if same else self.runs)

    def merge(self, states: list[merging.State]) -> merging.State:
        """The weights, from those of `parents`."""
        merge, count = getattr(merging, self.how), len(self.runs)
        with torch.no_grad():
            return merge(states[:count], *states[count:], **self.settings)


@dataclass(frozen=True)
class Snapshot(Run):
    """The weights of a run in the middle of its training: snapshot `number` of its `training.snapshots`.

    Its history and costs are those of the whole run. With the run itself several of them are an ensemble of teachers
    from one training: Huang et al. 2017, https://arxiv.org/abs/1704.00109, there with a cyclic learning rate.
    """

    run: Experiment
    number: int  # from 1; the last one is the run itself

    def __post_init__(self) -> None:
        if not isinstance(self.run, Experiment):
            raise ValueError(f"run={reprlib.repr(self.run)}: give an Experiment")
        check_whole(self, "number")
        kept = self.run.training.snapshots
        if self.number > kept:
            fix = f"{self.run.about!r} keeps {kept}; give it training=Training(snapshots={self.number}) or more"
            raise ValueError(f"number={self.number}: {fix}")

    @property
    def model(self) -> Model:
        """The run's."""
        return self.run.model

    @property
    def seed(self) -> int:
        """The run's."""
        return self.run.seed

    @property
    def is_last(self) -> bool:
        """Whether it is the run itself."""
        return self.number == self.run.training.snapshots

    @property
    def file(self) -> str:
        """Beside the weights of the run."""
        return self.run.file if self.is_last else snapshot_file(self.number)

    @property
    def key(self) -> str:
        """A name for everything that decides its scores; of the last one the run's."""
        return self.run.key if self.is_last else store.key({"run": self.run.key, "snapshot": self.number})

    @property
    def before(self) -> Run:
        """What its run starts from."""
        return self.run.before

    @property
    def parents(self) -> tuple[Run, ...]:
        """Its run."""
        return (self.run,)

    @property
    def stored(self) -> Run:
        """Its run, which keeps it."""
        return self.run

    @property
    def prefix(self) -> int:
        """The run's."""
        return self.run.prefix

    @property
    def taught(self) -> dict[str, object]:
        """As the run, under a name of its own."""
        return self.run.taught | {"strategy": f"{self.run.strategy.name} snapshot {self.number}"}

    @property
    def about(self) -> str:
        """The run, and which part of its training."""
        return f"{self.run.about}, snapshot {self.number} of {self.run.training.snapshots}"

    def with_seed(self, seed: int) -> "Snapshot":
        """Of the run with another seed."""
        return replace(self, run=self.run.with_seed(seed))


def snapshot_file(number: int) -> str:
    """The name of a snapshot's weights in its run's folder."""
    return f"snapshot-{number}.safetensors"


def snapshots(run: Experiment) -> tuple[Snapshot, ...]:
    """All snapshots of a run, the last one included."""
    return tuple(Snapshot(run, number) for number in range(1, run.training.snapshots + 1))


@dataclass(frozen=True)
class Pretrained(Run):
    """A model whose backbone goes on with masked language modelling on a collection's documents, without any label.

    Gururangan et al. 2020, https://arxiv.org/abs/2004.10964: see `lib.training.pretraining`. What a ranker adds to its
    backbone, such as a cross-encoder's head, is as untrained as before, so this is a start and seldom a ranker itself.
    """

    model: Model
    collection: str
    document_count: int = 4000  # the first ones of the collection, each cut to model.max_length
    training: Training = Training(batch_size=32)  # noqa: RUF009, it is frozen; a batch is of documents
    seed: int = 0  # of new weights, the order of the batches, what is masked, and dropout

    def __post_init__(self) -> None:
        for name, kind in (("model", Model), ("training", Training)):
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"{name}={getattr(self, name)!r}: give a {kind.__name__}")
        check_name(self, "collection")
        check_whole(self, "document_count")
        check_whole(self, "seed", least=0)
        if (batch_size := self.training.batch_size) > self.document_count:
            raise ValueError(f"{batch_size=}: more than document_count={self.document_count}")
        if self.model.architecture == "tk":
            raise ValueError("model: architecture='tk' keeps no layers of the backbone; give another architecture")
        for name in ("adapter", "batching", "gradient_checkpointing", "snapshots"):
            if getattr(self.training, name) != (default := getattr(Training(), name)):
                raise ValueError(f"training: {name} is for experiments alone; give {name}={default}")

    @property
    def key(self) -> str:
        """A name for everything that decides its weights."""
        return store.key(identity.of_pretrained(self))

    @property
    def before(self) -> Run:
        """The untrained model."""
        return Untrained(self.model, self.seed)

    @property
    def taught(self) -> dict[str, object]:
        """As columns of a table."""
        return {"strategy": "masked_language_model", "paradigm": "pre-training", "teachers": 0}

    @property
    def work(self) -> float:
        """Documents times layers."""
        return self.document_count * self.training.epochs * self.model.layer_count

    @property
    def about(self) -> str:
        """Where it was pre-trained."""
        return f"{self.model.architecture} pre-trained on {self.collection.split('/')[-1]}, {self.size}"
