"""Ways to teach: related systems of distillation as rankers, all from one start, on the same groups, under one budget.

Each is an `Experiment`; what it made of its paper stands with the functions that it names. To add one, give `ways` a
line more: a strategy of your own, a source of targets (`lib.study.sources`), or another step of a run.
"""

from dataclasses import replace

from lib.study.derived import snapshots
from lib.study.experiment import Experiment, TestSet, vary, with_seed
from lib.study.profiles import Profile
from lib.study.run import Run
from lib.study.sources import Autoencoder, Draws

BASELINES = ("info_nce", "kl", "margin_mse")
CORRUPTIONS = ("typos", "fewer", "keywords")
QUERIES = 400  # of each corrupted test set
CHECKPOINTS = 4  # of the teacher's training


def ways(profile: Profile, seed: int = 0) -> dict[str, Experiment]:
    """Name -> run; all students of a seed share their start, and a student beside them starts with the next seed."""
    teacher, kept = profile.teacher, snapshots(vary(profile.teacher, snapshots=CHECKPOINTS))

    def student(strategy: str, taught_by: Run | tuple | None = None, **more: object) -> Experiment:
        run = vary(profile.student, strategy=strategy, teacher=taught_by, start=profile.start, **more)
        return with_seed(run, seed)

    peer = {"peer": with_seed(profile.start, profile.student.seed + 1)}
    return {
        "ssd": student("ssd", Draws(teacher)),
        "reff_akd": student("reff_akd", Autoencoder()),
        "mutual": student("mutual", **peer),
        "cooperative": student("cooperative", **peer),
        "tst": student("tst", teacher),
        "ardir": student("ardir", teacher, reads="mixed"),
        "kl from 4 checkpoints": student("kl", kept),
        "kl from checkpoint 2": student("kl", kept[1]),
        "akd": student("kl", teacher, reads="mixed"),
        "info_nce on corrupted queries": student("info_nce", reads="mixed"),
        "consistent": student("consistent", teacher),
        "afd": student("afd", teacher),
        "ctsl_mkt": student("ctsl_mkt", teacher, **peer),
        "wcord": student("wcord", teacher),
    }


def compared(profile: Profile, seed: int = 0) -> dict[str, Experiment]:
    """The baselines, then the ways."""
    return {name: profile.variant(name, seed) for name in BASELINES} | ways(profile, seed)


def corrupted(profile: Profile) -> tuple[TestSet, ...]:
    """In-domain queries with misspellings, with fewer words, and as keywords; BM25 reads these queries too."""
    test = profile.tests[0]
    count = min(QUERIES, test.queries or QUERIES)
    return tuple(replace(test, collection=f"{kind}:{test.collection}", queries=count) for kind in CORRUPTIONS)
