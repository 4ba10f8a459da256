"""Means over queries and seeds: by hand, as scipy has them, and intervals and tests that err as often as they say."""

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.weightstats import ttost_paired

from lib.analysis.crossed import Mean

TABLES = 1500


def normal(draw, queries, seeds, *, sd_seeds=0.01, sd_both=0.1):
    of_queries, of_seeds = draw.normal(0, 0.14, (queries, 1)), draw.normal(0, sd_seeds, (1, seeds))
    return of_queries + of_seeds + draw.normal(0, sd_both, (queries, seeds))


def reciprocal_ranks(draw, queries, seeds, *, sd_seeds=0.01):
    """Differences of RR@10: zero for most queries, lasting for some, the seed's chance for others; expected 0."""
    sizes, shares = np.array([1 / 2, 2 / 3, 1 / 6, 1 / 12, 4 / 5, 1 / 3]), np.array([0.25, 0.1, 0.25, 0.2, 0.05, 0.15])
    kind, size = draw.random((queries, 1)), draw.choice(sizes, (queries, 1), p=shares)
    lasting = np.where(draw.random((queries, 1)) < 0.5, 1, -1) * (kind < 0.12)
    luck = draw.normal(0, sd_seeds, (1, seeds)) / (0.1 * 2 * sizes @ shares)
    chance = np.where(draw.random((queries, seeds)) < 0.5 + luck, 1, -1) * (kind > 0.9)
    return size * (lasting + chance)


def share_within(count, low, high):
    """Whether a count of TABLES can be that of a probability from low to high."""
    return scipy.stats.binom.ppf(0.001, TABLES, low) <= count <= scipy.stats.binom.ppf(0.999, TABLES, high)


@pytest.mark.parametrize("make", [normal, reciprocal_ranks])
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("queries", [100, 350, 1000])
def test_intervals_over_queries_and_seeds_cover(make, queries, seeds):
    draw = np.random.default_rng(queries + seeds)
    intervals = [Mean.of(make(draw, queries, seeds)).interval() for _ in range(TABLES)]
    assert share_within(sum(low <= 0 <= high for low, high in intervals), 0.93, 0.98)


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_intervals_cover_where_seeds_add_nothing(seeds):
    draw = np.random.default_rng(seeds)
    intervals = [Mean.of(normal(draw, 200, seeds, sd_seeds=0.0)).interval() for _ in range(TABLES)]
    most = {1: 0.95, 2: 0.99, 3: 0.975}
    assert share_within(sum(low <= 0 <= high for low, high in intervals), 0.95, most[seeds])


@pytest.mark.parametrize("seeds", [2, 3])
def test_seeds_that_agree_make_nothing_surer_than_queries_do(seeds):
    """Of equal means over queries; what queries and seeds have together still makes the mean uncertain."""
    values = normal(np.random.default_rng(seeds), 500, seeds, sd_seeds=0.0, sd_both=0.2)
    values -= values.mean(axis=0) - 0.006
    mean, alone = Mean.of(values), Mean.of(values.mean(axis=1, keepdims=True))
    assert mean.sd_seeds == 0 and mean.error == pytest.approx(alone.error, rel=0.1) and mean.degrees <= alone.degrees
    assert mean.interval()[0] < alone.interval()[0]


def test_queries_alone_would_be_too_sure():
    draw = np.random.default_rng(0)
    averaged = [Mean.of(normal(draw, 1000, 3).mean(axis=1, keepdims=True)).interval() for _ in range(TABLES)]
    assert sum(low <= 0 <= high for low, high in averaged) < 0.85 * TABLES


def test_p_values_are_uniform_without_a_difference():
    draw = np.random.default_rng(1)
    alone = [Mean.of(normal(draw, 60, 1)).p_value() for _ in range(TABLES)]
    assert scipy.stats.kstest(alone, "uniform").pvalue > 0.01
    crossed = [Mean.of(normal(draw, 200, 5)).p_value() for _ in range(TABLES)]
    assert share_within(np.sum(np.array(crossed) < 0.05), 0.03, 0.07)
    assert scipy.stats.kstest(crossed, "uniform").statistic < 0.06


@pytest.mark.parametrize("seeds", [1, 5])
def test_equivalence_errs_at_its_limit_as_often_as_it_says(seeds):
    draw = np.random.default_rng(seeds)
    at_limit = [Mean.of(0.03 + normal(draw, 350, seeds, sd_seeds=0.002)).p_equivalent(0.03) for _ in range(TABLES)]
    assert share_within(np.sum(np.array(at_limit) < 0.05), 0.03, 0.06)


def test_one_seed_is_the_paired_t_test_and_tost():
    draw = np.random.default_rng(2)
    new, old = draw.normal(0.505, 0.1, 40), draw.normal(0.5, 0.1, 40)
    mean, expected = Mean.of((new - old)[:, None]), scipy.stats.ttest_rel(new, old)
    assert mean.p_value() == pytest.approx(expected.pvalue)
    assert mean.interval(0.1) == pytest.approx(tuple(expected.confidence_interval(0.9)))
    assert mean.p_equivalent(0.03) == pytest.approx(ttost_paired(new, old, -0.03, 0.03)[0])
    assert mean.sd_queries == pytest.approx(np.std(new - old, ddof=1)) and np.isnan([mean.sd_seeds, mean.sd_both]).all()


def test_components_by_hand():
    mean = Mean.of(np.array([[0.0, 0.4], [0.2, 0.2], [0.4, 0.6]]))
    # Means of queries 0.2, 0.2, 0.5, of seeds 0.2, 0.4; rest -0.1, 0.1; 0.1, -0.1; 0, 0, with 2 degrees of freedom.
    assert mean.mean == pytest.approx(0.3)
    assert mean.sd_both**2 == pytest.approx(0.04 / 2)
    assert mean.sd_queries**2 == pytest.approx(0.03 - 0.02 / 2)
    assert mean.sd_seeds**2 == pytest.approx(0.02 - 0.02 / 3)
    assert mean.error**2 == pytest.approx(0.02 / 3 + 0.02 / 2)
    share = (0.02 / 2 - 0.02 / 6 / 2) / (0.02 / 3 + 0.02 / 2)
    assert mean.degrees == pytest.approx(1 / ((1 - share) / 2 + share / 1))


def test_components_are_those_that_were_planted():
    draw = np.random.default_rng(3)
    squares = np.mean([np.square(Mean.of(normal(draw, 300, 4, sd_seeds=0.02))[3:]) for _ in range(300)], axis=0)
    assert np.sqrt(squares) == pytest.approx([0.14, 0.02, 0.1], rel=0.05)


def test_seeds_that_repeat_a_value_change_nothing():
    values = np.random.default_rng(4).normal(0.1, 0.2, (50, 1))
    once, repeated = Mean.of(values), Mean.of(np.repeat(values, 3, axis=1))
    assert repeated[:4] == pytest.approx(once[:4]) and repeated[4:] == pytest.approx((0, 0), abs=1e-9)


def test_at_the_edge():
    nothing = Mean.of(np.array([[0.1, 0.2]]))
    assert np.isnan(nothing.interval()).all() and nothing.p_value() == nothing.p_equivalent(1) == 1
    constant = Mean.of(np.full((3, 2), 0.25))
    assert constant.interval() == (0.25, 0.25)
    assert (constant.p_value(), constant.p_equivalent(0.5), constant.p_equivalent(0.1)) == (0, 0, 1)
    assert Mean.of(np.zeros((3, 2))).p_value() == 1
