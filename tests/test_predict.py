"""Guesses: what is said of right, wrong, missing and impossible ones; every notebook asks for some."""

import re
from pathlib import Path

import nbformat
import pytest

from lib.exercises import predict

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("[0-9]*.ipynb"))
VALUES = {"kl": 0.6, "mse": 0.5, "bce": 0.4}


@pytest.mark.parametrize("guess, said", [
    (0.6, "RR: 0.500. You said 0.6, too high by 0.100 (20% of it).\n"),
    (0.4, "RR: 0.500. You said 0.4, too low by 0.100 (20% of it).\n"),
    (0.5, "RR: 0.500. You said 0.5, which is right.\n"),
    (1, "RR: 0.500. You said 1, too high by 0.500 (100% of it).\n"),
    (None, f"RR: 0.500. {predict.NONE}\n"),
])  # fmt: skip
def test_a_number(guess, said, capsys):
    predict.number(guess, 0.5, "RR")
    assert capsys.readouterr().out == said


def test_a_value_of_zero_has_no_share(capsys):
    predict.number(0.25, 0.0, "difference", 2)
    assert capsys.readouterr().out == "difference: 0.00. You said 0.25, too high by 0.25.\n"


@pytest.mark.parametrize("guess", [0.5, None])
def test_a_run_that_has_no_value_judges_no_guess(guess, capsys):
    predict.number(guess, float("nan"), "RR")
    assert capsys.readouterr().out == "RR: no value in this run, which is too short for it.\n"


@pytest.mark.parametrize("guess", ["0.5", True, [0.5], float("nan"), float("inf")])
@pytest.mark.parametrize("value", [0.5, float("nan")])
def test_what_is_no_number_is_refused(guess, value):
    with pytest.raises(TypeError, match=r"give a number, such as 0.5, or None"):
        predict.number(guess, value, "RR")


@pytest.mark.parametrize("guess, said", [
    (["kl", "mse", "bce"], "You said kl, mse, bce. Pairs in the wrong order: 0 of 3."),
    (["mse", "kl", "bce"], "You said mse, kl, bce. Pairs in the wrong order: 1 of 3 (mse before kl)."),
    (("bce", "mse", "kl"),
     "You said bce, mse, kl. Pairs in the wrong order: 3 of 3 (bce before mse, bce before kl, mse before kl)."),
    (None, predict.NONE),
])  # fmt: skip
def test_an_order(guess, said, capsys):
    predict.order(guess, VALUES, "quality")
    first, second = capsys.readouterr().out.splitlines()
    assert first == "quality, from the highest: kl (0.600), mse (0.500), bce (0.400)."
    assert second == said


def test_equal_values_count_for_neither_order(capsys):
    predict.order(["b", "a"], {"a": 0.5, "b": 0.5}, "quality")
    assert "Pairs in the wrong order: 0 of 1." in capsys.readouterr().out


def test_an_order_leaves_out_what_has_no_value(capsys):
    predict.order(["bce", "kl", "mse"], {**VALUES, "mse": float("nan")}, "quality")
    assert capsys.readouterr().out.splitlines() == [
        "quality, from the highest: kl (0.600), bce (0.400).",
        "You said bce, kl, mse. Pairs in the wrong order: 1 of 1 (bce before kl).",
    ]


@pytest.mark.parametrize("guess", ["kl", ["kl", "mse"], ["kl", "kl", "bce"], ["kl", "mse", "x"]])
def test_an_order_has_every_name_once(guess):
    with pytest.raises(ValueError, match="give a list of 'bce', 'kl', 'mse', each once, or None"):
        predict.order(guess, VALUES, "quality")


def test_a_choice(capsys):
    for guess in ("better", "worse", None):
        predict.choice(guess, "better", ("better", "worse"), "KL")
    assert capsys.readouterr().out.splitlines() == [
        "KL: better. As you said.", "KL: better. You said worse.", f"KL: better. {predict.NONE}",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="give one of 'better', 'worse', or None"):
        predict.choice("good", "better", ("better", "worse"), "KL")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_asks_before_it_shows(path):
    """A cell `guess = None`, then the data, then what is said of the guess: in this order, as often as one another."""
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    asked = [place for place, source in enumerate(code) if re.match(r"guess = None  # .+", source)]
    answered = [
        place for place, source in enumerate(code) if re.search(r"^predict\.\w+\(\s*guess,", source, re.MULTILINE)
    ]
    assert asked and len(asked) == len(answered)
    assert all(ask + 1 < answer for ask, answer in zip(asked, answered, strict=True)), "the figure comes in between"
