"""One file per architecture; `build` makes a new ranker, `load` opens any trained folder."""

import inspect
import json
from pathlib import Path

from lib.models import adapters, backbone
from lib.models.bi_encoder import BiEncoder
from lib.models.colbert import ColBERT
from lib.models.cross_encoder import CrossEncoder
from lib.models.prettr import PreTTR
from lib.models.ranker import ADAPTER, SETTINGS, LateRanker, Ranker
from lib.models.tk import TK
from lib.models.weights import AGAIN, WeightsError

ARCHITECTURES: dict[str, type[Ranker]] = {
    ranker.architecture: ranker for ranker in (CrossEncoder, BiEncoder, ColBERT, PreTTR, TK)
}


def check(architecture: str, options: dict[str, object]) -> None:
    """Raise ValueError if an architecture or option is unknown."""
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture={architecture!r}: give one of {', '.join(ARCHITECTURES)}")
    known = _options(architecture)
    for name in options:
        if name not in known:
            raise ValueError(f"option {name!r}: architecture {architecture} has {', '.join(known) or 'no options'}")


def build(
    architecture: str, name: str, layers: tuple[int, ...] | None, seed: int, *, dropout: float | None = None,
    embeddings: bool = True, **options: object,
) -> Ranker:  # fmt: skip
    """A ranker of an architecture from a backbone, ready to score; options as the class has them.

    New weights are drawn from `seed`; `layers` None keeps all of them; `dropout` replaces the backbone's; with
    `embeddings=False` the embedding table is not trained.
    """
    check(architecture, options)
    kind, folder = ARCHITECTURES[architecture], backbone.folder(name)
    return kind.open(folder, layers, seed, trained=False, dropout=dropout, embeddings=embeddings, **options).eval()


def load(folder: Path, *, dropout: float | None = None, embeddings: bool = True) -> Ranker:
    """A ranker as it was saved, its prefix on, ready to score; a folder without `ranker.json` is a cross-encoder's.

    Raises WeightsError if a file is missing or damaged, or does not hold what the ranker needs and nothing else.
    """
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise WeightsError(f"there is no folder {folder}: give one that Ranker.save wrote, or one in the hub's layout")
    architecture, options, prefix = _settings(folder)
    try:
        kind = ARCHITECTURES[architecture]
        ranker = kind.open(folder, None, 0, trained=True, dropout=dropout, embeddings=embeddings, **options).eval()
        if prefix:
            adapters.reopen(ranker, folder)
    except (ValueError, TypeError) as error:  # an option's value, or a backbone that the architecture does not take
        raise WeightsError(f"{folder} holds no {architecture} that can be: {error}. {AGAIN}") from error
    return ranker


def _settings(folder: Path) -> tuple[str, dict, bool]:
    """Architecture, options and whether there is a prefix."""
    path = folder / SETTINGS
    if not path.exists():
        return "cat", {}, (folder / ADAPTER).exists()
    try:
        about = json.loads(path.read_text())
        architecture, options, prefix = (about[name] for name in ("architecture", "options", "prefix"))
        check(architecture, dict(options))
        if lacking := set(_options(architecture)) - options.keys() - ARCHITECTURES[architecture].later:
            raise ValueError(f"options without {', '.join(sorted(lacking))}")
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        raise WeightsError(f"{path} is not as Ranker.save writes it ({error!r}). {AGAIN}") from error
    return architecture, options, prefix


def _options(architecture: str) -> list[str]:
    """The keyword parameters of an architecture's class."""
    parameters = inspect.signature(ARCHITECTURES[architecture]).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


__all__ = ["ARCHITECTURES", "LateRanker", "Ranker", "build", "check", "load"]
