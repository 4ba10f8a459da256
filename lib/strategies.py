"""Strategies as data: a training strategy is a weighted list of (loss, source of targets).

The paradigms differ only in where the targets come from: labels (contrastive), a teacher's scores (distillation) or the
model's own document similarities (self-distillation).
"""

import ast
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lib import losses
from lib.groups import LABELS
from lib.losses import margins
from lib.losses.margins import Similarities

TEACHER = "teacher"
OWN = "own"  # margins that the model's own document similarities ask for


@dataclass(frozen=True)
class Term:
    """One loss against one source of targets."""

    loss: Callable[[Tensor, Tensor], Tensor]
    source: str  # LABELS, TEACHER or OWN
    weight: float = 1.0


class Matrix(NamedTuple):
    """A step's score matrix, what it should be, and what is only looked at."""

    scores: Tensor  # (batch, columns), column 0 the positive
    targets: dict[str, Tensor]  # source -> (batch, columns)
    alike: Tensor  # mean similarity of positives and their own negatives; NaN where the step does not know it


@dataclass(frozen=True)
class Strategy:
    """What a run minimises: the weighted sum of its terms."""

    name: str
    paradigm: str  # contrastive, distillation or self-distillation: the colour in every figure
    terms: tuple[Term, ...]
    # Where the columns of the score matrix come from: None for a query's own group, else a function of the batch's
    # similarities that gives scores and targets (lib.losses.margins). Only models that encode texts apart have these.
    columns: Callable[[Similarities], tuple[Tensor, Tensor]] | None = None

    @property
    def needs_teacher(self) -> bool:
        """Whether a term's targets are a teacher's scores."""
        return any(term.source == TEACHER for term in self.terms)

    def matrix(self, model: Callable, tokens: dict, targets: dict[str, Tensor]) -> "Matrix":
        """One step's tokens, and targets by source (batch, docs) -> score matrix and its targets by source.

        A model may give more columns than targets (the queue of `lib.models.momentum`): those are not relevant.
        """
        docs = targets[LABELS].shape[1]
        if self.columns is None:
            scores = model(tokens, docs)
            more = scores.shape[1] - docs
            targets = {name: F.pad(values, (0, more)) for name, values in targets.items()} if more else targets
            return Matrix(scores, targets, scores.new_full((), torch.nan))
        similarities = model(tokens, docs, in_batch=True)
        scores, wanted = self.columns(similarities)
        alike = margins.own(similarities.documents)[:, 1:].mean()
        return Matrix(scores, {term.source: wanted for term in self.terms}, alike)

    def loss(self, scores: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """scores (batch, docs), targets {source: (batch, docs)} -> (batch,)."""
        return sum(term.weight * term.loss(scores, targets[term.source]) for term in self.terms)


# Losses that learn from labels, and losses that learn from a teacher's scores; a strategy has its loss's name.
CONTRASTIVE = (
    "info_nce", "bce", "hinge", "ranknet", "lambda_loss", "list_mle", "position_list_mle", "approx_ndcg", "smooth_mrr",
)  # fmt: skip
DISTILLATION = (
    "kl", "reverse_kl", "jensen_shannon", "margin_mse", "mse", "pearson", "list_net", "weighted_ranknet", "adr_mse",
    "gist",
)  # fmt: skip

# Losses whose targets are margins that the model's own document similarities ask for (2407.21515).
SELF = {
    "fixed_margin": partial(margins.fixed, margin=0.3),
    "adaptive_margin": margins.adaptive,
    "distributed_margin": margins.distributed,
    "fixed_margin_in_batch": partial(margins.fixed, margin=0.3, in_batch=True),
    "adaptive_margin_in_batch": partial(margins.adaptive, in_batch=True),
}
TEMPERATURE = 0.05  # of a cosine in InfoNCE: 1 / 20, the scale of sentence-transformers' in-batch loss


STRATEGIES: dict[str, Strategy] = {
    **{name: Strategy(name, "contrastive", (Term(getattr(losses, name), LABELS),)) for name in CONTRASTIVE},
    **{name: Strategy(name, "distillation", (Term(getattr(losses, name), TEACHER),)) for name in DISTILLATION},
    **{
        name: Strategy(name, "self-distillation", (Term(losses.margin_error, OWN),), columns)
        for name, columns in SELF.items()
    },
    # Baselines without a teacher, for bi-encoders with cosine
    "in_batch": Strategy(
        "in_batch", "contrastive", (Term(partial(losses.info_nce, temperature=TEMPERATURE), LABELS),), margins.contrast
    ),
    "triplet": Strategy("triplet", "contrastive", (Term(partial(losses.hinge, margin=0.3), LABELS),)),
    # RankNet on the teacher's order instead of the labels'
    "teacher_ranknet": Strategy("teacher_ranknet", "distillation", (Term(losses.ranknet, TEACHER),)),
    # The teacher's scores and the labels at once; the second is "MSERanknetTeacher" in the code of 2010.02666
    "info_nce+kl": Strategy(
        "info_nce+kl", "distillation", (Term(losses.info_nce, LABELS, 0.5), Term(losses.kl, TEACHER, 0.5))
    ),
    "mse+ranknet": Strategy("mse+ranknet", "distillation", (Term(losses.mse, TEACHER), Term(losses.ranknet, LABELS))),
}


def named(name: str) -> Strategy:
    """The strategy of a name; in brackets, other values for the parameters of its loss or of its margins.

    "kl(temperature=2)", "adaptive_margin(scale='clamp', error='l1')": text, so that it can stand in an experiment.

    Raises:
        ValueError: no strategy has that name, or it has no such parameter.
    """
    written = re.fullmatch(r"([^()]+)\((.+)\)", name)
    base = written[1] if written else name
    if base not in STRATEGIES:
        raise ValueError(f"strategy={name!r}: give one of {', '.join(STRATEGIES)}")
    return _changed(STRATEGIES[base], name, _literals(name)) if written else STRATEGIES[base]


def _literals(name: str) -> dict[str, object]:
    try:
        call = ast.parse(name[name.index("(") :].replace("(", "f(", 1), mode="eval").body
        if call.args:
            raise ValueError("a value without a name")
        return {one.arg: ast.literal_eval(one.value) for one in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"strategy={name!r}: write it as name(parameter=literal, ...)") from error


def _changed(strategy: Strategy, name: str, values: dict[str, object]) -> Strategy:
    """A strategy with other values where its functions have these parameters."""
    functions = [*(term.loss for term in strategy.terms), *([strategy.columns] if strategy.columns else [])]
    known = {parameter for function in functions for parameter in _parameters(function)}
    if unknown := [one for one in values if one not in known]:
        has = f"has {', '.join(sorted(known))}" if known else "has no parameters"
        raise ValueError(f"strategy={name!r}: no parameter {unknown[0]!r}; {base_name(name)} {has}")

    def with_values(function: Callable) -> Callable:
        own = {one: value for one, value in values.items() if one in _parameters(function)}
        return partial(function, **own) if own else function

    terms = tuple(replace(term, loss=with_values(term.loss)) for term in strategy.terms)
    return replace(strategy, name=name, terms=terms, columns=strategy.columns and with_values(strategy.columns))


def base_name(name: str) -> str:
    """The strategy's name without what stands in brackets."""
    return name.split("(")[0]


def _parameters(function: Callable) -> list[str]:
    """The keyword parameters of a loss or of a function of similarities."""
    parameters = inspect.signature(function).parameters.values()
    return [one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY]
