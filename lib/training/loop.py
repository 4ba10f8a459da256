"""One training loop for every strategy and architecture, on Accelerate."""

from collections.abc import Callable, Sequence
from itertools import islice

import accelerate
import numpy as np
import pandas as pd
import torch
from torch import nn

from lib.data.groups import LABELS, Groups
from lib.machine import hardware, progress
from lib.models.bi_encoder import BiEncoder
from lib.models.gathered import gathered
from lib.models.momentum import Momentum
from lib.models.parts import WithStates
from lib.models.ranker import InBatch
from lib.models.tokens import PairTokens, SeparateTokens
from lib.training.batches import batches
from lib.training.grad_cache import cached_backward
from lib.training.peers import Students
from lib.training.resume import Checkpoint, TrainingState
from lib.training.settings import Queue, Training
from lib.training.strategy import OWN, PEERS, STATES, Matrix, Strategy
from lib.training.trackers import Log

READ_EVERY = 16  # steps between two looks at what an accelerator computed: each makes it wait


def train(
    model: nn.Module, groups: Groups, tokens: PairTokens | SeparateTokens, strategy: Strategy, settings: Training, *,
    seed: int = 0, what: str = "training", checkpoint: Checkpoint | None = None, log: Log | None = None,
    after: Callable[[int], None] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Train `model` in place and return its history, one row per step.

    Columns: step, loss, positive and negative (mean raw scores), target_margin (mean margin of the first term's
    targets), similarity (mean similarity of positives and their negatives, where the strategy compares documents),
    gradient_norm, learning_rate, documents. Equal arguments on one machine in one process give an equal history.

    Under several processes (`accelerate launch`, on processors `python -m torch.distributed.run`) each takes its share
    of every batch, and the history is that of all; where queries or documents of a batch are compared, or a queue, they
    are those of all too. Where students teach each other (`lib.training.peers`), `model` is all of them, and means are
    over all. With a `checkpoint` it goes on from what is there; `log` is told what each step computed, for trackers;
    `after` is called with the number of each step, when the model has changed. Raises FloatingPointError if a loss, a
    gradient or a weight is not finite, ValueError if groups or settings cannot be trained with.
    """
    _check_targets(groups, strategy)
    if strategy.peers is not None and not (isinstance(model, Students) and len(model.rankers) > 1):
        raise ValueError(f"strategy {strategy.name}: students teach each other; give lib.training.peers.Students")
    steps = _steps(groups, settings)
    accelerator = accelerator_of(settings)
    hardware.keep_memory()
    queue = settings.batching if isinstance(settings.batching, Queue) else None
    compared = _compared(model, groups, strategy, queue, seed)
    trained = [parameter for parameter in compared.parameters() if parameter.requires_grad]
    optimizer, schedule = adamw(trained, settings, steps)
    data = batches(
        groups, tokens, batch_size=settings.batch_size, epochs=settings.epochs, seed=seed,
        in_batch=strategy.columns is not None, queue=queue.size if queue else 0,
        share=(accelerator.process_index, accelerator.num_processes),
    )  # fmt: skip
    history = History(accelerator, strategy.name, log)
    # What is encoded in parts averages its gradients itself, after the last part.
    wrapped = accelerator.prepare_model(compared.train(), evaluation_mode=settings.chunk is not None)
    optimizer = accelerator.prepare(optimizer)
    with torch.random.fork_rng():
        torch.manual_seed(seed + accelerator.process_index)  # dropout, of its own in every process
        state = TrainingState(compared, schedule.optimizer, schedule, history)
        done = checkpoint.restore(state) if checkpoint else 0
        for step, batch in enumerate(progress.steps(islice(data, done, None), what, steps - done), done + 1):
            batch = accelerate.utils.send_to_device(vars(batch), accelerator.device, non_blocking=True)
            if settings.chunk is None:
                loss, matrix = _whole(wrapped, strategy, batch, accelerator)
            else:
                loss, matrix = _in_chunks(model, strategy, batch, settings.chunk, accelerator)
            norm = accelerator.clip_grad_norm_(trained, settings.clip)
            optimizer.step()
            optimizer.zero_grad()
            means = _means(loss, matrix, matrix.targets[strategy.terms[0].source], norm)
            history.add(means, schedule.get_last_lr()[0], batch["targets"][LABELS].numel())
            schedule.step()
            if after:
                after(step)
                compared.train()  # it may have scored the model
            if checkpoint and not history.unread:  # else an accelerator would wait
                checkpoint.keep(step, state)
    accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)  # the caller's model computes in its own precision again
    table = history.table()
    changed = (named for named in model.named_parameters() if named[1].requires_grad)
    for name, values in (*changed, *model.named_buffers()):
        _check_finite(values, strategy.name, f"{name} is not finite after training")
    return table


def _steps(groups: Groups, settings: Training) -> int:
    steps = len(groups) // settings.batch_size * settings.epochs
    if not steps:
        fix = f"give {len(groups)} or less"
        raise ValueError(f"batch_size={settings.batch_size}: only {len(groups)} groups, not one batch; {fix}")
    return steps


def adamw(
    trained: list[nn.Parameter], settings: Training, steps: int
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
    """The optimizer and the schedule of its learning rate, as `Training` describes them."""
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    rising = max(1, round(settings.warm_up * steps))
    return optimizer, torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / rising, (steps - step) / max(1, steps - rising))
    )


def _of_all(matrix: Matrix) -> Matrix:
    """The rows of all processes, since a loss may compare the queries of a batch."""
    targets = {source: gathered(values) for source, values in matrix.targets.items() if source != STATES}
    if STATES in matrix.targets:
        targets[STATES] = tuple(tuple(map(gathered, compared)) for compared in matrix.targets[STATES])
    return matrix._replace(scores=gathered(matrix.scores), targets=targets)


def _check_targets(groups: Groups, strategy: Strategy) -> None:
    """Refuse targets that are missing, of another shape than the documents, or not finite."""
    for source in {term.source for term in strategy.terms} - {OWN, PEERS}:
        if source not in groups.targets:
            fix = "add them to groups.targets"
            raise ValueError(f"strategy {strategy.name}: the groups have no targets {source!r}; {fix}")
    for source, values in groups.targets.items():
        if values.shape[:2] != (wanted := groups.documents.shape) or (source == STATES and values.ndim != 4):
            raise ValueError(f"targets {source!r}: shape {values.shape}; give one per document, {wanted}")
        if len(places := np.argwhere(~np.isfinite(values))):
            row, column, *_ = places[0]
            raise ValueError(
                f"targets {source!r}: {values[tuple(places[0])]} for query {str(groups.queries[row])!r} and document "
                f"{str(groups.documents[row, column])!r}; every target must be a finite number: fix the source"
            )


def _compared(model: nn.Module, groups: Groups, strategy: Strategy, queue: Queue | None, seed: int) -> nn.Module:
    """The model, with what its step needs beside it."""
    if queue:
        return Momentum(model, queue.size, queue.momentum)
    if strategy.compares_states:
        makers = [term.part for term in strategy.terms if term.source == STATES]
        return WithStates(model, makers, *groups.targets[STATES].shape[2:], seed)
    return InBatch(model) if strategy.columns else model


def accelerator_of(settings: Training) -> accelerate.Accelerator:
    """The accelerator of this process; a batch that the processes cannot share evenly is refused."""
    # Not every parameter is in every loss: a bi-encoder's backbone may have a pooler that nothing reads.
    unused = accelerate.DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = hardware.accelerator(kwargs_handlers=[unused])
    processes = accelerator.num_processes
    if settings.batch_size % processes:
        fix = f"give a multiple of the {processes} processes, which share a batch"
        raise ValueError(f"batch_size={settings.batch_size}: {fix}")
    return accelerator


def _whole(
    wrapped: nn.Module, strategy: Strategy, batch: dict, accelerator: accelerate.Accelerator
) -> tuple[torch.Tensor, Matrix]:
    """The backward pass of a batch at once; loss and score matrix."""
    matrix = strategy.matrix(wrapped, **batch)
    if strategy.columns is None:
        matrix = _of_all(matrix)
    loss = strategy.loss(*matrix[:2]).mean()
    accelerator.backward(loss)
    return loss, matrix


def _in_chunks(
    model: BiEncoder, strategy: Strategy, batch: dict, chunk: int, accelerator: accelerate.Accelerator
) -> tuple[torch.Tensor, Matrix]:
    """The backward pass of a batch, `chunk` groups at a time; loss and score matrix."""
    count, docs = batch["targets"][LABELS].shape
    compare, matrices = model.late if strategy.columns is None else InBatch(model).compare, []

    def part(first: int) -> dict:
        rows = {"queries": slice(first, first + chunk), "documents": slice(first * docs, (first + chunk) * docs)}
        return {side: {name: values[rows[side]] for name, values in batch["tokens"][side].items()} for side in rows}

    def loss(*vectors: torch.Tensor) -> torch.Tensor:
        matrix = strategy.matrix(lambda *_: compare(*model.sides(*vectors)), **batch)
        matrices.append(_of_all(matrix) if strategy.columns is None else matrix)
        with torch.autocast(vectors[0].device.type, enabled=False):  # as without chunks: a loss is no part of the model
            return strategy.loss(*matrices[0][:2]).mean()

    parts = [part(first) for first in range(0, count, chunk)]
    with accelerator.autocast():
        found = cached_backward(lambda one: model.vectors(one, docs), parts, loss, accelerator.backward)
    for parameter in model.parameters() if accelerator.num_processes > 1 else ():
        if parameter.grad is not None:
            parameter.grad = accelerator.reduce(parameter.grad, "mean")
    return found, matrices[0]


def _means(loss: torch.Tensor, matrix: Matrix, targets: torch.Tensor, norm: torch.Tensor) -> torch.Tensor:
    """What the history says of a step, in the order of `MEANS`, on the device."""
    negatives = matrix.scores[:, 1:]
    negative = negatives.masked_fill(negatives.isneginf(), torch.nan).nanmean()  # without those that are left out
    target = (targets[:, :1] - targets[:, 1:]).mean()
    return torch.stack([loss, matrix.scores[:, 0].mean(), negative, target, matrix.similarity, norm]).detach()


MEANS = ["loss", "positive", "negative", "target_margin", "similarity", "gradient_norm"]
MUST_BE_FINITE = {"loss": "the loss", "positive": "a score", "gradient_norm": "the gradient"}


class History:
    """What every step computed, as the mean over processes. An accelerator is not read at every step: it would wait."""

    def __init__(
        self, accelerator: accelerate.Accelerator, name: str, log: Log | None, means: Sequence[str] = tuple(MEANS)
    ):
        self._accelerator, self._name, self._log, self._means = accelerator, name, log, list(means)
        self._every = 1 if accelerator.device.type == "cpu" else READ_EVERY
        self.known, self.unread, self._rows = [], [], []

    def add(self, means: torch.Tensor, rate: float, documents: int) -> None:
        """Keep a step; a value that is not finite stops the training within `READ_EVERY` steps."""
        self.known.append({"learning_rate": rate, "documents": documents * self._accelerator.num_processes})
        self.unread.append(means)
        if len(self.unread) == self._every:
            self._read()

    def rows(self) -> torch.Tensor:
        """What every step computed, (steps, means) float32."""
        if self.unread:
            self._read()
        return torch.from_numpy(np.concatenate(self._rows))

    def restore(self, rows: torch.Tensor, known: list[dict]) -> None:
        """Begin with the steps of a checkpoint."""
        self.known, self._rows = known, [rows.numpy()]

    def table(self) -> pd.DataFrame:
        """One row per step."""
        table = pd.DataFrame(self.rows().numpy(), columns=self._means)
        table.insert(0, "step", np.arange(1, len(table) + 1))
        return table.join(pd.DataFrame(self.known))

    def _read(self) -> None:
        means = self._accelerator.reduce(torch.stack(self.unread).float(), "mean").cpu()
        self.unread = []
        for step, row in enumerate(means, len(self.known) - len(means) + 1):
            for place, name in enumerate(self._means):
                if name in MUST_BE_FINITE:
                    _check_finite(row[place], self._name, f"{MUST_BE_FINITE[name]} is not finite at step {step}")
            if self._log:
                seen = dict(zip(self._means, row.tolist(), strict=True)) | self.known[step - 1]
                self._log({name: value for name, value in seen.items() if not np.isnan(value)}, step)
        self._rows.append(means.numpy())


def _check_finite(values: torch.Tensor, strategy: str, fault: str) -> None:
    if not values.isfinite().all():
        raise FloatingPointError(f"strategy {strategy}: {fault}; lower the learning rate")
