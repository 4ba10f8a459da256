"""What the benchmark of speed compares the kit with: sentence-transformers (graphs: `lib.models.graphs`)."""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import transformers
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments, losses
from torch import nn

from lib.machine import hardware

Scorer = Callable[[], np.ndarray]


def _cross_encoder(folder: Path, max_length: int, **kwargs: object) -> CrossEncoder:
    device = str(hardware.device())
    return CrossEncoder(str(folder), num_labels=1, max_length=max_length, device=device, model_kwargs=kwargs)


def trained(
    folder: Path, rows: datasets.Dataset, max_length: int, batch_size: int, rate: float, **kwargs: object
) -> None:
    """An epoch of sentence-transformers' trainer with its binary cross-entropy, in bf16 where the hardware has it."""
    ranker = _cross_encoder(folder, max_length, **kwargs)
    with tempfile.TemporaryDirectory() as out:
        arguments = CrossEncoderTrainingArguments(
            out, per_device_train_batch_size=batch_size, num_train_epochs=1, learning_rate=rate, bf16=hardware.precision() == "bf16",
            use_cpu=hardware.device().type == "cpu", save_strategy="no", report_to="none", disable_tqdm=True,
            logging_strategy="no",
        )  # fmt: skip
        trainer = CrossEncoderTrainer(ranker, arguments, rows, loss=losses.BinaryCrossEntropyLoss(ranker))
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()


def scorer(
    folder: Path, texts: list[tuple[str, str]], max_length: int, batch_size: int, *, autocast: bool, **kwargs: object
) -> Scorer:  # fmt: skip
    """sentence-transformers' `predict`, which sorts by length; bf16 by autocast or, with `dtype`, of the weights."""
    ranker = _cross_encoder(folder, max_length, **kwargs)

    def run() -> np.ndarray:
        with hardware.autocast() if autocast else contextlib.nullcontext():
            return ranker.predict(texts, batch_size=batch_size, show_progress_bar=False, activation_fn=nn.Identity())

    return run


def late_scorer(folder: Path, texts: list[tuple[str, str]], batch_size: int, **kwargs: object) -> Scorer:
    """sentence-transformers' ColBERT (128 dimensions, no expansion): each text encoded once, then MaxSim of the pairs."""
    model = MultiVectorEncoder(str(folder), device=str(hardware.device()), model_kwargs=kwargs)
    queries, documents = ([*dict.fromkeys(side)] for side in zip(*texts, strict=True))
    query_of = {text: place for place, text in enumerate(queries)}
    document_of = {text: place for place, text in enumerate(documents)}
    options = {"batch_size": batch_size, "show_progress_bar": False}

    def run() -> np.ndarray:
        with hardware.autocast():
            asks, gives = model.encode_query(queries, **options), model.encode_document(documents, **options)
        asks, gives = [part.float() for part in asks], [part.float() for part in gives]
        pairs = [asks[query_of[query]] for query, _ in texts], [gives[document_of[document]] for _, document in texts]
        return model.similarity_pairwise(*pairs).cpu().numpy()

    return run
