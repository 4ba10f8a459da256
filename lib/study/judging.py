"""Verdicts on claims about rankers, from a table with several seeds such as the evening's (`lib.study.evening`)."""

import pandas as pd

from lib.analysis import measures, significance


def _compared(table: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    """The rows of two rankers, of the seeds that both have; what no seed decides (zero-shot, BM25) has all of them."""
    some = table[table["ranker"].isin([one, other])]
    fixed = set(some.loc[some["paradigm"].isin(["zero-shot", "first stage", "ceiling"]), "ranker"])
    seeds = some[some["query"] != ""].groupby("ranker")["seed"].unique().map(set)
    if len(seeds) < 2:
        raise ValueError(f"the table has not both of {one!r} and {other!r}: `make evening` adds what it lacks")
    drawn = [own for ranker, own in seeds.items() if ranker not in fixed]
    common = set.intersection(*drawn) if drawn else set.union(*seeds)
    if not common:
        raise ValueError(f"the table has {one!r} and {other!r} with no seed in common: `make evening` adds some")
    return some[some["seed"].isin(common) | some["ranker"].isin(fixed)]


def differences(table: pd.DataFrame, measure: str, collections: list[str], one: str, other: str) -> pd.DataFrame:
    """Differences of two rankers by (query, seed), in a column `one`: for `significance.contrasts`.

    Queries of several collections count alike, each once (`significance.pooled`). Raises ValueError if the table lacks
    one of the rankers on a collection, or they have no seed in common.
    """
    rows = _compared(table[table["collection"].isin(collections)], one, other)
    values = significance.pooled(rows[rows["query"] != ""], measure, collections)
    if one not in values or other not in values or values.isna().any(axis=None):
        fault = f"the table lacks queries of {one!r} or {other!r} on {', '.join(collections)}"
        raise ValueError(f"{fault}: `make evening` adds what it lacks")
    return (values[one] - values[other]).to_frame(one)


def judged(
    table: pd.DataFrame, measure: str, claims: dict[str, tuple[str, str]], places: dict[str, list[str]],
    families: dict[str, str] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """One row per claim (name -> the two rankers that it compares) and place (name -> collections, taken together).

    Columns as `significance.contrasts`, and claim, of (the two rankers), devices (how many computed their runs), where,
    family and verdict; in a place the p values are corrected over the claims of a family (Holm): claim -> its family,
    "own" for the others. In column `over_all` are the verdicts with one correction over all claims.
    """
    quality, parts = measures.select(table, measure), []
    table = pd.concat([quality, table[table["query"] == ""]])  # without the other measures
    for where, collections in places.items():
        here, rows = table[table["collection"].isin(["", *collections])], []
        of_ranker = dict(list(here.groupby("ranker")))
        for claim, pair in claims.items():
            both = pd.concat([of_ranker.get(ranker, here.head(0)) for ranker in pair])
            row = significance.contrasts(differences(both, measure, collections, *pair))
            devices = _compared(both, *pair).query("measure == 'device'")["text"].nunique()
            rows.append(row.assign(claim=claim, of=" - ".join(pair), devices=devices))
        part = pd.concat(rows, ignore_index=True).assign(where=where)
        part["family"] = [(families or {}).get(claim, "own") for claim in part["claim"]]
        part["over_all"] = _corrected(part, "where").apply(significance.decided, axis=1)
        part = _corrected(part, "family")
        parts.append(part.assign(verdict=part.apply(significance.decided, axis=1)))
    return pd.concat(parts)


def _corrected(rows: pd.DataFrame, family: str) -> pd.DataFrame:
    ps = rows.groupby(family)[["p", "p_t", "p_equivalent"]]
    return rows.assign(**ps.transform(lambda p: significance.holm(p.to_numpy())))


def stated(verdicts: pd.DataFrame) -> pd.DataFrame:
    """`judged` for readers, by claim: difference and interval in one column, families where there are several."""
    texts = [significance.size(row) for row in verdicts.itertuples()]
    shown = verdicts.assign(difference=texts, resolvable=verdicts["resolvable"].round(3)).set_index("claim")
    several = ["family", "over_all"] if len(set(verdicts["family"])) > 1 else []
    shown = shown[["where", "difference", "verdict", *several, "resolvable", "queries", "seeds", "devices"]]
    return shown.rename(columns={"over_all": "over all claims"})
