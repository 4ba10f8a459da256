"""The ways of notebook 11: each computes the same, training leaves the weights, operators are told apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.data import groups
from lib.models import packed
from lib.study import rankers
from lib.training import ladder
from lib.training.ladder import Way

PLAIN = Way()
PACKED = Way(attention="eager", by_length=True, packed=True)
LOW = replace(PACKED, low=True)
WAYS = {
    "plain": PLAIN, "eager": replace(PLAIN, attention="eager"), "sorted": replace(PLAIN, by_length=True),
    "packed": PACKED, "low": LOW, "first": replace(LOW, first=True), "fast": replace(LOW, first=True, fast_dropout=True),
    "kit": replace(LOW, first=True, fast_dropout=True, dropout=0.0, embeddings=False),
}  # fmt: skip


@pytest.fixture
def work(experiment, found):
    model = rankers.built(experiment.model, 0)
    made = groups.build(found, count=8, docs=3)
    return ladder.Work(model, made, rankers.inputs(model, found, experiment.model), 4)


def test_every_way_gives_the_same_scores(work):
    scores = {name: ladder.score(work, way)[1] for name, way in WAYS.items()}
    assert len(set(scores["plain"].tolist())) > 12
    for name, values in scores.items():
        np.testing.assert_allclose(values, scores["plain"], atol=1e-5, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_measured_training_changes_no_weight(work, bf16):
    before = {name: value.clone() for name, value in work.model.state_dict().items()}
    ways = {name: replace(way, bf16=bf16) for name, way in WAYS.items()}
    rates = ladder.rates(ladder.train, work, ways, 2)
    assert rates.shape == (2, len(WAYS)) and (rates > 0).all(axis=None)
    assert all(torch.equal(value, before[name]) for name, value in work.model.state_dict().items())


def test_every_way_has_the_same_gradient(work):
    found = {}
    for name, way in WAYS.items():
        tokens, labels = ladder._training(work, replace(way, dropout=0.0, by_length=False))[0][0]
        work.model.zero_grad()
        scores = work.model(tokens, labels.shape[1])
        torch.nn.functional.binary_cross_entropy_with_logits(scores, labels).backward()
        found[name] = {key: value.grad for key, value in work.model.named_parameters() if value.grad is not None}
    for name, gradients in found.items():
        assert any("embeddings" in key for key in gradients) == WAYS[name].embeddings
        for key, value in gradients.items():
            torch.testing.assert_close(value, found["plain"][key], atol=1e-6, rtol=1e-4, msg=f"{name} {key}")


def test_a_way_can_be_left_again(work):
    kinds = [type(module) for module in work.model.modules()]
    ladder.arrange(work.model, WAYS["kit"])
    ladder.arrange(work.model, PLAIN)
    assert not any(isinstance(module, packed.PackedEncoder | packed.Dropout) for module in work.model.modules())
    ladder.arrange(work.model, WAYS["kit"])
    assert [type(module) for module in work.model.modules()] == kinds


def test_places_and_operations_are_counted(work):
    tokens = sum(int(batch["attention_mask"].sum()) for batch, _ in ladder._training(work, PLAIN)[0])
    assert work.useful_tokens == tokens <= ladder.places(work, WAYS["sorted"])
    layer, sides = 4 * 32 * 32 + 2 * 32 * 64, 2 * 32 * 32
    assert work.operations == 2 * (tokens * (layer + sides) + work.pairs * (layer - sides))
    assert ladder.limit(work, torch.float32, 0.01) > 0


def test_the_time_of_an_epoch_is_shared_out_without_a_word(work, capfd):
    plain, kit = (ladder.where(work, WAYS[name]) for name in ("plain", "kit"))
    assert list(plain.index) == [*ladder.KINDS, "other"] and (plain >= 0).all()
    assert plain["products"] > 0 and plain["dropout"] > kit["dropout"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::addmm", "products"), ("aten::_softmax_backward_data", "softmax"), ("aten::copy_", "casts and copies"),
        ("aten::native_layer_norm_backward", "layer norm"), ("aten::_fused_adamw_", "optimiser"),
        ("aten::bernoulli_", "dropout"), ("aten::add_", "sums, factors, masks"), ("aten::tanh", "other"),
    ],
)  # fmt: skip
def test_operators_are_told_apart(operator, kind):
    assert ladder.kind(operator) == kind
