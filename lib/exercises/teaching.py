"""Checks of notebook 16 on ways to teach: a peer's targets, SSD's choice of draws, a way of your own."""

import torch
from torch import Tensor

from lib import losses
from lib.exercises import properties
from lib.exercises.examine import Exercise, Function, draw
from lib.losses import selective

STUDENTS = tuple((draw(*shape, seed=seed),) for seed, shape in enumerate([(2, 3, 4), (3, 2, 4), (4, 3, 2)]))


def _others(s: Tensor) -> Tensor:
    return (s.sum(0) - s) / (len(s) - 1)


mutual_targets = Exercise(
    task="For each of several students the mean of the other students' scores, held constant; scores and targets "
    "(students, batch, docs).",
    praise="Every student is a teacher, and no student teaches itself.",
    cases=STUDENTS,
    right=lambda s: _others(s).detach(),
    returns="one target per student, query and document",
    gradients=(0,),
    sizes=lambda s: {"students": len(s), "other students": len(s) - 1},
    slips={
        "The targets are not held constant: detach them, or a student learns by moving its peers.": _others,
        "A student's own scores are in its target: leave them out of the mean.": lambda s: (
            s.mean(0, keepdim=True).expand_as(s).detach()
        ),
        "There is one target for all students, with each one's own scores in it: each has another.": (
            lambda s: s.mean(0).detach()
        ),
        "The sum over the other students is taken; take their mean.": lambda s: (s.sum(0) - s).detach(),
        "The sum is divided by the number of all students; the others are one fewer.": (
            lambda s: ((s.sum(0) - s) / len(s)).detach()
        ),
        "Each student is its own teacher: its target is its own scores.": lambda s: s.detach(),
        "Each student learns from one other, its neighbour; take the mean of all others.": lambda s: s.roll(1, 0),
        "The order of the students is reversed: with three of them the middle one learns from itself.": (
            lambda s: s.flip(0).detach()
        ),
        "The largest of the others' scores is taken; take their mean.": lambda s: torch.stack(
            [torch.cat([s[:n], s[n + 1 :]]).amax(0) for n in range(len(s))]
        ).detach(),
        "A softmax is taken: the targets are scores, and the loss takes a softmax of them itself.": (
            lambda s: _others(s).softmax(-1).detach()
        ),
        "The mean is over the other queries (dim 1); take it over the other students (dim 0).": (
            lambda s: ((s.sum(1, keepdim=True) - s) / max(1, s.shape[1] - 1)).detach()
        ),
        "The student's own scores are subtracted from the mean of the others, which is a difference and no target.": (
            lambda s: (_others(s) - s).detach()
        ),
    },
)

DRAWS = tuple(
    (2 * draw(*shape[:2], seed=seed), draw(*shape, seed=seed + 9) + 3 * draw(1, 1, shape[2], seed=seed + 19))
    for seed, shape in enumerate([(3, 4, 6), (2, 5, 8), (1, 3, 4)])
)  # scores (batch, docs), draws (batch, docs, draws)


def _guided(s: Tensor, draws: Tensor, temperature: float = 5.0, share: float = 0.5) -> Tensor:
    return selective.guided(s, draws, temperature, share)


def _agreement(s: Tensor, draws: Tensor) -> Tensor:
    return torch.einsum("bd,bdk->bk", s - s.mean(1, keepdim=True), draws)


def _mixed(agreement: Tensor, draws: Tensor, *, centre: bool = True, even: bool = False, least: bool = False) -> Tensor:
    """Draws with the weights that some agreement gives them, by hand."""
    kept = agreement.topk(agreement.shape[1] // 2, dim=1, largest=not least).indices
    chosen = torch.zeros_like(agreement, dtype=torch.bool).scatter(1, kept, True)
    weights = ((0 if even else 1) * agreement / 5).masked_fill(~chosen, -torch.inf).softmax(1)
    return torch.einsum("bk,bdk->bd", weights, draws - draws.mean(1, keepdim=True) if centre else draws)


def _not_renormalised(s: Tensor, draws: Tensor) -> Tensor:
    draws = draws - draws.mean(1, keepdim=True)
    agreement = _agreement(s, draws)
    kept = agreement >= agreement.topk(agreement.shape[1] // 2, dim=1).values[:, -1:]
    return torch.einsum("bk,bdk->bd", (agreement / 5).softmax(1) * kept, draws)


ssd_targets = Exercise(
    task="The weighted mean of the better half of a teacher's draws (batch, docs, draws), each centred over the "
    "documents; agreement is the product with the student's centred scores (batch, docs), weights are the softmax of "
    "agreement / 5 over what is kept; (batch, docs), held constant.",
    praise="The student chooses among its teacher's opinions, and no gradient comes from the choice.",
    cases=DRAWS,
    right=lambda s, draws: _guided(s.detach(), draws),
    returns="one target per query and document",
    sizes=lambda s, draws: {"draws": draws.shape[2], "draws that are kept": draws.shape[2] // 2},
    slips={
        "The draws keep their own level in the mean: subtract each draw's mean over the documents.": (
            lambda s, draws: _mixed(_agreement(s, draws), draws, centre=False)
        ),
        "Nothing is centred: a draw's and a student's own level decide the agreement.": (
            lambda s, draws: _mixed(torch.einsum("bd,bdk->bk", s, draws), draws, centre=False)
        ),
        "The agreement is that of scores that are not centred: subtract each query's mean, of both, before it.": (
            lambda s, draws: _mixed(torch.einsum("bd,bdk->bk", s, draws), draws)
        ),
        "The draws are averaged over the draws and not over the documents when they are centred.": (
            lambda s, draws: _mixed(_agreement(s, d := draws - draws.mean(2, keepdim=True)), d, centre=False)
        ),
        "All draws are kept; only the half that the student agrees with should be.": (
            lambda s, draws: _guided(s, draws, share=1.0)
        ),
        "The half that the student agrees with least is kept; keep the other one.": (
            lambda s, draws: _mixed(_agreement(s, draws), draws, least=True)
        ),
        "Only the best draw is kept; keep half of them.": lambda s, draws: _guided(s, draws, share=1e-9),
        "The kept draws count alike: weight them by the softmax of agreement / 5.": (
            lambda s, draws: _mixed(_agreement(s, draws), draws, even=True)
        ),
        "The student has no part: this is the mean of all draws.": (
            lambda s, draws: (draws - draws.mean(1, keepdim=True)).mean(2)
        ),
        "The temperature is missing: divide the agreement by 5.": lambda s, draws: _guided(s, draws, 1.0),
        "The temperature multiplies the agreement; it divides it.": lambda s, draws: _guided(s, draws, 0.2),
        "The weights are a softmax over all draws, so that those of the kept ones do not add up to 1.": (
            _not_renormalised
        ),
    },
    demands={
        "Another level of the student's scores chooses other draws: centre each query's scores.": lambda f: all(
            torch.allclose(f(s + 7, draws), f(s, draws)) for s, draws in DRAWS
        ),
        "A query's target changes with another query: nothing may be taken over the batch.": (
            lambda f: torch.allclose(f(DRAWS[0][0][:1], DRAWS[0][1][:1]), f(*DRAWS[0])[:1])
        ),
        "The targets are not held constant: detach the scores, or the student learns to choose easy teachers.": (
            lambda f: not f(DRAWS[0][0].clone().requires_grad_(), DRAWS[0][1]).requires_grad
        ),
    },
)

_S, _T = draw(3, 4, seed=40), 2 * draw(3, 4, seed=41)
_PAIR = ((_S, _T),)


def _no_better_than_the_teacher(loss: Function) -> bool:
    at_teacher = loss(_T, _T)
    others = (2 * _T, _T / 2, -_T, 0 * _T, _T + 0.3 * _S, _T.flip(-1))
    return all(bool((at_teacher <= loss(other, _T) + 1e-9).all()) for other in others)


def _follows(loss: Function) -> bool:
    """Whether small steps down the gradient put the documents in the teacher's order."""
    scores, wanted = torch.zeros(1, 4).double(), torch.tensor([[2.0, 0.0, 3.0, 1.0]]).double()
    for _ in range(500):
        scores = scores.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(scores, wanted).sum(), scores)
        scores = scores - 0.1 * gradient
    return torch.equal(scores.argsort(-1), wanted.argsort(-1))


own_way = Exercise(
    task="A loss of your own of scores and a teacher's scores (batch, docs), one value per query, of which the "
    "teacher's own scores are a minimum; not KL or Margin-MSE itself.",
    praise="It meets every demand on a way to teach by scores; whether it helps a ranker is for the table to say.",
    cases=_PAIR,
    demands={
        "Your loss is not one value per query, a tensor of the shape (batch,).": lambda f: f(_S, _T).shape == (3,),
        "This is KL, one of the baselines: change what it listens to.": (
            lambda f: not torch.allclose(f(_S, _T), losses.kl(_S, _T))
        ),
        "This is Margin-MSE, one of the baselines: change what it listens to.": (
            lambda f: not torch.allclose(f(_S, _T), losses.margin_mse(_S, _T))
        ),
        **properties.SEPARATE_WITH_LABELS,
        **properties.shift(_PAIR),
        **properties.shift(_PAIR, 1, "teacher's scores"),
        "The teacher has no part: other scores of it change nothing.": lambda f: (
            not torch.allclose(f(_S, _T), f(_S, -_T))
        ),
        "No gradient reaches the student's scores: a sort, a comparison or a detach has none.": (
            lambda f: bool(torch.autograd.grad(f(s := _S.clone().requires_grad_(), _T).sum(), s)[0].any())
        ),
        "Some other scores cost less than the teacher's own: the loss asks for something else than the teacher.": (
            _no_better_than_the_teacher
        ),
        "Steps down your loss's gradient do not bring the documents into the teacher's order.": _follows,
        "Your loss depends on the order of the columns: permute both together, and it should stay.": (
            lambda f: torch.allclose(f(_S[:, [0, 3, 1, 2]], _T[:, [0, 3, 1, 2]]), f(_S, _T))
        ),
        **properties.finite(_PAIR),
    },
)
