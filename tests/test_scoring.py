"""Scores of pairs in any shape and order, each text encoded once; what is not finite is one error that names the texts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lib import models
from lib.models.vectors import Identity, VectorStore
from lib.training import scoring
from tests import kit

IDENTITY = Identity("model", "collection")


OPTIONS = {"cat": {}, "dot": {}, "colbert": {"dim": 16, "masks": 4}}


def build(architecture, found, tiny_backbone):
    """A model, and how it reads texts."""
    model = models.build(architecture, tiny_backbone, None, 0, **OPTIONS[architecture])
    return model, kit.inputs(model, found, tiny_backbone, 32)


def encoded(model):
    """A list to which the number of sequences is added whenever the transformer is called."""
    counts = []
    model.transformer.register_forward_pre_hook(
        lambda module, given, named: counts.append(len(named["input_ids"])), with_kwargs=True
    )
    return counts


@pytest.mark.parametrize(("architecture", "sequences"), [("cat", 3), ("dot", 2 + 3), ("colbert", 2 + 3)])
def test_a_repeated_pair_is_scored_once_and_a_text_encoded_once(architecture, sequences, found, tiny_backbone, float32):
    model, layout = build(architecture, found, tiny_backbone)
    queries = np.array([["q0", "q1", "q0"], ["q0", "q0", "q1"]])
    documents = np.array([["d0", "d2", "d1"], ["d1", "d0", "d2"]])  # q0 d0, q0 d1 and q1 d2, twice each
    counts = encoded(model)
    scores = scoring.score(model, layout, queries, documents)
    assert sum(counts) == sequences
    assert scores.shape == (2, 3) and scores.dtype == np.float32
    assert scores[0].tolist() == [scores[1, 1], scores[1, 2], scores[1, 0]] and len(set(scores[0])) == 3
    for place in np.ndindex(2, 3):
        alone = scoring.score(model, layout, queries[place].reshape(1), documents[place].reshape(1))
        np.testing.assert_allclose(scores[place], alone[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", OPTIONS)
def test_neither_order_nor_batches_nor_what_is_in_memory_changes_a_score(
    architecture, found, tiny_backbone, float32, monkeypatch
):
    model, layout = build(architecture, found, tiny_backbone)
    queries, documents = np.array(list(found.queries)[:6]), np.array(list(found.documents)[:30]).reshape(6, 5)
    scores = scoring.score(model, layout, queries[:, None], documents)
    order = np.random.default_rng(0).permutation(30)
    pairs = np.repeat(queries, 5)[order], documents.ravel()[order]
    np.testing.assert_allclose(scoring.score(model, layout, *pairs), scores.ravel()[order], atol=1e-5, rtol=1e-5)
    monkeypatch.setattr(scoring, "AT_ONCE", 7)  # which divides neither the pairs nor a query's documents
    np.testing.assert_allclose(
        scoring.score(model, layout, queries[:, None], documents, batch_size=3), scores, atol=1e-5
    )


@pytest.mark.parametrize("architecture", ["dot", "colbert"])
def test_some_stored_documents_score_as_all_do_and_only_queries_are_encoded(
    architecture, found, tiny_backbone, float32, tmp_path
):
    model, layout = build(architecture, found, tiny_backbone)
    names = np.array([f"d{number}" for number in (7, 3, 30, 12)])
    scoring.encode(model, layout, tmp_path, IDENTITY, names=names, batch_size=3)
    stored = VectorStore(tmp_path)
    assert len(stored) == 4 and stored.identity == IDENTITY
    queries, documents = np.array(["q3", "q0", "q3"]), np.array([["d3", "d30"], ["d12", "d7"], ["d3", "d3"]])
    expected = scoring.score(model, layout, queries[:, None], documents)
    counts = encoded(model)
    for batch_size in (1, 4, 64):
        scores = scoring.score_stored(model, layout, stored, queries, documents, batch_size=batch_size)
        np.testing.assert_allclose(scores, expected, atol=1e-5, rtol=1e-5)
    assert sum(counts) == 3 * len(queries)
    with pytest.raises(KeyError, match="d0"):
        scoring.score_stored(model, layout, stored, queries[:1], np.array([["d0"]]))


@pytest.mark.parametrize("architecture", ["dot", "colbert"])
def test_queries_come_back_in_the_order_asked_for(architecture, found, tiny_backbone, float32):
    longer = dict(zip(found.queries, list(found.documents.values())[:5], strict=False))
    collection = replace(found, queries=found.queries | longer, fingerprint="longer", queries_digest="longer")
    model, layout = build(architecture, collection, tiny_backbone)
    names = ["q9", "q0", "q8", "q4"]  # short and long
    vectors, mask = scoring.encode_queries(model, layout, names, batch_size=2)
    assert vectors.dtype == torch.float32 and vectors.shape[:2] == mask.shape
    for row, name in enumerate(names):
        (alone,), (kept,) = scoring.encode_queries(model, layout, [name])
        torch.testing.assert_close(vectors[row][mask[row]], alone[kept], atol=1e-5, rtol=1e-5)


@pytest.fixture
def broken(tiny_backbone, found, float32):
    """A model that cannot score d7, and how it reads texts."""

    def breaking(architecture):
        model, layout = build(architecture, found, tiny_backbone)
        words = layout.documents.flat[slice(*layout.documents.starts[layout.documents.rows(["d7"])[0] :][:2])]
        forward = model.transformer.forward

        def without_d7(*given, input_ids, **more):
            output = forward(*given, input_ids=input_ids, **more)
            here = (input_ids.unfold(1, len(words), 1) == torch.from_numpy(words.astype(np.int64))).all(-1).any(-1)
            for part in ("logits", "last_hidden_state"):
                if (values := output.get(part)) is not None:
                    output[part] = values.masked_fill(here.view(-1, *[1] * (values.ndim - 1)), torch.nan)
            return output

        model.transformer.forward = without_d7
        return model, layout

    return breaking


QUERIES, DOCUMENTS = np.array(["q1", "q2"]), np.array([["d1", "d2", "d3"], ["d4", "d7", "d5"]])


@pytest.mark.parametrize("architecture", ["cat", "dot"])
def test_a_score_that_is_not_finite_names_its_pair(broken, architecture):
    model, layout = broken(architecture)
    assert np.isfinite(scoring.score(model, layout, QUERIES[:, None], DOCUMENTS[:, :1])).all()
    with pytest.raises(FloatingPointError, match="query 'q2', document 'd7': the score is nan; the model's weights"):
        scoring.score(model, layout, QUERIES[:, None], DOCUMENTS)
    with pytest.raises(FloatingPointError, match="query 'q1', document 'd7'"):
        scoring.score(model, layout, np.array(["q1", "q1"]), np.array(["d7", "d1"]))


@pytest.mark.parametrize("architecture", ["dot", "colbert"])
def test_a_vector_that_is_not_finite_names_its_text(broken, architecture, tmp_path):
    model, layout = broken(architecture)
    with pytest.raises(FloatingPointError, match="document 'd7': the model's vector is not finite"):
        scoring.encode(model, layout, tmp_path, IDENTITY)
    names = np.array([f"d{number}" for number in range(7)])
    scoring.encode(model, layout, tmp_path, IDENTITY, names=names)
    stored = VectorStore(tmp_path)
    with torch.no_grad():
        next(model.transformer.parameters()).fill_(torch.inf)
    with pytest.raises(FloatingPointError, match="query 'q1': the model's vector is not finite"):
        scoring.encode_queries(model, layout, ["q1", "q2"])
    with pytest.raises(FloatingPointError, match="query 'q1', document 'd1': the score is nan"):
        scoring.score_stored(model, layout, stored, QUERIES, np.array([["d1", "d2"], ["d3", "d4"]]))


def test_an_accelerator_has_as_many_texts_in_a_batch_as_fit(monkeypatch):
    lengths = np.array([3, 90, 10, 10, 5, 90, 4])
    assert [len(part) for part in scoring._longest_first(lengths, 2)] == [2, 2, 2, 1]
    with pytest.raises(ValueError, match="batch_size=0"):
        scoring._longest_first(lengths, 0)
    monkeypatch.setattr(scoring.hardware, "device", lambda: torch.device("cuda"))
    monkeypatch.setattr(scoring, "PLACES", 30)
    parts = scoring._longest_first(lengths, 2)
    assert [lengths[part].tolist() for part in parts] == [[90, 90], [10, 10, 5], [4, 3]]
