"""Self-distillation: margins that the model's own document similarities ask for, as targets of `margin_error`.

Gienapp et al. 2024 (adaptive relevance margins), https://arxiv.org/abs/2407.21515. A positive should be ahead of a
negative by T = (1 + cos(positive, negative)) / 2: no teacher, no margin to tune, and the more alike the two documents
are, the further apart their scores should be. `fixed`, `adaptive` and `distributed` return (scores, targets) with the
positive in column 0 and target_0 - target_j the target margin, so self-distillation is
`margin_error(*adaptive(similarities))`.

The formulas were compared with the authors' code only (webis-de/adaptive-relevance-margin-loss, src/loss.py, commit
76fc0d9), not with the body of the paper. Where a batch is compared with itself there are two readings:

- "row", the default: each query is compared with its own positive. In-batch: a_i - cos(q_i, n_j) against T_ij, with
  a_i = cos(q_i, p_i); distributed: the margin of query i against T_ij for all j.
- "literal", what that code computes, and so the authors' numbers: a vector of positives, or of margins, is broadcast
  over columns, so that a_j replaces a_i, and the margin of query j meets T_ij for all i. It is the row reading of both
  matrices with their first two axes swapped.

That code has one negative per query; with more, each keeps its place k in the group.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from lib.losses.signature import Scores

READINGS = ("row", "literal")


class Similarities(NamedTuple):
    """What a batch of groups says about itself; document k = 0 of a group is its positive.

    A document of another group may be relevant to query i too: `relevant` marks these, so that none is a negative.
    """

    scores: Float[Tensor, "batch batch docs"]  # query i with document k of group j
    documents: Float[Tensor, "batch batch docs"]  # the positive of query i with document k of group j
    relevant: Bool[Tensor, "batch batch docs"] | None = None  # whether document k of group j is relevant to query i


def own(matrix: Shaped[Tensor, "batch batch docs"]) -> Shaped[Tensor, "batch docs"]:
    """Each query with its own group."""
    return matrix.diagonal().T


def contrast(similarities: Similarities) -> tuple[Scores, Scores]:
    """Scores and labels of InfoNCE with in-batch negatives: (batch, batch * docs), the label 1 in column 0.

    Row i has the groups i, i + 1, ... and, after the last, from the first on, with their positives. Other documents
    that are relevant to the query score -inf, which leaves them out of a softmax.
    """
    scores, _, relevant = _read(similarities)
    rows = torch.arange(len(scores), device=scores.device)
    ring = (rows.unsqueeze(1) + rows) % len(scores)  # (batch, batch), column 0 the query's own group
    scores, relevant = (matrix[rows.unsqueeze(1), ring].flatten(1) for matrix in (scores, relevant))
    labels = torch.zeros_like(scores)
    labels[:, 0] = 1
    return scores.masked_fill(relevant & (labels == 0), -torch.inf), labels


def fixed(
    similarities: Similarities, *, margin: float, in_batch: bool = False, reading: str = "row",
    threshold: float | None = None,
) -> tuple[Scores, Scores]:  # fmt: skip
    """One target margin for every pair: the baseline of 2407.21515, to be tuned; for the rest see `adaptive`."""
    scores, documents, relevant = (_columns(matrix, in_batch) for matrix in _read(similarities, reading))
    return _with_targets(scores, documents, relevant, torch.full_like(documents, margin), threshold)


def adaptive(
    similarities: Similarities, *, in_batch: bool = False, reading: str = "row", detach: bool = False,
    scale: str = "unit", threshold: float | None = None,
) -> tuple[Scores, Scores]:  # fmt: skip
    """A pair's target margin is its documents' similarity c, scaled: "unit" (1 + c) / 2, "clamp" max(c, 0), "raw" c.

    Returns (batch, docs), or with `in_batch` (batch, 1 + batch * (docs - 1)): own positive, then every group's
    negatives. As published (scale "unit") the gradient also moves the documents so that their margin becomes right;
    `detach` stops it, as a teacher's scores would. The other scales and `threshold` are not the paper's.

    A document that is relevant to the query is no negative, and one more similar to the positive than `threshold` may
    well be relevant. Both are taken out by putting the positive in their place: margin and target margin are zero,
    which costs nothing (error "soft": the constant ln 2) and moves nothing; the other pairs keep their weight.
    """
    scores, documents, relevant = (_columns(matrix, in_batch) for matrix in _read(similarities, reading))
    return _with_targets(scores, documents, relevant, _scaled(documents, scale, detach), threshold)


def distributed(
    similarities: Similarities, *, reading: str = "row", detach: bool = False, scale: str = "unit",
    threshold: float | None = None,
) -> tuple[Scores, Scores]:  # fmt: skip
    """Each query's own margins against the target margins of a whole row of the batch; the paper's best (2407.21515).

    Returns (batch, 1 + batch * (docs - 1)): own positive, then the own negatives once for every group j, with the
    target margin of the positive to group j's negative at the same place k. `detach` and `scale` as in `adaptive`. A
    pair is taken out, as there, where either negative is relevant to the query, or the own one above `threshold`.

    For error "l2" the mean over j is (margin - mean_j T)^2 + var_j T: a margin goes to the mean target, and the
    variance, which only the documents can lower, draws the targets together.
    """
    read = _read(similarities, reading)
    repeated = (torch.cat([group[:, :1], group[:, 1:].repeat(1, len(group))], 1) for group in map(own, read))
    scores, documents, own_relevant = repeated
    every, relevant = (_columns(matrix, in_batch=True) for matrix in read[1:])
    return _with_targets(scores, documents, relevant | own_relevant, _scaled(every, scale, detach), threshold)


def _read(similarities: Similarities, reading: str = "row") -> Similarities:
    """The similarities in the row reading, in float32 at least, with what is relevant."""
    if reading not in READINGS:
        raise ValueError(f"reading={reading!r}: give one of {', '.join(READINGS)}")
    scores, documents, relevant = similarities
    if relevant is None:
        relevant = torch.zeros_like(scores, dtype=torch.bool)
    shape = scores.shape
    if len(shape) != 3 or shape[0] != shape[1] or not documents.shape == relevant.shape == shape:
        shapes = f"scores {tuple(shape)}, documents {tuple(documents.shape)} and relevant {tuple(relevant.shape)}"
        raise ValueError(f"similarities: {shapes} must all be (batch, batch, docs)")
    scores, documents = (part.to(torch.promote_types(part.dtype, torch.float32)) for part in (scores, documents))
    read = Similarities(scores, documents, relevant)
    return Similarities(*(matrix.transpose(0, 1) for matrix in read)) if reading == "literal" else read


def _columns(matrix: Shaped[Tensor, "batch batch docs"], in_batch: bool) -> Shaped[Tensor, "batch columns"]:
    """Own positive, then the own negatives or every group's."""
    return torch.cat([own(matrix)[:, :1], matrix[:, :, 1:].flatten(1)], 1) if in_batch else own(matrix)


_SCALES = {"unit": lambda c: (1 + c) / 2, "clamp": lambda c: c.clamp(min=0), "raw": lambda c: c}


def _scaled(documents: Scores, scale: str, detach: bool) -> Scores:
    if scale not in _SCALES:
        raise ValueError(f"scale={scale!r}: give one of {', '.join(_SCALES)}")
    return _SCALES[scale](documents.detach() if detach else documents)


def _with_targets(
    scores: Scores, documents: Scores, relevant: Bool[Tensor, "batch docs"], margins: Scores, threshold: float | None
) -> tuple[Scores, Scores]:
    """Scores, and targets with these margins, with the positive in place of the documents that are taken out."""
    out = relevant | (documents > (torch.inf if threshold is None else threshold))
    out[:, 0] = True  # the positive itself, whose margin is 0
    return torch.where(out, scores[:, :1], scores), (-margins).masked_fill(out, 0)
