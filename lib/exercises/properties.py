"""Errors and demands that several losses share: axes, signs, columns, shift, separate queries, large scores."""

from collections.abc import Callable

import torch
from torch import Tensor

from lib.exercises.examine import Function, draw

LAST = "The last column is taken for the positive; it is column 0."
SECOND = "Column 1 is taken for the positive; it is column 0, as columns are counted from 0."
HIGHEST = "The document with the highest score is taken for the positive; it is column 0, wherever its score ranks."
WRONG_AXIS = "The softmax or sum runs over the queries (dim 0) and not over a query's documents (dim -1)."

POSITIVE_DETACHED = "The positive's score is detached: no gradient reaches column 0, so the loss never lifts it."
NEGATIVES_DETACHED = "The negatives' scores are detached: no gradient reaches them, so the loss never lowers them."
OF_COLUMN_0 = (LAST, SECOND, HIGHEST, POSITIVE_DETACHED, NEGATIVES_DETACHED)  # for losses that have the positive there


def sizes(scores: Tensor, *_: object) -> dict[str, int]:
    """What a sum or mean over (batch, docs) may have been taken over."""
    return {"documents": scores.shape[1], "negatives": scores.shape[1] - 1, "queries": len(scores)}


def _highest_first(scores: Tensor, *others: Tensor) -> list[Tensor]:
    order = scores.argsort(-1, descending=True)
    return [matrix.gather(-1, order) for matrix in (scores, *others)]


def _matrices(change: Callable[..., list[Tensor]]) -> Callable[[Function], Function]:
    """A wrap that changes the arguments which are matrices, and gives the rest on."""

    def wrap(function: Function) -> Function:
        def changed(*arguments: object) -> object:
            matrices = [one for one in arguments if isinstance(one, Tensor)]
            return function(*change(*matrices), *arguments[len(matrices):])  # fmt: skip

        return changed

    return wrap


SCORE_WRAPS: dict[str, Callable[[Function], Function]] = {
    "The sign is wrong: the loss is minus this, and falls as the positive's score rises.": lambda f: lambda *a: -f(*a),
    "This is the mean over the queries too: return one value per query.": lambda f: lambda *a: f(*a).mean(),
    "This is the sum over the queries too: return one value per query.": lambda f: lambda *a: f(*a).sum(),
    LAST: _matrices(lambda *matrices: [matrix.roll(1, -1) for matrix in matrices]),
    SECOND: _matrices(lambda *matrices: [matrix.roll(-1, -1) for matrix in matrices]),
    HIGHEST: _matrices(_highest_first),
    WRONG_AXIS: _matrices(lambda *matrices: [matrix.T for matrix in matrices]),
    "No gradient reaches the scores: something detaches them, or leaves torch (detach, item, numpy, no_grad).": (
        lambda f: lambda *a: f(*a).detach()
    ),
    POSITIVE_DETACHED: lambda f: lambda s, *more: f(torch.cat([s[:, :1].detach(), s[:, 1:]], 1), *more),
    NEGATIVES_DETACHED: lambda f: lambda s, *more: f(torch.cat([s[:, :1], s[:, 1:].detach()], 1), *more),
}


def shift(cases: tuple[tuple, ...], which: int = 0, says: str = "scores") -> dict[str, Callable[[Function], bool]]:
    """A constant per query, added to one of the arguments, changes nothing."""

    def holds(yours: Function) -> bool:
        return all(torch.allclose(yours(*_shifted(case, which)), yours(*case)) for case in cases)

    return {f"Adding a constant to all {says} of a query changes your loss, which it should not.": holds}


def _shifted(case: tuple, which: int) -> tuple:
    constants = 5 + torch.arange(len(case[which])).to(case[which].dtype).unsqueeze(1)
    return (*case[:which], case[which] + constants, *case[which + 1:])  # fmt: skip


def finite(cases: tuple[tuple, ...]) -> dict[str, Callable[[Function], bool]]:
    """Large scores overflow nothing, in the value and in the gradient."""

    def holds(yours: Function) -> bool:
        for case in cases:
            scores = (1e4 * case[0]).requires_grad_()
            value = yours(scores, *case[1:])
            (gradient,) = torch.autograd.grad(value.sum(), scores)
            if not (value.isfinite().all() and gradient.isfinite().all()):
                return False
        return True

    return {"Your loss or its gradient is not finite when scores are as large as 10,000: an exp overflows, or a log "
            "meets 0, so use logsumexp, log_softmax or softplus.": holds}  # fmt: skip


def large(cases: tuple[tuple, ...], right: Function) -> dict[str, Callable[[Function], bool]]:
    """Large scores overflow nothing, and cost what they should."""
    scaled = [(1e4 * case[0], *case[1:]) for case in cases]

    def grows(yours: Function) -> bool:
        if not all(torch.allclose(yours(*case).double(), right(*case), rtol=1e-2) for case in cases):
            return True  # another error
        return all(torch.allclose(yours(*case).double(), right(*case), rtol=1e-3, atol=0.1) for case in scaled)

    return finite(cases) | {
        "Your loss stops growing when scores are as large as 10,000: a small number is added in a logarithm, or a "
        "probability is clamped, and no gradient is left; use logsumexp, log_softmax or softplus.": grows,
    }


def zero_at_the_teacher(cases: tuple[tuple, ...]) -> dict[str, Callable[[Function], bool]]:
    """A student that has the teacher's scores has nothing to learn."""

    def holds(yours: Function) -> bool:
        values = [yours(case[1], case[1], *(1.0 for _ in case[2:])) for case in cases]
        return all(torch.allclose(value, torch.zeros_like(value)) for value in values)

    return {"A student whose scores are the teacher's has a loss that is not 0.": holds}


def _is_separate(yours: Function, *others: Tensor) -> bool:
    both, changed = draw(2, 4), draw(2, 4)
    changed[1] = 9
    return torch.allclose(yours(both, *others)[0], yours(changed, *others)[0])


_OTHER = "A query's value changes with another query's scores: nothing may be taken over the batch."
SEPARATE: dict[str, Callable[[Function], bool]] = {_OTHER: _is_separate}
SEPARATE_WITH_LABELS: dict[str, Callable[[Function], bool]] = {
    _OTHER: lambda yours: _is_separate(yours, torch.tensor([[1.0, 0, 0, 0], [0, 2, 1, 0]]).double())
}
