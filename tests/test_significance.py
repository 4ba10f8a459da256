"""Intervals and tests: against scipy and by hand, the same each time, and not significant where nothing is."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

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
    assert significance.p_value(np.r_[np.ones(4), np.zeros(9)]) == pytest.approx(2 / 16)  # ties say nothing
    assert significance.p_value(np.zeros(9)) == significance.p_value(np.array([0, 0.3, 0])) == 1
    drawn, signs = np.random.default_rng(0).normal(0.4, 1, 16), np.array([*itertools.product([-1, 1], repeat=16)])
    every = np.mean(np.abs(signs @ drawn) >= abs(drawn.sum()) - 1e-9)
    assert significance.p_value(drawn) == pytest.approx(every, abs=0.02)  # of some of the signs
    draw = np.random.default_rng(1)
    low = np.mean([significance.p_value(draw.normal(size=25)) < 0.1 for _ in range(100)])
    assert 0.02 <= low <= 0.2
    sample = draw.normal(0.2, 1, 80)
    assert significance.p_value(sample) == significance.p_value(sample) > 0


def test_holm_by_hand():
    assert significance.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert significance.holm([0.9, 0.8]) == pytest.approx([1, 1])
    assert significance.holm([]).tolist() == []


def test_compare_is_paired():
    base = np.random.default_rng(0).uniform(size=50)
    table = significance.compare(pd.DataFrame({"old": base, "new": base + 0.01, "same": base}), "old").set_index(
        "ranker"
    )
    assert table.loc["new", "difference"] == pytest.approx(0.01)
    assert table.loc["new", "low"] == pytest.approx(0.01, abs=1e-6) and table.loc["new", "p"] < 0.01
    assert table.loc["same", ["difference", "p", "wins", "losses", "ties"]].tolist() == [0, 1, 0, 0, 50]


def by_query(*, queries=200, seed=0, **gains):
    """A table of queries for `compare`: "old", and rankers that differ from it by a mean gain."""
    draw = np.random.default_rng(seed)
    old = draw.uniform(size=queries)
    values = {"old": old} | {name: old + draw.normal(gain, 0.1, queries) for name, gain in gains.items()}
    return pd.DataFrame(values, index=pd.Index([f"q{number}" for number in range(queries)], name="query"))


def by_query_and_seed(*, queries=200, seeds=3, gain=0.0, sd_seeds=0.01, seed=0):
    draw = np.random.default_rng(seed)
    names = [[f"q{number}" for number in range(queries)], range(seeds)]
    of_both = draw.normal(0, 0.14, (queries, 1)) + draw.normal(0, sd_seeds, (1, seeds))
    new = (gain + of_both + draw.normal(0, 0.1, (queries, seeds))).ravel()
    return pd.DataFrame({"old": 0.0, "new": new}, index=pd.MultiIndex.from_product(names, names=["query", "seed"]))


def test_with_one_value_per_query_the_tests_are_those_of_scipy_and_statsmodels():
    values = by_query(small=0.005, large=0.05, none=0.0)
    table = significance.compare(values, "old", within=0.02).set_index("ranker")
    tests = {name: scipy.stats.ttest_rel(values[name], values["old"]) for name in table.index}
    for name, test in tests.items():
        for columns, level in (["low", "high"], 0.95), (["low_holm", "high_holm"], 1 - 0.05 / 3):
            assert table.loc[name, columns].tolist() == pytest.approx(list(test.confidence_interval(level)))
    assert table["p_t"].tolist() == pytest.approx(multipletests([t.pvalue for t in tests.values()], method="holm")[1])
    alike = [ttost_paired(values[name], values["old"], -0.02, 0.02)[0] for name in table.index]
    assert table["p_equivalent"].tolist() == pytest.approx(multipletests(alike, method="holm")[1])
    assert table["seeds"].eq(1).all() and table["sd_seeds"].isna().all()
    assert table.loc["none", "resolvable"] == pytest.approx(2.8 * table.loc["none", "sd_queries"] / 200**0.5, rel=0.01)


def test_seeds_that_vary_widen_intervals_and_one_seed_does_not():
    values = by_query_and_seed(sd_seeds=0.0)
    values["new"] += np.tile([-0.03, 0.0, 0.03], 200)
    crossed, averaged = (significance.compare(part, "old").iloc[0] for part in (values, values.groupby("query").mean()))
    shared = ["difference", "p", "effect", "wins", "ties", "losses", "queries"]
    assert crossed[shared].tolist() == pytest.approx(averaged[shared].tolist())
    assert crossed["high"] - crossed["low"] > 1.5 * (averaged["high"] - averaged["low"])
    assert crossed["resolvable"] > 1.5 * averaged["resolvable"] and crossed["p_t"] > averaged["p_t"]
    assert (crossed["seeds"], averaged["seeds"]) == (3, 1)
    one = values.xs(0, level="seed", drop_level=False)
    pd.testing.assert_frame_equal(significance.compare(one, "old"), significance.compare(one.droplevel("seed"), "old"))


def test_rows_may_come_in_any_order_but_none_may_lack_or_come_twice():
    values = by_query_and_seed(queries=20)
    mixed = values.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(significance.compare(mixed, "old"), significance.compare(values, "old"))
    for wrong in (values.iloc[1:], pd.concat([values, values.iloc[:1]])):
        with pytest.raises(ValueError, match="rows of 20 queries and 3 seeds; one is needed for each of both"):
            significance.compare(wrong, "old")


def test_nothing_to_compare_and_one_query():
    assert significance.compare(by_query(), "old").empty
    row = significance.compare(by_query(queries=1, new=0.1), "old").iloc[0]
    assert row[["p", "p_t", "p_equivalent"]].tolist() == [1, 1, 1] and np.isnan(row["resolvable"])


@pytest.mark.parametrize("seeds", [1, 3])
def test_without_a_difference_better_and_worse_are_said_rarely(seeds, monkeypatch):
    monkeypatch.setattr(significance, "RESAMPLES", 199)
    monkeypatch.setattr(significance, "SIGNS", 199)
    tables = [
        significance.compare(by_query_and_seed(queries=150, seeds=seeds, sd_seeds=0.01 * (seeds > 1), seed=seed), "old")
        for seed in range(400)
    ]
    rows = pd.concat(tables, ignore_index=True)
    said = sum(f" is {word} than" in significance.verdict(row, "old") for _, row in rows.iterrows() for word in WORDS)
    assert said <= scipy.stats.binom.ppf(0.999, 400, 0.05)
    if seeds == 1:
        assert scipy.stats.kstest(rows["p"], "uniform").pvalue > 0.01
        assert scipy.stats.spearmanr(rows["p"], rows["p_t"]).statistic > 0.98


WORDS = ["better", "worse"]


def test_verdicts():
    assert said(gain=0.06).startswith("new is better than old: +0.0") and ", p < 0.001 (Holm), " in said(gain=0.06)
    assert said(gain=-0.06).startswith("new is worse than old: -0.0")
    assert "] over 200 queries and 3 seeds (old: one), p" in said() and "] over 200 queries alone, p" in said(seeds=1)
    resolvable = significance.compare(by_query_and_seed(), "old").iloc[0]["resolvable"]
    unclear = (
        f"new and old: not resolvable with these queries and seeds (smallest resolvable difference {resolvable:.3f})"
    )
    assert said().startswith(unclear)
    values = by_query(queries=2000)
    same = values.assign(new=values["old"] + np.tile([0.05, -0.05], 1000))
    assert significance.verdict(significance.compare(same, "old").iloc[0], "old").startswith(
        "new is equivalent to old within 0.01: +0.000 ["
    )
    little = values.assign(new=values["old"] + np.tile([0.02, -0.01], 1000))
    assert "new is better than old, by less than 0.01: +0.005" in significance.verdict(
        significance.compare(little, "old").iloc[0], "old"
    )
    assert "within 0.1:" in said(within=0.1) and "p < 0.001 (Holm)" in said(within=0.1)


def said(within=0.01, **table):
    return significance.verdict(significance.compare(by_query_and_seed(**table), "old", within=within).iloc[0], "old")


def test_a_difference_that_only_these_seeds_make_is_not_called_better():
    """Seeds 0.02, 0.05 and -0.01 around 0.02 on 1,000 queries: sure with these seeds, unsure with others."""
    values = by_query_and_seed(queries=1000, sd_seeds=0.0)
    values["new"] += np.tile([0.02, 0.05, -0.01], 1000)
    row = significance.compare(values, "old").iloc[0]
    assert row["p"] < 0.01 and row["p_t"] > 0.05 and "not resolvable" in significance.verdict(row, "old")


def results(**rankers):
    """Results of queries q0 and q1: ranker -> seed -> values."""
    rows = [
        {"ranker": ranker, "configuration": ranker, "run": f"{ranker} {seed}", "seed": seed, "query": f"q{query}", "value": value}
        for ranker, runs in rankers.items() for seed, values in runs.items() for query, value in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(measure="RR@10", collection="c")


def test_pairs_are_of_query_and_seed_and_one_run_repeats_its_values():
    table = results(kl={1: [0, 1], 2: [1, 1]}, bm25={0: [0.5, 0.25]}, mse={2: [0.1, 0.2], 1: [0.3, 0.4]})
    values = significance.paired(table, "RR@10", "c")
    assert values.index.tolist() == [("q0", 1), ("q0", 2), ("q1", 1), ("q1", 2)] and values.index.names == [
        "query",
        "seed",
    ]
    assert list(values) == ["kl", "bm25", "mse"]
    assert values["kl"].tolist() == [0, 1, 1, 1] and values["mse"].tolist() == [0.3, 0.1, 0.4, 0.2]
    assert values["bm25"].tolist() == [0.5, 0.5, 0.25, 0.25]
    averaged = significance.per_query(table, "RR@10", "c")
    pd.testing.assert_frame_equal(values.groupby("query").mean(), averaged, check_names=False)
    assert significance.compare(values, "bm25")["seeds"].tolist() == [2, 2]


def test_single_runs_are_paired_whatever_their_seeds():
    values = significance.paired(results(kl={3: [0, 1]}, bm25={0: [0.5, 0.25]}), "RR@10", "c")
    assert values.to_numpy().tolist() == [[0, 0.5], [1, 0.25]] and significance.compare(values, "bm25")[
        "seeds"
    ].tolist() == [1]


def test_runs_that_have_no_counterpart_are_refused():
    with pytest.raises(ValueError, match=r"ranker 'kl' has runs of seeds \[0, 1\]; compared are seeds \[0, 1, 2\]"):
        significance.paired(results(kl={0: [0, 1], 1: [1, 1]}, mse={0: [0, 1], 1: [1, 1], 2: [0, 0]}), "RR@10", "c")
    twice = results(kl={0: [0, 1], 1: [1, 1]}).assign(seed=0)
    with pytest.raises(ValueError, match=r"ranker 'kl' has runs of seeds \[0, 0\]"):
        significance.paired(twice, "RR@10", "c")
    assert significance.paired(twice.drop(columns="seed"), "RR@10", "c")["kl"].tolist() == [0, 1, 1, 1]


def test_rankers_of_other_queries_are_refused():
    with pytest.raises(ValueError, match=r"\['new'\] lack some queries"):
        significance.compare(pd.DataFrame({"old": [1.0, 0.0], "new": [1.0, np.nan]}), "old")
    with pytest.raises(ValueError, match="baseline='none'"):
        significance.compare(pd.DataFrame({"old": [1.0]}), "none")
    with pytest.raises(ValueError, match=r"\['a'\] lack some queries"):
        significance.contrasts(pd.DataFrame({"a": [1.0, np.nan]}))


def test_a_tie_of_means_is_one_up_to_rounding():
    seeds = pd.MultiIndex.from_product([["q0", "q1"], [0, 1, 2]], names=["query", "seed"])
    noise = [0.1, 0.2, -0.3]  # their sum is 2.8e-17
    row = significance.contrasts(pd.DataFrame({"a": [*noise, 0.5, 0.5, 0.5]}, index=seeds)).iloc[0]
    assert (row["wins"], row["ties"], row["losses"]) == (1, 1, 0) and sum(noise) != 0


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


def test_a_comparison_says_what_was_trained_once():
    index = pd.MultiIndex.from_product([["q1", "q2", "q3"], [0, 1]], names=["query", "seed"])
    values = pd.DataFrame({"bm25": np.repeat([0.1, 0.5, 0.3], 2), "kl": np.linspace(0, 1, 6), "mse": 0.5}, index)
    assert significance.compare(values, "kl")["one_seed"].tolist() == ["bm25", "mse"]
    assert significance.compare(values, "bm25")["one_seed"].tolist() == ["bm25", "mse and bm25"]
    assert "(bm25: one)" in significance.verdict(significance.compare(values, "kl").iloc[0], "kl")
    of_one = values.xs(0, level="seed")
    assert set(significance.compare(of_one, "kl")["one_seed"]) == {""}


def two_runs(**second):
    about = {"ranker": "kl", "configuration": "one", "run": "a", "measure": "RR@10", "collection": "c"}
    tables = [pd.DataFrame({"query": ["q1", "q2"], "value": [0.0, 1.0]}).assign(**about),
              pd.DataFrame({"query": ["q1", "q2"], "value": [1.0, 1.0]}).assign(**about | {"run": "b"} | second)]  # fmt: skip
    return pd.concat(tables)


def test_runs_that_differ_in_more_than_the_seed_have_no_common_mean():
    assert significance.per_query(two_runs(), "RR@10", "c")["kl"].tolist() == [0.5, 1.0]
    mixed = two_runs(configuration="another")
    for average in (significance.per_query, significance.paired, significance.over_seeds):
        with pytest.raises(ValueError, match="ranker 'kl': its runs differ in more than the seed"):
            average(mixed, "RR@10", "c")
    apart = significance.per_query(two_runs(configuration="another", ranker="kl [layers=(0,)]"), "RR@10", "c")
    assert apart["kl"].tolist() == [0.0, 1.0] and apart["kl [layers=(0,)]"].tolist() == [1.0, 1.0]


def test_one_run_in_two_tables_counts_once():
    twice = pd.concat([two_runs(), two_runs()])
    assert significance.over_seeds(twice, "RR@10", "c").iloc[0]["seeds"] == 2
    assert significance.per_query(pd.concat([twice, two_runs().iloc[:2]]), "RR@10", "c")["kl"].tolist() == [0.5, 1.0]


@pytest.mark.parametrize("average", [significance.per_query, significance.paired, significance.over_seeds])
def test_values_of_two_test_sets_have_no_common_mean(average):
    other = two_runs().assign(value=lambda rows: rows["value"] + 1)  # such as of another depth
    with pytest.raises(ValueError, match="two values of RR@10 for a query of 'c': these are tables of two test sets"):
        average(pd.concat([two_runs(), other]), "RR@10", "c")
    with pytest.raises(ValueError, match="'kl': some of its runs lack queries of 'c' that others have"):
        average(two_runs().iloc[1:], "RR@10", "c")


@pytest.mark.parametrize("average", [significance.per_query, significance.paired, significance.over_seeds])
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


def test_joined_tables_of_other_conditions_say_so():
    about = {"ranker": "kl", "configuration": "one", "measure": "RR@10", "collection": "c"}
    parts = []
    for run, seed, features in (("a", 0, "AVX512"), ("b", 1, "AVX2")):
        quality = pd.DataFrame({"query": ["q1", "q2"], "value": [0.0, 1.0], "text": ""}).assign(**about)
        condition = pd.DataFrame([{"query": "", "measure": "features", "text": features}])
        parts.append(pd.concat([quality, condition]).assign(run=run, seed=seed))
    with pytest.warns(UserWarning, match=r"conditions \(features: AVX2 \| AVX512\)"):
        significance.paired(pd.concat(parts), "RR@10", "c")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        significance.paired(parts[0], "RR@10", "c")
