"""What can be refused before anything is trained or scored: a look at the files that a grid and its tests need."""

from collections.abc import Iterable

from lib import models
from lib.data import collections, groups, score_files
from lib.models import adapters, backbone
from lib.study.experiment import Experiment, TestSet, describe


def check(runs: Iterable[Experiment], tests: Iterable[TestSet]) -> None:
    """Refuse runs and test sets that could not be finished.

    Raises:
        ValueError: a model that its backbone does not allow, lengths beyond its positions, more groups than there are,
            an empty or missing split.
        CollectionError, WeightsError, ConnectionError: a collection or a model cannot be read.
    """
    runs = list(runs)
    for run in {_model(run): run for run in runs}.values():
        _check_model(run)
    for run in runs:
        _check_length(run)
        there = groups.available(collections.load(run.collection))
        if run.group_count > there:
            raise ValueError(
                f"group_count={run.group_count}: {run.collection} has {there} training groups ({describe(run)})"
            )
    for teacher in {teacher for run in runs for teacher in run.teachers if isinstance(teacher, str)}:
        if not score_files.is_file_name(teacher):
            models.load(backbone.folder(teacher))  # refuses weights without a scoring head, among others
    for test in tests:
        if not collections.load(test.collection).split(test.split, 1):
            raise ValueError(f"split={test.split!r}: {test.collection} has no query in it; give another split")


def _model(run: Experiment) -> tuple:
    return run.architecture, run.options, run.backbone, run.layers, run.adapter, run.adapter_size


def _check_model(run: Experiment) -> None:
    """Build it: whatever an architecture, an adapter or a backbone refuses, it refuses here."""
    ranker = models.build(run.architecture, run.backbone, run.layers, run.seed, **dict(run.options))
    if run.adapter is not None:
        adapters.attach(ranker, run.adapter, run.adapter_size, run.seed)


def _check_length(run: Experiment) -> None:
    limit = backbone.positions(run.backbone)
    if limit is not None and run.architecture != "tk" and run.max_length > limit:
        raise ValueError(f"max_length={run.max_length}: backbone {run.backbone!r} reads at most {limit} tokens")
