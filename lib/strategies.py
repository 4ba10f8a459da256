"""Strategies as data: a training strategy is a weighted list of (loss, source of targets).

The paradigms differ only in where the targets come from: labels (contrastive) or a teacher's scores (distillation).
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lib import losses
from lib.groups import LABELS

TEACHER = "teacher"


@dataclass(frozen=True)
class Term:
    """One loss against one source of targets."""

    loss: Callable[[Tensor, Tensor], Tensor]
    source: str  # a key of Groups.targets
    weight: float = 1.0


@dataclass(frozen=True)
class Strategy:
    """What a run minimises: the weighted sum of its terms."""

    name: str
    paradigm: str  # contrastive or distillation: the colour in every figure
    terms: tuple[Term, ...]

    @property
    def needs_teacher(self) -> bool:
        return any(term.source == TEACHER for term in self.terms)

    def loss(self, scores: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """scores (batch, docs), targets {source: (batch, docs)} -> (batch,)."""
        return sum(term.weight * term.loss(scores, targets[term.source]) for term in self.terms)


def _contrastive(name: str, loss: Callable) -> Strategy:
    return Strategy(name, "contrastive", (Term(loss, LABELS),))


def _distillation(name: str, loss: Callable) -> Strategy:
    return Strategy(name, "distillation", (Term(loss, TEACHER),))


STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        _contrastive("infonce", losses.info_nce),
        _contrastive("bce", losses.bce),
        _contrastive("ranknet", losses.ranknet),
        _distillation("kl", losses.kl),
        _distillation("margin-mse", losses.margin_mse),
        _distillation("mse", losses.mse),
    )
}


def named(name: str) -> Strategy:
    """The strategy of a name.

    Raises:
        ValueError: no strategy has that name.
    """
    if name not in STRATEGIES:
        raise ValueError(f"strategy={name!r}: give one of {', '.join(STRATEGIES)}")
    return STRATEGIES[name]
