"""What can be refused before anything is trained or scored: a look at the files that a grid and its tests need."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from lib import models
from lib.data import collections, groups, score_files
from lib.models import adapters, backbone, masked_lm
from lib.study import rankers, targets
from lib.study.derived import Pretrained
from lib.study.experiment import Experiment, Model, Run, TestSet, Untrained, describe
from lib.study.mining import Mined
from lib.training import resume, trackers
from lib.training.settings import Training


def check(runs: Iterable[Run], tests: Iterable[TestSet]) -> None:
    """Refuse runs and test sets that could not be finished.

    Raises ValueError for a model that its backbone does not allow, lengths that it cannot read, more groups or larger
    ones than there are, a teacher whose head was drawn at random, a missing or empty split and a tracker that is not
    installed, and CollectionError, ScoreFileError, WeightsError or ConnectionError for what cannot be read.
    """
    resume.seconds()
    trackers.chosen()
    runs, tests = list(runs), list(tests)
    trained = [run for run in runs if isinstance(run, Experiment)]
    for run in trained:
        _check_groups(run)
    for run in runs:
        if isinstance(run, Pretrained):
            _check_pretraining(run)
    for test in tests:
        if not collections.load(test.collection).split(test.split, 1):
            raise ValueError(f"split={test.split!r}: {test.collection} has no query in it; give another split")
    for (model, training), names in _readers(runs, tests).items():
        _check_model(model, training, names)
    for run in trained:
        _check_teachers(run)
        if not isinstance(run.data.negatives, Run | Mined):  # their groups may need what is not trained yet
            _check_score_files(run)
    for test in tests:
        test.candidates()  # a faulty run, or nothing to rank, is refused


def _check_groups(run: Experiment) -> None:
    collection, data = collections.load(run.data.collection), run.data
    if data.group_count > (available := groups.available(collection, data.positives)):
        reason = f"{data.collection} has {available} training groups ({describe(run)})"
        raise ValueError(f"group_count={data.group_count}: {reason}")
    if data.docs > (available := len(collection.documents)):
        raise ValueError(f"docs={data.docs}: {data.collection} has {available} documents ({describe(run)})")


def _check_pretraining(run: Pretrained) -> None:
    masked_lm.check(run.model.backbone)
    count, available = run.document_count, len(collections.load(run.collection).documents)
    if count > available:
        raise ValueError(f"document_count={count}: {run.collection} has {available} documents; give so many or less")


def _readers(runs: list[Run], tests: list[TestSet]) -> dict[tuple[Model, Training | None], set[str]]:
    """(model, how it is trained) -> the collections that it will read."""
    found = defaultdict(set)
    for run in runs:
        names = {test.collection for test in tests}
        if isinstance(run, Experiment):
            for parent in run.parents:
                found[parent.model, None].add(run.data.collection)
            names |= {run.data.read}
        found[run.model, run.training if isinstance(run, Experiment) else None] |= names
    return found


def _check_model(model: Model, training: Training | None, names: Iterable[str]) -> None:
    """Refuse a model that cannot be built, trained so, or read the texts of these collections at its lengths."""
    ranker = rankers.built(model, 0)
    if training is not None and training.gradient_checkpointing:
        ranker.checkpoint_gradients()
    if training is not None and training.adapter is not None:
        adapters.attach(ranker, training.adapter.kind, training.adapter.size, 0)
    for name in names:
        rankers.inputs(ranker, collections.load(name), model)


def _check_teachers(run: Experiment) -> None:
    """Refuse teachers that cannot score, or whose hidden states do not fit."""
    for teacher in run.teachers:
        for one in (teacher,) if isinstance(teacher, Run) else getattr(teacher, "parents", ()):
            if isinstance(one, Untrained | Pretrained) and one.key != run.before.key:
                _check_head(one)
        if isinstance(teacher, str) and not score_files.is_file_name(teacher):
            ranker = models.load(backbone.folder(teacher))  # refuses weights without a scoring head, among others
            if not ranker.has_states and run.strategy.compares_states:
                raise ValueError(f"{teacher=}: {ranker.architecture} gives no hidden states of a pair; give a "
                                 "cross-encoder")  # fmt: skip
            model = Model(backbone=teacher, max_length=run.model.max_length)
            rankers.inputs(ranker, collections.load(run.data.collection), model)
    mined = run.data.negatives.ranker if isinstance(run.data.negatives, Mined) else run.data.negatives
    if isinstance(mined, Untrained | Pretrained):
        _check_head(mined)
    if run.strategy.compares_states:
        _check_states(run)


def _check_head(run: Run) -> None:
    """Refuse to learn from an untrained model with weights that its backbone does not have."""
    first, second = (rankers.built(run.model, seed).state_dict() for seed in (0, 1))
    unread = "pooler" if run.model.architecture in ("dot", "colbert") else ""  # an encoder's, which these do not use
    different = [name for name, weight in first.items() if not weight.equal(second[name])]
    if drawn := [name for name in different if unread not in name.split(".")]:
        raise ValueError(f"{describe(run)} cannot teach or find negatives: its {drawn[0]} is drawn at random. Give a "
                         "trained run, or a model that has all that it scores with")  # fmt: skip


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
