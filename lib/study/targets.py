"""What a run learns from: its groups, with the scores of its teachers."""

from pathlib import Path

import numpy as np
import pandas as pd

from lib import models
from lib.analysis import measures
from lib.data import collections, first_stage, groups, score_files
from lib.data.collections import Collection
from lib.data.groups import Groups
from lib.machine import store
from lib.models import backbone
from lib.models.vectors import Identity
from lib.search import nearest
from lib.study import identity, rankers
from lib.study.experiment import Experiment, Model, Teacher, Untrained
from lib.training import scoring
from lib.training.strategies import TEACHER


def training_groups(run: Experiment) -> Groups:
    """The groups of an experiment, with its teachers' scores where it has teachers.

    Raises:
        NotTrained: a teacher, or the bi-encoder that finds the negatives, is not in the store.
    """
    collection = collections.load(run.data.collection)

    def mined(collection: Collection, queries: list[str], depth: int) -> pd.DataFrame:
        return nearest_documents(run.data.negatives, collection, queries, depth)

    find = first_stage.bm25 if run.data.negatives is None else mined
    built = groups.build(collection, count=run.data.group_count, docs=run.data.docs, find=find)
    if run.teachers:
        scores = [teacher_scores(teacher, built, collection, run.model.max_length) for teacher in run.teachers]
        built.targets[TEACHER] = np.mean(scores, axis=0)  # of raw scores, as in 2010.02666
    return built


def nearest_documents(
    run: Experiment | Untrained, collection: Collection, queries: list[str], depth: int
) -> pd.DataFrame:
    """What a bi-encoder finds in the whole collection, by exact search: columns query, document, score."""

    def search(into: Path) -> None:
        ranker = rankers.ranker(run)
        stored = rankers.document_vectors(run, collection)
        index = nearest.build(stored, Identity(run.key, collection.fingerprint), "Flat")
        vectors = scoring.encode_queries(ranker, rankers.inputs(ranker, collection, run.model), queries)
        scores, rows = nearest.search(index, vectors.values[:, 0], depth)
        measures.as_run(queries, stored.names, rows, scores).to_parquet(into / "run.parquet")

    name = store.key(run.key, collection.fingerprint, queries, depth)
    return pd.read_parquet(store.keep("first_stage", name, search, of=rankers.made_from(run)) / "run.parquet")


def teacher_scores(teacher: Teacher, pairs: Groups, collection: Collection, max_length: int = 512) -> np.ndarray:
    """A teacher's raw scores of groups, (groups, docs) float32: computed once, then read.

    A run of the kit, an untrained model, a cross-encoder (hub name or folder; pairs of `max_length` tokens), or a file
    of scores by ids.

    Raises:
        NotTrained: the teacher is a run that is not in the store.
        ScoreFileError: the file lacks a pair, or is malformed.
    """
    name = store.key(identity.of_teacher_scores(teacher, collection.fingerprint, pairs.key, max_length))
    of = rankers.made_from(teacher)
    place = store.keep("teacher_scores", name, lambda into: _score(teacher, pairs, collection, max_length, into), of=of)
    return np.load(place / "scores.npy")


def _score(teacher: Teacher, pairs: Groups, collection: Collection, max_length: int, into: Path) -> None:
    if isinstance(teacher, str) and score_files.is_file_name(teacher):
        scores = score_files.scores_of(teacher, pairs.queries, pairs.documents)
    else:
        if isinstance(teacher, str):
            ranker, model = models.load(backbone.folder(teacher)), Model(backbone=teacher, max_length=max_length)
        else:
            ranker, model = rankers.ranker(teacher), teacher.model
        inputs = rankers.inputs(ranker, collection, model)
        scores = scoring.score(ranker, inputs, pairs.queries[:, None], pairs.documents, what="teacher scores")
    np.save(into / "scores.npy", scores)
