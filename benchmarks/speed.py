"""Pairs per second in training and scoring, the kit beside sentence-transformers: same model, same pairs, one run.

Both take turns, so that a machine whose speed drifts treats them alike, and a ratio is the median of the rounds' own
ratios. `make bench` on an idle machine; `python -m benchmarks.speed --size tiny` only shows that everything runs.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import sentence_transformers
import torch
from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments, losses
from torch import nn

from lib import models
from lib.data import collections, groups
from lib.data.groups import Groups
from lib.machine import hardware, provenance, store
from lib.models import backbone
from lib.models.tokens import PairTokens
from lib.study import rankers
from lib.study.experiment import Model
from lib.training import loop, scoring, strategies
from lib.training.settings import Training

ROOT = Path(__file__).parents[1]
BATCH, ROUNDS, RATE = 8, 3, 1e-4


@dataclass(frozen=True)
class Size:
    """How much there is to do."""

    groups: int
    docs: int
    max_length: int
    layers: tuple[int, ...] | None  # of the backbone; None: all


SIZES = {"full": Size(160, 4, 96, None), "tiny": Size(8, 2, 96, (0,))}


@dataclass(frozen=True)
class Material:
    """One model on disk, and the same pairs as either side reads them."""

    folder: Path
    made: Groups
    pairs: PairTokens
    texts: list[tuple[str, str]]
    size: Size

    @property
    def rows(self) -> datasets.Dataset:
        """The pairs with their labels, as sentence-transformers' trainer reads them."""
        queries, documents = zip(*self.texts, strict=True)
        labels = self.made.targets["labels"].ravel().tolist()
        return datasets.Dataset.from_dict({"query": queries, "text": documents, "label": labels})


def material(folder: Path, size: Size) -> Material:
    collection = collections.load("pydocs")
    made = groups.build(collection, count=size.groups, docs=size.docs)
    ranker = models.build("cat", backbone.MINILM, size.layers, 0)
    ranker.save(folder, backbone.tokenizer(backbone.MINILM), size.max_length)
    texts = [
        (collection.queries[query], collection.documents[document])
        for query, row in zip(made.queries, made.documents, strict=True) for document in row
    ]  # fmt: skip
    inputs = rankers.inputs(ranker, collection, Model(layers=size.layers, max_length=size.max_length))
    return Material(folder, made, inputs, texts, size)


def our_training(given: Material, dropout: float) -> None:
    ranker = models.load(given.folder, dropout=dropout, embeddings=dropout > 0)
    ranker.set_attention(hardware.attention(training=True))
    loop.train(ranker, given.made, given.pairs, strategies.named("bce"), Training(BATCH, learning_rate=RATE))


def theirs(given: Material) -> CrossEncoder:
    return CrossEncoder(
        str(given.folder), num_labels=1, max_length=given.size.max_length, device=str(hardware.device())
    )


def their_training(given: Material) -> None:
    ranker = theirs(given)
    with tempfile.TemporaryDirectory() as folder:
        arguments = CrossEncoderTrainingArguments(
            folder, per_device_train_batch_size=BATCH * given.size.docs, num_train_epochs=1, learning_rate=RATE,
            bf16=hardware.precision() == "bf16", use_cpu=hardware.device().type == "cpu", save_strategy="no",
            report_to="none", disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        CrossEncoderTrainer(ranker, arguments, given.rows, loss=losses.BinaryCrossEntropyLoss(ranker)).train()


def our_scoring(given: Material, ranker: nn.Module) -> None:
    scoring.score(ranker, given.pairs, given.made.queries[:, None], given.made.documents)


def their_scoring(given: Material, ranker: CrossEncoder) -> None:
    with torch.autocast(hardware.device().type, torch.bfloat16, enabled=hardware.precision() == "bf16"):
        ranker.predict(given.texts, batch_size=64, show_progress_bar=False, activation_fn=nn.Identity())


def measure(work: dict[str, Callable[[], None]], pairs: int) -> dict[str, np.ndarray]:
    """Pairs per second of each work in each round, after a round that warms up."""
    rates = {name: [] for name in work}
    for number in range(ROUNDS + 1):
        for name, run in work.items():
            start = time.perf_counter()
            run()
            if number:
                rates[name].append(pairs / (time.perf_counter() - start))
    return {name: np.array(some) for name, some in rates.items()}


def summary(rates: dict[str, np.ndarray]) -> pd.DataFrame:
    """One row per work; the last column compares it with sentence-transformers at the same task, round by round."""
    rows = []
    for name, some in rates.items():
        ratios = some / rates[f"{name.split(',')[0]}, sentence-transformers"]
        rows.append({
            "work": name, "pairs_per_second": np.median(some), "least": some.min(), "most": some.max(),
            "ratio": np.median(ratios), "least_ratio": ratios.min(), "most_ratio": ratios.max(),
        })  # fmt: skip
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--out", type=Path, help="folder of the table; default: benchmarks in the data folder")
    parser.add_argument("--publish", action="store_true", help="write into figures/ instead")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        given = material(Path(folder) / "model", SIZES[chosen.size])
        work = {
            "training, the kit as it trains (no dropout, embeddings kept)": partial(our_training, given, 0.0),
            "training, the kit with dropout 0.1 and embeddings trained": partial(our_training, given, 0.1),
            "training, sentence-transformers": partial(their_training, given),
            "scoring, the kit": partial(our_scoring, given, models.load(given.folder)),
            "scoring, sentence-transformers": partial(their_scoring, given, theirs(given)),
        }
        table = summary(measure(work, len(given.texts)))
    layers = "all" if given.size.layers is None else len(given.size.layers)
    conditions = (
        f"{ROUNDS} rounds in turn, {len(given.texts)} pairs, {given.size.max_length} tokens, {layers} layers of MiniLM; "
        f"{hardware.description()}, sentence-transformers {sentence_transformers.__version__}, "
        f"commit {provenance.commit()}"
    )
    out = ROOT / "figures" if chosen.publish else chosen.out or store.data_folder() / "benchmarks"
    out.mkdir(parents=True, exist_ok=True)
    table.round(2).assign(conditions=conditions).to_csv(out / "bench_speed.csv", index=False)
    print(table.round(2).to_string(index=False), conditions, f"written to {out / 'bench_speed.csv'}", sep="\n")


if __name__ == "__main__":
    main()
