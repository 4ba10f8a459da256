"""One training loop for every strategy and architecture, on Accelerate."""

from collections.abc import Iterator
from dataclasses import dataclass

import accelerate
import numpy as np
import pandas as pd
import torch
from torch import nn

from lib import hardware, progress
from lib.groups import Groups
from lib.strategies import Strategy
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
    weight_decay: float = 0.01, seed: int = 0, what: str = "training",
) -> pd.DataFrame:  # fmt: skip
    """Train `model` in place and return its history, a row a step.

    AdamW; the learning rate rises linearly over the share `warm_up` of the steps and falls linearly to zero;
    gradients are clipped to norm `clip`. Columns: step, loss, positive and negative (mean raw scores), wanted (mean
    margin of the first term's targets), gradient_norm, learning_rate, documents. Equal arguments on one machine give
    an equal history.

    Raises:
        FloatingPointError: the loss of a step is not finite.
        ValueError: there are fewer groups than one batch holds.
    """
    accelerator = accelerate.Accelerator(mixed_precision=hardware.precision())
    steps = len(groups) // batch_size * epochs
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
            scores, targets = strategy.matrix(model, **batch)  # (batch, columns)
            loss = strategy.loss(scores, targets).mean()
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(trained, clip)
            optimizer.step()
            optimizer.zero_grad()
            # Kept on the device: reading a value here would make every step wait for the accelerator.
            wanted = targets[strategy.terms[0].source]
            means = [loss, scores[:, 0].mean(), scores[:, 1:].mean(), (wanted[:, :1] - wanted[:, 1:]).mean(), norm]
            rows.append((torch.stack(means).detach(), schedule.get_last_lr()[0], batch["targets"]["labels"].numel()))
            schedule.step()
    return _history(rows, strategy.name)


def _history(rows: list[tuple[torch.Tensor, float, int]], name: str) -> pd.DataFrame:
    values = torch.stack([means for means, _, _ in rows]).float().cpu().numpy()
    history = pd.DataFrame(values, columns=["loss", "positive", "negative", "wanted", "gradient_norm"])
    history.insert(0, "step", np.arange(1, len(history) + 1))
    history["learning_rate"] = [rate for _, rate, _ in rows]
    history["documents"] = [count for _, _, count in rows]
    broken = ~np.isfinite(history["loss"])
    if broken.any():
        step = int(history.loc[broken, "step"].iloc[0])
        raise FloatingPointError(f"strategy {name}: the loss is not finite at step {step}; lower the learning rate")
    return history
