"""Two processes of one launch share a study: the main one builds, the others wait, and both train."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lib.machine import store
from lib.study.experiment import TestSet
from tests import kit

ROOT = Path(__file__).parents[1]
SCRIPT = """
import json, sys
from lib.machine import processes
from lib.study import tables
from lib.study.experiment import TestSet
from tests import kit
fields = json.loads(sys.argv[1])
teacher = kit.experiment("info_nce", **fields)
student = kit.experiment("kl", teacher=teacher, **fields)
test = TestSet(fields["collection"], queries=8, depth=10)
table = tables.results([student], [test])
again = tables.results([student], [test])
loss = kit.history(student)["loss"].tolist()
print(json.dumps([processes.is_main(), len(table), len(again), loss]), flush=True)
"""


@pytest.mark.slow
def test_two_processes_finish_one_study(tiny_backbone, tiny_collection, tmp_path, data_folder, monkeypatch):
    fields = {"backbone": tiny_backbone, "collection": tiny_collection, "group_count": 16, "batch_size": 4, "docs": 3,
              "max_length": 48, "learning_rate": 1e-3}  # fmt: skip
    (tmp_path / "script.py").write_text(SCRIPT)
    launch = [sys.executable, "-W", "ignore", "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
              "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
              "--main_process_port", "0", str(tmp_path / "script.py")]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [*launch, json.dumps(fields)], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert sorted(one[0] for one in said) == [False, True]
    assert said[0][1:] == said[1][1:] and said[0][1] == said[0][2]
    assert len([path for path in (data_folder / "runs").iterdir() if store.is_whole(path)]) == 2
    # what the two have trained is what one process trains, up to the order in which gradients are added
    teacher = kit.experiment("info_nce", **fields)
    student = kit.experiment("kl", teacher=teacher, **fields)
    shared = kit.scores(student, TestSet(tiny_collection, queries=8, depth=10))
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "alone"))
    alone = kit.scores(student, TestSet(tiny_collection, queries=8, depth=10))
    assert shared["score"].to_numpy() == pytest.approx(alone["score"].to_numpy(), abs=0.05)  # bfloat16 where there is
    assert kit.history(student)["loss"].tolist() == pytest.approx(said[0][3], abs=0.02)
