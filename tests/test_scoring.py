"""Scores and vectors that are not finite are one error that names the texts, never a ranking."""

import numpy as np
import pytest
import torch

from lib import models
from lib.models.vectors import Identity, VectorStore
from lib.study import runs as study
from lib.training import scoring

IDENTITY = Identity("model", "collection")


@pytest.fixture
def broken(tiny_backbone, found, float32):
    """A model that cannot score d7, and how it reads texts."""

    def build(architecture):
        options = {"dim": 16, "masks": 4} if architecture == "colbert" else {}
        model = models.build(architecture, tiny_backbone, None, 0, **options)
        layout = study.layout(model, found, tiny_backbone, 32)
        words = layout.documents.flat[slice(*layout.documents.starts[layout.documents.rows(["d7"])[0] :][:2])]
        forward = model.transformer.forward

        def breaking(*given, input_ids, **more):
            output = forward(*given, input_ids=input_ids, **more)
            here = (input_ids.unfold(1, len(words), 1) == torch.from_numpy(words.astype(np.int64))).all(-1).any(-1)
            for part in ("logits", "last_hidden_state"):
                if (values := output.get(part)) is not None:
                    output[part] = values.masked_fill(here.view(-1, *[1] * (values.ndim - 1)), torch.nan)
            return output

        model.transformer.forward = breaking
        return model, layout

    return build


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
