"""Checks of notebook 08 on margins of a model's own: the adaptive target, its loss, a target of your own."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.exercises import properties
from lib.exercises.examine import Exercise, draw


def _cosines(*names: int) -> tuple[Tensor, ...]:
    return tuple(F.normalize(draw(3, 5, seed=name), dim=-1) for name in names)


def _target(positive: Tensor, negative: Tensor) -> Tensor:
    return (1 + F.cosine_similarity(positive, negative, dim=-1)) / 2


_P, _N, _AXES, _ONES = draw(3, 5), draw(3, 5, seed=1), torch.eye(3).double(), torch.ones(3).double()

adaptive_target = Exercise(
    task="Target margins (1 + cos) / 2 of positive and negative vectors (batch, dim) of any length; (batch,).",
    praise="It is 1 for a copy of the positive, 1/2 for an unrelated negative and 0 for an opposite one.",
    cases=((draw(3, 5), 2 * draw(3, 5, seed=1)), (draw(2, 4, seed=2), draw(2, 4, seed=3))),
    right=_target,
    returns="one value per query",
    sizes=lambda p, _: {"dimensions": p.shape[1], "queries": len(p)},
    slips={
        "The vectors are not normalised: a dot product is a cosine only for vectors of length 1.": (
            lambda p, n: (1 + (p * n).sum(-1)) / 2
        ),
        "The cosine itself is returned: the target is (1 + cos) / 2, from 0 to 1.": lambda p, n: 2 * _target(p, n) - 1,
        "The sign of the cosine is wrong: the more alike the documents, the larger the target.": (
            lambda p, n: 1 - _target(p, n)
        ),
        "1 is added after halving: halve the sum of 1 and the cosine.": lambda p, n: _target(p, n) + 0.5,
        "The half is missing: the target is (1 + cos) / 2.": lambda p, n: 2 * _target(p, n),
        "The cosine is halved without 1 being added first.": lambda p, n: _target(p, n) - 0.5,
        "Negative cosines are clamped to 0: they count as they are.": lambda p, n: (2 * _target(p, n) - 1).clamp(min=0),
        "Every positive meets every negative here; compare a positive with the negative of its own row.": (
            lambda p, n: (1 + F.normalize(p, dim=-1) @ F.normalize(n, dim=-1).T) / 2
        ),
        "The vectors are normalised along the wrong axis: each row is one document, so take dim -1.": (
            lambda p, n: (1 + (F.normalize(p, dim=0) * F.normalize(n, dim=0)).sum(-1)) / 2
        ),
        "The cosine is taken over the queries (dim 0); take it over the dimensions (dim -1).": (
            lambda p, n: (1 + F.cosine_similarity(p, n, dim=0)) / 2
        ),
        "Only one of the two is normalised.": lambda p, n: (1 + (F.normalize(p, dim=-1) * n).sum(-1)) / 2,
        "Only one of the two is normalised, the negative.": lambda p, n: (1 + (p * F.normalize(n, dim=-1)).sum(-1)) / 2,
        "The products are averaged over the dimensions; a dot product adds them up, and a cosine divides by lengths.": (
            lambda p, n: (1 + (p * n).mean(-1)) / 2
        ),
        "The vectors are divided by the length of the whole batch; each row has its own (dim -1).": (
            lambda p, n: (1 + (p * n).sum(-1) / (p.norm() * n.norm())) / 2
        ),
        "The vectors are divided by the sum of their absolute numbers; the length is the root of the sum of squares.": (
            lambda p, n: (1 + (F.normalize(p, p=1, dim=-1) * F.normalize(n, p=1, dim=-1)).sum(-1)) / 2
        ),
        **{
            f"A distance ({says}) stands where the cosine is due.": (
                lambda p, n, alike=alike: alike((F.normalize(p, dim=-1) - F.normalize(n, dim=-1)).norm(dim=-1))
            )
            for says, alike in (
                ("(1 - distance) / 2", lambda distance: (1 - distance) / 2),
                ("1 - distance / 2", lambda distance: 1 - distance / 2),
                ("1 / (1 + distance)", lambda distance: 1 / (1 + distance)),
                ("distance / 2", lambda distance: distance / 2),
            )
        },
    },
    demands={
        "Longer vectors in the same directions change your target: a cosine does not see lengths.": (
            lambda f: torch.allclose(f(2 * _P, 3 * _N), f(_P, _N))
        ),
        "A copy of the positive does not have the target 1.": lambda f: torch.allclose(f(_P, _P).double(), _ONES),
        "An opposite of the positive does not have the target 0.": lambda f: torch.allclose(
            f(_P, -_P).double(), 0 * _ONES, atol=1e-6
        ),
        "A negative at right angles to the positive does not have the target 1/2.": (
            lambda f: torch.allclose(f(_AXES, _AXES.roll(1, 0)).double(), _ONES / 2)
        ),
    },
)


def _adaptive(q: Tensor, p: Tensor, n: Tensor, *, held: bool = True) -> Tensor:
    target = (1 + (p * n).sum(-1)) / 2
    return ((q * p).sum(-1) - (q * n).sum(-1) - (target.detach() if held else target)).square()


adaptive_loss = Exercise(
    task="(margin - target)^2 of normalised query, positive and negative vectors (batch, dim); the target margin (1"
    " + cos(positive, negative)) / 2 is held constant; (batch,).",
    praise="The gradient moves the margin towards its target, and not the target towards the margin.",
    cases=(_cosines(0, 1, 2), _cosines(3, 4, 5)),
    right=_adaptive,
    returns="one value per query",
    gradients=(0, 1, 2),
    sizes=lambda q, *_: {"dimensions": q.shape[1], "queries": len(q)},
    slips={
        "The target is not held constant: detach it, or the gradient moves the documents through it too.": (
            lambda q, p, n: _adaptive(q, p, n, held=False)
        ),
        "The wrong side is detached: the margin has to learn, and the target is to be held constant.": (
            lambda q, p, n: (((q * (p - n)).sum(-1)).detach() - (1 + (p * n).sum(-1)) / 2).square()
        ),
        "The documents are detached everywhere: they are constant in the target alone and learn in the margin.": (
            lambda q, p, n: _adaptive(q, p.detach(), n.detach())
        ),
        "The query is detached: only the target is constant.": lambda q, p, n: _adaptive(q.detach(), p, n),
        "Only the positive is detached in the target; the negative moves through it too.": (
            lambda q, p, n: ((q * (p - n)).sum(-1) - (1 + (p.detach() * n).sum(-1)) / 2).square()
        ),
        "Only the negative is detached in the target; the positive moves through it too.": (
            lambda q, p, n: ((q * (p - n)).sum(-1) - (1 + (p * n.detach()).sum(-1)) / 2).square()
        ),
        "Everything is detached: no gradient reaches the vectors.": lambda q, p, n: _adaptive(q, p, n).detach(),
        "The target is the cosine itself; it should be (1 + cos) / 2.": (
            lambda q, p, n: ((q * (p - n)).sum(-1) - (p * n).sum(-1).detach()).square()
        ),
        "The target compares query and negative; it should compare positive and negative.": (
            lambda q, p, n: ((q * (p - n)).sum(-1) - ((1 + (q * n).sum(-1)) / 2).detach()).square()
        ),
        "The target compares query and positive; it should compare positive and negative.": (
            lambda q, p, n: ((q * (p - n)).sum(-1) - ((1 + (q * p).sum(-1)) / 2).detach()).square()
        ),
        "The half is missing in the target: it is (1 + cos) / 2.": (
            lambda q, p, n: ((q * (p - n)).sum(-1) - (1 + (p * n).sum(-1)).detach()).square()
        ),
        "The sign of the cosine is wrong in the target: the more alike the documents, the larger it is.": (
            lambda q, p, n: ((q * (p - n)).sum(-1) - ((1 - (p * n).sum(-1)) / 2).detach()).square()
        ),
        "The positive is detached in the margin: it is constant in the target alone.": (
            lambda q, p, n: _adaptive(q, p.detach(), n)
        ),
        "The negative is detached in the margin: it is constant in the target alone.": (
            lambda q, p, n: _adaptive(q, p, n.detach())
        ),
        "The margin is missing: the positive's score alone is compared with the target.": (
            lambda q, p, n: ((q * p).sum(-1) - ((1 + (p * n).sum(-1)) / 2).detach()).square()
        ),
        "Large errors are taken as they are and not squared (smooth L1 or Huber): square each one.": (
            lambda q, p, n: F.smooth_l1_loss(
                (q * (p - n)).sum(-1), ((1 + (p * n).sum(-1)) / 2).detach(), reduction="none"
            )
        ),
        "The square is halved, which the definition does not do.": lambda q, p, n: _adaptive(q, p, n) / 2,
        "The products are averaged over the dimensions; a dot product adds them up.": (
            lambda q, p, n: ((q * (p - n)).mean(-1) - ((1 + (p * n).mean(-1)) / 2).detach()).square()
        ),
        "Margins below their target cost nothing here; the loss lifts them.": (
            lambda q, p, n: ((q * (p - n)).sum(-1) - ((1 + (p * n).sum(-1)) / 2).detach()).relu().square()
        ),
        "Margin and target are added, or the margin's sign is wrong: it is the positive's score minus a negative's.": (
            lambda q, p, n: ((q * (n - p)).sum(-1) - ((1 + (p * n).sum(-1)) / 2).detach()).square()
        ),
        "The difference is not squared.": lambda q, p, n: (q * (p - n)).sum(-1) - ((1 + (p * n).sum(-1)) / 2).detach(),
        "The absolute difference is taken, not its square.": (
            lambda q, p, n: ((q * (p - n)).sum(-1) - ((1 + (p * n).sum(-1)) / 2).detach()).abs()
        ),
        "A column is broadcast against a row: every margin meets every target, and only its own is due.": (
            lambda q, p, n: ((q * (p - n)).sum(-1, keepdim=True) - ((1 + (p * n).sum(-1)) / 2).detach()).square()
        ),
        "Margins above their target cost nothing here (a hinge), and the rest is not squared.": (
            lambda q, p, n: (((1 + (p * n).sum(-1)) / 2).detach() - (q * (p - n)).sum(-1)).relu()
        ),
        "Margins above their target cost nothing here (a hinge); the loss pulls them back.": (
            lambda q, p, n: (((1 + (p * n).sum(-1)) / 2).detach() - (q * (p - n)).sum(-1)).relu().square()
        ),
    },
    wraps={says: properties.SCORE_WRAPS[says] for says in list(properties.SCORE_WRAPS)[:3]},
)

_GRID = torch.linspace(-1, 1, 201, dtype=torch.float64)

target_margin = Exercise(
    task="A target margin of your own for cosines of positive and negative (any shape), which asks less of near "
    "copies.",
    praise="A near copy of the positive, which may well be relevant, is no longer pushed away hardest.",
    cases=((_GRID,), (_GRID.reshape(3, 67),)),
    demands={
        "Your result is no tensor of the same shape as the cosines.": lambda f: all(
            f(c).shape == c.shape for c in (_GRID, _GRID.reshape(3, 67))
        ),
        "Your target is not finite for every cosine from -1 to 1.": lambda f: bool(f(_GRID).isfinite().all()),
        "Your target leaves the range from 0 to 1.": lambda f: bool((f(_GRID) >= 0).all() and (f(_GRID) <= 1).all()),
        "Your target depends on the other cosines of the batch; each should be treated by itself.": (
            lambda f: torch.allclose(f(_GRID)[50:60], f(_GRID[50:60]))
        ),
        "Your target does not grow with the cosine from 0 to 0.8: harder negatives should be further behind.": (
            lambda f: bool((f(_GRID[100:181]).diff() > 0).all())
        ),
        "A near copy (cosine 0.99 and more) still has a target above 0.1.": lambda f: bool(
            (f(_GRID[199:]) <= 0.1).all()
        ),
        "A negative of cosine 0.8 has a target below 0.5, so that hard negatives are lost with the copies.": (
            lambda f: bool(f(_GRID[180:181])[0] >= 0.5)
        ),
    },
)
