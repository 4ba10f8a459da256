"""Checks of notebooks 03 and 06 on losses of your own: one that spares false negatives, and a listwise one."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.exercises import properties
from lib.exercises.examine import Exercise, Function, draw

_SCORES, _NONE = draw(3, 4), torch.zeros(3, 4).double()
_CERTAIN, _HALF = _NONE.clone(), _NONE.clone()
_CERTAIN[:, 2], _HALF[:, 2] = 1, 0.5


def _pushed(yours: object, suspicion: Tensor) -> Tensor:
    """How hard each document is pushed down."""
    scores = _SCORES.clone().requires_grad_()
    return torch.autograd.grad(yours(scores, suspicion).sum(), scores)[0]


sparing_loss = Exercise(
    task="A contrastive loss of your own of scores and suspicion (batch, docs), which spares a negative that a "
    "guide takes for relevant; positive in column 0, suspicion from 0 to 1 and 0 in column 0; (batch,).",
    praise="A false negative no longer teaches the student to rank relevant documents low.",
    cases=((_SCORES, _HALF),),
    demands={
        "Your loss is not one value per query, (batch,).": lambda f: f(_SCORES, _HALF).shape == (3,),
        "Without suspicion your loss is not InfoNCE.": lambda f: torch.allclose(
            f(_SCORES, _NONE), F.cross_entropy(_SCORES, torch.zeros(3, dtype=torch.long), reduction="none")
        ),
        "A negative that is certainly relevant (suspicion 1) is still pushed.": (
            lambda f: torch.allclose(_pushed(f, _CERTAIN)[:, 2], _NONE[:, 2])
        ),
        "A negative under suspicion 1/2 is not pushed less than one beyond suspicion.": (
            lambda f: bool((_pushed(f, _HALF)[:, 2] < _pushed(f, _NONE)[:, 2]).all())
        ),
        "A negative under suspicion 1/2 is not pushed at all: half a suspicion is no certainty.": (
            lambda f: bool((_pushed(f, _HALF)[:, 2] > 0).all())
        ),
        "The positive is no longer pushed up.": lambda f: bool((_pushed(f, _HALF)[:, 0] < 0).all()),
        "A constant added to all scores of a query changes your loss.": (
            lambda f: torch.allclose(f(_SCORES + 9, _HALF), f(_SCORES, _HALF))
        ),
        "Your loss is not finite where every negative is certainly relevant.": (
            lambda f: bool(f(_SCORES, torch.tensor([[0.0, 1, 1, 1]] * 3).double()).isfinite().all())
        ),
        "Your loss is not finite when scores are as large as 10,000.": lambda f: bool(
            f(1e4 * _SCORES, _HALF).isfinite().all()
        ),
        "A gradient is not a number where suspicion is 1: mask before the logarithm.": (
            lambda f: bool(_pushed(f, _CERTAIN).isfinite().all())
        ),
    },
)


_RIGHT, _TIED = torch.tensor([[3.0, 2.0, 1.0, 0.0]]).double(), torch.tensor([[1.0, 1.0, 0.0, 0.0]]).double()
_GRADES = torch.tensor([[2.0, 0.0, 1.0, 0.0], [0.0, 3.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]).double()
_GRADED = ((draw(3, 4), _GRADES),)


def _learns(loss: Function) -> bool:
    """Whether small steps down the gradient put a relevant document first that was last."""
    scores, labels = torch.tensor([[0.0, 1.0, 2.0]]).double(), torch.tensor([[1.0, 0.0, 0.0]]).double()
    for _ in range(300):
        scores = scores.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(scores, labels).sum(), scores)
        scores = scores - 0.1 * gradient
    return bool(scores[0, 0] > scores[0, 1:].max())


listwise = Exercise(
    task="A listwise loss of your own of scores and labels (batch, docs); one value per query. Labels are grades, "
    "in any column; several may be above 0, or none.",
    praise="It meets every demand on a listwise loss; which rankings it prefers beyond that is your choice.",
    cases=_GRADED,
    demands={
        "Your loss is not one value per query, a tensor of the shape (batch,).": lambda f: f(*_GRADED[0]).shape == (3,),
        "Your loss is not finite for a query without a relevant document.": (
            lambda f: bool(f(draw(2, 4), 0 * draw(2, 4)).isfinite().all())
        ),
        **properties.SEPARATE_WITH_LABELS,
        "A constant added to all scores of a query changes your loss, which it should not: a ranking stays the same.": (
            lambda f: torch.allclose(f(_GRADED[0][0] + 7, _GRADES), f(*_GRADED[0]))
        ),
        "Your loss depends on the order of the columns: permute documents and labels together, and it should stay.": (
            lambda f: torch.allclose(f(_GRADED[0][0][:, [2, 0, 3, 1]], _GRADES[:, [2, 0, 3, 1]]), f(*_GRADED[0]))
        ),
        "The right order costs no less than the reverse one in your loss.": (
            lambda f: bool((f(_RIGHT, _RIGHT) < f(-_RIGHT, _RIGHT)).all())
        ),
        "Your loss does not see the grades of labels above 0: swapping grades 2 and 1 changes nothing.": (
            lambda f: not torch.allclose(f(draw(1, 4), _RIGHT), f(draw(1, 4), _RIGHT[:, [1, 0, 2, 3]]))
        ),
        "Your loss is not finite when scores are as large as 10,000.": (
            lambda f: bool(f(1e4 * _RIGHT, _RIGHT[:, [3, 2, 1, 0]]).isfinite().all())
        ),
        "Your loss is not finite where labels or scores tie.": lambda f: bool(f(0 * _TIED, _TIED).isfinite().all()),
        "No gradient reaches the scores: a sort, a rank or a comparison alone has none.": (
            lambda f: bool(torch.autograd.grad(f(s := draw(2, 4).requires_grad_(), _GRADES[:2]).sum(), s)[0].any())
        ),
        "Steps down your loss's gradient do not put a relevant document first that was last.": _learns,
    },
)
