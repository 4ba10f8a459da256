"""Distillation losses over a list: divergences between the teacher's and the student's softmax."""

import torch.nn.functional as F
from torch import Tensor


def kl(scores: Tensor, targets: Tensor, *, temperature: float = 1.0, target_temperature: float | None = None) -> Tensor:
    """KL(teacher || student) of softmax(score / temperature), times the student's temperature squared.

    Hinton et al. 2015, https://arxiv.org/abs/1503.02531; for rankers 2507.08336. The teacher's scores are divided
    by `target_temperature` (`temperature` where it is None). The factor keeps the gradient's size. scores, targets:
    (batch, docs) -> (batch,). Zero, with zero gradient, where the two agree up to a constant. Shift invariant.
    """
    student = F.log_softmax(scores / temperature, -1)
    teacher = F.log_softmax(targets / (temperature if target_temperature is None else target_temperature), -1)
    return (teacher.exp() * (teacher - student)).sum(-1) * temperature**2
