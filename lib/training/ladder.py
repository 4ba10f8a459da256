"""A cross-encoder's training and scoring with each of the kit's choices for speed on or off, timed: for notebook 11.

`lib.training.loop` and `lib.training.scoring` have the choices built in; here they are flags, so that each one's effect
can be measured.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from unittest import mock

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device
from torch import nn

from lib.data.groups import LABELS, Groups
from lib.machine import hardware
from lib.models import fused, packed
from lib.models.cross_encoder import CrossEncoder
from lib.models.tokens import PairTokens
from lib.training.batches import batches


@dataclass(frozen=True)
class Way:
    """How a step is computed; the defaults are those of transformers with a plain loop."""

    attention: str = "sdpa"  # or "eager": transformers' attention, until the layers are packed
    bf16: bool = False  # autocast
    by_length: bool = False  # batches of similar length
    packed: bool = False  # no padding between the layers, attention's backward pass by hand
    low: bool = False  # packed layers under autocast: hidden states between them are of its type
    first: bool = False  # packed layers only: the last one computes the token that is read
    fast_dropout: bool = False
    dropout: float = 0.1
    embeddings: bool = True  # whether the embedding tables are trained
    fused: bool = False  # packed layers, scoring only: products do what follows them (`lib.models.fused`)


@dataclass(frozen=True)
class Work:
    """A model and the pairs that it trains on or scores."""

    model: CrossEncoder
    groups: Groups
    tokens: PairTokens
    batch_size: int  # groups per step

    @property
    def pairs(self) -> int:
        """How many pairs there are."""
        return self.groups.documents.size

    @property
    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of every pair's query and document in the token stores, (groups, docs) each."""
        documents = self.tokens.documents.rows(self.groups.documents.ravel()).reshape(self.groups.documents.shape)
        queries = self.tokens.queries.rows(self.groups.queries)
        return np.repeat(queries[:, None], documents.shape[1], 1), documents

    @property
    def useful_tokens(self) -> int:
        """Tokens of all pairs, without padding."""
        return int(self.tokens.lengths(*self.rows).sum())

    @property
    def operations(self) -> float:
        """Floating-point operations that one forward pass needs in the layers' linear modules, 2 per weight and row.

        A row is a token; in the last layer, of which the first token is read, keys and values alone need all of them.
        """
        *layers, last = self.model.transformer.base_model.encoder.layer
        sides = _weights(last.attention.self.key) + _weights(last.attention.self.value)
        tokens = sum(map(_weights, layers)) + sides
        return 2.0 * (tokens * self.useful_tokens + (_weights(last) - sides) * self.pairs)

    @property
    def all_operations(self) -> float:
        """The same if every token went through every layer."""
        return 2.0 * _weights(self.model.transformer.base_model.encoder) * self.useful_tokens


def _matrices(module: nn.Module) -> list[torch.Tensor]:
    return [part.weight for part in module.modules() if isinstance(part, nn.Linear)]


def _weights(module: nn.Module) -> int:
    return sum(matrix.numel() for matrix in _matrices(module))


def places(work: Work, way: Way) -> int:
    """Places for tokens in the batches of a training epoch, padding included."""
    return sum(tokens["input_ids"].numel() for tokens, _ in _training(work, way)[0])


def arrange(model: CrossEncoder, way: Way) -> None:
    """Make a model compute in this way, in place; its weights stay as they are."""
    transformer = model.transformer
    (packed.pack if way.packed else packed.unpack)(transformer)
    transformer.base_model.encoder.first, transformer.base_model.encoder.low = way.first, way.low
    model.set_attention(way.attention)
    for module in transformer.modules():
        if isinstance(module, nn.Dropout):
            module.__class__, module.p = packed.Dropout if way.fast_dropout else nn.Dropout, way.dropout
    transformer.base_model.embeddings.requires_grad_(way.embeddings)


def step(
    model: CrossEncoder, optimizer: torch.optim.Optimizer, tokens: dict, labels: torch.Tensor, bf16: bool
) -> torch.Tensor:
    """One training step as any loop has it; returns the loss."""
    with torch.autocast(labels.device.type, torch.bfloat16, enabled=bf16):
        scores = model(tokens, labels.shape[1])
    loss = F.binary_cross_entropy_with_logits(scores, labels)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def train(work: Work, way: Way) -> float:
    """Seconds of one epoch, after a step that warms up. The learning rate is 0: every way has the same weights."""
    parts, run = _training(work, way)
    with _draws(way):
        run(*parts[0])
        _wait()
        start = time.perf_counter()
        for part in parts:
            run(*part)
        _wait()
        return time.perf_counter() - start


def score(work: Work, way: Way) -> tuple[float, np.ndarray]:
    """Seconds of scoring every pair, after a batch that warms up, and the raw scores (pairs,)."""
    device = hardware.device()
    arrange(work.model.to(device).eval(), way)
    queries, documents = (rows.ravel() for rows in work.rows)
    order = np.random.default_rng(0).permutation(work.pairs)
    if way.by_length:
        order = np.argsort(-work.tokens.lengths(queries, documents), kind="stable")
    size = work.batch_size * work.groups.documents.shape[1]
    parts = [order[start : start + size] for start in range(0, work.pairs, size)]
    scores = np.empty(work.pairs, np.float32)
    fast = fused.fused(work.model) if way.fused else contextlib.nullcontext()
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=way.bf16), fast:
        for number, chosen in enumerate([parts[0], *parts]):
            if number == 1:
                start = time.perf_counter()
            tokens = send_to_device(work.tokens.batch(queries[chosen], documents[chosen, None]), device)
            scores[chosen] = work.model(tokens).squeeze(1).cpu()
        return time.perf_counter() - start, scores


def rates(run: Callable[[Work, Way], float], work: Work, ways: dict[str, Way], rounds: int) -> pd.DataFrame:
    """Pairs per second, one row per round and one column per way; the ways take turns."""
    rows = [{name: work.pairs / run(work, way) for name, way in ways.items()} for _ in range(rounds)]
    return pd.DataFrame(rows)


def limit(work: Work, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """Floating-point operations per second of the layers' products alone, with as many rows as a batch has tokens."""
    layer, device = work.model.transformer.base_model.encoder.layer[0], hardware.device()
    tokens = work.useful_tokens * work.batch_size // len(work.groups)
    weights = [matrix.detach().to(device, dtype) for matrix in _matrices(layer)]
    rows = {width: torch.randn(tokens, width, device=device, dtype=dtype) for width in {w.shape[1] for w in weights}}
    done, start = -1, 0.0
    with torch.inference_mode():
        while done < 0 or time.perf_counter() - start < seconds:
            for weight in weights:
                F.linear(rows[weight.shape[1]], weight)
            _wait()
            done += 1
            start = start or time.perf_counter()  # after a round that warms up
        return done * 2 * tokens * _weights(layer) / (time.perf_counter() - start)


# What a profiler's operator belongs to, by a part of its name; the first that fits.
KINDS = {
    "optimiser": ("adam", "optimizer", "_foreach_"),
    "fused attention": ("scaled_dot_product", "flash"),
    "dropout": ("dropout", "bernoulli", "aten::rand", "_drop"),
    "softmax": ("softmax",),
    "GELU": ("gelu",),
    "layer norm": ("layer_norm", "layernorm"),
    "products": ("mm", "linear", "matmul", "mkldnn"),
    "casts and copies": ("copy", "aten::to", "contiguous", "clone", "index_select", "scatter", "aten::cat"),
    "sums, factors, masks": ("::add", "::sub", "::mul", "::div", "::sum", "::where", "fill", "zero", "::all", "isneg"),
}


def kind(operator: str) -> str:
    """The group of `KINDS` that an operator is in, or "other"."""
    name = operator.lower()
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "other")


def where(work: Work, way: Way) -> pd.Series:
    """Where the time of an epoch goes: milliseconds per pair, by the kinds of operators."""
    parts, run = _training(work, way)
    cuda = hardware.device().type == "cuda"
    activities = [torch.profiler.ProfilerActivity.CPU] + [torch.profiler.ProfilerActivity.CUDA] * cuda
    with _draws(way):
        run(*parts[0])
        with _quiet(), torch.profiler.profile(activities=activities) as profile:
            for part in parts:
                run(*part)
            _wait()
    found = dict.fromkeys([*KINDS, "other"], 0.0)
    for event in profile.key_averages():
        found[kind(event.key)] += event.self_device_time_total if cuda else event.self_cpu_time_total
    return pd.Series(found) / 1000 / work.pairs


def _training(work: Work, way: Way) -> tuple[list[tuple[dict, torch.Tensor]], Callable[[dict, torch.Tensor], object]]:
    """The batches of an epoch on the device, and what does a step with one."""
    device, model = hardware.device(), work.model
    arrange(model.to(device).train(), way)
    size = work.batch_size
    if way.by_length:
        made = batches(work.groups, work.tokens, batch_size=size, epochs=1, seed=0)
        parts = [(one.tokens, one.targets[LABELS]) for one in made]
    else:
        queries, documents = work.rows
        labels = torch.from_numpy(work.groups.targets[LABELS])
        chosen = [slice(start, start + size) for start in range(0, len(work.groups), size)]
        parts = [(work.tokens.batch(queries[part, 0], documents[part]), labels[part]) for part in chosen]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.0, fused=True)
    model.zero_grad()  # an earlier way may have left some where this one has none
    return send_to_device(parts, device), lambda tokens, labels: step(model, optimizer, tokens, labels, way.bf16)


@contextlib.contextmanager
def _draws(way: Way) -> Iterator[None]:
    """A block in which packed attention draws its dropout as torch does, unless the way has fast draws.

    The draws have a name for the profiler, which does not see numpy's.
    """

    def slow(values: torch.Tensor, dropout: float) -> torch.Tensor:
        drawn = torch.empty_like(values).bernoulli_(1 - dropout)
        return drawn.neg_().to(packed.INTEGERS[values.element_size()])

    kept = packed.kept_places if way.fast_dropout else slow

    def named(values: torch.Tensor, dropout: float) -> torch.Tensor:
        with torch.profiler.record_function("dropout"):
            return kept(values, dropout)

    with mock.patch.object(packed, "kept_places", named), torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """A block in which torch's profiler cannot write to standard error that it starts and stops."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
