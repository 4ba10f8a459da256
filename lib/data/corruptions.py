"""Corrupted queries: what a careless or hurried user types, drawn from the query itself, always the same for one text.

After the query variations of Penha et al. 2022 (https://arxiv.org/abs/2111.13057): misspellings, removal of words and
another order of the keywords. Documents and judgements stay as they are: `typos:pydocs` is a collection by name.
"""

import hashlib
from collections.abc import Callable

import bm25s.stopwords
import numpy as np

SHARE = 0.3  # of the words that can be corrupted; one of them at least
LETTERS = "abcdefghijklmnopqrstuvwxyz"
STOP = frozenset(bm25s.stopwords.STOPWORDS_EN)


def typos(words: list[str], draw: np.random.Generator) -> list[str]:
    """In some words of four or more letters one letter is missing, doubled, another, or changes places with the next.

    The first letter stays.
    """
    places = [place for place, word in enumerate(words) if len(word) >= 4]
    for place in _some(places, draw):
        word, at = words[place], int(draw.integers(1, len(words[place]) - 1))
        kinds = (
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
            word[:at] + LETTERS[draw.integers(26)] + word[at + 1 :],
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        )
        words = [*words[:place], kinds[draw.integers(4)], *words[place + 1 :]]
    return words


def fewer(words: list[str], draw: np.random.Generator) -> list[str]:
    """Some words are missing; at least one stays."""
    gone = set(_some(list(range(len(words))), draw)) if len(words) > 1 else set()
    return [word for place, word in enumerate(words) if place not in gone]


def keywords(words: list[str], draw: np.random.Generator) -> list[str]:
    """No stop words, and the others in any order; a query of stop words alone keeps them."""
    kept = [word for word in words if word.lower() not in STOP] or words
    return [kept[place] for place in draw.permutation(len(kept))]


def mixed(words: list[str], draw: np.random.Generator) -> list[str]:
    """One of the others, or the words as they are: each for a quarter of the queries."""
    return (typos, fewer, keywords, lambda words, _: words)[draw.integers(4)](words, draw)


KINDS: dict[str, Callable[[list[str], np.random.Generator], list[str]]] = {
    "typos": typos, "fewer": fewer, "keywords": keywords, "mixed": mixed,
}  # fmt: skip


def corrupt(kind: str, text: str) -> str:
    """A text, corrupted in one of `KINDS`."""
    seed = hashlib.sha256(f"{kind} {text}".encode()).digest()
    return " ".join(KINDS[kind](text.split(), np.random.default_rng(list(seed))))


def _some(places: list[int], draw: np.random.Generator) -> list[int]:
    """`SHARE` of the places, at least one if there is one, in their order."""
    count = min(len(places), max(1, round(SHARE * len(places))))
    return sorted(draw.choice(places, count, replace=False).tolist()) if places else []
