"""Every notebook executed with the smoke profile, and parameters that must be refused."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def command(*arguments, folder, module="lib.batch"):
    # One thread suits the small tests (see the Makefile); the notebooks run as their users run them.
    threads = {"OMP_NUM_THREADS": str(os.cpu_count())}
    environment = {**os.environ, **threads, "STUDY_DATA": str(folder), "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-W", "ignore", "-m", module, *map(str, arguments)], cwd=ROOT, env=environment,
                          capture_output=True, text=True, check=False)  # fmt: skip


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """All notebooks, run by the batch command in one data folder."""
    folder = tmp_path_factory.mktemp("study")
    return command(*NOTEBOOKS, "-p", "profile", "smoke", folder=folder), folder


def test_every_notebook_runs_with_the_smoke_profile(executed):
    done, folder = executed
    assert done.returncode == 0, done.stdout + done.stderr
    copies = sorted((folder / "executed" / "smoke").glob("*"))
    assert [path.name for path in copies] == [path.name for path in NOTEBOOKS]


def test_progress_is_in_the_terminal_and_not_in_the_notebooks(executed):
    done, folder = executed
    assert "training 1 of " in done.stdout and "about" in done.stdout
    for path in (folder / "executed" / "smoke").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                assert output.output_type != "stream" or output.name == "stdout", output
                assert "training 1 of" not in str(output)
            # What a cell prints may come in several pieces.
            kinds = [kind for kind, _ in itertools.groupby(output.output_type for output in cell.get("outputs", []))]
            assert len(kinds) <= 2


def test_every_notebook_writes_its_figures(executed):
    _, folder = executed
    figures = sorted(path.name for path in (folder / "figures" / "smoke").glob("*.png"))
    assert {name[:2] for name in figures} == {path.name[:2] for path in NOTEBOOKS}
    shown = (ROOT / "README.md").read_text()
    assert all(f"figures/{name}" in shown or (ROOT / "figures" / name).exists() for name in figures)


def test_a_notebook_runs_by_itself_under_plain_papermill(executed):
    _, folder = executed  # its runs are there already: what is tested is papermill
    notebook = next(path for path in NOTEBOOKS if path.name.startswith("04"))
    out = folder / "04.ipynb"
    done = command(
        notebook, out, "-p", "profile", "smoke", "--cwd", ROOT / "notebooks", folder=folder, module="papermill"
    )
    assert done.returncode == 0, done.stderr
    for cell in nbformat.read(out, as_version=4).cells:
        assert not any("training" in str(output.get("text", "")) for output in cell.get("outputs", []))


@pytest.mark.parametrize(("value", "says"), [("smok", "'profile': 'smok' is unknown"), ("3", "'profile': 3 is int")])
def test_plain_papermill_refuses_a_wrong_profile(value, says, tmp_path):
    done = command(NOTEBOOKS[0], tmp_path / "out.ipynb", "-p", "profile", value, folder=tmp_path, module="papermill")
    assert done.returncode != 0 and says in done.stderr
