"""Properties of queries by hand, differences in bins, correlations."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lib.analysis import by_query
from lib.models import vectors


@pytest.fixture
def world(tmp_path):
    """Two queries; the second has no relevant candidate."""
    texts = {"a": "sum of two arrays", "b": "sort an array", "c": "mean of numbers"}
    units = {"a": [1.0, 0.0], "b": [0.6, 0.8], "c": [0.8, -0.6]}
    chunks = [[np.array([unit], dtype=np.float32) for unit in units.values()]]
    vectors.write(tmp_path, list(units), chunks, 2, "float32", vectors.Identity("m", "c"))
    collection = SimpleNamespace(queries={"q": "Sum, sum the arrays", "r": "x"}, documents=texts, relevant_grade=2)
    rows = [("q", "b", 1, 1), ("q", "a", 2, 2), ("q", "c", 3, 0), ("r", "c", 1, 1)]
    candidates = pd.DataFrame(rows, columns=["query", "document", "rank", "grade"])
    return candidates, collection, vectors.VectorStore(tmp_path)


def test_features_by_hand(world):
    table = by_query.features(*world)
    assert list(table.index) == ["q"]
    # words: sum, sum, the, arrays; of the three distinct ones "sum" and "arrays" are in the passage of grade 2
    wanted = {"query words": 4, "overlap": 2 / 3, "first-stage rank": 2, "similarity": 0.8}
    assert table.loc["q"].to_dict() == pytest.approx(wanted)


def test_a_query_with_relevant_candidates_alone_has_no_similar_one(world):
    candidates, *others = world
    assert by_query.features(candidates[candidates["document"] == "a"], *others)["similarity"].tolist() == [0]


@pytest.mark.parametrize("query, share", [("Sum of rows", 2 / 3), ("mean mean", 0), ("?!", 0)])
def test_overlap_counts_distinct_words_of_the_query(query, share):
    assert by_query.overlap(query, "the sum of arrays") == pytest.approx(share)


def test_bins_hold_every_query_once_and_name_their_values():
    index = pd.MultiIndex.from_product([list("abcdef"), [0, 1]], names=["query", "seed"])
    differences = pd.DataFrame({"kl": np.repeat([0.0, 0.0, 0.1, 0.1, 0.4, 0.6], 2)}, index)
    table = by_query.in_bins(differences, pd.Series([1, 1, 2, 3, 5, 8], list("abcdef")))
    assert list(table["bin"]) == ["1", "2 to 3", "5 to 8"]
    assert list(table["mean"]) == pytest.approx([0.0, 0.1, 0.5]) and table["queries"].sum() == 6


@pytest.mark.parametrize("values, labels", [
    (0.8 + np.arange(30) * 1e-4, ["0.8 to 0.801", "0.801 to 0.802", "0.802 to 0.803"]),
    (np.arange(100, 130), ["100 to 109", "110 to 119", "120 to 129"]),
    (np.arange(30) / 30, ["0 to 0.3", "0.33 to 0.63", "0.67 to 0.97"]),
    (np.arange(30) * 100, ["0 to 900", "1000 to 1900", "2000 to 2900"]),
    (np.repeat([0.81, 0.812, 0.814], 10), ["0.81", "0.812", "0.814"]),
])  # fmt: skip
def test_names_of_bins_are_readable_and_differ(values, labels):
    index = pd.MultiIndex.from_product([range(30), [0]], names=["query", "seed"])
    table = by_query.in_bins(pd.DataFrame({"kl": np.arange(30.0)}, index), pd.Series(values))
    assert list(table["bin"]) == labels


@pytest.mark.parametrize("values, labels, counts", [
    (np.ones(30), ["1"], [30]),
    ([1.0] * 22 + [*range(2, 10)], ["1", "2 to 9"], [22, 8]),
    ([*range(8)] + [9.0] * 22, ["0 to 7", "9"], [8, 22]),
])  # fmt: skip
def test_queries_of_one_value_have_a_bin_of_their_own(values, labels, counts):
    index = pd.MultiIndex.from_product([range(30), [0]], names=["query", "seed"])
    table = by_query.in_bins(pd.DataFrame({"kl": np.arange(30.0)}, index), pd.Series(values))
    assert list(table["bin"]) == labels and list(table["queries"]) == counts


def test_a_mean_over_seeds_that_is_zero_but_for_rounding_varies_with_nothing():
    a, b, c = np.random.default_rng(0).random((3, 40))
    index = pd.MultiIndex.from_product([range(40), range(3)], names=["query", "seed"])
    differences = pd.DataFrame({"kl": np.stack([a - b, b - c, c - a], 1).ravel()}, index)
    found = by_query.correlations(differences, pd.DataFrame({"f": np.arange(40.0)}))
    assert found["rho"].isna().all() and (found["p"] == 1).all()


def test_queries_without_a_difference_are_counted():
    index = pd.MultiIndex.from_product([range(20), [0]], names=["query", "seed"])
    differences, feature = pd.DataFrame({"kl": np.arange(20.0)}, index), pd.Series(np.arange(30.0))
    says = "10 of 30 queries with a feature have no difference, the first 20"
    with pytest.raises(ValueError, match=says):
        by_query.in_bins(differences, feature)
    with pytest.raises(ValueError, match=says):
        by_query.correlations(differences, pd.DataFrame({"f": feature}))
    assert len(by_query.in_bins(differences, feature[:15])) == 3  # a query without a relevant candidate has no feature


def test_a_correlation_is_found_and_a_constant_has_none():
    draw = np.random.default_rng(0)
    values = draw.normal(size=80)
    index = pd.MultiIndex.from_product([range(80), [0]], names=["query", "seed"])
    differences = pd.DataFrame({"kl": values + draw.normal(size=80) / 4, "noise": draw.normal(size=80)}, index)
    table = by_query.correlations(differences, pd.DataFrame({"related": values, "constant": 1.0}))
    table = table.set_index(["feature", "ranker"])
    assert table.loc[("related", "kl"), "rho"] > 0.9 and table.loc[("related", "kl"), "p"] < 1e-6
    assert table.loc[("related", "noise"), "p"] > 0.05
    assert np.isnan(table.loc[("constant", "kl"), "rho"]) and table.loc[("constant", "kl"), "p"] == 1
