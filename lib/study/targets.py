"""What a run learns from: its groups, with the scores of its teachers."""

import warnings
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import softmax

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
from lib.study.experiment import Data, Experiment, Model, Run, Teacher
from lib.study.mining import JUDGEMENTS, RANDOM, Mined
from lib.study.run import Source
from lib.training import resume, scoring
from lib.training.strategy import STATES, TEACHER

KNOWN = 0.98  # mean softmax of the positives from which a teacher's scores are as good as labels


def training_groups(run: Experiment) -> Groups:
    """The groups of an experiment, with its teachers' scores, or one's hidden states, where its strategy reads them.

    Raises NotTrained if a teacher, or the bi-encoder that finds the negatives, is not in the store.
    """
    collection, built = collections.load(run.data.collection), groups_of(run.data)
    if run.teachers:
        scores = [teacher_scores(teacher, built, collection, run.model.max_length) for teacher in run.teachers]
        built.targets[TEACHER] = np.mean(scores, axis=0)  # of raw scores, as in 2010.02666
        if run.strategy.paradigm != "preference optimisation":  # there it is the reference, and teaches nothing
            _warn_of_labels(run, built)
    if run.strategy.compares_states:
        built.targets[STATES] = _states(run, built, collection)
    return built


def _warn_of_labels(run: Experiment, taught: Groups) -> None:
    """Warn where the teacher's softmax is the label: it knows these groups, and says nothing that labels do not."""
    share = softmax(taught.targets[TEACHER], axis=1)[:, 0].mean()
    if share >= KNOWN:
        who = " and ".join(one if isinstance(one, str) else one.about for one in run.teachers)
        fix = "train it for fewer epochs or on other groups, or soften its scores by a temperature"
        warnings.warn(f"teacher {who}: its softmax gives the positives of these groups {share:.3f} on average, so it "
                      f"teaches little that labels do not say; {fix}", stacklevel=3)  # fmt: skip


def groups_of(data: Data) -> Groups:
    """The groups, with labels alone; raises NotTrained if what finds the negatives is not in the store."""
    collection, finder = collections.load(data.collection), data.negatives
    known = {None: first_stage.bm25, JUDGEMENTS: groups.judged_negatives, RANDOM: groups.no_candidates}
    other = mined if isinstance(finder, Mined) else nearest_documents
    find = known[finder] if finder in known else partial(other, finder)
    strata = isinstance(finder, Mined) and finder.strata
    return groups.build(
        collection, count=data.group_count, docs=data.docs, positives=data.positives, find=find, strata=strata
    )


def mined(by: Mined, collection: Collection, queries: list[str], depth: int) -> pd.DataFrame:
    """The candidates that `lib.study.mining` keeps, the highest score first: columns query, document, score.

    The best `depth` of each query; with strata all.
    """

    def score(into: Path) -> None:
        found = first_stage.bm25(collection, queries, by.depth)[["query", "document"]]
        relevant = collection.relevant("train")
        pairs = [pair for query in queries for pair in product([query], relevant.get(query, ()))]
        judged = pd.DataFrame(pairs, columns=["query", "document"])
        both = pd.concat([found.assign(judged=False), judged.assign(judged=True)], ignore_index=True)
        ranker, checkpoint = rankers.ranker(by.ranker), resume.Checkpoint(name, each=True)
        inputs = rankers.inputs(ranker, collection, by.ranker.model)
        both["score"] = scoring.score(
            ranker, inputs, both["query"].to_numpy(), both["document"].to_numpy(), what="negatives",
            checkpoint=checkpoint,
        )  # fmt: skip
        both.to_parquet(into / "scores.parquet")

    # Of the scores alone: what is left out, and strata, only choose among them.
    name = store.key("mined", by.ranker.key, by.depth, collection.fingerprint, queries, first_stage.identity())
    place = store.keep("first_stage", name, score, of=rankers.made_from(by.ranker))
    resume.remove(name)
    both = pd.read_parquet(place / "scores.parquet")
    found, judged = (both.loc[both["judged"] == wanted, ["query", "document", "score"]] for wanted in (False, True))
    if by.margin is not None:
        lowest = found["query"].map(judged.groupby("query")["score"].min()).astype(float).fillna(np.inf)
        found = found[found["score"] <= lowest - by.margin]
    run = found.sort_values(["query", "score", "document"], ascending=[True, False, True], ignore_index=True)
    return run if by.strata else run.groupby("query").head(depth)


def nearest_documents(run: Run, collection: Collection, queries: list[str], depth: int) -> pd.DataFrame:
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


def teacher_scores(
    teacher: Teacher, pairs: Groups, collection: Collection, max_length: int = 512,
    layers: tuple[int, ...] | None = None,
) -> np.ndarray:  # fmt: skip
    """A teacher's raw scores of groups, (groups, docs) float32: computed once, then read.

    With `layers` its hidden states after these (0: the embeddings), (groups, docs, layers, dim) float16, memory-mapped.
    All processes of a launch have to call this, and share the pairs out; scoring that is cut short goes on later.
    `max_length`: tokens of a pair for a cross-encoder that is no run. Raises NotTrained for a run that is not in the
    store, and ScoreFileError for a file that lacks a pair or is malformed.
    """

    def score(into: Path | None) -> None:
        of_file = score_files.is_file_name(teacher)
        if of_file or isinstance(teacher, Source):  # nothing is shared out
            if into is None:
                return
            if of_file:
                scores = score_files.scores_of(teacher, pairs.queries, pairs.documents)
            else:
                scores = teacher.scores(pairs, collection)
        else:
            if isinstance(teacher, str):
                ranker, model = models.load(backbone.folder(teacher)), Model(backbone=teacher, max_length=max_length)
            else:
                ranker, model = rankers.ranker(teacher), teacher.model
            inputs = rankers.inputs(ranker, collection, model)
            scores = scoring.score(
                ranker, inputs, pairs.queries[:, None], pairs.documents, what="teacher scores",
                checkpoint=resume.Checkpoint(name, each=True), together=True, layers=layers,
            )  # fmt: skip
        if into is not None:
            np.save(into / "scores.npy", scores)

    kind, more = ("teacher_scores", {}) if layers is None else ("teacher_states", {"layers": layers})
    name = store.key(identity.of_teacher_scores(teacher, collection.fingerprint, pairs.key, max_length) | more)
    place = store.keep(kind, name, score, of=rankers.made_from(teacher), together=True)
    resume.remove(name)
    return np.load(place / "scores.npy", mmap_mode="r" if layers else None)


def _states(run: Experiment, pairs: Groups, collection: Collection) -> np.ndarray:
    """The teacher's hidden states (groups, docs, layers, dim), aligned with the student's start if the strategy asks.

    Of the student as many layers are compared, the last ones.
    """
    (teacher,), (own, _) = run.teachers, rankers.state_shape(run)
    layers = run.strategy.teacher_layers(own, rankers.state_shape(teacher)[0])
    found = teacher_scores(teacher, pairs, collection, run.model.max_length, layers)
    if run.strategy.align is None:
        return found
    last = tuple(range(own - len(layers) + 1, own + 1))
    return run.strategy.align(found, teacher_scores(run.before, pairs, collection, layers=last))
