"""Checks of notebooks 03 and 06 on losses of scores: InfoNCE and its gradient, RankNet, two losses of your own."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lib import losses
from lib.exercises import properties
from lib.exercises.examine import Exercise, Function, draw

SCORES = ((draw(3, 4),), (3 * draw(2, 5, seed=1),), (draw(1, 2, seed=2),))  # (batch, docs)


def _labels(scores: Tensor) -> Tensor:
    return F.one_hot(scores.new_zeros(len(scores), dtype=torch.long), scores.shape[1]).to(scores.dtype)


def _rows(scores: Tensor) -> Tensor:
    return torch.arange(len(scores)) % scores.shape[1]


def _info_nce(scores: Tensor) -> Tensor:
    return losses.info_nce(scores, _labels(scores))


info_nce = Exercise(
    task="InfoNCE of scores (batch, docs) with the positive in column 0; one value per query, (batch,).",
    praise="Only differences of scores count in it, and it stays finite when they are large.",
    cases=SCORES,
    right=_info_nce,
    returns="one value per query",
    gradients=(0,),
    sizes=properties.sizes,
    slips={
        "The logarithm is missing: the loss is minus the log of the positive's probability.": (
            lambda s: -s.softmax(-1)[:, 0]
        ),
        "This is 1 minus the positive's probability: the loss is minus the log of that probability.": (
            lambda s: 1 - s.softmax(-1)[:, 0]
        ),
        "The softmax is taken twice: cross_entropy takes a log-softmax itself, so give it the scores.": (
            lambda s: _info_nce(s.softmax(-1))
        ),
        "The targets given to cross_entropy are the rows' own numbers; the target of every row is column 0.": (
            lambda s: F.cross_entropy(s, _rows(s), reduction="none")
        ),
        "The positive is missing in the sum of the denominator: it is one of the documents there.": (
            lambda s: s[:, 1:].logsumexp(-1) - s[:, 0]
        ),
        "Minus the log is averaged over all documents; only the positive's counts.": lambda s: (
            -s.log_softmax(-1).mean(-1)
        ),
        "Minus the log is summed over all documents; only the positive's counts.": lambda s: -s.log_softmax(-1).sum(-1),
        "The scores are not exponentiated: the probability is a softmax of them.": (
            lambda s: -(s[:, 0] / s.sum(-1)).log()
        ),
        "The softmax is taken over the queries (dim 0); each query has one over its own documents (dim -1).": (
            lambda s: -s.log_softmax(0)[:, 0]
        ),
        "This is the entropy of the softmax, in which the label has no part.": (
            lambda s: -(s.softmax(-1) * s.log_softmax(-1)).sum(-1)
        ),
        "The denominator has a mean where a sum is due: logsumexp adds up the documents.": (
            lambda s: s.exp().mean(-1).log() - s[:, 0]
        ),
        "The logarithm has base 2; the loss has the natural one.": lambda s: (
            _info_nce(s) / torch.log(torch.tensor(2.0))
        ),
        "This is a mean over pairs of the positive and one negative (RankNet); InfoNCE has one softmax over all.": (
            lambda s: F.softplus(s[:, 1:] - s[:, :1]).mean(-1)
        ),
        "This is a sum over pairs of the positive and one negative (RankNet); InfoNCE has one softmax over all.": (
            lambda s: F.softplus(s[:, 1:] - s[:, :1]).sum(-1)
        ),
        "The largest score stands for the whole sum: the denominator adds up all documents.": (
            lambda s: s.amax(-1) - s[:, 0]
        ),
        "This is a binary cross-entropy of each document by itself; InfoNCE has one softmax over all.": (
            lambda s: losses.bce(s, _labels(s))
        ),
    },
    wraps=properties.SCORE_WRAPS,
    demands={**properties.SEPARATE, **properties.shift(SCORES), **properties.finite(SCORES)},
)

info_nce_gradient = Exercise(
    task="The derivative of each query's InfoNCE with respect to its scores (batch, docs), by the formula.",
    praise="It sums to zero over a query's documents: what the positive gains, the negatives lose.",
    cases=SCORES,
    right=lambda s: s.softmax(-1) - _labels(s),
    returns="one value per query and document",
    sizes=properties.sizes,
    slips={
        "The label is missing: 1 has to be subtracted from the positive's probability.": lambda s: s.softmax(-1),
        "1 is subtracted from every document's probability; subtract it from the positive's alone.": (
            lambda s: s.softmax(-1) - 1
        ),
        "1 is subtracted from the first row, not from the first column: column 0 is the positive.": (
            lambda s: s.softmax(-1) - (torch.arange(len(s)) == 0).to(s.dtype).unsqueeze(1)
        ),
        "The probabilities are log-probabilities here: the derivative has the softmax itself.": (
            lambda s: s.log_softmax(-1) - _labels(s)
        ),
        "The scores are taken as they are: the derivative has their softmax.": lambda s: s - _labels(s),
        "This is divided by the number of queries, as for the mean of the batch; each query's own loss is due.": (
            lambda s: (s.softmax(-1) - _labels(s)) / len(s)
        ),
        "This is the derivative of the positive's probability, not of minus its log.": (
            lambda s: s.softmax(-1)[:, :1] * (_labels(s) - s.softmax(-1))
        ),
        "The sigmoid of each score by itself is taken; the documents share one softmax.": (
            lambda s: s.sigmoid() - _labels(s)
        ),
    },
    wraps={
        "The sign is wrong: a higher score of the positive lowers the loss, so its derivative is below zero.": (
            lambda f: lambda s: -f(s)
        ),
        **{says: properties.SCORE_WRAPS[says] for says in (properties.LAST, properties.HIGHEST)},
        properties.WRONG_AXIS: lambda f: lambda s: s.softmax(0) - _labels(s),
    },
    demands={
        "The derivative does not sum to zero over the documents of a query, as it should: a constant added to all "
        "scores changes nothing.": lambda f: torch.allclose(f(draw(3, 4)).sum(-1), torch.zeros(3).double())
    },
)

_SCORES, _NONE = draw(3, 4), torch.zeros(3, 4).double()
_CERTAIN, _HALF = _NONE.clone(), _NONE.clone()
_CERTAIN[:, 2], _HALF[:, 2] = 1, 0.5


def _pushed(yours: object, suspicion: torch.Tensor) -> torch.Tensor:
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

ranknet = Exercise(
    task="RankNet of scores (batch, docs), positive in column 0: mean over the negatives of log(1 + exp(-margin)).",
    praise="Every negative counts, and one that is far behind hardly does.",
    cases=SCORES,
    right=lambda s: losses.ranknet(s, _labels(s)),
    returns="one value per query",
    gradients=(0,),
    sizes=properties.sizes,
    slips={
        "This is InfoNCE, which has one softmax over all documents; RankNet takes one negative at a time.": _info_nce,
        "The margin has the wrong sign: it is the positive's score minus the negative's, and the loss falls with it.": (
            lambda s: F.softplus(s[:, :1] - s[:, 1:]).mean(-1)
        ),
        "This is the hinge, which is cut off at zero: RankNet has softplus in place of relu.": (
            lambda s: F.relu(1 - (s[:, :1] - s[:, 1:])).mean(-1)
        ),
        "This is the probability of the wrong order, sigmoid(-margin): the loss is minus the log of that of the right "
        "one.": lambda s: torch.sigmoid(s[:, 1:] - s[:, :1]).mean(-1),
        "The loss of the mean margin is not the mean of the losses: average after softplus.": (
            lambda s: F.softplus((s[:, 1:] - s[:, :1]).mean(-1))
        ),
        "Only the hardest negative counts here; take the mean over all.": lambda s: F.softplus(
            s[:, 1:] - s[:, :1]
        ).amax(-1),
        "The positive is compared with itself too: leave out column 0 before the mean.": (
            lambda s: F.softplus(s - s[:, :1]).mean(-1)
        ),
        "Neighbouring columns are compared; compare column 0 with every other.": (
            lambda s: F.softplus(s[:, 1:] - s[:, :-1]).mean(-1)
        ),
        "The 1 in log(1 + exp(-margin)) is missing, which leaves minus the margin.": (
            lambda s: (s[:, 1:] - s[:, :1]).mean(-1)
        ),
        "The logarithm is missing: this is 1 + exp(-margin) or exp(-margin).": lambda s: (
            (s[:, 1:] - s[:, :1]).exp().mean(-1)
        ),
    },
    wraps=properties.SCORE_WRAPS,
    demands={**properties.SEPARATE, **properties.shift(SCORES), **properties.finite(SCORES)},
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
