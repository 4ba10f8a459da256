"""Stored TREC runs as first stage: the order, every fault with its line, and their place in test sets and keys."""

import gzip
import json
import warnings

import ir_measures
import pytest

from lib.data import collections, trec_runs
from lib.data.beir import CollectionError, CollectionWarning
from lib.study import identity, tables
from lib.study.experiment import TestSet, Untrained


@pytest.fixture
def folder(tmp_path):
    """A BEIR folder of four documents and two queries, with a run."""
    place = tmp_path / "small"
    (place / "qrels").mkdir(parents=True)
    (place / "runs").mkdir()
    documents = {name: f"text of {name}" for name in "abcd"}
    for file, texts in (("corpus", documents), ("queries", {"q": "one", "r": "two"})):
        lines = [json.dumps({"_id": name, "text": text}) + "\n" for name, text in texts.items()]
        (place / f"{file}.jsonl").write_text("".join(lines))
    (place / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta\t1\nr\tb\t2\n")
    return place


def stored(folder, text):
    path = folder / "runs" / "mine.trec"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(folder, text, queries=("q", "r"), depth=10):
    return trec_runs.read(stored(folder, text), collections.load(str(folder)), list(queries), depth)


def test_a_compressed_run_is_read_and_a_broken_one_is_named(folder):
    sound = read(folder, SOUND)
    packed = gzip.compress(SOUND.encode())
    assert read(folder, packed).equals(sound)
    (folder / "runs" / "packed.trec.gz").write_bytes(packed)
    test = TestSet.of(f"{folder} | test | packed")
    assert test.candidates()[2]["document"].tolist() == sound["document"].tolist() and test.ranked_by == "packed"
    with pytest.raises(CollectionError, match="mine.trec, after line [0-9]: .*fetch or write it again"):
        read(folder, packed[:-12])


def test_equal_scores_are_ranked_as_by_trec_eval(folder):
    """pytrec_eval is trec_eval itself, which ir_measures calls for nDCG."""
    text = "".join(f"{query} Q0 {document} 1 5 x\n" for query in "qr" for document in "abcd")
    with pytest.warns(CollectionWarning, match="8 documents share their score"):
        stored(folder, text)
        table = tables.first_stage([TestSet.of(f"{folder} | test | mine")])
    judged = collections.load(str(folder)).judgements["test"]
    theirs = ir_measures.iter_calc(
        [ir_measures.nDCG @ 10], ir_measures.read_trec_qrels("\n".join(f"{q} 0 {d} {g}" for q, d, g in judged.to_numpy())),
        ir_measures.read_trec_run(text),
    )  # fmt: skip
    ours = table[table["measure"] == "nDCG@10"].set_index("query")["value"]
    assert {one.query_id: one.value for one in theirs} == pytest.approx(ours.to_dict())
    assert len(set(ours)) == 2  # d, c, b, a: the ranks of a and of b differ


SOUND = "r Q0 b 1 2.5 x\nr Q0 a 2 -1e0 x\n\nq Q0 c 1 9 x\nq\tQ0\ta\t2\t8.5\tx\nother Q0 a 1 1 x\n"


def test_a_sound_run_is_read_in_the_order_of_the_queries(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = read(folder, SOUND)
    assert run.to_numpy().tolist() == [["q", "c", 1, 9.0], ["q", "a", 2, 8.5], ["r", "b", 1, 2.5], ["r", "a", 2, -1.0]]
    assert read(folder, SOUND, depth=1)["document"].tolist() == ["c", "b"]


@pytest.mark.parametrize("line, fault", [
    ("q Q0 a 1 2.0", "5 fields; expected query, Q0, document, rank, score, tag"),
    ("q Q0 a 1 2.0 my tag", "7 fields"),
    ("q Q0 a first 2.0 x", "rank 'first' and score '2.0': expected a whole number and a number"),
    ("q Q0 a 1_0 2.0 x", "rank '1_0'"),
    ("q Q0 a 1 1_000 x", "score '1_000'"),
    ("q Q0 a \u0661 2.0 x", "expected a whole number"),
    ("q Q0 a 1 1e39 x", "not finite in float32"),
    ("q Q0 a 1 high x", "could not convert"),
    ("q Q0 a 1 nan x", "score nan is not finite"),
    ("q Q0 a 1 inf x", "score inf is not finite"),
    ("q Q0 d 2 1.0 x", "document 'd' appears twice for query 'q'"),
    (b"q Q0 \xff 2 1.0 x", "repair it or convert the file to UTF-8"),
])  # fmt: skip
def test_a_malformed_line_is_named(folder, line, fault):
    line = line if isinstance(line, bytes) else line.encode()
    with pytest.raises(CollectionError, match=f"mine.trec, line 2: .*{fault}"):
        read(folder, b"q Q0 d 1 3 x\n" + line + b"\n")


def test_a_missing_an_empty_and_a_foreign_run_are_refused(folder):
    with pytest.raises(CollectionError, match="no such run"):
        trec_runs.read(folder / "nothing", collections.load(str(folder)), ["q"], 3)
    with pytest.raises(CollectionError, match="empty"):
        read(folder, "\n")
    with pytest.raises(CollectionError, match="none of its queries is one of the 2"):
        read(folder, "x Q0 a 1 1 x\n")
    with pytest.raises(CollectionError, match="none of its 2 documents is in small"):
        read(folder, "q Q0 y 1 1 x\nr Q0 z 1 1 x\n")


@pytest.mark.parametrize("text, said, left", [
    ("q Q0 a 1 3 x\nq Q0 zz 2 2 x\nr Q0 b 1 1 x\n", "1 of 3 documents are not in small and are left out", ["a", "b"]),
    ("q Q0 a 1 3 x\n", "1 of 2 queries have no document and count as zero", ["a"]),
    ("q Q0 a 1 1 x\nq Q0 b 2 2 x\nr Q0 c 1 1 x\n", "1 ranks contradict the scores, which decide", ["b", "a", "c"]),
    ("q Q0 b 1 2 x\nq Q0 a 2 2 x\nr Q0 c 1 1 x\n", "2 documents share their score", ["b", "a", "c"]),
    ("q Q0 a 1 7.00000002 x\nq Q0 b 2 7.00000001 x\nr Q0 c 1 1 x\n", "2 documents share their score", ["b", "a", "c"]),
    ("q Q0 a 1 3 x\nq Q0 b 9 2 x\nr Q0 c 1 1 x\n", "1 ranks come after a gap; only the order counts (the first in line 2)",
     ["a", "b", "c"]),
    ("r Q0 zz 1 3 x\nq Q0 a 1 3 x\n", "1 of 2 queries have no document and count as zero, the first ['r']", ["a"]),
    ("\ufeffq Q0 a 1 3 x\nq Q0 b 2 2 x\nr Q0 c 1 1 x\n", None, ["a", "b", "c"]),  # a byte order mark
])  # fmt: skip
def test_what_the_field_goes_on_with_is_counted(folder, text, said, left):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert read(folder, text)["document"].tolist() == left
    assert [said in str(one.message) for one in caught if one.category is CollectionWarning] == [True] * bool(said)


def test_a_test_set_re_ranks_the_stored_run(folder):
    stored(folder, SOUND)
    test = TestSet.of(f"{folder} | test | mine", depth=2)
    _, queries, candidates = test.candidates()
    assert queries == ["q", "r"] and candidates["document"].tolist() == ["c", "a", "b", "a"]
    assert candidates["grade"].tolist() == [0, 1, 2, 0] and candidates["first_stage"].tolist() == [9.0, 8.5, 2.5, -1.0]
    table = tables.first_stage([test])
    assert set(table["ranker"]) == {"mine"}
    assert table[table["measure"] == "RR@10"]["value"].tolist() == [0.5, 1.0]
    assert tables.best_order([test]).query("measure == 'RR@10'")["value"].tolist() == [1.0, 1.0]


def test_the_content_of_a_run_decides_an_evaluation_and_its_place_does_not(folder, tmp_path):
    path = stored(folder, SOUND)
    inside, ranker = TestSet.of(f"{folder} | test | mine.trec"), Untrained()
    before = identity.of_evaluation(ranker, inside)
    (tmp_path / "copy.txt").write_text(SOUND)
    assert identity.of_evaluation(ranker, TestSet.of(f"{folder} | test | {tmp_path / 'copy.txt'}")) == before
    path.write_text(SOUND.replace("8.5", "8.6"))
    assert identity.of_evaluation(ranker, inside) != before
    assert identity.of_evaluation(ranker, TestSet.of(str(folder))) != before


def test_a_test_set_is_written_as_text():
    assert TestSet.of("pydocs") == TestSet("pydocs", "test", None, 100)
    assert TestSet.of(" a |dev", 20) == TestSet("a", "dev", None, 20)
    assert TestSet.of("a | b | c") == TestSet("a", "b", None, None, "c")  # a run at its own depth
    assert TestSet.of("a | b | c", 7) == TestSet("a", "b", None, 7, "c")
    with pytest.raises(ValueError, match="depth=None: give a whole number"):
        TestSet("a", depth=None)
    for text in ("", "a |", "a | b | c | d"):
        with pytest.raises(ValueError, match="give 'collection'"):
            TestSet.of(text)


def test_a_missing_run_is_named_before_anything_is_scored(folder):
    with pytest.raises(CollectionError, match=rf"no run 'other': give a path, or a file of {folder / 'runs'}"):
        tables.complete([Untrained()], [TestSet.of(f"{folder} | test | other")])


def test_first_stages_of_different_names_are_not_mixed(folder):
    stored(folder, SOUND)
    with pytest.raises(ValueError, match="several first stages"):
        tables.first_stage([TestSet("pydocs"), TestSet.of(f"{folder} | test | mine")])


def test_a_folder_in_the_data_folder_is_found_by_its_name(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    assert collections.found() == []
    with pytest.raises(CollectionError, match="no collection 'small'"):
        collections.load("small")
    place = tmp_path / "data" / "collections" / "small"
    place.parent.mkdir(parents=True)
    folder.rename(place)
    assert collections.found() == ["small"]
    assert collections.load("small").fingerprint == collections.load(str(place)).fingerprint
    with pytest.warns(CollectionWarning, match="split 'test': 1 of 2 queries have no document of grade 2"):
        assert collections.load("small?relevant_grade=2").relevant_grade == 2
