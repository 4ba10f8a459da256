"""Checks of notebook 17 on adapting to a domain: task arithmetic, DPO, SLERP, a merge of your own."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lib import losses
from lib.exercises import properties
from lib.exercises.examine import Exercise, draw
from lib.models import merging

MODELS = tuple((*(draw(5, seed=seed + number) for number in range(3)), scale) for seed, scale in ((0, 0.4), (3, 1.5)))

task_arithmetic = Exercise(
    task="The weights `base` plus `scale` times the sum of the two task vectors, which are what training changed: "
    "`one` minus `base` and `two` minus `base`; all (n,).",
    praise="With a scale of one half it is the mean of the two models, and the base cancels.",
    cases=MODELS,
    right=lambda base, one, two, scale: base + scale * (one + two - 2 * base),
    returns="one number per weight",
    slips={
        "The base is missing: the scaled changes are added to it.": (
            lambda base, one, two, scale: scale * (one + two - 2 * base)
        ),
        "The models' weights are added, not what training changed: subtract the base from each first.": (
            lambda base, one, two, scale: base + scale * (one + two)
        ),
        "The base is subtracted once from the sum of both; each model started from it.": (
            lambda base, one, two, scale: base + scale * (one + two - base)
        ),
        "The mean of the task vectors is taken; task arithmetic adds them up.": (
            lambda base, one, two, scale: base + scale * ((one + two) / 2 - base)
        ),
        "The scale multiplies the base too; it multiplies the changes alone.": (
            lambda base, one, two, scale: scale * (one + two - base)
        ),
        "The scale multiplies the first task vector alone; it multiplies both.": (
            lambda base, one, two, scale: one * scale + (1 - scale) * base + two - base
        ),
        "The scale multiplies the second task vector alone; it multiplies both.": (
            lambda base, one, two, scale: two * scale + (1 - scale) * base + one - base
        ),
        "The scale has no part.": lambda base, one, two, _: one + two - base,
        "The scale divides the changes; it multiplies them.": (
            lambda base, one, two, scale: base + (one + two - 2 * base) / scale
        ),
        "The task vectors have the wrong sign: they are a model minus the base.": (
            lambda base, one, two, scale: base - scale * (one + two - 2 * base)
        ),
        "The second task vector is taken away; add both.": lambda base, one, two, scale: base + scale * (one - two),
        "Only the first model is merged.": lambda base, one, two, scale: base + scale * (one - base),
        "Only the second model is merged.": lambda base, one, two, scale: base + scale * (two - base),
        "This is the mean of the two models, whatever the scale.": lambda base, one, two, _: (one + two) / 2,
    },
)

PREFERENCES = (
    (draw(3, 4), draw(3, 4, seed=1), 0.5),
    (2 * draw(2, 5, seed=2), draw(2, 5, seed=3), 2.0),
)  # scores, the reference's, beta


def _added(s: Tensor, r: Tensor) -> Tensor:
    return (s[:, :1] - s[:, 1:]) - (r[:, :1] - r[:, 1:])


dpo = Exercise(
    task="softplus(-beta [(s_+ - s_-) - (r_+ - r_-)]) of scores s and a reference's scores r (batch, docs), positive "
    "in column 0, the reference held constant; mean over the negatives, (batch,).",
    praise="Only what is added to the reference's margins counts: with equal reference scores it is RankNet.",
    cases=PREFERENCES,
    right=lambda s, r, beta: losses.dpo(s, r.detach(), beta=beta),
    returns="one value per query",
    gradients=(0, 1),
    sizes=properties.sizes,
    slips={
        "The reference is not held constant: detach it, or its scores learn too.": lambda s, r, beta: losses.dpo(
            s, r, beta=beta
        ),
        "The reference has no part: this is RankNet, and its margins have to be subtracted.": lambda s, r, beta: (
            losses.dpo(s, 0 * r.detach(), beta=beta)
        ),
        "The reference's margins are added; subtract them from the student's.": lambda s, r, beta: losses.dpo(
            s, -r.detach(), beta=beta
        ),
        "The sign in the softplus is wrong, or student and reference are swapped: a margin that grows costs less.": (
            lambda s, r, beta: F.softplus(beta * _added(s, r.detach())).mean(-1)
        ),
        "Beta has no part.": lambda s, r, beta: losses.dpo(s, r.detach()),
        "Beta divides; it multiplies what is added to the margins.": lambda s, r, beta: losses.dpo(
            s, r.detach(), beta=1 / beta
        ),
        "Beta multiplies the student's margin alone; it multiplies the difference of both margins.": (
            lambda s, r, beta: losses.dpo(beta * s, r.detach())
        ),
        "Beta stands before the softplus; it belongs inside it.": lambda s, r, beta: beta * losses.dpo(s, r.detach()),
        "The logarithm is missing: this is the probability of the wrong order.": lambda s, r, beta: torch.sigmoid(
            -beta * _added(s, r.detach())
        ).mean(-1),
        "The logarithm is missing: this is minus the probability of the right order.": (
            lambda s, r, beta: -torch.sigmoid(beta * _added(s, r.detach())).mean(-1)
        ),
        "Probabilities are subtracted; DPO subtracts their logarithms, which are the scores but for a constant.": (
            lambda s, r, beta: losses.dpo(s.softmax(-1), r.softmax(-1).detach(), beta=beta)
        ),
        "The positive is compared with itself too: leave out column 0 before the mean.": lambda s, r, beta: F.softplus(
            -beta * ((s - r.detach())[:, :1] - (s - r.detach()))
        ).mean(-1),
        "The mean over the negatives comes before the softplus; it comes after it.": lambda s, r, beta: F.softplus(
            -beta * _added(s, r.detach()).mean(-1)
        ),
        "What is added is squared, as in Margin-MSE: the reference is no teacher to be copied.": (
            lambda s, r, beta: (beta * _added(s, r.detach())).square().mean(-1)
        ),
        "This is a hinge; the softplus is smooth.": lambda s, r, beta: (-beta * _added(s, r.detach())).relu().mean(-1),
    },
    wraps=properties.SCORE_WRAPS,
    demands={
        "A query's value changes with another query's scores: nothing may be taken over the batch.": (
            lambda f: torch.allclose(f(PREFERENCES[0][0][:1], PREFERENCES[0][1][:1], 0.5), f(*PREFERENCES[0])[:1])
        ),
        "A student that is still its reference does not cost log 2.": lambda f: torch.allclose(
            f(PREFERENCES[0][1], PREFERENCES[0][1], 0.5), torch.full((3,), math.log(2)).double()
        ),
        **properties.shift(PREFERENCES),
        **properties.shift(PREFERENCES, 1, "reference's scores"),
        **properties.finite(PREFERENCES),
    },
)

ARCS = (
    (0.4 * draw(4, seed=0), 0.3 * draw(4, seed=1), 0.25),
    (0.2 * draw(5, seed=2), 0.5 * draw(5, seed=3), 0.8),
    (0.3 * draw(3, seed=4), 0.3 * draw(3, seed=5), 0.5),
)  # two vectors, the second one's share


def _slerp(one: Tensor, two: Tensor, share: float) -> Tensor:
    return merging.slerp([{"w": one}, {"w": two}], (1 - share, share))["w"]


def _arc(one: Tensor, two: Tensor, share: float, angle: Tensor) -> Tensor:
    return (torch.sin((1 - share) * angle) * one + torch.sin(share * angle) * two) / torch.sin(angle)


def _cosine(one: Tensor, two: Tensor) -> Tensor:
    return F.cosine_similarity(one, two, dim=0)


def _straight(one: Tensor, two: Tensor, share: float) -> Tensor:
    return (1 - share) * one + share * two


def _of_norm(vector: Tensor, norm: Tensor) -> Tensor:
    return vector / vector.norm() * norm


slerp = Exercise(
    task="[sin((1 - share) a) one + sin(share a) two] / sin(a) of two vectors (n,), with a the angle between them; "
    "`share` is that of `two`. Where the two are parallel or one is zero, linear.",
    praise="Between two vectors of one norm the norm stays; the straight line comes nearer to zero.",
    cases=ARCS,
    right=_slerp,
    returns="one number per weight",
    slips={
        "This is the straight line between the two; SLERP follows the arc, with sines of its parts.": _straight,
        "The share is that of the first vector; it should be that of the second.": lambda one, two, share: _slerp(
            one, two, 1 - share
        ),
        "The angle is that of vectors which are not normalised: divide the product by both norms.": (
            lambda one, two, share: _arc(one, two, share, torch.acos((one @ two).clamp(-1, 1)))
        ),
        "The cosine stands where the angle is due: take its acos.": lambda one, two, share: _arc(
            one, two, share, _cosine(one, two)
        ),
        "The division by the sine of the angle is missing.": lambda one, two, share: (
            _slerp(one, two, share) * torch.sin(torch.acos(_cosine(one, two)))
        ),
        "The result is that of the normalised vectors: their norms are lost.": lambda one, two, share: _slerp(
            one / one.norm(), two / two.norm(), share
        ),
        "This is the straight line, stretched to the length between both norms: it moves along the arc unevenly.": (
            lambda one, two, share: _of_norm(_straight(one, two, share), (1 - share) * one.norm() + share * two.norm())
        ),
        "This is the straight line, stretched to the first vector's length.": lambda one, two, share: _of_norm(
            _straight(one, two, share), one.norm()
        ),
        "Cosines stand where sines are due.": lambda one, two, share: (
            (
                torch.cos((1 - share) * torch.acos(_cosine(one, two))) * one
                + torch.cos(share * torch.acos(_cosine(one, two))) * two
            )
            / torch.cos(torch.acos(_cosine(one, two)))
        ),
        "The share has no part: this is the middle of the arc.": lambda one, two, _: _slerp(one, two, 0.5),
        "The angle is in degrees; torch's sine takes radians.": lambda one, two, share: _arc(
            one, two, share, torch.rad2deg(torch.acos(_cosine(one, two)))
        ),
    },
    demands={
        "Equal vectors do not give that vector: the sine of their angle is 0, so go the straight way there.": (
            lambda f: all(torch.allclose(f(one, one.clone(), 0.3), one) for case in ARCS for one in case[:2])
        ),
        "A multiple of a vector has no angle to it either, and rounding may put the cosine above 1: go straight.": (
            lambda f: all(torch.allclose(f(one, 3 * one, 0.5), 2 * one) for case in ARCS for one in case[:2])
        ),
        "Opposite vectors have no arc between them that is the only one: go the straight way.": (
            lambda f: torch.allclose(f(ARCS[0][0], -2 * ARCS[0][0], 0.5), -0.5 * ARCS[0][0])
        ),
        "A vector of zeros, such as a bias that was never trained, has no direction: go the straight way.": (
            lambda f: torch.allclose(f(0 * ARCS[0][0], ARCS[0][1], 0.5), 0.5 * ARCS[0][1])
        ),
    },
)

_CHANGES = draw(3, 8, seed=60)
_ALONE = torch.tensor([[2.0, 0.0, 0.0], [0.0, -2.0, 0.0], [0.0, 0.0, 2.0]]).double()
_AGAINST = torch.tensor([[3.0, -1.0, 2.0], [-1.0, 2.0, -5.0]]).double()

merge_changes = Exercise(
    task="One change per weight, (n,), from those of several models, (models, n), by a rule of your own: what all "
    "agree on is kept and not added up, and what one model changed alone is not made smaller.",
    praise="What agrees is not counted twice, and a model that changed nothing there does not weaken another.",
    cases=((_CHANGES,),),
    demands={
        "Your result has not the shape (n,).": lambda f: f(_CHANGES).shape == (8,),
        "Your result is not finite.": lambda f: bool(f(_CHANGES).isfinite().all()),
        "Without any change your result is not 0, or undefined: guard the division.": lambda f: torch.equal(
            f(0 * _CHANGES), torch.zeros(8).double()
        ),
        "Models that all made the same change are merged into another one: a sum counts it several times.": (
            lambda f: torch.allclose(f(_CHANGES[:1].repeat(3, 1)), _CHANGES[0])
        ),
        "A change that one model made alone is made smaller: the zeros of the others are averaged in.": (
            lambda f: torch.allclose(f(_ALONE), _ALONE.sum(0))
        ),
        "Where changes have opposite signs, the smaller one decides the sign.": (
            lambda f: bool((f(_AGAINST) * _AGAINST.sum(0) >= 0).all())
        ),
        "Somewhere your change is larger than that of every model.": (
            lambda f: bool((f(_CHANGES).abs() <= _CHANGES.abs().amax(0) + 1e-9).all())
        ),
        "The order of the models counts.": lambda f: torch.allclose(f(_CHANGES.flip(0)), f(_CHANGES)),
        "The order of the weights counts: permuted changes are not merged into the permuted result.": (
            lambda f: torch.allclose(f(_CHANGES.flip(1)), f(_CHANGES).flip(0))
        ),
        "Changes twice as large are not merged into one twice as large: a threshold has a fixed size.": (
            lambda f: torch.allclose(f(2 * _CHANGES), 2 * f(_CHANGES))
        ),
    },
)
