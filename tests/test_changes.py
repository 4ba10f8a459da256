"""A run keeps the weights that training changed, every bit of them, and little else."""

import pytest
import torch

from lib import models
from lib.models import changes


def moved(ranker, names, by=1e-3):
    with torch.no_grad():
        for name, value in ranker.named_parameters():
            if any(part in name for part in names):
                value += by * torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
    return ranker


def drawn(built, redrawn):
    other = redrawn.state_dict()
    return {name for name, weight in built.state_dict().items() if not weight.equal(other[name])}


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_every_bit_comes_back_and_what_was_not_trained_is_left_out(architecture, tiny_backbone, tmp_path):
    options = {"dim": 16} if architecture == "colbert" else {"split": 1} if architecture == "prettr" else {}

    def built(seed=0):
        return models.build(architecture, tiny_backbone, None, seed, **options)

    trained = moved(built(), ["layer", "classifier", "projection", "contextualiser", "mixer"])
    changes.save(trained, built(), drawn(built(), built(1)), tmp_path / "w.safetensors")
    again = built()
    changes.restore(again, tmp_path / "w.safetensors")
    for name, value in trained.state_dict().items():
        assert value.equal(again.state_dict()[name]), name  # weights from a file: bits, not kernels
    kept = {name.partition("/")[2] for name in weights_of(tmp_path)}
    assert kept and not [name for name in kept if "embedding" in name.lower()]


def weights_of(folder):
    import safetensors

    with safetensors.safe_open(folder / "w.safetensors", "pt") as file:
        return list(file.keys())


def test_what_was_drawn_from_the_seed_is_kept_whole(tiny_backbone, tmp_path):
    trained = moved(models.build("cat", tiny_backbone, None, 0), ["classifier", "layer"])
    built, redrawn = (models.build("cat", tiny_backbone, None, seed) for seed in (0, 1))
    changes.save(trained, built, drawn(built, redrawn), tmp_path / "w.safetensors")
    names = weights_of(tmp_path)
    assert "whole/transformer.classifier.weight" in names
    assert "changed/transformer.bert.encoder.layer.0.output.dense.weight" in names
    other = models.build("cat", tiny_backbone, None, 5)  # a generator that draws other numbers
    changes.restore(other, tmp_path / "w.safetensors")
    assert other.transformer.classifier.weight.equal(trained.transformer.classifier.weight)


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-38, -1e-45, 3.4e38, -1.5, float("inf")])
def test_packing_is_exact_for_every_kind_of_number(value):
    before = torch.tensor([1.0, -1.0, 0.0, 1e-40, -3e38])
    after = torch.full((5,), value)
    assert changes._unpacked(changes._packed(after, before), before).view(torch.int32).equal(after.view(torch.int32))


def test_a_small_change_takes_less_than_the_weights():
    before = torch.randn(512, 512, generator=torch.Generator().manual_seed(0)) * 0.05
    after = before + 1e-3 * torch.randn(512, 512, generator=torch.Generator().manual_seed(1))
    assert changes._packed(after, before).numel() < 0.8 * 4 * before.numel()


def test_weights_of_another_model_are_refused_by_name(tiny_backbone, tmp_path):
    trained = moved(models.build("cat", tiny_backbone, None, 0), ["layer"])
    built = models.build("cat", tiny_backbone, None, 0)
    changes.save(trained, built, [], tmp_path / "w.safetensors")
    with pytest.raises(changes.WeightsError, match=r"w.safetensors.*'transformer.* does not fit BiEncoder"):
        changes.restore(models.build("dot", tiny_backbone, None, 0), tmp_path / "w.safetensors")
