"""BM25: one index for the same documents, stored once, and texts that hold little."""

import json

import pandas as pd
import pytest

from lib.data import collections, first_stage
from lib.data.collections import Collection
from lib.machine import store


def by_hand(documents, queries):
    judged = pd.DataFrame([("q", next(iter(documents)), 1)], columns=["query", "document", "grade"])
    return Collection("hand", "0", documents, queries, {"test": judged})


def whole(kind):
    return [path for path in (store.data_folder() / kind).glob("*") if store.is_whole(path)]


def test_one_index_serves_every_collection_of_the_same_documents(tiny_collection, monkeypatch):
    collection, cropped = collections.load(tiny_collection), collections.load(f"cropped:{tiny_collection}")
    first = first_stage.bm25(collection, collection.split("test"), 5)
    monkeypatch.setattr(first_stage.bm25s.BM25, "index", lambda *_, **__: pytest.fail("indexed again"))
    first_stage.bm25(cropped, cropped.split("train"), 5)
    first_stage.bm25(collection, collection.split("train"), 7)
    assert len(whole("bm25")) == 1 and len(whole("first_stage")) == 3
    again = first_stage.bm25(collection, collection.split("test"), 6)
    pd.testing.assert_frame_equal(again[again["rank"] <= 5].reset_index(drop=True), first, atol=1e-6)
    assert not list((whole("bm25")[0]).rglob("*.pkl"))


@pytest.mark.parametrize("name", ["K1", "B", "STOP_WORDS", "METHOD"])
def test_what_decides_the_result_is_in_its_identity(name, monkeypatch):
    before = json.dumps(first_stage.identity())
    monkeypatch.setattr(first_stage, name, "other")
    assert json.dumps(first_stage.identity()) != before


def test_a_single_document_is_found():
    run = first_stage.bm25(by_hand({"d": "alpha beta"}, {"q": "beta"}), ["q"], 10)
    assert run["document"].tolist() == ["d"] and run["score"].tolist()[0] > 0


def test_a_query_without_a_known_word_finds_nothing_and_costs_nobody_else():
    collection = by_hand({"d": "alpha", "e": "", "f": "the of"}, {"q": "beta", "r": "the", "s": "alpha", "t": ""})
    run = first_stage.bm25(collection, ["q", "r", "s", "t"], 10)
    assert run[["query", "document"]].to_numpy().tolist() == [["s", "d"]]
    assert len(first_stage.bm25(collection, ["q"], 10)) == 0


def test_documents_of_stop_words_alone_are_one_clear_error():
    with pytest.raises(collections.CollectionError, match="hand: its documents hold no word but stop words"):
        first_stage.bm25(by_hand({"d": "the of and"}, {"q": "the"}), ["q"], 10)
    assert whole("bm25") == []
