"""First stage: BM25 over a collection (bm25s), its index and its results cached by content."""

import importlib.metadata
import json
from functools import lru_cache
from pathlib import Path

import bm25s
import numpy as np
import pandas as pd
import Stemmer

from lib.data.collections import Collection, CollectionError
from lib.machine import store

K1, B = 0.9, 0.4  # the values that MS MARCO baselines use (Anserini's defaults)
METHOD, STOP_WORDS, STEMMER = "lucene", "en", "english"


def identity() -> dict[str, object]:
    """What decides BM25's results beside the texts: parameters, stop words, stemmer, and the libraries' versions."""
    return {
        "bm25s": bm25s.__version__, "method": METHOD, "k1": K1, "b": B, "stop_words": STOP_WORDS,
        "stemmer": STEMMER, "PyStemmer": importlib.metadata.version("PyStemmer"),
    }  # fmt: skip


def bm25(collection: Collection, queries: list[str], depth: int) -> pd.DataFrame:
    """Columns query, document, rank (from 1), score: the `depth` best documents of each query id.

    Fewer rows where fewer documents share a word with the query. Equal scores are ordered by document id.

    Raises:
        CollectionError: the documents hold no word but stop words.
    """
    name = store.key("bm25", collection.documents_digest, collection.queries_digest, queries, depth, identity())
    folder = store.keep("first_stage", name, lambda into: _search(collection, queries, depth, into))
    return pd.read_parquet(folder / "run.parquet")


def _search(collection: Collection, queries: list[str], depth: int, folder: Path) -> None:
    index = _index(collection)
    documents, known = np.array(list(collection.documents)), index.vocab_dict
    rows = []
    for query, words in zip(queries, _words([collection.queries[query] for query in queries]), strict=True):
        words = [word for word in words if word in known]
        if not words:
            continue
        scores = index.get_scores(words)
        found = np.flatnonzero(scores > 0)
        best = found[np.lexsort((documents[found], -scores[found]))[:depth]]
        rows.append(pd.DataFrame({
            "query": query, "document": documents[best], "rank": np.arange(1, len(best) + 1), "score": scores[best],
        }))  # fmt: skip
    empty = pd.DataFrame({"query": [], "document": [], "rank": [], "score": []})
    pd.concat(rows or [empty], ignore_index=True).to_parquet(folder / "run.parquet")
    (folder / "settings.json").write_text(json.dumps(identity() | {"depth": depth}))


def _index(collection: Collection) -> bm25s.BM25:
    """The index of a collection's documents, built once: collections of the same documents share it."""

    def build(folder: Path) -> None:
        words = _words(list(collection.documents.values()))
        if not any(words):
            raise CollectionError(
                f"{collection.name}: its documents hold no word but stop words, so BM25 finds nothing"
            )
        index = bm25s.BM25(method=METHOD, k1=K1, b=B)
        index.index(words, show_progress=False)
        index.save(folder, show_progress=False)

    return _opened(store.keep("bm25", store.key(collection.documents_digest, identity()), build))


@lru_cache(maxsize=8)
def _opened(folder: Path) -> bm25s.BM25:
    return bm25s.BM25.load(folder, mmap=True, show_progress=False)


def _words(texts: list[str]) -> list[list[str]]:
    stemmer = Stemmer.Stemmer(STEMMER)
    return bm25s.tokenize(texts, stopwords=STOP_WORDS, stemmer=stemmer, show_progress=False, return_ids=False)
