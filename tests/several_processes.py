"""What every process of `tests/test_several_processes.py` runs: a small training per case, its history to a file."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import accelerate
import torch

from lib import models
from lib.data import collections, groups
from lib.machine import hardware
from lib.training import loop, strategies
from lib.training.settings import GradCache, Queue, Training
from tests import kit

COSINE = {"similarity": "cosine"}
COLBERT = {"dim": 16, "masks": 4}
# name -> architecture, its options, strategy, settings
CASES = {
    "cat": ("cat", {}, "info_nce", {}),
    "dot": ("dot", {}, "info_nce", {}),
    "colbert": ("colbert", COLBERT, "info_nce", {}),
    "prettr": ("prettr", {"offset": 16}, "info_nce", {}),
    "tk": ("tk", {"heads": 4}, "hinge", {}),
    "margins": ("dot", COSINE, "adaptive_margin", {}),
    "distributed margins": ("dot", COSINE, "distributed_margin", {}),
    "in-batch": ("dot", COSINE, "in_batch", {}),
    "in-batch, vectors of other widths": ("colbert", COLBERT, "in_batch", {}),
    "in-batch, weights in the comparison": ("tk", {"heads": 4}, "in_batch", {}),
    "in-batch, in parts": ("dot", COSINE, "in_batch", {"batching": GradCache(1)}),
    "in parts": ("dot", COSINE, "info_nce", {"batching": GradCache(1)}),
    "queue": ("dot", COSINE | {"scale": 20.0}, "info_nce", {"batching": Queue(6)}),
}


def histories(backbone: str, collection: str) -> dict[str, dict]:
    """Case -> the history by column, and a number that changes with any trained weight."""
    found = collections.load(collection)
    made = groups.build(found, count=16, docs=3)
    results = {}
    for name, (architecture, options, strategy, changes) in CASES.items():
        model = models.build(architecture, backbone, None, 0, dropout=0.0, **options)
        read = kit.inputs(model, found, backbone, 32)
        start = weights(model)
        history = loop.train(model, made, read, strategies.named(strategy), replace(SETTINGS, **changes))
        results[name] = history.to_dict("list") | {"weights": weights(model), "start": start}
    return results


SETTINGS = Training(batch_size=4, learning_rate=1e-4)


def weights(model: torch.nn.Module) -> float:
    return sum(parameter.detach().abs().double().sum().item() for parameter in model.parameters())


def refusal(backbone: str, collection: str) -> str:
    """What is said of a batch that cannot be shared."""
    found = collections.load(collection)
    made = groups.build(found, count=16, docs=3)
    model = models.build("dot", backbone, None, 0, **COSINE)
    read = kit.inputs(model, found, backbone, 32)
    try:
        loop.train(model, made, read, strategies.named("info_nce"), replace(SETTINGS, batch_size=3))
    except ValueError as error:
        return str(error)


def main() -> None:
    backbone, collection, out = sys.argv[1:]
    hardware.precision = lambda: "no"
    found = {"histories": histories(backbone, collection), "refusal": refusal(backbone, collection)}
    number = accelerate.PartialState().process_index
    Path(out, f"{number}.json").write_text(json.dumps(found))
    accelerate.PartialState().destroy_process_group()


if __name__ == "__main__":
    main()
