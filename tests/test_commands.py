"""Every command that README and Makefile offer is run: in `.ci/run`, or here."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
BIN = Path(sys.executable).parent
RUN_HERE = {"lab", "clean", "figures"}


@pytest.fixture
def copy(tmp_path):
    """A project whose folder has a space in its name: Makefile, notebooks and data/README.md."""
    folder = tmp_path / "a copy"
    (folder / "data").mkdir(parents=True)
    for name in ("Makefile", "data/README.md"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    return folder


def make(folder, *arguments):
    """`make` with this environment's programs instead of .venv."""
    return ["make", "--no-print-directory", "-C", str(folder), "--assume-old=.venv/ready", f"BIN={BIN}", *arguments]


def said(folder, *arguments):
    done = subprocess.run(make(folder, *arguments), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def offered():
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    return targets | set(re.findall(r"\bmake ([a-z]+)\b(?! sure)", _code((ROOT / "README.md").read_text())))


def _code(markdown):
    """What a text has between backticks."""
    return "\n".join(re.findall(r"```.*?```|`[^`]+`", markdown, re.DOTALL))


def test_every_command_that_is_offered_is_run():
    script = re.sub(r'"[^"]*"', "", (ROOT / ".ci" / "run").read_text())
    run = {word for line in re.findall(r"\bmake (.*)", script) for word in re.findall(r"(?<!\S)[a-z]+(?!\S)", line)}
    assert offered() == run | RUN_HERE, "run each in .ci/run, or in this file"
    assert {"study", "test", "lab"} <= offered()


def test_every_benchmark_that_is_offered_is_run():
    offers = set(re.findall(r"python -m benchmarks\.(\w+)", _code((ROOT / "README.md").read_text())))
    (run,) = re.findall(r"for benchmark in (.*); do", (ROOT / ".ci" / "run").read_text())
    assert offers <= set(run.split()), "run each in .ci/run at a tiny size"


def test_help_lists_every_target(copy):
    code, text = said(copy, "help")
    assert code == 0 and {line.split()[0] for line in text.splitlines()} == offered()


def test_study_and_breadth_run_every_notebook_once(copy):
    study, breadth = (
        re.findall(r"notebooks/(\S+\.ipynb)", said(copy, "-n", target)[1]) for target in ("study", "breadth")
    )
    assert sorted(study + breadth) == NOTEBOOKS and study and breadth


def test_clean_removes_what_the_kit_made_and_leaves_your_own(copy):
    (copy / "data" / "runs" / "a run").mkdir(parents=True)
    for name in ("runs/a run/README.md", "runs/.hidden", "x.tsv"):
        (copy / "data" / name).write_text("x")
    mine, copied = (copy / "data" / "collections" / name for name in ("mine", "pydocs-0123456789abcdef"))
    for folder, file in ((mine, "corpus.jsonl"), (copied, "manifest.json"), (copied.with_name(".x.partial"), "y")):
        folder.mkdir(parents=True)
        (folder / file).write_text("x")
    assert said(copy, "clean", "STUDY_DATA=")[0] == 0
    assert sorted(path.name for path in (copy / "data").iterdir()) == ["README.md", "collections", "x.tsv"]
    assert [*(copy / "data" / "collections").iterdir()] == [mine]
    assert (copy / "notebooks").is_dir()


def test_clean_is_of_the_data_folder_in_use(copy):
    for folder in ("data", "my data"):
        (copy / folder / "runs" / "a run").mkdir(parents=True)
    assert said(copy, "clean", "STUDY_DATA=my data")[0] == 0
    assert not (copy / "my data" / "runs").exists() and (copy / "data" / "runs").exists()


def test_clean_knows_every_folder_that_the_kit_makes():
    lines = re.findall(r"^\| ([a-z0-9_/, ]+) \|", (ROOT / "data" / "README.md").read_text(), re.MULTILINE)
    listed = {name for line in lines for name in line.replace(",", "").split()}
    code = "\n".join(path.read_text() for path in [*(ROOT / "lib").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")])
    made = re.findall(r'(?:store\.keep\(|data_folder\(\) / )"([a-z0-9_]+)"', code)
    assert {f"{name}/" for name in made} <= listed and len(made) > 15


@pytest.mark.parametrize("given", ["my data", "/tmp/my data", ""])
def test_a_relative_data_folder_is_made_absolute(given, copy):
    """Notebooks work in a folder of their own, the shell's commands in the project's."""
    (copy / "show.mk").write_text('include Makefile\nshow:\n\t@echo "$$STUDY_DATA|$(DATA)"\n')
    _, text = said(copy, "-f", "show.mk", "show", f"STUDY_DATA={given}")
    absolute = str(copy / given) if given else ""
    assert text.strip().splitlines()[-1] == f"{absolute}|{absolute or 'data'}"


def test_figures_are_copied_from_the_data_folder(copy):
    source = copy / "my data" / "figures" / "laptop"
    (source / "measure=nDCG@10").mkdir(parents=True)
    others = [source / name for name in ("05_means.csv", "05_means.md", "05_means.tex")]
    for path in (source / "03_gain.png", source / "measure=nDCG@10" / "03_gain.png", *others):
        path.write_text(path.parent.name)
    executed = copy / "my data" / "executed" / "laptop" / "05_comparison.ipynb"
    executed.parent.mkdir(parents=True)
    executed.write_text((copy / "notebooks" / executed.name).read_text())
    (copy / "study.mk").write_text("include Makefile\nstudy: ;\nbreadth: ;\n")
    code, text = said(copy, "-f", "study.mk", "figures", "STUDY_DATA=my data")
    assert code == 0, text
    assert sorted(path.name for path in (copy / "figures").rglob("*.*")) == [
        "03_gain.png", "05_comparison.md", "05_means.csv", "05_means.md",
    ]  # fmt: skip
    assert (copy / "figures" / "tables" / "05_means.csv").exists()
    assert (copy / "figures" / "03_gain.png").read_text() == "laptop"


def test_only_the_laptop_profile_writes_the_figures_of_the_readme(copy):
    code, text = said(copy, "figures", "PROFILE=smoke")
    assert code != 0 and "error: figures/ shows the laptop profile" in text
    code, text = said(copy, "laptop-only", "PROFILE=smoke", "FIGURES=figures/")
    assert code != 0 and "error: figures/ shows the laptop profile" in text
    assert not (copy / "figures").exists()


@pytest.mark.slow
def test_lab_serves_the_notebooks(copy):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"LAB=--no-browser --allow-root --ip=127.0.0.1 --port={port} --IdentityProvider.token=abc"
    with (copy / "log").open("w") as log:
        process = subprocess.Popen(make(copy, "lab", options), stdout=log, stderr=log, start_new_session=True)
    ask = urllib.request.Request(f"http://127.0.0.1:{port}/api/contents", headers={"Authorization": "token abc"})
    try:
        for _ in range(600):
            assert process.poll() is None, (copy / "log").read_text()
            try:
                with urllib.request.urlopen(ask, timeout=5) as answer:
                    found = json.load(answer)
                break
            except OSError:
                time.sleep(0.1)
        assert sorted(one["name"] for one in found["content"] if one["type"] == "notebook") == NOTEBOOKS
    finally:
        stop = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/shutdown", method="POST", headers={"Authorization": "token abc"}
        )
        try:
            urllib.request.urlopen(stop, timeout=5).close()
        except OSError:
            process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a thread that still waits for work can keep a server alive
