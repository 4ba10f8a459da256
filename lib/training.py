"""One training loop for every strategy and architecture, on Accelerate."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import accelerate
import numpy as np
import pandas as pd
import torch
from torch import nn

from lib import hardware, progress
from lib.grad_cache import cached_backward
from lib.groups import LABELS, Groups
from lib.models.bi_encoder import BiEncoder
from lib.strategies import Matrix, Strategy
from lib.tokens import PairTokens, SeparateTokens


@dataclass(frozen=True)
class Batch:
    """Groups of one step: tokens as the architecture reads them, and the targets by source."""

    tokens: dict  # what `tokens.batch` makes of (batch,) queries and (batch, docs) documents
    targets: dict[str, torch.Tensor]  # source -> (batch, docs)


def batches(
    groups: Groups,
    tokens: PairTokens | SeparateTokens,
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    share: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Batches of `batch_size` whole groups, of similar length, in an order drawn from `seed`.

    Groups are shuffled, sorted by length within windows of 16 batches, and the batches shuffled again: little
    padding, and still another order each epoch. Of each batch a process takes its share (number, of how many).
    A last batch that is not full is dropped.
    """
    queries = tokens.queries.rows(groups.queries)  # (groups,)
    documents = tokens.documents.rows(groups.documents.ravel()).reshape(groups.documents.shape)
    longest = tokens.lengths(queries[:, None], documents).max(1)  # (groups,)
    draw = np.random.default_rng(seed)
    number, of = share
    for _ in range(epochs):
        order = draw.permutation(len(groups))
        window = 16 * batch_size
        order = np.concatenate([
            part[np.argsort(longest[part], kind="stable")]
            for part in (order[start : start + window] for start in range(0, len(order), window))
        ])  # fmt: skip
        count = len(order) // batch_size
        for index in draw.permutation(count):
            chosen = order[index * batch_size : (index + 1) * batch_size][number::of]
            pairs = tokens.batch(queries[chosen], documents[chosen])
            yield Batch(pairs, {name: torch.from_numpy(values[chosen]) for name, values in groups.targets.items()})


def train(
    model: nn.Module, groups: Groups, tokens: PairTokens | SeparateTokens, strategy: Strategy, *,
    learning_rate: float, batch_size: int, epochs: int = 1, warm_up: float = 0.1, clip: float = 1.0,
    weight_decay: float = 0.01, seed: int = 0, chunk: int | None = None, what: str = "training",
) -> pd.DataFrame:  # fmt: skip
    """Train `model` in place and return its history, a row a step.

    AdamW; the learning rate rises linearly over the share `warm_up` of the steps and falls linearly to zero;
    gradients are clipped to norm `clip`. With `chunk` a bi-encoder's batch is encoded that many groups at a time, with
    the gradients of the whole (`lib.grad_cache`). Columns: step, loss, positive and negative (mean raw scores), wanted
    (mean margin of the first term's targets), alike (mean similarity of positives and their negatives, where the
    strategy compares documents), gradient_norm, learning_rate, documents. Equal arguments on one machine give an equal
    history.

    Raises:
        FloatingPointError: the loss of a step is not finite.
        ValueError: there are fewer groups than one batch holds, or `chunk` is used with several processes.
    """
    hardware.keep_memory()
    accelerator = accelerate.Accelerator(mixed_precision=hardware.precision())
    steps = len(groups) // batch_size * epochs
    if chunk is not None and accelerator.num_processes > 1:
        raise ValueError(f"chunk={chunk}: its gradients are not gathered over {accelerator.num_processes} processes")
    if not steps:
        raise ValueError(f"batch_size={batch_size}: only {len(groups)} groups, not one batch")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=weight_decay, fused=True)
    rising = max(1, round(warm_up * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / rising, (steps - step) / max(1, steps - rising))
    )
    model, optimizer = accelerator.prepare(model.train(), optimizer)
    share = (accelerator.process_index, accelerator.num_processes)
    data = batches(groups, tokens, batch_size=batch_size, epochs=epochs, seed=seed, share=share)
    rows = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # dropout
        for batch in progress.steps(data, what, steps):
            batch = accelerate.utils.send_to_device(vars(batch), accelerator.device, non_blocking=True)
            if chunk is None:
                matrix = strategy.matrix(model, **batch)
                loss = strategy.loss(*matrix[:2]).mean()
                accelerator.backward(loss)
            else:
                with accelerator.autocast():
                    loss, matrix = _in_chunks(model, strategy, batch, chunk, accelerator.backward)
            norm = accelerator.clip_grad_norm_(trained, clip)
            optimizer.step()
            optimizer.zero_grad()
            # Kept on the device: reading a value here would make every step wait for the accelerator.
            scores, wanted = matrix.scores, matrix.targets[strategy.terms[0].source]
            means = [loss, scores[:, 0].mean(), scores[:, 1:].mean(), (wanted[:, :1] - wanted[:, 1:]).mean()]
            means += [matrix.alike, norm]
            rows.append((torch.stack(means).detach(), schedule.get_last_lr()[0], batch["targets"]["labels"].numel()))
            schedule.step()
    return _history(rows, strategy.name)


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


def _history(rows: list[tuple[torch.Tensor, float, int]], name: str) -> pd.DataFrame:
    values = torch.stack([means for means, _, _ in rows]).float().cpu().numpy()
    history = pd.DataFrame(values, columns=["loss", "positive", "negative", "wanted", "alike", "gradient_norm"])
    history.insert(0, "step", np.arange(1, len(history) + 1))
    history["learning_rate"] = [rate for _, rate, _ in rows]
    history["documents"] = [count for _, _, count in rows]
    broken = ~np.isfinite(history["loss"])
    if broken.any():
        step = int(history.loc[broken, "step"].iloc[0])
        raise FloatingPointError(f"strategy {name}: the loss is not finite at step {step}; lower the learning rate")
    return history
