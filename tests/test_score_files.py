"""Files of teacher scores: every layout comes back, every fault is named with its line, memory stays bounded."""

import gzip
import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lib.data import score_files
from lib.data.score_files import ScoreFileError

ROOT = Path(__file__).parents[1]
TEXTS = {"texts", "tuples", "flag"}
OBJECTS = ["lists", "tevatron", "tuples", "flag"]


def groups(count=7, docs=4, texts=False):
    """Ids with leading zeros, or texts with quotes and commas; float32 scores of many sizes."""
    draw = np.random.default_rng(count)
    form = 'what "is", {}? größe' if texts else "{:03d}"
    queries = np.array([form.format(number) for number in range(count)])
    documents = np.array([[form.format(100 * number + place) for place in range(docs)] for number in range(count)])
    return (
        queries,
        documents,
        (draw.normal(size=(count, docs)) * 10.0 ** draw.integers(-30, 30, (count, docs))).astype(np.float32),
    )


def pairs_file(path, rows):
    path.write_bytes(b"".join(row if isinstance(row, bytes) else (row + "\n").encode() for row in rows))
    return path


def good(number):
    return f"{number}.5\t-{number}\tq{number}\td{number}\te{number}"


def everything(path, **options):
    """All rows as plain lists: (query, documents, scores, line)."""
    return [
        (row.query, list(row.documents), np.array(row.scores, np.float32).tolist(), row.line)
        for row in score_files.read(path, **options)
    ]


@pytest.mark.parametrize("ending", ["", ".gz", ".parquet"])
@pytest.mark.parametrize("layout", score_files.LAYOUTS)
def test_what_is_written_comes_back_exactly(tmp_path, layout, ending):
    path = tmp_path / f"scores{ending}"
    queries, documents, scores = groups(texts=layout in TEXTS)
    if ending == ".parquet" and layout in ("pairs", "texts"):
        with pytest.raises(ValueError, match="parquet"):
            score_files.write(path, queries, documents, scores, layout)
        return
    score_files.write(path, queries, documents, scores, layout)
    assert score_files.layout_of(path) == layout
    rows = everything(path)
    if layout in ("pairs", "texts"):
        queries, documents, scores = (
            np.repeat(queries, 3),
            np.stack([np.repeat(documents[:, 0], 3), documents[:, 1:].ravel()], axis=1),
            np.stack([np.repeat(scores[:, 0], 3), scores[:, 1:].ravel()], axis=1),
        )
    assert [row[0] for row in rows] == queries.tolist() and [row[1] for row in rows] == documents.tolist()
    found = np.array([row[2] for row in rows], np.float32)
    np.testing.assert_array_equal(found.view(np.int32), scores.view(np.int32))
    assert [row[3] for row in rows] == list(range(1, len(queries) + 1))


def test_extreme_scores_come_back_exactly(tmp_path):
    info = np.finfo(np.float32)
    values = np.array(
        [[info.max, info.min, info.tiny, info.smallest_subnormal, 0.1, 1 / 3, -0.0, 16777217]], np.float32
    )
    documents = np.array([[f"d{number}" for number in range(values.size)]])
    for layout in score_files.ID_LAYOUTS:
        score_files.write(tmp_path / layout, ["q"], documents, values, layout)
        found = score_files.scores_of(tmp_path / layout, ["q"], documents)
        np.testing.assert_array_equal(found.view(np.int32), values.view(np.int32))


def test_published_layouts_are_read_as_published(tmp_path):
    path = tmp_path / "scores"
    path.write_text("10.25\t-3.5\t400296\t1540783\t3518497\n")
    assert everything(path) == [("400296", ["1540783", "3518497"], [10.25, -3.5], 1)]
    path.write_text('10.25\t-3.5\tis a little caffeine ok\tWe don\'t know\tIt is generally "safe"\n')
    assert score_files.layout_of(path) == "texts"
    assert everything(path)[0][1] == ["We don't know", 'It is generally "safe"']
    path.write_text('{"query_id": 54528, "document_ids": [6862419, 335116], "scores": [0.46, 1]}\n')
    assert everything(path) == [("54528", ["6862419", "335116"], [np.float32(0.46), 1.0], 1)]
    path.write_text('{"question": "a b", "answer": "c", "negative_2": "e", "negative_1": "d", "score": [3, 2, 1]}\n')
    assert everything(path) == [("a b", ["c", "d", "e"], [3, 2, 1], 1)]
    path.write_text('{"anchor": "a", "positive": "p", "negative": "n", "scores": [1.5, 0.5]}\n')
    assert everything(path) == [("a", ["p", "n"], [1.5, 0.5], 1)]
    path.write_text('{"query": "a", "positive": "p", "negative_1": "o", "negative": "n", "scores": [3, 2, 1]}\n')
    assert everything(path) == [("a", ["p", "n", "o"], [3, 2, 1], 1)]


def test_several_positives_give_a_row_each(tmp_path):
    path = tmp_path / "scores"
    passage = lambda name, score: {"docid": name, "title": "", "text": "t", "score": score}  # noqa: E731
    rows = [
        {
            "query_id": "1",
            "query": "t",
            "positive_passages": [passage("a", 3), passage("b", 2)],
            "negative_passages": [passage("c", 1)],
        },
        {
            "query_id": "2",
            "query": "t",
            "positive_passages": [passage("a", 0)],
            "negative_passages": [passage("d", 1), passage("e", 2)],
        },
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    expected = [("1", ["a", "c"], [3, 1], 1), ("1", ["b", "c"], [2, 1], 1), ("2", ["a", "d", "e"], [0, 1, 2], 2)]
    assert everything(path) == expected
    path.write_text('{"query": "t", "pos": ["a", "b"], "neg": ["c"], "pos_scores": [3, 2], "neg_scores": [1]}\n')
    assert everything(path) == [("t", ["a", "c"], [3, 1], 1), ("t", ["b", "c"], [2, 1], 1)]


def test_ids_stay_strings(tmp_path):
    path = pairs_file(tmp_path / "scores", ["1\t2\t007\t1e3\t00"])
    assert everything(path) == [("007", ["1e3", "00"], [1, 2], 1)]
    path = pairs_file(tmp_path / "scores", ["1\t2\tNA\tnull\ttrue"])
    assert everything(path) == [("NA", ["null", "true"], [1, 2], 1)]


MALFORMED = {
    "1\t2\tq\td": ("number of columns", "4; expected"),
    "": ("number of columns", "1; expected"),
    "1\t2\tq\td\te\tf": ("number of columns", "6; expected"),
    "1\t2\tq\t\te": ("empty field", "document"),
    "1\t2\t\td\te": ("empty field", "query"),
    "\t2\tq\td\te": ("not a number", "''"),
    "x\t2\tq\td\te": ("not a number", "'x'"),
    "1\t0x10\tq\td\te": ("not a number", "'0x10'"),
    "1\t1_0\tq\td\te": ("not a number", "'1_0'"),
    "nan\t2\tq\td\te": ("not finite", "nan"),
    "1\t-inf\tq\td\te": ("not finite", "-inf"),
    "1\t1e39\tq\td\te": ("not finite", "1e+39"),
    b"1\t2\tq\td\xff\te\n": ("bad UTF-8", "position 7"),
    "pos_score\tneg_score\tquery_id\tpos_id\tneg_id": ("not a number", "'pos_score'"),
}


@pytest.mark.parametrize("line", MALFORMED, ids=repr)
@pytest.mark.parametrize("at", [3, 6])
@pytest.mark.parametrize("batch", [1, 2, 3, 4096])
def test_a_malformed_line_is_named_and_skipped_wherever_batches_end(tmp_path, monkeypatch, line, at, batch):
    monkeypatch.setattr(score_files, "BATCH", batch)
    kind, what = MALFORMED[line]
    rows = [good(number) for number in range(1, 10)]
    path = pairs_file(tmp_path / "scores.tsv", [*rows[: at - 1], line, *rows[at - 1 :]])
    with pytest.raises(ScoreFileError) as caught:
        everything(path)
    assert (caught.value.line, caught.value.kind) == (at, kind)
    assert str(caught.value).startswith(f"{path}, line {at}: ") and what in str(caught.value)
    report = Counter()
    found = everything(path, skip_malformed=True, report=report)
    assert [row[0] for row in found] == [f"q{number}" for number in range(1, 10)]
    assert [row[3] for row in found] == [number for number in range(1, 11) if number != at]
    assert report == {"rows": 9, kind: 1}


OBJECT_FAULTS = [
    ("lists", {"scores": [1]}, "wrong length", "1 scores (not margins) for 2 documents"),
    ("lists", {"scores": 1}, "wrong type", "int"),
    ("lists", {"document_ids": "ab"}, "wrong type", "document_ids is of type str; expected a list"),
    ("lists", {"document_ids": {"a": 1, "b": 2}}, "wrong type", "document_ids is of type dict"),
    ("lists", {"document_ids": [], "scores": []}, "wrong length", "0 scores"),
    ("lists", {"scores": [1, "2"]}, "not a number", "'2'"),
    ("lists", {"scores": [1, None]}, "not a number", "None"),
    ("lists", {"scores": [True, 1]}, "not a number", "True"),
    ("lists", {"scores": [1, float("nan")]}, "not finite", "nan"),
    ("lists", {"scores": [1, float("inf")]}, "not finite", "inf"),
    ("lists", {"scores": [1, 10**400]}, "not finite", "1000"),
    ("lists", {"scores": [1, 1e39]}, "not finite", "1e+39"),
    ("lists", {"query_id": ""}, "empty field", "query"),
    ("lists", {"document_ids": ["a", None]}, "empty field", "document"),
    ("lists", {"document_ids": ["a", 1.5]}, "wrong type", "1.5"),
    ("lists", {"query_id": None}, "empty field", "query"),
    ("lists", {"document_ids": ["a", "\ud800"]}, "bad UTF-8", "surrogate"),
    ("tevatron", {"positive_passages": []}, "wrong length", "0 documents"),
    ("tevatron", {"negative_passages": ["a"]}, "wrong type", "string"),
    ("tevatron", {"negative_passages": [{"docid": "a"}]}, "missing column", "'score'"),
    ("tuples", {"scores": [1]}, "wrong length", "margins"),
    ("tuples", {"negative_1": None}, "empty field", "document"),
    ("tuples", {"negative": "c"}, "wrong length", "2 scores (not margins) for 3 documents"),
    ("flag", {"pos": "a"}, "wrong type", "pos is of type str"),
    ("flag", {"neg_scores": []}, "not a number", "None"),
]
SOUND = {
    "lists": {"query_id": "q", "document_ids": ["a", "b"], "scores": [1, 2]},
    "tevatron": {
        "query_id": "q",
        "positive_passages": [{"docid": "a", "score": 1}],
        "negative_passages": [{"docid": "b", "score": 2}],
    },
    "tuples": {"query": "q", "positive": "a", "negative_1": "b", "scores": [1, 2]},
    "flag": {"query": "q", "pos": ["a"], "neg": ["b"], "pos_scores": [1], "neg_scores": [2]},
}


@pytest.mark.parametrize("layout, change, kind, what", OBJECT_FAULTS)
@pytest.mark.parametrize("batch", [1, 2, 4096])
def test_a_malformed_object_is_named_and_skipped(tmp_path, monkeypatch, layout, change, kind, what, batch):
    monkeypatch.setattr(score_files, "BATCH", batch)
    sound = json.dumps(SOUND[layout])
    path = pairs_file(tmp_path / "scores", [sound, sound, json.dumps(SOUND[layout] | change), sound])
    with pytest.raises(ScoreFileError, match="line 3: ") as caught:
        everything(path)
    assert (caught.value.line, caught.value.kind) == (3, kind) and what in str(caught.value)
    report = Counter()
    found = everything(path, skip_malformed=True, report=report)
    assert found == [("q", ["a", "b"], [1, 2], line) for line in (1, 2, 4)]
    assert report == {"rows": 3, kind: 1}


@pytest.mark.parametrize(
    "line, kind",
    [
        ('{"query_id": "q"', "not JSON"),
        ("[1]", "wrong type"),
        ("", "not JSON"),
        (b'{"query_id": "\xff"}\n', "bad UTF-8"),
    ],
)
@pytest.mark.parametrize("at", [1, 2])
def test_a_line_that_is_no_object_is_named(tmp_path, line, kind, at):
    sound = json.dumps(SOUND["lists"])
    path = pairs_file(tmp_path / "scores", [*[sound] * (at - 1), line, sound])
    with pytest.raises(ScoreFileError) as caught:
        everything(path)
    assert (caught.value.line, caught.value.kind) == (at, kind)
    assert len(everything(path, skip_malformed=True)) == at


@pytest.mark.parametrize("layout", OBJECTS)
def test_a_missing_key_is_a_missing_column(tmp_path, layout):
    for key in SOUND[layout]:
        short = {name: value for name, value in SOUND[layout].items() if name != key}
        for rows, at in (([SOUND[layout], short], 2), ([short, SOUND[layout]], 1)):  # also in the first row
            path = pairs_file(tmp_path / "scores", map(json.dumps, rows))
            with pytest.raises(ScoreFileError, match="missing column") as caught:
                everything(path)
            assert (caught.value.line, caught.value.kind) == (at, "missing column")


def test_parquet_rows_are_named(tmp_path):
    rows = [{"query_id": number, "document_ids": [1, 2], "scores": [1.0, 2.0]} for number in range(3000)]
    rows[2500]["scores"] = [1.0, float("nan")]
    path = tmp_path / "scores.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(ScoreFileError, match="row 2501: .*nan"):
        everything(path)
    found = everything(path, skip_malformed=True)
    assert len(found) == 2999 and found[2500] == ("2501", ["1", "2"], [1, 2], 2502)
    pq.write_table(pa.table({"query_id": ["a"], "positive_id": ["b"], "negative_id": ["c"], "score": [1.0]}), path)
    with pytest.raises(ScoreFileError, match="no known layout"):
        everything(path)


def test_skips_are_counted_by_kind_and_said(tmp_path, capsys):
    bad = ["1\t2\tq\td", "x\t2\tq\td\te", "nan\t2\tq\td\te", "y\t2\tq\td\te"]
    path = pairs_file(tmp_path / "scores", [good(1), *bad, good(2)])
    report = Counter()
    assert len(everything(path, skip_malformed=True, report=report)) == 2
    assert report == {"rows": 2, "number of columns": 1, "not a number": 2, "not finite": 1}
    said = capsys.readouterr().err
    assert f"{path}: malformed lines are left out" in said and "'not a number': 2" in said and "'rows': 2" in said


def test_unknown_ids_are_faults(tmp_path):
    path = pairs_file(tmp_path / "scores", [good(number) for number in range(1, 6)])
    queries = {f"q{number}": "text" for number in range(1, 6)}
    documents = [f"{side}{number}" for side in "de" for number in range(1, 6)]
    assert len(everything(path, known=(queries, documents))) == 5
    assert len(everything(path, known=(None, documents))) == 5
    for known, line, what in (
        ((queries.keys() - {"q4"}, None), 4, "query 'q4'"),
        ((None, [name for name in documents if name != "d3"]), 3, "document 'd3'"),
        ((queries, {"d1", "d2", "e1"}), 2, "document 'e2'"),
    ):
        with pytest.raises(ScoreFileError, match=f"line {line}: unknown id: {what}") as caught:
            everything(path, known=known)
        assert caught.value.kind == "unknown id"
    report = Counter()
    found = everything(path, known=({"q1", "q5"}, None), skip_malformed=True, report=report)
    assert [row[0] for row in found] == ["q1", "q5"] and report == {"rows": 2, "unknown id": 3}
    path = pairs_file(tmp_path / "scores", [json.dumps(SOUND["lists"])])
    with pytest.raises(ScoreFileError, match="line 1: unknown id: document 'b'"):
        everything(path, known=({"q"}, {"a"}))


@pytest.mark.parametrize("batch", [1, 2, 7, 4096])
def test_how_a_file_is_cut_changes_nothing(tmp_path, monkeypatch, batch):
    rows = [good(number) for number in range(50)]
    plain = pairs_file(tmp_path / "plain", rows)
    expected = everything(plain)
    assert [row[0] for row in expected] == [f"q{number}" for number in range(50)]
    windows, marked, unended, packed = (tmp_path / name for name in ("windows", "marked", "unended", "packed"))
    windows.write_bytes(plain.read_bytes().replace(b"\n", b"\r\n"))
    marked.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes())
    unended.write_bytes(plain.read_bytes()[:-1])
    packed.write_bytes(gzip.compress(plain.read_bytes()[:300]) + gzip.compress(plain.read_bytes()[300:]))  # two members
    monkeypatch.setattr(score_files, "BATCH", batch)
    for path in (plain, windows, marked, unended, packed):
        assert everything(path) == expected


def test_random_damage_is_found_alike_whatever_the_batch(tmp_path, monkeypatch):
    """The fast parse and the look at single lines agree on files with bytes changed at random."""
    draw = np.random.default_rng(0)
    sound = "".join(good(number) + "\n" for number in range(10)).encode()
    for trial in range(60):
        damaged = bytearray(sound)
        for place in draw.integers(0, len(sound), 3):
            damaged[place] = draw.choice(list(b'\t\n\r "+-.05eEnaif\x00\x0b\xc3\xef\xff'))
        path = tmp_path / "scores"
        path.write_bytes(bytes(damaged))
        seen = []
        for batch in (1, 3, 4096):
            monkeypatch.setattr(score_files, "BATCH", batch)
            report = Counter()
            seen.append((everything(path, skip_malformed=True, report=report), report))
        assert seen[0] == seen[1] == seen[2], trial
        assert report.total() == damaged.count(b"\n") + (not damaged.endswith(b"\n"))


def test_lists_of_several_lengths_keep_their_order(tmp_path):
    rows = [
        {"query_id": str(number), "document_ids": list(range(docs)), "scores": [0.5] * docs}
        for number, docs in enumerate([2, 2, 3, 1, 1, 2])
    ]
    path = pairs_file(tmp_path / "scores", map(json.dumps, rows))
    assert [len(row[2]) for row in everything(path)] == [2, 2, 3, 1, 1, 2]
    assert [row[0] for row in everything(path)] == list("012345")


def test_a_file_without_rows_is_an_error(tmp_path):
    path = tmp_path / "scores"
    for content in (b"", gzip.compress(b""), b"1\t2\tq\td\n", b'{"a": 1}\n'):
        path.write_bytes(content)
        with pytest.raises(
            ScoreFileError, match=f"{path}: empty or of no known layout; expected pos_score, .* or a column"
        ):
            everything(path)
    path.write_text("1\tx\tq\td\te\n")
    with pytest.raises(ScoreFileError, match="no sound row; .*'not a number': 1"):
        everything(path, skip_malformed=True)
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(ScoreFileError, match="missing, broken off"):
            everything(missing)
        with pytest.raises(ScoreFileError, match="there is no file"):
            score_files.fingerprint(missing)


def test_broken_off_files_are_errors(tmp_path):
    path = tmp_path / "scores.gz"
    whole = gzip.compress("".join(good(number) + "\n" for number in range(2000)).encode())
    for content in (whole[:-4], whole[: len(whole) // 2], whole[:-8] + b"12345678"):
        path.write_bytes(content)
        with pytest.raises(ScoreFileError, match="broken off or damaged"):
            everything(path)
    path.write_bytes(b"PAR1" + bytes(30))
    with pytest.raises(ScoreFileError, match="broken off or damaged"):
        everything(path)


def test_a_file_without_lines_does_not_fill_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(score_files, "LONGEST", 1000)
    path = pairs_file(tmp_path / "scores", [good(1), "x" * 5000])
    with pytest.raises(ScoreFileError, match="a line is longer"):
        everything(path)


def test_other_keys_do_not_decide_the_layout(tmp_path):
    path = tmp_path / "scores.jsonl"
    path.write_text(
        '{"query_id": 1, "query": "t", "negative": "z", "pos": [], "document_ids": ["p", "n"], "scores": [1, 2]}'
    )
    assert score_files.layout_of(path) == "lists" and next(iter(score_files.read(path))).documents == ["p", "n"]


@pytest.mark.parametrize("layout", score_files.ID_LAYOUTS)
def test_scores_are_looked_up_in_any_order(tmp_path, layout):
    queries, documents, scores = groups(20, 5)
    path = tmp_path / "scores.gz"
    score_files.write(path, queries, documents, scores, layout)
    order, columns = np.array([13, 2, 2, 19]), np.array([4, 0, 0, 2])
    found = score_files.scores_of(path, queries[order], documents[order][:, columns])
    np.testing.assert_array_equal(found, scores[order][:, columns])
    assert found.dtype == np.float32
    assert score_files.scores_of(path, queries[:0], documents[:0]).shape == (0, 5)


def test_missing_pairs_are_counted_and_the_first_is_named(tmp_path):
    path = pairs_file(tmp_path / "scores", [good(1), good(2)])
    wanted = np.array([["d1", "e1"], ["d1", "e2"], ["d2", "zz"]])
    with pytest.raises(
        ScoreFileError, match="no score for 2 of 6 pairs of query and document; the first is .'q2', 'd1'"
    ):
        score_files.scores_of(path, np.array(["q1", "q2", "q2"]), wanted)
    path = pairs_file(tmp_path / "scores", ["1\t2\ta b\tc d\te f"])
    with pytest.raises(ScoreFileError, match="files with ids"):
        score_files.scores_of(path, np.array(["a b"]), np.array([["c d", "e f"]]))
    with pytest.raises(ValueError, match="expected"):
        score_files.scores_of(path, np.array(["a", "b"]), np.array([["c", "d"]]))


def test_scores_of_one_pair_must_agree(tmp_path):
    rows = ["1.00001\t0\tq\td\te", "5\t6\tother\td\te", "1\t2\tq\td\tf", "1.5\t3\tq\td\tg"]
    path, wanted = pairs_file(tmp_path / "scores", rows), np.array([["d", "f", "g"]])
    with pytest.raises(
        ScoreFileError, match="line 4: query 'q' and document 'd' have the score 1.5 here and 1.00001"
    ) as caught:
        score_files.scores_of(path, ["q"], wanted)
    assert caught.value.line == 4
    found = score_files.scores_of(path, ["q"], wanted, tolerance=1.0)
    np.testing.assert_array_equal(found, np.array([[1.00001, 2, 3]], np.float32))  # the first stands
    np.testing.assert_array_equal(score_files.scores_of(path, ["other"], wanted[:, :1]), [[5]])  # others are not asked
    rows = [{"query_id": "q", "document_ids": ["d"], "scores": [score]} for score in (1.0, 2.0)]
    pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(ScoreFileError, match="scores, row 2: query 'q'"):
        score_files.scores_of(path, ["q"], [["d"]])


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    path = tmp_path / "scores"
    for queries, documents, scores, layout, what in (
        (["q"], [["a", "b\tc"]], [[1, 2]], "pairs", "tab or a line end"),
        (["q\n"], [["a", "b"]], [[1, 2]], "pairs", "tab or a line end"),
        (["q"], [["a", "b c"]], [[1, 2]], "pairs", "group 0: .* an id has a space.*; give layout='lists'"),
        (["q"], [["a", ""]], [[1, 2]], "lists", "empty"),
        (["q"], [["a", "\ud800"]], [[1, 2]], "lists", "surrogate"),
        (["q", "r"], [["a", "b"]] * 2, [[1, 2], [1, np.nan]], "lists", "group 1: not finite"),
        (["q"], [["a", "b"]], [[1, 1e300]], "pairs", "not finite"),
        (["q"], [["a"]], [[1]], "pairs", "2 documents"),
        ([], np.empty((0, 2)), np.empty((0, 2)), "pairs", "expected"),
        (["q"], [["a", "b"]], [[1]], "pairs", "expected"),
        (["q"], [["a", "b"]], [[1, 2]], "pear", "layout"),
    ):
        with pytest.raises(ValueError, match=what):
            score_files.write(path, queries, documents, scores, layout)
    assert list(tmp_path.iterdir()) == []


def test_tabs_in_texts_become_spaces_where_tabs_separate(tmp_path):
    path, row = tmp_path / "scores", (["a\tb"], [["c\r\n\td", "e f"]], [[1, 2]])
    score_files.write(path, *row, "texts")
    assert everything(path) == [("a b", ["c d", "e f"], [1, 2], 1)]
    score_files.write(path, *row, "tuples")
    assert everything(path) == [("a\tb", ["c\r\n\td", "e f"], [1, 2], 1)]


def test_equal_content_has_an_equal_fingerprint(tmp_path):
    rows = groups()
    for name in ("a.gz", "b.gz", "c"):
        score_files.write(tmp_path / name, *rows)
    prints = [score_files.fingerprint(tmp_path / name) for name in ("a.gz", "b.gz", "c")]
    assert prints[0] == prints[1] != prints[2] == hashlib.sha256((tmp_path / "c").read_bytes()).hexdigest()


MEASURE = """
import sys
from lib.data import score_files
peak = lambda: int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
first = None
rows = 0
for row in score_files.read(sys.argv[1]):
    rows += 1
    if first is None and rows >= 70_000:
        first = peak()
print(rows, first, peak(), "pandas" in sys.modules)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("layout", ["pairs", "lists"])
def test_memory_does_not_follow_the_rows(tmp_path, layout):
    line = {
        "pairs": "{0}.25\t-{0}\t{0}\t1{0}\t2{0}\n",
        "lists": '{{"query_id": {0}, "document_ids": [1{0}, 2{0}], "scores": [{0}, 1]}}\n',
    }[layout]
    peaks = []
    for rows in (100_000, 400_000):
        path = tmp_path / str(rows)
        path.write_text("".join(line.format(number) for number in range(rows)))
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, path], cwd=ROOT, capture_output=True, text=True, check=True
        )
        counted, early, peak, pandas = done.stdout.split()
        assert int(counted) == rows and pandas == "False"
        assert float(peak) - float(early) < 16  # MiB; 300,000 more rows held as strings would be over 60
        peaks.append(float(peak))
    assert abs(peaks[1] - peaks[0]) < 16
