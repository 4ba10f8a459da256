"""A training, or a long scoring, that was cut short goes on where it was, and ends as if nothing had happened.

Every few minutes a `Checkpoint` writes one safetensors file with everything that a later step depends on. For a
training (`TrainingState`) that is what training changes of the weights and buffers (the copy and the queue of momentum
contrast too), AdamW's moments, random states and the history so far. Learning rates and the order of the batches follow
from the step and the seed. What takes some minutes writes none. `accelerate.save_state` is not used: it pickles.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from lib.machine import processes, progress, store

EVERY = 600.0  # seconds between two checkpoints, if STUDY_CHECKPOINT_SECONDS has no other number; it changes no result
MODEL, OPTIMIZER, RANDOM, ROWS = "model/", "optimizer/", "random/", "history/rows"  # names, or their beginnings
QUEUE = f"{MODEL}queue"  # grows while it is filled


class State(Protocol):
    """What later steps depend on."""

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is a tensor, by name."""

    def about(self) -> dict[str, object]:
        """The rest, as JSON."""

    def restore(self, tensors: dict[str, Tensor], about: dict) -> None:
        """Put it back, as it was after step `about["step"]`; raises ValueError or KeyError, with nothing changed."""


@dataclass
class TrainingState:
    """What a step of training depends on: the same in every process of a launch, except for random states."""

    model: nn.Module  # with everything around it that has weights or buffers
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    history: Any  # lib.training.loop.History, which imports this module

    def tensors(self) -> dict[str, Tensor]:
        """All processes have to call this."""
        moments = self.optimizer.state_dict()["state"]
        found = {MODEL + name: value for name, value in self._changing().items()}
        found |= {f"{OPTIMIZER}{number}/{name}": value for number, of in moments.items() for name, value in of.items()}
        random = {"cpu": torch.random.get_rng_state()}
        if torch.cuda.is_available():
            random["cuda"] = torch.cuda.get_rng_state()
        for number, own in enumerate(processes.from_all(random)):
            found |= {f"{RANDOM}{number}/{device}": value for device, value in own.items()}
        return found | {ROWS: self.history.rows()}

    def about(self) -> dict[str, object]:
        """What the history knows of each step."""
        return {"known": self.history.known}

    def restore(self, tensors: dict[str, Tensor], about: dict) -> None:
        """Put everything back; raises ValueError or KeyError, and changes nothing, unless all of it is there."""
        step, known, rows = about["step"], about["known"], tensors[ROWS]
        mine = f"{RANDOM}{processes.number()}/"
        random = {name.removeprefix(mine): value for name, value in tensors.items() if name.startswith(mine)}
        processor = random["cpu"]
        weights = {name: value for name, value in tensors.items() if name.startswith(MODEL) and name != QUEUE}
        own = {MODEL + name: value for name, value in self._changing().items() if MODEL + name != QUEUE}
        if {name: value.shape for name, value in weights.items()} != {name: value.shape for name, value in own.items()}:
            raise ValueError("its weights are those of another model")
        with torch.no_grad():
            for name, value in weights.items():
                own[name].copy_(value)
        if QUEUE in tensors:
            self.model.queue = tensors[QUEUE].to(next(self.model.parameters()).device)
        moments: dict[int, dict[str, Tensor]] = {}
        for name in tensors:
            if name.startswith(OPTIMIZER):
                number, kind = name.removeprefix(OPTIMIZER).split("/")
                moments.setdefault(int(number), {})[kind] = tensors[name]
        rates = [base * of(step) for base, of in zip(self.schedule.base_lrs, self.schedule.lr_lambdas, strict=True)]
        groups = [group | {"lr": rate}
                  for group, rate in zip(self.optimizer.state_dict()["param_groups"], rates, strict=True)]  # fmt: skip
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.schedule.load_state_dict(self.schedule.state_dict() | {"last_epoch": step, "_last_lr": rates})
        self.history.restore(rows, known)
        torch.random.set_rng_state(processor)
        if "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"])

    def _changing(self) -> dict[str, Tensor]:
        """Trained weights, the copy of momentum contrast, which follows them, and buffers."""
        weights = self.model.named_parameters()
        kept = {name: value for name, value in weights if value.requires_grad or name.startswith("momentum_encoder.")}
        return kept | dict(self.model.named_buffers())


class Checkpoint:
    """The file of one training or scoring; `key` names everything that decides it, and is compared when it is read.

    It lies in the data folder under `checkpoints`, in a folder that `lib.study.space` removes if nobody comes back to
    it, but not while its writer lives. The processes of one launch have one file, which the main one writes, of one
    step; all of them have to call `keep`. With `each` every process has its own, of its own steps.
    """

    def __init__(self, key: str, *, each: bool = False):
        self._path = _folder(key) / f"{processes.number() if each else 0}.safetensors"
        self._about = {"key": key, "torch": torch.__version__} | ({} if each else {"processes": processes.count()})
        self._each, self._every, self._lock = each, seconds(), None
        self._begun = self._last = time.monotonic()
        self.spent = 0.0  # seconds of work before this process, which are in the checkpoint

    def restore(self, state: State) -> int:
        """How many steps are done, with `state` as it was after them; 0 if no checkpoint fits.

        One that is damaged, or of another key, version of torch or number of processes, is left unread, and a line says
        so. Without `each` all processes have to call this: the main one may still be writing the file.
        """
        there = self._path.exists()
        if not (there if self._each else processes.from_main(there)):
            return 0
        try:
            with safetensors.safe_open(self._path, "pt") as file:
                written = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
            about = json.loads(written["about"])
            if written["sha256"] != _digest(tensors, written["about"]):
                raise ValueError("its content is not what was written")
            if (found := {name: about.get(name) for name in self._about}) != self._about:
                raise ValueError(f"it is of {found}, this is {self._about}")
            state.restore(tensors, about)
        except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            progress.say(f"checkpoint {self._path} is not used, and the work begins anew: {error}")
            return 0
        self.spent = about["spent"]
        self._hold()
        progress.say(f"  going on after step {about['step']}")
        return about["step"]

    def keep(self, step: int, state: State) -> None:
        """Write `state` as it is after a step, if it is time."""
        due = time.monotonic() - self._last >= self._every
        if not (due if self._each else processes.from_main(due)):
            return
        tensors = state.tensors()
        if self._each or processes.is_main():
            tensors = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
            spent = self.spent + time.monotonic() - self._begun
            about = json.dumps(self._about | state.about() | {"step": step, "spent": spent})
            written = {"about": about, "sha256": _digest(tensors, about)}
            store.replace_file(self._path, lambda path: safetensors.torch.save_file(tensors, str(path), written))
            self._hold()
        self._last = time.monotonic()

    def write(self, name: str, fill: Callable[[Path], None]) -> None:
        """Write a file beside the checkpoint, whole, which stays as long as that; `fill` gets its path."""
        store.replace_file(self.beside(name), fill)
        self._hold()

    def beside(self, name: str) -> Path:
        """Where `write` puts a file."""
        return self._path.parent / name

    def _hold(self) -> None:
        """Lock the folder until this process ends, or lets the checkpoint go."""
        if self._lock is None:
            self._lock = contextlib.ExitStack()
            self._lock.enter_context(store.folder_lock(self._path.parent))


def remove(key: str) -> None:
    """Remove the checkpoints of what has ended."""
    shutil.rmtree(_folder(key), ignore_errors=True)


def seconds() -> float:
    """Between two checkpoints; raises ValueError if the environment variable has no number."""
    text = os.environ.get("STUDY_CHECKPOINT_SECONDS") or str(EVERY)
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"STUDY_CHECKPOINT_SECONDS={text!r}: give a number of seconds, such as 600") from None


def _folder(key: str) -> Path:
    return store.data_folder() / "checkpoints" / f"{key}.partial"


def _digest(tensors: dict[str, Tensor], about: str) -> str:
    """SHA-256 of a checkpoint's content: safetensors itself would not see a bit that has changed."""
    found = hashlib.sha256(about.encode())
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()
