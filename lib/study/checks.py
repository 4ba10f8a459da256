"""What can be refused before anything is trained or scored: a look at the files that a grid and its tests need."""

from collections.abc import Iterable

import numpy as np

from lib import models
from lib.data import collections, groups, score_files
from lib.models import adapters, backbone, masked_lm
from lib.study import rankers, targets
from lib.study.derived import Pretrained
from lib.study.experiment import Experiment, Run, TestSet, describe
from lib.study.mining import Mined
from lib.training import resume, trackers


def check(runs: Iterable[Run], tests: Iterable[TestSet]) -> None:
    """Refuse runs and test sets that could not be finished.

    Raises ValueError for a model that its backbone does not allow, lengths beyond its positions, more groups than there
    are, a missing or empty split and a tracker that is not installed, and CollectionError, ScoreFileError, WeightsError
    or ConnectionError for what cannot be read.
    """
    resume.seconds()
    runs = list(runs)
    trackers.chosen()
    trained = [run for run in runs if isinstance(run, Experiment)]
    used = [parent for run in trained for parent in run.parents if parent.stored is None]
    models_used = {(run.model, run.training.adapter) for run in trained}
    models_used |= {(run.model, None) for run in [*runs, *used] if not isinstance(run, Experiment)}
    for model, adapter in models_used:
        ranker = models.build(model.architecture, model.backbone, model.layers, 0, **dict(model.options))
        if adapter is not None:
            adapters.attach(ranker, adapter.kind, adapter.size, 0)
        limit = backbone.positions(model.backbone)
        if limit is not None and model.architecture != "tk" and model.max_length > limit:
            raise ValueError(f"max_length={model.max_length}: backbone {model.backbone!r} reads at most {limit} tokens")
    for run in trained:
        count, available = run.data.group_count, groups.available(collections.load(run.data.collection))
        if count > available:
            reason = f"{run.data.collection} has {available} training groups ({describe(run)})"
            raise ValueError(f"group_count={count}: {reason}")
    for run in runs:
        if isinstance(run, Pretrained):
            masked_lm.check(run.model.backbone)
            count, available = run.document_count, len(collections.load(run.collection).documents)
            if count > available:
                raise ValueError(
                    f"document_count={count}: {run.collection} has {available} documents; give so many or less"
                )
    for teacher in {teacher for run in trained for teacher in run.teachers if isinstance(teacher, str)}:
        if not score_files.is_file_name(teacher):
            ranker = models.load(backbone.folder(teacher))  # refuses weights without a scoring head, among others
            if not ranker.has_states and any(run.strategy.compares_states for run in trained if run.teacher == teacher):
                fix = "give a cross-encoder"
                raise ValueError(f"{teacher=}: {ranker.architecture} gives no hidden states of a pair; {fix}")
    for run in trained:
        if run.strategy.compares_states:
            _check_states(run)
    for run in trained:
        if not isinstance(run.data.negatives, Run | Mined):  # their groups may need what is not trained yet
            _check_score_files(run)
    for test in tests:
        if not collections.load(test.collection).split(test.split, 1):
            raise ValueError(f"split={test.split!r}: {test.collection} has no query in it; give another split")
        test.candidates()  # a faulty run, or nothing to rank, is refused


def _check_score_files(run: Experiment) -> None:
    """Refuse a file of scores that is malformed or lacks a pair of the run's groups."""
    for teacher in filter(score_files.is_file_name, run.teachers):
        collection = collections.load(run.data.collection)
        targets.teacher_scores(teacher, targets.groups_of(run.data), collection, run.model.max_length)


def _check_states(run: Experiment) -> None:
    """Refuse a teacher, or layers of it, whose hidden states the student cannot be compared with."""
    strategy, own, (layers, width) = run.strategy, rankers.state_shape(run), rankers.state_shape(*run.teachers)
    try:
        shape = len(strategy.teacher_layers(own[0], layers)), width
        if strategy.align is not None:
            draw = np.random.default_rng(0)
            shape = strategy.align(*(draw.normal(size=(2, 3, shape[0], dim)) for dim in (width, own[1]))).shape[2:]
        strategy.try_states(own, shape)
    except ValueError as error:
        raise ValueError(f"{describe(run)}: {error}") from error
