"""Two processes of one launch share a study: the main one builds, both train, and one process finds the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from lib.machine import store
from lib.study import runs, tables
from lib.study.experiment import TestSet
from lib.training.settings import GradCache, Queue
from tests import kit

pytestmark = pytest.mark.workers
ROOT = Path(__file__).parents[1]
SCRIPT = """
import json, sys
from pathlib import Path
import accelerate
from lib.machine import hardware, processes
from lib.study import tables
from lib.study.experiment import TestSet
from tests.test_processes import grid
hardware.precision = lambda: "no"
fields = json.loads(sys.argv[1])
test = TestSet(fields["collection"], queries=8, depth=10)
table = tables.results(grid(fields), [test])
again = tables.results(grid(fields), [test])
state = accelerate.PartialState()
said = [processes.is_main(), len(table), len(again), state.num_processes]
Path(sys.argv[2], f"{state.process_index}.json").write_text(json.dumps(said))
"""


def grid(fields):
    """A distilled cross-encoder, and bi-encoders whose batch, or whose queue, is that of all processes."""
    teacher = kit.experiment("info_nce", **fields)
    cosine = {"architecture": "dot", "options": (("similarity", "cosine"),), **fields}
    return [
        kit.experiment("kl", teacher=teacher, **fields),
        kit.experiment("in_batch", **cosine), kit.experiment("distributed_margin", **cosine),
        kit.experiment("in_batch", batching=GradCache(1), **cosine),
        kit.experiment("info_nce", batching=Queue(6), **cosine | {"options": ()}),
    ]  # fmt: skip


@pytest.mark.slow
def test_two_processes_finish_one_study(tiny_backbone, tiny_collection, tmp_path, data_folder, monkeypatch, float32):
    fields = {"backbone": tiny_backbone, "collection": tiny_collection, "group_count": 16, "batch_size": 4, "docs": 3,
              "max_length": 48, "learning_rate": 1e-4}  # fmt: skip
    (tmp_path / "script.py").write_text(SCRIPT)
    launch = [sys.executable, "-W", "ignore", "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
              "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
              "--main_process_port", "0", str(tmp_path / "script.py"), json.dumps(fields), str(tmp_path)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(launch, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    said = [json.loads((tmp_path / f"{index}.json").read_text()) for index in range(2)]
    assert sorted(one[0] for one in said) == [False, True]
    assert said[0][1:] == said[1][1:] and said[0][1] == said[0][2]
    assert said[0][3] == 2  # they trained together, not each by itself
    assert len([path for path in (data_folder / "runs").iterdir() if store.is_whole(path)]) == len(grid(fields)) + 1
    # what the two have trained is what one process trains, up to the order in which gradients are added
    test = TestSet(tiny_collection, queries=8, depth=10)
    shared = [(runs.history(run), tables.scores(run, test)) for run in grid(fields)]
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "alone"))
    kit.complete(grid(fields), [test])
    for run, (history, scores) in zip(grid(fields), shared, strict=True):
        pd.testing.assert_frame_equal(history, runs.history(run), atol=1e-4, rtol=1e-3)
        pd.testing.assert_frame_equal(scores, tables.scores(run, test), atol=1e-3, rtol=1e-3)
