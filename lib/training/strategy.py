"""Strategy: a weighted list of terms, (loss, source of targets), as data.

The paradigms differ only in where the targets come from: labels (contrastive), a teacher's scores (distillation), the
model's own document similarities (self-distillation) or students that learn beside it (mutual learning).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.data.groups import LABELS
from lib.losses import margins
from lib.losses.margins import Similarities
from lib.machine.literals import check_name
from lib.training import trial
from lib.training.bound import inner_function

TEACHER = "teacher"
STATES = "teacher_states"  # a teacher's hidden states, with which the student's own are compared
OWN = "own"  # margins that the model's own document similarities ask for
PEERS = "peers"  # scores of the students that are trained beside it


@dataclass(frozen=True)
class Term:
    """One loss against one source of targets; against STATES it takes hidden states (batch, docs, layers, dim)."""

    loss: Callable[..., Tensor]
    source: str  # LABELS, TEACHER, STATES, OWN or PEERS
    weight: float = 1.0
    # Makes a module from (student layers, student dim, teacher layers, teacher dim), which is trained with the student
    # and dropped in the end: of both states it makes what the loss takes (lib.models.parts). None: the states as such.
    part: Callable[[int, int, int, int], nn.Module] | None = None

    def __post_init__(self) -> None:
        inner_function(self.loss)
        if self.source not in (sources := (LABELS, TEACHER, STATES, OWN, PEERS)):
            raise ValueError(f"source={self.source!r}: give one of {', '.join(sources)}")
        if self.part is not None:
            inner_function(self.part)
            if self.source != STATES:
                raise ValueError(f"part={self.part!r}: scores have no trained part; give source={STATES!r}, or no part")
        if type(self.weight) not in (int, float) or not math.isfinite(self.weight):
            raise ValueError(f"weight={self.weight!r}: give a finite number")


class Matrix(NamedTuple):
    """The score matrix of a step, its targets, and one number for the history."""

    scores: Tensor  # (batch, columns), column 0 the positive
    targets: dict[str, Tensor]  # source -> (batch, columns); STATES -> what the loss of each of its terms takes
    similarity: Tensor  # mean similarity of positives and their own negatives; NaN where the step does not know it


@dataclass(frozen=True)
class Strategy:
    """What a run minimises: the weighted sum of its terms, which are tried on a small example (ValueError)."""

    name: str
    paradigm: str  # contrastive, distillation, self-distillation, mutual learning or preference optimisation
    terms: tuple[Term, ...]
    # Where the columns of the score matrix come from: None for a query's own group, else a function of the batch's
    # similarities that gives scores and targets (lib.losses.margins). Only models that encode texts separately have it.
    columns: Callable[[Similarities], tuple[Tensor, Tensor]] | None = None
    style: tuple[str, str, str] = field(default=("#444444", ".", "-"), compare=False)  # colour, marker, dash in figures
    # What each of several students teaches the others, from their scores and labels (lib.training.peers); None: one.
    peers: Callable[[Tensor, Tensor], Tensor] | None = None
    # Of a teacher whose hidden states are targets: which layers, from 1 (-1: the last), or "all", or "share": for each
    # of the student's the one at the same share of the depth.
    layers: tuple[int, ...] | str = "share"
    # Before training: the teacher's states and the student's at its start, (groups, docs, layers, dim), to targets.
    align: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None

    def __post_init__(self) -> None:
        check_name(self, "name", "paradigm")
        if type(self.terms) is not tuple or not self.terms or not all(isinstance(one, Term) for one in self.terms):
            fix = "give a tuple of Terms, such as (Term(...),)"
            raise ValueError(f"strategy={self.name!r}: terms={self.terms!r}: {fix}")
        sources = {term.source for term in self.terms}
        if self.columns is None and OWN in sources:
            raise ValueError(f"strategy={self.name!r}: the targets {OWN!r} come from columns: give columns=...")
        if self.columns is not None and sources & {TEACHER, STATES}:
            unread = TEACHER if TEACHER in sources else STATES
            raise ValueError(f"strategy={self.name!r}: the targets come from columns; a {unread!r} would not be read")
        if (PEERS in sources) != (self.peers is not None):
            raise ValueError(f"strategy={self.name!r}: peers=... and the targets {PEERS!r} go together: give both")
        if self.peers is not None and (self.columns is not None or STATES in sources):
            fault = "columns and hidden states are those of one student"
            raise ValueError(f"strategy={self.name!r}: {fault}: give no peers, or neither of them")
        self._check_states()
        try:
            with torch.inference_mode(False), torch.enable_grad():
                scored = ((term.loss, term.weight) for term in self.terms if term.source != STATES)
                trial.on_scores(scored, self.columns, self.peers)
                self.try_states()
        except ValueError as error:
            raise ValueError(f"strategy={self.name!r}: {error}") from error
        except Exception as error:
            fault = f"{type(error).__name__} on an example of two queries: {error}"
            fix = "a loss takes scores and targets, and must be one finite value per query"
            raise ValueError(f"strategy={self.name!r}: {fault}; {fix}") from error

    def _check_states(self) -> None:
        """Refuse what does not fit hidden states, or a strategy that compares none."""
        chosen = self.layers if isinstance(self.layers, tuple) else ()
        named = isinstance(self.layers, str) and self.layers in ("share", "all")
        if not named and not (chosen and all(type(one) is int and one for one in chosen)):
            fix = 'give numbers from 1 (-1: the last) such as (4, 8, 12), "all" or "share"'
            raise ValueError(f"strategy={self.name!r}: layers={self.layers!r}: {fix}")
        if self.align is not None:
            inner_function(self.align)
        if not self.compares_states and (self.layers != "share" or self.align is not None):
            fix = f"give a Term with source={STATES!r}"
            raise ValueError(f"strategy={self.name!r}: layers and align are of hidden states: {fix}")
        if self.terms[0].source == STATES:
            fix = "begin with a Term on scores"
            raise ValueError(f"strategy={self.name!r}: hidden states train no scoring head: {fix}")

    def try_states(self, student: tuple[int, int] | None = None, teacher: tuple[int, int] | None = None) -> None:
        """Compute the terms on hidden states on an example with so many (layers, dim); raises ValueError."""
        usual = len(self.layers) if isinstance(self.layers, tuple) else 2, 4
        found = ((term.loss, term.weight, term.part) for term in self.terms if term.source == STATES)
        trial.on_states(found, student or usual, teacher or usual)

    @property
    def needs_teacher(self) -> bool:
        """Whether a term's targets are a teacher's scores, or its hidden states."""
        return any(term.source in (TEACHER, STATES) for term in self.terms)

    @property
    def compares_states(self) -> bool:
        """Whether a term's targets are a teacher's hidden states."""
        return any(term.source == STATES for term in self.terms)

    def teacher_layers(self, own: int, teachers: int) -> tuple[int, ...]:
        """Which layers of a teacher with `teachers` layers a student with `own` is compared with, from 1."""
        if self.layers == "all":
            return tuple(range(1, teachers + 1))
        if self.layers == "share":
            return tuple(-(-teachers * layer // own) for layer in range(1, own + 1))  # rounded up: the last is the last
        found = tuple(layer if layer > 0 else teachers + 1 + layer for layer in self.layers)
        if not all(1 <= layer <= teachers for layer in found):
            raise ValueError(f"strategy={self.name!r}: layers={self.layers}: the teacher has layers 1 to {teachers}")
        return found

    def matrix(
        self, model: Callable, tokens: dict, targets: dict[str, Tensor], relevant: Tensor | None = None,
        queued: Tensor | None = None,
    ) -> Matrix:  # fmt: skip
        """The score matrix of one step and its targets by source, from its tokens and targets (batch, docs).

        `relevant` as in `lib.losses.margins.Similarities`, where the strategy compares a whole batch. A model may give
        more columns than targets (the queue of `lib.models.momentum`, at the places `queued`): those are not relevant.
        """
        docs = targets[LABELS].shape[1]
        if self.peers is not None:
            scores = model(tokens, docs)  # (students * batch, docs)
            count = len(scores) // len(targets[LABELS])
            taught = self.peers(scores.detach().unflatten(0, (count, -1)), targets[LABELS]).flatten(0, 1)
            targets = {name: values.repeat(count, *[1] * (values.ndim - 1)) for name, values in targets.items()}
            return Matrix(scores, targets | {PEERS: taught}, scores.new_full((), torch.nan))
        if self.compares_states:
            scores, states = model(tokens, docs, targets[STATES])
            return Matrix(scores, targets | {STATES: states}, scores.new_full((), torch.nan))
        if self.columns is None:
            scores = model(tokens, docs) if queued is None else model(tokens, docs, queued)
            targets = {name: F.pad(values, (0, scores.shape[1] - docs)) for name, values in targets.items()}
            return Matrix(scores, targets, scores.new_full((), torch.nan))
        similarities = model(tokens, docs)._replace(relevant=relevant)
        scores, margin_targets = self.columns(similarities)
        similarity = margins.own(similarities.documents)[:, 1:].mean()
        return Matrix(scores, {term.source: margin_targets for term in self.terms}, similarity)

    def loss(self, scores: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """scores (batch, docs), targets by source as in `Matrix` -> (batch,)."""
        states = iter(targets.get(STATES, ()))
        given = ((next(states) if term.source == STATES else (scores, targets[term.source])) for term in self.terms)
        return sum(term.weight * term.loss(*one) for term, one in zip(self.terms, given, strict=True))
