"""Students that are trained beside each other and teach each other.

A step's matrix has the rows of all students: the targets of one are what the others score on the same groups. Only the
first student is kept.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lib.losses.signature import Scores

PerStudent = Float[Tensor, "students batch docs"]


class Students(nn.Module):
    """Rankers of one architecture that read the same tokens; the scores of one come below those of another."""

    def __init__(self, *rankers: nn.Module):
        super().__init__()
        self.rankers = nn.ModuleList(rankers)

    def forward(self, tokens: dict, docs: int) -> Scores:
        """Tokens of (batch, docs) pairs -> (students * batch, docs)."""
        return torch.cat([ranker(tokens, docs) for ranker in self.rankers])


def mutual(scores: PerStudent, labels: Scores) -> PerStudent:
    """For each student the mean of the others' scores, whatever they are worth.

    Zhang et al. 2018 (deep mutual learning), https://arxiv.org/abs/1706.00384.
    """
    return (scores.sum(0) - scores) / (len(scores) - 1)


def cooperative(scores: PerStudent, labels: Scores, *, step: float = 0.5) -> PerStudent:
    """For each student and query its own scores, moved by `step` to those of the best student if that one is better.

    Livanos et al. 2024, https://arxiv.org/abs/2402.05942: a model finds where it is deficient, and one that is strong
    there teaches it by virtual instances, whose target is the student's output moved half way to the teacher's.
    Translated: a query is the instance, its training labels say which student ranks it best (log-likelihood of the
    positives under a softmax over the group), and no instance is made up.
    """
    likelihood = (F.log_softmax(scores, -1) * labels).sum(-1)  # (students, batch)
    best = likelihood.argmax(0)
    strong = scores.gather(0, best[None, :, None].expand(1, *scores.shape[1:]))
    better = likelihood.max(0).values > likelihood
    return torch.where(better[..., None], scores + step * (strong - scores), scores)
