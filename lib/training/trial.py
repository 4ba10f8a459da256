"""Terms of a strategy on an example of two queries: what is no loss is refused when the strategy is made."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from lib.losses.margins import Similarities
from lib.models import parts
from lib.models.ranker import drawn_from
from lib.training.bound import inner_function

PLAIN = "an example of two queries"
RELATED = "two queries of which one has a relevant document in the other's group"


def on_scores(
    losses: Iterable[tuple[Callable, float]], columns: Callable | None, peers: Callable | None
) -> None:  # fmt: skip
    """Compute losses of scores with their weights; raises ValueError if one is no loss, or peers give no scores."""
    # The scores are no leaf of the graph, as in training: else torch refuses what changes them in place.
    scores = torch.tensor([[2.0, 1.0, -1.0], [0.5, 1.0, 0.0]], requires_grad=True).clone()
    targets = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    examples = {PLAIN: (scores, targets)}
    if columns is not None:
        inner_function(columns)
        cosines = [[[0.9, 0.5, 0.1], [0.3, 0.2, 0.0]], [[0.1, 0.4, 0.2], [0.6, 0.7, 0.1]]]
        alike = torch.tensor([cosines, cosines], requires_grad=True)
        relevant = torch.zeros(2, 2, 3, dtype=torch.bool)
        relevant[0, 0, 0] = relevant[1, 1, 0] = relevant[0, 1, 0] = True
        scores, targets = columns(Similarities(*alike))
        examples = {PLAIN: (scores, targets), RELATED: columns(Similarities(*alike, relevant))}
    if peers is not None:
        inner_function(peers)
        several = torch.stack([scores, scores.flip(1)]).detach()
        found = peers(several, targets)
        if not isinstance(found, Tensor) or found.shape != several.shape or not found.isfinite().all():
            raise ValueError(f"on the scores of two students, (2, 2, 3), peers gives {found}; give as many, finite")
    for loss, weight in losses:
        for example, given in examples.items():
            _check(loss, weight, "scores", *given, example=example)


def on_states(
    losses: Iterable[tuple[Callable, float, Callable | None]], student: tuple[int, int], teacher: tuple[int, int]
) -> None:
    """Compute losses of hidden states with so many (layers, dim), after their parts; raises ValueError as above."""
    for loss, weight, part in losses:
        with drawn_from(0):
            states, targets = torch.randn(2, 3, *student, requires_grad=True), torch.randn(2, 3, *teacher)
            compared = parts.made(part, *student, *teacher)(states.clone(), targets)
        _check(loss, weight, "states", *compared)


def _check(loss: Callable, weight: float, what: str, *given: Tensor, example: str = PLAIN) -> None:
    before = [one.detach().clone() for one in given]
    value = weight * loss(*given)
    if not isinstance(value, Tensor) or value.shape != (2,) or not value.isfinite().all():
        raise ValueError(
            f"on {example} the loss is {value}; it must be one finite value per query, so average over documents only, "
            "leave out documents whose score is -inf, and give less extreme parameters"
        )
    if not value.requires_grad:
        raise ValueError(f"no gradient reaches the {what}: compute the loss from them with torch")
    if not all(one.equal(other) for one, other in zip(given, before, strict=True)):
        raise ValueError(f"a loss changes its {what} or targets in place: change a copy")
