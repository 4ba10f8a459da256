"""Every notebook executed with the smoke profile, and the commands and snippets of the README around them.

STUDY_EXECUTED names a data folder in which the smoke study was just run (`.ci/run`); without it, it is run here.
"""

import ast
import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from lib import losses
from lib.analysis import figures
from lib.machine import outputs
from lib.study import notebooks, profiles
from lib.training.strategies import Term

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
README = (ROOT / "README.md").read_text()
USAGE = README.split("## Using it")[1].split("\n## ")[0]


def python(*arguments, folder):
    """Run Python as a user of the project's folder does, with that data folder."""
    # One thread suits the small tests (see the Makefile); the notebooks run as their users run them.
    threads = {"OMP_NUM_THREADS": str(os.cpu_count())}
    environment = {**os.environ, **threads, "STUDY_DATA": str(folder), "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-W", "ignore", *map(str, arguments)], cwd=ROOT, env=environment,
                          capture_output=True, text=True, check=False)  # fmt: skip


def tracked_figures():
    """Of figures/, without the executed copies in figures/notebooks."""
    paths = (path for folder in ("figures", "figures/tables") for path in (ROOT / folder).glob("*.*"))
    return {path.name: path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A data folder in which all notebooks were executed, and the executed copies."""
    if handed := os.environ.get("STUDY_EXECUTED"):
        folder = Path(handed).absolute()
    else:
        folder, before = tmp_path_factory.mktemp("study"), tracked_figures()
        done = python("-m", "lib.study.batch", *NOTEBOOKS, "-p", "profile", "smoke", folder=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        assert tracked_figures() == before, "running notebooks changed the figures that the README shows"
    copies = sorted((folder / "executed" / "smoke").glob("*.ipynb"))
    return folder, {path.name: nbformat.read(path, as_version=4) for path in copies}


@pytest.mark.notebooks
def test_every_notebook_was_executed_as_it_is(executed):
    _, copies = executed
    assert list(copies) == [path.name for path in NOTEBOOKS]
    for path in NOTEBOOKS:
        code = [cell for cell in copies[path.name].cells if cell.cell_type == "code"]
        run = [cell.source for cell in code if "injected-parameters" not in cell.metadata.tags]
        wanted = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        assert run == wanted, path.name
        assert all(cell.execution_count for cell in code), path.name


@pytest.mark.notebooks
def test_no_progress_and_no_warning_is_in_an_executed_notebook(executed):
    for notebook in executed[1].values():
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                assert output.output_type != "stream" or output.name == "stdout", output
                assert "training 1 of" not in str(output)
            # What a cell prints may come in several pieces.
            kinds = [kind for kind, _ in itertools.groupby(output.output_type for output in cell.get("outputs", []))]
            assert len(kinds) <= 2


@pytest.mark.notebooks
def test_every_notebook_writes_its_figures(executed):
    folder, _ = executed
    figures = sorted(path.name for path in (folder / "figures" / "smoke").glob("*.png"))
    assert {name[:2] for name in figures} == {path.name[:2] for path in NOTEBOOKS}
    # `make figures` copies all of them, tables too: those of the README are these, and none is left over
    tables = [path.name for path in (folder / "figures" / "smoke").iterdir() if path.suffix in (".csv", ".md")]
    assert {*figures, *tables} == {name for name in tracked_figures() if re.match(r"\d\d_", name)}


@pytest.mark.notebooks
def test_every_figure_in_a_notebook_has_an_alternative_text(executed):
    for name, notebook in executed[1].items():
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        pictures = [output for output in outputs if "image/png" in output.get("data", {})]
        assert pictures and all("?" in picture.metadata["image/png"]["alt"] for picture in pictures), name


@pytest.mark.notebooks
@pytest.mark.slow
@pytest.mark.parametrize("command", ["python -m lib.study.batch ", "papermill "])
def test_a_command_of_the_readme_runs_a_notebook(command, executed, tmp_path):
    """Its runs are there already: what is tested is the command."""
    (line,) = (line.split("#")[0].strip() for line in USAGE.splitlines() if line.startswith(command))
    arguments = shlex.split(line)
    if command.startswith("papermill"):
        copy = arguments[arguments.index("out.ipynb")] = str(tmp_path / "out.ipynb")
        arguments = ["-m", *arguments]
    else:
        copy, arguments = tmp_path / Path(arguments[3]).name, [*arguments[1:], "--out", tmp_path]
    done = python(*arguments, folder=executed[0])
    assert done.returncode == 0, done.stderr
    for cell in nbformat.read(copy, as_version=4).cells:
        said = [str(output.get("text", "")) for output in cell.get("outputs", [])]
        assert not any(re.search(r"^\s*training( \d+ of|:)", text, re.MULTILINE) for text in said)


@pytest.mark.notebooks
@pytest.mark.slow
def test_the_experiment_of_the_readme_trains_and_opens(executed, tmp_path):
    folder, _ = executed
    twelfth, snippet, own = (
        one for one in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "tables.results(" in one
    )
    assert '"my-ranker"' in snippet
    exported = str(tmp_path / "my-ranker")
    script = f"""
{snippet.replace('"my-ranker"', repr(exported))}
from sentence_transformers import CrossEncoder
assert set(table["strategy"]) == {{"kl"}} and set(table["seed"]) == {{3}}
assert CrossEncoder({exported!r}).predict([("a query", "a document")]).shape == (1,)
{own}
assert set(table["strategy"]) == {{"soft_hinge"}} and table["value"].notna().any()
{twelfth}
assert set(table["strategy"]) == {{"where certain"}} and table["value"].notna().any()
"""
    laptop, smoke = ('profiles.named("laptop")', 'profiles.named("smoke")')
    assert script.count(laptop) == 2
    done = python("-c", script.replace(laptop, smoke), folder=folder)
    assert done.returncode == 0, done.stderr


def test_the_strategy_of_the_readme_is_the_kits():
    (snippet,) = (one for one in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if one.startswith("Strategy("))
    from lib.training import strategies

    written = eval(snippet, {"Strategy": strategies.Strategy, "Term": Term, "losses": losses})
    assert written == strategies.named(written.name)


@pytest.mark.parametrize(("value", "says"), [("smok", "'profile': 'smok' is unknown"), ("3", "'profile': 3 is int")])
def test_plain_papermill_refuses_a_wrong_profile(value, says, tmp_path):
    done = python("-m", "papermill", NOTEBOOKS[0], tmp_path / "out.ipynb", "-p", "profile", value, folder=tmp_path)
    assert done.returncode != 0 and says in done.stderr


@pytest.mark.parametrize("profile", sorted(profiles.PROFILES))
def test_no_figure_of_a_run_is_one_that_the_readme_shows(profile, monkeypatch):
    monkeypatch.delenv("STUDY_DATA")  # the project's own data folder
    plain, other = figures.folder(profile), figures.folder(profile, measure="nDCG@10")
    assert plain == ROOT / "data" / "figures" / profile and other == plain / "measure=nDCG@10"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_defaults_are_those_that_figures_are_filed_by(path):
    own = {name: value for name, value in notebooks.defaults(path).items() if name != "profile"}
    assert own.items() <= outputs.DEFAULTS.items()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_figure_is_filed_by_the_parameters_of_its_cell(path):
    names = {name for name in notebooks.defaults(path) if name != "profile"}
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if "figures.save(" in cell.source]
    assert cells  # each notebook answers with a figure
    for source in cells:
        nodes = list(ast.walk(ast.parse(source)))
        (save,) = (node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "figures.save")
        used = {node.id for node in nodes if isinstance(node, ast.Name)} & names
        assert used <= {keyword.arg for keyword in save.keywords} <= names, source
