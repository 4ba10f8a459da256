"""Token store: every text tokenised once, memory-mapped; batches assembled from cached ids.

A batch is what the tokenizer itself would make: for a cross-encoder `PairTokens`, [CLS] query [SEP] document [SEP] in
BERT, and for the other architectures `SeparateTokens`, [CLS] query [SEP] and [CLS] document [SEP].
"""

import hashlib
import itertools
import math
import re
from collections.abc import Mapping
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
    leads: tuple[str, str] = ("", "")  # put before a query and before a document to tokenise it

    @property
    def size(self) -> int:
        """How many special tokens there are."""
        return len(self.before) + len(self.between) + len(self.after)

    @classmethod
    def of(cls, tokenizer) -> "Pattern":
        """The pattern of a pair; raises ValueError if the tokenizer builds one in a way that this kit does not."""
        before, between, after = _around(tokenizer, "one", "two")
        if not between:
            raise ValueError(f"{_name(tokenizer)} puts no token between a query and a document: give one with a [SEP]")
        types = tokenizer("one", "two").get("token_type_ids") or []
        has_types = any(types)  # where all are 0, the model's own default does
        second = len(tokenizer("two", add_special_tokens=False)["input_ids"]) + len(after)
        if has_types and types != [0] * (len(types) - second) + [1] * second:
            raise ValueError(f"{_name(tokenizer)} gives a pair the token types {types}: give one like BERT's")
        return cls(before, between, after, tokenizer.pad_token_id or 0, has_types)

    @classmethod
    def of_template(cls, tokenizer, template: str) -> "Pattern":
        """The tokens of a template's text before, between and after {query} and {document}, in this order.

        The tokenizer's own special tokens are around it, and those that the text names, such as "<|im_end|>", are in
        it. Raises ValueError unless the template has both fields once, and as `pieces`.
        """
        if re.findall(r"\{.*?\}", template) != ["{query}", "{document}"]:
            raise ValueError(f"template={template!r}: give a text with {{query}} and then {{document}}, each once")
        (before, between, after), leads = pieces(tokenizer, re.split(r"\{(?:query|document)\}", template))
        return cls(before, between, after, tokenizer.pad_token_id or 0, False, leads)

    @classmethod
    def of_single(cls, tokenizer, *, end: bool = False) -> "Pattern":
        """The same around a text by itself: nothing in between, no types.

        A text without special tokens, and with `end` one whose last token is none, gets the end-of-text token.
        """
        before, after = _around(tokenizer, "one")
        after = after or (_end(tokenizer) if end or not before else ())
        return cls(before, (), after, tokenizer.pad_token_id or 0, False)


def pieces(tokenizer, texts: list[str], *, special: bool = True) -> tuple[list[tuple[int, ...]], tuple[str, ...]]:
    """Tokens of two or three texts with a field between each and the next, and the lead of each field, "" or " ".

    The tokens are those of the whole: byte-level tokenizers give a word after a space another token than a word by
    itself, so a space before a field is then not the text's but the field's, which is tokenised after this lead. Only
    where a field ends in punctuation may a tokenizer join it with a line break after it, which is not done here.
    `special`: with the tokenizer's own special tokens. Raises ValueError if a field's tokens depend on its neighbours.
    """
    words, parts, leads, done, said = ("one", "two")[: len(texts) - 1], [], [], 0, ""
    ids = lambda text: tuple(tokenizer(text, add_special_tokens=False)["input_ids"])  # noqa: E731
    whole = texts[0] + "".join(word + text for word, text in zip(words, texts[1:], strict=True))
    found = tuple(tokenizer(whole, add_special_tokens=special)["input_ids"])
    first = len(_around(tokenizer, "one")[0]) if special else 0
    for text, word in zip(texts, words, strict=False):
        said += text
        start = first + len(ids(said.removesuffix(" ")))
        lead = next((lead for lead in ("", " ") if ids(lead + word) == found[start:][: len(ids(lead + word))]), None)
        if lead is None:
            fix = "put a space before and after each field"
            raise ValueError(f"{_name(tokenizer)} gives a field other tokens within {whole!r} than by itself: {fix}")
        leads.append(lead)
        parts.append(found[done:start])
        done, said = start + len(ids(lead + word)), said + word
    return [*parts, found[done:]], tuple(leads)


def _end(tokenizer) -> tuple[int]:
    """A decoder's tokenizer adds no token of its own, or none at the end: what ends a text in its pre-training."""
    if getattr(tokenizer, "eos_token_id", None) is None:
        raise ValueError(f"{_name(tokenizer)} adds no special token and has no eos_token: an empty text would be none")
    return (tokenizer.eos_token_id,)


def _name(tokenizer) -> str:
    return f"tokenizer {type(tokenizer).__name__} {getattr(tokenizer, 'name_or_path', '')!r}"


def _around(tokenizer, *words: str) -> list[tuple[int, ...]]:
    """The special tokens before, between and after some words: one part more than words."""
    if getattr(tokenizer, "truncation_side", "right") != "right":  # padding is always put right here, and masked
        raise ValueError(
            f'{_name(tokenizer)} has truncation_side="left": set it to "right" in its tokenizer_config.json'
        )
    whole, parts, end = list(tokenizer(*words)["input_ids"]), [], 0
    for word in words:
        alone = list(tokenizer(word, add_special_tokens=False)["input_ids"])
        places = [place for place in range(end, len(whole)) if whole[place : place + len(alone)] == alone]
        if not alone or not places:
            raise ValueError(
                f"{_name(tokenizer)} makes {alone} of the word {word!r}, and of {words} with special tokens {whole}:"
                " give one that keeps a text's own tokens together between special tokens"
            )
        parts.append(tuple(whole[end : places[0]]))
        end = places[0] + len(alone)
    return [*parts, tuple(whole[end:])]


def check_room(name: str, length: int, special: int, texts: int = 1) -> None:
    """Raises ValueError if the length called `name` cannot hold the special tokens and one token of each text."""
    least = special + texts
    if length < least:
        raise ValueError(
            f"{name}={length} cannot hold {special} special tokens and one token of each text: give {least} or more"
        )


def tokenise(texts: Mapping[str, str], tokenizer, identity: str, lead: str = "") -> Ragged:
    """The token store of `texts` (id -> text), made once for a tokenizer and an `identity`, a digest of the texts.

    The `lead` is put before every text: see `pieces`.
    """
    cut, whose = _uncut(tokenizer.backend_tokenizer.to_str())
    name = store.key("tokens", identity, whose, *([lead] if lead else []))
    return Ragged(store.keep("tokens", name, lambda folder: _write(texts, cut, lead, folder)), FILE)


@lru_cache(maxsize=8)
def _uncut(written: str) -> tuple[tokenizers.Tokenizer, str]:
    """From a tokenizer's description: one that neither cuts nor pads, whatever it was set to do, and its hash."""
    cut = tokenizers.Tokenizer.from_str(written)
    cut.no_truncation()
    cut.no_padding()
    return cut, hashlib.sha256(cut.to_str().encode()).hexdigest()


def _write(texts: Mapping[str, str], cut: tokenizers.Tokenizer, lead: str, folder: Path) -> None:
    values, dtype = (lead + text for text in texts.values()), np.uint16 if cut.get_vocab_size() <= 2**16 else np.int32
    batches = iter(lambda: list(itertools.islice(values, 4096)), [])
    encoded = (cut.encode_batch_fast(batch, add_special_tokens=False) for batch in batches)
    chunks = ([np.array(text.ids, dtype=dtype) for text in batch] for batch in encoded)
    ragged.write(folder / FILE, list(texts), chunks, dtype)


def _join(special: list[tuple[int, ...]], texts: list[tuple], pad: int, limit: int) -> dict[str, torch.Tensor]:
    """input_ids and attention_mask (rows, width): texts, with special tokens before, between and after them.

    `texts` are (store, row of each text, tokens to keep of it). The width is a multiple of `PAD_TO`, at most `limit`.
    """
    total = sum(count for *_, count in texts) + sum(len(tokens) for tokens in special)
    width = min(-(-max(total.max(), 1) // PAD_TO) * PAD_TO, limit)
    ids, place, start = np.full((len(total), width), pad, dtype=np.int64), np.arange(width), np.zeros_like(total)
    for tokens, text in itertools.zip_longest(special, texts):
        for token in tokens:
            ids[np.arange(len(ids)), start] = token
            start = start + 1
        if text is not None:
            source, rows, count = text
            offset = place - start[:, None]  # (rows, width): which token of the text is here
            here = (offset >= 0) & (offset < count[:, None])
            ids[here] = source.flat[(source.starts[rows][:, None] + offset)[here]]
            start = start + count
    mask = (place < total[:, None]).astype(np.int64)
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


@dataclass(frozen=True)
class PairTokens:
    """How a pair is cut and put together in one sequence.

    A query is cut to `max_query` tokens, and further where its document would be left less than `DOCUMENT_SHARE` of
    what is beside the special tokens (or than it has); then the document is cut. `max_query=None` cuts as
    sentence-transformers does: the longer of the two first.
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
        if self.max_query is None:  # `longest_first` of the tokenizers library (tokenizers/src/utils/truncation.rs)
            shorter = np.minimum(np.minimum(first, second), room // 2)
            most = np.where(first > second, room - shorter, shorter)
        else:
            most = np.minimum(self.max_query, room - np.minimum(second, math.ceil(DOCUMENT_SHARE * room)))
        first = np.minimum(first, most)
        return first, np.minimum(second, room - first)

    def lengths(self, queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """Tokens of each pair after cutting, special tokens included; rows of the stores broadcast."""
        return sum(self._kept(queries, documents)) + self.pattern.size

    def batch(self, queries: np.ndarray, documents: np.ndarray) -> dict[str, torch.Tensor]:
        """Rows (batch,) and (batch, docs) of the stores -> the model's input, each (batch * docs, width)."""
        pattern = self.pattern
        queries, documents = np.repeat(queries, documents.shape[1]), documents.ravel()
        asked, kept = self._kept(queries, documents)
        special = [pattern.before, pattern.between, pattern.after]
        texts = [(self.queries, queries, asked), (self.documents, documents, kept)]
        batch = _join(special, texts, pattern.pad, self.max_length)
        if pattern.has_types:
            second = torch.from_numpy(len(pattern.before) + asked + len(pattern.between))  # where the document starts
            mask = batch["attention_mask"]
            batch["token_type_ids"] = mask * (torch.arange(mask.shape[1]) >= second[:, None])
        return batch


@dataclass(frozen=True)
class Side:
    """How the texts of one side, queries or documents, are cut and put between special tokens."""

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
        return int(self.lengths(np.arange(len(self.texts))).max(initial=0))

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """Tokens of each text after cutting, special tokens included; same shape as `rows`."""
        return np.minimum(self.texts.lengths[rows] + len(self.before) + len(self.after), self.max_length)

    def batch(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Rows (texts,) of the store -> input_ids and attention_mask, each (texts, width)."""
        kept = self.lengths(rows) - len(self.before) - len(self.after)
        return _join([self.before, self.after], [(self.texts, rows, kept)], self.pad, self.max_length)


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
        """Tokens of query and document together, after cutting; rows of the stores broadcast."""
        return self.query_side.lengths(queries) + self.document_side.lengths(documents)

    def batch(self, queries: np.ndarray, documents: np.ndarray) -> dict[str, dict[str, torch.Tensor]]:
        """Rows (batch,) and (batch, docs) -> {"queries": (batch, width), "documents": (batch * docs, width)} tokens."""
        return {"queries": self.query_side.batch(queries), "documents": self.document_side.batch(documents.ravel())}
