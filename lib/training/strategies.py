"""Strategies as data: a training strategy is a weighted list of (loss, source of targets).

The paradigms differ only in where the targets come from: labels (contrastive), a teacher's scores (distillation) or the
model's own document similarities (self-distillation).
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
from lib.losses import margins
from lib.losses.margins import Similarities
from lib.machine.literals import check_name
from lib.training.bound import bind, inner_function, parameters

TEACHER = "teacher"
OWN = "own"  # margins that the model's own document similarities ask for
TEMPERATURE = 0.05  # of a cosine in InfoNCE: 1 / 20, the scale of sentence-transformers' in-batch loss


@dataclass(frozen=True)
class Term:
    """One loss against one source of targets."""

    loss: Callable[[Tensor, Tensor], Tensor]
    source: str  # LABELS, TEACHER or OWN
    weight: float = 1.0

    def __post_init__(self) -> None:
        inner_function(self.loss)
        if self.source not in (LABELS, TEACHER, OWN):
            raise ValueError(f"source={self.source!r}: give one of {LABELS}, {TEACHER}, {OWN}")
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
    paradigm: str  # contrastive, distillation, self-distillation or preference optimisation
    terms: tuple[Term, ...]
    # Where the columns of the score matrix come from: None for a query's own group, else a function of the batch's
    # similarities that gives scores and targets (lib.losses.margins). Only models that encode texts separately have it.
    columns: Callable[[Similarities], tuple[Tensor, Tensor]] | None = None
    style: tuple[str, str, str] = field(default=("#444444", ".", "-"), compare=False)  # colour, marker, dash in figures

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
    functions = [term.loss for term in base.terms] + ([base.columns] if base.columns else [])
    known = {parameter for function in functions for parameter in parameters(function)}
    if unknown := [parameter for parameter in values if parameter not in known]:
        raise ValueError(f"strategy {name}: no parameter {unknown[0]!r}; it has {', '.join(sorted(known)) or 'none'}")
    if not values:
        return base

    def bound(function: Callable) -> Callable:
        return bind(function, **{one: value for one, value in values.items() if one in parameters(function)})

    terms = tuple(replace(term, loss=bound(term.loss)) for term in base.terms)
    text = ", ".join(f"{parameter}={value}" for parameter, value in sorted(values.items()))
    return replace(base, name=f"{name}({text})", terms=terms, columns=base.columns and bound(base.columns))


def _labels(name: str, *style: str, **values: object) -> Strategy:
    return Strategy(name, "contrastive", (Term(bind(getattr(losses, name), **values), LABELS),), style=style)


def _teacher(name: str, *style: str) -> Strategy:
    return Strategy(name, "distillation", (Term(getattr(losses, name), TEACHER),), style=style)


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
