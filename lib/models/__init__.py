"""One file an architecture; `build` makes a new ranker, `load` opens any trained folder."""

import inspect
import json
from pathlib import Path

from lib.models import adapters, bi_encoder, colbert, cross_encoder, prettr, tk
from lib.models.ranker import SETTINGS, LateRanker, Ranker

MODULES = {"cat": cross_encoder, "dot": bi_encoder, "colbert": colbert, "prettr": prettr, "tk": tk}
ARCHITECTURES: dict[str, type[Ranker]] = {
    one.architecture: one
    for one in (cross_encoder.CrossEncoder, bi_encoder.BiEncoder, colbert.ColBERT, prettr.PreTTR, tk.TK)
}


def check(architecture: str, options: dict[str, object]) -> None:
    """Refuse an unknown architecture or option.

    Raises:
        ValueError: it names what is known.
    """
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
    """A ranker of an architecture from a backbone; new weights are drawn from `seed`; options as the class has them."""
    check(architecture, options)
    return MODULES[architecture].build(name, layers, seed, dropout=dropout, embeddings=embeddings, **options)


def load(folder: Path, *, dropout: float | None = None, embeddings: bool = True) -> Ranker:
    """A ranker as it was saved, its prefix on, ready to score; a folder without `ranker.json` is a cross-encoder."""
    about = {"architecture": "cat", "options": {}}
    if (Path(folder) / SETTINGS).exists():
        about = json.loads((Path(folder) / SETTINGS).read_text())
    module, options = MODULES[about["architecture"]], about["options"]
    ranker = module.load(Path(folder), dropout=dropout, embeddings=embeddings, **options)
    adapters.reopen(ranker, Path(folder))
    return ranker


def _options(architecture: str) -> list[str]:
    """The keyword parameters of an architecture's class."""
    parameters = inspect.signature(ARCHITECTURES[architecture]).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


__all__ = ["ARCHITECTURES", "LateRanker", "Ranker", "build", "check", "load"]
