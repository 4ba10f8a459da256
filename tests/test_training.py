"""The training loop: every strategy learns a small batch, seeds reproduce, what is wrong is said."""

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from lib import losses, models
from lib.data import collections, first_stage, groups
from lib.machine import hardware
from lib.training import batches, loop, scoring, strategies
from lib.training.settings import Training
from tests import kit


@pytest.fixture
def material(tiny_backbone, tiny_collection):
    experiment = kit.experiment(
        "info_nce", backbone=tiny_backbone, collection=tiny_collection, group_count=8, max_length=48
    )
    collection = collections.load(tiny_collection)
    of_ten = lambda collection, queries, _: first_stage.bm25(collection, queries, 10)  # noqa: E731
    made = groups.build(collection, count=8, docs=4, find=of_ten)
    draw = np.random.default_rng(0)  # a teacher that puts the positive first and the others in some order
    made.targets["teacher"] = np.array([[4, *draw.permutation([2, 0, -2])] for _ in range(8)], dtype=np.float32)
    # Its states: the score along one direction, and something else of each pair.
    along = made.targets["teacher"][..., None, None] * draw.normal(size=(1, 1, 2, 32))
    made.targets["teacher_states"] = (along + draw.normal(size=(8, 4, 2, 32))).astype(np.float16)
    return (
        made,
        kit.pair_tokens(experiment, collection),
        lambda seed=0: models.build("cat", tiny_backbone, None, seed),
    )


def settings(**changes):
    return Training(**{"learning_rate": 1e-3, "batch_size": 8, "epochs": 4, **changes})


def fit(material, strategy, *, seed=0, **changes):
    made, pairs, model = material
    return loop.train(model(seed), made, pairs, strategies.named(strategy), settings(**changes), seed=seed)


def concordance(scores, targets):
    """Share of the pairs that the targets put in order which the scores put in that order too."""
    before = targets[:, :, None] > targets[:, None, :]
    return ((scores[:, :, None] > scores[:, None, :]) & before).sum() / before.sum()


# They care for the positive, or for the top of a list: with one rounding or another .71 to .83 of all pairs end in order.
OF_POSITIVES = ("weighted_ranknet", "bounded_weighted_ranknet", "dpo", "tst")


# Strategies with columns of their own need a bi-encoder, tests/test_teachers.py; those with peers, tests/test_peers.py;
# relabelled, which takes no teacher's scores, tests/test_sources.py.
@pytest.mark.parametrize("name", [name for name, one in strategies.STRATEGIES.items()
                                  if one.columns is None and one.peers is None and name != "relabelled"])  # fmt: skip
def test_every_strategy_overfits_a_small_batch(material, name):
    made, pairs, model = material
    strategy = strategies.named(name)
    ranker = model()
    targets = made.targets[strategy.terms[0].source if name != "gist" else "labels"]  # gist's guide only filters
    if name in OF_POSITIVES:
        targets = np.where(np.arange(targets.shape[1]) == 0, targets, targets[:, 1:].min())
    before = concordance(scoring.score(ranker, pairs, made.queries[:, None], made.documents), targets)
    history = loop.train(ranker, made, pairs, strategy, settings(learning_rate=1e-2, epochs=60))
    after = concordance(scoring.score(ranker, pairs, made.queries[:, None], made.documents), targets)
    assert after > 0.75 and after > before + 0.2
    assert history["loss"].iloc[-5:].mean() < history["loss"].iloc[:5].mean()


def test_a_seed_reproduces_and_another_differs(material, float32):
    first, same, other = (fit(material, "info_nce", batch_size=2, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, same, rtol=1e-3, atol=1e-5)
    assert not np.allclose(first["loss"], other["loss"], rtol=1e-2, atol=1e-4)


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


def breaking(at, broken):
    """A strategy whose loss becomes `broken(loss)` at one step, and the steps that it was asked for."""
    steps = []

    def loss(scores, targets):
        steps.append(1)
        value = losses.info_nce(scores, targets)
        return broken(value) if training and len(steps) == at else value

    training = []  # empty while the strategy is checked on an example
    strategy = strategies.Strategy("breaking", "contrastive", (strategies.Term(loss, "labels"),))
    training.append(True)
    steps.clear()
    return strategy, steps


def without_slope(value):
    """The same value with an infinite gradient: the root of zero."""
    return value.detach() + torch.sqrt(value - value.detach())


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        (lambda loss: loss * torch.nan, "the loss"),
        (lambda loss: loss + torch.inf, "the loss"),
        (without_slope, "the gradient"),
    ],
)
@pytest.mark.parametrize("at", [1, 3, 16])  # 16: the last, whose gradient no later loss shows
def test_what_is_not_finite_stops_training_at_once_and_is_named(material, broken, what, at):
    made, pairs, model = material
    strategy, steps = breaking(at, broken)
    with pytest.raises(FloatingPointError, match=f"strategy breaking: {what} is not finite at step {at}; lower the"):
        loop.train(model(), made, pairs, strategy, settings(batch_size=2))
    assert len(steps) == at


@pytest.mark.parametrize("at", [1, 16, 17, 20])
def test_an_accelerator_is_read_every_few_steps_only(at):
    read = []
    fake = SimpleNamespace(
        device=torch.device("cuda"), num_processes=1, reduce=lambda values, _: (read.append(len(values)), values)[1]
    )
    history = loop.History(fake, "kl", None)
    with pytest.raises(FloatingPointError, match=f"kl: the loss is not finite at step {at};"):
        for step in range(1, 21):
            history.add(torch.full((6,), torch.nan if step == at else 1.0), 1e-3, 8)
        history.table()
    assert read == ([16] if at <= 16 else [16, 4])


def test_weights_that_are_not_finite_at_the_end_are_refused(material):
    made, pairs, model = material
    with pytest.raises(FloatingPointError, match="weight is not finite after training; lower the learning rate"):
        fit(material, "info_nce", learning_rate=1e39, epochs=1, warm_up=0.9)  # one step: no loss sees its weights
    ranker = model()
    ranker.register_buffer("seen", torch.tensor(torch.nan))
    with pytest.raises(FloatingPointError, match="seen is not finite"):
        loop.train(ranker, made, pairs, strategies.named("bce"), settings(epochs=1))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("source", ["labels", "teacher"])
def test_targets_that_are_not_finite_are_refused_before_the_first_step(material, source, value, monkeypatch):
    made, pairs, model = material
    made.targets[source][3, 2] = value
    named = f"targets '{source}': {value} for query '{made.queries[3]}' and document '{made.documents[3, 2]}'"
    monkeypatch.setattr(loop, "batches", lambda *_, **__: pytest.fail("started"))
    with pytest.raises(ValueError, match=named):
        loop.train(model(), made, pairs, strategies.named("margin_mse"), settings())


def test_targets_that_are_missing_or_of_another_shape_are_refused(material):
    made, _, _ = material
    teacher = made.targets.pop("teacher")
    with pytest.raises(ValueError, match="strategy kl: the groups have no targets 'teacher'"):
        fit(material, "kl")
    made.targets["teacher"] = teacher[:, :3]
    with pytest.raises(ValueError, match=r"'teacher': shape \(8, 3\); give one per document, \(8, 4\)"):
        fit(material, "kl")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("learning_rate", value) for value in (0, -1e-3, np.nan, np.inf, "1e-3", None, True)),
        *(
            (name, value)
            for name in ("batch_size", "epochs")
            for value in (0, -1, 2.0, np.nan, np.inf, "2", True, None)
        ),
        *(("warm_up", value) for value in (-0.1, 1.1, np.nan)),
        *(("clip", value) for value in (0, np.nan)),
        *(("weight_decay", value) for value in (-1, np.inf)),
    ],
)
def test_impossible_settings_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}={re.escape(repr(value))}: give"):
        Training(**{name: value})


def test_too_few_groups_are_refused(material):
    with pytest.raises(ValueError, match="batch_size=9: only 8 groups"):
        fit(material, "info_nce", batch_size=9)


def test_batches_keep_groups_whole_and_use_each_once(material):
    made, pairs, _ = material
    seen = []
    for batch in batches.batches(made, pairs, batch_size=2, epochs=1, seed=0):
        assert batch.tokens["input_ids"].shape[0] == 8
        seen += batch.targets["teacher"].tolist()
    assert sorted(seen) == sorted(made.targets["teacher"].tolist())


def test_two_processes_share_a_batch(material):
    made, pairs, _ = material
    whole = [batch.targets["teacher"] for batch in batches.batches(made, pairs, batch_size=4, epochs=1, seed=0)]
    halves = [
        list(batches.batches(made, pairs, batch_size=4, epochs=1, seed=0, share=(number, 2))) for number in (0, 1)
    ]
    for full, left, right in zip(whole, *halves, strict=True):
        joined = torch.cat([left.targets["teacher"], right.targets["teacher"]])
        assert full.tolist() == joined.tolist()


@pytest.mark.parametrize("batch_size", [3, 5, 7])
def test_every_group_is_left_out_now_and_then(material, batch_size):
    """An epoch ends before a batch that is not full; which groups miss it, the seed and the epoch decide."""
    made, pairs, _ = material
    made.targets["number"] = np.tile(np.arange(len(made), dtype=np.float32)[:, None], 4)
    pairs = SimpleNamespace(  # texts of many lengths
        queries=pairs.queries, documents=pairs.documents, batch=pairs.batch, lengths=lambda _, documents: documents
    )
    full, rest = divmod(len(made), batch_size)
    missed = np.zeros(len(made))
    for seed in range(60):
        data = batches.batches(made, pairs, batch_size=batch_size, epochs=2, seed=seed)
        seen = np.array([batch.targets["number"][:, 0].long().tolist() for batch in data]).reshape(2, full * batch_size)
        for epoch in seen:
            assert len(set(epoch)) == full * batch_size
            missed[np.setdiff1d(np.arange(len(made)), epoch)] += 1
    expected = 120 * rest / len(made)
    assert (missed > 0.4 * expected).all() and (missed < 1.8 * expected).all(), missed


def test_lengths_decide_nothing_about_who_is_left_out():
    """With 100 groups of lengths 0 to 99 and one left out, each is left out about as often as any other."""
    gone = [
        set(range(101)) - set(np.concatenate(list(batches.order(np.arange(101), 10, np.random.default_rng(seed)))))
        for seed in range(400)
    ]
    mean = np.mean([one.pop() for one in gone])
    assert 43 < mean < 57  # the standard error is 1.5


@pytest.fixture
def relatives(material):
    """Groups that meet: two of one query, two with one positive, and a negative that is relevant elsewhere."""
    _, pairs, _ = material
    queries = np.array(["q0", "q0", "q1", "q2"])
    documents = np.array([["d0", "d5", "d6"], ["d1", "d5", "d7"], ["d2", "d0", "d8"], ["d2", "d9", "d10"]])
    labels = {"labels": np.tile(np.array([1, 0, 0], np.float32), (4, 1))}
    return groups.Groups(queries, documents, labels, {"q2": {"d8", "d2", "d39", "not there"}}), pairs


def test_batches_tell_which_documents_are_relevant_to_which_queries(relatives):
    made, pairs = relatives
    made.targets["number"] = np.tile(np.arange(4, dtype=np.float32)[:, None], 3)
    known = {"q0": {"d0", "d1"}, "q1": {"d2"}, "q2": {"d2", "d8"}}
    (batch,) = batches.batches(made, pairs, batch_size=4, epochs=1, seed=3, in_batch=True)
    rows = batch.targets["number"][:, 0].long().tolist()
    expected = [[[one in known[made.queries[i]] for one in made.documents[j]] for j in rows] for i in rows]
    assert batch.relevant.tolist() == expected and batch.queued is None
    assert batch.relevant[range(len(rows)), range(len(rows)), 0].all()
    for share in ((0, 2), (1, 2)):  # the similarities of a process are those of the whole batch
        (part,) = batches.batches(made, pairs, batch_size=4, epochs=1, seed=3, share=share, in_batch=True)
        assert part.relevant.tolist() == expected
    (batch,) = batches.batches(made, pairs, batch_size=4, epochs=1, seed=3)
    assert batch.relevant is None


def test_a_query_is_not_compared_with_its_relevant_documents_in_the_queue(relatives):
    made, pairs = relatives
    made.targets["number"] = np.tile(np.arange(4, dtype=np.float32)[:, None], 3)
    known = {"q0": {"d0", "d1"}, "q1": {"d2"}, "q2": {"d2", "d8"}}
    queue, left_out = [], 0
    for batch in batches.batches(made, pairs, batch_size=2, epochs=5, seed=0, queue=5):
        rows = batch.targets["number"][:, 0].long().tolist()
        if queue:
            for row, places in zip(rows, batch.queued.tolist(), strict=True):
                kept = [place for place, one in enumerate(queue) if one not in known[made.queries[row]]]
                assert places == kept[len(kept) - len(places) :]  # its newest, the oldest first
            fewest = min(sum(one not in known[made.queries[row]] for one in queue) for row in rows)
            assert batch.queued.shape == (2, fewest)
            left_out += len(queue) - fewest
        queue = (queue + made.documents[rows, 0].tolist())[-5:]
    assert left_out


@pytest.mark.gpu
def test_an_accelerator_learns_too(material):
    assert hardware.device().type == "cuda"
    history = fit(material, "info_nce", epochs=100, learning_rate=3e-3)
    assert history["loss"].iloc[-1] < 0.2 * history["loss"].iloc[0]
