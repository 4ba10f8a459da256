"""What can be refused before anything is trained or scored: a look at the files that a grid and its tests need."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np

from lib import models
from lib.data import collections, groups, score_files
from lib.models import adapters, backbone, masked_lm
from lib.study import rankers, targets
from lib.study.derived import Pretrained
from lib.study.experiment import Experiment, Model, Run, TestSet, Untrained
from lib.study.mining import Mined
from lib.study.sources import Relabelled
from lib.training import resume, trackers
from lib.training.settings import Adapter


def check(runs: Iterable[Run], tests: Iterable[TestSet]) -> None:
    """Refuse runs and test sets that could not be finished.

    Raises ValueError for a model that its backbone does not allow, lengths that it cannot read, more groups or larger
    ones than there are, a teacher whose head was drawn at random, scores in the place of labels, a missing or empty
    split and a tracker that is not installed, and CollectionError, ScoreFileError, WeightsError or ConnectionError for
    what cannot be read.
    """
    resume.seconds()
    trackers.chosen()
    runs, tests = list(runs), list(tests)
    trained = [run for run in runs if isinstance(run, Experiment)]
    for run in trained:
        _check_groups(run)
        if run.strategy.name.partition("(")[0] == "relabelled" and not isinstance(run.teacher, Relabelled):
            raise ValueError("strategy='relabelled' reads its targets as labels: give teacher=Relabelled(run)")
    for run in runs:
        if isinstance(run, Pretrained):
            _check_pretraining(run)
    for test in tests:
        if not collections.load(test.collection).split(test.split, 1):
            raise ValueError(f"split={test.split!r}: {test.collection} has no query in it; give another split")
    for (model, adapter, checkpointing), names in _readers(runs, tests).items():
        _check_model(model, adapter, checkpointing, names)
    for one in {one.key: one for run in trained for one in _untaught(run)}.values():
        _check_head(one)
    _check_named(trained)
    for run in trained:
        if run.strategy.compares_states:
            _check_states(run)
        if not isinstance(run.data.negatives, Run | Mined):  # their groups may need what is not trained yet
            _check_score_files(run)
    for test in tests:
        test.candidates()  # a faulty run, or nothing to rank, is refused


def _check_groups(run: Experiment) -> None:
    collection, data = collections.load(run.data.collection), run.data
    if data.group_count > (available := groups.available(collection, data.positives)):
        reason = f"{data.collection} has {available} training groups ({run.about})"
        raise ValueError(f"group_count={data.group_count}: {reason}")
    if data.docs > (available := len(collection.documents)):
        raise ValueError(f"docs={data.docs}: {data.collection} has {available} documents ({run.about})")


def _check_pretraining(run: Pretrained) -> None:
    masked_lm.check(run.model.backbone)
    count, available = run.document_count, len(collections.load(run.collection).documents)
    if count > available:
        raise ValueError(f"document_count={count}: {run.collection} has {available} documents; give so many or less")


def _readers(runs: list[Run], tests: list[TestSet]) -> dict[tuple[Model, Adapter | None, bool], set[str]]:
    """(model, its adapter, whether it is trained with gradient checkpointing) -> the collections that it will read."""
    found = defaultdict(set)
    for run in runs:
        names, how = {test.collection for test in tests}, (None, False)
        if isinstance(run, Experiment):
            for parent in run.parents:
                found[parent.model, None, False].add(run.data.collection)
            names, how = names | {run.data.read}, (run.training.adapter, run.training.gradient_checkpointing)
        found[run.model, *how] |= names
    return found


def _check_model(model: Model, adapter: Adapter | None, checkpointing: bool, names: Iterable[str]) -> None:
    """Refuse a model that cannot be built, trained so, or read the texts of these collections at its lengths."""
    ranker = rankers.built(model, 0)
    if checkpointing:
        ranker.checkpoint_gradients()
    if adapter is not None:
        adapters.attach(ranker, adapter.kind, adapter.size, 0)
    for name in names:
        rankers.inputs(ranker, collections.load(name), model)


def _untaught(run: Experiment) -> Iterator[Run]:
    """The models without a training of their own that teach a run or find its negatives, but for its own start."""
    sources = ((teacher,) if isinstance(teacher, Run) else getattr(teacher, "parents", ()) for teacher in run.teachers)
    negatives = run.data.negatives.ranker if isinstance(run.data.negatives, Mined) else run.data.negatives
    for one in (*chain.from_iterable(sources), negatives):
        if isinstance(one, Untrained | Pretrained) and (one is negatives or one.key != run.before.key):
            yield one


def _check_named(trained: list[Experiment]) -> None:
    """Refuse teachers by name, no file of scores, that cannot score the pairs of their runs or give no states."""
    asked = defaultdict(set)
    for run in trained:
        for teacher in run.teachers:
            if isinstance(teacher, str) and not score_files.is_file_name(teacher):
                asked[teacher].add((run.data.collection, run.model.max_length, run.strategy.compares_states))
    for teacher, uses in asked.items():
        ranker = models.load(backbone.folder(teacher))  # refuses weights without a scoring head, among others
        for collection, max_length, states in uses:
            if states and not ranker.has_states:
                fix = "give a cross-encoder"
                raise ValueError(f"{teacher=}: {ranker.architecture} gives no hidden states of a pair; {fix}")
            rankers.inputs(ranker, collections.load(collection), Model(backbone=teacher, max_length=max_length))


def _check_head(run: Run) -> None:
    """Refuse to learn from an untrained model with weights that its backbone does not have."""
    unread = "pooler" if run.model.architecture in ("dot", "colbert") else ""  # an encoder's, which these do not use
    if drawn := sorted(name for name in rankers.drawn(run.model) if unread not in name.split(".")):
        raise ValueError(f"{run.about} cannot teach or find negatives: its {drawn[0]} is drawn at random. Give a "
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
        raise ValueError(f"{run.about}: {error}") from error
