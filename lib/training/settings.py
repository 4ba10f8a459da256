"""How a model is trained, as literals: everything that decides a training run but model, data, strategy and seed."""

from dataclasses import dataclass

from lib.machine.literals import check_number, check_whole
from lib.models import adapters


@dataclass(frozen=True)
class Adapter:
    """Only an adapter and new heads are trained: see `lib.models.adapters`."""

    kind: str  # "lora" or "prefix"
    size: int = 8  # rank of LoRA, or virtual tokens of the prefix

    def __post_init__(self) -> None:
        if self.kind not in adapters.KINDS:
            raise ValueError(f"adapter kind={self.kind!r}: give one of {', '.join(adapters.KINDS)}")
        check_whole(self, "size")


@dataclass(frozen=True)
class GradCache:
    """A bi-encoder's batch in parts, with the gradients of the whole: see `lib.training.grad_cache`."""

    chunk: int  # groups whose activations are in memory at a time

    def __post_init__(self) -> None:
        check_whole(self, "chunk")


@dataclass(frozen=True)
class Queue:
    """Momentum contrast: earlier positives are a bi-encoder's negatives; see `lib.models.momentum`."""

    size: int  # positives in the queue
    momentum: float = 0.99  # how much of itself the copy that encodes the queue keeps per step

    def __post_init__(self) -> None:
        check_whole(self, "size")
        check_number(self, "momentum", below=1)


@dataclass(frozen=True)
class Training:
    """AdamW; the learning rate rises linearly over the share `warm_up` of the steps and falls linearly to zero."""

    batch_size: int = 8  # groups per step
    epochs: int = 1
    learning_rate: float = 2e-4
    warm_up: float = 0.1  # share of the steps
    weight_decay: float = 0.01
    clip: float = 1.0  # largest norm of the gradients
    dropout: float = 0.0
    embeddings: bool = False  # whether the embedding table, half of a small model's parameters, is trained
    adapter: Adapter | None = None
    batching: GradCache | Queue | None = None  # bi-encoders only: more negatives per step in little memory
    gradient_checkpointing: bool = False  # less memory and more time: see `lib.models.Ranker.checkpoint_gradients`
    snapshots: int = 1  # weights that are kept, at equal distances of the training; the last ones are the run's own

    def __post_init__(self) -> None:
        check_whole(self, "batch_size", "epochs", "snapshots")
        check_number(self, "learning_rate", "clip", above=0)
        check_number(self, "warm_up", "dropout", below=1)
        check_number(self, "weight_decay")
        for name in ("embeddings", "gradient_checkpointing"):
            if type(value := getattr(self, name)) is not bool:
                raise ValueError(f"{name}={value!r}: give True or False")
        for name, kinds in (("adapter", Adapter | None), ("batching", GradCache | Queue | None)):
            if not isinstance(value := getattr(self, name), kinds):
                raise ValueError(f"{name}={value!r}: give None or one of lib.training.settings")
        if self.snapshots > 1 and self.adapter is not None:
            raise ValueError(f"snapshots={self.snapshots}: an adapter is merged at the end alone; give 1")

    @property
    def chunk(self) -> int | None:
        """Groups whose activations are in memory at a time; None: the whole batch."""
        return self.batching.chunk if isinstance(self.batching, GradCache) else None
