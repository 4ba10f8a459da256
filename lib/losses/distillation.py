"""Distillation losses over a list: how far is the student's distribution, or its pattern, from the teacher's?

All are zero, with zero gradient, where the student equals the teacher. Logarithms of softmax are computed as such: a
logarithm of a softmax plus a small number, as in some admired code, is neither zero there nor safe far out.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.losses.signature import ranking_loss


@ranking_loss
def kl(scores: Tensor, targets: Tensor, *, temperature: float = 1.0, target_temperature: float | None = None) -> Tensor:
    """KL(teacher || student) of softmax(score / temperature), times the student's temperature squared.

    Hinton et al. 2015, https://arxiv.org/abs/1503.02531; for rankers 2507.08336. The teacher's scores are divided
    by `target_temperature` (`temperature` where it is None). The factor keeps the gradient's size. scores, targets:
    (batch, docs) -> (batch,). Zero where the two agree up to a constant. Shift invariant on both sides, not scale
    invariant. For two documents it becomes Margin-MSE / 8 as the temperature grows. It covers: a document that the
    teacher likes must not be missed. sentence-transformers' DistillKLDivLoss has one temperature for both;
    lightning-ir's has none; PyLate's first min-max-normalises the student.
    """
    student, teacher = _log_softmaxes(scores, targets, temperature, target_temperature)
    return (teacher.exp() * (teacher - student)).sum(-1) * temperature**2


@ranking_loss
def reverse_kl(
    scores: Tensor, targets: Tensor, *, temperature: float = 1.0, target_temperature: float | None = None
) -> Tensor:
    """KL(student || teacher), temperatures and factor as in `kl`.

    It seeks: the student may drop what the teacher likes a little, and must not like what the teacher does not
    (Gu et al. 2024, MiniLLM, https://arxiv.org/abs/2306.08543). scores, targets: (batch, docs) -> (batch,). Shift
    invariant on both sides.
    """
    student, teacher = _log_softmaxes(scores, targets, temperature, target_temperature)
    return (student.exp() * (student - teacher)).sum(-1) * temperature**2


@ranking_loss
def jensen_shannon(
    scores: Tensor, targets: Tensor, *, temperature: float = 1.0, target_temperature: float | None = None
) -> Tensor:
    """Jensen-Shannon divergence: mean of KL(teacher || m) and KL(student || m), m their mixture; factor as in `kl`.

    Lin 1991, https://doi.org/10.1109/18.61115. Symmetric where the temperatures are equal, and at most ln 2 times the
    factor. scores, targets: (batch, docs) -> (batch,). Shift invariant on both sides.
    """
    student, teacher = _log_softmaxes(scores, targets, temperature, target_temperature)
    mixture = torch.logaddexp(student, teacher) - math.log(2)
    both = teacher.exp() * (teacher - mixture) + student.exp() * (student - mixture)
    return both.sum(-1) / 2 * temperature**2


@ranking_loss
def pearson(scores: Tensor, targets: Tensor) -> Tensor:
    """1 - Pearson correlation of scores and targets over a query's documents.

    lightning-ir's PearsonCorrelation; Huang et al. 2022 (DIST), https://arxiv.org/abs/2205.10536, use it between
    predictions. scores, targets: (batch, docs) -> (batch,), between 0 and 2. Invariant to shift and positive scale on
    both sides, so zero wherever the student is a rising linear function of the teacher. 1 where either is constant.
    """
    centred = scores - scores.mean(-1, keepdim=True)
    wanted = targets - targets.mean(-1, keepdim=True)
    return 1 - F.cosine_similarity(centred, wanted, dim=-1)


def _log_softmaxes(
    scores: Tensor, targets: Tensor, temperature: float, target_temperature: float | None
) -> tuple[Tensor, Tensor]:
    student = F.log_softmax(scores / temperature, -1)
    teacher = F.log_softmax(targets / (temperature if target_temperature is None else target_temperature), -1)
    return student, teacher
