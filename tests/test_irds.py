"""Datasets of ir_datasets: texts, splits and what is missing. The package is played by one that holds a few texts."""

import sys
import types
from collections import namedtuple
from pathlib import Path

import pytest

from lib.data import collections, irds
from lib.data.collections import CollectionError, CollectionWarning

Text = namedtuple("Text", "doc_id query_id title text")
Text.default_text = lambda self: f"{self.title} {self.text}"
Judgement = namedtuple("Judgement", "query_id doc_id relevance iteration")
DOCUMENTS = [Text(f"d{number}", "", "title", f"text {number}") for number in range(3)]


class Dataset:
    """What the kit calls of an ir_datasets.Dataset."""

    def __init__(self, queries=(), judged=None):
        self.queries, self.judged = queries, judged

    def has_queries(self):
        return bool(self.queries)

    def has_qrels(self):
        return self.judged is not None

    def docs_metadata(self):
        return {"count": len(DOCUMENTS)}

    def docs_iter(self):
        return iter(DOCUMENTS)

    def queries_iter(self):
        own = self.queries if isinstance(self.queries, dict) else {}
        return (Text("", query, "", own.get(query, f"text of {query}")) for query in self.queries)

    def qrels_iter(self):
        return (Judgement(*one, 0) for one in self.judged)


@pytest.fixture(autouse=True)
def package(monkeypatch):
    known = {
        "set": Dataset(),
        "set/train": Dataset(["q1"], [("q1", "d1", 1)]),
        "set/dev": Dataset(["q3"]),  # its judgements are secret
        "set/test": Dataset(["q2"], [("q2", "d0", 2), ("q2", "d2", 0)]),
        "set/judged": Dataset(["q1", "q2"], [("q2", "d0", 2)]),
        "bare": Dataset(["q1"]),
        "faulty": Dataset(["q1"], [("q9", "d0", 1)]),
        "lacking": Dataset(["q1"], [("q1", "d0", 1), ("q1", "gone", 1)]),
        "two/train": Dataset(["q1"], [("q1", "d1", 1)]),
        "two/test": Dataset({"q1": "another text"}, [("q1", "d0", 1)]),
        "two": Dataset(),
    }
    module = types.ModuleType("ir_datasets")
    module.load = known.__getitem__
    monkeypatch.setitem(sys.modules, "ir_datasets", module)
    return module


def test_a_dataset_is_read_with_its_split():
    found = collections.load("ir:set/test")
    assert found.name == "ir:set/test" and dict(found.documents) == {f"d{n}": f"title text {n}" for n in range(3)}
    assert found.queries == {"q2": "text of q2"} and found.relevant("test") == {"q2": {"d0": 2}}
    assert set(collections.load("ir:set/judged").judgements) == {"test"}


def test_a_dataset_without_judgements_has_those_of_its_parts():
    found = collections.load("ir:set")
    assert {split: rows["query"].tolist() for split, rows in found.judgements.items()} == {
        "train": ["q1"], "test": ["q2", "q2"]}  # fmt: skip
    assert set(found.queries) == {"q1", "q2"}


@pytest.mark.parametrize("name, fault", [
    ("none", "ir_datasets has no collection 'none'.*ir-datasets.com"),
    ("bare", "ir:bare has no judgements"),
    ("faulty", "^ir:faulty/qrels/test.tsv, line 2: query 'q9' is not in queries.jsonl"),
    ("two", "ir:two: query 'q1' has two texts in its parts; give the id of one part"),
])  # fmt: skip
def test_what_is_missing_is_named_and_nothing_is_kept(name, fault, data_folder):
    with pytest.raises(CollectionError, match=fault):
        collections.load(f"ir:{name}")
    assert not list((data_folder / "collections").glob("ir-*"))


def test_a_warning_is_given_once_and_names_a_file_that_is_kept(data_folder):
    with pytest.warns(CollectionWarning) as given:
        collections.load("ir:lacking")
    (warning,) = given
    assert "1 of 2 judgements name documents" in str(warning.message)
    assert Path(str(warning.message).partition(": ")[0]).is_file()


def test_a_missing_package_is_one_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    with pytest.raises(CollectionError, match=r"needs the package ir_datasets; .*pip install -e '\.\[collections\]'"):
        collections.load("ir:set/test")


@pytest.mark.parametrize("kind", [ConnectionError, RuntimeError])
def test_a_missing_network_is_one_clear_error(package, monkeypatch, kind):
    monkeypatch.setattr(package, "load", lambda _: (_ for _ in ()).throw(kind("unreachable")))
    with pytest.raises(ConnectionError, match="ir:set/test cannot be downloaded: unreachable"):
        collections.load("ir:set/test")


def test_a_copy_is_read_again_without_the_package(monkeypatch):
    first = collections.load("ir:set/test")
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    collections._loaded.cache_clear()
    assert collections.load("ir:set/test").fingerprint == first.fingerprint


def test_the_number_of_documents_is_known_without_a_network():
    assert irds.documents("set/test") == len(DOCUMENTS) and irds.documents("no/such") == 0


def test_the_package_knows_its_collections_sizes(monkeypatch):
    monkeypatch.delitem(sys.modules, "ir_datasets")
    pytest.importorskip("ir_datasets", reason="an optional package: pip install -e '.[collections]'")
    assert irds.documents("msmarco-passage/train") == 8841823
