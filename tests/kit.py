"""Shorthands of the tests: experiments from flat fields, and what trains or scores where it is missing, then reads."""

from lib.models.vectors import Identity, VectorStore
from lib.study import rankers, runs, tables, targets
from lib.study.experiment import Experiment, Model, vary
from lib.training import scoring


def experiment(strategy, **fields):
    """An experiment from the fields of all its parts."""
    return vary(Experiment("info_nce"), strategy=strategy, **fields)


def complete(grid, tests=()):
    tables.complete(grid, tests)


def history(run):
    runs.complete([run])
    return runs.history(run)


def scores(run, test):
    tables.complete([run], [test])
    return tables.scores(run, test)


def values(grid, test, measure):
    tables.complete(grid if isinstance(grid, list) else [grid], [test])
    return tables.values(grid, test, measure)


def costs(run, *tests):
    tables.complete([run], tests)
    return tables.costs(run, *tests)


def model(run):
    """The model of a run, trained where it is missing."""
    if isinstance(run, Experiment):
        runs.complete([run])
    return rankers.ranker(run)


def start(run):
    """The model that a run starts from."""
    runs.complete([run.start] if run.start else [])
    return rankers.at_start(run)


def pair_tokens(run, collection):
    return rankers.inputs(rankers.ranker(run.before) if run.start is None else start(run), collection, run.model)


def training_groups(run):
    needed = [one for one in (*run.teachers, run.data.negatives) if isinstance(one, Experiment)]
    runs.complete(needed)
    return targets.training_groups(run)


def inputs(ranker, collection, backbone, max_length, max_query=64):
    """What a ranker of this backbone reads of a collection."""
    return rankers.inputs(
        ranker, collection, Model(backbone=backbone, max_length=max_length, max_query=max_query)
    )  # fmt: skip


def encoded(ranker, inputs, collection, folder):
    """The vectors of a collection's documents by a model that is no run."""
    scoring.encode(ranker, inputs, folder, Identity("model", collection.fingerprint))
    return VectorStore(folder)


class Killed(BaseException):
    """The process ends here."""


def cut(until):
    """In the place of `progress.steps`: the process ends when step `until`, from 0, begins; None: it does not."""

    def steps(items, what, total):
        for place, item in enumerate(items):
            if place == until:
                raise Killed
            yield item

    return steps
