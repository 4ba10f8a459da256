"""The batch command: what it refuses, whose folders it means, and what a failure, a signal or a dead kernel leaves."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import papermill
import pytest

from lib.machine import outputs, progress
from lib.study import batch, engines, notebooks, profiles

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
PYTHON = {"name": "python3", "display_name": "Python 3", "language": "python"}


@pytest.fixture
def at(tmp_path, monkeypatch):
    """A caller's folder whose name has a space and braces; the command is run there."""
    folder = tmp_path / "a caller {x}"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write(path, *cells, parameters="profile = 'smoke'", kernel=PYTHON):
    """A notebook of one parameters cell and some others."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in (parameters, *cells)])
    made.cells[0].metadata["tags"] = ["parameters"]
    if kernel:
        made.metadata["kernelspec"] = kernel
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(made, path)
    return path


def printed(path):
    """What the cells of an executed notebook printed."""
    outputs = [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


REFUSED = [
    (["-p", "profle", "smoke"], "'profle': 03_contrastive_teacher.ipynb has none of that name"),
    (["-p", "profile", "smok"], "'profile': 'smok' is unknown"),
    (["-p", "profile", "smok", "--out", "out"], "'profile': 'smok' is unknown"),
    (["-p", "profile", "3"], "'profile': 3 is int"),
    (["-p", "measure", "RR@10", "-p", "measure", "R@10"], "'measure': given twice"),
    (["-p", "folders", "x"], "'folders': there is no folder {at}/x"),
    ([str(NOTEBOOKS[1]), "-p", "measure", "RR@10"], "'measure': 01_data.ipynb has none"),
    (["nowhere.ipynb"], "{at}/nowhere.ipynb: no such notebook"),
    ([str(NOTEBOOKS[3])], "two notebooks have this name"),
    (["--out", str(ROOT / "notebooks")], "its executed copy would replace it"),
    (["--gpus", "8"], "--cpus, --gpus: a notebook that runs here has the whole machine; give --engine too"),
    (["--cpus", "500"], "--cpus, --gpus: a notebook that runs here has the whole machine; give --engine too"),
    (["-s", "slurm_partition", "nothere"], "-s slurm_partition: for submitit alone; give --engine submitit"),
    (["--engine", "ray", "-s", "timeout_min", "9"], "-s timeout_min: for submitit alone; give --engine submitit"),
]


@pytest.mark.parametrize(("arguments", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_the_command_refuses_before_it_runs(arguments, says, at, capsys, monkeypatch):
    monkeypatch.setattr(batch, "_run_all", lambda *_: pytest.fail("it ran"))
    assert batch.main([str(NOTEBOOKS[3]), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says.replace("{at}", str(at)) in line


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", "3", '{"nbformat": 4, "cells": [{}]}', b"\xff\x00\x82"])
def test_a_file_that_is_no_notebook_is_one_line(content, at, capsys):
    (at / "a.ipynb").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert batch.main(["a.ipynb"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {at}/a.ipynb: no readable notebook")


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"kernel": None}, "its metadata name no Python kernel"),
        ({"kernel": {"name": "ir", "display_name": "R", "language": "R"}}, "its metadata name no Python kernel"),
        ({"parameters": "a = len('x')"}, "line 1 of its parameters is no `name = literal`"),
        ({"parameters": "%matplotlib inline"}, "line 1 of its parameters is no Python"),
    ],
)
def test_a_notebook_that_cannot_be_run_is_one_line(how, says, at, capsys):
    write(at / "a.ipynb", **how)
    assert batch.main(["a.ipynb"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {at}/a.ipynb: {says}")


def test_one_cell_holds_the_parameters(at):
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("a = 3")], metadata={"kernelspec": PYTHON})
    nbformat.write(made, at / "a.ipynb")
    with pytest.raises(ValueError, match="0 cells are tagged"):
        notebooks.defaults(at / "a.ipynb")


def test_relative_paths_are_the_callers(at, monkeypatch):
    """Kernels work in their notebook's folder, but data folder, notebooks, --out and folders are the caller's."""
    write(
        at / "elsewhere" / "a.ipynb", "import os\nfrom lib.machine import store\nprint(store.data_folder())",
        "print(folders)", "print(os.getcwd())", "print(sets)", "print(target)",
        parameters="folders = ''\nsets = ''\ntarget = ''",
    )  # fmt: skip
    (at / "beir").mkdir()
    (at / "my.run").touch()
    monkeypatch.setenv("STUDY_DATA", "my data")
    given = {
        "folders": "beir, hub:beir/scifact", "target": "./beir",
        "sets": "./beir?relevant_grade=2 | test | ./my.run; scifact; hub:beir/scifact",
    }  # fmt: skip
    parameters = [word for name, text in given.items() for word in ("-p", name, text)]
    assert batch.main(["elsewhere/a.ipynb", "--out", "out", *parameters]) == 0
    said = printed(at / "out" / "a.ipynb").splitlines()
    assert said[:3] == [f"{at}/my data", f"{at}/beir,hub:beir/scifact", f"{at}/elsewhere"]
    assert said[3:] == [f"{at}/beir?relevant_grade=2 | test | {at}/my.run; scifact; hub:beir/scifact", f"{at}/beir"]


@pytest.mark.parametrize(("given", "meant"), [
    ("typos:./tiny", "typos:{at}/tiny"), ("from-dev:./tiny?relevant_grade=2", "from-dev:{at}/tiny?relevant_grade=2"),
    ("hub:./tiny", "hub:{at}/tiny"), ("cropped:hub:./tiny#one", "cropped:hub:{at}/tiny#one"),
    ("typos:./t", "typos:{at}/t"), ("typos:pydocs", "typos:pydocs"), ("ir:beir/scifact", "ir:beir/scifact"),
])  # fmt: skip
def test_a_word_before_a_path_leaves_it_the_callers(given, meant, at):
    for folder in ("tiny", "t"):
        (at / folder).mkdir()
    meant = meant.replace("{at}", str(at))
    assert batch._value("folders", f"{given}, ./tiny") == f"{meant},{at}/tiny"
    assert batch._value("sets", f"{given} | test; scifact") == f"{meant} | test; scifact"
    assert batch._value("target", given) == meant


def test_kernels_use_the_package_of_the_command(at):
    """Another checkout may be the installed one."""
    write(at / "a.ipynb", "import lib\nprint(lib.__file__)", parameters="a = 3")
    assert batch.main(["a.ipynb", "--out", "out"]) == 0
    assert printed(at / "out" / "a.ipynb").strip() == str(ROOT / "lib" / "__init__.py")


def test_executed_copies_of_other_parameters_overwrite_nothing(at, data_folder, monkeypatch):
    write(at / "a.ipynb", parameters="profile = 'smoke'\nmeasure = 'RR@10'")
    folders = []
    monkeypatch.setattr(batch, "_run_all", lambda _, folder, *__: folders.append(folder) or 0)
    for arguments in ([], ["-p", "measure", "RR@10"], ["-p", "measure", "nDCG@10"], ["-p", "profile", "laptop"]):
        assert batch.main(["a.ipynb", *arguments]) == 0
    kept = data_folder / "executed"
    assert folders == [kept / "smoke", kept / "smoke", kept / "smoke" / "measure=nDCG@10", kept / "laptop"]


@pytest.mark.slow
def test_a_failing_notebook_is_marked_and_named_and_stops_no_other(at, capsys):
    for name, cell in (("a", "print('fine')"), ("b", "1 / 0"), ("c", "2")):
        write(at / f"{name}.ipynb", cell)
    assert batch.main([*(f"{name}.ipynb" for name in "abc"), "--out", "out"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: b.ipynb: cell 2: ZeroDivisionError: division by zero",
        "failed: b.ipynb; with --missing only these run again",
    ]
    assert names(at / "out") == ["a.ipynb", "b.failed.ipynb", "c.ipynb", "times.json"]


@pytest.mark.slow
def test_what_is_missing_follows_notebook_parameters_and_content(at, capsys):
    write(at / "a.ipynb", "print(profile)")
    write(at / "b.ipynb", "1 / 0")
    command = ["a.ipynb", "b.ipynb", "--out", "out", "--missing"]
    assert batch.main(command) == 1
    first = (at / "out" / "a.ipynb").stat().st_mtime_ns
    write(at / "b.ipynb", "1 / 1")
    assert batch.main(command) == 0  # the one that failed, and no other
    assert (at / "out" / "a.ipynb").stat().st_mtime_ns == first and "1 of 2 notebooks" in capsys.readouterr().out
    assert batch.main(command) == 0 and "2 of 2 notebooks" in capsys.readouterr().out
    assert batch.main([*command, "-p", "profile", "laptop"]) == 0 and "0 of 2 notebooks" in capsys.readouterr().out
    assert printed(at / "out" / "a.ipynb") == "laptop\n"


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"metadata": []}', b"\xff"])
def test_a_broken_executed_copy_is_missing(content, at):
    write(at / "a.ipynb")
    (at / "out").mkdir()
    (at / "out" / "a.ipynb").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert not notebooks.is_done(at / "a.ipynb", at / "out", {})


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 3}', '{"a": {"first": 3}}'])
def test_damaged_times_are_begun_anew_and_the_batch_goes_on(content, at, capsys, monkeypatch):
    for name in "ab":
        write(at / f"{name}.ipynb")
    (at / "out").mkdir()
    (at / "out" / "times.json").write_text(content)
    monkeypatch.setattr(notebooks, "run", lambda *_: None)
    monkeypatch.setattr("lib.study.forecast.announce", lambda *_: None)
    assert batch.main(["a.ipynb", "b.ipynb", "--out", "out"]) == 0
    assert capsys.readouterr().err == f"{at}/out/times.json is damaged: it is begun anew\n"
    times = json.loads((at / "out" / "times.json").read_text())
    assert set(times) == {"a", "b"} and set(times["a"]) == {"first", "last"}


def test_a_kernel_that_dies_is_one_clear_error_and_its_copy_is_kept(at, capsys):
    write(at / "a.ipynb", "print('before')", "import os\nos.kill(os.getpid(), 9)", "print('after')")
    assert batch.main(["a.ipynb", "--out", "out"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: a.ipynb: cell 3: the kernel died: most likely memory ran out")
    assert names(at / "out") == ["a.failed.ipynb"]
    kept = nbformat.read(at / "out" / "a.failed.ipynb", as_version=4)
    assert "Stopped at cell 3: the kernel died" in kept.cells[0].source
    assert printed(at / "out" / "a.failed.ipynb") == "before\n"


@pytest.mark.slow
def test_a_cell_that_runs_out_of_time_is_one_clear_error(at, capsys, monkeypatch):
    write(at / "a.ipynb", "import time\ntime.sleep(60)")
    limited = functools.partial(papermill.execute_notebook, execution_timeout=1)
    monkeypatch.setattr(papermill, "execute_notebook", limited)
    assert batch.main(["a.ipynb", "--out", "out"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: a.ipynb: cell 2: A cell timed out while it was being executed, after 1 seconds."
    assert names(at / "out") == ["a.failed.ipynb"]


def test_a_kernel_that_does_not_start_is_one_clear_error(at, capsys, monkeypatch):
    write(at / "a.ipynb")

    def silent(*_, **__):
        raise RuntimeError("Kernel didn't respond in 300 seconds")

    monkeypatch.setattr(papermill, "execute_notebook", silent)
    assert batch.main(["a.ipynb", "--out", "out"]) == 1
    assert capsys.readouterr().err == "error: a.ipynb: Kernel didn't respond in 300 seconds\n"
    assert names(at / "out") == ["a.failed.ipynb"]


def begun(at):
    """A batch command whose notebook is in a long cell, and the kernel's process id."""
    quick = "a = 3"  # without a profile to check the command need not wait for torch
    write(
        at / "a.ipynb",
        "import os\nopen('pid', 'w').write(str(os.getpid()))\nimport time\ntime.sleep(60)",
        parameters=quick,
    )
    write(at / "b.ipynb", parameters=quick)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "lib.study.batch", "a.ipynb", "b.ipynb", "--out", "out"], cwd=at, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)],
    )  # fmt: skip
    while not ((at / "pid").exists() and (text := (at / "pid").read_text())):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return process, int(text)


def ends(pid):
    """Whether a process ends within ten seconds."""
    for _ in range(100):
        state = Path(f"/proc/{pid}/stat")
        try:
            if state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="/proc says which processes live, and is not here")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_stopped_command_leaves_no_kernel_and_no_stray_copy(number, at):
    process, kernel = begun(at)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert ends(kernel)
    assert names(at / "out") == []
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number
        assert said == "stopped in a.ipynb; what was finished is kept; not run: b.ipynb\n"


def test_a_folder_that_cannot_be_written_stops_the_command_before_the_work(at, capsys, monkeypatch):
    write(at / "a.ipynb")
    (at / "out").touch()
    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: pytest.fail("it ran"))
    assert batch.main(["a.ipynb", "--out", "out"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: a.ipynb: folder {at}/out: it cannot be written")


def test_progress_is_printed_and_kept_out_of_the_copy(at, capfd):
    write(at / "a.ipynb", "from lib.machine import progress\nprogress.say('halfway é')")
    assert batch.main(["a.ipynb", "--out", "out"]) == 0
    assert "  halfway é\n" in capfd.readouterr().out
    assert not any(cell.get("outputs") for cell in nbformat.read(at / "out" / "a.ipynb", as_version=4).cells)
    assert "STUDY_PROGRESS" not in os.environ


@pytest.mark.slow
def test_a_notebook_ends_though_nobody_reads_what_is_printed(at):
    write(
        at / "a.ipynb",
        "from lib.machine import progress\nfor _ in range(3000):\n    progress.say('x' * 100)\nopen('end', 'w')",
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "lib.study.batch", "a.ipynb", "--out", "out"]
    process = subprocess.Popen(
        command, cwd=at, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().startswith("running")
    process.stdout.close()
    with process.stderr:
        error = process.stderr.read()
    assert process.wait(60) == 128 + signal.SIGPIPE and "Traceback" not in error, error
    assert (at / "end").exists() and names(at / "out") == ["a.ipynb"]


def test_progress_that_nobody_reads_is_dropped(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "of another machine" / "pipe"):
        monkeypatch.setenv("STUDY_PROGRESS", str(path))
        progress.say("a line")
    assert "STUDY_PROGRESS" not in engines._environment(engines.Resources())


def test_parameters_of_a_notebook_are_checked_by_name():
    with pytest.raises(TypeError, match="'measure': 3 is int, not str"):
        profiles.parameter("measure", 3, str)
    with pytest.raises(ValueError, match="'measure': 'MAP' is unknown; give one of RR"):
        profiles.parameter("measure", "MAP", str, among=("RR",))


def test_what_a_notebook_writes_has_a_folder_for_every_other_parameter():
    assert outputs.variant_folder("laptop", measure="RR@10", baseline="info_nce", folders="") == "laptop"
    assert (
        outputs.variant_folder("laptop", measure="nDCG@10", baseline="bm25") == "laptop/baseline=bm25/measure=nDCG@10"
    )
    one, other = (outputs.variant_folder("laptop", folders=f"/{name}/beir") for name in ("a/b", "a_b"))
    assert one != other and one.count("/") == 1
    assert len(outputs.variant_folder("laptop", folders="x" * 1000)) < 100
