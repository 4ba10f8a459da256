"""From paper to cell: every notebook, section, function and claim that PAPERS.md names is there."""

import pkgutil
import re
from pathlib import Path

import nbformat
import pytest

from lib.exercises import check

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
TEXT = (NOTEBOOKS / "PAPERS.md").read_text()
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and "](" in line and "---" not in line]


def sections(name):
    cells = nbformat.read(NOTEBOOKS / name, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.findall(r"^#+ (.+)$", text, re.MULTILINE)


def test_all_three_papers_have_rows():
    for paper in ("2507.08336", "2010.02666", "2407.21515"):
        assert f"https://arxiv.org/abs/{paper}" in TEXT
    assert len(ROWS) >= 20


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:50].strip())
def test_a_row_names_what_is_there(row):
    _, _, place, functions, held = (cell.strip() for cell in row.strip("| ").split(" | "))
    links = re.findall(r"\[\d\d\]\(([^)]+)\), \*([^*]+)\*", f"{place}; {held}")
    assert links, "no notebook is named"
    for name, section in links:
        assert section in sections(name), f"{name} has no section {section!r}"
    named = re.findall(r"`(lib\.[\w.]+)`", functions)
    assert named, "no function is named"
    for one in named:
        assert callable(pkgutil.resolve_name(one)), one
    claims = "\n".join(cell.source for cell in nbformat.read(NOTEBOOKS / "12_verdict.ipynb", as_version=4).cells)
    for claim in re.findall(r'"([^"]+)"', held):
        assert f'"{claim}": (' in claims, f"notebook 12 has no claim {claim!r}"


def test_no_number_of_a_paper_is_there_but_those_of_abstracts():
    """Numbers from memory are not printed as a paper's."""
    numbers = set(re.findall(r"(?<![\w.])\d*\.\d+|\d+ %", TEXT)) - {"2507.08336", "2010.02666", "2407.21515"}
    assert numbers == {"13.5"}


PLANS = (NOTEBOOKS / "README.md").read_text()


def test_the_session_plans_name_sections_and_exercises_that_are_there():
    """Sections in italics, after a notebook's link and up to the next one; exercises in code."""
    for name, after in re.findall(
        r"\[\d\d\]\(([^)]+)\)(.*?)(?=\[\d\d\]\(|\n\n|\Z)", " ".join(PLANS.split("  ")), re.DOTALL
    ):
        for section in re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", " ".join(after.split())):
            if not section.endswith(":"):
                assert section in sections(name), f"{name} has no section {section!r}"
    exercises = re.findall(r"`(\w+)`", PLANS)
    known = {"STUDY_DATA", "Experiment", "kl_div"}
    assert {name for name in exercises if name not in known} <= set(check.__all__)
    assert len(set(exercises) & set(check.__all__)) >= 15
