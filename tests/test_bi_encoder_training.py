"""What only bi-encoders can do in training: chunks, a queue, a scaled cosine, hard negatives of their own finding."""

from dataclasses import replace

import accelerate
import numpy as np
import pandas as pd
import pytest
import torch

from lib.data import collections, groups
from lib.models import bi_encoder
from lib.models.momentum import Momentum
from lib.study import runs as study
from lib.study.runs import Experiment
from lib.training import loop, scoring, strategies

COSINE = (("similarity", "cosine"),)


@pytest.fixture
def experiment(tiny_backbone, tiny_collection):
    return Experiment("in_batch", architecture="dot", options=COSINE, backbone=tiny_backbone, collection=tiny_collection,
                      group_count=16, batch_size=8, docs=3, max_length=48, learning_rate=1e-3, dropout=0.0,
                      embeddings=True)  # fmt: skip


@pytest.mark.parametrize("chunk", [1, 3, 8])  # one group, parts that do not divide the batch, the whole
@pytest.mark.parametrize("strategy", ["in_batch", "distributed_margin", "triplet"])
def test_chunks_train_as_the_whole_batch_does(experiment, strategy, chunk, float32):
    whole = replace(experiment, strategy=strategy)
    parted = replace(whole, chunk=chunk)
    assert whole.key != parted.key
    left, right = study.history(whole), study.history(parted)
    pd.testing.assert_frame_equal(left, right, rtol=1e-3, atol=1e-5)
    made, read = study.training_groups(whole), study.pair_tokens(whole, collections.load(whole.collection))
    one, other = (
        scoring.score(study.model(run), read, made.queries[:, None], made.documents) for run in (whole, parted)
    )
    np.testing.assert_allclose(one, other, atol=1e-3)


def test_a_chunk_is_really_encoded_at_a_time(experiment, monkeypatch):
    seen = []
    vectors = bi_encoder.BiEncoder.vectors
    monkeypatch.setattr(bi_encoder.BiEncoder, "vectors", lambda self, tokens, docs: (
        seen.append(len(tokens["queries"]["input_ids"])), vectors(self, tokens, docs))[1])  # fmt: skip
    study.history(replace(experiment, chunk=3))
    assert set(seen) == {3, 2} and sum(seen) == 2 * 16  # every group twice


@pytest.fixture
def relatives(experiment):
    """Eight groups, each with the positive of the next one as its first negative."""
    collection = collections.load(experiment.collection)
    made = groups.build(collection, count=8, docs=3)
    made.documents[:, 1] = np.roll(made.documents[:, 0], -1)
    return made, study.pair_tokens(experiment, collection)


def fit(experiment, relatives, strategy, **changes):
    settings = {"learning_rate": 1e-3, "batch_size": 8, "epochs": 4, **changes}
    return loop.train(study.untrained(experiment), *relatives, strategies.named(strategy), **settings)


@pytest.mark.parametrize("strategy", ["in_batch", "adaptive_margin_in_batch", "distributed_margin(reading='literal')"])
def test_a_positive_that_another_group_has_as_a_negative_is_none(experiment, relatives, strategy, float32, monkeypatch):
    masked = fit(experiment, relatives, strategy)
    pd.testing.assert_frame_equal(masked, fit(experiment, relatives, strategy, chunk=3), rtol=1e-3, atol=1e-5)
    assert np.isfinite(masked[["negative", "wanted", "alike"]]).all(None)
    monkeypatch.setattr(loop, "_among", lambda relevant, chosen, documents: torch.zeros(
        (len(chosen), *documents.shape), dtype=torch.bool))  # fmt: skip
    assert masked["loss"].iloc[0] < fit(experiment, relatives, strategy)["loss"].iloc[0] - 0.01


def test_a_queue_holds_no_negative_that_is_relevant(experiment, relatives, monkeypatch):
    """With every positive in the queue several times no query is compared with its own."""
    seen = []
    forward = Momentum.forward

    def spy(self, tokens, docs, queued=None):
        if queued is not None:
            copies = self.momentum_encoder.eval().vectors(tokens, docs)[1][:, 0]
            seen.extend((self.queue[places] @ copy).max().item() for places, copy in zip(queued, copies, strict=True))
        return forward(self, tokens, docs, queued)

    monkeypatch.setattr(Momentum, "forward", spy)
    model = Momentum(study.untrained(experiment), 16, momentum=1.0)
    history = loop.train(model, *relatives, strategies.named("info_nce"), learning_rate=1e-3, batch_size=2, epochs=6)
    assert max(seen) < 0.999 and np.isfinite(history["loss"]).all()  # a cosine of 1: the row's own positive
    again = loop.train(model, *relatives, strategies.named("info_nce"), learning_rate=1e-3, batch_size=2, epochs=1)
    assert len(again) == 4  # it starts with an empty queue


def test_a_queue_gives_negatives_from_earlier_steps(experiment, monkeypatch):
    widths = []
    forward = Momentum.forward
    monkeypatch.setattr(
        Momentum, "forward", lambda self, *given: (scores := forward(self, *given), widths.append(scores.shape[1]))[0]
    )
    queued = replace(experiment, strategy="info_nce", options=(*COSINE, ("scale", 20.0)), queue=12, batch_size=4)
    history = study.history(queued)
    assert widths == [3, 3 + 4, 3 + 8, 3 + 12]
    assert np.isfinite(history["loss"]).all()
    assert queued.key != replace(queued, momentum=0.9).key
    assert isinstance(study.model(queued), bi_encoder.BiEncoder)


@pytest.mark.slow
def test_a_queue_teaches(experiment):
    queued = replace(experiment, strategy="info_nce", options=(*COSINE, ("scale", 20.0)), queue=16, batch_size=4,
                     epochs=30, learning_rate=3e-3)  # fmt: skip
    history = study.history(queued)
    late = history[history["step"] > len(history) / 2]
    margin = late["positive"] - late["negative"]
    assert margin.mean() > 2 * (history["positive"] - history["negative"])[:4].mean()


def test_a_scale_multiplies_scores_and_brings_a_teachers_margins_into_reach(experiment, float32):
    plain, scaled = (
        study.untrained(replace(experiment, strategy="triplet", options=options))
        for options in (COSINE, (*COSINE, ("scale", 20.0)))
    )
    collection = collections.load(experiment.collection)
    made = groups.build(collection, count=8, docs=4, depth=10)
    read = study.pair_tokens(experiment, collection)
    one, other = (scoring.score(ranker, read, made.queries[:, None], made.documents) for ranker in (plain, scaled))
    np.testing.assert_allclose(20 * one, other, atol=1e-4)
    assert np.abs(one).max() <= 1.01 < 2 < np.abs(other).max()


def test_hard_negatives_come_from_a_bi_encoders_own_search(experiment, float32):
    finder = replace(experiment, strategy="triplet")
    mined = replace(experiment, negatives=finder)
    assert mined.key != experiment.key
    collection = collections.load(experiment.collection)
    asked = list(collection.relevant("train"))
    found = study.nearest_documents(finder, collection, asked, 50)
    # Exactly the order of the finder's own scores
    read = study.pair_tokens(finder, collection)
    everything = np.array(list(collection.documents))
    scores = scoring.score(study.model(finder), read, np.array(asked)[:, None], np.tile(everything, (len(asked), 1)))
    first = found.groupby("query", sort=False)["document"].first().reindex(asked)
    best = scores[np.arange(len(asked)), [list(everything).index(one) for one in first]]
    np.testing.assert_allclose(best, scores.max(1), atol=1e-5)
    made = study.training_groups(mined)
    relevant = collection.relevant("train")
    for query, documents in zip(made.queries, made.documents, strict=True):
        assert not set(documents[1:]) & set(relevant[query])
    assert not np.array_equal(made.documents, study.training_groups(experiment).documents)
    study.complete([mined])  # the finder is trained first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunk": 0}, "chunk=0: must be"),
        ({"queue": -1, "strategy": "info_nce"}, "queue=-1: must be"),
        ({"chunk": 4, "queue": 4, "strategy": "info_nce"}, "give one of them"),
        ({"queue": 4}, "contrastive strategy such as 'info_nce'"),
        ({"queue": 4, "strategy": "adaptive_margin"}, "contrastive strategy"),
        ({"chunk": 4, "strategy": "info_nce", "architecture": "tk", "options": ()}, "only bi-encoders"),
        ({"options": (*COSINE, ("scale", 20.0))}, "without a scale"),
        ({"options": (*COSINE, ("scale", 0.0)), "strategy": "triplet"}, "scale=0.0: must be above 0"),
        ({"momentum": 1.0}, "momentum=1.0"),
    ],
)
def test_what_cannot_be_is_refused(experiment, changes, message):
    with pytest.raises(ValueError, match=message):
        study.untrained(replace(experiment, **changes))


def test_negatives_come_from_a_bi_encoder(experiment):
    with pytest.raises(ValueError, match="hard negatives come from a bi-encoder"):
        replace(experiment, negatives=replace(experiment, strategy="info_nce", architecture="tk", options=()))


def test_chunks_are_refused_for_several_processes(experiment, monkeypatch):
    monkeypatch.setattr(accelerate.Accelerator, "num_processes", property(lambda _: 2))
    made = study.training_groups(experiment)
    collection = collections.load(experiment.collection)
    with pytest.raises(ValueError, match="not gathered over 2 processes"):
        loop.train(study.untrained(experiment), made, study.pair_tokens(experiment, collection),
                       strategies.named("in_batch"), learning_rate=1e-3, batch_size=4, chunk=2)  # fmt: skip
