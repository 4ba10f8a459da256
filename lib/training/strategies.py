"""Strategies as data: a training strategy is a weighted list of (loss, source of targets).

The paradigms differ only in where the targets come from: labels (contrastive), a teacher's scores (distillation), the
model's own document similarities (self-distillation) or students that learn beside it (mutual learning).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lib import losses
from lib.data.groups import LABELS
from lib.losses import margins, selective
from lib.losses.margins import Similarities
from lib.machine.literals import check_name
from lib.training import peers
from lib.training.bound import bind, inner_function, parameters

TEACHER = "teacher"
OWN = "own"  # margins that the model's own document similarities ask for
PEERS = "peers"  # scores of the students that are trained beside it
TEMPERATURE = 0.05  # of a cosine in InfoNCE: 1 / 20, the scale of sentence-transformers' in-batch loss


@dataclass(frozen=True)
class Term:
    """One loss against one source of targets."""

    loss: Callable[[Tensor, Tensor], Tensor]
    source: str  # LABELS, TEACHER, OWN or PEERS
    weight: float = 1.0

    def __post_init__(self) -> None:
        inner_function(self.loss)
        if self.source not in (sources := (LABELS, TEACHER, OWN, PEERS)):
            raise ValueError(f"source={self.source!r}: give one of {', '.join(sources)}")
        if type(self.weight) not in (int, float) or not math.isfinite(self.weight):
            raise ValueError(f"weight={self.weight!r}: give a finite number")


class Matrix(NamedTuple):
    """The score matrix of a step, its targets, and one number for the history."""

    scores: Tensor  # (batch, columns), column 0 the positive
    targets: dict[str, Tensor]  # source -> (batch, columns)
    similarity: Tensor  # mean similarity of positives and their own negatives; NaN where the step does not know it


@dataclass(frozen=True)
class Strategy:
    """What a run minimises: the weighted sum of its terms, which are tried on a small example (ValueError)."""

    name: str
    paradigm: str  # contrastive, distillation, self-distillation or mutual learning
    terms: tuple[Term, ...]
    # Where the columns of the score matrix come from: None for a query's own group, else a function of the batch's
    # similarities that gives scores and targets (lib.losses.margins). Only models that encode texts separately have it.
    columns: Callable[[Similarities], tuple[Tensor, Tensor]] | None = None
    style: tuple[str, str, str] = field(default=("#444444", ".", "-"), compare=False)  # colour, marker, dash in figures
    # What each of several students teaches the others, from their scores and labels (lib.training.peers); None: one.
    peers: Callable[[Tensor, Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        check_name(self, "name", "paradigm")
        if type(self.terms) is not tuple or not self.terms or not all(isinstance(one, Term) for one in self.terms):
            fix = "give a tuple of Terms, such as (Term(...),)"
            raise ValueError(f"strategy={self.name!r}: terms={self.terms!r}: {fix}")
        sources = {term.source for term in self.terms}
        if self.columns is None and OWN in sources:
            raise ValueError(f"strategy={self.name!r}: the targets {OWN!r} come from columns: give columns=...")
        if self.columns is not None and TEACHER in sources:
            raise ValueError(f"strategy={self.name!r}: the targets come from columns; a {TEACHER!r} would not be read")
        if (PEERS in sources) != (self.peers is not None):
            raise ValueError(f"strategy={self.name!r}: peers=... and the targets {PEERS!r} go together: give both")
        if self.columns is not None and self.peers is not None:
            raise ValueError(f"strategy={self.name!r}: columns compare one student's texts: give columns or peers")
        try:
            with torch.inference_mode(False), torch.enable_grad():
                self._try()
        except ValueError as error:
            raise ValueError(f"strategy={self.name!r}: {error}") from error
        except Exception as error:
            fault = f"{type(error).__name__} on an example of two queries: {error}"
            fix = "a loss takes scores and targets, and must be one finite value per query"
            raise ValueError(f"strategy={self.name!r}: {fault}; {fix}") from error

    def _try(self) -> None:
        """Compute every term on an example of two queries."""
        # Its scores are no leaf of the graph, as in training: else torch refuses what changes them in place.
        scores = torch.tensor([[2.0, 1.0, -1.0], [0.5, 1.0, 0.0]], requires_grad=True).clone()
        targets = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
        if self.columns is not None:
            inner_function(self.columns)
            cosines = [[[0.9, 0.5, 0.1], [0.3, 0.2, 0.0]], [[0.1, 0.4, 0.2], [0.6, 0.7, 0.1]]]
            scores, targets = self.columns(Similarities(*torch.tensor([cosines, cosines], requires_grad=True)))
        if self.peers is not None:
            inner_function(self.peers)
            several = torch.stack([scores, scores.flip(1)]).detach()
            found = self.peers(several, targets)
            if not isinstance(found, Tensor) or found.shape != several.shape or not found.isfinite().all():
                raise ValueError(f"on the scores of two students, (2, 2, 3), peers gives {found}; give as many, finite")
        before = scores.detach().clone(), targets.detach().clone()
        for term in self.terms:
            loss = term.weight * term.loss(scores, targets)
            if not isinstance(loss, Tensor) or loss.shape != (2,) or not loss.isfinite().all():
                raise ValueError(
                    f"on an example of two queries the loss is {loss}; it must be one finite value per query, so "
                    "average over documents only and give less extreme parameters"
                )
            if not loss.requires_grad:
                raise ValueError("no gradient reaches the scores: compute the loss from them with torch")
            if not (scores.equal(before[0]) and targets.equal(before[1])):
                raise ValueError("a loss changes its scores or targets in place: change a copy")

    @property
    def needs_teacher(self) -> bool:
        """Whether a term's targets are a teacher's scores."""
        return any(term.source == TEACHER for term in self.terms)

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
        if self.columns is None:
            scores = model(tokens, docs) if queued is None else model(tokens, docs, queued)
            targets = {name: F.pad(values, (0, scores.shape[1] - docs)) for name, values in targets.items()}
            return Matrix(scores, targets, scores.new_full((), torch.nan))
        similarities = model(tokens, docs)._replace(relevant=relevant)
        scores, margin_targets = self.columns(similarities)
        similarity = margins.own(similarities.documents)[:, 1:].mean()
        return Matrix(scores, {term.source: margin_targets for term in self.terms}, similarity)

    def loss(self, scores: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """scores (batch, docs), targets {source: (batch, docs)} -> (batch,)."""
        return sum(term.weight * term.loss(scores, targets[term.source]) for term in self.terms)


def named(name: str, **values: object) -> Strategy:
    """The strategy of a name, with other values for parameters of its losses or margins: `named("kl", temperature=2)`.

    Raises ValueError if no strategy has that name, or its functions no such parameter or value.
    """
    if not isinstance(name, str) or name not in STRATEGIES:
        raise ValueError(f"strategy={name!r}: give one of {', '.join(STRATEGIES)}")
    base = STRATEGIES[name]
    functions = [*(term.loss for term in base.terms), *filter(None, (base.columns, base.peers))]
    known = {parameter for function in functions for parameter in parameters(function)}
    if unknown := [parameter for parameter in values if parameter not in known]:
        raise ValueError(f"strategy {name}: no parameter {unknown[0]!r}; it has {', '.join(sorted(known)) or 'none'}")
    if not values:
        return base

    def bound(function: Callable) -> Callable:
        return bind(function, **{one: value for one, value in values.items() if one in parameters(function)})

    terms = tuple(replace(term, loss=bound(term.loss)) for term in base.terms)
    text = ", ".join(f"{parameter}={value}" for parameter, value in sorted(values.items()))
    rest = {"columns": base.columns and bound(base.columns), "peers": base.peers and bound(base.peers)}
    return replace(base, name=f"{name}({text})", terms=terms, **rest)


def _labels(name: str, *style: str, **values: object) -> Strategy:
    return Strategy(name, "contrastive", (Term(bind(getattr(losses, name), **values), LABELS),), style=style)


def _teacher(name: str, *style: str) -> Strategy:
    return Strategy(name, "distillation", (Term(getattr(losses, name), TEACHER),), style=style)


def _both(name: str, *style: str, terms: tuple[Term, ...], **fields: object) -> Strategy:
    """Labels beside something else, both with weight 1, as the papers have it."""
    return Strategy(name, terms=(Term(losses.info_nce, LABELS), *terms), style=style, **fields)


def _own(name: str, columns: Callable, *style: str, **values: object) -> Strategy:
    return Strategy(name, "self-distillation", (Term(losses.margin_error, OWN),), bind(columns, **values), style)


# Colours: contrastive ones blue and green, distilled ones orange and red, self-distillation purple and pink. They
# differ in lightness too, and each has its own marker and dash, so that figures can be read in grey.
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
    _both("mutual", "#6e6e00", "o", "-", paradigm="mutual learning", peers=peers.mutual,
          terms=(Term(losses.kl, PEERS),)),
    _both("cooperative", "#8a8a14", "s", "--", paradigm="mutual learning", peers=peers.cooperative,
          terms=(Term(losses.kl, PEERS),)),
)  # fmt: skip
STRATEGIES: dict[str, Strategy] = {strategy.name: strategy for strategy in _ALL}
# Losses that learn from labels, and losses that learn from a teacher's scores: their strategies have the loss's name.
CONTRASTIVE, DISTILLATION = (
    tuple(one.name for one in _ALL if one.paradigm == paradigm and hasattr(losses, one.name))
    for paradigm in ("contrastive", "distillation")
)
