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
        """Whether a term's targets are a teacher's scores."""
        return any(term.source == TEACHER for term in self.terms)

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

STRATEGIES: dict[str, Strategy] = {
    **{name: Strategy(name, "contrastive", (Term(getattr(losses, name), LABELS),)) for name in CONTRASTIVE},
    **{name: Strategy(name, "distillation", (Term(getattr(losses, name), TEACHER),)) for name in DISTILLATION},
    # RankNet on the teacher's order instead of the labels'
    "teacher_ranknet": Strategy("teacher_ranknet", "distillation", (Term(losses.ranknet, TEACHER),)),
    # The teacher's scores and the labels at once; the second is "MSERanknetTeacher" in the code of 2010.02666
    "info_nce+kl": Strategy(
        "info_nce+kl", "distillation", (Term(losses.info_nce, LABELS, 0.5), Term(losses.kl, TEACHER, 0.5))
    ),
    "mse+ranknet": Strategy("mse+ranknet", "distillation", (Term(losses.mse, TEACHER), Term(losses.ranknet, LABELS))),
}


def named(name: str) -> Strategy:
    """The strategy of a name.

    Raises:
        ValueError: no strategy has that name.
    """
    if name not in STRATEGIES:
        raise ValueError(f"strategy={name!r}: give one of {', '.join(STRATEGIES)}")
    return STRATEGIES[name]
