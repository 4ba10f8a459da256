"""Results tables: one row per (run, collection, query, measure); costs and provenance are rows too.

Scores on a test set are a folder, named by a hash of the run and of the test set, kept as runs are. Only `complete`,
`results` and `best` train and score what is missing; the other functions read.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from lib.analysis import measures
from lib.machine import hardware, store
from lib.machine.provenance import warn_if_mixed
from lib.models import Ranker
from lib.study import identity, rankers, runs
from lib.study.experiment import Run, TestSet, fields
from lib.study.mining import Mined
from lib.study.run import Source
from lib.training import resume, scoring

COLUMNS = [
    "run", "ranker", "configuration", "architecture", "strategy", "paradigm", "teachers", "layers", "seed",
    "collection", "query", "measure", "value", "text",
]  # fmt: skip


def complete(grid: Iterable[Run], tests: Iterable[TestSet] = ()) -> None:
    """Train every run of a grid that is missing, then score the tests that are missing; raises as `runs.complete`."""
    grid, tests = runs.distinct(grid), list(dict.fromkeys(tests))
    runs.complete(grid, tests)
    folder = store.data_folder() / "evaluations"
    opened = lru_cache(1)(rankers.ranker)  # a run's test sets follow each other
    missing = [
        (run, test) for run in grid for test in tests if not store.is_whole(folder / identity.evaluation(run, test))
    ]
    runs.one_by_one(
        missing, "scoring", lambda pair: f"{pair[1].collection} with {pair[0].about}",
        lambda pair: pairs(pair[1]) * pair[0].model.layer_count,
        lambda pair: _keep(*pair, opened),
    )  # fmt: skip


def pairs(test: TestSet) -> int:
    """About how many pairs a test set has; all queries, or all candidates, count as 1000."""
    return max((test.queries or 1000) - test.skip, 1) * (test.depth or 1000)


def results(grid: Iterable[Run], tests: Iterable[TestSet]) -> pd.DataFrame:
    """The table of all runs of a grid: those that are missing are trained, teachers first; the rest is read.

    Columns: run (key), ranker (see `ranker_names`), configuration (a key that runs share if they differ in the seed
    alone), the experiment's architecture, strategy, paradigm, number of teachers, layers and seed, collection, query,
    measure, value, text. Quality has a query. Costs (unit in the measure's name) and provenance (in `text`) have an
    empty query; those of training have an empty collection too. Warns if runs were computed under different conditions.

    Raises ValueError as `complete`, or if two test sets share a collection, by which the table tells them apart.
    """
    grid, tests = runs.distinct(grid), _of_different_collections(tests)
    complete(grid, tests)
    tables = []
    for run, ranker in zip(grid, ranker_names(grid), strict=True):
        about = {"run": run.key, "ranker": ranker, "architecture": run.model.architecture, "seed": run.seed,
                 "layers": run.model.layer_count, "configuration": _configuration(run), **run.taught}  # fmt: skip
        tables += [part.assign(**about) for part in _parts(run, tests)]
    table = _joined(tables)
    warn_if_mixed(table)
    return table


def first_stage(tests: Iterable[TestSet]) -> pd.DataFrame:
    """The same table for the candidates' own order, which every run re-ranks: BM25's, or that of a stored run.

    Strategy and ranker are "bm25" or the stem of the stored run's name. Raises ValueError if test sets have several.
    """
    tests = list(tests)
    names = {test.ranked_by for test in tests}
    if len(names) > 1:
        raise ValueError(f"test sets with several first stages ({', '.join(sorted(names))}): call once for each")
    name = names.pop() if names else "bm25"
    return _ranked_by(_by("first_stage"), tests, strategy=name, paradigm="first stage")


def best_order(tests: Iterable[TestSet]) -> pd.DataFrame:
    """The same table for the ideal ranking of the candidates (strategy "best"): what re-ranking could reach."""
    return _ranked_by(_by("grade"), tests, strategy="best", paradigm="ceiling")


def _by(column: str) -> Callable[[TestSet, pd.DataFrame], pd.DataFrame]:
    return lambda _, ranking: ranking.rename(columns={column: "score"})


def with_first_stage(run: Run, tests: Iterable[TestSet]) -> pd.DataFrame:
    """The same table for the sum of a run's scores and the first stage's, each standardised by query: nothing is tuned.

    Wang, Zhuang and Zuccon 2021, https://doi.org/10.1145/3471158.3472233, add BM25's to a dense retriever's, with a
    tuned weight. Where all scores of a query are equal, they add nothing. Raises NotTrained as `scores`.
    """

    def both(test: TestSet, _ranking: pd.DataFrame) -> pd.DataFrame:
        found, parts = scores(run, test), ["score", "first_stage"]
        by_query, size = found.groupby("query")[parts], found[parts].abs().groupby(found["query"]).transform("max")
        spread = by_query.transform("std").fillna(0)
        same = spread <= 1e-9 * size  # of a stored run, where equal scores are apart by the least that float64 has
        standard = (found[parts] - by_query.transform("mean")) / spread.mask(same, np.inf)
        return found.assign(score=standard.sum(axis=1))

    return _ranked_by(both, tests, strategy=f"{run.taught['strategy']}, with the first stage", paradigm="fusion")


def scores(run: Run, test: TestSet) -> pd.DataFrame:
    """Raw test scores of a run: columns query, document, rank, first_stage (its score there), grade, score.

    `run.before` is what a run starts from. Raises NotTrained if a run was not trained, or not scored on this test set.
    """
    return pd.read_parquet(_folder(run, test) / "scores.parquet")


def values(grid: Run | Iterable[Run], test: TestSet, measure: str) -> pd.Series:
    """One measure of a run by query, or the mean of several runs that differ in the seed.

    Raises ValueError if runs differ in more or there is no such measure, and NotTrained as `scores`.
    """
    grid = runs.distinct([grid] if isinstance(grid, Run) else grid)
    _check_seeds(grid)
    if len({_configuration(run) for run in grid}) != 1:
        names = "; ".join(sorted(set(ranker_names(grid))))
        raise ValueError("a mean is taken over runs that differ in nothing but the seed, and these differ in more: "
                         + names)  # fmt: skip
    table = pd.concat([part for run in grid for part in _parts(run, [test])])
    warn_if_mixed(table)
    return measures.select(table, measure).groupby("query", sort=False)["value"].mean()


def best(grid: Iterable[Run], devs: Iterable[TestSet], measure: str) -> Run:
    """The run of a grid with the highest mean over sets of dev queries, the first of equals; what lacks is made.

    For choices: which snapshot teaches, how far a task vector goes. Raises ValueError for test queries, on which what
    was chosen is to be measured.
    """
    grid, devs = runs.distinct(grid), list(devs)
    if not grid or not devs:
        raise ValueError(f"{len(grid)} runs and {len(devs)} sets of dev queries: give one of each at least")
    for dev in devs:
        if dev.split == "test":
            raise ValueError(f"split={dev.split!r}: what is chosen on test queries cannot be measured there; give dev")
    measures.check(measure)
    complete(grid, devs)
    return max(grid, key=lambda run: sum(values(run, dev, measure).mean() for dev in devs))


def costs(run: Run, *tests: TestSet) -> pd.Series:
    """What a run and its scoring of test sets cost, by measure with its unit: train_seconds, peak_memory_gib, ...

    Of an untrained model it is the scoring alone. Raises NotTrained as `scores`, and for an untrained model alone.
    """
    table = pd.concat(_parts(run, tests) or [runs.costs(run)])
    return table[(table["query"] == "") & (table["text"] == "")].set_index("measure")["value"]


def ranker_names(grid: Sequence[Run]) -> list[str]:
    """A name for each run, which runs share exactly if they differ in nothing but the seed.

    It is the strategy; where runs of one strategy differ in more, what they differ in follows in brackets. Raises
    ValueError for two runs of one seed that differ in the seed of what they start from alone.
    """
    _check_seeds(grid)
    settings = {_configuration(run): _settings(run) for run in grid}
    names = {}
    for configuration, own in settings.items():
        strategy = own["strategy"]
        peers = [one for one in settings.values() if one["strategy"] == strategy]
        differing = [f"{name}={value}" for name, value in own.items() if len({one.get(name) for one in peers}) > 1]
        names[configuration] = f"{strategy} [{', '.join(differing)}]" if differing else strategy
    # Equal literals over inputs that changed in between, or losses of other content under one name.
    for shared in [name for name, count in Counter(names.values()).items() if count > 1]:
        names |= {configuration: f"{name} [{configuration}]" for configuration, name in names.items() if name == shared}
    return [names[_configuration(run)] for run in grid]


def _check_seeds(grid: Iterable[Run]) -> None:
    """Refuse what would be averaged as two seeds and is one."""
    seen: dict[tuple[str, int], str] = {}
    for run in grid:
        if seen.setdefault((_configuration(run), run.seed), run.key) != run.key:
            what = f"{run.about}: two runs of this seed differ in the seed of what they start from alone"
            raise ValueError(f"{what}, so they are no two seeds of one ranker; give each in a call of its own")


def _configuration(run: Run) -> str:
    """The key that runs share exactly if they differ in nothing but the seed, and that of their start."""
    return _at_least_seed(run).key


def _at_least_seed(run: Run) -> Run:
    """The run with seed 0; with a peer of a lower seed, with the one that gives the peer 0."""
    peer = getattr(run, "peer", None)
    return run.with_seed(max(0, run.seed - peer.seed) if peer else 0)


def _settings(run: Run) -> dict[str, str]:
    """Field -> its value as text, without the seed; another run, whose text may hide a difference, with its key."""

    def text(value: object) -> str:
        if isinstance(value, tuple) and any(isinstance(one, Run) for one in value):
            return " and ".join(map(text, value))
        return f"{value.about} ({value.key[:6]})" if isinstance(value, Run | Source | Mined) else str(value)

    settings = {name: text(value) for name, value in fields(_at_least_seed(run)) if name != "seed"}
    return settings | {"strategy": run.taught["strategy"]}


def _parts(run: Run, tests: Iterable[TestSet]) -> list[pd.DataFrame]:
    """What is kept of a run: costs and conditions of its training, then of its scoring with the values by query."""
    return ([runs.costs(run)] if run.stored else []) + [_values(run, test) for test in tests]


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True)[COLUMNS] if tables else pd.DataFrame(columns=COLUMNS)


def _of_different_collections(tests: Iterable[TestSet]) -> list[TestSet]:
    tests = list(dict.fromkeys(tests))
    for name, count in Counter(test.collection for test in tests).items():
        if count > 1:
            raise ValueError(f"{count} test sets of collection {name!r}: a table tells test sets apart by their "
                             "collection, so call once for each of these")  # fmt: skip
    return tests


def _ranked_by(
    scored: Callable[[TestSet, pd.DataFrame], pd.DataFrame], tests: Iterable[TestSet], *, strategy: str, paradigm: str
) -> pd.DataFrame:
    """The table of ranking a test set's candidates by the column score that `scored` gives them."""
    about = {
        "run": strategy, "ranker": strategy, "configuration": strategy, "architecture": "", "strategy": strategy,
        "paradigm": paradigm, "teachers": 0, "layers": 0, "seed": 0, "text": "",
    }  # fmt: skip
    tables = []
    for test in _of_different_collections(tests):
        collection, queries, ranking = test.candidates()
        table = measures.measure(scored(test, ranking), collection, test.split, queries)
        tables.append(table.assign(collection=test.collection, **about))
    return _joined(tables)


def _keep(run: Run, test: TestSet, opened: Callable[[Run], Ranker]) -> None:
    def evaluate(folder: Path) -> None:
        collection, queries, ranking = test.candidates()
        ranker = opened(run)
        inputs = rankers.inputs(ranker, collection, run.model)
        asked, candidates = ranking["query"].to_numpy(), ranking["document"].to_numpy()
        checkpoint = resume.Checkpoint(name, each=True)
        with hardware.Meter() as meter:
            ranking["score"] = scoring.score(
                ranker, inputs, asked, candidates, what=f"scoring {test.collection}", checkpoint=checkpoint
            )
        speed = len(ranking) / (checkpoint.spent + meter.seconds)
        cost = {"score_pairs_per_second": speed, "score_peak_memory_gib": meter.peak_memory_gib}
        ranking.to_parquet(folder / "scores.parquet")
        quality = measures.measure(ranking, collection, test.split, queries)
        runs.with_conditions(cost, quality).to_parquet(folder / "values.parquet")

    name = identity.evaluation(run, test)
    store.keep("evaluations", name, evaluate, of=rankers.made_from(run))
    resume.remove(name)


def is_scored(run: Run, test: TestSet) -> bool:
    """Whether the store has a run's scores of a test set."""
    return store.find("evaluations", identity.evaluation(run, test)) is not None


def _folder(run: Run, test: TestSet) -> Path:
    place = store.find("evaluations", identity.evaluation(run, test))
    if place is None:
        raise rankers.NotTrained(f"{run.about} is not scored on {test.collection} ({test.split}) yet: call "
                                 "lib.study.tables.complete([run], [test]) first")  # fmt: skip
    return place


def _values(run: Run, test: TestSet) -> pd.DataFrame:
    """The values of a run on a test set, under the name that the test set's collection has here."""
    return pd.read_parquet(_folder(run, test) / "values.parquet").assign(collection=test.collection)
