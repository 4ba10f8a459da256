"""Distillation losses over a list: how far is the student's distribution, or its pattern, from the teacher's?

All are shift invariant on both sides, and zero with zero gradient where the student equals the teacher: they take
`log_softmax`, because the logarithm of a softmax plus a small number is neither zero there nor stable at large scores.
"""

import math

import torch
import torch.nn.functional as F

from lib.losses.signature import PerQuery, Scores, ranking_loss


@ranking_loss
def kl(
    scores: Scores, targets: Scores, *, temperature: float = 1.0, target_temperature: float | None = None
) -> PerQuery:
    """KL(teacher || student) of softmax(score / temperature), times the student's temperature squared.

    Hinton et al. 2015, https://arxiv.org/abs/1503.02531; for rankers 2507.08336. The teacher's scores are divided by
    `target_temperature` (None: `temperature`); the factor keeps the gradient's size. Shift invariant on both sides, not
    scale invariant. It is mode-covering: the student must not miss a document that the teacher likes. For two documents
    it becomes Margin-MSE / 8 as the temperature grows. sentence-transformers' DistillKLDivLoss has one temperature for
    both; lightning-ir's has none; PyLate's first min-max-normalises the student.
    """
    student, teacher = _log_softmaxes(scores, targets, temperature, target_temperature)
    return (teacher.exp() * (teacher - student)).sum(-1) * temperature**2


@ranking_loss
def reverse_kl(
    scores: Scores, targets: Scores, *, temperature: float = 1.0, target_temperature: float | None = None
) -> PerQuery:
    """KL(student || teacher), with temperatures and factor as in `kl`; shift invariant on both sides.

    Gu et al. 2024 (MiniLLM), https://arxiv.org/abs/2306.08543. It is mode-seeking: the student may drop what the
    teacher likes a little, and must not like what the teacher does not.
    """
    student, teacher = _log_softmaxes(scores, targets, temperature, target_temperature)
    return (student.exp() * (student - teacher)).sum(-1) * temperature**2


@ranking_loss
def jensen_shannon(
    scores: Scores, targets: Scores, *, temperature: float = 1.0, target_temperature: float | None = None
) -> PerQuery:
    """Jensen-Shannon divergence: mean of KL(teacher || m) and KL(student || m), m their mixture; factor as in `kl`.

    Lin 1991, https://doi.org/10.1109/18.61115. Symmetric where the temperatures are equal, and at most ln 2 times the
    factor. Shift invariant on both sides.
    """
    student, teacher = _log_softmaxes(scores, targets, temperature, target_temperature)
    mixture = torch.logaddexp(student, teacher) - math.log(2)
    both = teacher.exp() * (teacher - mixture) + student.exp() * (student - mixture)
    return both.sum(-1) / 2 * temperature**2


@ranking_loss
def pearson(scores: Scores, targets: Scores) -> PerQuery:
    """1 - Pearson correlation of scores and targets over a query's documents: 0 to 2, and 1 where either is constant.

    lightning-ir's PearsonCorrelation; Huang et al. 2022 (DIST), https://arxiv.org/abs/2205.10536, use it between
    predictions. Invariant to shift and positive scale on both sides. Equal scores have no gradient: it grows without
    bound as they become equal.
    """
    student, teacher = (matrix - matrix.mean(-1, keepdim=True) for matrix in (scores, targets))
    equal = (scores.amax(-1) == scores.amin(-1)) | (targets.amax(-1) == targets.amin(-1))
    correlation = F.cosine_similarity(student.masked_fill(equal[..., None], 1.0), teacher, dim=-1)
    return 1 - correlation.masked_fill(equal, 0.0)


def _log_softmaxes(scores: Scores, targets: Scores, own: float, teachers: float | None) -> tuple[Scores, Scores]:
    """Student and teacher, each at its temperature."""
    return F.log_softmax(scores / own, -1), F.log_softmax(targets / (own if teachers is None else teachers), -1)
