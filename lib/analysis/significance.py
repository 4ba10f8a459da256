"""How sure is a difference: intervals, paired tests, corrections, effect sizes (scipy underneath).

Values are paired: one per query that both rankers answered. They are averaged over seeds first, so intervals are over
queries. The draws of resamples have a seed of their own, so equal values give equal results.
"""

import numpy as np
import pandas as pd
import scipy.stats

from lib.analysis import measures

RESAMPLES, SEED = 5000, 0


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

    Smucker et al. 2007, https://doi.org/10.1145/1321440.1321528.
    """
    differences = np.asarray(differences, dtype=float)
    if not np.any(differences):
        return 1.0
    options = {"n_resamples": RESAMPLES, "batch": 500, "rng": np.random.default_rng(SEED), "vectorized": True}
    return float(scipy.stats.permutation_test((differences,), np.mean, permutation_type="samples", **options).pvalue)


def holm(p_values: np.ndarray) -> np.ndarray:
    """P-values corrected for testing several at once (Holm 1979), in the given order."""
    ordered = pd.Series(p_values, dtype=float).sort_values()
    scaled = ordered * np.arange(len(ordered), 0, -1)
    return scaled.cummax().clip(upper=1.0).sort_index().to_numpy()


def compare(values: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """One row per ranker: the paired difference to `baseline`, of values with a row per query and a column per ranker.

    low, high: 95 % interval over queries. p: randomisation test, with Holm's correction over the rankers. effect: mean
    difference over its standard deviation. Raises ValueError if `baseline` is no column or a value is missing.
    """
    if baseline not in values:
        raise ValueError(f"baseline={baseline!r}: the rankers are {', '.join(map(str, values.columns))}")
    if values.isna().any(axis=None):
        lacking = values.columns[values.isna().any()].tolist()
        raise ValueError(f"rankers {lacking} lack some queries; only rankers of the same queries can be compared")
    differences = values.drop(columns=baseline).sub(values[baseline], axis="index")
    corrected = holm([p_value(differences[ranker]) for ranker in differences])
    rows = []
    for (ranker, difference), p in zip(differences.items(), corrected, strict=True):
        (low, high), spread = interval(difference), difference.std()
        rows.append({
            "ranker": ranker, "difference": difference.mean(), "low": low, "high": high,
            "p": p, "effect": difference.mean() / spread if spread else 0.0,
            "wins": (difference > 0).sum(), "ties": (difference == 0).sum(), "losses": (difference < 0).sum(),
            "queries": len(difference),
        })  # fmt: skip
    return pd.DataFrame(rows)


def per_query(results: pd.DataFrame, measure: str, collection: str) -> pd.DataFrame:
    """One row per query, one column per ranker: one measure on one collection, averaged over seeds.

    `results` as `lib.study.tables.results` gives them; they may be joined, and rankers renamed. Raises ValueError if
    there is no such measure or collection, or one ranker's runs differ in more than the seed.
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
    rows = rows[rows["measure"] == measures.named(measure, rows["measure"])]
    for ranker, count in rows.groupby("ranker")["configuration"].nunique().items():
        if count > 1:
            what = f"its runs differ in more than the seed ({count} configurations) and have no common mean"
            advice = "take them from one call of tables.results, or give each a name in the column ranker"
            raise ValueError(f"ranker {ranker!r}: {what}; {advice}")
    return rows.drop_duplicates(["ranker", "run", "query"])


def verdict(row: pd.Series, baseline: str) -> str:
    """One row of `compare` in words: better and worse only where the corrected p is below 0.05."""
    how = "not distinguishable from" if row["p"] >= 0.05 else "better than" if row["difference"] > 0 else "worse than"
    p = "p < 0.001" if row["p"] < 0.001 else f"p = {row['p']:.3f}"
    size = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}], {p} (Holm)"
    queries = f"{row['wins']} queries won, {row['losses']} lost, {row['ties']} tied"
    return f"{row['ranker']} is {how} {baseline}: {size}, {queries}"


def stratified(parts: list[np.ndarray]) -> tuple[float, float, float]:
    """Mean over sets of their mean differences, and its 95 % bootstrap interval; queries are drawn within each set."""
    draw = np.random.default_rng(SEED)
    arrays = [np.asarray(part, dtype=float) for part in parts]
    drawn = np.mean([part[draw.integers(0, len(part), (RESAMPLES, len(part)))].mean(1) for part in arrays], axis=0)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(np.mean([part.mean() for part in arrays])), float(low), float(high)
