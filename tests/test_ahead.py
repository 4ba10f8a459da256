"""What notebooks need is trained and scored before them, by several processes, each thing once."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
import torch

from lib.machine import hardware
from lib.study import ahead, batch, grids, runs, tables
from tests.test_batch import ends, write

ROOT = Path(__file__).parents[1]
CELL = """
from lib.study import tables
from lib.study.experiment import Experiment, TestSet, vary
settings = dict(group_count=16, batch_size=4, docs=3, max_length=48, learning_rate=1e-3)
teacher = vary(Experiment("info_nce"), backbone={backbone!r}, collection={collection!r}, **settings)
student = vary(teacher, strategy="kl", teacher=teacher)
test = TestSet({collection!r}, "test", depth=4)
table = tables.results([teacher, student], [test])
"""
OWN = """
from lib.training.strategies import Strategy, Term
mine = vary(teacher, strategy=Strategy("mine", "contrastive", (Term(lambda scores, targets: scores.sum(1), "labels"),)))
tables.complete([mine], [test])
"""


class Here(Executor):
    """Does every task at once, in this process."""

    def __init__(self):
        self.tasks = []

    def submit(self, function, *task):
        self.tasks.append(task)
        future = Future()
        try:
            future.set_result(function(*task))
        except BrokenProcessPool as error:
            future.set_exception(error)
        return future


@pytest.fixture
def notebook(tiny_backbone, tiny_collection, tmp_path):
    return write(tmp_path / "a.ipynb", CELL.format(backbone=tiny_backbone, collection=tiny_collection))


@pytest.fixture
def here():
    return ahead.Pool(Here(), 2)


def needed(notebook):
    """A notebook's teacher and student, and its test set."""
    grid = grids.of_notebook(notebook, {})
    (_, test), *_ = grid.scorings
    return *grid.runs, test


def test_there_are_as_many_processes_as_threads_and_one_beside_an_accelerator(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert ahead.processes() == 3
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert ahead.processes() == ahead.MOST
    monkeypatch.setattr(hardware, "device", lambda: torch.device("cuda"))
    assert ahead.processes() == 1


def test_trainings_come_first_and_each_after_what_it_needs(notebook, here, capsys):
    ahead.complete(notebook, {}, here)
    teacher, student, test = needed(notebook)
    assert here.executor.tasks == [(teacher, ()), (student, ()), (teacher, (test,)), (student, (test,))]
    assert tables.is_scored(student, test)
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"  1 of 4: {teacher.about} trained, about ")
    assert last.startswith(f"  4 of 4: {student.about} scored on ") and last.endswith("tiny, about 0 s left")


def test_the_test_sets_of_a_single_run_are_shared_out(notebook, here, tiny_backbone, tiny_collection):
    cell = CELL.format(backbone=tiny_backbone, collection=tiny_collection)
    more = f"more = TestSet({tiny_collection!r}, 'train', depth=3)\ntables.complete([teacher], [test, more])"
    write(notebook, cell + more)
    _, student, test = needed(notebook)
    tables.complete([student], [test])
    ahead.complete(notebook, {}, here)
    (_, one), (_, other) = here.executor.tasks
    assert one == (test,) and [test.depth for test in other] == [3]


def test_what_is_there_is_not_asked_for_again(notebook, here):
    teacher, student, test = needed(notebook)
    tables.complete([teacher], [test])
    ahead.complete(notebook, {}, here)
    assert here.executor.tasks == [(student, ()), (student, (test,))]
    ahead.complete(notebook, {}, here)
    assert len(here.executor.tasks) == 2


def test_a_failure_is_said_and_leaves_to_the_notebook_what_needs_it(notebook, here, capsys, monkeypatch):
    teacher, *_ = needed(notebook)
    monkeypatch.setattr(tables, "complete", lambda grid, tests: [][0])
    ahead.complete(notebook, {}, here)
    assert here.executor.tasks == [(teacher, ())]
    said = capsys.readouterr().err
    assert said == f"  {teacher.about}: IndexError: list index out of range; the notebook tries again\n"


def test_a_process_that_dies_leaves_everything_to_the_notebook(notebook, here, capsys, monkeypatch):
    def dies(*_):
        raise BrokenProcessPool

    monkeypatch.setattr(ahead, "_do", dies)
    ahead.complete(notebook, {}, here)
    assert "a process died, most likely since memory ran out: the notebook goes on alone" in capsys.readouterr().err


def test_a_notebook_with_a_loss_of_its_own_trains_all_itself(notebook, here, tiny_backbone, tiny_collection):
    write(notebook, CELL.format(backbone=tiny_backbone, collection=tiny_collection), OWN)
    assert [run.taught["strategy"] for run in grids.of_notebook(notebook, {}).runs] == ["info_nce", "kl", "mine"]
    ahead.complete(notebook, {}, here)
    assert here.executor.tasks == []


@pytest.mark.parametrize("cell", ["while True: pass", "from lib.study import tables\ntables.results(None)\n1 / 0"])
def test_a_notebook_that_trains_nothing_or_fails_is_left_alone(cell, here, tmp_path):
    ahead.complete(write(tmp_path / "a.ipynb", cell), {}, here)
    assert here.executor.tasks == []


@pytest.mark.parametrize("wrong", [["--processes", "0"], ["--processes", "2", "--engine", "ray"]])
def test_processes_that_cannot_be_are_refused(wrong, notebook, capsys):
    assert batch.main([str(notebook), *wrong]) == 2
    assert "--processes: give a whole number from 1 on, and no --engine" in capsys.readouterr().err


@pytest.mark.slow
def test_other_processes_do_it_with_their_share_of_the_threads(notebook, tmp_path, capfd):
    assert batch.main([str(notebook), "--processes", "2", "--out", str(tmp_path / "out")]) == 0
    said = capfd.readouterr()
    assert "4 of 4: " in said.out and "training" not in said.out, said
    teacher, student, test = needed(notebook)
    for run in (teacher, student):
        texts = runs.costs(run).set_index("measure")["text"]
        assert texts["threads"] == str(max(1, torch.get_num_threads() // 2))
        assert tables.is_scored(run, test)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="/proc says which processes live, and is not here")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_processes_end_with_the_command(number, notebook, tmp_path):
    options = ["--processes", "2", "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "lib.study.batch", str(notebook), *options]
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (found := _children(process.pid)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert all(map(ends, found))
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number
        assert "Traceback" not in said and "leaked" not in said, said


def _children(parent):
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(one) for one in found if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]
