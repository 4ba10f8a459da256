"""What the benchmark of speed compares the kit with: sentence-transformers, ONNX Runtime and OpenVINO."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import numpy as np
import torch
import transformers
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments, losses
from torch import nn

from lib.machine import hardware
from lib.models.tokens import PairTokens

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


def scorer(folder: Path, texts: list[tuple[str, str]], max_length: int, *, autocast: bool, **kwargs: object) -> Scorer:
    """sentence-transformers' `predict`, which sorts by length; bf16 by autocast or, with `dtype`, of the weights."""
    ranker = _cross_encoder(folder, max_length, **kwargs)

    def run() -> np.ndarray:
        with hardware.autocast() if autocast else contextlib.nullcontext():
            return ranker.predict(texts, batch_size=64, show_progress_bar=False, activation_fn=nn.Identity())

    return run


def late_scorer(folder: Path, texts: list[tuple[str, str]], **kwargs: object) -> Scorer:
    """sentence-transformers' ColBERT (128 dimensions, no expansion): each text encoded once, then MaxSim of the pairs."""
    model = MultiVectorEncoder(str(folder), device=str(hardware.device()), model_kwargs=kwargs)
    queries, documents = ([*dict.fromkeys(side)] for side in zip(*texts, strict=True))
    query_of = {text: place for place, text in enumerate(queries)}
    document_of = {text: place for place, text in enumerate(documents)}
    options = {"batch_size": 64, "show_progress_bar": False}

    def run() -> np.ndarray:
        with hardware.autocast():
            asks, gives = model.encode_query(queries, **options), model.encode_document(documents, **options)
        asks, gives = [part.float() for part in asks], [part.float() for part in gives]
        pairs = [asks[query_of[query]] for query, _ in texts], [gives[document_of[document]] for _, document in texts]
        return model.similarity_pairwise(*pairs).cpu().numpy()

    return run


def exported(model: nn.Module, into: Path, *, int8: bool) -> Path:
    """A cross-encoder's graph as an ONNX file; int8: weights quantised, activations at run time (ONNX Runtime's own)."""
    import onnxruntime.quantization

    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = tuple(torch.ones(2, 8, dtype=torch.long) for _ in names)
    axes = {name: {0: "texts", 1: "width"} for name in names} | {"logits": {0: "texts"}}
    path, small = into / "model.onnx", into / "model_int8.onnx"
    if not path.exists():
        torch.onnx.export(
            model, example, path, dynamo=False, input_names=names, output_names=["logits"], dynamic_axes=axes
        )
    if int8 and not small.exists():
        onnxruntime.quantization.quantize_dynamic(path, small)
    return small if int8 else path


def runtime(path: Path, inputs: PairTokens, rows: np.ndarray) -> Scorer:
    """ONNX Runtime on the kit's own batches (tokens by length)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: _by_length(inputs, rows, lambda batch: session.run(None, batch)[0])


def openvino(path: Path, inputs: PairTokens, rows: np.ndarray, *, bf16: bool) -> Scorer:
    """OpenVINO on the kit's own batches."""
    import openvino as ov

    hints = {"INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    model = ov.Core().compile_model(path, "CPU", hints | {"PERFORMANCE_HINT": "LATENCY"})
    return lambda: _by_length(inputs, rows, lambda batch: model(batch)[0])


def _by_length(inputs: PairTokens, rows: np.ndarray, compute: Callable[[dict], np.ndarray]) -> np.ndarray:
    scores = np.empty(len(rows), np.float32)
    for chosen, batch in _batches(inputs, rows):
        scores[chosen] = compute(batch)[:, 0]
    return scores


def _batches(inputs: PairTokens, rows: np.ndarray, size: int = 64) -> Iterator[tuple[np.ndarray, dict]]:
    order = np.argsort(-inputs.lengths(*rows.T), kind="stable")
    for start in range(0, len(rows), size):
        chosen = order[start : start + size]
        batch = inputs.batch(rows[chosen, 0], rows[chosen, 1:])
        yield chosen, {name: values.numpy() for name, values in batch.items()}
