"""From paper to cell: what PAPERS.md names is there, and it says what the kept tables have; so do the teaching plans."""

import pkgutil
import re
from functools import cache
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from lib.exercises import check
from lib.study import readme

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
TABLES = readme.FIGURES / "tables"
TEXT = (NOTEBOOKS / "PAPERS.md").read_text()
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and "](" in line]
PLACE = re.compile(r"\[(\d\d)\]\(([^)#]+)#cell-id=([\w-]+)\), \*([^*]+)\*")
WORDS = ("held", "did not hold", "not resolvable", "not in the table yet", "exact", "shown there", "not repeated")
HOLDS = {  # claim of notebook 12 -> the verdicts with which the paper's direction holds
    "KL, larger teacher, vs labels": {"better"},
    "Margin-MSE, larger teacher, vs labels": {"better"},
    "Margin-MSE, teacher of the same size, vs labels": {"worse", "equivalent"},
    "six layers: Margin-MSE vs labels": {"better"},
    "Margin-MSE vs RankNet on labels": {"better"},
    "Margin-MSE vs pointwise MSE": {"better"},
    "two teachers vs one": {"better"},
    "PreTTR: Margin-MSE vs RankNet": {"better"},
    "ColBERT: Margin-MSE vs RankNet": {"better"},
    "bi-encoder: Margin-MSE vs RankNet": {"better"},
    "TK: Margin-MSE vs RankNet": {"better"},
    "adaptive margins vs a teacher": {"better", "equivalent"},
    "distributed margins vs a teacher": {"better", "equivalent"},
}


@cache
def sections(name):
    """Cell id -> the headings above it from the last one of level 1 or 2 on; and all headings, under ""."""
    found, current = {"": []}, []
    for cell in nbformat.read(NOTEBOOKS / name, as_version=4).cells:
        if cell.cell_type == "markdown":
            for marks, heading in re.findall(r"^(#+) (.+)$", cell.source, re.MULTILINE):
                current = [heading] if len(marks) <= 2 else [*current, heading]
                found[""].append(heading)
        found[cell.id] = current
    return found


def columns(row):
    return [cell.strip() for cell in row.strip("| ").split(" | ")]


def test_all_three_papers_have_rows():
    for paper in ("2507.08336", "2010.02666", "2407.21515"):
        assert f"https://arxiv.org/abs/{paper}" in TEXT
    assert len(ROWS) >= 30


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:50].strip())
def test_a_row_names_what_is_there(row):
    _, source, place, functions, held = columns(row)
    assert re.match(r"abstract|secondary page|authors'|code of|memory|figure \d", source)
    assert PLACE.fullmatch(place), "one cell repeats it"
    assert row.count(".ipynb") == len(PLACE.findall(row)), "a link leads to a cell, and its section follows"
    for number, name, cell, section in PLACE.findall(row):
        assert name.startswith(f"{number}_")
        assert section in sections(name).get(cell, ()), f"{name}, section {section!r}, has no cell {cell!r}"
    for also in re.findall(r"\*([A-Z][^*]+)\* there\b", held):  # a section of the same notebook
        assert also in sections(PLACE.findall(held)[-1][1])[""], also
    named = re.findall(r"`(lib\.[\w.]+)`", functions + held)
    assert named, "no function is named"
    for one in named:
        assert callable(pkgutil.resolve_name(one)), one
    said = re.findall(r"\*\*([^*]+)\*\*", held)
    assert said and {*said} <= {*WORDS}


# Whether it held -------------------------------------------------------------------------------------------------------


def kept(name, index=0):
    return pd.read_csv(TABLES / f"{name}.csv", index_col=index)


def of_claim(claim):
    """What PAPERS.md should say of a claim of notebook 12."""
    table = kept("12_verdicts")
    if claim not in table.index:
        return f'"{claim}": **not in the table yet**'
    verdicts = table.loc[[claim]].set_index("where")["verdict"]
    words = {
        where: verdict if verdict == "not resolvable" else "held" if verdict in HOLDS[claim] else "did not hold"
        for where, verdict in verdicts.items()
    }
    return f'"{claim}": ' + ", ".join(f"{where} **{word}**" for where, word in words.items())


def ahead(first, second):
    found = kept("07_differences", [0, 1])["ahead"][first, second]
    return {"first": "held", "second": "did not hold", "undecided": "not resolvable"}[found]


def of_means():
    """Distilled against contrastive students, as notebook 05 has it: in-domain and out-of-domain."""
    signs = {
        "is better": "held",
        "is worse": "did not hold",
        "is equivalent": "did not hold",
        "not resolvable": "not resolvable",
    }
    lines = (TABLES / "05_answer.md").read_text().splitlines()
    return [next(word for sign, word in signs.items() if sign in line) for line in lines]


def of_data():
    """Whether the largest share of the data that is no larger than the paper's was enough for both adaptive losses."""
    found = kept("08_claims", 0)
    tried = found[found["share of the data"] <= 0.135]
    words = set(tried.loc[tried["share of the data"] == tried["share of the data"].max(), "verdict"])
    if words <= {"better", "equivalent"}:
        return "held"
    return "not resolvable" if "not resolvable" in words else "did not hold"


def of_search():
    seconds = kept("10_cost")["all in, seconds"]
    own = seconds[["own margins, adaptive", "own margins, distributed"]]
    return "held" if seconds["fixed margin, searched"] / own.max() >= 3 else "did not hold"


def test_every_claim_of_the_verdicts_is_as_the_table_has_it():
    claims = re.findall(r'"([^"]+)": ', " ".join(columns(row)[-1] for row in ROWS))
    assert {*claims} == {*HOLDS}
    notebook = (NOTEBOOKS / "12_verdict.ipynb").read_text()
    for claim in HOLDS:
        assert f'\\"{claim}\\": (' in notebook, f"notebook 12 has no claim {claim!r}"
        assert of_claim(claim) in TEXT, "what the table has: change PAPERS.md"


@pytest.mark.parametrize("starts, words", [
    ("The same, as the mean of the distilled students", of_means()),
    ("Table of losses: Margin-MSE is ahead of labels |", [ahead("margin_mse", "labels")]),
    ("Table of losses: Margin-MSE is ahead of pointwise MSE", [ahead("margin_mse", "mse")]),
    ("Table of losses: Margin-MSE is ahead of weighted RankNet", [ahead("margin_mse", "weighted_ranknet")]),
    ("Table of results: the mean of several teachers", [ahead("margin_mse, ensemble", "margin_mse")]),
    ("With 13.5 % of the data", [of_data()]),
    ("Trained 3 to 15 times faster", [of_search()]),
])  # fmt: skip
def test_what_held_is_as_the_tables_have_it(starts, words):
    (row,) = (row for row in ROWS if row.startswith(f"| {starts}"))
    said = re.findall(r"\*\*([^*]+)\*\*", columns(row)[-1].partition('"')[0])
    assert said == words, "what the table has: change PAPERS.md"


def test_no_other_row_says_that_a_direction_held():
    """Those that no table decides have a formula, a picture, or nothing."""
    for row in ROWS:
        held = columns(row)[-1]
        judged = '": ' in held or re.match(r"\| (The same, as the mean|Table of|With 13|Trained 3)", row)
        assert judged or not re.search(r"\*\*(held|did not hold|not resolvable)\*\*", held), row


def test_no_number_of_a_paper_is_there_but_those_of_abstracts():
    """Numbers from memory are not printed as a paper's."""
    numbers = set(re.findall(r"(?<![\w.])\d*\.\d+|\d+ %", TEXT)) - {"2507.08336", "2010.02666", "2407.21515"}
    assert numbers == {"0.5", "13.5"}  # billions of weights, % of the data


PLANS = (NOTEBOOKS / "README.md").read_text()


def test_the_session_plans_name_sections_and_exercises_that_are_there():
    """Sections in italics, after a notebook's link and up to the next one; exercises in code."""
    for name, after in re.findall(
        r"\[\d\d\]\(([^)]+)\)(.*?)(?=\[\d\d\]\(|\n\n|\Z)", " ".join(PLANS.split("  ")), re.DOTALL
    ):
        for section in re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", " ".join(after.split())):
            if not section.endswith(":"):
                assert section in sections(name)[""], f"{name} has no section {section!r}"
    exercises = re.findall(r"`(\w+)`", PLANS)
    known = {"STUDY_DATA", "Experiment", "cross_entropy", "kl_div"}
    assert {name for name in exercises if name not in known} <= set(check.__all__)
    assert len(set(exercises) & set(check.__all__)) >= 15
