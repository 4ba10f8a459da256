"""Students that teach each other: what each gives the others, and what a run of them keeps."""

import numpy as np
import pytest
import torch

from lib import losses, models
from lib.machine import hardware
from lib.study import rankers, runs, tables
from lib.study.experiment import TestSet, vary
from lib.training import peers, strategies
from lib.training.peers import Students

LABELS = torch.tensor([[1.0, 0, 0], [1.0, 0, 0]])
SCORES = torch.tensor([[[3.0, 0, 1], [0.0, 1, 2]], [[0.0, 2, 1], [2.0, 0, 1]], [[1.0, 1, 1], [1.0, 1, 1]]])


@pytest.fixture
def several(experiment, tiny_collection):
    """A run of two students from two starts."""

    def of(name, **changes):
        start = vary(experiment, collection=f"cropped:{tiny_collection}", epochs=2)
        return vary(experiment, strategy=name, start=start, peer=start.with_seed(1), **changes)

    return of


def test_mutual_targets_are_the_mean_of_the_others():
    torch.testing.assert_close(peers.mutual(SCORES[:2], LABELS), SCORES[:2].flip(0))
    torch.testing.assert_close(peers.mutual(SCORES, LABELS)[0], SCORES[1:].mean(0))


def test_a_student_learns_from_the_best_where_that_is_better_and_is_left_alone_elsewhere():
    found = peers.cooperative(SCORES, LABELS, step=1.0)
    torch.testing.assert_close(found[0, 0], SCORES[0, 0])  # the best of the first query
    torch.testing.assert_close(found[1:, 0], SCORES[0, 0].expand(2, -1))
    torch.testing.assert_close(found[1, 1], SCORES[1, 1])
    half = peers.cooperative(SCORES, LABELS)
    torch.testing.assert_close(half[1, 0], (SCORES[0, 0] + SCORES[1, 0]) / 2)
    own = SCORES[0, :1].clone().requires_grad_()  # its own scores as targets pull nowhere
    assert torch.autograd.grad(losses.kl(own, found[0, :1]).sum(), own)[0].abs().max() < 1e-7


def test_with_a_frozen_peer_mutual_learning_is_distillation():
    """The gradient of the first student is that of labels and a teacher who scores what the peer scores."""
    first, peer = (torch.randn(4, 3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    labels = torch.eye(3)[[0, 0, 0, 0]]

    def at_first(strategy, scores_of, teacher):
        own = first.clone().requires_grad_()
        matrix = strategy.matrix(lambda *_: scores_of(own), {}, {"labels": labels, **teacher})
        return torch.autograd.grad(strategy.loss(*matrix[:2]).sum(), own)[0]

    both = strategies.Strategy(
        "both", "distillation", (strategies.Term(losses.info_nce, "labels"), strategies.Term(losses.kl, "teacher"))
    )
    mutual = at_first(strategies.named("mutual"), lambda own: torch.cat([own, peer]), {})
    torch.testing.assert_close(mutual, at_first(both, lambda own: own, {"teacher": peer}))


@pytest.mark.parametrize("name", [name for name, one in strategies.STRATEGIES.items() if one.peers])
def test_a_student_alone_is_refused(name, several, experiment):
    run = several(name, teacher=experiment if strategies.named(name).needs_teacher else None)
    runs.complete([*runs.lineage(run)[:-1]])
    ranker, groups, inputs = runs.at_start(run)
    with pytest.raises(ValueError, match=f"strategy {name}: students teach each other; give"):
        runs.loop.train(ranker, groups, inputs, run.strategy, run.training)


@pytest.mark.parametrize("name", [name for name, one in strategies.STRATEGIES.items() if one.peers])
def test_students_get_above_their_start(name, several, experiment, tiny_collection):
    teacher = vary(experiment, epochs=20, seed=7) if strategies.named(name).needs_teacher else None
    run = several(name, epochs=20, teacher=teacher)
    test = TestSet(tiny_collection, split="train", queries=None, depth=10)
    tables.complete([run, run.start], [test])
    assert tables.values(run, test, "RR@10").mean() > tables.values(run.start, test, "RR@10").mean() + 0.05
    history = runs.history(run)
    assert history["loss"].tail(8).mean() < history["loss"].head(8).mean()


def test_the_first_student_is_kept_and_depends_on_its_peer(several, experiment, float32):
    run = several("mutual", epochs=2)
    other = vary(run, peer=run.peer.with_seed(2))
    alone = vary(run, strategy="info_nce", peer=None)
    assert len({run.key, other.key, alone.key}) == 3
    weights = [rankers_weights(one) for one in (run, other, alone)]
    assert not np.allclose(weights[0], weights[1]) and not np.allclose(weights[0], weights[2])
    assert [one.key for one in runs.lineage(run)] == [run.start.key, run.peer.key, run.key]


def rankers_weights(run):
    runs.complete([run])
    return rankers.ranker(run).transformer.classifier.weight.detach().numpy()


def test_seeds_are_counted_together_whatever_their_peers(several):
    run = several("mutual", epochs=1)
    moved = run.with_seed(3)
    assert (moved.start.seed, moved.peer.seed) == (3, 4)
    start = run.start  # with a peer of the seed before, there is no run with seed 0
    behind = [vary(run, start=start.with_seed(n), peer=start.with_seed(n - 1), seed=n) for n in (1, 2)]
    assert len(set(tables.ranker_names(behind))) == 1 and len(set(tables.ranker_names([run, *behind]))) == 2
    table = tables.results([run, moved], [])
    assert table["configuration"].nunique() == 1


def test_a_peer_is_made_ready_as_the_student_is(several, monkeypatch):
    asked = []
    monkeypatch.setattr(models.Ranker, "set_attention", lambda self, kind: asked.append(("attention", kind)))
    monkeypatch.setattr(models.Ranker, "checkpoint_gradients", lambda self: asked.append("gradients"))
    run = several("mutual", epochs=1, gradient_checkpointing=True)
    runs.complete([run.start, run.peer])
    asked.clear()
    runs.complete([run])
    assert asked == ["gradients", *[("attention", hardware.attention(training=True)), "gradients"] * 2]  # first a check


def test_students_read_the_same_tokens():
    double = Students(torch.nn.Identity(), torch.nn.Identity())
    double.rankers[0].forward = double.rankers[1].forward = lambda tokens, docs: tokens
    assert double(torch.ones(2, 3), 3).shape == (4, 3)


def test_a_peer_without_a_strategy_of_peers_is_refused_and_the_other_way_round(several, experiment):
    with pytest.raises(ValueError, match=r"peer=.* with strategy='info_nce'.*else peer=None"):
        several("info_nce")
    with pytest.raises(ValueError, match="peer=None with strategy='mutual': give another start"):
        vary(experiment, strategy="mutual")
    with pytest.raises(ValueError, match="peer=.*it must have the same architecture"):
        vary(several("mutual"), peer=vary(experiment, architecture="dot"))
    from lib.training.settings import Adapter

    with pytest.raises(ValueError, match="mutual.*trains students beside each other"):
        vary(several("mutual"), adapter=Adapter("lora"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"peers": peers.mutual}, "go together"),
        ({"peers": lambda scores, labels: scores[0]}, "(?s)peers gives .*give as many, finite"),
        ({"columns": lambda similarities: None, "peers": peers.mutual}, "give no peers, or neither of them"),
    ],
)
def test_impossible_strategies_of_peers_are_refused(fields, message):
    source = "labels" if "go together" in message else "peers"
    with pytest.raises(ValueError, match=message):
        strategies.Strategy("own", "mutual learning", (strategies.Term(losses.kl, source),), **fields)


def test_a_step_of_the_cooperation_is_a_parameter():
    assert strategies.named("cooperative", step=1.0).name == "cooperative(step=1.0)"
