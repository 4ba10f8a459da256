"""The package: imports run one way, importing does nothing, notebooks keep their form."""

import ast
import graphlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from lib.study import notebooks, profiles

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))

STARTS = ["Glossary", "The-other-notebooks"]  # sections of notebook 00 that every other one links to

# From the bottom up: a room may import those before it.
ROOMS = ["machine", "losses", "data", "models", "training", "search", "analysis", "study", "explorer", "exercises"]
FILES = sorted((ROOT / "lib").rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in FILES}


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "lib":
            found |= {name if (name := f"{node.module}.{alias.name}") in MODULES else node.module
                      for alias in node.names}  # fmt: skip
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("lib.")}
    return found - {"lib"}


def test_every_module_is_in_a_room():
    assert {name.split(".")[1] for name in MODULES if name != "lib"} == set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_rooms_import_one_way(path):
    own = name_of(path).split(".")[1:2]
    allowed = ROOMS[: ROOMS.index(own[0]) + 1] if own else []
    assert {name.split(".")[1] for name in imported(path)} <= set(allowed)
    assert "lib.analysis.figures" not in imported(path)


def test_no_module_imports_itself_over_others():
    needs = {name: imported(path) & MODULES.keys() - {name} for name, path in MODULES.items()}
    assert list(graphlib.TopologicalSorter(needs).static_order())  # raises CycleError


@pytest.mark.slow
def test_importing_changes_nothing(tmp_path):
    """Random state, threads, environment, logging and folders are as before."""
    script = f"""
import json, logging, os, random, sys
import numpy, torch, transformers, matplotlib, matplotlib.pyplot, seaborn, pandas, ir_measures, accelerate, bm25s, faiss
transformers.PreTrainedTokenizerFast  # loaded when asked for, and that sets a variable
def state():
    return [random.getstate()[1][:5], numpy.random.get_state()[1][:5].tolist(), torch.random.get_rng_state().tolist()[:20],
            torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), dict(os.environ), os.getcwd(),
            sorted(os.listdir(".")), logging.getLogger().level, len(logging.getLogger().handlers), dict(matplotlib.rcParams),
            transformers.utils.logging.get_verbosity()]
before = repr(state())
for name in {sorted(MODULES)!r}:
    __import__(name)
assert repr(state()) == before
assert "transformers.modeling_utils" not in sys.modules  # seconds, which what loads no model need not wait for
"""
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "STUDY_DATA": str(tmp_path / "data"),
        "HOME": str(tmp_path),
    }
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=tmp_path, env=environment, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_keep_their_form(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith(f"# {path.stem[:2]} ")
    assert "?" in notebook.cells[0].source.splitlines()[0]  # each asks one question
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert notebooks.defaults(path)["profile"] == "laptop"
    assert "assert " in code[-1].source
    if path != NOTEBOOKS[0]:  # whose table of notebooks shows what each says here
        assert re.search(r"\n\n\*Know before:\* notebooks? \d\d", notebook.cells[0].source)
        assert all(f"(00_start.ipynb#{place})" in notebook.cells[0].source for place in STARTS)
    slides = [cell.metadata.get("slideshow", {}).get("slide_type") for cell in notebook.cells]  # for `make slides`
    assert set(slides) <= {"slide", "subslide", "fragment", "notes", "skip"} and slides[0] == "slide"
    assert 8 <= sum(kind in ("slide", "subslide") for kind in slides) <= 15
    drawing = [kind for cell, kind in zip(notebook.cells, slides, strict=True) if "figures.save(" in cell.source]
    assert set(drawing) == {"subslide"}  # each figure has a slide of its own
    for cell in code:
        assert len(cell.source.splitlines()) <= 15, cell.source
        tree = ast.parse(cell.source)
        assert not any(isinstance(node, ast.ClassDef | ast.While) for node in ast.walk(tree))
        # A cell may train by hand, to show how. A path stays forbidden: a notebook finds its files through the kit.
        for forbidden in ("../", "data/", "sys.path"):
            assert forbidden not in cell.source


def test_what_every_notebook_links_to_is_in_the_first():
    cells = nbformat.read(NOTEBOOKS[0], as_version=4).cells
    headings = re.findall(r"^## (.+)$", "\n".join(cell.source for cell in cells), re.MULTILINE)
    assert {heading.replace(" ", "-") for heading in headings} >= {*STARTS}


def test_notebooks_are_numbered_without_a_gap():
    assert [int(path.name[:2]) for path in NOTEBOOKS] == list(range(len(NOTEBOOKS)))


def test_the_kit_speaks_of_no_place_but_its_own():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a checkout: they tell which files are the project's")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.rstrip("\0").split("\0"):
        if Path(name).suffix in {".py", ".md", ".toml", ".yml", ".txt", ".ipynb", ""} and (ROOT / name).is_file():
            text = (ROOT / name).read_text(errors="replace")
            assert "/work/" + "main" not in text and "shared" + "/collections" not in text, name


def test_every_profile_is_a_sound_grid():
    for name in profiles.PROFILES:
        profile = profiles.named(name)
        grid = profile.students()
        assert len(set(grid)) == len(grid)
        assert {run.data.collection for run in grid} == {profile.teacher.data.collection}
        assert all(run.data.group_count == profile.student.data.group_count for run in grid)
        for seed in profile.seeds:  # strategies of a seed are compared from one start
            assert len({run.start for run in grid if run.seed == seed}) <= 1
        assert profile.dev.split == "dev" and all(test.split == "test" for test in profile.tests + profile.further)
        assert not profile.further or [(test.collection, test.skip) for test in profile.further] == [
            (test.collection, test.queries) for test in profile.tests
        ]
        assert profile.name == name
