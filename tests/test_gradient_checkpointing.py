"""Gradient checkpointing: the same training in less memory; what cannot is refused."""

import numpy as np
import pytest
import torch

from lib import models
from lib.data import collections
from lib.models import adapters
from lib.study import rankers, runs
from lib.study.experiment import Data, Experiment, Model, vary
from lib.training.settings import Adapter, GradCache
from tests.test_causal import written

TRAINING = {"batch_size": 4, "dropout": 0.1, "learning_rate": 3e-3, "epochs": 2}
CASES = {
    "bert": ("bert", "cat", {}), "bert, LoRA": ("bert", "cat", {"adapter": Adapter("lora", 2)}),
    "bert, GradCache": ("bert", "dot", {"batching": GradCache(2)}), "bert, PreTTR": ("bert", "prettr", {}),
    "qwen3": ("qwen3", "cat", {}), "qwen3, LoRA": ("qwen3", "cat", {"adapter": Adapter("lora", 2)}),
    "mamba": ("mamba", "cat", {}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_same_steps_are_trained(case, tiny_backbone, tiny_collection, tmp_path, float32):
    kind, architecture, changes = CASES[case]
    folder = tiny_backbone if kind == "bert" else written(kind, tmp_path / "model")
    options = (("split", 1), ("offset", 20)) if architecture == "prettr" else ()
    run = Experiment(
        "info_nce", data=Data(tiny_collection, 16, 3), model=Model(architecture, options, folder, None, 32)
    )
    plain = vary(run, **TRAINING, **changes)
    again = vary(plain, gradient_checkpointing=True)
    assert plain.key != again.key
    runs.complete([plain, again])
    first, second = (runs.history(one)[["loss", "gradient_norm"]].to_numpy() for one in (plain, again))
    assert second == pytest.approx(first, rel=1e-4)


@pytest.mark.parametrize("kind, architecture", [("bert", "cat"), ("bert", "dot"), ("bert", "prettr"), ("qwen3", "cat")])
def test_less_is_kept_for_the_backward_pass(kind, architecture, tiny_backbone, tiny_collection, tmp_path, float32):
    folder = tiny_backbone if kind == "bert" else written(kind, tmp_path / "model")
    options = {"split": 1, "offset": 20} if architecture == "prettr" else {}
    model = Model(architecture, tuple(options.items()), folder, None, 32)
    kept = []
    for on in (False, True):
        ranker = models.build(architecture, folder, None, 0, **options).train()
        if on:
            ranker.checkpoint_gradients()
        batch = rankers.inputs(ranker, collections.load(tiny_collection), model).batch(
            np.arange(4), np.arange(12).reshape(4, 3)
        )
        weights, found = {weight.data_ptr() for weight in ranker.parameters()}, {}

        def keep(tensor, weights=weights, found=found):
            if tensor.untyped_storage().data_ptr() not in weights:
                found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            scores = ranker(batch, 3)
            kept.append(sum(found.values()))
        scores.sum().backward()
    assert kept[1] < 0.6 * kept[0]


def test_what_cannot_is_refused(tiny_backbone, tmp_path):
    with pytest.raises(ValueError, match="gradient_checkpointing=1: give True or False"):
        vary(Experiment("info_nce"), gradient_checkpointing=1)
    with pytest.raises(ValueError, match="gradient_checkpointing=True: architecture='tk' is no transformer"):
        vary(Experiment("info_nce"), architecture="tk", gradient_checkpointing=True)
    with pytest.raises(ValueError, match="backbone OpenAIGPTForSequenceClassification cannot compute its layers again"):
        models.build("cat", written("openai-gpt", tmp_path), None, 0).checkpoint_gradients()
    own = vary(Experiment("info_nce"), adapter=Adapter("prefix", 2))
    for with_prefix, more in ((own, {}), (Experiment("info_nce"), {"start": own})):
        with pytest.raises(ValueError, match="gradient_checkpointing=True: no run with a prefix"):
            vary(with_prefix, gradient_checkpointing=True, **more)
    ranker = models.build("dot", tiny_backbone, None, 0)
    adapters.attach(ranker, "prefix", 2, 0)
    with pytest.raises(ValueError, match="gradient_checkpointing=True: a ranker with a prefix"):
        ranker.checkpoint_gradients()
