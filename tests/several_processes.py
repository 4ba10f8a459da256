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
# name -> architecture, its options, strategy
CASES = {
    "cat": ("cat", {}, "info_nce"),
    "dot": ("dot", {}, "info_nce"),
    "colbert": ("colbert", {"dim": 16, "masks": 4}, "info_nce"),
    "prettr": ("prettr", {"offset": 16}, "info_nce"),
    "tk": ("tk", {"heads": 4}, "hinge"),
    "margins": ("dot", COSINE, "adaptive_margin"),
    "in-batch": ("dot", COSINE, "in_batch"),
}


def histories(backbone: str, collection: str) -> dict[str, dict]:
    """Case -> the history by column, and a number that changes with any trained weight."""
    found = collections.load(collection)
    made = groups.build(found, count=16, docs=3)
    results = {}
    for name, (architecture, options, strategy) in CASES.items():
        model = models.build(architecture, backbone, None, 0, dropout=0.0, **options)
        read = kit.inputs(model, found, backbone, 32)
        start = weights(model)
        history = loop.train(model, made, read, strategies.named(strategy), SETTINGS)
        results[name] = history.to_dict("list") | {"weights": weights(model), "start": start}
    return results


SETTINGS = Training(batch_size=4, learning_rate=1e-4)


def weights(model: torch.nn.Module) -> float:
    return sum(parameter.detach().abs().double().sum().item() for parameter in model.parameters())


def refusals(backbone: str, collection: str) -> list[str]:
    """What is said of a chunk, a queue and a batch that cannot be shared."""
    found = collections.load(collection)
    made = groups.build(found, count=16, docs=3)
    model = models.build("dot", backbone, None, 0, **COSINE)
    read = kit.inputs(model, found, backbone, 32)
    said = []
    for changes in ({"batching": GradCache(2)}, {"batching": Queue(4)}, {"batch_size": 3}):
        try:
            loop.train(model, made, read, strategies.named("info_nce"), replace(SETTINGS, **changes))
        except ValueError as error:
            said.append(str(error))
    return said


def main() -> None:
    backbone, collection, out = sys.argv[1:]
    hardware.precision = lambda: "no"
    found = {"histories": histories(backbone, collection), "refusals": refusals(backbone, collection)}
    number = accelerate.PartialState().process_index
    Path(out, f"{number}.json").write_text(json.dumps(found))
    accelerate.PartialState().destroy_process_group()


if __name__ == "__main__":
    main()
