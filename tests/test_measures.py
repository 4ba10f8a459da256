"""Measures against hand-worked rankings, and the tie rule."""

import math
from dataclasses import replace

import ir_measures
import numpy as np
import pandas as pd
import pytest

from lib.analysis import measures
from lib.data.collections import Collection


def collection(grades: dict[str, dict[str, int]]) -> Collection:
    rows = [(query, document, grade) for query, some in grades.items() for document, grade in some.items()]
    judged = pd.DataFrame(rows, columns=["query", "document", "grade"])
    return Collection("hand", "0", {}, dict.fromkeys(grades, ""), {"test": judged}, 1, "", "")


def values(ranking, grades):
    """Measures of one query whose documents are ranked in the given order."""
    run = pd.DataFrame({"query": "q", "document": ranking, "score": range(len(ranking), 0, -1)})
    found = measures.measure(run, collection({"q": grades}), "test", ["q"])
    return dict(zip(found["measure"], found["value"], strict=True))


def test_the_relevant_document_third():
    found = values(["a", "b", "c"], {"c": 1})
    assert found["RR@10"] == pytest.approx(1 / 3)
    assert found["nDCG@10"] == pytest.approx(1 / math.log2(4))
    assert found["R@10"] == 1


def test_graded_judgements_with_linear_gain():
    ranked = {"a": 3, "b": 0, "c": 2, "d": 0, "e": 1}
    found = values(list(ranked), {**ranked, "f": 3})
    gain = 3 + 2 / math.log2(4) + 1 / math.log2(6)
    ideal = 3 + 3 / math.log2(3) + 2 / math.log2(4) + 1 / math.log2(5)
    assert found["nDCG@10"] == pytest.approx(gain / ideal)
    assert found["nDCG@10"] == pytest.approx(0.6937418391984792)  # trec_eval's convention
    assert found["R@10"] == pytest.approx(3 / 4)


def test_nothing_relevant_and_nothing_found():
    assert set(values(["a", "b"], {"c": 1}).values()) == {0}
    assert set(values(["a", "b"], {"a": 0}).values()) == {0}
    run = pd.DataFrame({"query": ["q"], "document": ["a"], "score": [1.0]})
    found = measures.measure(run, collection({"q": {"a": 1}, "unanswered": {"a": 1}}), "test", ["q", "unanswered"])
    assert found["value"].tolist() == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("grade", [-1, -2, -9999])
def test_a_grade_below_zero_counts_as_not_relevant(grade):
    assert values(["a", "b"], {"a": grade, "b": 1}) == values(["a", "b"], {"a": 0, "b": 1})
    assert set(values(["a", "b"], {"a": grade}).values()) == {0}  # of such a query alone pytrec_eval crashed


def test_beyond_ten_counts_for_nothing():
    found = values([f"d{number:02}" for number in range(12)], {"d10": 1})
    assert set(found.values()) == {0}


@pytest.mark.parametrize("relevant", ["a", "b"])
def test_equal_scores_are_ranked_by_document_for_every_measure(relevant):
    run = pd.DataFrame({"query": "q", "document": ["b", "a"], "score": [1.0, 1.0]})
    found = measures.measure(run, collection({"q": {relevant: 1}}), "test", ["q"]).set_index("measure")["value"]
    place = {"a": 1, "b": 2}[relevant]
    assert found["RR@10"] == 1 / place
    assert found["nDCG@10"] == pytest.approx(1 / math.log2(place + 1))


def test_only_the_order_matters():
    draw = np.random.default_rng(0)
    run = pd.DataFrame(
        {"query": "q", "document": [f"d{number}" for number in range(30)], "score": draw.normal(size=30)}
    )
    judged = collection({"q": {"d3": 2, "d17": 1}})
    squeezed = run.assign(score=np.tanh(run["score"]) * 1e-6)
    first, second = (measures.measure(some, judged, "test", ["q"]) for some in (run, squeezed))
    pd.testing.assert_frame_equal(first, second)


def test_a_score_that_is_not_finite_is_named():
    run = pd.DataFrame({"query": ["q"], "document": ["a"], "score": [np.nan]})
    with pytest.raises(ValueError, match="query 'q', document 'a'.*not finite"):
        measures.rank(run)


def test_a_document_ranked_twice_is_named():
    run = pd.DataFrame({"query": ["q", "q"], "document": ["a", "a"], "score": [1.0, 2.0]})
    with pytest.raises(ValueError, match="document 'a' is ranked twice"):
        measures.rank(run)


def test_the_grade_that_counts_is_part_of_the_measures_name():
    graded = replace(collection({"q": {"a": 1, "b": 0, "c": 2}}), relevant_grade=2)
    run = pd.DataFrame({"query": "q", "document": ["a", "b", "c"], "score": [3.0, 2.0, 1.0]})
    found = measures.measure(run, graded, "test", ["q"]).set_index("measure")["value"]
    assert list(found.index) == ["nDCG@10", "RR(rel=2)@10", "R(rel=2)@10"]
    assert found["RR(rel=2)@10"] == pytest.approx(1 / 3) and found["R(rel=2)@10"] == 1
    assert found["nDCG@10"] == pytest.approx(values(["a", "b", "c"], {"a": 1, "b": 0, "c": 2})["nDCG@10"])


def test_a_measure_is_named_with_or_without_its_grade_and_never_misspelt():
    assert measures.named("RR@10", ["nDCG@10", "RR@10"]) == "RR@10"
    assert measures.named("RR@10", ["RR(rel=2)@10"]) == measures.named("RR(rel=2)@10", ["RR(rel=2)@10"])
    assert measures.named("RR@10", ["RR@10", "RR(rel=2)@10"]) == "RR@10"
    for wrong, names in (("RR@1", ["RR@10"]), ("rr@10", ["RR@10"]), ("RR@10", ["RR(rel=2)@10", "RR(rel=3)@10"])):
        with pytest.raises(ValueError, match="there are RR"):
            measures.named(wrong, names)


def test_trec_eval_breaks_ties_of_a_written_run_as_the_kit_does(tmp_path):
    draw = np.random.default_rng(0)
    rows = [(f"q{query}", f"d{number:02}") for query in range(20) for number in range(30)]
    run = pd.DataFrame(rows, columns=["query", "document"]).assign(score=draw.integers(0, 3, len(rows)).astype(float))
    judged = run[["query", "document"]].assign(grade=draw.integers(0, 4, len(rows)) // 3)
    found = Collection("x", "", {}, {}, {"test": judged}, 1, "", "")
    measures.write_trec(run, judged, tmp_path / "x.trec", "tag")
    own = measures.measure(run, found, "test", list(run["query"].unique()))
    lines = [line.split() for line in (tmp_path / "x.trec").read_text().splitlines()]
    assert {len(line) for line in lines} == {6} and {line[1] for line in lines} == {"Q0"}
    scores = pd.DataFrame({"query": [line[0] for line in lines], "score": np.float32([line[4] for line in lines])})
    assert (scores.groupby("query")["score"].diff().dropna() < 0).all()

    def calculated(path):
        qrels = list(ir_measures.read_trec_qrels(str(tmp_path / "x.qrels")))
        names = map(ir_measures.parse_measure, measures.MEASURES)
        values = ir_measures.iter_calc(names, qrels, list(ir_measures.read_trec_run(str(path))))
        found = {(value.query_id, str(value.measure)): value.value for value in values}
        return np.array([found[query, name] for query, name in own[["query", "measure"]].to_numpy()])

    np.testing.assert_allclose(calculated(tmp_path / "x.trec"), own["value"], atol=1e-6, rtol=1e-5)
    plain = "".join(f"{row.query} Q0 {row.document} 1 {row.score} tag\n" for row in run.itertuples())
    (tmp_path / "plain.trec").write_text(plain)
    assert np.abs(calculated(tmp_path / "plain.trec") - own["value"]).max() > 0.1  # ties broken the other way


def test_ids_with_quotation_marks_are_written_as_they_are(tmp_path):
    run = pd.DataFrame({"query": "q", "document": ['<"A"_is>', "b"], "score": [2.0, 1.0], "grade": [2, 0]})
    measures.write_trec(run, run, tmp_path / "x.trec", "tag")
    assert (tmp_path / "x.qrels").read_text() == 'q 0 <"A"_is> 2\nq 0 b 0\n'
    assert (tmp_path / "x.trec").read_text().split()[2] == '<"A"_is>'


@pytest.mark.parametrize(
    ("change", "says"), [({"document": "a b"}, "'a b': spaces"), ({"score": float("nan")}, "not finite")]
)
def test_what_a_trec_run_cannot_hold_is_refused(change, says, tmp_path):
    run = pd.DataFrame([{"query": "q", "document": "d", "score": 1.0, "grade": 1} | change])
    with pytest.raises(ValueError, match=says):
        measures.write_trec(run, run, tmp_path / "x.trec", "tag")
    assert not list(tmp_path.iterdir())


def test_a_measure_is_selected_by_the_name_that_each_collection_has():
    rows = [("a", "RR@10"), ("a", "nDCG@10"), ("graded", "RR(rel=2)@10"), ("graded", "nDCG@10")]
    table = pd.DataFrame(rows, columns=["collection", "measure"]).assign(query="q1", value=0.5)
    costs = pd.DataFrame([{"collection": "", "measure": "train_seconds", "query": "", "value": 3.0}])
    found = measures.select(pd.concat([table, costs]), "RR@10")
    assert found[["collection", "measure"]].to_numpy().tolist() == [["a", "RR@10"], ["graded", "RR(rel=2)@10"]]
    with pytest.raises(ValueError, match="measure 'RR': unknown"):
        measures.select(table, "RR")
