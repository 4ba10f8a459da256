"""BM25: scores by hand, one index for the same documents, kept, and texts that hold little."""

import json
import math
import os
import subprocess
import sys

import pandas as pd
import pytest

from lib.data import collections, first_stage
from lib.data.collections import Collection
from lib.machine import store
from lib.study.experiment import TestSet


def by_hand(documents, queries):
    judged = pd.DataFrame([("q", next(iter(documents)), 1)], columns=["query", "document", "grade"])
    digests = (store.key(list(texts.items())) for texts in (documents, queries))
    return Collection("hand", "0", documents, queries, {"test": judged}, 1, *digests)


def whole(kind):
    return [path for path in (store.data_folder() / kind).glob("*") if store.is_whole(path)]


def test_bm25_by_hand():
    """Lucene's: idf times tf / (tf + k1 (1 - b + b length / mean length)); 'the' is a stop word, 'cats' a cat."""
    documents = {"d": "cat cat the dog", "e": "cats", "f": "dog bird fish", "g": "the bird"}
    run = first_stage.bm25(by_hand(documents, {"q": "the cat", "r": "a dog and a bird"}), ["q", "r"], 10)
    mean = (3 + 1 + 3 + 1) / 4
    idf = math.log(1 + (4 - 2 + 0.5) / (2 + 0.5))  # each of these words is in two of the four documents
    score = lambda tf, length: idf * tf / (tf + 0.9 * (1 - 0.4 + 0.4 * length / mean))  # noqa: E731
    expected = [("q", "e", 1, score(1, 1)), ("q", "d", 2, score(2, 3)), ("r", "f", 1, 2 * score(1, 3)),
                ("r", "g", 2, score(1, 1)), ("r", "d", 3, score(1, 3))]  # fmt: skip
    expected.sort(key=lambda row: (row[0], -row[3]))
    assert run[["query", "document"]].to_numpy().tolist() == [list(row[:2]) for row in expected]
    assert run["score"].tolist() == pytest.approx([row[3] for row in expected], rel=1e-5)
    assert run["rank"].tolist() == [1, 2, 1, 2, 3]
    assert first_stage.bm25(by_hand(documents, {"r": "dog bird"}), ["r"], 2)["document"].tolist() == ["f", "g"]


def test_a_query_that_is_a_document_is_no_candidate_of_itself(tmp_path):
    """ArguAna's queries are; BEIR's evaluation leaves them out, too. An equal id by chance is another document."""
    documents = {"d": "birds: cat dog", "e": "dog cat cat", "f": "cat dog bird"}
    collection = by_hand(documents, {"d": "cat dog", "e": "cat dog"})
    run = first_stage.bm25(collection, ["d", "e"], 2)
    assert {query: set(part) for query, part in run.groupby("query")["document"]} == {"d": {"e", "f"}, "e": {"d", "e"}}
    assert run["rank"].tolist() == [1, 2, 1, 2]
    for name, texts in (("corpus", documents), ("queries", collection.queries)):
        rows = [json.dumps({"_id": one, "text": text}) + "\n" for one, text in texts.items()]
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nd\te\t1\ne\tf\t1\n")
    (tmp_path / "run.trec").write_text("".join(f"d Q0 {one} {rank} {-rank} x\n" for rank, one in enumerate("dfe", 1)))
    stored = TestSet(str(tmp_path), queries=1, depth=1, run=str(tmp_path / "run.trec"))
    assert stored.candidates()[2][["document", "rank"]].to_numpy().tolist() == [["f", 1]]
    broken = [TestSet(f"{kind}:{tmp_path}", queries=1, depth=3).candidates() for kind in ("fewer", "keywords")]
    assert any(collection.queries["d"] != "cat dog" for collection, *_ in broken)
    assert all("d" not in set(candidates["document"]) for *_, candidates in broken)


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


@pytest.mark.parametrize("name", ["K1", "B", "STOP_WORDS", "METHOD", "STEMMER"])
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


def test_jax_is_not_started(tmp_path):
    """It would take an accelerator's memory; a reader's own import of it works as before."""
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("print('started')")
    (tmp_path / "jax" / "lax.py").write_text("raise RuntimeError('no device is left')")
    code = "import lib.data.corruptions, lib.data.first_stage, sys; assert 'jax' not in sys.modules; import jax"
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": paths}, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert (done.returncode, done.stdout.split()) == (0, ["started"]), done.stderr
