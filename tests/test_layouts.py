"""Hub datasets whose rows hold their texts: every layout as a collection, every fault with its row, and as groups."""

import dataclasses
import datetime
import json
import warnings

import numpy as np
import pytest
from pyarrow import Table, parquet

from lib.data import collections, groups, hub
from lib.data.collections import CollectionError, CollectionWarning
from lib.study import targets
from tests import kit

ALPHA, BETA, GAMMA = "alpha beta", "beta gamma", "gamma delta"
TRIPLES = {("one", ALPHA): 1, ("one", BETA): 0}


@pytest.fixture
def dataset(tmp_path):
    """Writes rows as a local dataset in the hub's form; gives its name."""

    def write(rows, split="train", place="set"):
        folder = tmp_path / place
        folder.mkdir(exist_ok=True)
        parquet.write_table(Table.from_pylist(rows), folder / f"{split}-00000-of-00001.parquet")
        return f"hub:{folder}"

    return write


def judged(name, split="train"):
    """{(query's text, document's text): grade} of a collection."""
    found = collections.load(name)
    rows = found.judgements[split].to_numpy()
    return {(found.queries[query], found.documents[document]): grade for query, document, grade in rows}


@pytest.mark.parametrize("row, expected", [
    ({"query": "one", "positive": ALPHA, "negative": BETA}, TRIPLES),
    ({"anchor": "one", "positive": ALPHA, "negative": BETA, "other": 3}, TRIPLES),
    ({"question": "one", "answer": ALPHA, "negative_1": BETA, "negative_2": GAMMA}, TRIPLES | {("one", GAMMA): 0}),
    ({"query": "one", "positive": ALPHA, "negative": BETA, "negative_1": GAMMA}, TRIPLES | {("one", GAMMA): 0}),
    ({"query": "one", "pos": [ALPHA], "neg": [BETA, GAMMA]}, TRIPLES | {("one", GAMMA): 0}),
    ({"query": "one", "passages": [BETA, ALPHA, GAMMA], "scores": [0, 2, 1]},
     {("one", BETA): 0, ("one", ALPHA): 2, ("one", GAMMA): 1}),
    ({"query": "one", "docs": [BETA, ALPHA, GAMMA], "labels": [-1.5, 7.25, 7.0]}, TRIPLES | {("one", GAMMA): 0}),
    ({"query": "one", "docs": [ALPHA, BETA], "labels": [1.0, 0.0]}, TRIPLES),
    ({"query": "one", "answer": ALPHA}, {("one", ALPHA): 1}),
    ({"question": "one", "answer": BETA, "label": 1}, {("one", BETA): 1}),
    ({"query": "one", "document": ALPHA, "score": 2.0}, {("one", ALPHA): 2}),
    ({"query": "one", "query_id": 7, "answers": ["no"], "query_type": "entity",
      "passages": {"is_selected": [0, 1], "passage_text": [BETA, ALPHA], "url": ["a", "b"]}}, TRIPLES),
    ({"query_id": 7, "query": "one", "positive_passages": [{"docid": "x", "title": "alpha", "text": "beta"}],
      "negative_passages": [{"docid": "y", "title": None, "text": BETA}]}, TRIPLES),
])  # fmt: skip
def test_a_layout_is_read(dataset, row, expected):
    assert judged(dataset([row])) == expected


def test_a_document_with_two_grades_is_counted_and_with_two_scores_refused(dataset):
    rows = [{"query": "one", "pos": [ALPHA], "neg": [BETA, ALPHA]}, {"query": "one", "pos": [BETA], "neg": [GAMMA]}]
    with pytest.warns(CollectionWarning, match="split train: 2 times a document has another grade .* highest counts"):
        assert judged(dataset(rows)) == TRIPLES | {("one", BETA): 1, ("one", GAMMA): 0}
    twice = [{"query": "one", "docs": [ALPHA, BETA, ALPHA], "scores": [2.5, 1.0, 2.0]}]
    with pytest.raises(CollectionError, match="split train, row 0: 'alpha beta' is there twice, with scores 2.5 and 2"):
        collections.load(dataset(twice, place="twice"))


def test_own_ids_are_kept_and_equal_texts_are_one_document(dataset):
    passage = lambda name: {"docid": name, "title": "", "text": f"text of {name}"}  # noqa: E731
    row = {"query_id": "q7", "query": "one", "positive_passages": [passage("a")], "negative_passages": [passage("b")]}
    found = collections.load(dataset([row], place="ids"))
    assert list(found.documents) == ["a", "b"] and list(found.queries) == ["q7"]
    rows = [{"query": "one", "positive": ALPHA, "negative": BETA}, {"query": "two", "positive": BETA, "negative": ALPHA},
            {"query": "one", "positive": GAMMA, "negative": ALPHA}]  # fmt: skip
    dataset(rows[:1], "test", "texts")
    name = dataset(rows, "train", "texts")
    with pytest.warns(CollectionWarning, match="split train: 1 times a document has another grade"):
        found = collections.load(name)
    assert list(found.documents.values()) == [ALPHA, BETA, GAMMA] and list(found.queries.values()) == ["one", "two"]
    assert set(found.judgements) == {"train", "test"} and len(found.judgements["test"]) == 2
    assert judged(name)["one", ALPHA] == 1  # the negative of a later row


@pytest.mark.parametrize("rows, fault", [
    ([{"query": "one", "positive": None, "negative": BETA}], "row 0: None in place of a text"),
    ([{"query": "one", "negative": ALPHA}], "row 0: lacks column 'positive'; expected query with positive"),
    ([{"query": "one", "passage": ALPHA}], "row 0: lacks column 'scores'; expected query with positive"),
    ([{"query": "one", "passage": ALPHA, "label": 0.7}], "row 0: label 0.7 of a pair is no grade"),
    ([{"query": "one", "passage": ALPHA, "label": float("nan")}], "row 0: label nan of a pair is no grade"),
    ([{"query": "one", "answer": ALPHA, "label": None}], "row 0: label None of a pair is no grade"),
    ([{"query": "one", "passages": {"passage_text": [ALPHA], "is_selected": []}}], "row 0: 1 passages, but 0 scores"),
    ([{"positive": ALPHA, "negative": BETA}], "row 0: lacks column 'query'"),
    ([{"query": "one", "positive": 3, "negative": 4}], "row 0: 3 in place of a text"),
    ([{"query": "one", "passages": [ALPHA], "scores": [1.0, 2.0]}], "row 0: 1 passages, but 2 scores"),
    ([{"query": "one", "passages": [ALPHA], "scores": [float("nan")]}], "row 0: score nan is not a finite number"),
    ([{"query": "one", "positive_passages": [{"docid": "x", "title": "alpha", "text": None}],
       "negative_passages": []}], "row 0: None in place of a text"),
    ([{"query": "one", "passages": None, "scores": [1.0]}], "row 0: passages is None; expected a list"),
    ([{"query": "one", "passages": [ALPHA], "scores": [[0.1]]}], r"row 0: score \[0.1\] is not a finite number"),
    ([{"query": "one", "pos": [datetime.date(2020, 1, 1)], "neg": []}], r"row 0: datetime.date\(2020, 1, 1\) in place"),
    ([{"query_id": 1.5, "query": "one", "positive": ALPHA}], "row 0: id 1.5 is neither a text nor a whole number"),
    ([{"query_id": "a", "query": "one", "positive": ALPHA, "negative": BETA},
      {"query_id": "a", "query": "two", "positive": ALPHA, "negative": BETA}], "row 1: id 'a' has another text"),
    ([{"query": "one", "docs": [BETA, ALPHA], "labels": [0, 1], "scores": [0.9, 0.5]}], "row 0: columns labels and scores"),
    ([{"query": "one", "passage": ALPHA, "label": 0, "score": 1}], "row 0: columns label and score both say"),
])  # fmt: skip
def test_a_faulty_row_is_named_and_nothing_is_kept(dataset, rows, fault, data_folder):
    name = dataset(rows)
    with pytest.raises(CollectionError, match=f"split train, {fault}"):
        collections.load(name)
    assert not list((data_folder / "collections").glob("hub-*"))


def test_a_column_that_is_null_says_nothing(dataset):
    rows = [{"query": "one", "passage": ALPHA, "label": 1, "score": None}]
    assert judged(dataset([*rows, {"query": "one", "passage": BETA, "label": None, "score": 0}])) == TRIPLES


def test_texts_that_differ_in_white_space_are_one_document(dataset):
    rows = [
        {"query": "one", "positive": ALPHA, "negative": BETA},
        {"query": "two", "positive": BETA, "negative": f" {ALPHA}\n"},
    ]
    name = dataset(rows)
    assert judged(name) == TRIPLES | {("two", BETA): 1, ("two", ALPHA): 0}
    assert len(collections.load(name).documents) == 2


def test_pairs_of_a_query_are_judged_together(dataset):
    rows = [{"query": "one", "passage": text, "label": label} for text, label in ((ALPHA, 1), (BETA, 0), (GAMMA, 2))]
    assert judged(dataset(rows)) == TRIPLES | {("one", GAMMA): 2}


def test_labels_that_are_all_zero_name_no_positive(dataset):
    name = dataset(
        [
            {"query": query, "docs": [ALPHA, BETA], "labels": [label, 0.0]}
            for query, label in (("one", 1.0), ("two", 0.0))
        ]
    )
    assert judged(name) == TRIPLES | {("two", ALPHA): 0, ("two", BETA): 0}
    assert not (collections.folder(name) / "scores.jsonl").exists()


def test_scores_that_are_0_and_1_in_one_row_by_chance_are_scores(dataset):
    rows = [{"query": "one", "docs": [ALPHA, BETA, GAMMA], "scores": scores} for scores in ([1.0, 1.0, 0.0],)]
    rows += [{"query": "two", "docs": [ALPHA, BETA, GAMMA], "scores": [0.9, 0.8, 0.1]}]
    name = dataset(rows)
    assert judged(name)["two", ALPHA] == 1 and judged(name)["two", BETA] == 0
    lines = (collections.folder(name) / "scores.jsonl").read_text().splitlines()
    assert [json.loads(line)["scores"] for line in lines] == [[1.0, 1.0, 0.0], [0.9, 0.8, 0.1]]


def test_two_splits_that_are_both_dev_are_refused():
    assert hub._splits({"train": [1], "validation": [2]}) == {"train": [1], "dev": [2]}
    with pytest.raises(ValueError, match="a split dev and a split validation"):
        hub._splits({"dev": [], "validation": []})


def test_an_empty_text_is_counted(dataset):
    name = dataset([{"query": "one", "positive": ALPHA, "negative": ""}])
    with pytest.warns(collections.CollectionWarning, match="1 of 2 texts are empty"):
        collections.load(name)


def test_a_configuration_is_chosen_by_name(dataset, tmp_path):
    rows = [{"query": "one", "positive": ALPHA, "negative": BETA}]
    name, folder = dataset(rows), tmp_path / "set"
    parquet.write_table(Table.from_pylist([rows[0] | {"negative": GAMMA}]), folder / "hard.parquet")
    configs = [("easy", "train-*"), ("hard", "hard.parquet")]
    lines = "".join(f'- config_name: {one}\n  data_files: "{path}"\n' for one, path in configs)
    (folder / "README.md").write_text(f"---\nconfigs:\n{lines}---\n")
    assert judged(f"{name}#easy") == TRIPLES and judged(f"{name}#hard") == {("one", ALPHA): 1, ("one", GAMMA): 0}
    with pytest.raises(CollectionError, match="pick one among.*easy"):
        collections.load(name)
    with pytest.raises(CollectionError, match="'none' not found"):
        collections.load(f"{name}#none")


def test_groups_of_triples_hold_their_own_negatives_and_train(dataset, tiny_backbone):
    draw = np.random.default_rng(0)
    text = lambda: " ".join(draw.choice(["alpha", "beta", "gamma", "delta", "mu", "nu"], 6))  # noqa: E731
    rows = [{"query": f"alpha {number}", "positive": text(), "negative_1": text(), "negative_2": text()}
            for number in range(8)]  # fmt: skip
    run = kit.experiment("info_nce", collection=dataset(rows), negatives="judgements", docs=3, group_count=8,
                         backbone=tiny_backbone, batch_size=4, max_length=32)  # fmt: skip
    found, built = collections.load(run.data.collection), targets.training_groups(run)
    for query, documents, row in zip(built.queries, built.documents, rows, strict=True):
        assert found.queries[query] == row["query"] and found.documents[documents[0]] == row["positive"]
        assert {found.documents[name] for name in documents[1:]} == {row["negative_1"], row["negative_2"]}
    assert run.key != kit.vary(run, negatives=None).key
    assert np.isfinite(kit.history(run)["loss"]).all()


def test_scores_of_lists_are_a_teachers(dataset):
    rows = [{"query": f"q{number}", "passages": [f"text {number} {place}" for place in range(4)],
             "scores": [0.25 * number, 3.5, -1.0, 2.0]} for number in range(3)]  # fmt: skip
    name = dataset(rows)
    found = collections.load(name)
    built = groups.build(found, count=3, docs=4, find=groups.judged_negatives)
    scores = targets.teacher_scores(str(collections.folder(name) / "scores.jsonl"), built, found)
    expected = {text: score for row in rows for text, score in zip(row["passages"], row["scores"], strict=True)}
    assert scores.tolist() == [[expected[found.documents[one]] for one in names] for names in built.documents]
    assert (scores[:, 0] == 3.5).all()


def test_judged_negatives_have_no_grade_and_at_most_the_depth(found):
    rows = [("q0", "d0", 1), *(("q0", f"d{number}", 0) for number in range(1, 9)), ("q1", "d1", 0), ("q0", "d9", -1)]
    frame = type(found.judgements["train"])(rows, columns=["query", "document", "grade"])
    given = groups.judged_negatives(dataclasses.replace(found, judgements={"train": frame}), ["q0"], 5)
    assert given["document"].tolist() == ["d1", "d2", "d3", "d4", "d5"] and set(given["query"]) == {"q0"}


def test_jsonl_is_read_as_parquet_is(dataset, tmp_path):
    rows = [{"query": "one", "positive": ALPHA, "negative": BETA}]
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert judged(f"hub:{tmp_path / 'lines'}") == judged(dataset(rows)) == TRIPLES


@pytest.fixture
def csv(tmp_path):
    """Writes a file of CSV as a local dataset in the hub's form; gives its name."""

    def write(text):
        (tmp_path / "table").mkdir()
        (tmp_path / "table" / "train.csv").write_text(text)
        return f"hub:{tmp_path / 'table'}"

    return write


def test_ids_and_texts_of_csv_are_as_they_are_written(csv):
    name = csv("query_id,query,passage,label\n001,2020,alpha,1\n1,true,N/A,0\n1e5,NA,2020-01-01,2\n")
    assert judged(name) == {("2020", "alpha"): 1, ("true", "N/A"): 0, ("NA", "2020-01-01"): 2}
    assert list(collections.load(name).queries) == ["001", "1", "1e5"]


def test_a_label_that_csv_lacks_is_named_with_its_row(csv):
    with pytest.raises(CollectionError, match="split train, row 1: label None of a pair is no grade"):
        collections.load(csv("query,passage,label\none,alpha,1\ntwo,beta,\n"))


def test_texts_that_became_dates_are_refused(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"query": "2020-01-01", "positive": "alpha"}\n')
    with pytest.raises(CollectionError, match="split train: datasets reads the column 'query' as timestamp"):
        collections.load(f"hub:{tmp_path}")
