"""Reading weights: a model is loaded whole, or one error says what its folder lacks.

transformers draws at random what a folder lacks and says so in a log; here what it reports decides.
"""

from __future__ import annotations  # transformers reads its model classes, for seconds, when one is named

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import transformers
from torch import Tensor, nn

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"  # the index where the weights are in several files
PEFT = "adapter_config.json"
LOCAL = {"local_files_only": True, "trust_remote_code": False}  # a folder's own code is never executed
AGAIN = "Download or save the model again."
SCORING = (
    "To score, give a trained ranker with one label (a cross-encoder with num_labels=1, or what Ranker.save wrote) and "
    "not a backbone; if it was one, download or save it again."
)


class WeightsError(RuntimeError):
    """A model's folder is missing, damaged, or holds other weights than the ones expected."""


def config(folder: Path) -> transformers.PreTrainedConfig:
    """The configuration of a model's folder; WeightsError if transformers has no such model, or it is of several."""
    try:
        with quiet():
            found = transformers.AutoConfig.from_pretrained(folder, **LOCAL)
    except Exception as error:
        fix = "Give a folder in the hub's layout, of a model that transformers has itself."
        raise WeightsError(f"{folder / 'config.json'} cannot be read: {first_line(error)} {fix}") from error
    for size in ("num_hidden_layers", "hidden_size"):
        if not hasattr(found, size):
            fix = "a model of several, as of text and images, has none; give the folder of its text model"
            raise WeightsError(f"{folder / 'config.json'}: {type(found).__name__} has no {size} of its own: {fix}")
    return found


def pretrained(auto: type, folder: Path, *, whole: bool, **settings: object) -> transformers.PreTrainedModel:
    """A folder's model, in float32, by one of transformers' Auto classes; WeightsError if its weights do not fit.

    `whole`: it is to score, and the folder must hold its weights and no others. Else it is to be trained: a head (and
    pooler) that the folder lacks or has in another shape is drawn anew, and what pre-training had beyond is ignored.
    """
    config(folder)
    if (folder / PEFT).exists():  # transformers reports of such a folder only what the adapter lacks
        fix = "merge it into the weights (merge_and_unload of the package peft), and save the model again"
        raise WeightsError(f"{folder} has an adapter of the package peft ({PEFT}): {fix}")
    for path in _weight_files(folder):
        _check_whole(path)
    try:
        with quiet():
            model, report = auto.from_pretrained(
                folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True,
                ignore_mismatched_sizes=True, **LOCAL, **settings,
            )  # fmt: skip
    except Exception as error:
        raise WeightsError(f"{folder} cannot be loaded: {first_line(error)} {AGAIN}") from error
    _refuse(folder, *_differences(model, report, whole), SCORING if whole else AGAIN)
    return model


def _differences(model: transformers.PreTrainedModel, report: dict, whole: bool) -> tuple[list, list, list]:
    """What matters of transformers' report: names missing, names unexpected, names with both shapes."""
    plain = model.base_model is model
    prefix = "" if plain else f"{model.base_model_prefix}."

    def needed(name: str) -> bool:
        pooler = "pooler" in name.split(".")
        return not (pooler and plain) and (whole or (name.startswith(prefix) and not pooler))

    def beyond(name: str) -> bool:
        if not whole:  # layers more than config.json says would be dropped without a word
            return bool(re.search(r"(^|\.)(layers?|h|blocks?)\.\d+\.", name))
        return "pooler" not in name.split(".") and not name.endswith(("position_ids", "token_type_ids"))

    shapes = [one for one in report["mismatched_keys"] if needed(one[0])]
    missing = [name for name in report["missing_keys"] if needed(name)]
    return missing, [name for name in report["unexpected_keys"] if beyond(name)], shapes


def fill(module: nn.Module, path: Path, called: dict[str, str] | None = None) -> None:
    """Load a module's weights from a safetensors file that holds these and no others (else WeightsError).

    `called`: the module's names -> the file's, where these differ.
    """
    wanted = {(called or {}).get(name, name): value for name, value in module.state_dict().items()}
    found = tensors(path)
    both = [(name, found[name].shape, wanted[name].shape) for name in wanted.keys() & found.keys()]
    shapes = [one for one in both if one[1] != one[2]]
    _refuse(path, wanted.keys() - found.keys(), found.keys() - wanted.keys(), shapes, AGAIN)
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(found[name])


def tensors(path: Path, *needed: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file; WeightsError if it is missing or damaged, or lacks one of `needed`."""
    _check_whole(path)
    found = safetensors.torch.load_file(path)
    _refuse(path, set(needed) - found.keys(), (), (), AGAIN)
    return found


def _refuse(place: Path, missing: Iterable[str], unexpected: Iterable[str], shapes: Iterable[tuple], fix: str) -> None:
    other = [f"{name}: {tuple(found)} instead of {tuple(wanted)}" for name, found, wanted in shapes]
    faults = []
    for what, found in (("missing", missing), ("unexpected", unexpected), ("of another shape", other)):
        if names := sorted(found):
            verb = "weight is" if len(names) == 1 else "weights are"
            faults.append(f"{len(names)} {verb} {what} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})")
    if faults:
        raise WeightsError(f"{place}: {'; '.join(faults)}. {fix}")


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if not (folder / INDEX).exists():
        fix = "save the model as safetensors (save_pretrained does) or download it"
        raise WeightsError(f"{folder} has no {WEIGHTS}: {fix}")
    try:
        return [folder / name for name in sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsError(f"{folder / INDEX} has no weight_map that can be read ({error!r}). {AGAIN}") from error


def _check_whole(path: Path) -> None:
    """Refuse a safetensors file that is missing or shorter than its header says."""
    if not path.is_file():
        raise WeightsError(f"{path} is missing. {AGAIN}")
    try:
        with safetensors.safe_open(path, "pt"):
            pass
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path} is truncated or no safetensors file ({error}). {AGAIN}") from error


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or repr(error)).splitlines()[0]


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
