"""Ways to teach: related systems of distillation as rankers, all from one start, on the same groups, under one budget.

Each is an `Experiment`; what it made of its paper stands with the functions that it names. To add one, give `ways` a
line more: a strategy of your own, a source of targets (`lib.study.sources`), or another step of a run.
"""

from dataclasses import replace

import pandas as pd

from lib.analysis import significance
from lib.study.derived import Snapshot, snapshots
from lib.study.experiment import Experiment, TestSet, vary
from lib.study.profiles import Profile
from lib.study.run import Run
from lib.study.sources import Autoencoder, Draws

BASELINES = ("info_nce", "kl", "margin_mse")
CORRUPTIONS = ("typos", "fewer", "keywords")
QUERIES = 400  # of each corrupted test set
CHECKPOINTS = 4  # of the teacher's training, where it has so many steps


def ways(profile: Profile, seed: int = 0) -> dict[str, Experiment]:
    """Name -> run; all students of a seed share their start, and a student beside them starts with the next seed."""
    teacher = profile.teacher
    kept = snapshots(vary(teacher, snapshots=1 if teacher.training.adapter else min(CHECKPOINTS, teacher.steps)))

    def student(strategy: str, taught_by: Run | tuple | None = None, **more: object) -> Experiment:
        run = vary(profile.student, strategy=strategy, teacher=taught_by, start=profile.start, **more)
        return run.with_seed(seed)

    peer = {"peer": profile.start.with_seed(profile.student.seed + 1), "adapter": None}  # peers train all weights
    return {
        "ssd": student("ssd", Draws(teacher)),
        "reff_akd": student("reff_akd", Autoencoder()),
        "mutual": student("mutual", **peer),
        "cooperative": student("cooperative", **peer),
        "tst": student("tst", teacher),
        "ardir": student("ardir", teacher, reads="mixed"),
        "akd": student("kl", teacher, reads="mixed"),
        "info_nce on corrupted queries": student("info_nce", reads="mixed"),
        "consistent": student("consistent", teacher),
        "afd": student("afd", teacher),
        "ctsl_mkt": student("ctsl_mkt", teacher, **peer),
        "wcord": student("wcord", teacher),
        "kl from checkpoints": student("kl", kept),
        "kl from the half-trained teacher": student("kl", kept[(len(kept) - 1) // 2]),
    }


def baselines(profile: Profile) -> dict[str, str]:
    """What each way is compared with: KL where it learns from the same teacher's scores, else InfoNCE."""
    return {name: "kl" if run.teachers and not isinstance(run.teacher, Autoencoder) else "info_nce"
            for name, run in ways(profile).items()}  # fmt: skip


def compared(profile: Profile, seed: int = 0) -> dict[str, Experiment]:
    """The baselines, then the ways."""
    return {name: profile.variant(name, seed) for name in BASELINES} | ways(profile, seed)


def small(profile: Profile, count: int) -> dict[str, Experiment]:
    """The same on the first `count` groups, without those that need another training of the teacher."""
    runs = compared(profile).items()
    cheap = {name: run for name, run in runs if not any(isinstance(one, Snapshot) for one in run.teachers)}
    return {name: vary(run, group_count=count) for name, run in cheap.items()}


def corrupted(test: TestSet) -> tuple[TestSet, ...]:
    """Queries of a test set with misspellings, with fewer words, and as keywords; BM25 reads these queries too."""
    count = min(QUERIES, test.queries or QUERIES)
    return tuple(replace(test, collection=f"{kind}:{test.collection}", queries=count) for kind in CORRUPTIONS)


SAID = {"better": "helps", "worse": "hurts", "equivalent": "makes no difference"}


def sentences(verdicts: pd.DataFrame) -> list[str]:
    """One line for each claim, from rows with claim, where, verdict, difference, low and high."""
    lines = []
    for claim, rows in verdicts.groupby("claim", sort=False):
        said = [
            f"{row.where} {SAID.get(row.verdict, row.verdict)} ({significance.size(row)})" for row in rows.itertuples()
        ]
        helps = "helps a ranker" if "better" in set(rows["verdict"]) else "is not shown to help a ranker"
        lines.append(f"{claim}: {helps}; {', '.join(said)}")
    return lines
