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


@pytest.mark.parametrize("query, share", [("Sum of rows", 2 / 3), ("mean mean", 0), ("?!", 0)])
def test_overlap_counts_distinct_words_of_the_query(query, share):
    assert by_query.overlap(query, "the sum of arrays") == pytest.approx(share)


def test_bins_hold_every_query_once_and_name_their_values():
    index = pd.MultiIndex.from_product([list("abcdef"), [0, 1]], names=["query", "seed"])
    differences = pd.DataFrame({"kl": np.repeat([0.0, 0.0, 0.1, 0.1, 0.4, 0.6], 2)}, index)
    table = by_query.in_bins(differences, pd.Series([1, 1, 2, 3, 5, 8], list("abcdef")))
    assert list(table["bin"]) == ["1", "2 to 3", "5 to 8"]
    assert list(table["mean"]) == pytest.approx([0.0, 0.1, 0.5]) and table["queries"].sum() == 6


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
