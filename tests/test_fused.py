"""Fused layers score as packed ones do but for rounding, only where that is the same function, and leave no trace."""

import peft
import pytest
import torch

from lib.models import fused, packed
from tests.test_packed import FAMILIES, batch, made


def states(model, tokens):
    """Its last hidden states in bfloat16's products."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        return model(**tokens).last_hidden_state


def ready(family="bert", first=False, **settings):
    model = made(family, **settings).float().eval()
    packed.pack(model)
    model.encoder.first = first
    return model


def fused_layers(model):
    return [hasattr(layer, "fused") for layer in model.base_model.encoder.layer]


def near(found, wanted):
    torch.testing.assert_close(found, wanted, atol=0.05 * float(wanted.std()), rtol=0.02)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(("lengths", "width"), [([30, 12, 25, 8], 33), ([6, 6], None), ([1], None)])
@pytest.mark.parametrize("family", FAMILIES)
def test_values_are_those_of_packed_layers_but_for_rounding(family, lengths, width, first):
    tokens, _ = batch(lengths, width)
    model = ready(family, first)
    with torch.inference_mode():
        exact = model(**tokens).last_hidden_state
    before = states(model, tokens)
    with fused.fused(model):
        assert all(fused_layers(model))
        found = states(model, tokens)
    assert found.dtype == before.dtype and found.shape == exact.shape
    assert (found - exact).abs().mean() < 2 * (before - exact).abs().mean() + 1e-6  # no less exact than bfloat16 is
    assert not any(fused_layers(model)) and torch.equal(states(model, tokens), before)


def test_another_activation_is_computed_as_it_is():
    tokens, _ = batch([9, 4])
    model = ready(hidden_act="relu")
    wanted = states(model, tokens)
    with fused.fused(model):
        near(states(model, tokens), wanted)


def test_the_first_tokens_of_all_layers_are_given():
    tokens, _ = batch([9, 4, 6])
    model, kept = ready(), {}
    for name, block in {"plain": torch.no_grad(), "fused": fused.fused(model)}.items():
        with block:
            model.encoder.states = kept[name] = []
            states(model, tokens)
    assert len(kept["fused"]) == 4
    for found, wanted in zip(kept["fused"], kept["plain"], strict=True):
        near(found.float(), wanted)


def test_a_layer_with_an_adapter_or_with_dropout_stays_as_it_is():
    tokens, _ = batch([9, 4])
    model = ready()
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.5
    adapted = peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["query"], layers_to_transform=[1]), ready())
    torch.nn.init.normal_(adapted.encoder.layer[1].attention.self.query.lora_B["default"].weight)
    wanted = states(adapted.eval(), tokens)
    with fused.fused(adapted):
        assert fused_layers(adapted) == [True, False, True]
        near(states(adapted, tokens), wanted)
    with fused.fused(model.train()):
        assert not any(fused_layers(model))
        assert not torch.equal(states(model, tokens), states(model, tokens))  # dropout is drawn


@pytest.mark.parametrize("bias", [True, False])
def test_other_linear_modules_give_the_products_of_bfloat16(bias):
    torch.manual_seed(0)
    model, rows = torch.nn.Sequential(torch.nn.Linear(64, 48, bias=bias), torch.nn.ReLU()), torch.randn(5, 7, 64)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        wanted = model(rows)
        with fused.fused(model):
            found = model(rows)
        assert torch.equal(model(rows), wanted)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, wanted, atol=1e-2, rtol=1e-2)


def test_a_block_within_another_copies_no_weight_again():
    model = torch.nn.Sequential(ready(), torch.nn.Linear(4, 4))
    with fused.fused(model):
        made = [part.fused for part in model[0].encoder.layer] + [model[1].forward]
        with fused.fused(model):
            again = [part.fused for part in model[0].encoder.layer] + [model[1].forward]
        assert all(one is other for one, other in zip(made, again, strict=True))
        assert all(fused_layers(model[0])) and model[1].forward is made[-1]
    assert not any(fused_layers(model[0])) and "forward" not in vars(model[1])


def test_after_an_error_the_model_is_as_it_was():
    model = ready()
    with pytest.raises(RuntimeError, match="broken"), fused.fused(model):
        raise RuntimeError("broken")
    assert not any(fused_layers(model)) and not any("forward" in vars(part) for part in model.modules())
