"""Adapters: a few new weights learn, the backbone's stay as they are (peft's LoRA and prefix tuning).

LoRA, Hu et al. 2021, https://arxiv.org/abs/2106.09685: query and value projections W become W + (alpha / rank) B A,
with B zero at first and alpha twice the rank, as in 2507.08336. Families whose projections peft does not know have it
in every linear layer. After training they are merged.

Prefix tuning, Li and Liang 2021, https://arxiv.org/abs/2101.00190: in every layer the tokens attend to some more keys
and values, which are weights of their own, cannot be merged and stay a part of the ranker. A token keeps the position
that it has without a prefix; peft's own wrapper would count from after the prefix, and leave out `token_type_ids`.
"""

import dataclasses
import inspect
import warnings
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from lib.models import backbone, weights
from lib.models.ranker import ADAPTER, Ranker, drawn_from

FITS = {"lora": ("cat", "dot", "colbert", "prettr"), "prefix": ("cat", "dot", "colbert")}  # architectures by kind
KINDS = tuple(FITS)
STATE_SPACE = ("falcon_h1", "falcon_mamba", "mamba", "mamba2")  # peft refuses LoRA in their `out_proj`
WEIGHTS, PROMPT = "adapter_model.safetensors", "prompt_embeddings"  # as peft names the file and what is in it


class Lora:
    """peft's model around a ranker's transformer, whose projections it has replaced in place; see `finish`."""

    def __init__(self, model, trained: list[nn.Parameter]):
        self.model, self.trained = model, trained  # what was trained before, and is again once it is merged

    def save(self, folder: Path) -> None:
        """Always raises ValueError."""
        raise ValueError("LoRA is not merged into the weights: call lib.models.adapters.finish before saving")


class Prefix(nn.Module):
    """Keys and values before every layer's own; its weights are (size, 2 * layers * dim)."""

    def __init__(self, model):
        super().__init__()
        self.encoder = model.prompt_encoder
        self._model = (model,)  # in a tuple, since its other parameters are the ranker's already
        model.base_model.register_forward_pre_hook(self.before, with_kwargs=True)

    def before(self, encoder: nn.Module, arguments: tuple, named: dict) -> tuple[tuple, dict]:
        """What the encoder is called with -> the same with the prefix, and a mask (batch, size + width)."""
        (model,), mask = self._model, named["attention_mask"]
        (batch, width), first = mask.shape, backbone.first_position(encoder)
        size = model.active_peft_config.num_virtual_tokens
        return arguments, named | {
            "past_key_values": model.get_prompt(batch),
            "position_ids": torch.arange(first, first + width, device=mask.device).expand(batch, -1),
            "attention_mask": torch.cat([mask.new_ones(batch, size), mask], dim=1),
        }

    def save(self, folder: Path) -> None:
        """Write it in peft's layout."""
        import peft

        (model,) = self._model
        folder.mkdir(exist_ok=True)
        # Without the backbone's place on this machine.
        dataclasses.replace(model.active_peft_config, base_model_name_or_path=None).save_pretrained(folder)
        safetensors.torch.save_file(peft.get_peft_model_state_dict(model), str(folder / WEIGHTS))


def check(architecture: str, kind: str) -> None:
    """Raises ValueError if an architecture cannot take this kind of adapter."""
    if architecture not in FITS[kind]:
        raise ValueError(f"architecture {architecture} cannot take a {kind}: give one of {', '.join(FITS[kind])}")


def attach(ranker: Ranker, kind: str, size: int, seed: int) -> None:
    """Put an adapter into a ranker, in place; of the backbone nothing but the adapter is trained from here on.

    `kind` is "lora" with rank `size`, or "prefix" with `size` virtual tokens. What an architecture adds to its backbone
    (the cross-encoder's head, ColBERT's projection) goes on learning. New weights are drawn from `seed`: LoRA changes
    no score at first, a prefix begins near zero, with the standard deviation of the backbone's own start. Raises
    ValueError if the ranker or its backbone cannot take it.
    """
    check(ranker.architecture, kind)
    if ranker.adapter is not None:
        raise ValueError("the ranker has an adapter already")
    import peft

    base = ranker.transformer.base_model
    if kind == "prefix":
        # Rotary positions would count the prefix; where positions are tables, they can be given.
        takes = {"past_key_values", "position_ids"} <= inspect.signature(type(base).forward).parameters.keys()
        if not takes or backbone.is_causal(base.config):
            raise ValueError(f"backbone {type(base).__name__} takes no prefix: give one like BERT, RoBERTa or ELECTRA")
        config = peft.PrefixTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=size)
    else:
        # peft knows the projections of many families; of others every linear layer.
        known, family = peft.utils.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING, base.config.model_type
        config = peft.LoraConfig(
            r=size, lora_alpha=2 * size, lora_dropout=0.0, target_modules=known.get(family, "all-linear"),
            exclude_modules=["out_proj"] if family in STATE_SPACE else None,
        )  # fmt: skip
    trained = [parameter for parameter in ranker.parameters() if parameter.requires_grad]
    base.requires_grad_(False)
    if (outputs := ranker.transformer.get_output_embeddings()) is not None:
        outputs.requires_grad_(False)
    with drawn_from(seed), warnings.catch_warnings():
        # peft asks transformers for an attribute by its old name.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")  # GPT-2's; peft then sets it
        model = peft.get_peft_model(base, config)
        if kind == "prefix":
            for weight in model.prompt_encoder.parameters():
                weight.data.copy_(torch.randn(weight.shape) * base.config.initializer_range)
    ranker.adapter = Prefix(model) if kind == "prefix" else Lora(model, trained)
    ranker.train(ranker.training)


def finish(ranker: Ranker) -> None:
    """After training, merge LoRA into the weights, in place: the ranker is then one like any other; a prefix stays."""
    if isinstance(ranker.adapter, Lora):
        ranker.adapter.model.merge_and_unload()
        for parameter in ranker.adapter.trained:
            parameter.requires_grad_()
        ranker.adapter = None


def reopen(ranker: Ranker, folder: Path) -> None:
    """Put on the prefix that `Ranker.save` wrote beside the weights; raises WeightsError if it is damaged."""
    path = folder / ADAPTER / WEIGHTS
    found = weights.tensors(path, PROMPT)[PROMPT]
    attach(ranker, "prefix", len(found), 0)
    weights.fill(ranker.adapter.encoder["default"].embedding, path, {"weight": PROMPT})
