"""Checks of notebook 03 on the contrastive loss: InfoNCE and its gradient."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lib import losses
from lib.exercises import properties
from lib.exercises.examine import Exercise, draw

SCORES = ((draw(3, 4),), (3 * draw(2, 5, seed=1),), (draw(1, 2, seed=2),))  # (batch, docs)


def labels(scores: Tensor) -> Tensor:
    """1 in column 0, the positive, and 0 elsewhere."""
    return F.one_hot(scores.new_zeros(len(scores), dtype=torch.long), scores.shape[1]).to(scores.dtype)


def _rows(scores: Tensor) -> Tensor:
    return torch.arange(len(scores)) % scores.shape[1]


def info_nce_loss(scores: Tensor) -> Tensor:
    """InfoNCE."""
    return losses.info_nce(scores, labels(scores))


info_nce = Exercise(
    task="InfoNCE of scores (batch, docs) with the positive in column 0; one value per query, (batch,).",
    praise="Only differences of scores count in it, and it stays finite when they are large.",
    cases=SCORES,
    right=info_nce_loss,
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
            lambda s: info_nce_loss(s.softmax(-1))
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
            info_nce_loss(s) / torch.log(torch.tensor(2.0))
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
            lambda s: losses.bce(s, labels(s))
        ),
        "This is the sum of a binary cross-entropy of each document by itself; InfoNCE has one softmax over all.": (
            lambda s: losses.bce(s, labels(s)) * s.shape[1]
        ),
        "The positive's score is detached outside the sum of the denominator: it has to learn at both places.": (
            lambda s: s.logsumexp(-1) - s[:, 0].detach()
        ),
        "The sum of the denominator is detached: all of its scores have to learn, so that the negatives fall.": (
            lambda s: s.logsumexp(-1).detach() - s[:, 0]
        ),
        "The positive's score is detached in the sum of the denominator: it has to learn at both places.": (
            lambda s: torch.cat([s[:, :1].detach(), s[:, 1:]], 1).logsumexp(-1) - s[:, 0]
        ),
        **{
            f"The scores are divided by {temperature}, a temperature: here they are taken as they are.": (
                lambda s, temperature=temperature: info_nce_loss(s / temperature)
            )
            for temperature in (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.1, 0.2, 0.5, 2, 5, 10, 20, 50, 100)
        },
        "The labels are smoothed: the positive has the whole label.": (
            lambda s: 0.9 * info_nce_loss(s) - 0.1 * s.log_softmax(-1).mean(-1)
        ),
        "The mean over the negatives is inside the logarithm: the denominator adds up all documents.": (
            lambda s: (s[:, 1:] - s[:, :1]).exp().mean(-1).log1p()
        ),
        "The logarithm has base 10; the loss has the natural one.": (
            lambda s: info_nce_loss(s) / torch.log(torch.tensor(10.0))
        ),
        "The softmax runs over the scores of all queries together; each query has one over its own documents.": (
            lambda s: s.flatten().logsumexp(0) - s[:, 0]
        ),
        "The scores are divided by the root of the number of documents: here they are taken as they are.": (
            lambda s: info_nce_loss(s / s.shape[1] ** 0.5)
        ),
    },
    wraps=properties.SCORE_WRAPS,
    demands={**properties.SEPARATE, **properties.shift(SCORES), **properties.large(SCORES, info_nce_loss)},
)

info_nce_gradient = Exercise(
    task="The derivative of each query's InfoNCE with respect to its scores (batch, docs), by the formula.",
    praise="It sums to zero over a query's documents: what the positive gains, the negatives lose.",
    cases=SCORES,
    right=lambda s: s.softmax(-1) - labels(s),
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
            lambda s: s.log_softmax(-1) - labels(s)
        ),
        "The scores are taken as they are: the derivative has their softmax.": lambda s: s - labels(s),
        "This is divided by the number of queries, as for the mean of the batch; each query's own loss is due.": (
            lambda s: (s.softmax(-1) - labels(s)) / len(s)
        ),
        "This is the derivative of the positive's probability, not of minus its log.": (
            lambda s: s.softmax(-1)[:, :1] * (labels(s) - s.softmax(-1))
        ),
        "1 is subtracted on the diagonal, as if row i had its positive in column i; it is column 0 in every row.": (
            lambda s: s.softmax(-1) - torch.eye(*s.shape, dtype=s.dtype)
        ),
        "1 is subtracted from the negatives' probabilities; subtract it from the positive's alone.": (
            lambda s: s.softmax(-1) - 1 + labels(s)
        ),
        "The negatives' derivatives have the wrong sign: their higher score raises the loss.": (
            lambda s: (s.softmax(-1) - labels(s)) * (2 * labels(s) - 1)
        ),
        "This is p (1 - p), each probability's own derivative; that of minus the positive's log is due.": (
            lambda s: s.softmax(-1) * (1 - s.softmax(-1))
        ),
        "The softmax runs over the scores of all queries together; each query has one over its own documents.": (
            lambda s: s.flatten().softmax(0).reshape(s.shape) - labels(s)
        ),
        "The softmax of the negatives leaves the positive out; all documents share one.": (
            lambda s: torch.cat([s.softmax(-1)[:, :1] - 1, s[:, 1:].softmax(-1)], 1)
        ),
        "The sigmoid of each score by itself is taken; the documents share one softmax.": (
            lambda s: s.sigmoid() - labels(s)
        ),
    },
    wraps={
        "The sign is wrong: a higher score of the positive lowers the loss, so its derivative is below zero.": (
            lambda f: lambda s: -f(s)
        ),
        **{says: properties.SCORE_WRAPS[says] for says in (properties.LAST, properties.HIGHEST)},
        properties.WRONG_AXIS: lambda f: lambda s: s.softmax(0) - labels(s),
    },
    demands={
        "The derivative does not sum to zero over the documents of a query, as it should: a constant added to all "
        "scores changes nothing.": lambda f: torch.allclose(f(draw(3, 4)).sum(-1), torch.zeros(3).double())
    },
)
