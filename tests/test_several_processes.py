"""Two processes train and score as one does: the same losses, weights and scores, one history, one checkpoint."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lib.machine import store
from lib.training import scoring
from tests import several_processes

pytestmark = pytest.mark.workers
SECONDS = 240  # a deadlock fails the test; it takes about 15


def test_two_processes_train_as_one(tiny_backbone, tiny_collection, tmp_path, float32, monkeypatch):
    alone = several_processes.histories(tiny_backbone, tiny_collection)  # first: what is cached is then made
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "AT_ONCE", scoring.AT_ONCE)  # which the other module changes
        expected_scores = several_processes.scores(tiny_backbone, tiny_collection)
    launched = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    process = subprocess.Popen(
        [*launched, "-m", "tests.several_processes", tiny_backbone, tiny_collection, str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "STUDY_DATA": str(store.data_folder()), "CUDA_VISIBLE_DEVICES": ""},
        cwd=Path(__file__).parents[1], stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        _, said = process.communicate(timeout=SECONDS)
    finally:
        process.terminate()  # the launcher then ends those that it started
    assert process.returncode == 0, said
    first, second = (json.loads((tmp_path / f"{number}.json").read_text()) for number in (0, 1))
    for name, expected in alone.items():
        both = [one["histories"][name] for one in (first, second)]
        for column, values in expected.items():
            np.testing.assert_allclose(
                both[0][column], both[1][column], atol=1e-6, rtol=1e-5, err_msg=f"{name} {column}"
            )
            np.testing.assert_allclose(both[0][column], values, atol=1e-4, rtol=1e-3, err_msg=f"{name} {column}")
        assert abs(both[0]["weights"] - expected["start"]) > 1e-3  # the caller's model is the trained one
        assert both[0]["documents"] == expected["documents"] and np.isfinite(both[0]["loss"]).all()
    for name, ways in zip(
        first["cut short"], zip(*(one["cut short"].values() for one in (first, second)), strict=True), strict=True
    ):
        for unbroken, resumed, spent in ways:
            assert spent > 0  # it went on from a checkpoint
            for column, values in unbroken.items():
                np.testing.assert_allclose(resumed[column], values, atol=1e-6, rtol=1e-6, err_msg=f"{name} {column}")
    for architecture, (scores, calls) in expected_scores.items():
        for one in (first, second):
            np.testing.assert_allclose(one["scores"][architecture][0], scores, atol=1e-5, rtol=1e-5)
        shared = [one["scores"][architecture][1] for one in (first, second)]
        assert sum(shared) == calls and min(shared) >= calls // 2  # each part by one of them
    assert first["refusal"] == second["refusal"]
    assert "batch_size=3: give a multiple of the 2 processes" in first["refusal"]
