"""A training that was cut short goes on where it was, and ends as if nothing had happened.

Every few minutes a `Checkpoint` writes one safetensors file with everything that a later step depends on: what training
changes of the weights and buffers (the copy and the queue of momentum contrast too), AdamW's moments, random states and
the history so far. Learning rates and the order of the batches follow from the step and the seed. A training of some
minutes writes none.
"""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from lib.machine import progress, store

EVERY = 600.0  # seconds between two checkpoints; STUDY_CHECKPOINT_SECONDS has another number, which changes no result
MODEL, OPTIMIZER, RANDOM, ROWS = "model/", "optimizer/", "random/", "history/rows"  # names, or their beginnings
QUEUE = f"{MODEL}queue"  # grows while it is filled


class History(Protocol):
    """The steps so far: what each computed, (steps, columns), and what was known of each."""

    known: list[dict]

    def rows(self) -> Tensor:
        """(steps, columns) float32."""

    def restore(self, rows: Tensor, known: list[dict]) -> None:
        """Begin with these."""


@dataclass
class State:
    """What a step depends on."""

    model: nn.Module  # with everything around it that has weights or buffers
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    history: History

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is a tensor, by name."""
        moments = self.optimizer.state_dict()["state"]
        found = {MODEL + name: value for name, value in self._changing().items()}
        found |= {f"{OPTIMIZER}{number}/{name}": value for number, of in moments.items() for name, value in of.items()}
        found |= {RANDOM + "cpu": torch.random.get_rng_state(), ROWS: self.history.rows()}
        return found | ({RANDOM + "cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})

    def restore(self, tensors: dict[str, Tensor], known: list[dict], step: int) -> None:
        """Put everything back as it was after `step`; raises ValueError, and changes nothing, unless all of it fits."""
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
        self.history.restore(tensors[ROWS], known)
        torch.random.set_rng_state(tensors[RANDOM + "cpu"])
        if RANDOM + "cuda" in tensors:
            torch.cuda.set_rng_state(tensors[RANDOM + "cuda"])

    def _changing(self) -> dict[str, Tensor]:
        """Trained weights, the copy of momentum contrast, which follows them, and buffers."""
        weights = self.model.named_parameters()
        kept = {name: value for name, value in weights if value.requires_grad or name.startswith("momentum_encoder.")}
        return kept | dict(self.model.named_buffers())


class Checkpoint:
    """The file of one training; `key` names everything that decides the training, and is compared when it is read."""

    def __init__(self, path: Path, key: str):
        self._path, self._about = path, {"key": key, "torch": torch.__version__}
        self._every = float(os.environ.get("STUDY_CHECKPOINT_SECONDS", EVERY))
        self._begun = self._last = time.monotonic()
        self.spent = 0.0  # seconds of training before this process, which are in the checkpoint

    def restore(self, state: State) -> int:
        """How many steps are done, with `state` as it was after them; 0 if no checkpoint fits.

        One that is damaged, or of another training or version of torch, is left unread, and a line says so.
        """
        if not self._path.exists():
            return 0
        try:
            with safetensors.safe_open(self._path, "pt") as file:
                about = json.loads(file.metadata()["about"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
            if {name: about[name] for name in self._about} != self._about:
                raise ValueError(f"it is of training {about['key']} with torch {about['torch']}")
            state.restore(tensors, about["known"], about["step"])
            self.spent = about["spent"]
        except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            progress.say(f"checkpoint {self._path} is not used, and the training begins anew: {error}")
            return 0
        progress.say(f"  going on after step {about['step']}")
        return about["step"]

    def keep(self, step: int, state: State) -> None:
        """Write `state` as it is after a step, if it is time."""
        if time.monotonic() - self._last < self._every:
            return
        tensors = {name: value.detach().cpu().clone().contiguous() for name, value in state.tensors().items()}
        spent = self.spent + time.monotonic() - self._begun
        about = {"about": json.dumps(self._about | {"step": step, "spent": spent, "known": state.history.known})}
        store.replace_file(self._path, lambda path: safetensors.torch.save_file(tensors, str(path), about))
        self._last = time.monotonic()

    def remove(self) -> None:
        """Its training has ended."""
        self._path.unlink(missing_ok=True)
        if self._path.parent.is_dir() and not any(self._path.parent.iterdir()):
            self._path.parent.rmdir()
