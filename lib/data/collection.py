"""Collection: documents, queries, judgements and splits."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from lib.data.beir import CollectionError


@dataclass(frozen=True, eq=False)
class Collection:
    """Texts by id, and judgements by split. Ids keep the order of their files."""

    name: str
    fingerprint: str  # of the files' content and of the grade that counts
    documents: Mapping[str, str]  # id -> title and text; of a file: memory-mapped (`lib.data.texts`)
    queries: Mapping[str, str]  # id -> text
    judgements: dict[str, pd.DataFrame]  # split -> columns query, document, grade
    relevant_grade: int  # the lowest grade that counts as relevant: 1, or 2 in TREC Deep Learning
    documents_digest: str  # of the documents alone: what their tokens and their BM25 index depend on
    queries_digest: str
    uncorrupted: Mapping[str, str] | None = None  # the queries as they were, where a view has corrupted them

    def split(self, name: str, limit: int | None = None, skip: int = 0) -> list[str]:
        """Judged query ids of a split in file order, the first `limit`, less `skip`; raises CollectionError."""
        if name not in self.judgements:
            raise CollectionError(f"{self.name}: no split {name!r}; it has {', '.join(sorted(self.judgements))}")
        found = list(self.judgements[name]["query"].unique()[skip:limit])
        if skip and not found:
            raise CollectionError(f"{self.name}: skip={skip} leaves no query of {name!r}: skip less")
        return found

    def themselves(self, queries: Iterable[str]) -> set[str]:
        """Those query ids that are also ids of documents which end with the query's text, as ArguAna's are.

        A query's own document is no candidate of it: BEIR's evaluation leaves it out, too
        (https://github.com/beir-cellar/beir, ignore_identical_ids).
        """
        both, texts = set(queries) & self.documents.keys(), self.uncorrupted or self.queries
        return {query for query in both if self.documents[query].endswith(texts[query])}

    def relevant(self, split: str) -> Mapping[str, Mapping[str, int]]:
        """Query id -> {document id: grade} for the relevant documents that the collection has; found once a split."""
        self.split(split)  # raises if there is none
        if split not in self._relevant:
            self._relevant[split] = self._find_relevant(split)
        return self._relevant[split]

    @cached_property
    def _relevant(self) -> dict[str, dict[str, dict[str, int]]]:
        return {}

    def _find_relevant(self, split: str) -> dict[str, dict[str, int]]:
        relevant: dict[str, dict[str, int]] = {}
        rows = self.judgements[split]
        rows = rows[rows["grade"] >= self.relevant_grade]
        known = set(rows["document"]) & self.documents.keys()
        for query, document, grade in zip(rows["query"], rows["document"], rows["grade"], strict=True):
            if document in known:
                relevant.setdefault(query, {})[document] = grade
        return relevant
