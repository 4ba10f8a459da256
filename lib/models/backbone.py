"""Pre-trained encoders: those that Python packages carry, any hub model, or a local folder."""

from __future__ import annotations  # transformers reads its model classes, for seconds, when one is named

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import huggingface_hub
import torch
import transformers
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.machine import digest
from lib.models import packaged, packed
from lib.models.weights import AGAIN, INDEX, LOCAL, WeightsError, config, first_line, pretrained, quiet

MINILM = packaged.MINILM
# The files that decide what a model scores: weights, sizes, tokenizer, sentence-transformers' modules, our own pieces.
DECIDING = (
    "*.safetensors", INDEX, "config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*",
    "merges.txt", "*.model", "*.codes", "modules.json", "sentence_bert_config.json",
    "config_sentence_transformers.json", "[0-9]*_*/*.json", "[0-9]*_*/*.safetensors", "ranker.json", "adapter/*.json",
    "adapter/*.safetensors",
)  # fmt: skip
# transformers' models whose first position is padding_idx + 1, so that their table holds fewer than its rows.
AFTER_PADDING = {
    "camembert", "data2vec-text", "ibert", "lilt", "longformer", "luke", "markuplm", "mpnet", "roberta",
    "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
}  # fmt: skip
# Models whose layers mix padding with a text, mask or not: FNet by Fourier transform, YOSO by hashing, MobileBERT by
# joining each token's embedding with the next one's, the others by convolution or over what precedes.
READING_PADDING = ("fnet", "nystromformer", "convbert", "mobilebert", "yoso", "cpmant")
# What of a configuration has one value for each layer: ModernBERT's, Longformer's, SmolLM3's and GLM's.
OF_LAYERS = ("layer_types", "attention_window", "no_rope_layers", "mlp_layer_types")
# Before the first layer: tables, and ELECTRA's and ALBERT's way from the tables' width to the layers'.
EMBEDDINGS = ("embeddings", "embeddings_project", "encoder.embedding_hidden_mapping_in")


def folder(name: str) -> Path:
    """The absolute folder of a backbone: of `packaged.MODELS`, a local one, or a hub model's (downloaded: safetensors).

    Raises WeightsError if there is no sound folder and the hub can have no such name, else ConnectionError if the hub
    does not give the model.
    """
    if name in packaged.MODELS:
        return packaged.folder(name)
    place = Path(name).resolve()
    if name and place.is_dir():
        if not (place / "config.json").exists():
            raise WeightsError(f"backbone folder {place}: no config.json; give a folder in the hub's layout")
        return place
    if place.is_file():
        raise WeightsError(f"backbone {name!r}: {place} is a file; give the model's folder")
    try:
        huggingface_hub.utils.validate_repo_id(name)
    except ValueError as error:
        fix = "give one, or a hub model as 'name' or 'owner/name'"
        raise WeightsError(f"backbone {name!r}: there is no folder {place}; {fix}") from error
    return _downloaded(name)


@lru_cache(maxsize=8)
def _downloaded(name: str) -> Path:
    try:
        wanted = ["*.json", "*.txt", "*.model", "*.safetensors"]
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted))
    except (OSError, ValueError) as error:  # the hub's errors are OSErrors
        fix = f"Check the name and the network, or give a local folder: there is none at {Path(name).resolve()}."
        raise ConnectionError(f"hub model {name!r} cannot be loaded: {error}. {fix}") from error


def fingerprint(name: str) -> str:
    """Hash of every file of a backbone that decides its scores; of a graph, of what it is opened from."""
    if name in packaged.MODELS and packaged.MODELS[name].is_graph:
        return packaged.fingerprint(name)
    place = folder(name)
    return digest.of_files(place, {path for pattern in DECIDING for path in place.glob(pattern) if path.is_file()})


READ = {"Transformer", "Pooling", "Normalize"}  # sentence-transformers' modules that the kit computes
POOLED = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}


def warn_of_modules(folder: Path, pooling: str | None = None) -> None:
    """Warn of what sentence-transformers computes after a folder's encoder, and a ranker with `pooling` does not."""
    modules, settings = folder / "modules.json", folder / "1_Pooling" / "config.json"
    try:
        kinds = [one["type"].rpartition(".")[2] for one in json.loads(modules.read_text())] if modules.exists() else []
        pools = json.loads(settings.read_text()) if settings.exists() else {}
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{modules} or {settings} cannot be read: {first_line(error)} {AGAIN}") from error
    if others := [kind for kind in kinds if kind not in READ]:
        what = f"its module {' and '.join(others)} is not read"
    elif pooling and pools.get(POOLED[pooling]) is False:
        what = f"it was trained with another pooling than {pooling!r}"
    else:
        return
    warnings.warn(f"{folder}: {what}, so untrained it scores otherwise than in sentence-transformers", stacklevel=3)


def layer_count(name: str) -> int:
    """How many transformer layers a backbone has."""
    return config(folder(name)).num_hidden_layers


def limit(config: transformers.PreTrainedConfig) -> int | None:
    """The most tokens that a model can read, special tokens included; None: its positions are relative."""
    rows = getattr(config, "max_position_embeddings", None) or 0  # T5 has none
    if rows < 1 or not getattr(config, "position_biased_input", True):  # XLNet says -1; the latter is DeBERTa's
        return None
    return rows - (config.pad_token_id + 1 if config.model_type in AFTER_PADDING else 0)


def first_position(encoder: nn.Module) -> int:
    """The position of a text's first token: models of `AFTER_PADDING` count from after the one that padding has."""
    padding = getattr(getattr(encoder.embeddings, "position_embeddings", None), "padding_idx", None)
    return 0 if padding is None else padding + 1


def is_causal(config: transformers.PreTrainedConfig) -> bool:
    """Whether a token sees only those before it, as in decoders and recurrent models: the last one has read all."""
    auto, kind = transformers.models.auto.modeling_auto, config.model_type
    others = {*auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, "xlnet"}  # XLNet reads both ways, in an order of its own
    return kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in others and not config.is_encoder_decoder


def last(hidden: Float[Tensor, "texts width dim"], mask: Int[Tensor, "texts width"]) -> Float[Tensor, "texts dim"]:
    """The state of each text's last token; padding comes after it."""
    return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]


def mean(hidden: Float[Tensor, "texts width dim"], mask: Int[Tensor, "texts width"]) -> Float[Tensor, "texts dim"]:
    """The mean of the states of each text's tokens, without padding."""
    weight = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weight).sum(1) / weight.sum(1)


@contextlib.contextmanager
def giving(base: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """A block in which a model gives `change` of its last hidden states, so that what follows costs less."""

    def replace(_: nn.Module, inputs: tuple, output: transformers.utils.ModelOutput) -> transformers.utils.ModelOutput:
        output.last_hidden_state = change(output.last_hidden_state)
        return output

    hook = base.register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()


def tokenizer(name: str) -> transformers.PreTrainedTokenizerFast:
    """The backbone's own fast tokenizer; WeightsError where transformers would make one that knows no word.

    One without a padding token pads with its unknown token, else its end-of-text token: it is masked anyway, but by the
    former, transformers' own classifiers find a text's last token even if that is the end.
    """
    place = folder(name)
    try:
        with quiet():
            found = transformers.AutoTokenizer.from_pretrained(place, use_fast=True, **LOCAL)
    except Exception as error:
        raise WeightsError(f"{place}: its tokenizer cannot be read: {first_line(error)} {AGAIN}") from error
    files = dict(found.vocab_files_names)
    whole = files.pop("tokenizer_file", "tokenizer.json")
    lacking = [file for file in files.values() if not (place / file).exists()] or ([] if files else [whole])
    if lacking and not (place / whole).exists():
        raise WeightsError(f"{place}: no tokenizer: neither {whole} nor {' and '.join(lacking)} is there. {AGAIN}")
    if not found.is_fast:
        fix = "give a backbone with a tokenizer.json"
        raise WeightsError(f"{place}: transformers has no fast tokenizer for {type(found).__name__}: {fix}")
    if found.pad_token is None:
        found.pad_token = found.unk_token or found.eos_token
    return found


def _keep_layers(model: transformers.PreTrainedModel, layers: tuple[int, ...]) -> None:
    """Keep the given transformer layers (from 0, in this order) and drop the others, in place."""
    kind, settings = type(model).__name__, model.config
    count = settings.num_hidden_layers
    stacks = (module for module in model.modules() if isinstance(module, nn.ModuleList))
    stack = next((module for module in stacks if len(module) == count), None)
    if stack is None:
        raise ValueError(f"layers={layers}: {kind} has no list of its {count} layers; give layers=None")
    if not layers or len(set(layers)) < len(layers) or not set(layers) <= set(range(count)):
        raise ValueError(f"layers={layers}: this backbone has layers 0 to {count - 1}; give one or more, each once")
    kept = [stack[layer] for layer in layers]
    del stack[:]
    stack.extend(kept)
    settings.num_hidden_layers = len(kept)
    for name in OF_LAYERS:
        if isinstance(values := getattr(settings, name, None), list) and len(values) == count:
            setattr(settings, name, [values[layer] for layer in layers])
    for number, layer in enumerate(kept):  # a prefix is looked up by the number that a layer gives itself
        for module in layer.modules():
            for name in ("layer_idx", "layer_id"):
                if hasattr(module, name):
                    setattr(module, name, number)
    with torch.device("meta"):
        again = type(model)(settings)  # as it will be when it is loaded
    if again.state_dict().keys() != model.state_dict().keys() or _looks(again) != _looks(model):
        raise ValueError(f"layers={layers}: a layer of {kind} is made for its place and cannot move; give layers=None")


def _looks(model: nn.Module) -> list[dict[str, object]]:
    """What decides beside weights what each module in a list of modules computes: its numbers, words and switches."""
    stacks = (module for module in model.modules() if isinstance(module, nn.ModuleList))
    parts = (module for stack in stacks for layer in stack for module in layer.modules())
    return [
        {name: value for name, value in vars(module).items()
         if isinstance(value, int | float | str) and name != "training" and not name.startswith("_")}
        for module in parts
    ]  # fmt: skip


def encoder(
    folder: Path, layers: tuple[int, ...] | None = None, *, whole: bool = False, **changes: object
) -> transformers.PreTrainedModel:
    """The plain encoder of a folder in the hub's layout, in float32; `whole` as in `pretrained`, see `prepare`."""
    return prepare(pretrained(transformers.AutoModel, folder, whole=whole), layers, **changes)


def prepare(
    transformer: transformers.PreTrainedModel, layers: tuple[int, ...] | None = None, *,
    dropout: float | None = None, embeddings: bool = True,
) -> transformers.PreTrainedModel:  # fmt: skip
    """Keep some layers (None: all), replace the dropout (None: the backbone's), train the embedding table or not.

    Of a causal model the table is that of its inputs, and of its outputs where it has them. Raises ValueError if the
    model reads padding, has an encoder and a decoder, or its layers cannot be chosen so.
    """
    base, causal = transformer.base_model, is_causal(transformer.config)
    if transformer.config.model_type in READING_PADDING:
        fix = "a text's score would depend on the others of its batch; give a backbone that masks padding"
        raise ValueError(f"backbone {type(base).__name__} reads padding: {fix}")
    if not causal and not isinstance(getattr(base, "embeddings", None), nn.Module):
        fix = "give an encoder like BERT, or a decoder like GPT-2 or Qwen"
        raise ValueError(f"backbone {type(base).__name__} has no embeddings of its own: {fix}")
    if layers is not None:
        _keep_layers(transformer, layers)
    for module in transformer.modules():
        if type(module) is nn.Dropout:
            module.__class__ = packed.Dropout
        if isinstance(module, nn.Dropout) and dropout is not None:
            module.p = dropout
        for name, value in [*vars(module).items()] if dropout is not None else ():
            if name.endswith("dropout") and isinstance(value, float):  # of decoders, which have no module for it
                setattr(module, name, dropout)
    packed.pack(transformer)
    for name, module in base.named_modules():
        if name in EMBEDDINGS:
            module.requires_grad_(embeddings)
    if causal:
        transformer.config.use_cache = False  # of keys and values, for texts that go on
        if getattr(transformer.config, "rescale_every", 0):  # RWKV: the first scoring would change what is saved
            transformer.config.rescale_every = 0
        for table in filter(None, (transformer.get_input_embeddings(), transformer.get_output_embeddings())):
            table.requires_grad_(embeddings)
    return transformer
