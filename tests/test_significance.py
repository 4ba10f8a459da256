"""Intervals and tests: against scipy and by hand, the same each time, and not significant where nothing is."""

import numpy as np
import pandas as pd
import pytest

from lib.analysis import significance


def test_an_interval_is_reproducible_and_covers():
    draw = np.random.default_rng(0)
    sample = draw.normal(0.3, 1, 60)
    assert significance.interval(sample) == significance.interval(sample)
    inside = 0
    for _ in range(100):
        low, high = significance.interval(draw.normal(0.3, 1, 40))
        inside += low <= 0.3 <= high
    assert 88 <= inside <= 100


def test_intervals_at_the_edge():
    assert significance.interval(np.full(5, 0.25)) == (0.25, 0.25)
    assert np.isnan(significance.interval(np.array([1.0]))).all()


def test_p_values_by_hand_and_under_no_difference():
    assert significance.p_value(np.ones(4)) == pytest.approx(2 / 16)  # of 16 signs, only two are as far out
    assert significance.p_value(np.zeros(9)) == 1
    draw = np.random.default_rng(1)
    low = np.mean([significance.p_value(draw.normal(size=25)) < 0.1 for _ in range(100)])
    assert 0.02 <= low <= 0.2
    sample = draw.normal(0.2, 1, 80)
    assert significance.p_value(sample) == significance.p_value(sample) > 0


def test_holm_by_hand():
    assert significance.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert significance.holm([0.9, 0.8]) == pytest.approx([1, 1])


def test_compare_is_paired():
    base = np.random.default_rng(0).uniform(size=50)
    table = significance.compare(pd.DataFrame({"old": base, "new": base + 0.01, "same": base}), "old").set_index(
        "ranker"
    )
    assert table.loc["new", "difference"] == pytest.approx(0.01)
    assert table.loc["new", "low"] == pytest.approx(0.01, abs=1e-6) and table.loc["new", "p"] < 0.01
    assert table.loc["same", ["difference", "p", "wins", "losses", "ties"]].tolist() == [0, 1, 0, 0, 50]


def test_rankers_of_other_queries_are_refused():
    with pytest.raises(ValueError, match=r"\['new'\] lack some queries"):
        significance.compare(pd.DataFrame({"old": [1.0, 0.0], "new": [1.0, np.nan]}), "old")
    with pytest.raises(ValueError, match="baseline='none'"):
        significance.compare(pd.DataFrame({"old": [1.0]}), "none")


def test_seeds_are_averaged_before_queries():
    rows = [
        (seed, f"q{query}", value) for seed, some in enumerate([[0, 1], [1, 1]]) for query, value in enumerate(some)
    ]
    table = pd.DataFrame(rows, columns=["seed", "query", "value"]).assign(
        ranker="kl", configuration="k", measure="RR@10", collection="c"
    )
    table["run"] = "run " + table["seed"].astype(str)
    assert significance.per_query(table, "RR@10", "c")["kl"].tolist() == [0.5, 1.0]
    row = significance.over_seeds(table, "RR@10", "c").iloc[0]
    assert (row["RR@10"], row["seeds"], row["queries"]) == (0.75, 2, 2)
    assert row["sd over seeds"] == pytest.approx(np.std([0.5, 1.0], ddof=1))


def test_a_set_weighs_the_same_whatever_its_size():
    difference, low, high = significance.stratified([np.ones(10), np.zeros(1000)])
    assert (difference, low, high) == (0.5, 0.5, 0.5)


def two_runs(**second):
    about = {"ranker": "kl", "configuration": "one", "run": "a", "measure": "RR@10", "collection": "c"}
    tables = [pd.DataFrame({"query": ["q1", "q2"], "value": [0.0, 1.0]}).assign(**about),
              pd.DataFrame({"query": ["q1", "q2"], "value": [1.0, 1.0]}).assign(**about | {"run": "b"} | second)]  # fmt: skip
    return pd.concat(tables)


def test_runs_that_differ_in_more_than_the_seed_have_no_common_mean():
    assert significance.per_query(two_runs(), "RR@10", "c")["kl"].tolist() == [0.5, 1.0]
    mixed = two_runs(configuration="another")
    for average in (significance.per_query, significance.over_seeds):
        with pytest.raises(ValueError, match="ranker 'kl': its runs differ in more than the seed"):
            average(mixed, "RR@10", "c")
    apart = significance.per_query(two_runs(configuration="another", ranker="kl [layers=(0,)]"), "RR@10", "c")
    assert apart["kl"].tolist() == [0.0, 1.0] and apart["kl [layers=(0,)]"].tolist() == [1.0, 1.0]


def test_one_run_in_two_tables_counts_once():
    twice = pd.concat([two_runs(), two_runs()])
    assert significance.over_seeds(twice, "RR@10", "c").iloc[0]["seeds"] == 2
    assert significance.per_query(pd.concat([twice, two_runs().iloc[:2]]), "RR@10", "c")["kl"].tolist() == [0.5, 1.0]


@pytest.mark.parametrize("average", [significance.per_query, significance.over_seeds])
def test_a_misspelt_measure_or_collection_is_an_error(average):
    with pytest.raises(ValueError, match=r"'RR@1'.*RR@10"):
        average(two_runs(), "RR@1", "c")
    with pytest.raises(ValueError, match="collection='d': these results have c"):
        average(two_runs(), "RR@10", "d")


def test_the_grade_that_counts_is_part_of_a_measures_name():
    graded = two_runs().assign(measure="RR(rel=2)@10")
    assert significance.per_query(graded, "RR@10", "c")["kl"].tolist() == [0.5, 1.0]
    assert significance.per_query(graded, "RR(rel=2)@10", "c")["kl"].tolist() == [0.5, 1.0]
    with pytest.raises(ValueError, match=r"RR\(rel=3\)@10.*RR\(rel=2\)@10"):
        significance.per_query(graded, "RR(rel=3)@10", "c")
