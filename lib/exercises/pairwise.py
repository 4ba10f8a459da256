"""Checks of notebook 06 on losses of pairs: RankNet, and Margin-MSE."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from lib import losses
from lib.exercises import contrastive, properties
from lib.exercises.distillation import PAIRS
from lib.exercises.examine import Exercise


def _after(scores: Tensor) -> list[tuple[int, int]]:
    return list(itertools.combinations(range(scores.shape[1]), 2))


def _ranknet(scores: Tensor) -> Tensor:
    return losses.ranknet(scores, contrastive.labels(scores))


ranknet = Exercise(
    task="RankNet of scores (batch, docs), positive in column 0: mean over the negatives of log(1 + exp(-margin)).",
    praise="Every negative counts, and one that is far behind hardly does.",
    cases=contrastive.SCORES,
    right=_ranknet,
    returns="one value per query",
    gradients=(0,),
    sizes=properties.sizes,
    slips={
        "This is InfoNCE, which has one softmax over all documents; RankNet takes one negative at a time.": (
            contrastive.info_nce_loss
        ),
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
        "All pairs of documents are compared, both ways round; RankNet takes the positive with each negative.": (
            lambda s: F.softplus(s[:, None] - s[:, :, None]).mean((1, 2))
        ),
        "Each document is compared with all after it; only the positive, column 0, is to be compared.": (
            lambda s: torch.stack([F.softplus(s[:, b] - s[:, a]) for a, b in _after(s)]).mean(0)
        ),
        "The logarithm has base 2; the loss has the natural one.": lambda s: _ranknet(s) / torch.log(torch.tensor(2.0)),
        "This is a perceptron's loss, which is cut off at zero: RankNet has softplus in place of relu.": (
            lambda s: F.relu(s[:, 1:] - s[:, :1]).mean(-1)
        ),
        "This is a binary cross-entropy of each document by itself; RankNet takes differences from the positive.": (
            lambda s: losses.bce(s, contrastive.labels(s))
        ),
        "Only the first negative counts; take the mean over all.": lambda s: F.softplus(s[:, 1] - s[:, 0]),
        "A softmax is taken before the margins: RankNet compares raw scores.": lambda s: _ranknet(s.softmax(-1)),
        "The margins are added up before the logarithm: each negative has a loss of its own, then average.": (
            lambda s: F.softplus((s[:, 1:] - s[:, :1]).sum(-1))
        ),
        "The mean over the negatives is inside the logarithm: each negative has a loss of its own, then average.": (
            lambda s: (s[:, 1:] - s[:, :1]).exp().mean(-1).log1p()
        ),
        "This is the squared hinge, which is cut off at zero: RankNet has softplus in place of it.": (
            lambda s: F.relu(1 - (s[:, :1] - s[:, 1:])).square().mean(-1)
        ),
        "The mean is along the wrong axis, over the queries (dim 0); average over the negatives (dim -1).": (
            lambda s: F.softplus(s[:, 1:] - s[:, :1]).mean(0)
        ),
    },
    wraps=properties.SCORE_WRAPS,
    demands={
        **properties.SEPARATE,
        **properties.shift(contrastive.SCORES),
        **properties.large(contrastive.SCORES, _ranknet),
    },
)


def _margins(scores: Tensor) -> Tensor:
    return scores[:, :1] - scores[:, 1:]


margin_mse = Exercise(
    task="Margin-MSE of scores and teacher (batch, docs), positive in column 0; mean over the negatives, (batch,).",
    praise="The teacher's offset costs nothing, its scale does.",
    cases=PAIRS,
    right=losses.margin_mse,
    returns="one value per query",
    gradients=(0,),
    sizes=properties.sizes,
    slips={
        "Scores are compared, not margins: subtract each negative's score from the positive's.": losses.mse,
        "The mean over the margins comes before the square: square each difference, then average.": (
            lambda s, t: (_margins(s) - _margins(t)).mean(-1).square()
        ),
        "The difference is not squared but taken as it is, so that errors cancel.": (
            lambda s, t: (_margins(s) - _margins(t)).mean(-1)
        ),
        "The absolute difference is taken, not its square.": lambda s, t: (_margins(s) - _margins(t)).abs().mean(-1),
        "The root is taken at the end: the loss is the mean square itself.": lambda s, t: losses.margin_mse(
            s, t
        ).sqrt(),
        "The positive is compared with itself too, or divides the sum as if it were: leave out column 0.": (
            lambda s, t: (s[:, :1] - s - (t[:, :1] - t)).square().mean(-1)
        ),
        "Only the first negative counts; take the mean over all.": lambda s, t: losses.margin_mse(s[:, :2], t[:, :2]),
        "The two margins have opposite signs: take positive minus negative for both.": (
            lambda s, t: (_margins(s) + _margins(t)).square().mean(-1)
        ),
        "Neighbouring columns are subtracted; subtract each negative from column 0.": (
            lambda s, t: (s.diff(dim=-1) - t.diff(dim=-1)).square().mean(-1)
        ),
        "The squares of the margins are compared; square their difference.": (
            lambda s, t: (_margins(s).square() - _margins(t).square()).mean(-1)
        ),
        "The teacher has no part: this is the square of the student's own margin.": (
            lambda s, _: _margins(s).square().mean(-1)
        ),
        "All pairs of documents are compared; Margin-MSE takes the positive with each negative.": (
            lambda s, t: (s[:, :, None] - s[:, None] - t[:, :, None] + t[:, None]).square().mean((-1, -2))
        ),
        "A softmax is taken before the margins: Margin-MSE compares raw scores.": (
            lambda s, t: losses.margin_mse(s.softmax(-1), t.softmax(-1))
        ),
        "A softmax is taken of the teacher's scores alone: Margin-MSE compares raw scores.": (
            lambda s, t: losses.margin_mse(s, t.softmax(-1))
        ),
        "A softmax is taken of the student's scores alone: Margin-MSE compares raw scores.": (
            lambda s, t: losses.margin_mse(s.softmax(-1), t)
        ),
        "A sigmoid is taken before the margins: Margin-MSE compares raw scores.": (
            lambda s, t: losses.margin_mse(s.sigmoid(), t.sigmoid())
        ),
        "A sigmoid is taken of the teacher's scores alone: Margin-MSE compares raw scores.": (
            lambda s, t: losses.margin_mse(s, t.sigmoid())
        ),
        "The teacher's scores are standardised: Margin-MSE compares raw scores, and the teacher's scale counts.": (
            lambda s, t: losses.margin_mse(s, (t - t.mean(-1, keepdim=True)) / t.std(-1, keepdim=True))
        ),
        "Only a margin below the teacher's costs something here (a hinge); one above it does too.": (
            lambda s, t: (_margins(t) - _margins(s)).relu().square().mean(-1)
        ),
        "Only a margin above the teacher's costs something here (a hinge); one below it does too.": (
            lambda s, t: (_margins(s) - _margins(t)).relu().square().mean(-1)
        ),
        "Margins below 0 are cut off (relu): a negative ahead of the positive counts as it is.": (
            lambda s, t: (_margins(s).relu() - _margins(t).relu()).square().mean(-1)
        ),
        "Large errors are taken as they are and not squared (smooth L1 or Huber): square each one.": (
            lambda s, t: F.smooth_l1_loss(_margins(s), _margins(t), reduction="none").mean(-1)
        ),
        "The teacher's best document is taken for its positive; that is column 0 on both sides.": (
            lambda s, t: (_margins(s) - t.amax(-1, keepdim=True) + t[:, 1:]).square().mean(-1)
        ),
        "The teacher's scores of the negatives stand where its margins are due.": (
            lambda s, t: (_margins(s) - t[:, 1:]).square().mean(-1)
        ),
        "The student's scores of the negatives stand where its margins are due.": (
            lambda s, t: (s[:, 1:] - _margins(t)).square().mean(-1)
        ),
        "The negatives' scores are compared, not margins: subtract each from the positive's.": (
            lambda s, t: (s[:, 1:] - t[:, 1:]).square().mean(-1)
        ),
        "Only the hardest negative of each side counts; take the mean over all.": (
            lambda s, t: (_margins(s).amin(-1) - _margins(t).amin(-1)).square()
        ),
        "The margins are divided and not subtracted.": (lambda s, t: (_margins(s) / _margins(t) - 1).square().mean(-1)),
        "A sigmoid is taken of the margins: Margin-MSE compares raw ones.": (
            lambda s, t: (_margins(s).sigmoid() - _margins(t).sigmoid()).square().mean(-1)
        ),
        "The mean is along the wrong axis, over the queries (dim 0); average over the negatives (dim -1).": (
            lambda s, t: (_margins(s) - _margins(t)).square().mean(0)
        ),
        "The first row is subtracted; the positive is the first column.": (
            lambda s, t: (s[:1] - s[1:] - t[:1] + t[1:]).square().mean(-1)
        ),
        "The scores are centred on their mean; margins are differences from the positive, column 0.": (
            lambda s, t: (s - s.mean(-1, keepdim=True) - t + t.mean(-1, keepdim=True)).square().mean(-1)
        ),
    },
    wraps={
        **properties.SCORE_WRAPS,
        "The square is halved, which the definition does not do.": (lambda f: lambda *a: f(*a) / 2),
    },
    demands={
        "A query's value changes with another query's scores: nothing may be taken over the batch.": (
            lambda f: torch.allclose(f(PAIRS[0][0][:1], PAIRS[0][1][:1]), f(*PAIRS[0])[:1])
        ),
        **properties.zero_at_the_teacher(PAIRS),
        **properties.shift(PAIRS),
        **properties.shift(PAIRS, 1, "teacher's scores"),
    },
)
