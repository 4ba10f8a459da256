"""What only bi-encoders can do in training: chunks, a queue, a scaled cosine, hard negatives of their own finding."""

import numpy as np
import pandas as pd
import pytest
import torch

from lib.data import collections, groups
from lib.models import bi_encoder
from lib.models.momentum import Momentum
from lib.study import targets
from lib.study.experiment import vary
from lib.training import batches, loop, scoring, strategies
from lib.training.settings import GradCache, Queue, Training
from tests import kit

COSINE = (("similarity", "cosine"),)


@pytest.fixture
def experiment(tiny_backbone, tiny_collection):
    return kit.experiment("in_batch", architecture="dot", options=COSINE, backbone=tiny_backbone, collection=tiny_collection,
                      group_count=16, batch_size=8, docs=3, max_length=48, learning_rate=1e-3, dropout=0.0,
                      embeddings=True)  # fmt: skip


@pytest.mark.parametrize("chunk", [1, 3, 8])  # one group, parts that do not divide the batch, the whole
@pytest.mark.parametrize("strategy", ["in_batch", "distributed_margin", "triplet"])
def test_chunks_train_as_the_whole_batch_does(experiment, strategy, chunk, float32):
    whole = vary(experiment, strategy=strategy)
    parted = vary(whole, batching=GradCache(chunk))
    assert whole.key != parted.key
    left, right = kit.history(whole), kit.history(parted)
    pd.testing.assert_frame_equal(left, right, rtol=1e-3, atol=1e-5)
    made, read = kit.training_groups(whole), kit.pair_tokens(whole, collections.load(whole.data.collection))
    one, other = (scoring.score(kit.model(run), read, made.queries[:, None], made.documents) for run in (whole, parted))
    np.testing.assert_allclose(one, other, atol=1e-3)


def test_a_chunk_is_really_encoded_at_a_time(experiment, monkeypatch):
    seen = []
    vectors = bi_encoder.BiEncoder.vectors
    monkeypatch.setattr(bi_encoder.BiEncoder, "vectors", lambda self, tokens, docs: (
        seen.append(len(tokens["queries"]["input_ids"])), vectors(self, tokens, docs))[1])  # fmt: skip
    kit.history(vary(experiment, batching=GradCache(3)))
    assert set(seen) == {3, 2} and sum(seen) == 2 * 16  # every group twice


@pytest.fixture
def relatives(experiment):
    """Eight groups, each with the positive of the next one as its first negative."""
    collection = collections.load(experiment.data.collection)
    made = groups.build(collection, count=8, docs=3)
    made.documents[:, 1] = np.roll(made.documents[:, 0], -1)
    return made, kit.pair_tokens(experiment, collection)


def fit(experiment, relatives, strategy, **changes):
    settings = Training(**{"learning_rate": 1e-3, "batch_size": 8, "epochs": 4, **changes})
    return loop.train(kit.start(experiment), *relatives, strategy, settings)


@pytest.mark.parametrize("strategy", [
    strategies.named("in_batch"), strategies.named("adaptive_margin_in_batch"),
    strategies.named("distributed_margin", reading="literal"),
], ids=lambda strategy: strategy.name)  # fmt: skip
def test_a_positive_that_another_group_has_as_a_negative_is_none(experiment, relatives, strategy, float32, monkeypatch):
    masked = fit(experiment, relatives, strategy)
    pd.testing.assert_frame_equal(
        masked, fit(experiment, relatives, strategy, batching=GradCache(3)), rtol=1e-3, atol=1e-5
    )
    assert np.isfinite(masked[["negative", "target_margin", "similarity"]]).all(None)
    monkeypatch.setattr(batches, "_among", lambda relevant, chosen, documents: torch.zeros(
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
    settings = Training(2, epochs=6, learning_rate=1e-3, batching=Queue(16, momentum=0.9999))
    history = loop.train(kit.start(experiment), *relatives, strategies.named("info_nce"), settings)
    assert max(seen) < 0.999 and np.isfinite(history["loss"]).all()  # a cosine of 1: the row's own positive


def test_a_queue_gives_negatives_from_earlier_steps(experiment, monkeypatch):
    widths = []
    forward = Momentum.forward
    monkeypatch.setattr(
        Momentum, "forward", lambda self, *given: (scores := forward(self, *given), widths.append(scores.shape[1]))[0]
    )
    queued = vary(experiment, strategy="info_nce", options=(*COSINE, ("scale", 20.0)), batching=Queue(12), batch_size=4)
    history = kit.history(queued)
    assert widths == [3, 3 + 4, 3 + 8, 3 + 12]
    assert np.isfinite(history["loss"]).all()
    assert queued.key != vary(queued, batching=Queue(12, momentum=0.9)).key
    assert isinstance(kit.model(queued), bi_encoder.BiEncoder)


@pytest.mark.slow
def test_a_queue_teaches(experiment):
    queued = vary(experiment, strategy="info_nce", options=(*COSINE, ("scale", 20.0)), batching=Queue(16), batch_size=4,
                     epochs=30, learning_rate=3e-3)  # fmt: skip
    history = kit.history(queued)
    late = history[history["step"] > len(history) / 2]
    margin = late["positive"] - late["negative"]
    assert margin.mean() > 2 * (history["positive"] - history["negative"])[:4].mean()


def test_a_scale_multiplies_scores_and_brings_a_teachers_margins_into_reach(experiment, float32):
    plain, scaled = (
        kit.start(vary(experiment, strategy="triplet", options=options))
        for options in (COSINE, (*COSINE, ("scale", 20.0)))
    )
    collection = collections.load(experiment.data.collection)
    made = groups.build(collection, count=8, docs=4)
    read = kit.pair_tokens(experiment, collection)
    one, other = (scoring.score(ranker, read, made.queries[:, None], made.documents) for ranker in (plain, scaled))
    np.testing.assert_allclose(20 * one, other, atol=1e-4)
    assert np.abs(one).max() <= 1.01 < 2 < np.abs(other).max()


def test_hard_negatives_come_from_a_bi_encoders_own_search(experiment, float32):
    finder = vary(experiment, strategy="triplet")
    mined = vary(experiment, negatives=finder)
    assert mined.key != experiment.key
    collection = collections.load(experiment.data.collection)
    asked = list(collection.relevant("train"))
    kit.complete([finder])
    found = targets.nearest_documents(finder, collection, asked, 50)
    # Exactly the order of the finder's own scores
    read = kit.pair_tokens(finder, collection)
    everything = np.array(list(collection.documents))
    scores = scoring.score(kit.model(finder), read, np.array(asked)[:, None], np.tile(everything, (len(asked), 1)))
    first = found.groupby("query", sort=False)["document"].first().reindex(asked)
    best = scores[np.arange(len(asked)), [list(everything).index(one) for one in first]]
    np.testing.assert_allclose(best, scores.max(1), atol=1e-5, rtol=1e-5)
    made = kit.training_groups(mined)
    relevant = collection.relevant("train")
    for query, documents in zip(made.queries, made.documents, strict=True):
        assert not set(documents[1:]) & set(relevant[query])
    assert not np.array_equal(made.documents, kit.training_groups(experiment).documents)
    kit.complete([mined])  # the finder is trained first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batching": Queue(4)}, "contrastive strategy such as 'info_nce'"),
        ({"batching": Queue(4), "strategy": "fixed_margin"}, "contrastive strategy"),
        ({"batching": GradCache(4), "strategy": "info_nce", "architecture": "tk", "options": ()}, "only bi-encoders"),
        ({"options": (*COSINE, ("scale", 20.0))}, "without a scale"),
        ({"options": (*COSINE, ("scale", 0.0)), "strategy": "triplet"}, "scale=0.0: must be above 0"),
    ],
)
def test_what_cannot_be_is_refused(experiment, changes, message):
    with pytest.raises(ValueError, match=message):
        kit.start(vary(experiment, **changes))


def test_negatives_come_from_a_bi_encoder(experiment):
    with pytest.raises(ValueError, match="no bi-encoder .dot.; give Mined"):
        vary(experiment, negatives=vary(experiment, strategy="info_nce", architecture="tk", options=()))
