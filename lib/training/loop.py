"""One training loop for every strategy and architecture, on Accelerate."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral, Real

import accelerate
import numpy as np
import pandas as pd
import torch
from torch import nn

from lib.data.groups import LABELS, Groups
from lib.machine import hardware, progress
from lib.models import momentum
from lib.models.bi_encoder import BiEncoder
from lib.models.momentum import Momentum
from lib.models.tokens import PairTokens, SeparateTokens
from lib.training.grad_cache import cached_backward
from lib.training.strategies import OWN, Matrix, Strategy

WINDOW = 16  # batches that are sorted by length together: more pad less, and mix the groups less
CLIP, WEIGHT_DECAY = 1.0, 0.01  # of the gradients' norm, and AdamW's
READ_EVERY = 16  # steps between two looks at what an accelerator computed: each makes it wait


@dataclass(frozen=True)
class Batch:
    """Groups of one step: tokens as the architecture reads them, the targets by source, and what is no negative."""

    tokens: dict  # what `tokens.batch` makes of (batch,) queries and (batch, docs) documents
    targets: dict[str, torch.Tensor]  # source -> (batch, docs)
    relevant: torch.Tensor | None = None  # (batch, batch, docs) bool: document k of group j is relevant to query i
    queued: torch.Tensor | None = None  # (batch, kept): places in the queue that each query is compared with


def batches(
    groups: Groups, tokens: PairTokens | SeparateTokens, *, batch_size: int, epochs: int, seed: int,
    share: tuple[int, int] = (0, 1), in_batch: bool = False, queue: int = 0,
) -> Iterator[Batch]:  # fmt: skip
    """Batches of `batch_size` whole groups, of similar length, in an order drawn from `seed`.

    Groups are shuffled, sorted by length within windows of `WINDOW` batches, and the batches shuffled again: little
    padding, and still another order each epoch. Of each batch a process takes its share (number, of how many). Groups
    that do not fill a batch are left out, others each epoch. With `in_batch` a batch tells which of its documents are
    relevant to which of its queries, with a `queue` (its size) which places of the queue are not.
    """
    queries = tokens.queries.rows(groups.queries)  # (groups,)
    documents = tokens.documents.rows(groups.documents.ravel()).reshape(groups.documents.shape)
    longest = tokens.lengths(queries[:, None], documents).max(1)  # (groups,)
    relevant = _relevant(groups, documents) if in_batch or queue else None
    queued: deque[int] = deque(maxlen=queue)
    draw = np.random.default_rng(seed)
    number, of = share
    for _ in range(epochs):
        for chosen in _order(longest, batch_size, draw):
            mine = chosen[number::of]
            targets = {name: torch.from_numpy(values[mine]) for name, values in groups.targets.items()}
            in_the_batch = _among(relevant, mine, documents[mine]) if in_batch else None
            places = momentum.negatives(_among(relevant, mine, np.array(queued, dtype=np.int64))) if queued else None
            yield Batch(tokens.batch(queries[mine], documents[mine]), targets, in_the_batch, places)
            queued.extend(documents[mine, 0])


def _order(longest: np.ndarray, batch_size: int, draw: np.random.Generator) -> Iterator[np.ndarray]:
    """The groups of each batch of an epoch, (batch_size,)."""
    count = len(longest) // batch_size
    order = draw.permutation(len(longest))[: count * batch_size]  # cut before sorting: any group may be left out
    window = WINDOW * batch_size
    for start in range(0, len(order), window):
        part = order[start : start + window]
        order[start : start + window] = part[np.argsort(longest[part], kind="stable")]
    for index in draw.permutation(count):
        yield order[index * batch_size : (index + 1) * batch_size]


def _relevant(groups: Groups, documents: np.ndarray) -> list[np.ndarray]:
    """For each group the documents, by row, that are no negatives of its query: those related, and its positives."""
    related = {query: set(groups.related.get(query, ())) for query in groups.queries}
    for query, positive in zip(groups.queries, groups.documents[:, 0], strict=True):
        related[query].add(positive)
    row = dict(zip(groups.documents.ravel(), documents.ravel(), strict=True))
    found = {query: np.array([row[one] for one in known if one in row]) for query, known in related.items()}
    return [found[query] for query in groups.queries]


def _among(relevant: list[np.ndarray], chosen: np.ndarray, documents: np.ndarray) -> torch.Tensor:
    """Which documents, rows in any shape, are relevant to the queries of the groups `chosen`; (batch, *shape) bool."""
    return torch.from_numpy(np.stack([np.isin(documents, relevant[group]) for group in chosen]))


def train(
    model: nn.Module, groups: Groups, tokens: PairTokens | SeparateTokens, strategy: Strategy, *,
    learning_rate: float, batch_size: int, epochs: int = 1, warm_up: float = 0.1, clip: float = CLIP,
    weight_decay: float = WEIGHT_DECAY, seed: int = 0, chunk: int | None = None, what: str = "training",
) -> pd.DataFrame:  # fmt: skip
    """Train `model` in place and return its history, one row per step.

    AdamW; the learning rate rises linearly over the share `warm_up` of the steps and falls linearly to zero;
    gradients are clipped to norm `clip`. With `chunk` a bi-encoder's batch is encoded that many groups at a time, with
    the gradients of the whole (`grad_cache`). Columns: step, loss, positive and negative (mean raw scores), wanted
    (mean margin of the first term's targets), alike (mean similarity of positives and their negatives, where the
    strategy compares documents), gradient_norm, learning_rate, documents. Equal arguments on one machine in one process
    give an equal history.

    Under several processes (`accelerate launch`, on processors `python -m torch.distributed.run`) each takes its share
    of every batch and compares a batch's documents within it; the history is that of all.

    Raises:
        FloatingPointError: a loss, a gradient or a weight is not finite.
        ValueError: an argument is impossible, there are fewer groups than one batch holds, targets are missing or not
            finite, or something is asked of several processes that needs one.
    """
    _check_settings(learning_rate=learning_rate, batch_size=batch_size, epochs=epochs, warm_up=warm_up, clip=clip,
                    weight_decay=weight_decay, seed=seed, chunk=chunk)  # fmt: skip
    _check_targets(groups, strategy)
    steps = len(groups) // batch_size * epochs
    if not steps:
        raise ValueError(
            f"batch_size={batch_size}: only {len(groups)} groups, not one batch; give {len(groups)} or less"
        )
    accelerator = _accelerator(model, batch_size, chunk)
    hardware.keep_memory()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=weight_decay, fused=True)
    rising = max(1, round(warm_up * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / rising, (steps - step) / max(1, steps - rising))
    )
    data = batches(
        groups, tokens, batch_size=batch_size, epochs=epochs, seed=seed, in_batch=strategy.columns is not None,
        share=(accelerator.process_index, accelerator.num_processes), queue=_emptied(model),
    )  # fmt: skip
    history = _History(accelerator, strategy.name)
    wrapped, optimizer = accelerator.prepare(model.train(), optimizer)
    with torch.random.fork_rng():
        torch.manual_seed(seed + accelerator.process_index)  # dropout, of its own in every process
        for batch in progress.steps(data, what, steps):
            batch = accelerate.utils.send_to_device(vars(batch), accelerator.device, non_blocking=True)
            loss, matrix = _backward(wrapped, strategy, batch, chunk, accelerator)
            norm = accelerator.clip_grad_norm_(trained, clip)
            optimizer.step()
            optimizer.zero_grad()
            wanted = matrix.targets[strategy.terms[0].source]
            history.add(_means(loss, matrix, wanted, norm), schedule.get_last_lr()[0], batch["targets"][LABELS].numel())
            schedule.step()
    accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)  # the caller's model computes in its own precision again
    table = history.table()
    _check_weights(model, strategy.name)
    return table


_POSITIVE = (Real, lambda value: value > 0, "a finite number above 0")
_COUNT = (Integral, lambda value: value >= 1, "a whole number of at least 1")
_POSSIBLE = {
    "learning_rate": _POSITIVE, "clip": _POSITIVE, "batch_size": _COUNT, "epochs": _COUNT, "chunk": _COUNT,
    "warm_up": (Real, lambda value: 0 <= value <= 1, "a share of the steps, 0 to 1"),
    "weight_decay": (Real, lambda value: value >= 0, "a finite number of at least 0"),
    "seed": (Integral, lambda value: value >= 0, "a whole number of at least 0"),
}  # fmt: skip


def _check_settings(**settings: object) -> None:
    for name, value in settings.items():
        kind, possible, words = _POSSIBLE[name]
        if name == "chunk" and value is None:
            continue
        number = isinstance(value, kind) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not possible(value):
            raise ValueError(f"{name}={value!r}: give {words}")


def _check_targets(groups: Groups, strategy: Strategy) -> None:
    """Refuse targets that are missing, of another shape than the documents, or not finite."""
    for source in {term.source for term in strategy.terms} - {OWN}:
        if source not in groups.targets:
            raise ValueError(
                f"strategy {strategy.name}: the groups have no targets {source!r}; add them to groups.targets"
            )
    for source, values in groups.targets.items():
        if values.shape != groups.documents.shape:
            raise ValueError(
                f"targets {source!r}: shape {values.shape}; give one per document, {groups.documents.shape}"
            )
        if len(places := np.argwhere(~np.isfinite(values))):
            row, column = places[0]
            raise ValueError(
                f"targets {source!r}: {values[row, column]} for query {str(groups.queries[row])!r} and document "
                f"{str(groups.documents[row, column])!r}; every target must be a finite number: mend the source"
            )


def _accelerator(model: nn.Module, batch_size: int, chunk: int | None) -> accelerate.Accelerator:
    """The accelerator of this process; what needs one process, or cannot be shared evenly, is refused."""
    # Not every parameter is in every loss: a bi-encoder's backbone may have a pooler that nothing reads.
    unused = accelerate.DistributedDataParallelKwargs(find_unused_parameters=True)
    # Without `cpu` Accelerate would not see that a launcher started several processes on a processor.
    cpu = hardware.device().type == "cpu"
    accelerator = accelerate.Accelerator(cpu=cpu, mixed_precision=hardware.precision(), kwargs_handlers=[unused])
    processes = accelerator.num_processes
    if chunk is not None and processes > 1:
        raise ValueError(f"chunk={chunk}: its gradients are not gathered over {processes} processes; give chunk=None")
    if isinstance(model, Momentum) and processes > 1:
        raise ValueError(f"queue={model.size}: it is not gathered over {processes} processes; start one process")
    if batch_size % processes:
        raise ValueError(f"batch_size={batch_size}: give a multiple of the {processes} processes, which share a batch")
    return accelerator


def _emptied(model: nn.Module) -> int:
    """The size of a model's queue, which is empty from now on: batches know what it holds; 0 without one."""
    if not isinstance(model, Momentum):
        return 0
    model.queue = None
    return model.size


def _backward(
    model: nn.Module, strategy: Strategy, batch: dict, chunk: int | None, accelerator: accelerate.Accelerator
) -> tuple[torch.Tensor, Matrix]:
    """The forward and backward pass of a step; loss and score matrix."""
    if chunk is not None:
        with accelerator.autocast():
            return _in_chunks(model, strategy, batch, chunk, accelerator.backward)
    matrix = strategy.matrix(model, **batch)
    loss = strategy.loss(*matrix[:2]).mean()
    accelerator.backward(loss)
    return loss, matrix


def _in_chunks(
    model: BiEncoder, strategy: Strategy, batch: dict, chunk: int, backward: Callable[[torch.Tensor], None]
) -> tuple[torch.Tensor, Matrix]:
    """The backward pass of a batch, `chunk` groups at a time; loss and score matrix."""
    count, docs = batch["targets"][LABELS].shape
    parts = [_part(batch["tokens"], start, min(start + chunk, count), docs) for start in range(0, count, chunk)]
    seen = []

    def loss(queries: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
        seen.append(strategy.matrix(lambda *_, **how: model.of_vectors(queries, documents, **how), **batch))
        return strategy.loss(*seen[0][:2]).mean()

    return cached_backward(lambda part: model.vectors(part, docs), parts, loss, backward), seen[0]


def _part(tokens: dict, first: int, end: int, docs: int) -> dict:
    """The tokens of groups `first` to `end`."""
    rows = {"queries": slice(first, end), "documents": slice(first * docs, end * docs)}
    return {side: {name: values[rows[side]] for name, values in tokens[side].items()} for side in rows}


def _means(loss: torch.Tensor, matrix: Matrix, wanted: torch.Tensor, norm: torch.Tensor) -> torch.Tensor:
    """What the history says of a step, in the order of `MEANS`; it stays on the device."""
    negatives = matrix.scores[:, 1:]
    negative = negatives.masked_fill(negatives.isneginf(), torch.nan).nanmean()  # without those that are left out
    means = [loss, matrix.scores[:, 0].mean(), negative, (wanted[:, :1] - wanted[:, 1:]).mean(), matrix.alike, norm]
    return torch.stack(means).detach()


MEANS = ["loss", "positive", "negative", "wanted", "alike", "gradient_norm"]
BROKEN = {"loss": "the loss", "positive": "a score", "gradient_norm": "the gradient"}  # what must be finite


class _History:
    """What every step computed, as the mean over processes. An accelerator is not read at every step: it would wait."""

    def __init__(self, accelerator: accelerate.Accelerator, name: str):
        self._accelerator, self._name = accelerator, name
        self._every = 1 if accelerator.device.type == "cpu" else READ_EVERY
        self._rates, self._documents, self._unread, self._read = [], [], [], []

    def add(self, means: torch.Tensor, rate: float, documents: int) -> None:
        """Keep a step; what is not finite stops the training within `READ_EVERY` steps."""
        self._rates.append(rate)
        self._documents.append(documents * self._accelerator.num_processes)
        self._unread.append(means)
        if len(self._unread) == self._every:
            self._look()

    def table(self) -> pd.DataFrame:
        """One row per step."""
        if self._unread:
            self._look()
        table = pd.DataFrame(np.concatenate(self._read), columns=MEANS)
        table.insert(0, "step", np.arange(1, len(table) + 1))
        return table.assign(learning_rate=self._rates, documents=self._documents)

    def _look(self) -> None:
        means = self._accelerator.reduce(torch.stack(self._unread).float(), "mean").cpu().numpy()
        self._unread = []
        for step, row in enumerate(means, len(self._rates) - len(means) + 1):
            for what, value in zip(MEANS, row, strict=True):
                if what in BROKEN and not np.isfinite(value):
                    raise FloatingPointError(
                        f"strategy {self._name}: {BROKEN[what]} is not finite at step {step}; lower the learning rate"
                    )
        self._read.append(means)


def _check_weights(model: nn.Module, name: str) -> None:
    for what, values in (*model.named_parameters(), *model.named_buffers()):
        if not values.isfinite().all():
            raise FloatingPointError(f"strategy {name}: {what} is not finite after training; lower the learning rate")
