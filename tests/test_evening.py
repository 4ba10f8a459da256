"""The evening's table: what it lacks is computed once, what it has is kept, and comparisons take the common seeds."""

import os
import sys
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib.analysis import significance
from lib.study import evening, judging, profiles, ways
from lib.study.evening import Entry
from lib.study.experiment import TestSet, Untrained, vary


@pytest.fixture
def tiny(experiment, tiny_collection, monkeypatch):
    """A plan of BM25, two rankers with two seeds and one of one seed, on one test set."""
    other = vary(experiment, strategy="ranknet")
    entries = [Entry("students", "bm25", None)]
    entries += [
        Entry("students", run.strategy.name, run.with_seed(seed)) for seed in (0, 1) for run in (experiment, other)
    ]
    entries += [Entry("students", "untrained", Untrained(experiment.model))]
    monkeypatch.setattr(evening, "plan", lambda _: iter(entries))
    monkeypatch.setattr("lib.study.ways.CORRUPTIONS", ())
    monkeypatch.setattr(evening, "tests", lambda _: (TestSet(tiny_collection, queries=8, depth=10),))
    return entries


def test_a_table_is_made_read_and_needs_nothing_more(tiny, tmp_path, monkeypatch):
    path = tmp_path / "table.parquet"
    evening.extend(path, None)
    table = evening.read(path)
    quality = table[table["query"] != ""]
    assert set(quality["ranker"]) == {"bm25", "info_nce", "ranknet", "untrained"}
    assert len(quality) == 6 * 8 * 3 and not quality.duplicated(["run", "query", "measure"]).any()
    assert {"commit", "device", "train_seconds"} <= set(table["measure"])
    monkeypatch.setattr("lib.study.tables.results", lambda *_: pytest.fail("computed again"))
    evening.extend(path, None)
    pd.testing.assert_frame_equal(evening.read(path), table)


def test_an_evening_cut_short_keeps_what_it_has(tiny, tmp_path, monkeypatch):
    path, results = tmp_path / "table.parquet", evening.tables.results

    def some(grid, tests):
        if grid[0].seed == 1:
            raise KeyboardInterrupt
        return results(grid, tests)

    monkeypatch.setattr("lib.study.tables.results", some)
    with pytest.raises(KeyboardInterrupt):
        evening.extend(path, None)
    kept = evening.read(path)
    assert set(kept["ranker"]) == {"bm25", "info_nce", "ranknet"} and set(kept["seed"]) == {0}
    monkeypatch.setattr("lib.study.tables.results", results)
    evening.extend(path, None)
    pd.testing.assert_frame_equal(evening.read(path).head(len(kept)), kept)
    assert evening.lacking(evening.read(path), None) == []


def test_two_evenings_at_once_keep_the_rows_of_both(tiny, tmp_path, monkeypatch):
    path, results, sizes = tmp_path / "table.parquet", evening.tables.results, tiny[1].ranker
    tiny[1] = replace(tiny[1], question="sizes")

    def meanwhile(grid, tests):
        monkeypatch.setattr("lib.study.tables.results", results)
        evening.extend(path, None, ["sizes"])
        return results(grid, tests)

    monkeypatch.setattr("lib.study.tables.results", meanwhile)
    evening.extend(path, None, ["students"])
    assert sizes in set(evening.read(path).query("question == 'sizes'")["ranker"])
    assert evening.lacking(evening.read(path), None) == [] and [*tmp_path.glob(".*")] == []


def test_a_table_that_cannot_be_written_or_is_none_is_one_error_before_any_run(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(profiles, "named", lambda _: None)
    monkeypatch.setattr("lib.study.tables.results", lambda *_: pytest.fail("computed"))
    monkeypatch.setattr("lib.study.tables.first_stage", lambda *_: pytest.fail("computed"))
    pd.DataFrame({"ranker": ["a"]}).to_parquet(tmp_path / "other.parquet")
    (tmp_path / "file").write_text("")
    for out, said in (("other.parquet", "it lacks the columns architecture, collection"),
                      ("file/table.parquet", "file")):  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["evening", "--profile", "smoke", "--out", str(tmp_path / out)])
        with pytest.raises(SystemExit):
            evening.main()
        error = capsys.readouterr().err
        assert "error:" in error and said in error and "Traceback" not in error


def test_the_runs_for_some_questions_alone(tiny, tmp_path, monkeypatch, capsys):
    path = tmp_path / "table.parquet"
    tiny[1] = replace(tiny[1], question="sizes")
    evening.extend(path, None, ["sizes"])
    assert set(evening.read(path)["ranker"]) == {tiny[1].ranker}
    assert [entry for entry, _ in evening.lacking(evening.read(path), None)] == [tiny[0], *tiny[2:]]
    monkeypatch.setattr(sys, "argv", ["evening", "--profile", "smoke", "--out", str(path), "--questions", "size"])
    with pytest.raises(SystemExit):
        evening.main()
    assert "--questions 'size': give some of students, sizes" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["evening", "--profile", "smoke", "--out", os.path.relpath(evening.TABLE)])
    with pytest.raises(SystemExit):
        evening.main()
    assert "the project's table has the laptop profile's settings" in capsys.readouterr().err


def test_an_evening_that_has_no_model_yet_goes_on(tiny, tmp_path, monkeypatch):
    """BM25 and the ideal ranking come first, and have no precision."""
    whole = list(tiny)
    tiny[:] = whole[:1]
    evening.extend(tmp_path / "table.parquet", None)
    tiny[:] = whole[:2]
    evening.extend(tmp_path / "table.parquet", None)
    assert set(evening.read(tmp_path / "table.parquet")["ranker"]) == {"bm25", "info_nce"}


def test_rows_of_other_settings_are_replaced(tiny, tmp_path):
    path = tmp_path / "table.parquet"
    evening.extend(path, None)
    before = evening.read(path)
    tiny[1] = Entry("students", "info_nce", vary(tiny[1].run, learning_rate=2e-3))
    evening.extend(path, None)
    after = evening.read(path)
    assert len(after) == len(before)
    changed = set(after["run"]) - set(before["run"])
    assert changed == {tiny[1].run.key}
    assert set(before["run"]) - set(after["run"]) == set(before.query("ranker == 'info_nce' and seed == 0")["run"])


def test_another_precision_is_refused(tiny, tmp_path, monkeypatch):
    path = tmp_path / "table.parquet"
    evening.extend(path, None)
    monkeypatch.setattr("lib.machine.hardware.precision", lambda: "fp8")
    with pytest.raises(ValueError, match="computed with precision .*this machine has fp8: give another file"):
        evening.extend(path, None)


def table_of(values):
    """(ranker, seed, collection) -> values by query."""
    rows = [
        {"ranker": ranker, "run": f"{ranker} {seed}", "configuration": ranker, "seed": seed, "collection": collection,
         "query": f"q{number}", "measure": "RR@10", "value": value}
        for (ranker, seed, collection), own in values.items() for number, value in enumerate(own)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_query_that_is_corrupted_in_several_ways_counts_once():
    table = table_of({("a", 0, "typos:x"): [0.5, 1.0], ("a", 0, "fewer:x"): [0.0, 0.5], ("a", 0, "y"): [1.0],
                      ("b", 0, "typos:x"): [0.0, 0.0], ("b", 0, "fewer:x"): [0.0, 0.0], ("b", 0, "y"): [0.0]}
                     ).assign(paradigm="contrastive")  # fmt: skip
    found = judging.differences(table, "RR@10", ["typos:x", "fewer:x", "y"], "a", "b")["a"]
    assert found.to_dict() == {("x q0", 0): 0.25, ("x q1", 0): 0.75, ("y q0", 0): 1.0}
    lacking = table[(table["ranker"] != "b") | (table["collection"] != "fewer:x")]
    with pytest.raises(ValueError, match="the table lacks queries of 'a' or 'b'"):
        judging.differences(lacking, "RR@10", ["typos:x", "fewer:x"], "a", "b")


def test_differences_are_of_the_common_seeds_and_of_all_collections():
    table = table_of({
        ("a", 0, "x"): [0.5, 1.0], ("a", 1, "x"): [0.25, 1.0], ("a", 2, "x"): [0.0, 0.0], ("a", 0, "y"): [1.0],
        ("a", 1, "y"): [0.5], ("a", 2, "y"): [0.0], ("b", 0, "x"): [0.0, 0.5], ("b", 1, "x"): [0.0, 0.0],
        ("b", 0, "y"): [0.0], ("b", 1, "y"): [0.5], ("once", 0, "x"): [0.0, 1.0], ("once", 0, "y"): [1.0],
        ("fixed", 0, "x"): [0.0, 1.0],
    })  # fmt: skip
    table["paradigm"] = table["ranker"].map({"fixed": "zero-shot"}).fillna("contrastive")
    found = judging.differences(table, "RR@10", ["x", "y"], "a", "b")["a"]
    assert found.to_dict() == {("x q0", 0): 0.5, ("x q0", 1): 0.25, ("x q1", 0): 0.5, ("x q1", 1): 1.0,
                               ("y q0", 0): 1.0, ("y q0", 1): 0.0}  # fmt: skip
    assert len(judging.differences(table, "RR@10", ["x"], "a", "fixed")) == 2 * 3
    assert len(judging.differences(table, "RR@10", ["x"], "a", "once")) == 2  # another seed of it is not known
    with pytest.raises(ValueError, match="not both of 'a' and 'c'"):
        judging.differences(table, "RR@10", ["x"], "a", "c")
    with pytest.raises(ValueError, match="'a' and 'once' with no seed in common"):
        judging.differences(table[(table["ranker"] == "once") | (table["seed"] > 0)], "RR@10", ["x"], "a", "once")
    fewer = table[(table["ranker"] != "b") | (table["collection"] != "y") | (table["seed"] == 0)]
    assert len(judging.differences(fewer, "RR@10", ["y"], "a", "b")) == 1  # its seeds on x do not count
    lacking = table[(table["ranker"] != "fixed") | (table["query"] != "q1")]
    for collections in (["x"], ["x", "y"]):
        with pytest.raises(ValueError, match="the table lacks queries of 'a' or 'fixed' on x"):
            judging.differences(lacking, "RR@10", collections, "a", "fixed")


def test_a_claim_of_two_machines_says_so_and_is_no_warning():
    """Seeds that are not compared do not count."""
    table = table_of({
        ("a", 0, "x"): [0.5, 1.0], ("b", 0, "x"): [0.0, 0.5], ("b", 1, "x"): [0.0, 0.5], ("c", 0, "x"): [0.5, 0.5],
    })  # fmt: skip
    made = pd.DataFrame([
        {"run": f"{ranker} {seed}", "ranker": ranker, "seed": seed, "collection": "", "query": "", "measure": "device",
         "text": device}
        for ranker, seed, device in [("a", 0, "one"), ("b", 0, "one"), ("b", 1, "two"), ("c", 0, "two")]
    ])  # fmt: skip
    table = pd.concat([table.assign(paradigm="contrastive", text=""), made])
    claims = {"alike": ("b", "a"), "unlike": ("c", "a")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verdicts = judging.judged(table, "RR@10", claims, {"here": ["x"]})
    assert judging.stated(verdicts)["devices"].to_dict() == {"alike": 1, "unlike": 2}


def test_a_claim_is_corrected_within_its_family():
    """Noise beside it changes its verdict in one family, and not in another."""
    draw, seeds = np.random.default_rng(0), range(4)
    base = draw.normal(0.5, 0.1, 200)
    values = {("base", seed, "x"): base for seed in seeds} | {
        ("ahead", seed, "x"): base + draw.normal(0.007, 0.04, 200) for seed in seeds
    }
    noise = {f"noise {n}": draw.normal(0, 0.04, 200) for n in range(30)}
    values |= {
        (name, seed, "x"): base + own + draw.normal(0, 0.04, 200) for name, own in noise.items() for seed in seeds
    }
    table = table_of(values).assign(paradigm="contrastive", text="")
    device = table.drop_duplicates(["ranker", "seed"]).assign(query="", measure="device", text="one")
    claims = {"claim": ("ahead", "base"), **{name: (name, "base") for name in noise}}
    verdicts = judging.judged(pd.concat([table, device]), "RR@10", claims, {"here": ["x"]}, {"claim": "A"})
    claim = verdicts.set_index("claim").loc["claim"]
    assert (claim["family"], claim["verdict"]) == ("A", "better") and claim["over_all"] != "better"
    alone = significance.contrasts(judging.differences(table, "RR@10", ["x"], "ahead", "base")).iloc[0]
    assert claim["p"] == alone["p"] and set(verdicts["family"]) == {"A", "own"}


@pytest.mark.parametrize("name", ["smoke", "laptop"])
def test_the_plan_has_every_run_once_and_pairs_of_equal_seeds(name, packages):
    entries = list(evening.plan(profiles.named(name)))
    assert len({entry.key for entry in entries}) == len(entries)
    seeds = pd.DataFrame([(entry.ranker, entry.seed) for entry in entries]).groupby(0)[1].apply(list)
    assert all(own == list(range(len(own))) for own in seeds)
    counts = {"laptop": [5] * 6, "smoke": [2] * 3 + [1] * 3}
    assert [len(seeds[strategy]) for strategy in evening.STUDENTS] == counts[name]


def test_the_committed_table_is_whole():
    """One configuration per ranker; the seeds of what is compared by query are there on every collection."""
    quality = evening.read().query("query != ''")
    assert not quality.duplicated(["ranker", "seed", "collection", "query", "measure"]).any()
    assert quality.groupby("ranker")["configuration"].nunique().max() == 1
    clean = quality[~quality["collection"].str.contains(":")]
    sets = clean.groupby(["ranker", "seed"])["collection"].nunique()
    assert sets.min() == clean["collection"].nunique()
    broken = quality[quality["collection"].str.contains(":")].groupby(["ranker", "seed"])["collection"].nunique()
    assert set(broken) == {len(ways.CORRUPTIONS)}  # of those that are evaluated on corrupted queries
