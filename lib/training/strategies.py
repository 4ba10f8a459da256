"""Strategies as data: a training strategy is a weighted list of (loss, source of targets).

The paradigms differ only in where the targets come from: labels (contrastive), a teacher's scores (distillation), the
model's own document similarities (self-distillation) or students that learn beside it (mutual learning).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib import losses
from lib.data.groups import LABELS
from lib.losses import margins, representations, selective
from lib.losses.margins import Similarities
from lib.machine.literals import check_name
from lib.models import parts
from lib.training import peers, trial
from lib.training.bound import bind, inner_function, parameters

TEACHER = "teacher"
STATES = "teacher_states"  # a teacher's hidden states, with which the student's own are compared
OWN = "own"  # margins that the model's own document similarities ask for
PEERS = "peers"  # scores of the students that are trained beside it
TEMPERATURE = 0.05  # of a cosine in InfoNCE: 1 / 20, the scale of sentence-transformers' in-batch loss


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


def named(name: str, **values: object) -> Strategy:
    """The strategy of a name, with other values for parameters of its losses or margins: `named("kl", temperature=2)`.

    Raises ValueError if no strategy has that name, or its functions no such parameter or value.
    """
    if not isinstance(name, str) or name not in STRATEGIES:
        raise ValueError(f"strategy={name!r}: give one of {', '.join(STRATEGIES)}")
    base = STRATEGIES[name]
    functions = [one for term in base.terms for one in (term.loss, term.part)]
    functions = list(filter(None, (*functions, base.columns, base.peers, base.align)))
    known = {parameter for function in functions for parameter in parameters(function)}
    known |= {"layers"} if base.compares_states else set()
    if unknown := [parameter for parameter in values if parameter not in known]:
        raise ValueError(f"strategy {name}: no parameter {unknown[0]!r}; it has {', '.join(sorted(known)) or 'none'}")
    if not values:
        return base

    def bound(function: Callable | None) -> Callable | None:
        own = {} if function is None else parameters(function)
        return function and bind(function, **{one: value for one, value in values.items() if one in own})

    terms = tuple(replace(term, loss=bound(term.loss), part=bound(term.part)) for term in base.terms)
    text = ", ".join(f"{parameter}={value}" for parameter, value in sorted(values.items()))
    hooks = {name: bound(getattr(base, name)) for name in ("columns", "peers", "align")}
    layers = values.get("layers", base.layers)
    return replace(base, name=f"{name}({text})", terms=terms, layers=layers, **hooks)


def _labels(name: str, *style: str, **values: object) -> Strategy:
    return Strategy(name, "contrastive", (Term(bind(getattr(losses, name), **values), LABELS),), style=style)


def _teacher(name: str, *style: str) -> Strategy:
    return Strategy(name, "distillation", (Term(getattr(losses, name), TEACHER),), style=style)


def _both(name: str, *style: str, terms: tuple[Term, ...], **fields: object) -> Strategy:
    """Labels beside something else, both with weight 1, as the papers have it."""
    return Strategy(name, terms=(Term(losses.info_nce, LABELS), *terms), style=style, **fields)


def _states(name: str, terms: tuple[Term, ...], *style: str, **fields: object) -> Strategy:
    """Terms on hidden states beside one on the same teacher's scores, which trains the head."""
    return Strategy(name, "distillation", (Term(losses.kl, TEACHER), *terms), style=style, **fields)


def _own(name: str, columns: Callable, *style: str, **values: object) -> Strategy:
    return Strategy(name, "self-distillation", (Term(losses.margin_error, OWN),), bind(columns, **values), style)


# Colours: contrastive ones blue and green, distilled ones orange and red, self-distillation purple and pink, preference
# optimisation olive. They differ in lightness too, and each has its own marker and dash, so that figures can be read in
# grey.
_ALL = (
    _labels("info_nce", "#08306b", "o", "-"),
    _labels("bce", "#2171b5", "s", "--"),
    _labels("hinge", "#0e93b8", "D", ":"),
    _labels("ranknet", "#4a90c2", "^", "-."),
    _labels("lambda_loss", "#08519c", "v", "--"),
    _labels("list_mle", "#379e54", "P", "-."),
    _labels("position_list_mle", "#7a9413", "X", ":"),
    _labels("approx_ndcg", "#006d2c", "<", "-"),
    _labels("smooth_mrr", "#2f9c86", ">", "--"),
    _teacher("kl", "#a63603", "D", "-"),
    _teacher("reverse_kl", "#7f2704", "o", "--"),
    _teacher("jensen_shannon", "#d94801", "s", "-."),
    _teacher("margin_mse", "#e06c00", "v", "--"),
    _teacher("mse", "#b5890b", "P", "-."),
    _teacher("pearson", "#bf7b26", "*", ":"),
    _teacher("list_net", "#cb181d", "^", ":"),
    _teacher("weighted_ranknet", "#ef5238", "<", "--"),
    _teacher("bounded_weighted_ranknet", "#d6604d", "p", ":"),
    _teacher("adr_mse", "#67000d", ">", "-."),
    _teacher("gist", "#c4765d", "X", "-"),
    # A teacher's hidden states beside its scores
    # ARDIR: states as further labels, under perturbed inputs, which are the data's part. Only the abstract was read:
    # the distance, its weight and the layers are inferred (2211.00239)
    _states("ardir", (Term(representations.matching, STATES, 1.0, parts.projected),), "#9c3b0e", "d", "--"),
    # AFD: attention decides which layers teach which (2102.02973)
    _states("afd", (Term(representations.attended, STATES, 1.0, parts.layer_attention),), "#d2691e", "H", ":",
            layers="all"),
    # WCoRD: transport within a batch, contrast over it, of what the head reads (2012.08674)
    _states("wcord", (Term(representations.wasserstein, STATES, 1.0, parts.projected),
                      Term(representations.contrast, STATES, 0.1, parts.critic)),
            "#8b2500", "1", "-", layers=(-1,)),
    # The teacher's channels in the student's order (2103.16844)
    _states("consistent", (Term(representations.matching, STATES),), "#b35900", "h", "-.",
            align=representations.permuted),
    # Margins that the model's own document similarities ask for (2407.21515)
    _own("fixed_margin", margins.fixed, "#7f8bcb", "s", ":", margin=0.3),
    _own("adaptive_margin", margins.adaptive, "#6a51a3", "^", "--"),
    _own("distributed_margin", margins.distributed, "#3f007d", "o", "-"),
    _own("fixed_margin_in_batch", margins.fixed, "#e5628c", "D", ":", margin=0.3, in_batch=True),
    _own("adaptive_margin_in_batch", margins.adaptive, "#dd3497", "v", "--", in_batch=True),
    # Baselines without a teacher, for bi-encoders with cosine
    Strategy("in_batch", "contrastive", (Term(bind(losses.info_nce, temperature=TEMPERATURE), LABELS),),
             margins.contrast, ("#238b45", "P", "-")),
    Strategy("triplet", "contrastive", (Term(bind(losses.hinge, margin=0.3), LABELS),), style=("#005a32", "d", ":")),
    # RankNet on the teacher's order instead of the labels'
    Strategy("teacher_ranknet", "distillation", (Term(losses.ranknet, TEACHER),), style=("#a50f15", "1", "--")),
    # The teacher's scores and the labels at once; the second is "MSERanknetTeacher" in the code of 2010.02666
    Strategy("info_nce+kl", "distillation", (Term(losses.info_nce, LABELS, 0.5), Term(losses.kl, TEACHER, 0.5)),
             style=("#54278f", "h", "-")),
    Strategy("mse+ranknet", "distillation", (Term(losses.mse, TEACHER), Term(losses.ranknet, LABELS)),
             style=("#8a82c0", "H", "--")),
    # Related systems: what a ranker makes of them is said where their functions are
    Strategy("tst", "distillation", (Term(selective.teachable, TEACHER),), style=("#b2182b", "2", "-.")),
    _both("ssd", "#8c2d04", "3", ":", paradigm="distillation", terms=(Term(selective.student_guided, TEACHER),)),
    _both("reff_akd", "#b35806", "4", "--", paradigm="distillation", terms=(Term(losses.kl, TEACHER),)),
    _both("ctsl_mkt", "#99000d", "d", "-", paradigm="distillation", peers=peers.mutual, terms=(
        Term(losses.kl, TEACHER), Term(losses.kl, PEERS), Term(selective.relations, PEERS))),
    _both("mutual", "#6e6e00", "8", "-", paradigm="mutual learning", peers=peers.mutual,
          terms=(Term(losses.kl, PEERS),)),
    _both("cooperative", "#8a8a14", "D", "--", paradigm="mutual learning", peers=peers.cooperative,
          terms=(Term(losses.kl, PEERS),)),
    # The positive is preferred to each negative; DPO's teacher is its reference, typically what the run starts from
    Strategy("dpo", "preference optimisation", (Term(losses.dpo, TEACHER),), style=("#575000", "o", "-")),
    Strategy("orpo", "preference optimisation", (Term(losses.orpo, LABELS),), style=("#8f8400", "s", "--")),
)  # fmt: skip
STRATEGIES: dict[str, Strategy] = {strategy.name: strategy for strategy in _ALL}
# Losses that learn from labels, from a teacher's scores, and from preferences: their strategies have the loss's name.
CONTRASTIVE, DISTILLATION, PREFERENCE = (
    tuple(one.name for one in _ALL if one.paradigm == paradigm and hasattr(losses, one.name))
    for paradigm in ("contrastive", "distillation", "preference optimisation")
)
