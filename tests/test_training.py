"""The training loop: every strategy learns a small batch, seeds reproduce, what is wrong is said."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from lib import collections, groups, hardware, scoring, strategies, study, training
from lib.models import cross_encoder
from lib.study import Experiment


@pytest.fixture
def material(tiny_backbone, tiny_collection):
    experiment = Experiment(
        "info_nce", backbone=tiny_backbone, collection=tiny_collection, group_count=8, max_length=48
    )
    collection = collections.load(tiny_collection)
    made = groups.build(collection, count=8, docs=4, depth=10)
    draw = np.random.default_rng(0)  # a teacher that puts the positive first and the others in some order
    made.targets["teacher"] = np.array([[4, *draw.permutation([2, 0, -2])] for _ in range(8)], dtype=np.float32)
    return (
        made,
        study.pair_tokens(experiment, collection),
        lambda seed=0: cross_encoder.build(tiny_backbone, None, seed),
    )


def fit(material, strategy, **changes):
    made, pairs, model = material
    settings = {"learning_rate": 1e-3, "batch_size": 8, "epochs": 4, "seed": 0, **changes}
    return training.train(model(settings["seed"]), made, pairs, strategies.named(strategy), **settings)


def concordance(scores, targets):
    """Share of the pairs that the targets put in order which the scores put in that order too."""
    before = targets[:, :, None] > targets[:, None, :]
    return ((scores[:, :, None] > scores[:, None, :]) & before).sum() / before.sum()


# Strategies with columns of their own need a bi-encoder: tests/test_teachers.py
@pytest.mark.parametrize("name", [name for name, one in strategies.STRATEGIES.items() if one.columns is None])
def test_every_strategy_overfits_a_small_batch(material, name):
    made, pairs, model = material
    strategy = strategies.named(name)
    ranker = model()
    targets = made.targets[strategy.terms[0].source if name != "gist" else "labels"]  # gist's guide only filters
    before = concordance(scoring.score(ranker, pairs, made.queries[:, None], made.documents), targets)
    history = training.train(ranker, made, pairs, strategy, learning_rate=3e-3, batch_size=8, epochs=120, seed=0)
    after = concordance(scoring.score(ranker, pairs, made.queries[:, None], made.documents), targets)
    assert after > 0.75 and after > before + 0.2
    assert history["loss"].iloc[-5:].mean() < history["loss"].iloc[:5].mean()


def test_a_seed_reproduces_and_another_differs(material):
    first, same, other = (fit(material, "info_nce", batch_size=2, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, same)
    assert not np.allclose(first["loss"], other["loss"])


def test_the_history_has_a_row_a_step_and_the_rate_rises_and_falls(material):
    history = fit(material, "info_nce", batch_size=2, epochs=5, warm_up=0.2)
    assert history["step"].tolist() == list(range(1, 21))
    rate = history["learning_rate"].to_numpy()
    assert rate.argmax() in (3, 4) and rate.max() == pytest.approx(1e-3) and 0 < rate[-1] < 0.1 * rate.max()
    assert (history["documents"] == 8).all()
    assert history["loss"].iloc[0] == pytest.approx(np.log(4), abs=0.3)  # an untrained ranker guesses among four


def test_training_leaves_the_random_state_alone(material):
    before = torch.random.get_rng_state()
    fit(material, "info_nce")
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_loss_that_is_not_finite_is_named(material):
    made, _, _ = material
    made.targets["teacher"][:] = np.inf
    with pytest.raises(FloatingPointError, match="margin_mse: the loss is not finite at step 1"):
        fit(material, "margin_mse")


def test_too_few_groups_are_refused(material):
    with pytest.raises(ValueError, match="batch_size=9: only 8 groups"):
        fit(material, "info_nce", batch_size=9)


def test_batches_keep_groups_whole_and_use_each_once(material):
    made, pairs, _ = material
    seen = []
    for batch in training.batches(made, pairs, batch_size=2, epochs=1, seed=0):
        assert batch.tokens["input_ids"].shape[0] == 8
        seen += batch.targets["teacher"].tolist()
    assert sorted(seen) == sorted(made.targets["teacher"].tolist())


def test_two_processes_share_a_batch(material):
    made, pairs, _ = material
    whole = [batch.targets["teacher"] for batch in training.batches(made, pairs, batch_size=4, epochs=1, seed=0)]
    halves = [
        list(training.batches(made, pairs, batch_size=4, epochs=1, seed=0, share=(number, 2))) for number in (0, 1)
    ]
    for full, left, right in zip(whole, *halves, strict=True):
        joined = torch.cat([left.targets["teacher"], right.targets["teacher"]])
        assert sorted(full.tolist()) == sorted(joined.tolist())


@pytest.mark.gpu
def test_an_accelerator_learns_too(material):
    assert hardware.device().type == "cuda"
    history = fit(material, "info_nce", epochs=100, learning_rate=3e-3)
    assert history["loss"].iloc[-1] < 0.2 * history["loss"].iloc[0]


def test_experiments_say_what_is_wrong():
    with pytest.raises(ValueError, match="strategy='klx': give one of info_nce"):
        Experiment("klx")
    with pytest.raises(ValueError, match="'kl' learns from a teacher"):
        Experiment("kl")
    with pytest.raises(ValueError, match="takes no teacher"):
        Experiment("info_nce", teacher=Experiment("bce"))
    with pytest.raises(ValueError, match=r"learning_rate=-1"):
        replace(Experiment("info_nce"), learning_rate=-1)
