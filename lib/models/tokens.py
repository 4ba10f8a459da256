"""Token store: every text tokenised once, memory-mapped; batches assembled from cached ids.

Texts are kept without special tokens. Batches are put together as the tokenizer itself would, for a whole batch at once
and without a loop over texts: a cross-encoder reads `PairTokens` ([CLS] query [SEP] document [SEP] for BERT), the other
architectures read `SeparateTokens` ([CLS] query [SEP] and [CLS] document [SEP]).
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import tokenizers
import torch

from lib.machine import store
from lib.models import ragged
from lib.models.ragged import Ragged

FILE = "flat.npy"
PAD_TO = 16  # widths are multiples of this: few shapes, which the processor's caches and compilers like
DOCUMENT_SHARE = 0.25  # of a pair's tokens beside the special ones: what a long query leaves to a document at least


@dataclass(frozen=True)
class Pattern:
    """The special tokens around the two texts of a pair, learnt from the tokenizer's own output."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    pad: int
    has_types: bool  # the model reads token_type_ids

    @property
    def size(self) -> int:
        """How many special tokens a pair has."""
        return len(self.before) + len(self.between) + len(self.after)

    @classmethod
    def of(cls, tokenizer) -> "Pattern":
        """The pattern of a tokenizer, found by tokenising two words alone and as a pair.

        Raises:
            ValueError: the tokenizer builds a pair in a way that this kit does not.
        """
        before, between, after = _around(tokenizer, "one", "two")
        if not between:
            raise ValueError(f"{_name(tokenizer)} puts no token between a query and a document: give one with a [SEP]")
        has_types = "token_type_ids" in tokenizer.model_input_names
        if has_types:
            types = list(tokenizer("one", "two")["token_type_ids"])
            second = len(tokenizer("two", add_special_tokens=False)["input_ids"]) + len(after)
            has_types = any(types)  # where all are 0, the model's own default does
            if has_types and types != [0] * (len(types) - second) + [1] * second:
                raise ValueError(f"{_name(tokenizer)} gives a pair the token types {types}: give one like BERT's")
        return cls(before, between, after, tokenizer.pad_token_id or 0, has_types)

    @classmethod
    def of_single(cls, tokenizer) -> "Pattern":
        """The pattern around a text by itself: nothing in between, no types.

        Raises:
            ValueError: the tokenizer builds a text in a way that this kit does not.
        """
        before, after = _around(tokenizer, "one")
        if not before + after:
            raise ValueError(f"{_name(tokenizer)} adds no special token: an empty text would have no vector")
        return cls(before, (), after, tokenizer.pad_token_id or 0, False)


def _name(tokenizer) -> str:
    return f"tokenizer {type(tokenizer).__name__} {getattr(tokenizer, 'name_or_path', '')!r}"


def _around(tokenizer, *words: str) -> list[tuple[int, ...]]:
    """The tokens before, between and after some words, from the tokenizer's own output: one part more than words."""
    for side in ("padding_side", "truncation_side"):
        if getattr(tokenizer, side, "right") != "right":
            raise ValueError(f'{_name(tokenizer)} has {side}="left": set it to "right" in its tokenizer_config.json')
    whole, parts, end = list(tokenizer(*words)["input_ids"]), [], 0
    for word in words:
        alone = list(tokenizer(word, add_special_tokens=False)["input_ids"])
        places = (place for place in range(end, len(whole)) if whole[place : place + len(alone)] == alone)
        start = next(places, None) if alone else None
        if start is None:
            raise ValueError(
                f"{_name(tokenizer)} makes {alone} of the word {word!r}, and of {words} with special tokens {whole}:"
                " give one that keeps a text's own tokens together between special tokens"
            )
        parts.append(tuple(whole[end:start]))
        end = start + len(alone)
    return [*parts, tuple(whole[end:])]


def check_room(name: str, length: int, special: int, texts: int = 1) -> None:
    """Refuse a length that cannot hold the special tokens and one token of each of `texts` texts.

    Raises:
        ValueError: it names the parameter `name` and the least that will do.
    """
    if length < special + texts:
        raise ValueError(
            f"{name}={length} cannot hold {special} special tokens and one token of each text:"
            f" give {special + texts} or more"
        )


def tokenise(texts: dict[str, str], tokenizer, identity: str) -> Ragged:
    """The token store of `texts` (id -> text), from the cache where the texts and the tokenizer are the same.

    `identity` names the texts' content, such as a collection's `documents_digest`. How the tokenizer is set to cut and
    to pad at the moment decides nothing here.
    """
    cut, whose = _uncut(tokenizer.backend_tokenizer.to_str())
    name = store.key("tokens", identity, whose)
    return Ragged(store.keep("tokens", name, lambda folder: _write(texts, cut, folder)), FILE)


@lru_cache(maxsize=8)
def _uncut(written: str) -> tuple[tokenizers.Tokenizer, str]:
    """A tokenizer of its own from another's description, without cutting and padding, and the hash of what is left."""
    cut = tokenizers.Tokenizer.from_str(written)
    cut.no_truncation()
    cut.no_padding()
    return cut, hashlib.sha256(cut.to_str().encode()).hexdigest()


def _write(texts: dict[str, str], cut: tokenizers.Tokenizer, folder: Path) -> None:
    values, dtype = list(texts.values()), np.uint16 if cut.get_vocab_size() <= 2**16 else np.int32

    def chunks() -> Iterator[list[np.ndarray]]:
        for start in range(0, len(values), 4096):
            encoded = cut.encode_batch_fast(values[start : start + 4096], add_special_tokens=False)
            yield [np.array(encoding.ids, dtype=dtype) for encoding in encoded]

    ragged.write(folder / FILE, list(texts), chunks(), dtype)


def _put(ids: np.ndarray, start: np.ndarray, count: np.ndarray, source: np.ndarray, first: np.ndarray) -> None:
    """Write `count` tokens of `source`, from `first` on, into each row of ids (rows, width) at `start`; (rows,) all."""
    offset = np.arange(ids.shape[1])[None, :] - start[:, None]  # (rows, width): which token of the part is here
    here = (offset >= 0) & (offset < count[:, None])
    ids[here] = source[(first[:, None] + offset)[here]]


def _put_special(ids: np.ndarray, start: np.ndarray, tokens: tuple[int, ...]) -> None:
    for offset, token in enumerate(tokens):
        ids[np.arange(len(ids)), start + offset] = token


def _width(lengths: np.ndarray, limit: int) -> int:
    """A batch's width: a multiple of `PAD_TO`, within the limit that the model's positions allow."""
    longest = int(lengths.max())
    return max(longest, min(-(-max(longest, 1) // PAD_TO) * PAD_TO, limit))


def _longest_first(queries: np.ndarray, documents: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of pairs -> what the tokenizers library's `longest_first` keeps of them in `room` tokens.

    As in its `truncate_encodings`, https://github.com/huggingface/tokenizers (tokenizers/src/utils/truncation.rs).
    """
    shorter = np.minimum(queries, documents)
    longer = np.where(shorter > room, shorter, np.maximum(shorter, room - shorter))
    halved = shorter + longer > room
    shorter = np.where(halved, room // 2, shorter)
    longer = np.where(halved, room // 2 + room % 2, longer)
    swapped = queries > documents
    most = np.where(swapped, longer, shorter), np.where(swapped, shorter, longer)
    return np.minimum(queries, most[0]), np.minimum(documents, most[1])


@dataclass(frozen=True)
class PairTokens:
    """Token stores of queries and documents, and how a pair is cut and put together in one sequence.

    A query is cut to `max_query` tokens, and further where its document would be left less than `DOCUMENT_SHARE` of
    what is beside the special tokens (or than it has); then the document is cut. `max_query=None` cuts as
    sentence-transformers does: the longer of the two first.

    Raises:
        ValueError: `max_length` cannot hold the special tokens and a token of each text, or `max_query` is below 1.
    """

    queries: Ragged
    documents: Ragged
    pattern: Pattern
    max_length: int  # tokens of a pair, special tokens included
    max_query: int | None = 64  # tokens of a query, without special tokens

    def __post_init__(self):
        check_room("max_length", self.max_length, self.pattern.size, texts=2)
        if self.max_query is not None:
            check_room("max_query", self.max_query, 0)

    def _kept(self, queries: np.ndarray, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of each pair's query and of its document after cutting."""
        room = self.max_length - self.pattern.size
        first, second = self.queries.lengths[queries], self.documents.lengths[documents]
        if self.max_query is None:
            return _longest_first(first, second, room)
        share = np.minimum(second, math.ceil(DOCUMENT_SHARE * room))
        first = np.minimum(first, np.minimum(self.max_query, room - share))
        return first, np.minimum(second, room - first)

    def lengths(self, queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """Tokens of each pair after cutting. Rows of the two stores, same shape; so is the result."""
        return sum(self._kept(queries, documents)) + self.pattern.size

    def batch(self, queries: np.ndarray, documents: np.ndarray) -> dict[str, torch.Tensor]:
        """Rows (batch,) and (batch, docs) of the stores -> the model's input.

        input_ids, attention_mask and (if the model reads them) token_type_ids, each (batch * docs, width), the
        documents of a query after one another.
        """
        pattern = self.pattern
        queries, documents = np.repeat(queries, documents.shape[1]), documents.ravel()
        asked, kept = self._kept(queries, documents)
        total = asked + kept + pattern.size
        ids = np.full((len(queries), _width(total, self.max_length)), pattern.pad, dtype=np.int64)
        second = len(pattern.before) + asked + len(pattern.between)  # where the document starts
        _put_special(ids, np.zeros_like(asked), pattern.before)
        _put(ids, np.full_like(asked, len(pattern.before)), asked, self.queries.flat, self.queries.starts[queries])
        _put_special(ids, len(pattern.before) + asked, pattern.between)
        _put(ids, second, kept, self.documents.flat, self.documents.starts[documents])
        _put_special(ids, second + kept, pattern.after)
        place = np.arange(ids.shape[1])[None, :]
        batch = {"input_ids": ids, "attention_mask": (place < total[:, None]).astype(np.int64)}
        if pattern.has_types:
            batch["token_type_ids"] = ((place >= second[:, None]) & (place < total[:, None])).astype(np.int64)
        return {name: torch.from_numpy(values) for name, values in batch.items()}


@dataclass(frozen=True)
class Side:
    """How the texts of one side, queries or documents, are cut and put together.

    Raises:
        ValueError: `max_length` cannot hold the special tokens and one token of a text.
    """

    texts: Ragged
    before: tuple[int, ...]
    after: tuple[int, ...]
    pad: int
    max_length: int  # tokens, special tokens included

    def __post_init__(self):
        check_room("max_length", self.max_length, len(self.before) + len(self.after))

    @property
    def longest(self) -> int:
        """Tokens of the longest text after cutting, special tokens included."""
        return int(self.lengths(np.arange(len(self.texts.lengths))).max(initial=0))

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """Tokens of each text after cutting, special tokens included; same shape as `rows`."""
        return np.minimum(self.texts.lengths[rows] + len(self.before) + len(self.after), self.max_length)

    def batch(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Rows (texts,) of the store -> input_ids and attention_mask, each (texts, width)."""
        total = self.lengths(rows)
        kept = total - len(self.before) - len(self.after)
        ids = np.full((len(rows), _width(total, self.max_length)), self.pad, dtype=np.int64)
        _put_special(ids, np.zeros_like(total), self.before)
        _put(ids, np.full_like(total, len(self.before)), kept, self.texts.flat, self.texts.starts[rows])
        _put_special(ids, len(self.before) + kept, self.after)
        mask = (np.arange(ids.shape[1])[None, :] < total[:, None]).astype(np.int64)
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


@dataclass(frozen=True)
class SeparateTokens:
    """Queries and documents in sequences of their own, for models that encode them separately."""

    query_side: Side
    document_side: Side

    @property
    def queries(self) -> Ragged:
        """The queries' token store."""
        return self.query_side.texts

    @property
    def documents(self) -> Ragged:
        """The documents' token store."""
        return self.document_side.texts

    def lengths(self, queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """Tokens of query and document together, after cutting. Rows, same shape; so is the result."""
        return self.query_side.lengths(queries) + self.document_side.lengths(documents)

    def batch(self, queries: np.ndarray, documents: np.ndarray) -> dict[str, dict[str, torch.Tensor]]:
        """Rows (batch,) and (batch, docs) -> {"queries": (batch, width), "documents": (batch * docs, width)} tokens."""
        return {"queries": self.query_side.batch(queries), "documents": self.document_side.batch(documents.ravel())}
