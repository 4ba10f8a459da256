"""What every process of `tests/test_several_processes.py` runs: a small training per case, its history to a file."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import accelerate
import numpy as np
import torch

from lib import models
from lib.data import collections, groups
from lib.machine import hardware, progress, store
from lib.models import masked_lm, tokens
from lib.models.backbone import tokenizer
from lib.models.masked_lm import MaskedLM
from lib.training import loop, pretraining, scoring, strategies
from lib.training.resume import Checkpoint
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
    "queries of a batch": ("cat", {}, "tst", {}),
    "queries of a batch, in parts": ("dot", {}, "tst", {"batching": GradCache(1)}),
    "margins": ("dot", COSINE, "adaptive_margin", {}),
    "distributed margins": ("dot", COSINE, "distributed_margin", {}),
    "in-batch": ("dot", COSINE, "in_batch", {}),
    "in-batch, vectors of other widths": ("colbert", COLBERT, "in_batch", {}),
    "in-batch, weights in the comparison": ("tk", {"heads": 4}, "in_batch", {}),
    "in-batch, in parts": ("dot", COSINE, "in_batch", {"batching": GradCache(1)}),
    "in parts": ("dot", COSINE, "info_nce", {"batching": GradCache(1)}),
    "attention over layers": ("cat", {}, "afd", {}),
    "consistent channels": ("cat", {}, "consistent", {}),
    "transport and a critic": ("cat", {}, "wcord", {}),
    "queue": ("dot", COSINE | {"scale": 20.0}, "info_nce", {"batching": Queue(6)}),
}


def histories(backbone: str, collection: str) -> dict[str, dict]:
    """Case -> the history by column, and a number that changes with any trained weight."""
    return {name: train(name, backbone, collection) for name in CASES} | {
        "pre-training": pretrain(backbone, collection)
    }


def pretrain(backbone: str, collection: str) -> dict:
    """The history of masked language modelling by column, and weights, as `train` has them."""
    found = collections.load(collection)
    model = MaskedLM.open(backbone, None, 0, dropout=0.0, embeddings=True)
    reader = tokenizer(backbone)
    texts = masked_lm.side(tokens.tokenise(found.documents, reader, found.documents_digest), backbone, 16)
    start = weights(model)
    history = pretraining.train(model, texts, np.arange(len(found.documents)), reader, SETTINGS)
    return history.to_dict("list") | {"weights": weights(model), "start": start}


def train(
    name: str, backbone: str, collection: str, *, dropout: float = 0.0, checkpoint: Checkpoint | None = None
) -> dict:
    """The history of a case by column, and its weights in the end and at its start."""
    architecture, options, strategy, changes = CASES[name]
    found = collections.load(collection)
    made = groups.build(found, count=16, docs=3)
    draw = np.random.default_rng(0)
    made.targets["teacher"] = draw.normal(size=(16, 3)).astype(np.float32)
    made.targets["teacher_states"] = draw.normal(size=(16, 3, 2, 32)).astype(np.float16)
    model = models.build(architecture, backbone, None, 0, dropout=dropout, **options)
    read = kit.inputs(model, found, backbone, 32)
    start, settings = weights(model), replace(SETTINGS, **changes)
    history = loop.train(model, made, read, strategies.named(strategy), settings, checkpoint=checkpoint)
    return history.to_dict("list") | {"weights": weights(model), "start": start}


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


def cut_short(backbone: str, collection: str) -> dict[str, list]:
    """Case -> history and weights of an unbroken training, those of one that was cut short twice, and the seconds that
    its last checkpoint counts.
    """
    os.environ["STUDY_CHECKPOINT_SECONDS"] = "0"
    write, results = store.replace_file, {}

    def slowly(path: Path, fill: Callable[[Path], None]) -> None:
        time.sleep(0.2)  # the other process is at its next training before the file is there
        write(path, fill)

    for name in ("cat", "queue", "in-batch, in parts"):
        unbroken = train(name, backbone, collection, dropout=0.2)
        for until in (1, 2):  # the second counts from where the first ended
            slow = mock.patch.object(store, "replace_file", slowly)
            with slow, mock.patch.object(progress, "steps", kit.cut(until)), contextlib.suppress(kit.Killed):
                train(name, backbone, collection, dropout=0.2, checkpoint=Checkpoint(name))
        checkpoint = Checkpoint(name)
        resumed = train(name, backbone, collection, dropout=0.2, checkpoint=checkpoint)
        results[name] = [unbroken, resumed, checkpoint.spent]
    return results


def scores(backbone: str, collection: str) -> dict[str, list]:
    """Architecture -> scores that the processes share out, and how many batches or blocks this one computed."""
    found = collections.load(collection)
    made = groups.build(found, count=16, docs=3)
    scoring.AT_ONCE = 10
    results = {}
    for architecture, compute in (("cat", "_score_jointly"), ("dot", "_score_separately")):
        model = models.build(architecture, backbone, None, 0, dropout=0.0)
        read = kit.inputs(model, found, backbone, 32)
        with mock.patch.object(scoring, compute, wraps=getattr(scoring, compute)) as called:
            found_scores = scoring.score(
                model, read, made.queries[:, None], made.documents, batch_size=10, together=True
            )
        results[architecture] = [found_scores.tolist(), called.call_count]
    return results


def main() -> None:
    backbone, collection, out = sys.argv[1:]
    hardware.precision = lambda: "no"
    found = {"histories": histories(backbone, collection), "refusal": refusal(backbone, collection)}
    found |= {"cut short": cut_short(backbone, collection), "scores": scores(backbone, collection)}
    number = accelerate.PartialState().process_index
    Path(out, f"{number}.json").write_text(json.dumps(found))
    accelerate.PartialState().destroy_process_group()


if __name__ == "__main__":
    main()
