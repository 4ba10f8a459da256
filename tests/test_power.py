"""Smallest resolvable differences: as statsmodels has them, as computed by hand, and as simulated."""

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.power import TTestPower

from lib.analysis import crossed, power


def test_with_many_queries_it_is_two_point_eight_standard_errors():
    assert power.resolvable(0.14, 350) == pytest.approx(0.021, abs=1e-4)
    normal = scipy.stats.norm.ppf([0.975, 0.8]).sum()
    assert power.resolvable(0.14, 10**6) == pytest.approx(normal * 0.14 / 1000, rel=1e-4)


@pytest.mark.parametrize("queries", [10, 30, 350, 5000])
@pytest.mark.parametrize(("share", "level"), [(0.8, 0.05), (0.5, 0.05), (0.95, 0.01)])
def test_as_statsmodels_has_it(queries, share, level):
    effect = TTestPower().solve_power(nobs=queries, power=share, alpha=level)
    found = power.resolvable(0.2, queries, power=share, level=level)
    assert found == pytest.approx(0.2 * effect, rel=1e-3)
    needed = TTestPower().solve_power(effect_size=0.1, power=share, alpha=level)
    assert power.needed_queries(0.02, 0.2, power=share, level=level) == np.ceil(needed)


def test_needed_queries_are_the_fewest():
    needed = power.needed_queries(-0.02, 0.14, sd_seeds=0.005, sd_both=0.1, seeds=5)
    below, at = (power.resolvable(0.14, size, sd_seeds=0.005, sd_both=0.1, seeds=5) for size in (needed - 1, needed))
    assert at <= 0.02 < below
    assert power.needed_queries(1.0, 0.1) == 2 + (power.resolvable(0.1, 2) > 1)


def test_queries_are_enough_where_more_of_them_are_not():
    """Two seeds that vary: the more queries, the fewer degrees of freedom are left."""
    about = {"sd_seeds": 0.01, "seeds": 2}
    assert power.resolvable(0.14, 200, **about) < 0.06 < power.resolvable(0.14, 1000, **about)
    needed = power.needed_queries(0.06, 0.14, **about)
    assert power.resolvable(0.14, needed, **about) <= 0.06 < power.resolvable(0.14, needed - 1, **about)


def test_what_cannot_be_found_is_an_error():
    with pytest.raises(ValueError, match="no number of queries is enough; use more seeds"):
        power.needed_queries(0.005, 0.14, sd_seeds=0.01, seeds=3)
    with pytest.raises(ValueError, match="difference=0: no number"):
        power.needed_queries(0, 0.14)
    with pytest.raises(ValueError, match="seeds=1: two are needed"):
        power.resolvable(0.14, 350, sd_seeds=0.01)
    with pytest.raises(ValueError, match="queries=1,"):
        power.resolvable(0.14, 1)


def test_more_of_anything_resolves_more():
    about = {"sd_seeds": 0.01, "sd_both": 0.1}
    by_seeds = [power.resolvable(0.14, 350, seeds=seeds, **about) for seeds in (2, 3, 5, 20)]
    by_queries = [power.resolvable(0.14, queries, seeds=3, **about) for queries in (50, 100, 1000)]
    assert by_seeds == sorted(by_seeds, reverse=True) and by_queries == sorted(by_queries, reverse=True)
    alone = power.resolvable(np.hypot(0.14, 0.1), 350)
    assert power.resolvable(0.14, 350, sd_both=0.1) == pytest.approx(alone)


@pytest.mark.parametrize(
    ("queries", "seeds", "sd_seeds"), [(50, 1, 0.0), (350, 1, 0.0), (350, 3, 0.01), (200, 5, 0.01)]
)
def test_a_planted_difference_is_found_as_often_as_predicted(queries, seeds, sd_seeds):
    draw = np.random.default_rng(queries + seeds)
    planted = power.resolvable(0.14, queries, sd_seeds=sd_seeds, sd_both=0.08, seeds=seeds)
    found, tables = 0, 1000
    for _ in range(tables):
        values = planted + draw.normal(0, 0.14, (queries, 1)) + draw.normal(0, sd_seeds, (1, seeds))
        found += crossed.Mean.of(values + draw.normal(0, 0.08, values.shape)).p_value() < 0.05
    assert 0.76 <= found / tables <= 0.84


@pytest.mark.parametrize(("queries", "share", "level"), [(5, 0.95, 0.01), (2, 0.95, 0.05)])
def test_with_few_queries_too_where_statsmodels_is_off(queries, share, level):
    noncentral = scipy.stats.nct(queries - 1, power.resolvable(1.0, queries, power=share, level=level) * queries**0.5)
    assert noncentral.sf(scipy.stats.t.ppf(1 - level / 2, queries - 1)) == pytest.approx(share, abs=1e-5)
