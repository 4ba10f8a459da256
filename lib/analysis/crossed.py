"""The mean of values of every query with every seed: its standard error, variance components, interval and tests.

Model: value = mean + query + seed + rest, each random, independent, with a standard deviation of its own; queries and
seeds are both samples, of which new ones could be drawn. Two-way random effects without replication: Searle, Casella
and McCulloch 1992, Variance Components, chapter 4; for resampling, which agrees in large samples: Owen 2007, The
pigeonhole bootstrap, https://doi.org/10.1214/07-AOAS122.

Choice. The variance of the mean has the estimate v = v_queries + v_seeds (see `Mean.of`), and the interval is mean +- t
sqrt(v). v_seeds holds the rest's part v_rest, which all values tell, and is never below it: two seeds that happen to
agree do not make a mean surer than its queries allow. The degrees of freedom of t follow from shares of v:

    share = (v_seeds - v_rest / 2) / v;  1 / degrees = (1 - share) / (queries - 1) + share / (seeds - 1)

Satterthwaite 1946 (https://doi.org/10.2307/3002019) has squares of the shares, which gives too many degrees where two
or three seeds happen to agree; one half was found by simulation. Coverage of 95 % intervals, sd_queries = 0.14,
sd_seeds = 0.01, 100, 350 and 1,000 queries; normal with sd_both = 0.02 and 0.14 (400,000 tables each), differences of
RR@10 of which four in five are zero with sd_both = 0.13 and 0.18 (3,000 each):

                                2 seeds         3 seeds         5 seeds
    the choice, normal          0.932 to 0.986  0.952 to 0.971  0.955 to 0.960
    the choice, RR@10           0.950 to 0.973  0.947 to 0.973  0.961 to 0.965
    squares of shares, normal   0.897 to 0.950  0.932 to 0.951  0.946 to 0.950
    queries alone, normal       0.705 to 0.930  0.769 to 0.935  0.832 to 0.941
    pigeonhole bootstrap*        0.82 to 0.96    0.89 to 0.97    0.93 to 0.97

(* percentiles of means over queries and seeds drawn independently; 600 or more tables each, 100 and 1,000 queries)

With sd_seeds = 0 the choice covers 0.950 to 0.990, and with sd_queries = 0.03, where queries and seeds together make
most of a difference, 0.940 to 1.000. Where seeds dominate, two are too few: with sd_seeds = 0.02, sd_both = 0.02 and
1,000 queries two seeds cover 0.909, three 0.944.
"""

from typing import NamedTuple, Self

import numpy as np
import scipy.stats

KNOWN = 0.5  # share of the rest's part that counts as known from all values, see above


def combined(v_queries: float, v_seeds: float, v_rest: float, queries: int, seeds: int) -> tuple[float, float]:
    """Standard error of a mean and its degrees of freedom; its variance is the sum of the first two.

    `v_rest` is the part of `v_seeds` that comes from the rest.
    """
    total = v_queries + v_seeds
    if not v_seeds:
        return float(np.sqrt(total)), float(queries - 1)
    share = (v_seeds - KNOWN * v_rest) / total
    return float(np.sqrt(total)), 1 / ((1 - share) / (queries - 1) + share / (seeds - 1))


class Mean(NamedTuple):
    """A mean and how sure it is; the standard deviations are the components of the model above.

    With one seed nothing is known of seeds: sd_queries holds the rest too, sd_seeds and sd_both are nan, and interval
    and tests are over queries alone (the usual t). With fewer than two queries there is no standard error: nan.
    """

    mean: float
    error: float
    degrees: float
    sd_queries: float
    sd_seeds: float
    sd_both: float

    @classmethod
    def of(cls, values: np.ndarray) -> Self:
        """From values (queries, seeds), none missing.

        v_seeds is the variance of the seeds' means over the number of seeds, and at least what the rest alone gives;
        v_queries that of the queries' means over the number of queries, less the rest, which both contain.
        """
        queries, seeds = values.shape
        mean, by_query, by_seed = values.mean(), values.mean(axis=1), values.mean(axis=0)
        if queries < 2:
            return cls(float(mean), *[float("nan")] * 5)
        if seeds < 2:
            error, degrees = combined(by_query.var(ddof=1) / queries, 0.0, 0.0, queries, 1)
            return cls(float(mean), error, degrees, float(by_query.std(ddof=1)), float("nan"), float("nan"))
        rest = values - by_query[:, None] - by_seed + mean
        v_rest = (rest**2).sum() / ((queries - 1) * (seeds - 1))
        v_queries = max(by_query.var(ddof=1) - v_rest / seeds, 0.0)
        v_seeds = max(by_seed.var(ddof=1), v_rest / queries)  # two seeds that happen to agree prove nothing
        parts = v_queries / queries, v_seeds / seeds, v_rest / (queries * seeds)
        error, degrees = combined(*parts, queries, seeds)
        components = [v_queries, v_seeds - v_rest / queries, v_rest]
        return cls(float(mean), error, degrees, *map(float, np.sqrt(components)))

    def interval(self, level: float = 0.05) -> tuple[float, float]:
        """Limits that miss the mean with probability `level`."""
        half = self.error * scipy.stats.t.ppf(1 - level / 2, self.degrees)
        return float(self.mean - half), float(self.mean + half)

    def p_value(self) -> float:
        """Two-sided t test that the mean is zero; with one seed, the paired t test; 1 without a standard error."""
        return min(1.0, 2 * min(self._below(0.0), self._below(0.0, above=True)))

    def p_equivalent(self, within: float) -> float:
        """Test that the mean lies between -within and within: the larger p of two one-sided t tests (TOST).

        Schuirmann 1987, https://doi.org/10.1007/BF01068419.
        """
        return max(self._below(within), self._below(-within, above=True))

    def _below(self, limit: float, *, above: bool = False) -> float:
        """One-sided p: how likely a mean this far below (above) the limit is if it is truly there."""
        distance = self.mean - limit if above else limit - self.mean
        if np.isnan(self.error):
            return 1.0
        if not self.error:
            return float(distance <= 0)
        return float(scipy.stats.t.sf(distance / self.error, self.degrees))
