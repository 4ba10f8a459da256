"""Exercises: solutions pass, stubs fail, and what a learner would plausibly get wrong is named in one sentence."""

import ast
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from lib import losses
from lib.analysis import calibration, significance
from lib.exercises import check, learners, verdicts
from lib.exercises.examine import Exercise
from lib.losses import selective

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("[0-9]*.ipynb"))
EXERCISES = {name: one for name in check.__all__ if isinstance(one := getattr(check, name), Exercise)}
EXACT = [name for name, exercise in EXERCISES.items() if exercise.right is not None]


def cells_of(path):
    return nbformat.read(path, as_version=4).cells


def solutions(path):
    """Name -> source of a notebook's solutions."""
    found = [cell.source for cell in cells_of(path) if "solution" in cell.metadata.get("tags", [])]
    return {ast.parse(source).body[0].name: source for source in found}


SOLUTIONS = {name: (path, source) for path in NOTEBOOKS for name, source in solutions(path).items()}


def defined(name, source):
    """The function of a cell, in the notebook's imports."""
    path, _ = SOLUTIONS[name]
    code = [cell.source for cell in cells_of(path) if cell.cell_type == "code"]
    imports = [node for text in code for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
    space = {}
    exec("\n".join(map(ast.unparse, imports)), space)
    exec(source, space)
    return space[name]


def fault(name, function):
    """What the check says of a function."""
    with pytest.raises(check.NotYet) as caught:
        EXERCISES[name](function)
    return str(caught.value)


# ---- the notebooks --------------------------------------------------------------------------------------------------


def test_every_check_has_its_exercise():
    assert set(SOLUTIONS) == set(EXERCISES)


@pytest.mark.parametrize("name", SOLUTIONS)
def test_a_solution_passes(name, capsys):
    assert EXERCISES[name](defined(name, SOLUTIONS[name][1])) is None
    assert capsys.readouterr().out == f"Right. {EXERCISES[name].praise}\n"


@pytest.mark.parametrize("name", SOLUTIONS)
def test_a_stub_fails(name):
    stub = learners.stub(SOLUTIONS[name][1])
    assert fault(name, defined(name, stub)).startswith("The function is not written yet")
    assert len(stub.splitlines()) < len(SOLUTIONS[name][1].splitlines()) + 1


ALL = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@ALL
def test_a_notebook_has_two_to_four_exercises_from_easy_to_open(path):
    cells = cells_of(path)
    headings = [cell.source.splitlines()[0] for cell in cells if cell.source.startswith("## ")]
    assert headings[-3:] == ["## Exercises", "## Checks", "## Questions for discussion"]
    places = [number for number, cell in enumerate(cells) if "solution" in cell.metadata.get("tags", [])]
    assert 2 <= len(places) <= 4
    levels = []
    for count, place in enumerate(places, 1):
        task, solution, checked = cells[place - 1 : place + 2]
        name = ast.parse(solution.source).body[0].name
        assert checked.source == f"check.{name}({name})"
        assert task.source.startswith(f"### Exercise {count}: ")
        (level,) = re.findall(
            r"^\*\d+ minutes, (easy|medium|open), importance (?:low|medium|high)\.\*", task.source, re.M
        )
        levels.append(level)
    assert levels == sorted(levels, key=["easy", "medium", "open"].index)
    assert levels[0] == "easy" and levels[-1] == "open"


@ALL
def test_an_exercise_changes_nothing_for_the_cells_after_it(path):
    """A learner who leaves the exercises out can still run the rest."""
    for cell in cells_of(path):
        if cell.cell_type == "code" and "solution" not in cell.metadata.get("tags", []) and "check." not in cell.source:
            named = {node.id for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)}
            assert not named & set(solutions(path)), cell.source


@ALL
def test_every_question_has_a_folded_answer_that_points_to_a_place(path):
    everywhere = "\n".join(cell.source for other in NOTEBOOKS for cell in cells_of(other))
    headings = {" ".join(line.lstrip("# ").split()) for line in everywhere.splitlines() if line.startswith("## ")}
    text = cells_of(path)[-1].source
    asked = re.split(r"^\d\. ", text, flags=re.M)[1:]
    assert asked and all(len(re.findall("<details><summary>Answer</summary>", one)) == 1 for one in asked)
    for question in asked:
        answer = " ".join(question.split("<summary>Answer</summary>")[1].split())
        marked = set(re.findall(r"\*([^*]+)\*", answer))
        assert marked & headings or "at the top" in answer, answer
        assert not [one for one in marked if one.endswith("?") and one not in headings], answer
        assert not re.search(r"[ (]\.\d\d|0\.\d\d\d", answer)  # no result, which another profile would change


# ---- the learners' copies -------------------------------------------------------------------------------------------


def test_learners_copies_have_stubs_in_place_of_solutions(tmp_path, capsys):
    assert learners.main(["--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in NOTEBOOKS]
    for path in NOTEBOOKS:
        copied = nbformat.read(tmp_path / path.name, as_version=4)
        nbformat.validate(copied)
        whole = "\n".join(cell.source for cell in copied.cells)
        for name, source in solutions(path).items():
            assert source not in whole and learners.stub(source) in whole and f"check.{name}({name})" in whole
        before = [
            cell.source.replace("](PAPERS.md", "](../PAPERS.md")
            for cell in cells_of(path)
            if "solution" not in cell.metadata.get("tags", [])
        ]
        assert [cell.source for cell in copied.cells if "NotImplementedError" not in cell.source] == before


def test_a_learners_work_is_kept(tmp_path, capsys):
    learners.main(["--out", str(tmp_path)])
    mine = tmp_path / NOTEBOOKS[0].name
    mine.write_text("my work")
    learners.main(["--out", str(tmp_path)])
    assert mine.read_text() == "my work" and f"{mine} is there already" in capsys.readouterr().out
    learners.main(["--out", str(tmp_path), "--overwrite"])
    assert mine.read_text() != "my work"


@pytest.mark.parametrize("source", ["x = 1", "def f(x):\n    return x", 'def f():\n    """One."""\n\n\ny = f()'])
def test_a_solution_is_one_function_with_a_docstring(source):
    with pytest.raises(ValueError, match="one function with a docstring"):
        learners.stub(source)


def test_in_a_notebook_the_sentence_stands_alone():
    from IPython.core.interactiveshell import InteractiveShell

    assert check.NotYet("A sentence.")._render_traceback_() == ["Not yet: A sentence."]
    assert hasattr(InteractiveShell, "showtraceback")  # which asks an error for its own rendering


# ---- what is said of wrong solutions --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXERCISES)
def test_every_named_error_is_told_from_the_others(name):
    exercise = EXERCISES[name]
    for says in (*exercise.slips, *exercise.wraps, *exercise.demands):
        assert re.fullmatch(r"[A-Z0-9].*[.]", says), says
    if exercise.right is not None:
        assert len(exercise.wrong()) >= 8
        for says, function in exercise.wrong().items():
            assert fault(name, function) == says


@pytest.mark.parametrize("name", EXACT)
def test_the_right_function_passes_and_is_left_alone_by_its_check(name, capsys):
    EXERCISES[name](EXERCISES[name].right)


def rows(scores):
    return torch.arange(len(scores)) % scores.shape[1]


def halves(scores, teacher, own, teachers):
    return (scores / own).softmax(-1), (teacher / teachers).softmax(-1)


def in_place(scores):
    scores -= scores.max(-1, keepdim=True).values
    return scores.exp().sum(-1).log() - scores[:, 0]


def looped(scores):
    return torch.tensor([float(F.cross_entropy(row[None], torch.tensor([0]))) for row in scores])


def summed(grades, base=2.0, depth=10):
    return (grades[:depth] / (np.log(np.arange(2, len(grades) + 2)) / np.log(base))[:depth]).sum()


def ranked(scores):
    return np.argsort(np.argsort(-scores, kind="stable"))


def first_grade(scores, grades):
    return grades[np.arange(len(grades)), scores.argmax(1)]


def arc(one, two, share, angle):
    return (torch.sin((1 - share) * angle) * one + torch.sin(share * angle) * two) / torch.sin(angle)


def cut(values, size):
    return [values[start : start + size] for start in range(0, len(values), size)]


# Written as a learner would, without a look at the checks' own lists. Name, function, words of the sentence.
WRONG = [
    ("info_nce", lambda s: F.cross_entropy(s, torch.zeros(len(s), dtype=torch.long)), "mean over the queries"),
    ("info_nce", lambda s: -F.log_softmax(s, dim=0)[:, 0], r"dim 0"),
    ("info_nce", lambda s: -torch.log(torch.softmax(s, -1))[:, -1], "last column .* column 0"),
    ("info_nce", lambda s: -F.softmax(s, -1)[:, 0], "logarithm is missing"),
    ("info_nce", lambda s: -torch.log(torch.softmax(s, -1))[:, 0], "10,000.*log_softmax"),
    ("info_nce", lambda s: s[:, 0] - torch.logsumexp(s, -1), "sign is wrong"),
    ("info_nce", lambda s: F.cross_entropy(s, s.argmax(-1), reduction="none"), "highest score"),
    ("info_nce", lambda s: F.cross_entropy(s, rows(s)), "rows' own numbers.*mean over the queries"),
    ("info_nce", lambda s: torch.logsumexp(s[:, 1:], -1) - s[:, 0], "positive is missing"),
    ("info_nce", looped, "No gradient reaches"),
    ("info_nce", in_place, "in place"),
    ("info_nce", lambda s: -s.log_softmax(-1), "reduction .* is missing"),
    ("info_nce", lambda s: 3 * (s.logsumexp(-1) - s[:, 0]), "always 3 times"),
    ("info_nce", lambda s: s.logsumexp(-1) - s[:, 0] + 1, "plus 1"),
    ("info_nce", lambda s: s.square().sum(-1) - s[:, 0], "constant to all scores"),
    ("info_nce", lambda s: (s[:, 1:].mean(-1) - s[:, 0]).exp(), r"For \[\[.* right is|10,000"),
    ("info_nce", lambda s: s @ torch.ones(7), "raises RuntimeError"),
    ("info_nce", lambda s: None, "returns nothing"),
    ("info_nce_gradient", lambda s: s.softmax(0) - torch.eye(len(s), s.shape[1]), "sum to zero|shape"),
    ("info_nce_gradient", lambda s: (s.softmax(-1) - F.one_hot(torch.zeros(len(s)).long(), s.shape[1])) / len(s), "number of queries"),
    ("ranknet", lambda s: F.softplus(s[:, :1] - s[:, 1:]).mean(-1), "margin has the wrong sign"),
    ("ranknet", lambda s: torch.log(1 + torch.exp(s[:, 1:] - s[:, :1])).sum(-1), "number of negatives"),
    ("ranknet", lambda s: torch.log(1 + torch.exp(s[:, 1:] - s[:, :1])).mean(-1), "10,000.*softplus"),
    ("ranknet", lambda s: F.relu(1 - s[:, :1] + s[:, 1:]).mean(-1), "hinge"),
    ("margin_mse", F.mse_loss, "not margins.*mean over the queries"),
    ("margin_mse", lambda s, t: ((s[:, :1] - s[:, 1:]) - (t[:, :1] - t[:, 1:])).square().sum(-1), "number of negatives"),
    ("margin_mse", lambda s, t: ((s[:, :1] - s) - (t[:, :1] - t)).square().mean(-1), "itself"),
    ("margin_mse", lambda s, t: ((s[:, :1] - s[:, 1:]) - (t[:, :1] - t[:, 1:])).square().mean(0), "wrong axis"),
    ("margin_mse", lambda s, t: losses.margin_mse(s.detach(), t), "gradient"),
    ("kl", lambda s, t, a, b: (F.softmax(t / b, -1) * (F.log_softmax(t / b, -1) - F.log_softmax(s / b, -1))).sum(-1) * a**2, "divides the student too"),
    ("kl", lambda s, t, a, b: (F.softmax(t / a, -1) * (F.log_softmax(t / a, -1) - F.log_softmax(s / a, -1))).sum(-1) * a**2, "divides the teacher too"),
    ("kl", lambda s, t, a, b: losses.kl(s * a, t * b) * a**2, "multiplies .* divides"),
    ("kl", lambda s, t, a, b: F.kl_div(F.softmax(s / a, -1), F.softmax(t / b, -1), reduction="none").sum(-1) * a**2, "log-softmax is due"),
    ("kl", lambda s, t, a, b: F.kl_div(F.log_softmax(s / a, -1), F.softmax(t / b, -1), reduction="none").mean(-1) * a**2, "number of documents"),
    ("kl", lambda s, t, a, b: F.kl_div(F.log_softmax(s / a, -1), F.softmax(t / b, -1), reduction="none").sum(-1), "square of the student's temperature"),
    ("kl", lambda s, t, a, b: losses.kl(s, t, temperature=a, target_temperature=b) / a, "should be its square"),
    ("kl", lambda s, t, a, b: losses.kl(t, s, temperature=a, target_temperature=b), "swapped"),
    ("kl", lambda s, t, a, b: F.kl_div(F.log_softmax(t / b, -1), F.log_softmax(s / a, -1), reduction="none", log_target=True).sum(-1) * a**2, "other way"),
    ("kl", lambda s, t, a, b: -(F.softmax(t / b, -1) * F.log_softmax(s / a, -1)).sum(-1) * a**2, "entropy is missing"),
    ("kl", lambda s, t, a, b: losses.kl(s, t, temperature=a, target_temperature=b).mean(), "mean over the queries"),
    ("kl", lambda s, t, a, b: F.kl_div(F.log_softmax(s / a, -1), F.softmax(t / b, -1)) * a**2, "number of documents.*mean over the queries"),
    ("kl", lambda s, t, a, b: (halves(s, t, a, b)[1] * (halves(s, t, a, b)[1].log() - (halves(s, t, a, b)[0] + 1e-3).log())).sum(-1) * a**2, "not 0|10,000|For"),
    ("adaptive_loss", lambda q, p, n: ((q * (p - n)).sum(-1).detach() - (1 + (p * n).sum(-1)) / 2) ** 2, "wrong side"),
    ("adaptive_loss", lambda q, p, n: ((q * (p - n)).sum(-1) - (1 + (p * n).sum(-1)) / 2) ** 2, "not held constant"),
    ("adaptive_loss", lambda q, p, n: ((q @ p.T - q @ n.T) - ((1 + p @ n.T) / 2).detach()) ** 2, "shape"),
    ("adaptive_target", lambda p, n: (1 + p @ n.T) / 2, "shape|broadcast|meets"),
    ("adaptive_target", lambda p, n: F.cosine_similarity(p, n), "cosine itself"),
    ("maxsim", lambda q, d: (q @ d.T).max(0).values.sum(), "other way round"),
    ("maxsim", lambda q, d: (q @ d.T).max(1).values.mean(), "mean over query tokens"),
    ("masked_maxsim", lambda q, d, m: (torch.einsum("td,kld->ktl", q, d) * m[:, None]).amax(-1).sum(-1), "beats a negative"),
    ("score_margins", lambda s: np.diff(s), "Neighbouring|sign|For"),
    ("correct", lambda t: float((t[t.grade > 0].score.to_numpy()[:, None] > t[t.grade == 0].score.to_numpy()).mean()), "within a query|For"),
    ("guessing_loss", lambda docs: 1 / docs, "probability"),
    ("departure", lambda losses, guess, window: float(np.argmax(losses < guess - 0.1)), "smoothed|single|For|NaN"),
    ("holm", lambda p: np.minimum(p * len(p), 1), "Bonferroni"),
    ("holm", lambda p: np.minimum(np.sort(p) * np.arange(len(p), 0, -1), 1), "sorted|For"),
    ("effect", lambda a, b: (a - b).mean() / (a - b).std(), "ddof=1"),
    ("rr_at_10", lambda s, g: 1 / float(np.argmax(g[np.argsort(-s)][:10] > 0)) if g[np.argsort(-s)][:10].any() else 0.0, "counted from 0"),
    ("rr_at_10", lambda s, g: max((1 / rank for rank, one in enumerate(g[np.argsort(-s)], 1) if one), default=0), "cut is missing"),
    ("rr_at_10", lambda s, g: np.mean([1 / rank for rank, one in enumerate(g[np.argsort(-s)][:10], 1) if one] or [0]), "mean over the relevant"),
    ("rr_at_10", lambda s, g: min((1 / rank for rank, one in enumerate(g[np.argsort(-s)][:10], 1) if one), default=0), "last relevant"),
    ("rr_at_10", lambda s, g: max((1 / rank for rank, one in enumerate(g[np.argsort(s)][:10], 1) if one), default=0), "lowest score first"),
    ("rr_at_10", lambda s, g: max((1 / rank for rank, one in enumerate(g[:10], 1) if one), default=0), "order given"),
    ("rr_at_10", lambda s, g: 1 / (1 + np.flatnonzero(g[np.argsort(-s)][:10])[0]), "IndexError"),
    ("rr_at_10", lambda s, g: 1 / (1 + (s > s[0]).sum()) if (s > s[0]).sum() < 10 else 0, "Column 0"),
    ("rr_at_10", lambda s, g: 1 / min(rank for rank, one in enumerate(g[np.argsort(-s)][:10], 1) if one), "minimum of nothing"),
    ("ndcg_at_10", lambda g: sum(x / np.log2(i + 1) for i, x in enumerate(g[:10], 1)), "ideal ranking is missing"),
    ("ndcg_at_10", lambda g: summed(2.0**g - 1) / (summed(np.sort(2.0**g - 1)[::-1]) or 1), r"2\^g - 1"),
    ("ndcg_at_10", lambda g: summed(g, base=np.e, depth=99) / (summed(np.sort(g)[::-1], base=np.e, depth=99) or 1), "cut is missing"),
    ("ndcg_at_10", lambda g: summed(g) / (summed(np.sort(g[:10])[::-1]) or 1), "first ten alone"),
    ("ndcg_at_10", lambda g: summed(g) / summed(np.sort(g)) if summed(np.sort(g)) else 0, "lowest grade first"),
    ("ndcg_at_10", lambda g: summed(g) / summed(np.sort(g)[::-1]), "0 / 0|divides by zero"),
    ("ndcg_at_10", lambda g: summed(g > 0) / (summed(np.sort(g > 0)[::-1]) or 1), "count alike"),
    ("group_gradient", lambda s, t: F.softmax(s / t, 0) - F.one_hot(torch.tensor(0), len(s)), "inner derivative"),
    ("group_gradient", lambda s, t: (F.softmax(s, 0) - F.one_hot(torch.tensor(0), len(s))) / t, "divide them by the temperature first"),
    ("group_gradient", lambda s, t: (F.one_hot(torch.tensor(0), len(s)) - F.softmax(s / t, 0)) / t, "sign is wrong"),
    ("group_gradient", lambda s, t: F.softmax(s / t, 0) / t, "label is missing"),
    ("group_gradient", lambda s, t: torch.logsumexp(s / t, 0) - s[0] / t, "loss itself"),
    ("group_gradient", lambda s, t: ((s / t).exp() / (s / t).exp().sum() - F.one_hot(torch.tensor(0), len(s))) / t, "10,000"),
    ("verdict", lambda low, high, a, b, within: "better" if low > 0 else "worse" if high < 0 else "equivalent", "taken for equality"),
    ("verdict", lambda low, high, a, b, within: "equivalent" if -within < a and b < within else "better" if low > 0 else "worse" if high < 0 else "not resolvable", "Equivalence comes first"),
    ("verdict", lambda low, high, a, b, within: "better" if low > 0 else "worse" if high < 0 else "equivalent" if max(-low, high) < within else "not resolvable", "95 % interval is held"),
    ("verdict", lambda low, high, a, b, within: "better" if a > 0 else "worse" if b < 0 else "equivalent" if max(-a, b) < within else "not resolvable", "read from the 90 %"),
    ("verdict", lambda low, high, a, b, within: "better" if low > within else "worse" if high < -within else "equivalent" if max(-a, b) < within else "not resolvable", "exceed the bound"),
    ("verdict", lambda low, high, a, b, within: "Better" if low > 0 else "worse", "For .*Better.* right is 'better'|For"),
    ("verdict", lambda low, high, a, b, within: low > 0, "one of the words 'better'"),
    ("verdict", lambda low, high, a, b, within: "better" if low > 0 else None, "every branch"),
    ("rejected", lambda p, level: p < level / len(p), "Bonferroni"),
    ("rejected", lambda p, level: p <= level / (len(p) - np.argsort(np.argsort(p))), "running maximum"),
    ("rejected", lambda p, level: np.cumprod(np.sort(p) <= level / np.arange(1, len(p) + 1))[np.argsort(np.argsort(p))], "divisor runs the wrong way"),
    ("rejected", lambda p, level: np.cumprod(np.sort(p) <= level / np.arange(len(p), 0, -1)), "sorted by p"),
    ("rejected", lambda p, level: np.cumprod(p <= level / np.arange(len(p), 0, -1)), "not sorted first"),
    ("rejected", lambda p, level: p * len(p), "For"),
    ("moved", lambda before, after: ranked(after) - ranked(before), "sign is wrong"),
    ("moved", lambda before, after: np.argsort(-before, kind="stable") - np.argsort(-after, kind="stable"), "argsort of that"),
    ("moved", lambda before, after: pd.Series(-before).rank().to_numpy() - pd.Series(-after).rank().to_numpy(), "share the mean"),
    ("moved", lambda before, after: np.array([(before > one).sum() - (after > other).sum() for one, other in zip(before, after, strict=True)]), "best rank"),
    ("moved", lambda before, after: np.argsort(np.argsort(before, kind="stable")[::-1]) - np.argsort(np.argsort(after, kind="stable")[::-1]), "last document is ranked higher"),
    ("moved", lambda before, after: ranked(-before) - ranked(-after), "lowest score has rank 1|For"),
    ("only_a_right", lambda a, b, g: first_grade(a, g) > 0, "both get right count too"),
    ("only_a_right", lambda a, b, g: (first_grade(a, g) > 0) != (first_grade(b, g) > 0), "exclusive or"),
    ("only_a_right", lambda a, b, g: first_grade(a, g) > first_grade(b, g), "Grades are compared"),
    ("only_a_right", lambda a, b, g: (first_grade(-a, g) > 0) & (first_grade(-b, g) == 0), "lowest score"),
    ("only_a_right", lambda a, b, g: np.mean((first_grade(a, g) > 0) & (first_grade(b, g) == 0)), "share of such queries"),
    ("reciprocal_rank", lambda names, good, depth: 1 / (names.index(next(n for n in names if n in good))), "raises|counted from 0"),
    ("reciprocal_rank", lambda names, good, depth: next((1 / i for i, n in enumerate(names, 1) if n in good), 0), "depth is ignored"),
    ("share_of_leaks", lambda train, test: test.document.isin(train.document).mean(), "not queries"),
    ("recall", lambda found, exact, depth: (found[:, :depth] == exact[:, :depth]).mean(), "one by one"),
    ("search", lambda q, d, depth: np.argsort(q @ d.T)[:, -depth:], "best comes last|For"),
    ("all_in", lambda own, teacher, pairs, rate, students: own + (teacher + pairs * rate) / students, "multiplied by the rate"),
    ("frontier", lambda q, c: q >= q.max(), "cheaper"),
    ("mutual_targets", lambda s: s.mean(0).expand_as(s).detach(), "own scores are in its target"),
    ("mutual_targets", lambda s: (s.sum(0) - s) / (len(s) - 1), "not held constant"),
    ("mutual_targets", lambda s: s.flip(0).detach(), "reversed"),
    ("mutual_targets", lambda s: (s.sum(0) - s).detach(), "sum over the other"),
    ("ssd_targets", lambda s, d: selective.guided(s, d, 5.0, 0.5), "not held constant"),
    ("ssd_targets", lambda s, d: selective.guided(s.detach(), d, 1.0, 0.5), "divide the agreement by 5"),
    ("ssd_targets", lambda s, d: d.mean(2), "level|For|mean of all draws"),
    ("ssd_targets", lambda s, d: (d * (torch.einsum("bd,bdk->bk", s, d) / 5).softmax(1)[:, None]).sum(2), "centre|level|For"),
    ("slerp", lambda a, b, w: (1 - w) * a + w * b, "straight line"),
    ("slerp", lambda a, b, w: arc(a, b, w, torch.acos(a @ b / (a.norm() * b.norm()))), "sine of their angle is 0|rounding"),
    ("slerp", lambda a, b, w: arc(a, b, 1 - w, torch.acos(a @ b / (a.norm() * b.norm()))), "share is that of the first"),
    ("slerp", lambda a, b, w: arc(a, b, w, torch.acos(a @ b)), "not normalised"),
    ("slerp", lambda a, b, w: arc(F.normalize(a, dim=0), F.normalize(b, dim=0), w, torch.acos(F.cosine_similarity(a, b, dim=0))), "norms are lost"),
    ("task_arithmetic", lambda base, one, two, scale: base + scale * (one + two), "subtract the base from each"),
    ("task_arithmetic", lambda base, one, two, scale: base + scale * (one + two - 2 * base) / 2, "mean of the task vectors"),
    ("task_arithmetic", lambda base, one, two, scale: scale * (one - base) + scale * (two - base), "base is missing"),
    ("dpo", lambda s, r, beta: F.softplus(-beta * (s[:, :1] - s[:, 1:])).mean(-1), "RankNet"),
    ("dpo", lambda s, r, beta: -F.logsigmoid(beta * ((s[:, :1] - s[:, 1:]) - (r[:, :1] - r[:, 1:]))).mean(-1), "detach"),
    ("dpo", lambda s, r, beta: -F.logsigmoid(beta * ((r[:, :1] - r[:, 1:]) - (s[:, :1] - s[:, 1:]))).mean(-1), "swapped|sign"),
    ("dpo", lambda s, r, beta: -torch.log(torch.sigmoid(beta * ((s - r.detach())[:, :1] - (s - r.detach())[:, 1:]))).mean(-1), "10,000"),
    ("dpo", lambda s, r, beta: losses.dpo(s, r.detach(), beta=beta).mean(), "mean over the queries"),
    ("reached_share", lambda mean, first, best: (mean - first) / first, "first stage"),
    ("reached_share", lambda mean, first, best: (mean - first) / (best - first), "nothing to gain.*ZeroDivisionError"),
    ("reached_share", lambda mean, first, best: mean / best if best > first else np.nan, "subtract"),
    ("calibration_error", lambda p, r, bins: np.mean((p - r) ** 2), "Brier"),
    ("calibration_error", lambda p, r, bins: np.abs(p - r).mean(), "no bins"),
    ("calibration_error", lambda p, r, bins: np.mean([abs(p[one].mean() - r[one].mean()) for one in np.array_split(np.argsort(p), bins)]), "count alike"),
    ("judged_at", lambda ranking, judged, depth: len(judged & set(ranking[:depth])) / depth, "shorter than the depth"),
    ("judged_at", lambda ranking, judged, depth: len(judged & set(ranking[:depth])) / len(judged), "recall"),
    ("judged_at", lambda ranking, judged, depth: len(judged & set(ranking)) / len(ranking), "depth is ignored"),
    ("lowest_gain", lambda t: (t.mine - t.baseline).min(), "single query"),
    ("lowest_gain", lambda t: t.groupby("collection")[["mine", "baseline"]].mean().min().pipe(lambda m: m.mine - m.baseline), "different collections"),
    ("lowest_gain", lambda t: (t.mine - t.baseline).mean(), "pooled"),
    ("speed_up", lambda share, factor: 1 / (1 - share), "vanishes"),
    ("speed_up", lambda share, factor: 1 + share * (factor - 1), "averaged"),
    ("speed_up", lambda share, factor: 1 - share + share / factor, "time that is left"),
    ("padding_share", lambda n, size: 1 - n.sum() / (n.max() * len(n)), "longest text of all"),
    ("padding_share", lambda n, size: 1 - n.sum() / sum(len(b) * b.max() for b in cut(n, size)), "not sorted"),
    ("padding_share", lambda n, size: n.sum() / sum(len(b) * b.max() for b in cut(np.sort(n), size)), "share of tokens"),
    # Open exercises
    ("listwise", lambda s, y: losses.margin_mse(s, y), "order of the columns"),
    ("listwise", lambda s, y: losses.mse(s, y), "constant added"),
    ("listwise", lambda s, y: losses.info_nce(s, y), "grades"),
    ("listwise", lambda s, y: -(y / y.sum(-1, keepdim=True) * s.log_softmax(-1)).sum(-1), "without a relevant document|another query"),
    ("listwise", lambda s, y: losses.list_net(s, y).mean(), "one value per query"),
    ("p_value", lambda a, b: __import__("scipy.stats").stats.ttest_ind(a, b).pvalue, "paired"),
    ("p_value", lambda a, b: 1 - __import__("scipy.stats").stats.ttest_rel(a, b).pvalue, "1 minus it"),
    ("choose", lambda values: values.mean().idxmax(), "cannot tell from zero|chance"),
    ("combine", lambda teachers: teachers.mean(0), "takes over"),
    ("fuse", lambda first, second: first + second, "twice"),
    ("agrees", lambda teacher, student: float(np.corrcoef(teacher.ravel(), student.ravel())[0, 1]), "constant to each query"),
    ("overlap", lambda query, passage: float(query in passage), "capitals|shared?|number of words"),
    ("target_margin", lambda c: (1 + c) / 2, "near copy"),
    ("sparing_loss", lambda s, w: (1 - w.mean(-1)) * losses.info_nce(s, F.one_hot(torch.zeros(len(s)).long(), s.shape[1])), "still pushed"),
    ("schedule", lambda step, steps: 1 - step / steps, "no warm-up"),
    ("own_measure", lambda g: max((1 / rank for rank, one in enumerate(g[:10], 1) if one), default=0.0), "as in RR@10"),
    ("own_measure", lambda g: (g[:10] > 0).mean(), "ideal ranking"),
    ("own_measure", lambda g: (g[:10] > 0).sum() / max((g > 0).sum(), 1), "ideal ranking|rank 3 to rank 2"),
    ("own_measure", lambda g: summed(g, depth=99) / (summed(np.sort(g)[::-1], depth=99) or 1), "rank 11"),
    ("own_measure", lambda g: summed(g) / summed(np.sort(g)[::-1]), "without a relevant document|one number"),
    ("plan", lambda a, b, train, score, budget: (300, 5), "longer than the budget|shrink"),
    ("plan", lambda a, b, train, score, budget: (int((budget - train) / score), 1), "at least 2"),
    ("plan", lambda a, b, train, score, budget: (int((budget / 2 - train) / score), 2), "too few of them: fewer queries"),
    ("plan", lambda a, b, train, score, budget: (2, int(budget / (train + 2 * score))), "too few of them: fewer seeds"),
    ("plan", lambda a, b, train, score, budget: (budget / 7 / score, 3), "whole numbers"),
    ("unlike", lambda a, b: np.abs(ranked(a) - ranked(b)).sum(), "sum of all moves"),
    ("unlike", lambda a, b: np.abs(a - b).sum(), "Scores count"),
    ("unlike", lambda a, b: float(a.argmax() != b.argmax()), "bottom go unnoticed"),
    ("unlike", lambda a, b: np.corrcoef(ranked(a), ranked(b))[0, 1], "at least 0"),
    ("unlike", lambda a, b: np.sum(1 / (1 + ranked(a)) * np.abs(ranked(a) - ranked(b))), "from A to B"),
    ("own_way", losses.kl, "KL, one of the baselines"),
    ("own_way", losses.mse, "constant to all scores"),
    ("own_way", losses.ranknet, "cost less than the teacher's own"),
    ("own_way", lambda s, t: losses.kl(t, s).detach() + losses.margin_mse(s.detach(), t), "No gradient"),
    ("own_way", lambda s, t: losses.kl(s, t).mean().expand(len(s)), "another query"),
    ("merge_changes", lambda c: c.mean(0), "averaged in"),
    ("merge_changes", lambda c: c.sum(0), "several times"),
    ("merge_changes", lambda c: c.sum(0) / (c != 0).sum(0), "guard the division"),
    ("merge_changes", lambda c: c[c.abs().sum(1).argmax()], "averaged in|smaller"),
    ("calibrated", lambda dev, relevant, scores: 1 / (1 + np.exp(-scores)), "offset"),
    ("calibrated", lambda dev, relevant, scores: np.full(len(scores), relevant.mean()), "one probability"),
    ("calibrated", lambda dev, relevant, scores: calibration.fit(dev, relevant, offset=False)(scores), "offset"),
    ("calibrated", lambda dev, relevant, scores: calibration.fit(dev, relevant, offset=True)(scores - scores.mean() + dev.mean()), "other scores of the call"),
    ("crop", lambda passage, random: " ".join(passage.split()[: random.integers(3, 9)]), "first word|same query"),
    ("crop", lambda passage, random: " ".join(random.choice(passage.split(), 5, replace=False)), "same number of words"),
    ("crop", lambda passage, random: " ".join(random.choice(passage.split(), random.integers(3, 9))), "twice"),
    ("crop", lambda passage, random: " ".join(np.random.default_rng().permutation(passage.split())[: random.integers(3, 9)]), "from `random` alone"),
    ("length_batches", lambda n, size, random: cut(np.argsort(n), size), "order of their length"),
    ("length_batches", lambda n, size, random: cut(random.permutation(len(n)), size), "as much padding"),
    ("length_batches", lambda n, size, random: random.permutation(np.argsort(n)[: len(n) // size * size].reshape(-1, size)).tolist(), "missing"),
    ("length_batches", lambda n, size, random: [cut(np.argsort(n), size)[k] for k in random.permutation(-(-len(n) // size))], "same texts share"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "function", "words"), WRONG, ids=lambda one: one if isinstance(one, str) else "")
@pytest.mark.filterwarnings("ignore")
def test_a_wrong_solution_is_caught_with_a_sentence_that_names_the_error(name, function, words):
    says = fault(name, function)
    assert re.search(words, says), says
    assert "\n" not in says and says.endswith(".")


@pytest.mark.parametrize("name", ["list_net", "list_mle", "ranknet"])
def test_other_listwise_losses_are_right_too(name, capsys):
    """An open exercise has many right answers."""
    EXERCISES["listwise"](getattr(losses, name))


@pytest.mark.parametrize("base", [2, np.e, 10])
def test_the_base_of_ndcgs_logarithm_is_no_error(base, capsys):
    EXERCISES["ndcg_at_10"](lambda g: summed(g, base) / (summed(np.sort(g)[::-1], base) or 1))


@pytest.mark.parametrize("measure", [
    lambda g: summed(g) / (summed(np.sort(g)[::-1]) or 1),  # nDCG
    lambda g: sum((g[:rank] > 0).mean() for rank in range(1, len(g[:10]) + 1) if g[rank - 1]) / (min((g > 0).sum(), 10) or 1),
])  # fmt: skip
def test_other_measures_are_right_too(measure, capsys):
    """nDCG@10 and average precision."""
    EXERCISES["own_measure"](measure)


def test_verdicts_and_holms_procedure_agree_with_the_kit(capsys):
    EXERCISES["rejected"](lambda p, level: significance.holm(p) <= level)
    for low, high, low_90, high_90, within in verdicts.INTERVALS:
        row = {"difference": low + high, "p": 0.01 if low * high > 0 else 0.2, "p_t": 0.01,
               "p_equivalent": 0.01 if max(-low_90, high_90) < within else 0.2}  # fmt: skip
        assert significance.decided(row) == verdicts.verdict.right(low, high, low_90, high_90, within)


def test_a_check_wants_the_function_itself():
    assert "without calling it" in fault("info_nce", torch.zeros(3))


def test_a_table_is_shown_as_it_is():
    assert "'document'" in fault("share_of_leaks", lambda train, test: pd.Series([1.0]).sum() * 0.123)
