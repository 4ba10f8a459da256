"""How sure is a difference: intervals, paired tests, corrections, effect sizes (scipy underneath).

Values are paired: one per query that both rankers answered, or one per query and seed (`paired`). With a value per seed
the intervals and t tests are over queries and seeds, else over queries alone. The draws of resamples have a seed of
their own, so equal values give equal results.
"""

from collections.abc import Iterable, Mapping
from functools import partial

import numpy as np
import pandas as pd
import scipy.stats

from lib.analysis import measures, power
from lib.analysis.crossed import Mean
from lib.data import views
from lib.machine.provenance import warn_if_mixed

RESAMPLES, SIGNS, SEED = 5000, 20000, 0  # of the bootstrap, of the randomisation test
SHOWN = ["difference", "low", "high", "p", "p_t", "p_equivalent", "effect", "wins", "ties", "losses", "resolvable",
         "one_seed"]  # what a notebook shows of `compare`  # fmt: skip


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of values (queries,); (nan, nan) for fewer than two values.

    Efron and Tibshirani 1993, chapter 13.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return float("nan"), float("nan")
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    options = {"n_resamples": RESAMPLES, "batch": 500, "rng": np.random.default_rng(SEED)}
    limits = scipy.stats.bootstrap((values,), np.mean, method="percentile", **options).confidence_interval
    return float(limits.low), float(limits.high)


def p_value(differences: np.ndarray) -> float:
    """Two-sided paired randomisation test that the mean of differences (queries,) is zero; never exactly 0.

    Smucker et al. 2007, https://doi.org/10.1145/1321440.1321528. Ties are left out: whatever sign a zero is given, the
    mean stays, and more than half of all queries tie. With few others every choice of signs is tried.
    """
    differences = np.asarray(differences, dtype=float)
    differences, draw = differences[differences != 0], np.random.default_rng(SEED)
    if len(differences) < 2:
        return 1.0
    options = {"statistic": np.mean, "n_resamples": SIGNS, "batch": 500, "vectorized": True}
    if 2 ** len(differences) <= SIGNS:
        return float(scipy.stats.permutation_test((differences,), permutation_type="samples", **options).pvalue)

    def drawn(size: tuple[int, int]) -> np.ndarray:
        return differences * draw.choice([-1.0, 1.0], size)

    return float(scipy.stats.monte_carlo_test(differences, drawn, **options).pvalue)


def holm(p_values: np.ndarray) -> np.ndarray:
    """P-values corrected for testing several at once (Holm 1979, https://www.jstor.org/stable/4615733), in their order.

    As statsmodels' `multipletests`, which collects garbage in every call: a fifth of the time of notebook 12.
    """
    p_values = np.asarray(p_values, dtype=float)
    order, corrected = np.argsort(p_values), np.empty(len(p_values))
    steps = np.arange(len(p_values), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p_values[order] * steps), 1)
    return corrected


def compare(values: pd.DataFrame, baseline: str, *, within: float = 0.01) -> pd.DataFrame:
    """One row per ranker: the paired difference from `baseline`, of values with a column per ranker.

    The index is of queries (`per_query`) or of (query, seed), every query with every seed (`paired`). Columns:

    - difference; low, high: its 95 % interval (`lib.analysis.crossed`); low_holm, high_holm: at the level that makes
      the intervals of all rankers hold together (Bonferroni's, 5 % over their number; Holm has no simple intervals)
    - p: randomisation test of the means over seeds, which takes the seeds as given; p_t: t test over queries and seeds,
      with one seed the paired t test; p_equivalent: test that the difference lies within +-`within` (TOST). Each of the
      three has Holm's correction over the rankers
    - effect: mean difference over its standard deviation over queries; wins, ties, losses: queries; queries, seeds
    - one_seed: which of the two has the same values with every seed, if there are several: it was trained once, and
      what another seed would change in it is not seen
    - sd_queries, sd_seeds, sd_both: what queries, seeds and the two together add, as in `lib.analysis.crossed.Mean`
    - resolvable: the smallest difference that such a comparison finds with 80 % power at 5 % (`lib.analysis.power`),
      before correction; within

    Raises ValueError if `baseline` is no column, a value is missing, or a query lacks a seed.
    """
    if baseline not in values:
        raise ValueError(f"baseline={baseline!r}: the rankers are {', '.join(map(str, values.columns))}")
    _check_whole(values)
    table = contrasts(values.drop(columns=baseline).sub(values[baseline], axis="index"), within=within)
    by_query = values.groupby(level=0)
    spread = (by_query.max() - by_query.min()).max()  # over the seeds of a query
    once = spread.index[spread == 0] if _size(values.index)[1] > 1 else []
    pairs = ([name for name in (ranker, baseline) if name in once] for ranker in values.columns if ranker != baseline)
    return table.assign(one_seed=list(map(" and ".join, pairs)))


def contrasts(differences: pd.DataFrame, *, within: float = 0.01) -> pd.DataFrame:
    """As `compare`, of any paired differences: one column each, whose name is in the result's column `ranker`.

    Raises ValueError if a difference is missing, or a query lacks a seed.
    """
    _check_whole(differences)
    queries, seeds = _size(differences.index)
    differences = differences.sort_index()
    arrays = {ranker: column.to_numpy(dtype=float).reshape(queries, seeds) for ranker, column in differences.items()}
    rows = []
    for ranker, array in arrays.items():
        mean, by_query = Mean.of(array), array.mean(axis=1).round(12)  # a tie of means is one up to rounding
        low, high = mean.interval()
        low_holm, high_holm = mean.interval(0.05 / len(arrays))
        spread = by_query.std(ddof=1) if queries > 1 else 0.0
        sd_seeds, sd_both = np.nan_to_num([mean.sd_seeds, mean.sd_both])
        rows.append({
            "ranker": ranker, "difference": mean.mean, "low": low, "high": high, "low_holm": low_holm,
            "high_holm": high_holm, "p": p_value(by_query), "p_t": mean.p_value(),
            "p_equivalent": mean.p_equivalent(within), "effect": mean.mean / spread if spread else 0.0,
            "wins": (by_query > 0).sum(), "ties": (by_query == 0).sum(), "losses": (by_query < 0).sum(),
            "queries": queries, "seeds": seeds, "sd_queries": mean.sd_queries, "sd_seeds": mean.sd_seeds,
            "sd_both": mean.sd_both, "within": within, "resolvable": power.resolvable(
                mean.sd_queries, queries, sd_seeds=sd_seeds, sd_both=sd_both, seeds=seeds) if queries > 1 else np.nan,
        })  # fmt: skip
    table = pd.DataFrame(rows)
    return table.assign(**{name: holm(table[name]) for name in ("p", "p_t", "p_equivalent") if name in table})


def _check_whole(values: pd.DataFrame) -> None:
    if values.isna().any(axis=None):
        lacking = values.columns[values.isna().any()].tolist()
        raise ValueError(f"rankers {lacking} lack some queries; only rankers of the same queries can be compared")


def _size(index: pd.Index) -> tuple[int, int]:
    """Number of queries and of seeds of an index of queries or of (query, seed)."""
    queries = index.get_level_values(0).nunique()
    seeds = index.get_level_values(1).nunique() if index.nlevels > 1 else 1
    if not index.is_unique or len(index) != queries * seeds:
        raise ValueError(f"{len(index)} rows of {queries} queries and {seeds} seeds; one is needed for each of both")
    return queries, seeds


def paired(results: pd.DataFrame, measure: str, collection: str) -> pd.DataFrame:
    """One row per (query, seed), one column per ranker: one measure on one collection, for `compare`.

    Rankers of one run, as BM25, repeat their value for every seed: what another seed would change is not seen in them.
    Without a column `seed`, a ranker's runs count as seeds 0, 1, ... in their order. Raises ValueError as `per_query`,
    or if two rankers of several runs have different seeds, or a ranker two runs of one seed.
    """
    rows = _rows(results, measure, collection)
    by_ranker = rows.groupby("ranker", sort=False)["run"]
    if "seed" not in rows:
        rows = rows.assign(seed=by_ranker.transform(lambda run: pd.factorize(run)[0]))
    once = by_ranker.transform("nunique") == 1
    several = rows[~once]
    seeds = sorted(several["seed"].unique().tolist()) or [0]
    for ranker, part in several.drop_duplicates(["ranker", "run"]).groupby("ranker"):
        if (own := sorted(part["seed"].tolist())) != seeds:
            raise ValueError(f"ranker {ranker!r} has runs of seeds {own}; compared are seeds {seeds}")
    repeated = rows[once].drop(columns="seed").merge(pd.DataFrame({"seed": seeds}), how="cross")
    table = pd.concat([several, repeated]).pivot_table("value", ["query", "seed"], "ranker")
    return table[rows["ranker"].unique()]


def pooled(results: pd.DataFrame, measure: str, collections: Iterable[str]) -> pd.DataFrame:
    """`paired` on several collections together, every query once, as "collection query"; raises as `paired`.

    A query that several of them have corrupted counts by its mean, where a ranker has it in all of them.
    """
    parts = {name: paired(results, measure, name) for name in collections}
    named = (part.rename(partial("{} {}".format, views.uncorrupted(name)), level=0) for name, part in parts.items())
    table = pd.concat(named)
    if table.index.is_unique:
        return table
    return table.groupby(level=[0, 1]).mean().where(table.notna().groupby(level=[0, 1]).all())


def per_query(results: pd.DataFrame, measure: str, collection: str) -> pd.DataFrame:
    """One row per query, one column per ranker: one measure on one collection, averaged over seeds.

    `results` as `lib.study.tables.results` gives them; they may be joined, and rankers renamed. Raises ValueError if
    there is no such measure or collection, one ranker's runs differ in more than the seed or have other queries, or a
    run has two values for a query.
    """
    rows = _rows(results, measure, collection)
    return rows.pivot_table("value", "query", "ranker")[rows["ranker"].unique()]


def over_seeds(results: pd.DataFrame, measure: str, collection: str) -> pd.DataFrame:
    """One row per ranker: mean over queries with its interval, standard deviation over seeds; raises as `per_query`."""
    table = []
    for ranker, part in _rows(results, measure, collection).groupby("ranker", sort=False):
        by_run, by_query = (part.groupby(unit)["value"].mean() for unit in ("run", "query"))
        low, high = interval(by_query)
        table.append({
            "ranker": ranker, measure: by_run.mean(), "low": low, "high": high, "sd over seeds": by_run.std(),
            "seeds": len(by_run), "queries": len(by_query),
        })  # fmt: skip
    return pd.DataFrame(table)


def _rows(results: pd.DataFrame, measure: str, collection: str) -> pd.DataFrame:
    """The rows of one measure on one collection, each run once."""
    quality = results[results["query"] != ""]
    rows = quality[quality["collection"] == collection]
    if rows.empty:
        raise ValueError(f"collection={collection!r}: these results have {', '.join(quality['collection'].unique())}")
    rows = measures.select(rows, measure)
    for ranker, count in rows.groupby("ranker")["configuration"].nunique().items():
        if count > 1:
            what = f"its runs differ in more than the seed ({count} configurations) and have no common mean"
            advice = "take them from one call of tables.results, or give each a name in the column ranker"
            raise ValueError(f"ranker {ranker!r}: {what}; {advice}")
    warn_if_mixed(results[results["run"].isin(rows["run"].unique())])
    once = rows.drop_duplicates(["ranker", "run", "query"])
    if len(rows.drop_duplicates(["ranker", "run", "query", "value"])) > len(once):
        raise ValueError(f"a run has two values of {measure} for a query of {collection!r}: these are tables of two "
                         "test sets of one collection; take the rows of one")  # fmt: skip
    for ranker, part in once.groupby("ranker"):
        if len(part) < part["run"].nunique() * part["query"].nunique():
            raise ValueError(f"ranker {ranker!r}: some of its runs lack queries of {collection!r} that others have; "
                             "give all of them the same test set")  # fmt: skip
    return once


def compare_each(values: Mapping[str, pd.DataFrame], baseline: str) -> pd.DataFrame:
    """`compare` on each of several collections (name -> values), with a column `collection`."""
    return pd.concat([compare(part, baseline).assign(collection=name) for name, part in values.items()])


def size(row: pd.Series) -> str:
    """The difference of a row of `compare` or `contrasts`, or of any with these columns, with its interval."""
    return f"{row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"


def decided(row: pd.Series) -> str:
    """One row of `compare` or `contrasts` in a word: better, worse, equivalent or not resolvable.

    Better and worse where the corrected p and p_t, which knows of seeds, are both below 0.05; else equivalent where
    p_equivalent is.
    """
    if max(row["p"], row["p_t"]) < 0.05:
        return "better" if row["difference"] > 0 else "worse"
    return "equivalent" if row["p_equivalent"] < 0.05 else "not resolvable"


def verdict(row: pd.Series, baseline: str) -> str:
    """One row of `compare` as a sentence; the p told is the one that decides it (see `decided`)."""
    p, within, name, word = max(row["p"], row["p_t"]), row["within"], row["ranker"], decided(row)
    if word in ("better", "worse"):
        said = f"{name} is {word} than {baseline}"
        said += f", by less than {within:g}" if row["p_equivalent"] < 0.05 else ""
    elif word == "equivalent":
        p, said = row["p_equivalent"], f"{name} is equivalent to {baseline} within {within:g}"
    else:
        said = (f"{name} and {baseline}: not resolvable with these queries and seeds "
                f"(smallest resolvable difference {row['resolvable']:.3f})")  # fmt: skip
    shown = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    over = f"{row['queries']} queries and {row['seeds']} seeds"
    over = over if row["seeds"] > 1 else f"{row['queries']} queries alone"
    over += f" ({row['one_seed']}: one)" if row["seeds"] > 1 and row.get("one_seed") else ""
    queries = f"{row['wins']} queries won, {row['losses']} lost, {row['ties']} tied"
    return f"{said}: {size(row)} over {over}, {shown} (Holm), {queries}"
