"""First stage: BM25 over a collection (bm25s), its index and its results cached by content."""

import importlib.metadata
from array import array
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import bm25s
import numpy as np
import pandas as pd
import pyarrow as pa
import Stemmer
from bm25s.tokenization import Tokenized

from lib.data.beir import CollectionError
from lib.data.collection import Collection
from lib.machine import store

K1, B = 0.9, 0.4  # the values that MS MARCO baselines use (Anserini's defaults)
METHOD, STOP_WORDS, STEMMER = "lucene", "en", "english"
VERSION = importlib.metadata.version("PyStemmer")


def identity() -> dict[str, object]:
    """What decides BM25's results beside the texts."""
    return {
        "bm25s": bm25s.__version__, "method": METHOD, "k1": K1, "b": B, "stop_words": STOP_WORDS,
        "stemmer": STEMMER, "PyStemmer": VERSION,
    }  # fmt: skip


def bm25(collection: Collection, queries: list[str], depth: int) -> pd.DataFrame:
    """Columns query, document, rank (from 1), score: the `depth` best documents of each query id.

    Documents that share no word with the query are left out, and so is a query's own (`Collection.themselves`). Equal
    scores are ordered by document id. Raises CollectionError if the documents hold no word but stop words.
    """
    own = collection.themselves(queries)
    found = depth + bool(own)
    name = store.key("bm25", collection.documents_digest, collection.queries_digest, queries, found, identity())
    folder = store.keep("first_stage", name, lambda into: _search(collection, queries, found, into))
    return without_own(pd.read_parquet(folder / "run.parquet"), own, depth)


def without_own(ranking: pd.DataFrame, own: set[str], depth: int | None) -> pd.DataFrame:
    """A ranking without the documents that are the queries `own` themselves, cut at `depth` again; None: not cut."""
    if not own:
        return ranking
    ranking = ranking[~(ranking["query"].isin(own) & (ranking["query"] == ranking["document"]))]
    ranking = ranking.assign(rank=ranking.groupby("query").cumcount() + 1)
    return ranking[ranking["rank"] <= (depth or len(ranking))].reset_index(drop=True)


def _search(collection: Collection, queries: list[str], depth: int, folder: Path) -> None:
    name = store.key(collection.documents_digest, identity())  # shared by collections of the same documents
    place = store.keep("bm25", name, lambda into: _index(collection, into))
    index = bm25s.BM25.load(place, mmap=True, show_progress=False)
    documents, parts = pa.array(iter(collection.documents), pa.large_string()), []
    for query, words in zip(queries, _words([collection.queries[query] for query in queries]), strict=True):
        scores = index.get_scores_from_ids(index.get_tokens_ids(words))  # `retrieve` leaves the order of ties open
        matching = np.flatnonzero(scores > 0)
        if len(matching) > depth:  # sorting the ids of millions would take seconds
            matching = matching[scores[matching] >= np.partition(scores[matching], -depth)[-depth]]
        names = np.array(documents.take(pa.array(matching)).to_pylist(), dtype=str)
        order = np.lexsort((names, -scores[matching]))[:depth]
        best = matching[order]
        part = {"query": query, "document": names[order], "rank": np.arange(1, len(best) + 1), "score": scores[best]}
        parts.append(pd.DataFrame(part))
    pd.concat(parts, ignore_index=True).to_parquet(folder / "run.parquet")


def _index(collection: Collection, folder: Path) -> None:
    words = bm25s.tokenization.Tokenizer(stopwords=STOP_WORDS, stemmer=Stemmer.Stemmer(STEMMER))
    ids = _Rows(words.streaming_tokenize(collection.documents.values(), allow_empty=False))
    if not words.stem_to_sid:
        raise CollectionError(f"{collection.name}: its documents hold no word but stop words, so BM25 finds nothing")
    index = bm25s.BM25(method=METHOD, k1=K1, b=B)
    index.index(Tokenized(ids, words.stem_to_sid), show_progress=False)
    index.save(folder, show_progress=False)


class _Rows:
    """Word ids of documents, as lists one after the other; kept in four bytes each, a third of what all lists take."""

    def __init__(self, rows: Iterable[list[int]]):
        self.flat, self.ends = array("i"), array("q", [0])
        for row in rows:
            self.flat.extend(row)
            self.ends.append(len(self.flat))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __iter__(self) -> Iterator[list[int]]:
        return (self.flat[start:end].tolist() for start, end in pairwise(self.ends))


def _words(texts: list[str]) -> list[list[str]]:
    stemmer = Stemmer.Stemmer(STEMMER)
    return bm25s.tokenize(texts, stopwords=STOP_WORDS, stemmer=stemmer, show_progress=False, return_ids=False)
