"""Packed layers compute what transformers' own do: values, gradients and dropout."""

import copy
from unittest import mock

import numpy as np
import pytest
import torch
import transformers

from lib.machine import hardware
from lib.models import packed

FAMILIES = {
    "bert": {}, "electra": {"embedding_size": 16}, "roberta": {"pad_token_id": 1}, "camembert": {"pad_token_id": 1},
    "xlm-roberta": {"pad_token_id": 1},
}  # fmt: skip


def made(family, **settings):
    """A small random encoder without dropout, in float64."""
    config = transformers.AutoConfig.for_model(
        family, vocab_size=30, hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=40,
        max_position_embeddings=40, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        **FAMILIES[family] | settings,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config).double()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)  # so that every weight matters
    return model


def batch(lengths, width=None):
    lengths, draw = torch.tensor(lengths), torch.Generator().manual_seed(1)
    mask = torch.arange(width or int(lengths.max())) < lengths[:, None]
    ids = torch.randint(3, 30, mask.shape, generator=draw)
    return {"input_ids": torch.where(mask, ids, 1), "attention_mask": mask.long()}, mask


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("lengths", "width"), [([7, 2, 5], 9), ([4, 4], None), ([1], None), ([1, 1, 1], None)])
@pytest.mark.parametrize("family", FAMILIES)
def test_values_and_gradients_are_those_of_transformers(family, lengths, width, attention):
    tokens, mask = batch(lengths, width)
    plain, ours = made(family), made(family)
    packed.pack(ours)
    assert type(ours.base_model.encoder) is not type(plain.base_model.encoder)
    for model in (plain, ours):
        model.set_attn_implementation(attention)
    weights = torch.randn(*mask.shape, 24, dtype=torch.float64) * mask[..., None]
    values = [model(**tokens).last_hidden_state for model in (plain, ours)]
    torch.testing.assert_close(values[1] * mask[..., None], values[0] * mask[..., None])
    assert not values[1][~mask].any()
    for one in values:
        (one * weights).sum().backward()
    for (name, weight), other in zip(plain.named_parameters(), ours.parameters(), strict=True):
        assert (weight.grad is None) == (other.grad is None), name
        if weight.grad is not None:
            torch.testing.assert_close(other.grad, weight.grad, msg=name)


@pytest.mark.parametrize("lengths", [[7, 2, 5], [1, 1], [3, 3]])
def test_the_first_token_alone(lengths):
    tokens, _ = batch(lengths)
    plain, ours = made("bert"), made("bert")
    packed.pack(ours)
    packed.read_first(ours)
    values = [model(**tokens).last_hidden_state for model in (plain, ours)]
    assert values[1].shape == (len(lengths), 1, 24)
    torch.testing.assert_close(values[1][:, 0], values[0][:, 0])
    for one in values:
        one[:, 0].sin().sum().backward()
    for (name, weight), other in zip(plain.named_parameters(), ours.parameters(), strict=True):
        if weight.grad is not None:
            torch.testing.assert_close(other.grad, weight.grad, msg=name)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_the_backward_pass_of_attention_is_that_of_the_forward_pass(dropout, first):
    places = packed.Places(batch([4, 2, 3])[1], 2)
    copies = len(places.tokens) - places.count
    draw = torch.Generator().manual_seed(2)
    rows = [3 if first else 9, 9, 9]
    sides = [torch.randn(count, 8, dtype=torch.float64, generator=draw, requires_grad=True) for count in rows]

    def attend(*sides):
        torch.manual_seed(3)  # the same draws at every call
        rows = [side if len(side) == 3 else torch.cat([side, side[:1].expand(copies, -1)]) for side in sides]
        return packed.Attention.apply(*rows, places, dropout)[: places.count]

    assert copies and torch.autograd.gradcheck(attend, sides)


@pytest.mark.parametrize(("lengths", "rows"), [([60, 4], 128), ([60, 5], 128), ([1000, 1000], 2048), ([2100], 2176)])
def test_batches_have_few_numbers_of_rows(lengths, rows):
    """Not one for each number of tokens; the copies that fill them up are at most a sixteenth."""
    places = packed.Places(batch(lengths)[1], 2)
    assert len(places.tokens) == rows and places.count == sum(lengths)
    assert len({len(packed.Places(batch([count])[1], 1).tokens) for count in range(1024, 4096, 7)}) == 33
    wide = torch.arange(float(places.texts * places.width))[:, None].view(places.texts, places.width, 1)
    assert torch.equal(places.fill(places.leave_out(wide))[batch(lengths)[1]], wide[batch(lengths)[1]])


def test_copies_of_a_token_learn_nothing():
    """A batch gives the gradients that it gives without them, in layers that add a constant to every row too."""
    tokens, mask = batch([7, 2, 5])
    models = {unit: made("bert") for unit in (1, packed.ROWS)}
    for unit, model in models.items():
        packed.pack(model)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(packed, "ROWS", unit)
            (model(**tokens).last_hidden_state.sin() * mask[..., None]).sum().backward()
    for (name, one), other in zip(models[1].named_parameters(), models[packed.ROWS].parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, msg=name)


@pytest.mark.parametrize("first", [False, True])
def test_under_autocast_hidden_states_are_of_its_type_and_gradients_close(first):
    tokens, mask = batch([7, 2, 5])
    plain, ours = made("bert").float(), made("bert").float()
    packed.pack(ours)
    ours.base_model.encoder.first = first
    with (
        mock.patch.object(packed, "_run_layer", side_effect=packed._run_layer) as layers,
        torch.autocast("cpu", torch.bfloat16),
    ):
        low = ours(**tokens).last_hidden_state
    assert {call.args[1].dtype for call in layers.call_args_list} == {torch.bfloat16} and low.dtype == torch.float32
    exact = plain(**tokens).last_hidden_state
    weights = torch.randn(mask.shape[0], 1 if first else mask.shape[1], 24) * (1 if first else mask[..., None])
    for one in (exact[:, :1] if first else exact, low):
        (one * weights).sum().backward()
    exact, low = (
        torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
        for model in (plain, ours)
    )
    assert (low - exact).norm() < 0.03 * exact.norm()


def test_dropout_keeps_its_share_and_the_mean_and_repeats_with_the_seed():
    layer = packed.Dropout(0.1)
    values = torch.ones(400, 500, requires_grad=True)
    torch.manual_seed(0)
    once = layer(values)
    again, (gradient,) = layer(values), torch.autograd.grad(once.sum(), values)
    torch.manual_seed(0)
    assert torch.equal(layer(values), once)
    assert not torch.equal(again, once)
    assert torch.equal(gradient, once)
    dropped = (once == 0).float()
    assert set(once.unique().tolist()) == {0.0, float(np.float32(1 / 0.9))}
    assert abs(dropped.mean() - 0.1) < 4 * (0.09 / values.numel()) ** 0.5
    assert abs((dropped[1:] * dropped[:-1]).mean() - 0.01) < 4 * (0.01 * 0.99 / values.numel()) ** 0.5
    assert layer.eval()(values) is values


def test_a_copy_and_a_second_packing_change_nothing():
    tokens, _ = batch([5, 3])
    model = made("bert")
    packed.pack(model)
    kind, names, value = type(model.encoder), list(model.state_dict()), model(**tokens).last_hidden_state
    packed.pack(model)
    other = copy.deepcopy(model)
    for weight in model.parameters():
        weight.data.zero_()
    assert type(model.encoder) is kind and list(other.state_dict()) == names
    assert other(**tokens).last_hidden_state.allclose(value, atol=1e-5)


def test_unpacking_gives_transformers_own_encoder_back():
    tokens, _ = batch([5, 3])
    plain, ours = made("bert"), made("bert")
    for change in (packed.pack, packed.read_first, packed.unpack, packed.unpack):
        change(ours)
    assert type(ours.encoder) is type(plain.encoder)
    assert ours(**tokens).last_hidden_state.allclose(plain(**tokens).last_hidden_state, atol=1e-5)
    packed.pack(ours)
    assert ours(**tokens).last_hidden_state.shape[1] == 1


@pytest.mark.parametrize("family", ["distilbert", "mpnet"])
def test_other_families_stay_as_they_are(family):
    settings = {"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 8}
    model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(family, vocab_size=30, **settings))
    kinds = [type(module) for module in model.modules()]
    packed.pack(model)
    packed.read_first(model)
    packed.unpack(model)
    assert [type(module) for module in model.modules()] == kinds


@pytest.mark.skipif(hardware.precision() == "no", reason="this processor multiplies no bfloat16 in hardware")
def test_scores_in_bfloat16_are_near_those_in_float32():
    tokens, _ = batch([30, 12, 25, 8])
    model = made("bert").float()
    packed.pack(model)
    with torch.inference_mode():
        wanted = model(**tokens).last_hidden_state
        with torch.autocast("cpu", torch.bfloat16):
            found = model(**tokens).last_hidden_state
    assert found.dtype == torch.float32
    assert (found - wanted).abs().mean() < 1e-2 * wanted.abs().mean() * 3


@pytest.mark.skipif(hardware.precision() == "no", reason="this processor multiplies no bfloat16 in hardware")
@pytest.mark.parametrize("first", [False, True])
def test_gradients_in_bfloat16_are_near_those_in_float32(first):
    tokens, _ = batch([30, 12, 25, 8])
    model = made("bert").float()
    packed.pack(model)
    model.encoder.first = first
    gradients = []
    for reduced in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            value = model(**tokens).last_hidden_state[:, 0].sin().sum()
        value.backward()
        gradients.append([part.grad for part in model.encoder.parameters()])
        model.zero_grad()
    largest = max(wanted.norm() for wanted in gradients[0])
    for wanted, found in zip(*gradients, strict=True):
        assert (found - wanted).norm() <= 0.1 * wanted.norm() + 1e-3 * largest
