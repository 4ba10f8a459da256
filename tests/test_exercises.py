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
from lib.analysis import calibration
from lib.exercises import check, learners
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


WITH_EXERCISES = [path for path in NOTEBOOKS if solutions(path)]
SOLUTIONS = {name: (path, source) for path in WITH_EXERCISES for name, source in solutions(path).items()}


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


@pytest.mark.parametrize("path", WITH_EXERCISES, ids=lambda path: path.stem)
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


@pytest.mark.parametrize("path", WITH_EXERCISES, ids=lambda path: path.stem)
def test_an_exercise_changes_nothing_for_the_cells_after_it(path):
    """A learner who leaves the exercises out can still run the rest."""
    for cell in cells_of(path):
        if cell.cell_type == "code" and "solution" not in cell.metadata.get("tags", []) and "check." not in cell.source:
            named = {node.id for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)}
            assert not named & set(solutions(path)), cell.source


@pytest.mark.parametrize("path", WITH_EXERCISES, ids=lambda path: path.stem)
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
        before = [cell.source for cell in cells_of(path) if "solution" not in cell.metadata.get("tags", [])]
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
    ("twelfth_way", losses.kl, "KL, one of the baselines"),
    ("twelfth_way", losses.mse, "constant to all scores"),
    ("twelfth_way", losses.ranknet, "cost less than the teacher's own"),
    ("twelfth_way", lambda s, t: losses.kl(t, s).detach() + losses.margin_mse(s.detach(), t), "No gradient"),
    ("twelfth_way", lambda s, t: losses.kl(s, t).mean().expand(len(s)), "another query"),
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


def test_a_check_wants_the_function_itself():
    assert "without calling it" in fault("info_nce", torch.zeros(3))


def test_a_table_is_shown_as_it_is():
    assert "'document'" in fault("share_of_leaks", lambda train, test: pd.Series([1.0]).sum() * 0.123)
