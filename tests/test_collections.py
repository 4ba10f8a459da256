"""Collections and first stage: what is read, and what is refused with file and row."""

import json
import shutil
from pathlib import Path

import pytest

from lib import collections, groups, retrieval


@pytest.fixture
def copy(tiny_collection, tmp_path):
    return Path(shutil.copytree(tiny_collection, tmp_path / "copy"))


def test_a_beir_folder_is_read(tiny_collection):
    found = collections.load(tiny_collection)
    assert (found.name, len(found.documents), len(found.queries)) == ("tiny", 40, 24)
    assert found.split("test", 3) == ["q16", "q17", "q18"]
    assert found.relevant("train")["q0"] == {"d0": 1}
    assert set(collections.card(found)["split"]) == {"train", "test"}


def test_the_fingerprint_follows_every_file(copy):
    before = collections.read_beir(copy).fingerprint
    (copy / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td0\t1\n")
    assert collections.read_beir(copy).fingerprint != before


def test_an_unknown_name_is_refused():
    with pytest.raises(collections.CollectionError, match="no collection 'nowhere'.*pydocs"):
        collections.load("nowhere")


@pytest.mark.parametrize(
    ("file", "line", "says"),
    [
        ("corpus.jsonl", "{broken", "corpus.jsonl, line 41"),
        ("corpus.jsonl", '{"_id": "d0", "text": "again"}', "line 41: the id 'd0' stands twice"),
        ("queries.jsonl", '{"_id": "q99"}', "queries.jsonl, line 25"),
        ("qrels/test.tsv", "q0\td1", "test.tsv, line 10: expected query-id"),
        ("qrels/test.tsv", "q0\td1\tyes", "test.tsv, line 10: expected"),
        ("qrels/test.tsv", "q77\td1\t1", "query 'q77' is not in queries.jsonl"),
        ("qrels/test.tsv", "q16\td16\t1", "judged twice"),
    ],
)
def test_a_broken_row_is_named(copy, file, line, says):
    with (copy / file).open("a") as opened:
        opened.write(line + "\n")
    with pytest.raises(collections.CollectionError, match=says):
        collections.read_beir(copy)


def test_missing_parts_are_named(copy):
    with pytest.raises(collections.CollectionError, match="no split 'dev'"):
        collections.read_beir(copy).split("dev")
    shutil.rmtree(copy / "qrels")
    with pytest.raises(collections.CollectionError, match="no judgements"):
        collections.read_beir(copy)
    (copy / "corpus.jsonl").unlink()
    with pytest.raises(collections.CollectionError, match=r"corpus\.jsonl: missing"):
        collections.read_beir(copy)


def test_hub_layout_is_read_from_a_local_copy(tmp_path, tiny_collection):
    source, hub = Path(tiny_collection), tmp_path / "hub" / "tiny"
    for part in ("corpus", "queries"):
        (hub / part).mkdir(parents=True)
        shutil.copy(source / f"{part}.jsonl", hub / part / f"{part}.jsonl")
    parts = "".join(
        f"- config_name: {part}\n  data_files:\n  - split: {part}\n    path: {part}/{part}.jsonl\n"
        for part in ("corpus", "queries")
    )
    (hub / "README.md").write_text(f"---\nconfigs:\n{parts}---\n")
    judged = tmp_path / "hub" / "tiny-qrels"
    judged.mkdir()
    shutil.copy(source / "qrels" / "test.tsv", judged / "test.tsv")
    found = collections.load(f"hub:{hub}")
    assert found.documents == collections.load(tiny_collection).documents
    assert found.split("test") == collections.load(tiny_collection).split("test")


def test_a_missing_network_is_one_clear_error(monkeypatch):
    monkeypatch.setattr("datasets.load_dataset", lambda *_: (_ for _ in ()).throw(ConnectionError("unreachable")))
    with pytest.raises(ConnectionError, match="'BeIR/none'.*network"):
        collections.load("hub:BeIR/none")


def test_bm25_prefers_the_document_that_repeats_the_query(tiny_collection):
    found = collections.load(tiny_collection)
    run = retrieval.bm25(found, found.split("test"), 5)
    assert (run.groupby("query").size() <= 5).all()
    for _, part in run.groupby("query"):
        assert part["rank"].tolist() == list(range(1, len(part) + 1))
        assert part["score"].is_monotonic_decreasing
    hits = [query[1:] in {name[1:] for name in part["document"]} for query, part in run.groupby("query")]
    assert sum(hits) >= 6


def test_groups_hold_one_positive_and_no_other_relevant_document(tiny_collection):
    found = collections.load(tiny_collection)
    made = groups.build(found, count=16, docs=4, depth=10)
    relevant = found.relevant("train")
    for query, documents, labels in zip(made.queries, made.documents, made.targets["labels"], strict=True):
        assert labels.tolist() == [1, 0, 0, 0]
        assert documents[0] in relevant[query]
        assert not set(documents[1:]) & set(relevant[query]) and len(set(documents)) == 4
    fewer = groups.build(found, count=8, docs=4, depth=10)
    assert (fewer.documents == made.documents[:8]).all()


def test_too_many_groups_are_refused(tiny_collection):
    with pytest.raises(ValueError, match="count=99: tiny has 16 groups"):
        groups.build(collections.load(tiny_collection), count=99, docs=4)


def test_equal_scores_are_ordered_by_document(tmp_path):
    (tmp_path / "qrels").mkdir()
    rows = [{"_id": name, "text": "same words"} for name in ("b", "c", "a")]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "words"}')
    (tmp_path / "qrels" / "test.tsv").write_text("q\ta\t1\n")
    assert retrieval.bm25(collections.load(str(tmp_path)), ["q"], 3)["document"].tolist() == ["a", "b", "c"]


def test_cropped_queries_are_words_of_their_document_in_order(tiny_collection):
    source, found = collections.load(tiny_collection), collections.load(f"cropped:{tiny_collection}")
    assert found.documents == source.documents and found.fingerprint != source.fingerprint
    assert list(found.judgements) == ["train"] and len(found.queries) == len(source.documents)
    for query, relevant in found.relevant("train").items():
        (document,) = relevant
        rest = iter(found.documents[document].split())
        assert all(word in rest for word in found.queries[query].split())
        assert 3 <= len(found.queries[query].split()) <= 8
