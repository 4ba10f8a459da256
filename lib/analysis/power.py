"""How small a difference can a comparison find, and how many queries does a difference need?

A two-sided t test at `level` finds a true difference d with probability `power` if d / error is the noncentrality at
which the noncentral t distribution exceeds the critical value that often; with many queries and one seed this is
d = (z[1 - level / 2] + z[power]) * sd_queries / sqrt(queries), 2.80 standard errors as usual. Cohen 1988, Statistical
Power Analysis, chapter 2; of retrieval experiments: Sakai 2016, https://doi.org/10.1007/s10791-015-9273-z. Standard
error and degrees of freedom are those of `lib.analysis.crossed`:

    error^2 = sd_queries^2 / queries + sd_seeds^2 / seeds + sd_both^2 / (queries * seeds)
"""

import bisect

import numpy as np
import scipy.special
import scipy.stats

from lib.analysis import crossed

MOST = 10**9


def resolvable(
    sd_queries: float, queries: int, *, sd_seeds: float = 0.0, sd_both: float = 0.0, seeds: int = 1,
    power: float = 0.8, level: float = 0.05,
) -> float:  # fmt: skip
    """The smallest true difference found with this power: 0.021 with sd_queries = 0.14, 350 queries and one seed.

    With few seeds that vary, more queries can raise it: what is left is then the variation of the seeds, which has as
    few degrees of freedom as there are seeds.

    Raises ValueError for fewer than two queries, or if seeds vary and there is only one, whose chance no test sees.
    """
    if queries < 2 or (seeds < 2 and sd_seeds > 0):
        raise ValueError(f"queries={queries}, seeds={seeds}: two are needed of whatever varies")
    rest = sd_both**2 / (queries * seeds)
    parts = (sd_queries**2 / queries, sd_seeds**2 / seeds + rest, rest)
    error, degrees = crossed.combined(*parts if seeds > 1 else (sum(parts[:2]), 0.0, 0.0), queries, seeds)
    critical = scipy.stats.t.ppf(1 - level / 2, degrees)
    return float(error * scipy.special.nctdtrinc(degrees, 1 - power, critical))


def needed_queries(difference: float, sd_queries: float, **settings: float) -> int:
    """The fewest queries with which a true difference is found; settings and errors as those of `resolvable`.

    Raises ValueError too if no number of queries is enough, because seeds vary too much or the difference is zero.
    """

    def enough(size: int) -> bool:
        return resolvable(sd_queries, int(size), **settings) <= abs(difference)

    steps = np.unique(np.geomspace(2, MOST, 400).astype(int))  # what is enough need not be so with more: see there
    place = next((place for place, size in enumerate(steps) if enough(size)), None)
    if place is None:
        raise ValueError(f"difference={difference}: no number of queries is enough; use more seeds")
    sizes = range(steps[max(place - 1, 0)], steps[place] + 1)
    return sizes[bisect.bisect_left(sizes, True, key=enough)]
