"""Token batches and cross-encoders: what the model reads, and that a saved one scores the same everywhere."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from lib import models
from lib.data import collections
from lib.models import backbone, packaged, tokens
from lib.training import scoring


@pytest.fixture
def pairs(tiny_backbone, tiny_collection):
    tokenizer = backbone.tokenizer(tiny_backbone)
    found = collections.load(tiny_collection)
    stores = [
        tokens.tokenise(texts, tokenizer, str(number)) for number, texts in enumerate((found.queries, found.documents))
    ]
    return tokens.PairTokens(*stores, tokens.Pattern.of(tokenizer), max_length=48), found, tokenizer


def test_a_batch_is_what_the_tokenizer_makes(pairs):
    made, found, tokenizer = pairs
    batch = made.batch(np.array([0, 1, 2]), np.array([[5], [6], [7]]))
    texts = list(found.queries.values())[:3], list(found.documents.values())[5:8]
    expected = tokenizer(*texts, padding="max_length", max_length=batch["input_ids"].shape[1], return_tensors="pt")
    assert batch["input_ids"].shape[1] % tokens.PAD_TO == 0
    for name, values in batch.items():
        assert torch.equal(values, expected[name]), name


def test_a_long_document_is_cut_as_the_tokenizer_cuts_it(pairs):
    made, found, tokenizer = pairs
    short = tokens.PairTokens(made.queries, made.documents, made.pattern, max_length=8)
    batch = short.batch(np.array([3]), np.array([[9]]))
    texts = list(found.queries.values())[3], list(found.documents.values())[9]
    expected = tokenizer(*texts, truncation="only_second", max_length=8)["input_ids"]
    assert batch["input_ids"][0, :8].tolist() == expected
    assert batch["attention_mask"].sum() == 8


def test_a_pattern_without_types_follows_the_tokenizer():
    """A RoBERTa-like tokenizer puts two separators between the texts and has no token types."""

    class Tokenizer:
        pad_token_id, model_input_names = 1, ("input_ids", "attention_mask")
        ids = {"one": [10], "two": [20]}  # noqa: RUF012

        def __call__(self, first, second=None, add_special_tokens=True):
            if second is None:
                return {"input_ids": self.ids[first]}
            return {"input_ids": [0, *self.ids[first], 2, 2, *self.ids[second], 2]}

    assert tokens.Pattern.of(Tokenizer()) == tokens.Pattern((0,), (2, 2), (2,), pad=1, has_types=False)


def test_scores_do_not_depend_on_the_batch(pairs, tiny_backbone, float32):
    made, found, _ = pairs
    ranker = models.build("cat", tiny_backbone, None, seed=0)
    asked = np.array(list(found.queries))[:, None]
    documents = np.array([list(found.documents)[:5]] * len(asked))
    whole = scoring.score(ranker, made, asked, documents)
    alone = scoring.score(ranker, made, asked, documents, batch_size=1)
    assert whole.shape == documents.shape
    np.testing.assert_allclose(whole, alone, atol=1e-5, rtol=1e-5)


def test_columns_are_the_documents_of_a_query(pairs, tiny_backbone):
    made, _, _ = pairs
    ranker = models.build("cat", tiny_backbone, None, seed=0).eval()
    batch = made.batch(np.array([0, 1]), np.array([[0, 1], [0, 1]]))
    with torch.no_grad():
        torch.testing.assert_close(ranker(batch, 2), ranker(batch, 1).view(2, 2))


def test_a_seed_decides_the_head_and_nothing_else(tiny_backbone):
    state = torch.random.get_rng_state()
    first, same, other = (models.build("cat", tiny_backbone, None, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(first[name], same[name]) for name in first)
    differ = {name for name in first if not torch.equal(first[name], other[name])}
    assert differ == {"transformer.classifier.weight"}


def test_layers_are_kept_in_order(tiny_backbone):
    whole, last = (models.build("cat", tiny_backbone, layers, 0).transformer for layers in (None, (1,)))
    assert last.config.num_hidden_layers == 1
    kept = last.base_model.encoder.layer[0].state_dict()
    for name, values in whole.base_model.encoder.layer[1].state_dict().items():
        assert torch.equal(values, kept[name])
    with pytest.raises(ValueError, match="layers 0 to 1"):
        models.build("cat", tiny_backbone, (0, 7), 0)


@pytest.mark.slow
def test_a_saved_ranker_scores_the_same_here_and_in_sentence_transformers(pairs, tiny_backbone, tmp_path, float32):
    from sentence_transformers import CrossEncoder

    made, found, tokenizer = pairs
    ranker = models.build("cat", tiny_backbone, (1,), seed=3)
    ranker.save(tmp_path, tokenizer, max_length=48)
    asked, documents = np.array(list(found.queries)[:8]), np.array(list(found.documents)[:8])
    ours = scoring.score(ranker, made, asked, documents)
    again = scoring.score(models.load(tmp_path), made, asked, documents)
    np.testing.assert_allclose(ours, again, atol=1e-5, rtol=1e-5)
    texts = [
        (found.queries[query], found.documents[document]) for query, document in zip(asked, documents, strict=True)
    ]
    theirs = CrossEncoder(str(tmp_path), device="cpu").predict(texts, show_progress_bar=False)
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5)


def test_the_packaged_weights_are_the_hubs():
    folder = backbone.folder("minilm")
    with (folder / "model.safetensors").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == packaged.MODELS["minilm"].sha256


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A stand-in for the package that carries the weights."""
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda _: type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    )
    (tmp_path / "model").mkdir()
    return tmp_path / "model" / "model.safetensors"


def test_altered_or_missing_weights_are_one_clear_error(package):
    with pytest.raises(backbone.WeightsError, match=r"missing.*model\.safetensors.*reinstall"):
        backbone.folder("minilm")
    package.write_bytes(b"altered")
    with pytest.raises(backbone.WeightsError, match=r"altered: SHA-256 .*reinstall"):
        backbone.folder("minilm")


def test_a_missing_network_is_one_clear_error(monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(ConnectionError, match="'some/model'.*network"):
        backbone.folder("some/model")


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(backbone.WeightsError, match=r"no config\.json"):
        backbone.folder(str(tmp_path))


def test_two_backbones_of_one_name_are_told_apart(tiny_backbone, tmp_path):
    weights = Path(tiny_backbone) / "model.safetensors"
    for name in ("a", "b"):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "model" / "config.json").write_text("{}")
        (tmp_path / name / "model" / "model.safetensors").write_bytes(weights.read_bytes() + name.encode())
    assert backbone.fingerprint(str(tmp_path / "a" / "model")) != backbone.fingerprint(str(tmp_path / "b" / "model"))
