"""Score any (query, document) pairs with any model, sorted by length; encode documents once and score them stored."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import accelerate
import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn

from lib.machine import hardware, processes, progress
from lib.models import LateRanker, vectors
from lib.models.fused import fused
from lib.models.ragged import Ragged
from lib.models.tokens import PairTokens, SeparateTokens, Side
from lib.models.vectors import Identity, Vectors, VectorStore
from lib.training.resume import Checkpoint

AT_ONCE = 2048  # pairs whose encoded texts are in memory
PLACES = 2**16  # of a batch on an accelerator, which a batch of 64 short pairs leaves idle
LOOKED_UP = 2**16  # ids, or pairs' lengths, at once


@contextlib.contextmanager
def ready(model: nn.Module, dropout: bool = False) -> Iterator[torch.device]:
    """A block with the model on its device, which is given, with or without dropout and in the device's precision.

    What scores or encodes opens one; for many small calls open one around them, so that the model is prepared once.
    """
    hardware.keep_memory()
    device = hardware.device()
    model.to(device).train(dropout)
    fast = hardware.precision() == "bf16" and device.type == "cpu"
    with hardware.autocast(), fused(model) if fast else contextlib.nullcontext():
        yield device


@torch.inference_mode()
def score(
    model: nn.Module, tokens: PairTokens | SeparateTokens, queries: np.ndarray, documents: np.ndarray, *,
    batch_size: int = 64, what: str = "scoring", checkpoint: Checkpoint | None = None, together: bool = False,
    dropout: bool = False, layers: tuple[int, ...] | None = None,
) -> np.ndarray:  # fmt: skip
    """Raw scores of pairs, float32: document ids of any shape, and query ids that broadcast to it.

    With `layers` the hidden states after these layers instead (0: the embeddings), (..., layers, dim) float16, of a
    ranker that `has_states`.

    Pairs are scored in order of length, so a batch holds little padding; a pair that appears twice is scored once. With
    a `checkpoint` (each process's own) it goes on from the scores that are there. With `together` all processes of a
    launch call this, share the pairs out, and have the scores of all. With `dropout` the model's own is active, drawn
    from torch's random state. Raises FloatingPointError if a score is not finite, as do all functions here that score
    or encode.
    """
    if not documents.size:
        raise ValueError("documents: there is no pair to score")
    pairs, inverse = _pairs(tokens, queries, documents)
    count = len(tokens.documents)
    if isinstance(model, LateRanker):
        parts = np.split(np.arange(len(pairs)), range(AT_ONCE, len(pairs), AT_ONCE))
        compute = _score_separately
    else:
        blocks = np.split(pairs, range(LOOKED_UP, len(pairs), LOOKED_UP))
        lengths = np.concatenate([tokens.lengths(*np.divmod(block, count)) for block in blocks])
        parts = _longest_first(lengths, batch_size)
        compute = _score_jointly if layers is None else partial(_states_jointly, layers=list(layers))
    shape, kind = ((), torch.float32) if layers is None else ((len(layers), model.state_shape[1]), torch.float16)
    with ready(model, dropout) as device:
        state = _Scores(torch.full((len(pairs), *shape), torch.nan, dtype=kind, device=device))
        done = checkpoint.restore(state) if checkpoint else 0
        known = state.scores.isfinite().view(len(pairs), -1).all(1).cpu().numpy()
        left = parts[processes.number() :: processes.count()] if together else parts
        left = [part for part in left if not known[part].all()]
        for step, part in enumerate(progress.steps(left, what, len(left)), done + 1):
            rows = np.stack(np.divmod(pairs[part], count), 1)
            state.scores[torch.from_numpy(part).to(device)] = compute(model, tokens, rows, batch_size, device).to(kind)
            if checkpoint:
                checkpoint.keep(step, state)
        if together and processes.count() > 1:  # one process has each score
            processes.join()
            state.scores = accelerate.utils.gather(state.scores[None]).nanmean(0)
    found = state.scores.cpu().numpy()[inverse].reshape(*documents.shape, *shape)
    return _finite(found, np.broadcast_to(queries, documents.shape), documents)


def _pairs(
    tokens: PairTokens | SeparateTokens, queries: np.ndarray, documents: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The different pairs, (pairs,), and the place there of each that is asked for, (asked,).

    A pair is the row of its query times the number of documents, plus the row of its document: two columns would take
    three times the memory to sort.
    """
    asked, given = _rows(tokens.queries, queries), _rows(tokens.documents, documents)
    given += np.broadcast_to(asked, given.shape) * len(tokens.documents)
    return np.unique(given.ravel(), return_inverse=True)


def _rows(texts: Ragged, names: np.ndarray) -> np.ndarray:
    """The rows of ids, of their shape; not all at once, since each id becomes a Python object for that."""
    blocks = [names.ravel()[start : start + LOOKED_UP] for start in range(0, names.size, LOOKED_UP)]
    return np.concatenate([np.zeros(0, np.int64), *map(texts.rows, blocks)]).reshape(names.shape)


@dataclass
class _Scores:
    """The scores so far, (pairs,), or hidden states (pairs, layers, dim); NaN where there is none yet."""

    scores: Tensor

    def tensors(self) -> dict[str, Tensor]:
        return {"scores": self.scores}

    def about(self) -> dict[str, object]:
        return {}

    def restore(self, tensors: dict[str, Tensor], about: dict) -> None:
        if tensors["scores"].shape != self.scores.shape:
            raise ValueError("it is of other pairs")
        self.scores.copy_(tensors["scores"])


def _score_jointly(
    model: nn.Module, tokens: PairTokens, pairs: np.ndarray, _batch_size: int, device: torch.device
) -> Tensor:
    """Scores (pairs,) of rows (pairs, 2), one batch of pairs, each encoded by itself."""
    return model(send_to_device(tokens.batch(pairs[:, 0], pairs[:, 1:]), device, non_blocking=True)).squeeze(1)


def _states_jointly(
    model: nn.Module, tokens: PairTokens, pairs: np.ndarray, _batch_size: int, device: torch.device, layers: list[int]
) -> Tensor:
    """Hidden states (pairs, layers, dim) of rows (pairs, 2), one batch of pairs."""
    batch = send_to_device(tokens.batch(pairs[:, 0], pairs[:, 1:]), device, non_blocking=True)
    return model(batch, states=True).states[:, 0, layers]


def _score_separately(
    model: LateRanker, tokens: SeparateTokens, pairs: np.ndarray, batch_size: int, device: torch.device
) -> Tensor:
    """Scores (pairs,) of rows (pairs, 2): every text is encoded once."""
    scores = torch.empty(len(pairs), device=device)
    (query_rows, query), (document_rows, document) = (np.unique(rows, return_inverse=True) for rows in pairs.T)
    queries = _encoded(model.encode_queries, tokens.query_side, query_rows, batch_size, device)
    documents = _encoded(model.encode_documents, tokens.document_side, document_rows, batch_size, device)
    # A document's last vector that counts: ColBERT leaves some out before it.
    places = torch.arange(1, documents.mask.shape[1] + 1, device=device)
    ends = (places * documents.mask).amax(1).cpu().numpy()[document]
    for chosen in _longest_first(ends, batch_size):
        asks, gives = (torch.from_numpy(numbers[chosen]).to(device) for numbers in (query, document))
        width = ends[chosen[0]]  # the first is the longest
        those = Vectors(documents.values[gives, None, :width], documents.mask[gives, None, :width])
        found = model.late(Vectors(queries.values[asks], queries.mask[asks]), those)
        scores[torch.from_numpy(chosen).to(device)] = found.squeeze(1)
    return scores


def _encoded(
    encode: Callable[[dict], Vectors], side: Side, rows: np.ndarray, batch_size: int, device: torch.device
) -> Vectors:
    """Vectors (texts, width, dim) float32 of rows (texts,)."""
    values = None
    for chosen in _longest_first(side.lengths(rows), batch_size):
        part, kept = encode(send_to_device(side.batch(rows[chosen]), device))
        if values is None:
            values = torch.zeros((len(rows), *part.shape[1:]), device=device)
            mask = torch.zeros((len(rows), kept.shape[1]), dtype=torch.bool, device=device)
        place = torch.from_numpy(chosen).to(device)
        values[place, : kept.shape[1]], mask[place, : kept.shape[1]] = part.float(), kept
    return Vectors(values, mask)


def _longest_first(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Positions of `lengths` in batches; with the longest first, a lack of memory shows at once.

    An accelerator has as many more in a batch as fit into `PLACES` tokens.
    """
    if batch_size < 1 or not len(lengths):
        raise ValueError(f"batch_size={batch_size}, {len(lengths)} texts or pairs: give one of each at least")
    order, parts = np.argsort(-lengths, kind="stable"), []
    places = 0 if hardware.device().type == "cpu" else PLACES
    while len(order):
        size = max(batch_size, places // max(1, lengths[order[0]]))
        parts.append(order[:size])
        order = order[size:]
    return parts


@torch.inference_mode()
def encode(
    model: LateRanker, tokens: SeparateTokens, folder: Path, identity: Identity, *,
    names: np.ndarray | None = None, batch_size: int = 64,
) -> None:  # fmt: skip
    """Write the vectors of documents (`names`; None: all) into `folder`, longest first, as `VectorStore` reads them."""
    names = np.array(tokens.documents.names) if names is None else names
    rows = tokens.documents.rows(names)
    batches = _longest_first(tokens.document_side.lengths(rows), batch_size)

    def chunks() -> Iterator[list[np.ndarray]]:
        for chosen in progress.steps(batches, "encoding", len(batches)):
            found = model.encode_documents(send_to_device(tokens.document_side.batch(rows[chosen]), device))
            _check_finite(found, names[chosen], "document")
            yield [values[kept].float().cpu().numpy() for values, kept in zip(*found, strict=True)]

    with ready(model) as device:
        encoded = chunks()
        first = next(encoded)
        ordered, dim = list(names[np.concatenate(batches)]), first[0].shape[1]
        vectors.write(folder, ordered, itertools.chain([first], encoded), dim, "float32", identity)


@torch.inference_mode()
def score_stored(
    model: LateRanker, tokens: SeparateTokens, stored: VectorStore, queries: np.ndarray, documents: np.ndarray, *,
    batch_size: int = 64,
) -> np.ndarray:  # fmt: skip
    """As `score`, for query ids (queries,) and document ids (queries, docs), with documents' vectors from a store."""
    query_rows, rows = tokens.queries.rows(queries), stored.rows(documents.ravel()).reshape(documents.shape)
    scores = np.empty(documents.shape, np.float32)
    at_once = max(1, batch_size // documents.shape[1])
    with ready(model) as device:
        for start in range(0, len(rows), at_once):
            part = slice(start, start + at_once)
            batch = send_to_device(tokens.query_side.batch(query_rows[part]), device)
            found = stored.take(rows[part].ravel()).map(lambda flat: flat.unflatten(0, (-1, rows.shape[1])).to(device))
            scores[part] = model.late(model.encode_queries(batch), found).cpu().numpy()
    return _finite(scores, np.broadcast_to(queries[:, None], documents.shape), documents)


@torch.inference_mode()
def encode_queries(model: LateRanker, tokens: SeparateTokens, names: list[str], *, batch_size: int = 64) -> Vectors:
    """Vectors (queries, width, dim) float32 of query ids, on the processor."""
    with ready(model) as device:
        found = _encoded(model.encode_queries, tokens.query_side, tokens.queries.rows(names), batch_size, device)
    _check_finite(found, np.array(names), "query")
    return found.map(Tensor.cpu)


def _finite(scores: np.ndarray, queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """The scores, or hidden states, of queries and documents, both of one shape, if they are finite."""
    broken = ~np.isfinite(scores).reshape(*documents.shape, -1).all(-1)
    if broken.any():
        query, document = str(queries[broken][0]), str(documents[broken][0])
        what = f"the score is {scores[broken][0]}" if scores.ndim == broken.ndim else "a hidden state is not finite"
        raise FloatingPointError(
            f"query {query!r}, document {document!r}: {what}; the model's weights or the stored vectors are broken: "
            "train it, or encode the documents, again"
        )
    return scores


def _check_finite(found: Vectors, names: np.ndarray, what: str) -> None:
    broken = (~found.values.isfinite().all(-1) & found.mask).any(-1).cpu().numpy()
    if broken.any():
        name = str(names[broken][0])
        raise FloatingPointError(f"{what} {name!r}: the model's vector is not finite; train the model again")
