"""What every architecture shares: one interface, and how a trained ranker is kept.

    model(tokens, docs)               ->  raw scores (batch, docs)
    model(tokens, docs, states=True)  ->  these and hidden states (batch, docs, layers, dim), where it `has_states`

`LateRanker` is for those that encode queries and documents separately: what it encodes can be stored, and `late` scores
stored vectors as the joint call does.
"""

from __future__ import annotations  # transformers reads its model classes, for seconds, when one is named

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import transformers
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.losses.margins import Similarities
from lib.models import backbone, weights
from lib.models.gathered import gathered
from lib.models.ragged import Ragged
from lib.models.tokens import PairTokens, Pattern, SeparateTokens, Side, check_room
from lib.models.vectors import Vectors

Tokens = dict[str, Int[Tensor, "texts width"]]  # by the names of a transformer's parameters
Tokenizer = transformers.PreTrainedTokenizerFast
SETTINGS = "ranker.json"  # architecture, options and whether there is a prefix, beside the weights
ADAPTER = "adapter"  # a folder, for what `lib.models.adapters` keeps beside the weights


class Represented(NamedTuple):
    """Pairs as a ranker sees them: one vector per layer, of the token that its head reads."""

    scores: Float[Tensor, "batch docs"]
    states: Float[Tensor, "batch docs layers dim"]  # layer 0 is after the embeddings, the last is what the head reads


class Ranker(nn.Module, ABC):
    """A model that scores (query, document) pairs."""

    architecture: str  # its name in experiments
    has_states: bool = False  # whether it can give its hidden states, one vector per pair and layer
    later: frozenset[str] = frozenset()  # options that folders of earlier versions lack: they mean the defaults

    def __init__(self, options: dict[str, object]):
        super().__init__()
        self.options = options  # the literals with which it was built
        self.adapter = None  # or what `lib.models.adapters.attach` put in

    @classmethod
    @abstractmethod
    def open(
        cls, folder: Path, layers: tuple[int, ...] | None, seed: int, *, trained: bool, dropout: float | None,
        embeddings: bool, **options: object,
    ) -> Ranker:  # fmt: skip
        """The ranker of a folder in the hub's layout: a backbone, or what `save` wrote where it is `trained`."""

    @abstractmethod
    def forward(self, tokens: dict, docs: int = 1) -> Tensor:
        """What `inputs(...).batch` made of (batch,) queries and (batch, docs) documents -> raw scores (batch, docs)."""

    @abstractmethod
    def inputs(
        self, queries: Ragged, documents: Ragged, tokenizer: Tokenizer, max_length: int, max_query: int | None = 64
    ) -> PairTokens | SeparateTokens:
        """How this architecture reads texts: one sequence per pair, or one per text.

        `max_length`: tokens of a pair, or of a text that is encoded by itself. `max_query`: tokens of a query; None is
        sentence-transformers' cut of a pair, and `max_length` for a query that is encoded by itself. Raises ValueError
        if a length leaves no room for each text beside the special tokens, or the model has too few positions.
        """

    def save(self, folder: Path, tokenizer: Tokenizer, max_length: int) -> None:
        """Write weights (safetensors), options and tokenizer; `lib.models.load` opens the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.adapter is not None:
            self.adapter.save(folder / ADAPTER)
        self._save_weights(folder, max_length)
        tokenizer.model_max_length = max_length
        tokenizer.save_pretrained(folder)
        about = {"architecture": self.architecture, "options": self.options, "prefix": self.adapter is not None}
        (folder / SETTINGS).write_text(json.dumps(about, indent=1))

    @abstractmethod
    def _save_weights(self, folder: Path, max_length: int) -> None: ...

    def leads(self, tokenizer: Tokenizer) -> tuple[str, str]:
        """What is put before a query, and before a document, to tokenise it: see `lib.models.tokens.pieces`."""
        return "", ""

    def set_attention(self, implementation: str) -> None:
        """Choose one of transformers' attention implementations; a model that does not have it keeps its own."""
        if hasattr(self, "transformer"):
            with contextlib.suppress(ValueError, ImportError), weights.quiet():
                self.transformer.set_attn_implementation(implementation)

    def checkpoint_gradients(self) -> None:
        """Keep of every layer its input alone, and compute the rest again in the backward pass: less memory, more time.

        Chen et al. 2016, https://arxiv.org/abs/1604.06174. Raises ValueError if the model cannot.
        """
        transformer = getattr(self, "transformer", None)
        if not getattr(transformer, "supports_gradient_checkpointing", False):
            kind = self.architecture if transformer is None else f"backbone {type(transformer).__name__}"
            raise ValueError(f"gradient_checkpointing=True: {kind} cannot compute its layers again; give False")
        if isinstance(self.adapter, nn.Module):  # a prefix: transformers' layers leave it out there
            raise ValueError("gradient_checkpointing=True: a ranker with a prefix cannot be trained so; give False")
        later = getattr(transformer, "activation_checkpointing_enable", None)  # the same by its later name
        (later or transformer.gradient_checkpointing_enable)({"use_reentrant": False})


class LateRanker(Ranker):
    """A ranker that encodes queries and documents separately: one vector per text, or one per token."""

    @abstractmethod
    def encode_queries(self, tokens: Tokens) -> Vectors:
        """(texts, width) -> (texts, vectors, dim)."""

    @abstractmethod
    def encode_documents(self, tokens: Tokens) -> Vectors:
        """(texts, width) -> (texts, vectors, dim)."""

    @abstractmethod
    def late(self, queries: Vectors, documents: Vectors) -> Float[Tensor, "batch docs"]:
        """Scores of queries (batch, vectors, dim) and documents (batch or 1, docs, vectors, dim)."""

    def forward(self, tokens: dict[str, dict[str, Tensor]], docs: int = 1) -> Tensor:
        """Queries (batch, width) and documents (batch * docs, width) -> raw scores (batch, docs), float32."""
        return self.late(*self.encode(tokens, docs))

    def encode(self, tokens: dict[str, Tokens], docs: int) -> tuple[Vectors, Vectors]:
        """One step's queries (batch, vectors, dim) and documents (batch, docs, vectors, dim)."""
        queries, documents = self.encode_queries(tokens["queries"]), self.encode_documents(tokens["documents"])
        return queries, documents.map(lambda part: part.unflatten(0, (-1, docs)))

    def similarities(self, queries: Vectors, documents: Vectors) -> Similarities:
        """All queries (batch, vectors, dim) against all documents (batch, docs, vectors, dim)."""
        batch, docs = documents.mask.shape[:2]
        everything = documents.map(lambda part: part.flatten(0, 1).unsqueeze(0))  # (1, batch * docs, ...)
        positives = documents.map(lambda part: part[:, 0])
        return Similarities(*(self.late(one, everything).view(batch, batch, docs) for one in (queries, positives)))

    def expansion(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Tokens that this architecture puts after a query and its special tokens."""
        return ()

    def markers(self, tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokens that this architecture puts before a query, and before a document, after the special ones."""
        return (), ()

    def inputs(
        self, queries: Ragged, documents: Ragged, tokenizer: Tokenizer, max_length: int, max_query: int | None = 64
    ) -> SeparateTokens:
        """[CLS] text [SEP], or what the tokenizer puts around it, within both lengths; `expansion` comes on top.

        `markers` are within the lengths.
        """
        alone = Pattern.of_single(tokenizer, end=self.options.get("pooling") == "last")
        added = self.expansion(tokenizer)
        query_marker, document_marker = self.markers(tokenizer)
        name, limit = ("max_length", max_length) if max_query is None else ("max_query", max_query)
        check_room(name, limit, alone.size + len(query_marker))
        asked = Side(queries, alone.before + query_marker, alone.after + added, alone.pad, limit + len(added))
        if hasattr(self, "transformer"):  # TK computes its positions, however many
            check_length(self.transformer.config, max_length)
            more = f" and {len(added)} tokens after each query" if added else ""
            check_length(self.transformer.config, asked.longest, f"{name}={limit}{more}")
        return SeparateTokens(
            asked, Side(documents, alone.before + document_marker, alone.after, alone.pad, max_length)
        )


class InBatch(nn.Module):
    """A ranker whose step compares the whole batch: every query, and every query's positive, with every document.

    The batch is that of all processes of a launch; each of them computes the similarities of the whole.
    """

    def __init__(self, ranker: LateRanker):
        super().__init__()
        self.ranker = ranker

    def forward(self, tokens: dict[str, dict[str, Tensor]], docs: int) -> Similarities:
        """Queries (batch, width) and documents (batch * docs, width) of this process -> all similarities."""
        return self.compare(*self.ranker.encode(tokens, docs))

    def compare(self, queries: Vectors, documents: Vectors) -> Similarities:
        """Queries (batch, vectors, dim) and documents (batch, docs, vectors, dim) of this process -> all."""
        joined = queries.map(partial(gathered, width=1)), documents.map(partial(gathered, width=2))
        return self.ranker.similarities(*joined)


def check_length(config: transformers.PretrainedConfig, length: int, said: str | None = None) -> None:
    """Raise ValueError if a sequence is longer than a transformer's positions; `said`: what made it so long."""
    most = backbone.limit(config)
    if most is not None and length > most:
        fix = f"give a smaller one, so that the sequence is {most} tokens or fewer"
        fault = f"a sequence of {length} tokens, but {config.model_type} has {most} positions; {fix}"
        raise ValueError(f"{said or f'max_length={length}'}: {fault}")


def float32(tensor: Tensor) -> Tensor:
    """A tensor in float32 at least: scores in bfloat16 would tie (see `cross_encoder.Float32Linear`)."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


@contextlib.contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """New weights are drawn from `seed` inside; the caller's random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
