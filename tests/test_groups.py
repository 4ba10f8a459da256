"""Training groups: what may be a positive, what is never a negative, and what is refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib.data import collections, groups
from lib.data.collections import CollectionWarning


def judged(collection, *rows):
    """The collection with other training judgements: (query, document, grade)."""
    frame = pd.DataFrame(rows, columns=["query", "document", "grade"])
    return replace(collection, judgements=collection.judgements | {"train": frame}, fingerprint="other")


def everything(collection, queries, depth):
    """A search that finds every document for every query, in the corpus's order, and one that the corpus lacks."""
    rows = [(query, document) for query in queries for document in ["gone", *collection.documents][:depth]]
    return pd.DataFrame(rows, columns=["query", "document"])


def test_documents_with_any_grade_above_zero_are_never_negatives(found):
    related = [f"d{number}" for number in range(20)]
    collection = judged(found, *(("q0", one, 1 + number % 3) for number, one in enumerate(related)), ("q0", "d20", 0))
    built = groups.build(collection, count=20, docs=20, find=everything)
    for documents in built.documents:
        assert documents[0] in related and not set(documents[1:]) & set(related)
    assert {"d20"} <= set(built.documents[:, 1:].ravel())  # judged as not relevant: a good negative
    assert built.related == {"q0": set(related)}


def test_copies_of_a_relevant_document_and_the_query_itself_are_never_negatives(found):
    documents = {**found.documents, **{f"copy{number}": found.documents["d0"] for number in range(10)}}
    documents["q1"] = f"Title: {found.queries['q1']}"  # as in ArguAna
    collection = replace(judged(found, ("q0", "d0", 1), ("q1", "d1", 1), ("q1", "copy0", 1)), documents=documents)
    built = groups.build(collection, count=3, docs=30, find=everything)
    relevant = {documents["d0"], documents["d1"], documents["q1"]}
    assert {documents[one] for one in built.documents[0, 1:]}.isdisjoint({documents["d0"]})
    for row in built.documents[1:]:
        assert {documents[one] for one in row[1:]}.isdisjoint(relevant)
    by_chance = groups.build(collection, count=1, docs=30, find=groups.no_candidates)
    assert documents["d0"] not in {documents[one] for one in by_chance.documents[0, 1:]}


def test_judged_documents_that_the_corpus_lacks_are_neither_positives_nor_negatives(found):
    collection = judged(found, ("q0", "gone", 2), ("q0", "d0", 1), ("q1", "gone too", 1), ("q1", "d1", 1))
    assert groups.available(collection) == 2
    built = groups.build(collection, count=2, docs=30, find=everything)
    assert built.documents[:, 0].tolist() == ["d0", "d1"]
    assert set(built.documents.ravel()) <= set(found.documents)


def test_a_document_found_twice_is_once_in_a_group(found):
    twice = lambda collection, queries, depth: pd.concat([everything(collection, queries, 5)] * 2)  # noqa: E731
    built = groups.build(found, count=16, docs=6, find=twice)
    assert all(len(set(documents)) == 6 for documents in built.documents)


@pytest.mark.filterwarnings("ignore:.*negatives are random documents")
def test_documents_added_at_random_are_drawn_as_from_the_list_of_all_others(found):
    few = lambda collection, queries, depth: everything(collection, queries, 3)  # noqa: E731
    built = groups.build(found, count=16, docs=8, find=few)
    for number, (query, documents) in enumerate(zip(built.queries, built.documents, strict=True)):
        related = built.related[query]
        pool = [one for one in [*found.documents][:2] if one not in related]
        others = [one for one in found.documents if one not in related and one not in pool]
        draw = np.random.default_rng([number, 8])
        pool += draw.choice(others, 7 - len(pool), replace=False).tolist()
        assert documents[1:].tolist() == draw.choice(pool, 7, replace=False).tolist()


def test_available_counts_what_can_be_built(found):
    assert groups.available(found) == 16
    assert len(groups.build(found, count=16, docs=4)) == 16


@pytest.mark.parametrize(
    ("count", "docs", "message"),
    [
        (16, 1, "docs=1: .* give 2 to 50"),
        (16, groups.DEPTH + 1, "docs=51: .* give 2 to 50"),
        (17, 4, "count=17: tiny has 16 groups in its train split; give 1 to 16"),
        (0, 4, "count=0: .* give 1 to 16"),
        (-3, 4, "count=-3"),
        (16, 41, "docs=41: tiny has only 39 documents that can be negatives of query 'q0'; give fewer docs"),
    ],
)
def test_impossible_sizes_are_refused(found, count, docs, message):
    with pytest.raises(ValueError, match=message):
        groups.build(found, count=count, docs=docs)


def test_a_group_may_hold_the_whole_corpus(found):
    built = groups.build(found, count=2, docs=40)
    assert all(set(documents) == set(found.documents) for documents in built.documents)
    assert np.array_equal(built.documents, groups.build(found, count=2, docs=40).documents)


def test_few_queries_that_fill_most_groups_are_told_and_may_have_fewer(tiny_collection):
    found = collections.load(tiny_collection)
    names = list(found.documents)
    rows = [("q0", name, 1) for name in names[:20]] + [(f"q{n}", names[20 + n], 1) for n in range(1, 5)]
    many = replace(found, judgements={"train": pd.DataFrame(rows, columns=["query", "document", "grade"])})
    with pytest.warns(CollectionWarning, match="8 groups are of 1 of 5 training queries; give positives=1"):
        assert set(groups.build(many, count=8, docs=3).queries) == {"q0"}
    assert groups.available(many) == 24 and groups.available(many, 1) == 5 and groups.available(many, 3) == 7
    assert groups.build(many, count=5, docs=3, positives=1).queries.tolist() == [f"q{n}" for n in range(5)]
    with pytest.raises(ValueError, match="has 5 groups"):
        groups.build(many, count=6, docs=3, positives=1)


def test_negatives_that_chance_gives_are_told(tiny_collection):
    found = collections.load(tiny_collection)
    with pytest.warns(CollectionWarning, match="32 of 32 negatives are random documents"):
        groups.build(found, count=16, docs=3, find=groups.judged_negatives)
