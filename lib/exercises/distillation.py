"""Checks of notebook 06 on distillation: KL with two temperatures."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lib import losses
from lib.exercises import properties
from lib.exercises.examine import Exercise, draw

PAIRS = ((draw(3, 4), 2 * draw(3, 4, seed=1)), (3 * draw(2, 5, seed=2), draw(2, 5, seed=3)))  # scores, teacher
# scores, teacher, the student's temperature, the teacher's
WARM = tuple((*pair, own, teachers) for pair, (own, teachers) in zip(PAIRS, ((2.0, 3.0), (0.5, 1.5)), strict=True))


_SWAPPED = {
    "The two arguments are swapped: the student's scores come first.": lambda f: lambda s, t, *more: f(t, s, *more)
}


def _kl(s: Tensor, t: Tensor, own: float, teachers: float) -> Tensor:
    return losses.kl(s, t, temperature=own, target_temperature=teachers)


def _terms(s: Tensor, t: Tensor, own: float, teachers: float) -> tuple[Tensor, Tensor, float]:
    return (s / own).log_softmax(-1), (t / teachers).log_softmax(-1), own**2


def _divergence(student: Tensor, teacher: Tensor, factor: float) -> Tensor:
    return (teacher.exp() * (teacher - student)).sum(-1) * factor


def _weighted(weights: Tensor, difference: Tensor, own: float) -> Tensor:
    return (weights * difference).sum(-1) * own**2


kl = Exercise(
    task="KL(teacher || student) of scores and teacher (batch, docs); temperature divides the student's scores, "
    "teacher_temperature the teacher's; times temperature squared; (batch,).",
    praise="Each side has its own temperature, and the gradient keeps its size as the student's grows.",
    cases=WARM,
    right=_kl,
    returns="one value per query",
    gradients=(0,),
    sizes=properties.sizes,
    slips={
        "The teacher's temperature divides the student too: the student's scores have their own temperature.": (
            lambda s, t, own, teachers: _kl(s, t, teachers, teachers) * own**2 / teachers**2
        ),
        "The teacher's temperature divides the student too, and its square is the factor: the student has its own.": (
            lambda s, t, own, teachers: _kl(s, t, teachers, teachers)
        ),
        "The student's temperature divides the teacher too: the teacher's scores have their own temperature.": (
            lambda s, t, own, teachers: _kl(s, t, own, own)
        ),
        "The two temperatures are swapped.": lambda s, t, own, teachers: _kl(s, t, teachers, own),
        "The two temperatures are swapped in the softmaxes: temperature is the student's.": (
            lambda s, t, own, teachers: _kl(s, t, teachers, own) * own**2 / teachers**2
        ),
        "The temperature multiplies the scores on both sides; it divides them.": (
            lambda s, t, own, teachers: _kl(s, t, 1 / own, 1 / teachers) * own**4
        ),
        "The temperature multiplies the student's scores; it divides them.": (
            lambda s, t, own, teachers: _kl(s, t, 1 / own, teachers) * own**4
        ),
        "The temperature multiplies the teacher's scores; it divides them.": (
            lambda s, t, own, teachers: _kl(s, t, own, 1 / teachers)
        ),
        "The student's scores are not divided by its temperature.": (
            lambda s, t, own, teachers: _kl(s, t, 1.0, teachers) * own**2
        ),
        "The teacher's scores are not divided by their temperature.": lambda s, t, own, _: _kl(s, t, own, 1.0),
        "Neither side is divided by its temperature.": lambda s, t, own, _: _kl(s, t, 1.0, 1.0) * own**2,
        "The factor is missing: multiply by the square of the student's temperature.": (lambda *a: _kl(*a) / a[2] ** 2),
        "The factor is the student's temperature; it should be its square.": lambda *a: _kl(*a) / a[2],
        "The factor is the square of the teacher's temperature; it should be the student's.": (
            lambda *a: _kl(*a) * a[3] ** 2 / a[2] ** 2
        ),
        "The factor is the product of the temperatures; it should be the square of the student's.": (
            lambda *a: _kl(*a) * a[3] / a[2]
        ),
        "The factor is the teacher's temperature; it should be the square of the student's.": (
            lambda *a: _kl(*a) * a[3] / a[2] ** 2
        ),
        "The factor is the sum of the temperatures; it should be the square of the student's.": (
            lambda *a: _kl(*a) * (a[2] + a[3]) / a[2] ** 2
        ),
        "The squares of the temperatures divide the scores; the temperatures themselves should.": (
            lambda s, t, own, teachers: _kl(s, t, own**2, teachers**2) / own**2
        ),
        "The roots of the temperatures divide the scores; the temperatures themselves should.": (
            lambda s, t, own, teachers: _kl(s, t, own**0.5, teachers**0.5) * own
        ),
        "The result is divided by the squared temperature; multiply by it.": lambda *a: _kl(*a) / a[2] ** 4,
        "A softmax stands where a log-softmax is due: the student's probabilities lack their logarithm.": (
            lambda *a: _divergence(_terms(*a)[0].exp(), *_terms(*a)[1:])
        ),
        "A softmax stands where a log-softmax is due, on both sides: the difference is that of logarithms.": (
            lambda *a: (_terms(*a)[1].exp() * (_terms(*a)[1].exp() - _terms(*a)[0].exp())).sum(-1) * a[2] ** 2
        ),
        "The weights are log-probabilities: the teacher's softmax itself weighs the difference of logarithms.": (
            lambda *a: (_terms(*a)[1] * (_terms(*a)[1] - _terms(*a)[0])).sum(-1) * a[2] ** 2
        ),
        "The difference of logarithms has no weights: the teacher's probabilities weigh it.": (
            lambda *a: (_terms(*a)[1] - _terms(*a)[0]).sum(-1) * a[2] ** 2
        ),
        "The divergence runs the other way: this is KL(student || teacher), weighted by the student.": (
            lambda s, t, own, teachers: losses.reverse_kl(s, t, temperature=own, target_temperature=teachers)
        ),
        "The teacher's entropy is missing: a cross-entropy is not 0 where the student equals the teacher.": (
            lambda *a: -(_terms(*a)[1].exp() * _terms(*a)[0]).sum(-1) * a[2] ** 2
        ),
        "The teacher's scores lack their softmax.": (
            lambda s, t, own, teachers: (t / teachers * (t / teachers - (s / own).log_softmax(-1))).sum(-1) * own**2
        ),
        "This is a squared difference of probabilities; the divergence weighs a difference of logarithms.": (
            lambda *a: (_terms(*a)[1].exp() - _terms(*a)[0].exp()).square().sum(-1) * a[2] ** 2
        ),
        "The temperatures divide the student's log-probabilities and the teacher's probabilities; divide the scores.": (
            lambda s, t, own, teachers: _weighted(
                t.softmax(-1) / teachers, (t.softmax(-1) / teachers).log() - s.log_softmax(-1) / own, own
            )
        ),
        "The temperatures divide the probabilities of both sides; divide the scores, before the softmax.": (
            lambda s, t, own, teachers: _weighted(
                t.softmax(-1) / teachers, (t.softmax(-1) / teachers).log() - (s.softmax(-1) / own).log(), own
            )
        ),
        "The temperatures divide the log-probabilities of both sides; divide the scores, before the softmax.": (
            lambda s, t, own, teachers: _divergence(s.log_softmax(-1) / own, t.log_softmax(-1) / teachers, own**2)
        ),
        "The student's temperature divides its log-probabilities; divide its scores, before the softmax.": (
            lambda s, t, own, teachers: _divergence(s.log_softmax(-1) / own, (t / teachers).log_softmax(-1), own**2)
        ),
        "The teacher's temperature divides its probabilities; divide its scores, before the softmax.": (
            lambda s, t, own, teachers: _weighted(
                t.softmax(-1) / teachers, (t.softmax(-1) / teachers).log() - (s / own).log_softmax(-1), own
            )
        ),
        "The student's softmax is taken twice: log_softmax of its probabilities in place of its scores.": (
            lambda s, t, own, teachers: _kl((s / own).softmax(-1), t, 1.0, teachers) * own**2
        ),
        "The result is not a number: a logarithm is taken of something below 0, as kl_div does with a log-softmax for "
        "its target unless log_target=True.": lambda *a: F.kl_div(*_terms(*a)[:2], reduction="none").sum(-1),
        "The target of kl_div is a probability and log_target=True is given: it is taken for a logarithm.": (
            lambda *a: (
                F.kl_div(_terms(*a)[0], _terms(*a)[1].exp(), reduction="none", log_target=True).sum(-1) * a[2] ** 2
            )
        ),
        "This is the divergence of Jensen and Shannon, from the mean of both; KL has the teacher's side alone.": (
            lambda s, t, own, teachers: losses.jensen_shannon(s / own, t / teachers) * own**2
        ),
        "This is the mean of both directions; KL(teacher || student) is one of them.": (
            lambda s, t, own, teachers: (
                (_kl(s, t, own, teachers) + losses.reverse_kl(s, t, temperature=own, target_temperature=teachers)) / 2
            )
        ),
        "This is a squared difference of log-probabilities; the divergence weighs the difference by the teacher.": (
            lambda *a: (_terms(*a)[1] - _terms(*a)[0]).square().mean(-1) * a[2] ** 2
        ),
        "The probabilities are divided without a logarithm; the divergence weighs the log of their ratio.": (
            lambda *a: (2 * _terms(*a)[1] - _terms(*a)[0]).exp().sum(-1) * a[2] ** 2
        ),
        "The softmax runs over the queries (dim 0); each query has one over its documents (dim -1).": (
            lambda s, t, own, teachers: _divergence((s / own).log_softmax(0), (t / teachers).log_softmax(0), own**2)
        ),
        "The sum is divided by the number of documents (the mean of kl_div): sum over them.": (
            lambda *a: _kl(*a) / a[0].shape[1]
        ),
    },
    wraps={
        **{says: wrap for says, wrap in properties.SCORE_WRAPS.items() if says not in properties.OF_COLUMN_0},
        **_SWAPPED,
    },
    demands={
        "A query's value changes with another query's scores: nothing may be taken over the batch.": (
            lambda f: torch.allclose(f(*(one[:1] for one in PAIRS[0]), 2.0, 3.0), f(*PAIRS[0], 2.0, 3.0)[:1])
        ),
        **properties.zero_at_the_teacher(WARM),
        **properties.shift(WARM),
        **properties.shift(WARM, 1, "teacher's scores"),
        **properties.large(WARM, _kl),
    },
)
