"""First stage: BM25 over a collection (bm25s), cached by content."""

import json
from pathlib import Path

import bm25s
import numpy as np
import pandas as pd
import Stemmer

from lib import store
from lib.collections import Collection

K1, B = 0.9, 0.4  # the values that MS MARCO baselines use (Anserini's defaults)


def bm25(collection: Collection, queries: list[str], depth: int) -> pd.DataFrame:
    """Columns query, document, rank (from 1), score: the `depth` best documents of each query id.

    Fewer rows where fewer documents share a word with the query. Equal scores are ordered by document id.
    """
    name = store.key("bm25", collection.fingerprint, queries, depth, K1, B, bm25s.__version__)
    folder = store.keep("first_stage", name, lambda into: _search(collection, queries, depth, into))
    return pd.read_parquet(folder / "run.parquet")


def _search(collection: Collection, queries: list[str], depth: int, folder: Path) -> None:
    stemmer = Stemmer.Stemmer("english")

    def tokens(texts: list[str]) -> list[list[str]]:
        return bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False, return_ids=False)

    documents = np.array(list(collection.documents))
    index = bm25s.BM25(method="lucene", k1=K1, b=B)
    index.index(tokens(list(collection.documents.values())), show_progress=False)
    known = index.vocab_dict
    rows = []
    for query, words in zip(queries, tokens([collection.queries[query] for query in queries]), strict=True):
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
    (folder / "settings.json").write_text(json.dumps({"k1": K1, "b": B, "bm25s": bm25s.__version__, "depth": depth}))
