"""Strategies as data: a training strategy is a weighted list of (loss, source of targets).

The paradigms differ only in where the targets come from: labels (contrastive), a teacher's scores (distillation) or the
model's own document similarities (self-distillation).
"""

import ast
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lib import losses
from lib.data.groups import LABELS
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

    def matrix(
        self, model: Callable, tokens: dict, targets: dict[str, Tensor], relevant: Tensor | None = None,
        queued: Tensor | None = None,
    ) -> Matrix:  # fmt: skip
        """One step's tokens, and targets by source (batch, docs) -> score matrix and its targets by source.

        `relevant` as in `lib.losses.margins.Similarities`, where the strategy compares a whole batch. A model may give
        more columns than targets (the queue of `lib.models.momentum`, at the places `queued`): those are not relevant.
        """
        docs = targets[LABELS].shape[1]
        if self.columns is None:
            scores = model(tokens, docs) if queued is None else model(tokens, docs, queued)
            more = scores.shape[1] - docs
            targets = {name: F.pad(values, (0, more)) for name, values in targets.items()} if more else targets
            return Matrix(scores, targets, scores.new_full((), torch.nan))
        similarities = model(tokens, docs, in_batch=True)._replace(relevant=relevant)
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


@lru_cache
def named(name: str) -> Strategy:
    """The strategy of a name; in brackets, other values for the parameters of its loss or of its margins.

    "kl(temperature=2)", "adaptive_margin(scale='clamp', error='l1')": text, so that it can stand in an experiment.

    Raises:
        ValueError: no strategy has that name, or it has no such parameter, or a value is of another type or impossible.
    """
    base = base_name(name) if isinstance(name, str) else None
    if base not in STRATEGIES:
        raise ValueError(f"strategy={name!r}: give one of {', '.join(STRATEGIES)}")
    if name == base:
        return STRATEGIES[base]
    values = _checked(STRATEGIES[base], name, _literals(name))
    changed = replace(_changed(STRATEGIES[base], values), name=name)
    _try(changed)
    return changed


def base_name(name: str) -> str:
    """The strategy's name without what stands in brackets."""
    return name.split("(")[0].strip()


def _literals(name: str) -> dict[str, object]:
    """The values in a name's brackets."""
    try:
        call = ast.parse(f"f({name.strip().partition('(')[2]}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError("no call, or a value without a name")
        if len({one.arg for one in call.keywords} - {None}) < len(call.keywords):
            raise ValueError("a parameter twice")
        return {one.arg: ast.literal_eval(one.value) for one in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"strategy={name!r}: write it as name(parameter=literal, ...), each parameter once") from error


def _checked(strategy: Strategy, name: str, values: dict[str, object]) -> dict[str, object]:
    """The values in the parameters' own types; else an error that names parameter and fix."""
    known = {one: kinds for function in _functions(strategy) for one, kinds in _parameters(function).items()}
    if unknown := [one for one in values if one not in known]:
        has = f"has {', '.join(sorted(known))}" if known else "has no parameters"
        raise ValueError(f"strategy={name!r}: no parameter {unknown[0]!r}; {base_name(name)} {has}")
    found = {}
    for one, value in values.items():
        fitting = [kind for kind in known[one] if type(value) is kind or (kind is float and type(value) is int)]
        possible, words = _POSSIBLE.get(one, (lambda _: True, "a finite number"))
        if not fitting:
            wanted = " or ".join(_KINDS[kind] for kind in known[one])
            raise ValueError(f"strategy={name!r}: {one}={value!r} has the wrong type; give {wanted}")
        if isinstance(value, int | float) and not (math.isfinite(value) and possible(value)):
            raise ValueError(f"strategy={name!r}: {one}={value!r} is impossible; give {words}")
        found[one] = float(value) if fitting[0] is float else value
    return found


_KINDS = {float: "a number", int: "a whole number", str: "a text in quotes", bool: "True or False", type(None): "None"}
_ABOVE_ZERO = (lambda value: value > 0, "a finite number above 0")
_POSSIBLE: dict[str, tuple[Callable[[float], bool], str]] = {
    "temperature": _ABOVE_ZERO, "target_temperature": _ABOVE_ZERO, "sigma": _ABOVE_ZERO,
    "mu": (lambda value: value >= 0, "a finite number of at least 0"),
    "cutoff": (lambda value: value >= 1, "a whole number of at least 1"),
    "threshold": (lambda value: -1 <= value <= 1, "a cosine, -1 to 1"),
}  # fmt: skip


def _try(strategy: Strategy) -> None:
    """Refuse what the functions refuse, or cannot compute, on an example of two queries with three documents."""
    scores = torch.tensor([[2.0, 1.0, -1.0], [0.5, 1.0, 0.0]])
    labels = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    try:
        if strategy.columns is not None:
            similarities = torch.tensor([[[0.9, 0.5, 0.1], [0.3, 0.2, 0.0]], [[0.1, 0.4, 0.2], [0.6, 0.7, 0.1]]])
            scores, labels = strategy.columns(Similarities(similarities, similarities))
        loss = strategy.loss(scores, {term.source: labels for term in strategy.terms})
    except ValueError as error:
        raise ValueError(f"strategy={strategy.name!r}: {error}") from error
    except OverflowError:
        loss = torch.tensor(torch.nan)
    if not loss.isfinite().all():
        raise ValueError(f"strategy={strategy.name!r}: the loss of an example is not finite; give less extreme values")


def _changed(strategy: Strategy, values: dict[str, object]) -> Strategy:
    """A strategy with other values where its functions have these parameters."""

    def with_values(function: Callable) -> Callable:
        own = {one: value for one, value in values.items() if one in _parameters(function)}
        return partial(function, **own) if own else function

    terms = tuple(replace(term, loss=with_values(term.loss)) for term in strategy.terms)
    return replace(strategy, terms=terms, columns=strategy.columns and with_values(strategy.columns))


def _functions(strategy: Strategy) -> list[Callable]:
    return [*(term.loss for term in strategy.terms), *([strategy.columns] if strategy.columns else [])]


def _keywords(function: Callable) -> dict[str, inspect.Parameter]:
    """The keyword parameters of a loss or of a function of similarities."""
    parameters = inspect.signature(function).parameters.items()
    return {name: one for name, one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}


def _parameters(function: Callable) -> dict[str, tuple[type, ...]]:
    """Name -> the types that a value may have."""
    return {name: get_args(one.annotation) or (one.annotation,) for name, one in _keywords(function).items()}


def values_of(function: Callable) -> dict[str, object]:
    """The keyword parameters of a loss or of a function of similarities: name -> value, given or default."""
    return {name: one.default for name, one in _keywords(function).items()}
