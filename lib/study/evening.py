"""The evening: comparisons with five seeds and every in-domain query, in a table that is committed and grows.

`make evening` computes what the table lacks, the most needed runs first, and adds each as soon as it is there: stopped
at any time it keeps what it has, and another evening goes on from there. Notebook 12 reads the table. It holds rows as
`tables.results` gives them, one per run, query and measure, with commit, machine and versions of every run as rows too,
and two columns more: `question`, and `evaluation`, the name of everything that decides a row's value.
"""

import argparse
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet

from lib.data import pydocs
from lib.machine import hardware, progress, store
from lib.study import identity, profiles, tables, ways
from lib.study.experiment import Run, TestSet, vary
from lib.study.mining import RANDOM, Mined
from lib.study.profiles import FREE_TEACHER, Profile
from lib.study.sources import Relabelled
from lib.training import strategies

TABLE = Path(__file__).parents[2] / "figures" / "evening.parquet"
SEEDS, SOME = 5, 3  # of students and bi-encoders; of students of other teachers
QUERIES = 300  # of each out-of-domain set; in-domain all
STUDENTS = ("info_nce", "kl", "margin_mse", "mse", "ranknet", "bce")
REFERENCES = ("bm25", "best", "start", "teacher")  # beside which ways to teach are shown on corrupted queries
MARGINS = ("in_batch", "margin_mse", "adaptive_margin", "distributed_margin")


@dataclass(frozen=True)
class Entry:
    """A run of the plan, which question it is for, and its name in the table; without a run, "bm25" or "best"."""

    question: str
    ranker: str
    run: Run | None

    @property
    def key(self) -> str:
        """The run's, or the name of what is no run."""
        return self.ranker if self.run is None else self.run.key

    @property
    def seed(self) -> int:
        """The run's."""
        return 0 if self.run is None else self.run.seed

    def rows(self, sets: list[TestSet]) -> pd.DataFrame:
        """Its results table; what is missing is trained and scored."""
        if self.run is None:
            return {"bm25": tables.first_stage, "best": tables.best_order}[self.ranker](sets)
        return tables.results([self.run], sets)


def tests(profile: Profile) -> tuple[TestSet, ...]:
    """Every in-domain query and `QUERIES` of each other set.

    With the smoke profile its own of two sets, and with one whose texts are not the kit's all of its own.
    """
    if profile.name == "smoke":
        return profile.tests[:2]
    if profile.tests[0].collection != pydocs.IN_DOMAIN:
        return profile.tests
    return profiles.test_sets(None, QUERIES, profile.tests[0].depth)


def plan(profile: Profile) -> Iterator[Entry]:
    """Every run, the most needed first; settings are the profile's, chosen on dev queries. Smoke: one seed of most."""
    seeds, some = (range(SEEDS), range(SOME)) if profile.name != "smoke" else (profile.seeds, profile.seeds[:1])
    yield from (Entry("students", name, None) for name in ("bm25", "best"))
    yield Entry("students", "teacher", profile.teacher)
    yield from (Entry("students", name, run) for name, run in profiles.zero_shot().items())
    for seed in seeds[:SOME]:  # by seed, so that a table cut short compares what it has
        yield from _students(profile, STUDENTS[:3], seed)
    yield from (Entry("students", "start", profile.start.with_seed(seed)) for seed in seeds[:SOME])
    for seed in seeds[:SOME]:
        yield from _bi_encoders(profile, seed)
    for seed in seeds[SOME:]:  # the claims of the first three need them
        yield from _students(profile, STUDENTS[:3], seed)
    for seed in some:
        yield from (Entry("ways", name, run) for name, run in ways.ways(profile, seed).items())
    yield from (_knowing(profile, seed) for seed in some)
    for seed in some:  # the papers' other claims first
        yield from _students(profile, STUDENTS[3:5], seed)
        yield from _architectures(profile, seed)
        yield from _mixtures(profile, seed)
        yield from _sizes(profile, seed)
        yield from _negatives(profile, seed)
        yield from _teachers(profile, seed)
        yield from _amounts(profile, seed)
        yield from _students(profile, STUDENTS[5:], seed)
    for seed in seeds[SOME:]:
        yield from _students(profile, STUDENTS[3:], seed)
        yield Entry("students", "start", profile.start.with_seed(seed))
        yield from _bi_encoders(profile, seed)


def _students(profile: Profile, names: tuple[str, ...], seed: int) -> Iterator[Entry]:
    yield from (Entry("students", name, profile.variant(name, seed)) for name in names)


def _knowing(profile: Profile, seed: int) -> Entry:
    """KL from a teacher that saw the groups which it teaches three times, and so knows their labels."""
    knowing = vary(profile.variant("kl", seed), teacher=vary(profile.teacher, epochs=3))
    return Entry("teachers", "kl from a teacher of three epochs", knowing)


def _negatives(profile: Profile, seed: int) -> Iterator[Entry]:
    """By chance; without those that a free encoder prefers to the positive, or these as positives; from all strata."""
    free = profiles.ZERO_SHOT["minilm"]
    relabelled = vary(profile.variant("info_nce", seed), strategy="relabelled", teacher=Relabelled(free))
    yield Entry("negatives", "info_nce, false negatives relabelled", relabelled)
    kinds = {"random negatives": RANDOM, "false negatives left out": Mined(free),
             "stratified negatives": Mined(free, strata=True)}  # fmt: skip
    for name in ("info_nce", "margin_mse"):
        for what, negatives in kinds.items():
            yield Entry("negatives", f"{name}, {what}", vary(profile.variant(name, seed), negatives=negatives))


def _amounts(profile: Profile, seed: int) -> Iterator[Entry]:
    """Pointwise and margin losses on a quarter of the groups."""
    for name in ("mse", "margin_mse"):
        run = profile.variant(name, seed)
        count = max(run.data.group_count // 4, run.training.batch_size)
        yield Entry("amounts", f"{name}, a quarter", vary(run, group_count=count))


def _teachers(profile: Profile, seed: int) -> Iterator[Entry]:
    """Margin-MSE from other teachers; a bi-encoder's cosines, whose margins are at most 2, are scaled by 20."""
    bge = vary(profiles.ZERO_SHOT["bge-small"], options=(("pooling", "cls"), *FREE_TEACHER.model.options))
    teachers = {
        "a student of the same size": profile.variant("info_nce", seed=9),
        "msmarco-minilm-l12": profiles.ZERO_SHOT["msmarco-minilm-l12"],
        "bge-small": bge,
        "minilm": FREE_TEACHER,
    }
    for name, teacher in teachers.items():
        run = vary(profile.variant("margin_mse", seed), teacher=teacher)
        yield Entry("teachers", f"margin_mse from {name}", run)


def _mixtures(profile: Profile, seed: int) -> Iterator[Entry]:
    """Labels with a teacher, higher temperatures, and the mean of two cross-encoders' scores (T2 of 2010.02666)."""
    run = vary(profile.variant("margin_mse", seed), teacher=(profile.teacher, profiles.ZERO_SHOT["msmarco-minilm-l12"]))
    yield Entry("mixtures", "margin_mse from two cross-encoders", run)
    kinds = {"info_nce+kl": "info_nce+kl"}
    kinds |= {f"kl, temperature {value}": strategies.named("kl", temperature=value) for value in (2, 4)}
    for name, strategy in kinds.items():
        yield Entry("mixtures", name, vary(profile.variant("kl", seed), strategy=strategy))


def _sizes(profile: Profile, seed: int) -> Iterator[Entry]:
    """Students of six layers and, once, of one, which learn nothing; each from a start of its own size."""
    for layers in ((0,), None) if seed == 0 else (None,):
        count = vary(profile.student, layers=layers).model.layer_count
        start = vary(profile.start, layers=layers, start=vary(profile.cropped, layers=layers))
        for name in ("info_nce", "margin_mse"):
            run = vary(profile.variant(name, seed), layers=layers, start=start).with_seed(seed)
            yield Entry("sizes", f"{name}, layers {count}", run)


def _architectures(profile: Profile, seed: int) -> Iterator[Entry]:
    """The other architectures of 2010.02666, from labels as there and by Margin-MSE, on as many groups as the students.

    Layers, learning rates and starts are those of notebook 07.
    """
    for base in profile.architectures[1:]:
        base = vary(base, group_count=profile.student.data.group_count).with_seed(seed)
        name = f"architecture {base.model.architecture}"
        yield Entry("architectures", f"ranknet, {name}", vary(base, strategy="ranknet"))
        taught = vary(base, strategy="margin_mse", teacher=profile.teacher)
        yield Entry("architectures", f"margin_mse, {name}", taught)


def _bi_encoders(profile: Profile, seed: int) -> Iterator[Entry]:
    """The strategies of 2407.21515's claims, with as many groups as the students have."""
    base = vary(profile.margins, group_count=profile.student.data.group_count)
    distilled = vary(profile.distilled_margins, group_count=profile.student.data.group_count)
    for name in MARGINS:
        run = distilled if name == "margin_mse" else vary(base, strategy=name)
        yield Entry("bi-encoders", f"{name} (dot)", run.with_seed(seed))
    if seed == 0:
        yield Entry("bi-encoders", "start (dot)", base.before)


def read(path: Path = TABLE) -> pd.DataFrame:
    """The table; raises FileNotFoundError if there is none yet, and ValueError if the file is none."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: `make evening` makes it")
    table = pyarrow.parquet.read_table(path)
    if lacks := sorted({*tables.COLUMNS, "question", "evaluation"} - {*table.column_names}):
        raise ValueError(
            f"{path} is no table of an evening: it lacks the columns {', '.join(lacks)}; give another file"
        )
    plain = [field.with_type(getattr(field.type, "value_type", field.type)) for field in table.schema]
    return table.cast(pyarrow.schema(plain)).to_pandas(ignore_metadata=True)  # pandas' cast takes twice the time


def lacking(table: pd.DataFrame, profile: Profile) -> list[tuple[Entry, list[TestSet]]]:
    """The entries of the plan that the table has not whole, with the test sets that are missing."""
    known = set(table["evaluation"]) if len(table) else set()
    wanted = {entry: [test for test in _sets(entry, profile) if identity.evaluation(entry, test) not in known]
              for entry in plan(profile)}  # fmt: skip
    return [(entry, missing) for entry, missing in wanted.items() if missing]


def _sets(entry: Entry, profile: Profile) -> tuple[TestSet, ...]:
    """What an entry is evaluated on: corrupted queries too where it is compared with the ways to teach."""
    robust = entry.question == "ways" or entry.ranker in (*ways.BASELINES, *REFERENCES)
    return (sets := tests(profile)) + (ways.corrupted(sets[0]) if robust else ())


def extend(path: Path, profile: Profile, questions: Container[str] | None = None) -> None:
    """Compute what a table lacks and add it, one run at a time; what is in the data folder is read, not trained again.

    With `questions` only the runs for these. Rows of a ranker and seed whose settings have changed are replaced. Raises
    ValueError if the table was computed in another precision than this machine's, and StoreError if it cannot be
    written. Several evenings can extend one table at once.
    """
    table = _so_far(path)
    store.check_writable(path.parent)
    if len(table):
        made = sorted(set(table.loc[table["measure"] == "precision", "text"]))
        if made and made != [hardware.precision()]:  # BM25 and the ideal ranking have none
            raise ValueError(f"{path} was computed with precision {', '.join(made)}, and this machine has "
                             f"{hardware.precision()}: give another file with --out")  # fmt: skip
    missing = [one for one in lacking(table, profile) if questions is None or one[0].question in questions]
    for number, (entry, sets) in enumerate(missing, 1):
        progress.say(f"evening, {number} of {len(missing)}: {entry.question}, {entry.ranker}, seed {entry.seed}")
        rows = entry.rows(sets)
        with store.locked(path):  # another evening may have added rows meanwhile
            table = _with(_so_far(path), entry, sets, rows)
            store.replace_file(path, lambda into, table=table: compact(table).to_parquet(into, compression="zstd"))


def _so_far(path: Path) -> pd.DataFrame:
    return read(path) if path.exists() else pd.DataFrame()


def _with(table: pd.DataFrame, entry: Entry, sets: list[TestSet], rows: pd.DataFrame) -> pd.DataFrame:
    evaluations = rows["collection"].map({test.collection: identity.evaluation(entry, test) for test in sets})
    rows = rows.assign(ranker=entry.ranker, question=entry.question, evaluation=evaluations.fillna(""))
    if not len(table):
        return rows
    same = (table["ranker"] == entry.ranker) & (table["seed"] == entry.seed)
    replaced = same & (table["collection"].isin(rows["collection"]) | (table["run"] != entry.key))
    return pd.concat([table[~replaced], rows], ignore_index=True)


def compact(table: pd.DataFrame) -> pd.DataFrame:
    """The table as it is kept: each text once. `read` undoes it."""
    texts = [name for name in table if table[name].dtype == object or isinstance(table[name].dtype, pd.StringDtype)]
    return table.astype(dict.fromkeys(texts, "category"))


def main() -> None:
    """Compute what the evening's table lacks; stop it whenever you like."""
    parser = argparse.ArgumentParser(prog="python -m lib.study.evening", description=main.__doc__)
    parser.add_argument("--profile", default="laptop", choices=profiles.PROFILES, help="whose settings the runs have")
    parser.add_argument("--out", type=Path, default=TABLE, help="the table; default: the one of this project")
    parser.add_argument("--questions", nargs="+", metavar="QUESTION", help="only the runs for these; default: all runs")
    given = parser.parse_args()
    if given.profile != "laptop" and given.out.resolve() == TABLE.resolve():
        parser.error(f"the project's table has the laptop profile's settings; with {given.profile} give --out")
    profile = profiles.named(given.profile)
    known = dict.fromkeys(entry.question for entry in plan(profile)) if given.questions else ()
    if unknown := [name for name in given.questions or () if name not in known]:
        parser.error(f"--questions {unknown[0]!r}: give some of {', '.join(known)}")
    try:
        extend(given.out, profile, given.questions)
    except (ValueError, store.StoreError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
