"""Milliseconds of re-ranking: what is counted."""

import numpy as np
import pytest

from lib.analysis import latency
from lib.data import collections
from lib.models import fused
from lib.study import rankers
from lib.study.experiment import Model, Untrained
from lib.training import scoring


@pytest.mark.parametrize("architecture", ["cat", "dot"])
def test_a_model_is_prepared_once_and_batched_is_all_queries_at_once(
    architecture, tiny_backbone, tiny_collection, monkeypatch
):
    monkeypatch.setattr(scoring.hardware, "precision", lambda: "bf16")
    monkeypatch.setattr(fused.hardware, "orders_weights", lambda: True)
    made, asked, collection = [], [], collections.load(tiny_collection)
    monkeypatch.setattr(
        fused, "Layer", lambda layer: made.append(layer)
    )  # None is no fused layer, so packed ones score
    monkeypatch.setattr(fused, "Product", lambda *linear: linear[0].forward)
    run = Untrained(Model(architecture, backbone=tiny_backbone, max_length=32))
    ranker = rankers.ranker(run)
    read = rankers.inputs(ranker, collection, run.model)
    queries, documents = np.array(["q0", "q1", "q2"]), np.array([["d0", "d1"], ["d2", "d3"], ["d4", "d5"]])
    stored = None if architecture == "cat" else rankers.document_vectors(run, collection)
    for name in ("score", "score_stored"):
        count = getattr(scoring, name)
        monkeypatch.setattr(
            scoring, name, lambda *a, count=count, **k: (asked.append(k["batch_size"]), count(*a, **k))[1]
        )
    made.clear()
    found = latency.seconds_per_query(ranker, read, queries, documents, stored=stored)
    assert set(found) == {"alone", "batched"} and min(found.values()) > 0
    assert asked == [2] * 4 + [6] * 3
    assert len(made) == ranker.transformer.config.num_hidden_layers
