"""Token store: every text tokenised once, memory-mapped; batches assembled from cached ids.

Texts are kept without special tokens. A pair is put together as the tokenizer itself would ([CLS] query [SEP]
document [SEP] for BERT), for a whole batch at once and without a loop over pairs.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
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

    `identity` names the texts' content (a collection's fingerprint and which of its texts these are).
    """
    vocabulary = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    name = store.key("tokens", identity, vocabulary)
    return TokenStore(store.keep("tokens", name, lambda folder: _write(texts, tokenizer, folder)))


def _write(texts: dict[str, str], tokenizer, folder: Path) -> None:
    cut = tokenizer.backend_tokenizer
    cut.no_truncation()
    cut.no_padding()
    values, pieces, lengths = list(texts.values()), [], []
    kind = np.uint16 if len(tokenizer) <= 2**16 else np.int32
    for start in range(0, len(values), 4096):
        for encoding in cut.encode_batch_fast(values[start : start + 4096], add_special_tokens=False):
            pieces.append(np.array(encoding.ids, dtype=kind))
            lengths.append(len(encoding.ids))
    np.save(folder / "flat.npy", np.concatenate([*pieces, np.zeros(1, kind)]))  # never empty: it can be mapped
    np.save(folder / "starts.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    (folder / "names.json").write_text(json.dumps(list(texts)))


@dataclass(frozen=True)
class PairTokens:
    """Token stores of queries and documents, and how a pair is cut and put together."""

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
        """input_ids, attention_mask and (if the model reads them) token_type_ids, each (pairs, width)."""
        pattern = self.pattern
        asked = np.minimum(self.queries.lengths[queries], self.max_query)
        total = self.lengths(queries, documents)
        kept = total - asked - pattern.size  # tokens of each document
        width = -(-int(total.max()) // PAD_TO) * PAD_TO
        place = np.arange(width)[None, :]  # (1, width)
        ids = np.full((len(queries), width), pattern.pad, dtype=np.int64)

        def put(start: np.ndarray, count: np.ndarray, source: np.ndarray, first: np.ndarray) -> None:
            offset = place - start[:, None]  # (pairs, width): which token of the part stands here
            here = (offset >= 0) & (offset < count[:, None])
            ids[here] = source[(first[:, None] + offset)[here]]

        def put_special(start: np.ndarray, tokens: tuple[int, ...]) -> None:
            for offset, token in enumerate(tokens):
                ids[np.arange(len(ids)), start + offset] = token

        second = len(pattern.before) + asked + len(pattern.between)  # where the document starts
        put_special(np.zeros_like(asked), pattern.before)
        put(np.full_like(asked, len(pattern.before)), asked, self.queries.flat, self.queries.starts[queries])
        put_special(len(pattern.before) + asked, pattern.between)
        put(second, kept, self.documents.flat, self.documents.starts[documents])
        put_special(second + kept, pattern.after)
        batch = {"input_ids": ids, "attention_mask": (place < total[:, None]).astype(np.int64)}
        if pattern.has_types:
            batch["token_type_ids"] = ((place >= second[:, None]) & (place < total[:, None])).astype(np.int64)
        return {name: torch.from_numpy(values) for name, values in batch.items()}
