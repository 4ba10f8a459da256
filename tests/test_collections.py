"""Collections and first stage: what is read, and what is refused with file and row."""

import csv
import json
import shutil
import warnings
from pathlib import Path

import pytest

from lib.data import beir, collections, first_stage, groups
from lib.machine import digest, store
from lib.study.experiment import TestSet


@pytest.fixture
def copy(tiny_collection, tmp_path):
    return Path(shutil.copytree(tiny_collection, tmp_path / "copy"))


def test_a_beir_folder_is_read(tiny_collection):
    collection = collections.load(tiny_collection)
    assert (collection.name, len(collection.documents), len(collection.queries)) == ("tiny", 40, 24)
    assert collection.split("test", 3) == ["q16", "q17", "q18"]
    assert collection.relevant("train")["q0"] == {"d0": 1}
    assert set(collections.card(collection)["split"]) == {"train", "test"}


def test_the_fingerprint_follows_every_file(copy):
    before = collections.load(str(copy)).fingerprint
    (copy / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td0\t1\n")
    assert collections.load(str(copy)).fingerprint != before


def test_empty_texts_are_counted(copy):
    with (copy / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "e1", "title": "", "text": " "}\n{"_id": "e2", "title": "title", "text": ""}\n')
    with pytest.warns(collections.CollectionWarning, match="1 of 42 texts are empty, the first 'e1' in line 41"):
        collections.load(str(copy))


def test_an_unknown_name_is_refused():
    with pytest.raises(collections.CollectionError, match="no collection 'nowhere'.*pydocs"):
        collections.load("nowhere")


@pytest.mark.parametrize(
    ("file", "line", "says"),
    [
        ("corpus.jsonl", "{broken", "corpus.jsonl, line 41"),
        ("corpus.jsonl", '{"_id": "d0", "text": "again"}', "line 41: 'd0' appears twice"),
        ("queries.jsonl", '{"_id": "q99"}', "queries.jsonl, line 25"),
        ("corpus.jsonl", '{"_id": "d99", "text": null}', "line 41: text of 'd99' is null; it must be a text"),
        ("corpus.jsonl", '{"_id": "d99", "text": NaN}', "line 41: text of 'd99' is NaN"),
        ("corpus.jsonl", '{"_id": "d99", "text": ["a"]}', "line 41: text of 'd99'"),
        ("corpus.jsonl", '{"_id": "d99", "title": 3, "text": "a"}', "line 41: title of 'd99' is 3"),
        ("corpus.jsonl", '{"_id": null, "text": "a"}', "line 41: _id None"),
        ("corpus.jsonl", '{"_id": "", "text": "a"}', "line 41: _id ''"),
        ("corpus.jsonl", '{"_id": true, "text": "a"}', "line 41: _id True"),
        ("corpus.jsonl", '{"_id": 1.5, "text": "a"}', "line 41: _id 1.5"),
        ("corpus.jsonl", '{"_id": "a\\tb", "text": "a"}', "line 41: _id 'a"),
        ("corpus.jsonl", '{"_id": "d99\\u0000", "text": "a"}', r"line 41: _id 'd99.x00' must .* without .*NUL"),
        ("corpus.jsonl", '["d99", "a"]', "line 41: expected"),
        ("corpus.jsonl", "[" * 100_000, "line 41: expected"),
        ("corpus.jsonl", '{"_id": "d99", "text": "\\ud800"}', r"line 41: .*can't encode character '.ud800'.*UTF-8"),
        (
            "corpus.jsonl",
            b'{"_id": "d99", "text": "caf\xe9"}',
            "line 41: .*can't decode byte 0xe9 in position 27.*convert the file to UTF-8",
        ),
        ("qrels/test.tsv", b"q0\td\xe9\t1", "test.tsv, line 10: .*can't decode byte 0xe9 in position 4.*UTF-8"),
        ("qrels/test.tsv", "q0 0 d1 1", "line 10: expected.*TREC's four columns"),
        ("qrels/test.tsv", "q0\td1\t1.0", "test.tsv, line 10: expected"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore", "test.tsv, line 10: expected"),
        ("qrels/test.tsv", "q0\td1", "test.tsv, line 10: expected query-id"),
        ("qrels/test.tsv", "q0\td1\tyes", "test.tsv, line 10: expected"),
        ("qrels/test.tsv", "q0\td1\t10000", "line 10: expected .* at most four digits"),
        ("qrels/test.tsv", "q0\td1\t\u0661", "line 10: expected"),
        ("qrels/test.tsv", "q0\t\t1", "line 10: expected"),
        ("qrels/test.tsv", "q77\td1\t1", "line 10: query 'q77' is not in queries.jsonl"),
        ("qrels/test.tsv", "q16\td16\t1", r"test.tsv, line 10: \('q16', 'd16'\) appears twice"),
    ],
)
def test_a_broken_row_is_named(copy, file, line, says):
    with (copy / file).open("ab") as opened:
        opened.write((line if isinstance(line, bytes) else line.encode()) + b"\n")
    with pytest.raises(collections.CollectionError, match=says):
        collections.load(str(copy))


def test_a_blank_line_may_be_before_the_header(copy, tiny_collection):
    path = copy / "qrels" / "test.tsv"
    path.write_text("\n" + path.read_text())
    assert collections.load(str(copy)).split("test") == collections.load(tiny_collection).split("test")


def test_a_split_without_judgements_is_named(copy):
    (copy / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n")
    with pytest.raises(collections.CollectionError, match="dev.tsv: empty; fill it, or remove it"):
        collections.load(str(copy))


def test_quoted_ids_are_read_as_beir_reads_them_unless_they_are_ids_as_written(copy):
    with (copy / "corpus.jsonl").open("a") as file:
        file.writelines(json.dumps({"_id": name, "text": "alpha"}) + "\n" for name in ('"Heroes"_(album)', '"b"', "b"))
    with (copy / "qrels" / "test.tsv").open("a") as file:
        csv.writer(file, delimiter="\t").writerow(["q0", '"Heroes"_(album)', 1])  # as BEIR does
        file.write('q0\t"b"\t1\n"q1"\t"d1"\t1\n')
    relevant = collections.load(str(copy)).relevant("test")
    assert relevant["q0"] == {'"Heroes"_(album)': 1, '"b"': 1} and relevant["q1"] == {"d1": 1}


@pytest.mark.parametrize("header", ["corpus-id\tquery-id\tscore", "this is a\tlie\tscore", "a\tb\tc\tscore"])
def test_a_wrong_header_of_judgements_is_no_header(copy, header):
    path = copy / "qrels" / "test.tsv"
    path.write_text(path.read_text().replace("query-id\tcorpus-id\tscore", header))
    with pytest.raises(collections.CollectionError, match="test.tsv, line 1: expected query-id, corpus-id and a score"):
        collections.load(str(copy))


def test_a_hidden_file_among_the_judgements_is_left_alone(copy):
    before = collections.load(str(copy)).fingerprint
    (copy / "qrels" / "._test.tsv").write_bytes(b"\x00\x05")
    assert collections.load(str(copy)).fingerprint == before


def test_test_queries_without_candidates_are_counted_and_none_at_all_is_an_error(copy):
    with (copy / "queries.jsonl").open("a") as file:
        file.write('{"_id": "zz", "text": "unheard"}\n')
    path = copy / "qrels" / "test.tsv"
    path.write_text(path.read_text() + "zz\td1\t1\n")
    with pytest.warns(collections.CollectionWarning, match="1 of 9 queries share no word with a document.*'zz'"):
        TestSet(str(copy)).candidates()
    path.write_text("zz\td1\t1\n")
    with pytest.raises(collections.CollectionError, match="1 of 1 queries share no word .* give a stored run"):
        TestSet(str(copy)).candidates()


def test_missing_parts_are_named(copy):
    with pytest.raises(collections.CollectionError, match="no split 'dev'"):
        collections.load(str(copy)).split("dev")
    shutil.rmtree(copy / "qrels")
    with pytest.raises(collections.CollectionError, match="no judgements"):
        collections.load(str(copy))
    (copy / "corpus.jsonl").unlink()
    with pytest.raises(collections.CollectionError, match=r"corpus\.jsonl: missing"):
        collections.load(str(copy))


@pytest.mark.parametrize("name", ["qrels/dev.tsv", "collection.json"])
def test_what_is_no_file_is_named(copy, name):
    (copy / name).mkdir()
    with pytest.raises(collections.CollectionError, match=f"{name}: .*a folder or a broken link"):
        collections.load(str(copy))
    (copy / name).rmdir()
    (copy / name).symlink_to("nowhere")
    with pytest.raises(collections.CollectionError, match=f"{name}: .*a folder or a broken link"):
        collections.load(str(copy))


def test_a_dataset_without_a_name_is_no_collection():
    for name in ("hub:", "hub:#train", "ir:"):
        with pytest.raises(collections.CollectionError, match=f"no collection '{name}': give one of .*hub:<dataset>"):
            collections.load(name)


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
    collection = collections.load(f"hub:{hub}")
    assert collections.fingerprint(f"hub:{hub}?relevant_grade=2") != collection.fingerprint
    assert collection.documents == collections.load(tiny_collection).documents
    assert collection.split("test") == collections.load(tiny_collection).split("test")


@pytest.fixture
def hub(tmp_path, tiny_collection):
    """Writes a dataset with corpus, queries and judgements as configurations; gives its name."""

    def write(configuration, judgements):
        place = tmp_path / "hub" / "whole"
        (place / "judged").mkdir(parents=True)
        files = {"corpus": ("corpus", "corpus.jsonl"), "queries": ("queries", "queries.jsonl")}
        for part in files:
            shutil.copy(Path(tiny_collection) / f"{part}.jsonl", place / f"{part}.jsonl")
        files[configuration] = ("test", "judged/test.jsonl")
        (place / "judged" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in judgements))
        parts = "".join(f"- config_name: {name}\n  data_files:\n  - split: {split}\n    path: {path}\n"
                        for name, (split, path) in files.items())  # fmt: skip
        (place / "README.md").write_text(f"---\nconfigs:\n{parts}---\n")
        return f"hub:{place}"

    return write


@pytest.mark.parametrize("configuration, row, grade", [
    ("default", {"query-id": "q0", "corpus-id": "d0", "score": 2.0}, 2),  # as MTEB has it
    ("qrels", {"query-id": "q0", "corpus-id": "d0"}, 1),  # as NanoBEIR
])  # fmt: skip
def test_judgements_of_the_hub_may_be_a_configuration(hub, configuration, row, grade):
    assert collections.load(hub(configuration, [row])).relevant("test") == {"q0": {"d0": grade}}


@pytest.mark.parametrize("row, says", [
    ({"query-id": "q0", "corpus-id": None, "score": 1}, "split test, row 0: ids 'q0' and None"),
    ({"query-id": "q0", "corpus-id": "a\tb", "score": 1}, "split test, row 0: ids 'q0' and 'a"),
    ({"query-id": "q0", "corpus-id": "d0", "score": 0.5}, "split test, row 0: score 0.5 is no whole number"),
    ({"query-id": "q0", "corpus-id": "d0", "score": float("nan")}, "split test, row 0: score nan is no whole number"),
    ({"query-id": "q0", "corpus-id": 1.0, "score": 1}, "split test, row 0: ids 'q0' and 1.0"),
    ({"query-id": "q0", "corpus-id": "2020-01-01"}, "split test: datasets reads the column 'corpus-id' as timestamp"),
    ({"query-id": "nobody", "corpus-id": "d0", "score": 1}, "hub dataset '.*whole'/qrels/test.tsv, line 2: .*nobody"),
])  # fmt: skip
def test_a_faulty_judgement_of_the_hub_is_named(hub, row, says):
    with pytest.raises(collections.CollectionError, match=says):
        collections.load(hub("default", [row]))


@pytest.mark.parametrize("place", ["whole/judged/test.tsv", "whole-qrels/test.tsv"])
@pytest.mark.parametrize("name", ["0001", "1e5", "true", "NA"])
def test_ids_of_tsv_on_the_hub_are_as_they_are_written(hub, tmp_path, place, name):
    dataset, folder = hub("default", []), tmp_path / "hub" / "whole"
    card = (folder / "README.md").read_text().replace(".jsonl", ".tsv")
    own = place.startswith("whole/")
    (folder / "README.md").write_text(card if own else card.partition("- config_name: default")[0] + "---\n")
    for part in ("corpus", "queries"):
        (folder / f"{part}.tsv").write_text(f"_id\ttext\n{name}\tN/A\n")
    (tmp_path / "hub" / place).parent.mkdir(exist_ok=True)
    (tmp_path / "hub" / place).write_text(f"query-id\tcorpus-id\tscore\n{name}\t{name}\t1\n")
    found = collections.load(dataset)
    assert found.relevant("test") == {name: {name: 1}} and found.documents == found.queries == {name: "N/A"}


@pytest.mark.parametrize("column", ["_id", "text"])
def test_ids_and_texts_of_the_hub_that_became_dates_are_refused(hub, tmp_path, column):
    dataset = hub("default", [{"query-id": "q0", "corpus-id": "d0", "score": 1}])
    (tmp_path / "hub/whole/corpus.jsonl").write_text(json.dumps({"_id": "d0", "text": "a"} | {column: "2020-01-01"}))
    with pytest.raises(collections.CollectionError, match=f"reads the column '{column}' as timestamp.* parquet"):
        collections.load(dataset)


def test_queries_of_the_hub_in_several_splits_are_all_read(hub, tmp_path):
    dataset, folder = hub("default", [{"query-id": "new", "corpus-id": "d0", "score": 1}]), tmp_path / "hub" / "whole"
    (folder / "more.jsonl").write_text('{"_id": "new", "text": "alpha"}\n')
    both = "  - split: train\n    path: queries.jsonl\n  - split: test\n    path: more.jsonl\n"
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(card.replace("  - split: queries\n    path: queries.jsonl\n", both))
    assert len(collections.load(dataset).queries) == 25


def test_an_id_with_a_quotation_mark_is_kept(hub):
    name = 'a"x'
    dataset = hub("default", [{"query-id": "q0", "corpus-id": name, "score": 1}])
    with (Path(dataset.removeprefix("hub:")) / "corpus.jsonl").open("a") as file:
        file.write(json.dumps({"_id": name, "title": "", "text": "quoted"}) + "\n")
    assert collections.load(dataset).relevant("test") == {"q0": {name: 1}}


def test_a_missing_network_is_one_clear_error(monkeypatch):
    def unreachable(_):
        raise ConnectionError("unreachable")

    monkeypatch.setattr("datasets.get_dataset_config_names", unreachable)
    with pytest.raises(ConnectionError, match="'BeIR/none'.*network"):
        collections.load("hub:BeIR/none")


def test_bm25_prefers_the_document_that_repeats_the_query(tiny_collection):
    collection = collections.load(tiny_collection)
    run = first_stage.bm25(collection, collection.split("test"), 5)
    assert (run.groupby("query").size() <= 5).all()
    for _, part in run.groupby("query"):
        assert part["rank"].tolist() == list(range(1, len(part) + 1))
        assert part["score"].is_monotonic_decreasing
    hits = [query[1:] in {name[1:] for name in part["document"]} for query, part in run.groupby("query")]
    assert sum(hits) >= 6


def test_groups_hold_one_positive_and_no_other_relevant_document(tiny_collection):
    collection = collections.load(tiny_collection)
    built = groups.build(collection, count=16, docs=4)
    relevant = collection.relevant("train")
    for query, documents, labels in zip(built.queries, built.documents, built.targets["labels"], strict=True):
        assert labels.tolist() == [1, 0, 0, 0]
        assert documents[0] in relevant[query]
        assert not set(documents[1:]) & set(relevant[query]) and len(set(documents)) == 4
    fewer = groups.build(collection, count=8, docs=4)
    assert (fewer.documents == built.documents[:8]).all()


def test_too_many_groups_are_refused(tiny_collection):
    with pytest.raises(ValueError, match="count=99: tiny has 16 groups"):
        groups.build(collections.load(tiny_collection), count=99, docs=4)


def test_equal_scores_are_ordered_by_document(tmp_path):
    (tmp_path / "qrels").mkdir()
    rows = [{"_id": name, "text": "same words"} for name in ("b", "c", "a")]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "words"}')
    (tmp_path / "qrels" / "test.tsv").write_text("q\ta\t1\n")
    assert first_stage.bm25(collections.load(str(tmp_path)), ["q"], 3)["document"].tolist() == ["a", "b", "c"]


def test_cropped_queries_are_words_of_their_document_in_order(tiny_collection):
    source, collection = collections.load(tiny_collection), collections.load(f"cropped:{tiny_collection}")
    assert collection.documents == source.documents and collection.fingerprint != source.fingerprint
    assert list(collection.judgements) == ["train"] and len(collection.queries) == len(source.documents)
    for query, relevant in collection.relevant("train").items():
        (document,) = relevant
        rest = iter(collection.documents[document].split())
        assert all(word in rest for word in collection.queries[query].split())
        assert 3 <= len(collection.queries[query].split()) <= 8


def test_no_file_in_a_folder_is_believed_about_its_content(copy, tiny_collection):
    (copy / "fingerprint.json").write_text(json.dumps({"fingerprint": collections.fingerprint(tiny_collection)}))
    assert collections.fingerprint(str(copy)) == collections.fingerprint(tiny_collection)
    text = (copy / "corpus.jsonl").read_text()
    (copy / "corpus.jsonl").write_text(text.replace("alpha", "omega"))
    assert collections.fingerprint(str(copy)) != collections.fingerprint(tiny_collection)


def test_an_edit_is_noticed_within_a_session(copy):
    first = collections.load(str(copy))
    assert collections.load(str(copy)) is first
    text = (copy / "corpus.jsonl").read_text()
    (copy / "corpus.jsonl").write_text(text.replace("alpha", "omega"))
    again = collections.load(str(copy))
    assert again.fingerprint != first.fingerprint and again.documents != first.documents
    assert again.documents_digest != first.documents_digest and again.queries_digest == first.queries_digest


def test_a_fingerprint_is_computed_without_reading_a_text(copy, monkeypatch):
    expected = collections.load(f"cropped:{copy}").fingerprint
    monkeypatch.setattr(beir.json, "loads", lambda _: pytest.fail("it was parsed"))
    assert collections.fingerprint(f"cropped:{copy}") == expected
    now = digest.time.time()
    monkeypatch.setattr(digest.time, "time", lambda: now + 10)  # what was written a moment ago is read in any case
    collections.fingerprint(f"cropped:{copy}")
    monkeypatch.setattr(store, "sha256", lambda _: pytest.fail("it was read again"))
    assert collections.fingerprint(f"cropped:{copy}") == expected


def test_files_of_other_systems_are_read(copy, tiny_collection):
    for path in (copy / "corpus.jsonl", copy / "queries.jsonl", copy / "qrels" / "test.tsv"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    there, here = collections.load(tiny_collection), collections.load(str(copy))
    assert there.documents == here.documents and there.queries == here.queries
    assert there.judgements["test"].equals(here.judgements["test"])


def test_whole_numbers_are_ids_and_grades_may_be_negative(copy):
    with (copy / "corpus.jsonl").open("a") as opened:
        opened.write('{"_id": 7, "title": null, "text": "alpha"}\n')
    with (copy / "qrels" / "test.tsv").open("a") as opened:
        opened.write("q0\t7\t-1\n")
    with pytest.warns(collections.CollectionWarning, match="1 of 9 queries have no document of grade 1"):
        collection = collections.load(str(copy))
    assert collection.documents["7"] == "alpha" and "q0" not in collection.relevant("test")


def test_judged_documents_without_a_text_are_counted_and_never_positives(copy):
    with (copy / "qrels" / "train.tsv").open("a") as opened:
        opened.write("q0\tgone\t1\nq1\tlost\t1\n")
    says = r"train.tsv: 2 of 18 judgements name documents that corpus.jsonl lacks, the first in line 18"
    with pytest.warns(collections.CollectionWarning, match=says):
        collection = collections.load(str(copy))
    assert collection.relevant("train")["q0"] == {"d0": 1}
    assert "gone" in set(collection.judgements["train"]["document"])  # the measures know it
    built = groups.build(collection, count=16, docs=4)
    assert set(built.documents.ravel()) <= set(collection.documents)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collections.load(str(copy))  # it is said once


def test_the_grade_that_counts_is_part_of_the_collection(copy):
    for split, row in (("train", "q0\td1\t2\n"), ("test", "".join(f"q{one}\td0\t2\n" for one in range(16, 24)))):
        with (copy / "qrels" / f"{split}.tsv").open("a") as opened:
            opened.write(row)
    plain, named = collections.load(str(copy)), collections.load(f"{copy}?relevant_grade=2")
    with pytest.warns(collections.CollectionWarning) as warned:
        collections.load(f"{copy}?relevant_grade=3")
    said = [str(one.message).split("split ")[1] for one in warned]
    assert [one.partition(",")[0] for one in sorted(said)] == [
        "'test': 8 of 8 queries have no document of grade 3 or more",
        "'train': 16 of 16 queries have no document of grade 3 or more",
    ]
    assert (plain.relevant_grade, named.relevant_grade) == (1, 2) and plain.fingerprint != named.fingerprint
    assert plain.relevant("train")["q0"] == {"d0": 1, "d1": 2} and named.relevant("train") == {"q0": {"d1": 2}}
    built = groups.build(named, count=1, docs=4)
    assert built.documents[0, 0] == "d1" and "d0" not in built.documents[0]  # grade 1: neither positive nor negative
    (copy / "collection.json").write_text('{"relevant_grade": 2}')
    assert collections.fingerprint(str(copy)) == named.fingerprint


def test_test_queries_without_a_relevant_document_are_counted(copy):
    path = copy / "qrels" / "test.tsv"
    path.write_text(path.read_text().replace("q17\td17\t1", "q17\td17\t0").replace("q20\td20\t1", "q20\td20\t-1"))
    with pytest.warns(collections.CollectionWarning, match="split 'test': 2 of 8 queries.* 0; the first is 'q17'"):
        collections.load(str(copy))


def test_a_folder_with_the_name_of_a_collection_of_the_kit_is_refused(copy, data_folder):
    shutil.copytree(copy, data_folder / "collections" / "mine")
    assert collections.found() == ["mine"]
    shutil.copytree(copy, data_folder / "collections" / "web")
    with pytest.raises(collections.CollectionError, match="collections: web is the name of a collection that comes"):
        collections.found()


def test_a_card_may_have_a_byte_order_mark(copy):
    (copy / "collection.json").write_bytes(b'\xef\xbb\xbf{"relevant_grade": 1}')
    assert collections.load(str(copy)).relevant_grade == 1


def test_the_data_card_counts_relevant_documents_over_all_queries(copy):
    judgements = [
        ("q0", "d0", 1),
        ("q0", "d1", 2),
        ("q0", "gone", 1),
        ("q1", "d0", 0),
        ("q2", "d2", 0),
        ("q3", "d3", 0),
    ]
    beir.write_judgements(copy, "test", ("{}\t{}\t{}\n".format(*row) for row in judgements))
    with (
        pytest.warns(collections.CollectionWarning, match="1 of 6 judgements"),
        pytest.warns(collections.CollectionWarning, match="3 of 4 queries have no document of grade 1"),
    ):
        card = collections.card(collections.load(str(copy))).set_index("split")
    assert card.loc["test", "relevant per query"] == 0.5 and card.loc["train", "relevant per query"] == 1


@pytest.mark.parametrize("card", ["{", "[]", "{}", '{"relevant_grade": 0}', '{"relevant_grade": "two"}', '{"grade": 2}',
                                  '{"relevant_grade": 2, "other": 1}', '{"relevant_grade": 1.5}'])  # fmt: skip
def test_a_wrong_card_is_named(card, copy):
    (copy / "collection.json").write_text(card)
    with pytest.raises(collections.CollectionError, match=r"collection\.json"):
        collections.load(str(copy))
    with pytest.raises(collections.CollectionError, match=r"relevant_grade=x: .*expected"):
        collections.load(f"{copy}?relevant_grade=x")


def test_an_edited_local_hub_dataset_is_copied_anew(tmp_path, tiny_collection):
    test_hub_layout_is_read_from_a_local_copy(tmp_path, tiny_collection)
    hub = tmp_path / "hub" / "tiny"
    before = collections.load(f"hub:{hub}")
    path = hub / "corpus" / "corpus.jsonl"
    path.write_text(path.read_text().replace("alpha", "omega"))
    after = collections.load(f"hub:{hub}")
    assert after.fingerprint != before.fingerprint and after.documents != before.documents


def test_a_hub_dataset_of_another_layout_is_refused_and_not_kept(tmp_path, data_folder):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.jsonl").write_text('{"question": "a", "reply": "b"}\n')
    with pytest.raises(collections.CollectionError, match="BEIR's layout"):
        collections.load(f"hub:{tmp_path / 'other'}")
    assert not [path for path in (data_folder / "collections").iterdir() if store.is_whole(path)]


def test_most_dev_queries_may_be_trained_on_and_the_others_stay(tmp_path, tiny_collection):
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_collection, folder)
    (folder / "qrels" / "train.tsv").rename(folder / "qrels" / "dev.tsv")
    whole, found = collections.load(str(folder)), collections.load(f"from-dev:{folder}")
    train, dev = found.split("train"), found.split("dev")
    assert (len(train), len(dev)) == (13, 3) and sorted(train + dev) == sorted(whole.split("dev"))
    assert dev == whole.split("dev")[4::5] and found.split("test") == whole.split("test")
    assert found.documents_digest == whole.documents_digest and found.queries == whole.queries
    assert found.fingerprint == collections.fingerprint(f"from-dev:{folder}") != whole.fingerprint
    with pytest.raises(collections.CollectionError, match="it has training queries; give 'tiny' itself"):
        collections.load(f"from-dev:{tiny_collection}")
    beir.write_judgements(folder, "dev", (f"q{number}\td{number}\t1\n" for number in range(4)))
    with pytest.raises(collections.CollectionError, match="from-dev:tiny: it has 4 dev queries, and 5 are the fewest"):
        collections.load(f"from-dev:{folder}")
    (folder / "qrels" / "dev.tsv").unlink()
    with pytest.raises(collections.CollectionError, match="no split 'dev'"):
        collections.load(f"from-dev:{folder}")
