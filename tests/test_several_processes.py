"""Two processes train as one does: the same losses and weights, one history, and clear words for what needs one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from lib.machine import store
from tests import several_processes

SECONDS = 240  # a deadlock fails the test; it takes about 15


def test_two_processes_train_as_one(tiny_backbone, tiny_collection, tmp_path, float32):
    alone = several_processes.histories(tiny_backbone, tiny_collection)  # first: what is cached is then made
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
            np.testing.assert_allclose(both[0][column], both[1][column], atol=1e-6, err_msg=f"{name} {column}")
            np.testing.assert_allclose(both[0][column], values, atol=1e-4, rtol=1e-3, err_msg=f"{name} {column}")
        assert abs(both[0]["weights"] - expected["start"]) > 1e-3  # the caller's model is the trained one
        assert both[0]["documents"] == expected["documents"] and np.isfinite(both[0]["loss"]).all()
    assert first["refusal"] == second["refusal"]
    assert "batch_size=3: give a multiple of the 2 processes" in first["refusal"]
