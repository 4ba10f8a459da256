"""Batches of whole groups, of similar length, in an order drawn from the seed."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from lib.data.groups import Groups
from lib.models import momentum
from lib.models.tokens import PairTokens, SeparateTokens

WINDOW = 16  # batches that are sorted by length together: more pad less, and mix the groups less


@dataclass(frozen=True)
class Batch:
    """The groups of one step: tokens as the architecture reads them, targets by source, and what is not a negative."""

    tokens: dict  # what `tokens.batch` makes of (batch,) queries and (batch, docs) documents
    targets: dict[str, torch.Tensor]  # source -> (batch, docs)
    relevant: torch.Tensor | None = None  # (batch, batch, docs) bool: document k of group j is relevant to query i
    queued: torch.Tensor | None = None  # (batch, places): places in the queue that each query is compared with


def batches(
    groups: Groups, tokens: PairTokens | SeparateTokens, *, batch_size: int, epochs: int, seed: int,
    share: tuple[int, int] = (0, 1), in_batch: bool = False, queue: int = 0,
) -> Iterator[Batch]:  # fmt: skip
    """Batches of `batch_size` groups; in each epoch those that do not fill a batch are left out, different ones.

    Groups are shuffled, sorted by length within windows of `WINDOW` batches, and the batches are shuffled again: little
    padding, and another order in each epoch. `share` is (number of this process, number of processes), which divide
    each batch. With `in_batch` a batch has `relevant`, with all groups that are compared, also those of the other
    processes; with a `queue` (its size) it has `queued`, for the queue of all.
    """
    queries = tokens.queries.rows(groups.queries)  # (groups,)
    documents = tokens.documents.rows(groups.documents.ravel()).reshape(groups.documents.shape)
    longest = tokens.lengths(queries[:, None], documents).max(1)  # (groups,)
    relevant = _relevant(groups, documents) if in_batch or queue else None
    queued: deque[int] = deque(maxlen=queue)
    draw = np.random.default_rng(seed)
    for _ in range(epochs):
        for chosen in order(longest, batch_size, draw):
            mine = slice(*(batch_size * number // share[1] for number in (share[0], share[0] + 1)))
            own = chosen[mine]
            targets = {name: torch.from_numpy(values[own]) for name, values in groups.targets.items()}
            in_the_batch = _among(relevant, chosen, documents[chosen]) if in_batch else None
            earlier = np.array(queued, dtype=np.int64)
            places = momentum.negatives(_among(relevant, chosen, earlier))[mine] if queued else None
            yield Batch(tokens.batch(queries[own], documents[own]), targets, in_the_batch, places)
            queued.extend(documents[chosen, 0])


def order(longest: np.ndarray, batch_size: int, draw: np.random.Generator) -> Iterator[np.ndarray]:
    """The groups of each batch of an epoch, (batch_size,)."""
    count = len(longest) // batch_size
    shuffled = draw.permutation(len(longest))[: count * batch_size]  # cut before sorting: any group may be left out
    window = WINDOW * batch_size
    for start in range(0, len(shuffled), window):
        part = shuffled[start : start + window]
        part[:] = part[np.argsort(longest[part], kind="stable")]
    yield from shuffled.reshape(count, batch_size)[draw.permutation(count)]


def _relevant(groups: Groups, documents: np.ndarray) -> list[np.ndarray]:
    """For each group the documents, by row, that are not negatives of its query: related ones and its positives."""
    related = {query: set(groups.related.get(query, ())) for query in groups.queries}
    for query, positive in zip(groups.queries, groups.documents[:, 0], strict=True):
        related[query].add(positive)
    row = dict(zip(groups.documents.ravel(), documents.ravel(), strict=True))
    rows = {query: np.array([row[name] for name in names if name in row]) for query, names in related.items()}
    return [rows[query] for query in groups.queries]


def _among(relevant: list[np.ndarray], chosen: np.ndarray, documents: np.ndarray) -> torch.Tensor:
    """Which documents, rows in any shape, are relevant to the queries of the groups `chosen`; (batch, *shape) bool."""
    return torch.from_numpy(np.stack([np.isin(documents, relevant[group]) for group in chosen]))
