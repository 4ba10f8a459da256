"""A ranker's transformer as a graph, which ONNX Runtime and OpenVINO run on the processor without torch.

A graph takes tokens and gives logits or last hidden states; pooling and similarity are computed around it, here as in
sentence-transformers, whose names the files have. int8: weights are quantised when the file is written, activations at
run time (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, "dynamic quantization").
"""

import importlib.util
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from lib.models import packed
from lib.models.ranker import Ranker, Tokenizer

FILES = {
    "ONNX, float32": "onnx/model.onnx", "ONNX, int8": "onnx/model_int8.onnx",
    "OpenVINO, float32": "openvino/openvino_model.xml", "OpenVINO, int8": "openvino/openvino_model_int8.xml",
}  # fmt: skip
PACKAGES = ("onnxruntime", "openvino")  # the optional group `onnx`
OUTPUTS = {"cat": "logits", "dot": "last_hidden_state"}  # of the architectures that have graphs


class Graph(nn.Module):
    """Takes the place of a ranker's `transformer`; `run` computes it from the arrays (texts, width) called `names`."""

    def __init__(self, names: Iterable[str], run: Callable[[dict[str, np.ndarray]], np.ndarray]):
        super().__init__()
        self.names, self.run = list(names), run

    def forward(self, input_ids: Tensor, **others: Tensor) -> SimpleNamespace:
        """Tokens (texts, width) -> logits (texts, 1) or last_hidden_state (texts, width, dim), under both names."""
        given = {"input_ids": input_ids} | others
        arrays = {name: given.get(name, torch.zeros_like(input_ids)).cpu().numpy() for name in self.names}
        found = torch.from_numpy(self.run(arrays)).to(input_ids.device)
        return SimpleNamespace(**dict.fromkeys(OUTPUTS.values(), found))


class _First(nn.Module):
    """A transformer that takes its inputs in the order of `names` and gives its first output."""

    def __init__(self, transformer: nn.Module, names: list[str]):
        super().__init__()
        self.transformer, self.names = transformer, names

    def forward(self, *tokens: Tensor) -> Tensor:
        return self.transformer(**dict(zip(self.names, tokens, strict=True)))[0]


def write(ranker: Ranker, tokenizer: Tokenizer, folder: Path) -> dict[str, Path]:
    """Write a ranker's graphs into a folder; returns their paths by the names of `FILES`.

    Raises ValueError if such rankers have no graph, and ModuleNotFoundError if a package is missing.
    """
    causal = getattr(ranker, "causal", False)
    if ranker.architecture not in OUTPUTS or ranker.adapter is not None or causal:
        kind = f"{ranker.architecture}{' with a prefix' * (ranker.adapter is not None)}{' of a decoder' * causal}"
        raise ValueError(f"{kind}: only {' and '.join(OUTPUTS)} of an encoder, without a prefix, have graphs")
    if lacking := [package for package in PACKAGES if importlib.util.find_spec(package) is None]:
        fix = "pip install -c constraints.txt -e '.[onnx]'"
        raise ModuleNotFoundError(f"graphs need {' and '.join(lacking)}: {fix}")
    import openvino
    from onnxruntime.quantization import quantize_dynamic

    paths = {name: folder / file for name, file in FILES.items()}
    for path in paths.values():
        path.parent.mkdir(exist_ok=True)
    _trace(ranker, tokenizer.model_input_names, paths["ONNX, float32"])
    # One scale per column of a weight: half the drift of one per weight, as fast (two rankers of the laptop study).
    quantize_dynamic(paths["ONNX, float32"], paths["ONNX, int8"], per_channel=True)
    for kind in ("float32", "int8"):
        converted = openvino.convert_model(paths[f"ONNX, {kind}"])
        openvino.save_model(converted, paths[f"OpenVINO, {kind}"], compress_to_fp16=False)
    return paths


def _trace(ranker: Ranker, names: list[str], path: Path) -> None:
    transformer, output = ranker.transformer.cpu().eval(), OUTPUTS[ranker.architecture]
    packed.unpack(transformer)
    mask = torch.ones(2, 8, dtype=torch.long)
    mask[0, 6:] = 0  # without padding transformers may leave the mask out
    example = tuple(mask if name == "attention_mask" else torch.ones_like(mask) for name in names)
    axes = {name: {0: "texts", 1: "width"} for name in (*names, "last_hidden_state")} | {"logits": {0: "texts"}}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of what the tracer takes for constant
        torch.onnx.export(
            _First(transformer, names).eval(), example, path, dynamo=False, input_names=names, output_names=[output],
            dynamic_axes={name: axes[name] for name in (*names, output)},
        )  # fmt: skip


def opened(path: Path, *, bf16: bool = False) -> Graph:
    """The graph of a file, with as many threads as torch has; `bf16` makes OpenVINO multiply in bfloat16."""
    threads = torch.get_num_threads()
    if path.suffix == ".onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return Graph([one.name for one in session.get_inputs()], lambda arrays: session.run(None, arrays)[0])
    import openvino

    hints = {"INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32", "INFERENCE_NUM_THREADS": threads}
    model = openvino.Core().compile_model(path, "CPU", hints | {"PERFORMANCE_HINT": "LATENCY"})
    return Graph([one.any_name for one in model.inputs], lambda arrays: model(arrays)[0])
