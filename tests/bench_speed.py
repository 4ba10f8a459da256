"""Pairs a second in training and scoring, the kit beside sentence-transformers: same model, same pairs, one run.

Both take turns, so that a machine whose speed drifts treats them alike. Run it with `make bench` on an idle machine.
"""

import statistics
import tempfile
import time
from collections.abc import Callable

import datasets
import pandas as pd
import sentence_transformers
import torch
from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments, losses
from torch import nn

from lib import collections, groups, hardware, profiles, scoring, strategies, study, training
from lib.models import backbone, cross_encoder

GROUPS, DOCS, ROUNDS = 160, 4, 3


def main() -> None:
    settings = profiles.named("laptop")
    collection = collections.load("pydocs")
    made = groups.build(collection, count=GROUPS, docs=DOCS)
    pairs = study.pair_tokens(settings.teacher, collection)
    texts = [
        (collection.queries[query], collection.documents[document])
        for query, row in zip(made.queries, made.documents, strict=True) for document in row
    ]  # fmt: skip
    labels = made.targets["labels"].ravel().tolist()
    rows = datasets.Dataset.from_dict({"query": [q for q, _ in texts], "text": [d for _, d in texts], "label": labels})

    def ours_training(dropout: float) -> Callable[[], None]:
        def run() -> None:
            ranker = cross_encoder.build(backbone.MINILM, None, 0, dropout=dropout, embeddings=dropout > 0)
            ranker.transformer.set_attn_implementation(hardware.attention(training=True))
            training.train(ranker, made, pairs, strategies.named("bce"), learning_rate=1e-4, batch_size=8)

        return run

    def theirs() -> CrossEncoder:
        return CrossEncoder(
            str(backbone.folder(backbone.MINILM)), num_labels=1, max_length=96, device=str(hardware.device())
        )

    def their_training() -> None:
        ranker = theirs()
        with tempfile.TemporaryDirectory() as folder:
            arguments = CrossEncoderTrainingArguments(
                folder, per_device_train_batch_size=32, num_train_epochs=1, learning_rate=1e-4, save_strategy="no",
                bf16=hardware.precision() == "bf16", report_to="none", disable_tqdm=True, logging_strategy="no",
            )  # fmt: skip
            CrossEncoderTrainer(ranker, arguments, rows, loss=losses.BinaryCrossEntropyLoss(ranker)).train()

    ranker, their_ranker = cross_encoder.build(backbone.MINILM, None, 0), theirs()

    def their_scoring() -> None:
        with torch.autocast(hardware.device().type, torch.bfloat16, enabled=hardware.precision() == "bf16"):
            their_ranker.predict(texts, batch_size=64, show_progress_bar=False, activation_fn=nn.Identity())

    work = {
        "training, the kit as it trains (no dropout, embeddings kept)": ours_training(0.0),
        "training, the kit with dropout 0.1 and embeddings trained": ours_training(0.1),
        "training, sentence-transformers": their_training,
        "scoring, the kit": lambda: scoring.score(ranker, pairs, made.queries[:, None], made.documents),
        "scoring, sentence-transformers": their_scoring,
    }
    rates: dict[str, list[float]] = {name: [] for name in work}
    for number in range(ROUNDS + 1):  # the first round warms up
        for name, run in work.items():
            start = time.perf_counter()
            run()
            if number:
                rates[name].append(GROUPS * DOCS / (time.perf_counter() - start))
    table = pd.DataFrame({
        name: {"pairs a second": statistics.median(some), "least": min(some), "most": max(some)}
        for name, some in rates.items()
    }).T  # fmt: skip
    print(table.round(0).to_string())
    print(f"{ROUNDS} rounds in turn, {GROUPS * DOCS} pairs, six layers; {hardware.description()}, "
          f"sentence-transformers {sentence_transformers.__version__}, commit {study.commit()}")  # fmt: skip


if __name__ == "__main__":
    main()
