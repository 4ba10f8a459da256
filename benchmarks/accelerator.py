"""What the students of a profile reach on one accelerator, with every seed, and what they cost.

`python -m benchmarks.accelerator --profile workstation` trains and scores what the data folder lacks and writes a table
of rows (parquet, as `tables.results` gives them) and a page. `--rows FILE` writes the page of rows that are there, from
whichever machine: the published ones are `figures/bench_workstation.parquet`.
"""

import argparse
from pathlib import Path

import pandas as pd

from benchmarks import add_out, out_folder
from lib.analysis import measures, significance, style
from lib.machine import store
from lib.study import evening, judging, profiles, tables
from lib.study.profiles import Profile
from lib.study.runs import history

MEASURE = "RR@10"
TARGETS = "margin of the targets"
# Name, as in notebook 12 -> the two rankers that it compares.
CLAIMS = {
    "KL, larger teacher, vs labels": ("kl", "info_nce"),
    "Margin-MSE, larger teacher, vs labels": ("margin_mse", "info_nce"),
    "labels vs where they start": ("info_nce", "start"),
    "KL vs where it starts": ("kl", "start"),
    "labels vs the zero-shot encoder": ("info_nce", "minilm"),
    "KL vs the zero-shot encoder": ("kl", "minilm"),
}
# Name in the table of costs -> measure.
COSTS = {
    "seconds of training": "train_seconds", "pairs/s in training": "train_pairs_per_second",
    "GiB in training": "peak_memory_gib", "pairs/s in scoring": "score_pairs_per_second",
    "GiB in scoring": "score_peak_memory_gib",
}  # fmt: skip


def rows(profile: Profile) -> pd.DataFrame:
    """The results table of a profile's students, its teacher and start, and what no training made."""
    tests = profile.tests
    others = {**profiles.zero_shot(), "start": profile.start, "teacher": profile.teacher}
    named = [tables.results([run], tests).assign(ranker=name) for name, run in others.items()]
    grid = profile.students()
    students = tables.results(grid, tests)
    steps = [pd.DataFrame({"run": run.key, TARGETS: history(run)["target_margin"]}) for run in grid]
    students = with_targets(students, steps)
    return pd.concat([tables.first_stage(tests), *named, students, tables.best_order(tests)], ignore_index=True)


def with_targets(students: pd.DataFrame, steps: list[pd.DataFrame]) -> pd.DataFrame:
    """A results table with a row more for each run: the mean margin of the targets that its training had."""
    margins = pd.concat(steps).groupby("run")[TARGETS].mean()
    more = students[students["measure"] == "train_seconds"].assign(measure=TARGETS)
    return pd.concat([students, more.assign(value=more["run"].map(margins))], ignore_index=True)


def places(table: pd.DataFrame) -> tuple[str, list[str]]:
    """The in-domain collection, and the others."""
    home, *away = table.loc[table["query"] != "", "collection"].unique()
    return home, away


def pooled(table: pd.DataFrame, collections: list[str]) -> pd.DataFrame:
    """The rows by query of some collections as those of one, "all", in which every query counts alike."""
    some = table[(table["query"] != "") & table["collection"].isin(collections)]
    return some.assign(query=some["collection"] + " " + some["query"], collection="all")


def quality(table: pd.DataFrame) -> pd.DataFrame:
    """One row per ranker: means with intervals in-domain, and over all queries of the other sets."""
    home, away = places(table)
    found = {}
    for where, collections in {"in-domain": [home], f"out-of-domain, {len(away)} sets": away}.items():
        over = significance.over_seeds(pooled(table, collections), MEASURE, "all").set_index("ranker")
        head = f"{where} ({over['queries'].iloc[0]:,} queries)"
        found[head] = [f"{row[MEASURE]:.3f} [{row.low:.3f}, {row.high:.3f}]" for _, row in over.iterrows()]
    paradigms = table.drop_duplicates("ranker").set_index("ranker")["paradigm"]
    margins = table[table["measure"] == TARGETS].groupby("ranker")["value"].mean().reindex(over.index)
    taught = margins.where(paradigms[over.index] == "distillation").map("{:.1f}".format).replace("nan", "")
    return pd.DataFrame({"learns from": paradigms[over.index], **found, "seeds": over["seeds"], TARGETS: taught})


def costs(table: pd.DataFrame) -> pd.DataFrame:
    """One row per ranker that was trained: medians over seeds, of scoring over test sets too."""
    some = table[(table["query"] == "") & table["measure"].isin(COSTS.values())]
    medians = some.pivot_table("value", "ranker", "measure", "median", sort=False)[list(COSTS.values())]
    named = medians.set_axis(list(COSTS), axis=1).dropna()
    return named.map("{:,.1f}".format)


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """One row per claim and place, of the claims whose rankers are there."""
    home, away = places(table)
    have = set(measures.select(table, MEASURE)["ranker"])
    claims = {name: pair for name, pair in CLAIMS.items() if have.issuperset(pair)}
    return judging.stated(judging.judged(table, MEASURE, claims, {"in-domain": [home], "out-of-domain": away}))


def conditions(table: pd.DataFrame) -> str:
    """Where the rows come from."""
    under = table[table["text"] != ""].groupby("measure")["text"].unique().map(", ".join)
    return ", ".join(f"{name} {value}" for name, value in under.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=profiles.PROFILES, default="workstation")
    parser.add_argument("--rows", type=Path, help="a table that is there; nothing is trained")
    parser.add_argument("--size", choices=["full", "tiny"], default="full", help="tiny: the smoke profile")
    add_out(parser)
    chosen = parser.parse_args()
    name = "smoke" if chosen.size == "tiny" else chosen.profile
    table = evening.read(chosen.rows) if chosen.rows else rows(profiles.named(name))
    out = out_folder(chosen)
    store.replace_file(
        out / f"bench_{name}.parquet", lambda into: evening.compact(table).to_parquet(into, compression="zstd")
    )
    parts = {"quality": quality(table), "verdicts": verdicts(table), "costs": costs(table)}
    for what, part in parts.items():
        part.to_csv(out / f"bench_{name}_{what}.csv")
        (out / f"bench_{name}_{what}.md").write_text(style.markdown(part))
        print(part.to_string())
    (out / f"bench_{name}_conditions.md").write_text(conditions(table) + ".\n")
    print(conditions(table), f"written to {out}", sep="\n")


if __name__ == "__main__":
    main()
