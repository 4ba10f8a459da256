"""Token store: every text tokenised once, memory-mapped; batches assembled from cached ids.

Texts are kept without special tokens. Batches are put together as the tokenizer itself would, for a whole batch at once
and without a loop over texts: a cross-encoder reads `PairTokens` ([CLS] query [SEP] document [SEP] for BERT), the other
architectures read `SeparateTokens` ([CLS] query [SEP] and [CLS] document [SEP]).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
import torch

from lib import store

PAD_TO = 16  # widths are multiples of this: few shapes, which the processor's caches and compilers like


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
        """The pattern of a tokenizer, found by tokenising two words alone and as a pair."""
        first, second = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("one", "two"))
        both = tokenizer("one", "two")["input_ids"]
        start = next(i for i in range(len(both)) if both[i : i + len(first)] == first)
        middle = start + len(first)
        other = next(i for i in range(middle, len(both)) if both[i : i + len(second)] == second)
        return cls(
            before=tuple(both[:start]), between=tuple(both[middle:other]), after=tuple(both[other + len(second) :]),
            pad=tokenizer.pad_token_id or 0, has_types="token_type_ids" in tokenizer.model_input_names,
        )  # fmt: skip

    @classmethod
    def of_single(cls, tokenizer) -> "Pattern":
        """The pattern around a text that stands alone: nothing in between, no types."""
        word = tokenizer("one", add_special_tokens=False)["input_ids"]
        alone = tokenizer("one")["input_ids"]
        start = next(i for i in range(len(alone)) if alone[i : i + len(word)] == word)
        return cls(tuple(alone[:start]), (), tuple(alone[start + len(word) :]), tokenizer.pad_token_id or 0, False)


class TokenStore:
    """Token ids of many texts: one flat array on disk and where each text starts in it."""

    def __init__(self, folder: Path):
        self.flat = np.load(folder / "flat.npy", mmap_mode="r")
        self.starts = np.load(folder / "starts.npy")
        names = json.loads((folder / "names.json").read_text())
        self.row = {name: row for row, name in enumerate(names)}
        self.lengths = np.diff(self.starts)

    def rows(self, names: Sequence[str]) -> np.ndarray:
        """Where the texts of these ids stand in the store, (names,)."""
        return np.fromiter((self.row[name] for name in names), dtype=np.int64, count=len(names))


def tokenise(texts: dict[str, str], tokenizer, identity: str) -> TokenStore:
    """The token store of `texts` (id -> text), from the cache where the texts and the tokenizer are the same.

    `identity` names the texts' content, such as a collection's `documents_digest`. How the tokenizer is set to cut and
    to pad at the moment decides nothing here.
    """
    cut = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())  # the caller's stays as it is set
    cut.no_truncation()
    cut.no_padding()
    name = store.key("tokens", identity, hashlib.sha256(cut.to_str().encode()).hexdigest())
    return TokenStore(store.keep("tokens", name, lambda folder: _write(texts, cut, folder)))


def _write(texts: dict[str, str], cut: tokenizers.Tokenizer, folder: Path) -> None:
    values, pieces, lengths = list(texts.values()), [], []
    kind = np.uint16 if cut.get_vocab_size() <= 2**16 else np.int32
    for start in range(0, len(values), 4096):
        for encoding in cut.encode_batch_fast(values[start : start + 4096], add_special_tokens=False):
            pieces.append(np.array(encoding.ids, dtype=kind))
            lengths.append(len(encoding.ids))
    np.save(folder / "flat.npy", np.concatenate([*pieces, np.zeros(1, kind)]))  # never empty: it can be mapped
    np.save(folder / "starts.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    (folder / "names.json").write_text(json.dumps(list(texts)))


def _put(ids: np.ndarray, start: np.ndarray, count: np.ndarray, source: np.ndarray, first: np.ndarray) -> None:
    """Write `count` tokens of `source`, from `first` on, into each row of ids (rows, width) at `start`; (rows,) all."""
    offset = np.arange(ids.shape[1])[None, :] - start[:, None]  # (rows, width): which token of the part stands here
    here = (offset >= 0) & (offset < count[:, None])
    ids[here] = source[(first[:, None] + offset)[here]]


def _put_special(ids: np.ndarray, start: np.ndarray, tokens: tuple[int, ...]) -> None:
    for offset, token in enumerate(tokens):
        ids[np.arange(len(ids)), start + offset] = token


def _width(longest: int) -> int:
    return -(-int(longest) // PAD_TO) * PAD_TO


@dataclass(frozen=True)
class PairTokens:
    """Token stores of queries and documents, and how a pair is cut and put together in one sequence."""

    queries: TokenStore
    documents: TokenStore
    pattern: Pattern
    max_length: int  # tokens of a pair, special tokens included; the document is cut
    max_query: int = 64  # tokens of a query

    def lengths(self, queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """Tokens of each pair after cutting. Rows of the two stores, same shape; so is the result."""
        asked = np.minimum(self.queries.lengths[queries], self.max_query)
        whole = asked + self.documents.lengths[documents] + self.pattern.size
        return np.minimum(whole, self.max_length)

    def batch(self, queries: np.ndarray, documents: np.ndarray) -> dict[str, torch.Tensor]:
        """Rows (batch,) and (batch, docs) of the stores -> the model's input.

        input_ids, attention_mask and (if the model reads them) token_type_ids, each (batch * docs, width), the
        documents of a query after one another.
        """
        pattern = self.pattern
        queries, documents = np.repeat(queries, documents.shape[1]), documents.ravel()
        asked = np.minimum(self.queries.lengths[queries], self.max_query)
        total = self.lengths(queries, documents)
        kept = total - asked - pattern.size  # tokens of each document
        ids = np.full((len(queries), _width(total.max())), pattern.pad, dtype=np.int64)
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
    """How the texts of one side, queries or documents, are cut and put together."""

    texts: TokenStore
    before: tuple[int, ...]
    after: tuple[int, ...]
    pad: int
    max_length: int  # tokens, special tokens included

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """Tokens of each text after cutting, special tokens included; same shape as `rows`."""
        return np.minimum(self.texts.lengths[rows] + len(self.before) + len(self.after), self.max_length)

    def batch(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Rows (texts,) of the store -> input_ids and attention_mask, each (texts, width)."""
        total = self.lengths(rows)
        kept = total - len(self.before) - len(self.after)
        ids = np.full((len(rows), _width(total.max())), self.pad, dtype=np.int64)
        _put_special(ids, np.zeros_like(total), self.before)
        _put(ids, np.full_like(total, len(self.before)), kept, self.texts.flat, self.texts.starts[rows])
        _put_special(ids, len(self.before) + kept, self.after)
        mask = (np.arange(ids.shape[1])[None, :] < total[:, None]).astype(np.int64)
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


@dataclass(frozen=True)
class SeparateTokens:
    """Queries and documents in sequences of their own, for models that encode them apart."""

    query_side: Side
    document_side: Side

    @property
    def queries(self) -> TokenStore:
        """The queries' token store."""
        return self.query_side.texts

    @property
    def documents(self) -> TokenStore:
        """The documents' token store."""
        return self.document_side.texts

    def lengths(self, queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """Tokens of query and document together, after cutting. Rows, same shape; so is the result."""
        return self.query_side.lengths(queries) + self.document_side.lengths(documents)

    def batch(self, queries: np.ndarray, documents: np.ndarray) -> dict[str, dict[str, torch.Tensor]]:
        """Rows (batch,) and (batch, docs) -> {"queries": (batch, width), "documents": (batch * docs, width)} tokens."""
        return {"queries": self.query_side.batch(queries), "documents": self.document_side.batch(documents.ravel())}
