"""Every notebook executed with the smoke profile, and parameters that must be refused."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from lib import batch, profiles

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


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-p", "profle", "smoke"], "'profle': .* has none of that name"),
        (["-p", "profile", "smok"], "'profile': 'smok' is unknown"),
        (["-p", "profile", "3"], "'profile': 3 is int"),
        (["-p", "measure", "RR@10", "-p", "profile", "smoke"], "'measure': 01_data.ipynb has none"),
        (["nowhere.ipynb"], "nowhere.ipynb: no such notebook"),
    ],
)
def test_the_batch_command_refuses_before_it_runs(arguments, says, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(batch, "_run_all", lambda *_: pytest.fail("it ran"))
    assert batch.main([str(NOTEBOOKS[0]), *arguments]) == 2
    assert pytest.importorskip("re").search(says, capsys.readouterr().err)


def test_a_failing_notebook_is_marked_and_named(tmp_path):
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("profile = 'smoke'"), nbformat.v4.new_code_cell("1 / 0")]
    )
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, tmp_path / "broken.ipynb")
    done = command(tmp_path / "broken.ipynb", "--out", tmp_path / "out", folder=tmp_path)
    assert done.returncode == 1 and "broken.ipynb" in done.stderr and "ZeroDivisionError" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["broken.failed.ipynb"]


def test_only_literals_are_parameters(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("a = len('x')")])
    with pytest.raises(batch.ParameterError, match="0 cells are tagged"):
        nbformat.write(notebook, tmp_path / "a.ipynb")
        batch.defaults(tmp_path / "a.ipynb")
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, tmp_path / "a.ipynb")
    with pytest.raises(batch.ParameterError, match="line 1 of its parameters"):
        batch.defaults(tmp_path / "a.ipynb")


def test_parameters_of_a_notebook_are_checked_by_name():
    with pytest.raises(TypeError, match="'measure': 3 is int, not str"):
        profiles.parameter("measure", 3, str)
    with pytest.raises(ValueError, match="'measure': 'MAP' is unknown; give one of RR"):
        profiles.parameter("measure", "MAP", str, among=("RR",))
