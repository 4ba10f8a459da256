"""Checks of notebooks 02 and 07 on scores: margins, pairs in the right order, agreement, several teachers."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.analysis import score_shapes
from lib.exercises.examine import Exercise, draw

MATRICES = tuple((draw(*shape, seed=seed).numpy(),) for seed, shape in enumerate([(3, 4), (2, 5), (1, 2)]))

score_margins = Exercise(
    task="Margins of scores (queries, docs) with the positive in column 0: (queries, docs - 1).",
    praise="A margin below zero is a pair in the wrong order.",
    cases=MATRICES,
    right=lambda s: s[:, :1] - s[:, 1:],
    returns="one margin per query and negative",
    slips={
        "The sign is wrong: it is the positive's score minus the negative's.": lambda s: s[:, 1:] - s[:, :1],
        "The positive's margin to itself is there too: leave out column 0.": lambda s: s[:, :1] - s,
        "The last column is taken for the positive; it is column 0.": lambda s: s[:, -1:] - s[:, :-1],
        "The highest score is taken for the positive's; that is column 0, wherever it ranks.": (
            lambda s: s.max(1, keepdims=True) - s[:, 1:]
        ),
        "Neighbouring columns are subtracted; subtract each negative from column 0.": lambda s: s[:, :-1] - s[:, 1:],
        "The scores of the first row are subtracted; the positive is the first column.": lambda s: s[:1] - s[1:],
        "The negatives are averaged first; each has a margin of its own.": lambda s: s[:, 0] - s[:, 1:].mean(1),
        "Only the hardest negative has a margin here; each has one.": lambda s: s[:, 0] - s[:, 1:].max(1),
        "The absolute value hides which document is ahead.": lambda s: np.abs(s[:, :1] - s[:, 1:]),
        "The negatives are averaged first, and their mean is broadcast; each has a margin of its own.": (
            lambda s: s[:, :1] - s[:, 1:].mean(1, keepdims=True) + 0 * s[:, 1:]
        ),
        "The negatives are averaged first, and keepdims is left; each has a margin of its own.": (
            lambda s: s[:, :1] - s[:, 1:].mean(1, keepdims=True)
        ),
        "The scores are sorted first; columns keep their places, and the positive is column 0.": (
            lambda s: np.sort(s)[:, ::-1][:, :1] - np.sort(s)[:, ::-1][:, 1:]
        ),
        "The sign alone is returned; the margin is the difference itself.": lambda s: s[:, :1] > s[:, 1:],
        "The margins are divided by a standard deviation; they are differences as they are.": (
            lambda s: (s[:, :1] - s[:, 1:]) / s.std()
        ),
        "A ratio is taken; a margin is a difference.": lambda s: s[:, :1] / s[:, 1:],
        "The query's mean is subtracted, and not the negative's score.": lambda s: s[:, 1:] - s.mean(1, keepdims=True),
    },
)


def _table(queries: str, scores: list[float], grades: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"query": list(queries), "score": scores, "grade": grades})


TABLES = (
    (_table("aaabb", [3.0, 1.0, 4.0, 0.5, 0.2], [1, 0, 0, 1, 0]),),
    (_table("aabbbb", [9.0, 8.0, 1.0, 1.0, 0.0, 2.0], [1, 0, 1, 0, 0, 0]),),
    (_table("aaaabbb", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [2, 0, 1, 0, 0, 0, 1]),),
)


def _pairs(table: pd.DataFrame) -> np.ndarray:
    return score_shapes.margins(table)


def _correct(table: pd.DataFrame) -> float:
    return float((_pairs(table) > 0).mean() + (_pairs(table) == 0).mean() / 2)


def _share_of_pairs(table: pd.DataFrame, counts: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float:
    margins = []
    for _, part in table.groupby("query"):
        scores, grades = part["score"].to_numpy(), part["grade"].to_numpy()
        apart = counts(grades[:, None], grades) & ~np.eye(len(part), dtype=bool)
        margins.append((scores[:, None] - scores)[apart])
    return float(((np.sign(np.concatenate(margins)) + 1) / 2).mean())


def _share_of_queries(table: pd.DataFrame) -> float:
    scores = [(part["score"].to_numpy(), part["grade"].to_numpy() > 0) for _, part in table.groupby("query")]
    return float(np.mean([mine[good].mean() > mine[~good].mean() for mine, good in scores]))


correct = Exercise(
    task="Share of the pairs of a relevant (grade above 0) and another document of one query that the scores order "
    "right; a tie counts one half. The table has the columns query, score, grade.",
    praise="Only pairs within a query count, so the query's own level does not.",
    cases=TABLES,
    right=_correct,
    slips={
        "Documents of different queries are compared: pairs are made within a query.": lambda t: score_shapes.auc(t),
        "Ties count as wrong; a tie counts one half.": lambda t: (_pairs(t) > 0).mean(),
        "Ties count as right; a tie counts one half.": lambda t: (_pairs(t) >= 0).mean(),
        "The order is reversed: the relevant document should have the higher score.": lambda t: 1 - _correct(t),
        "Shares are averaged over queries; every pair has the same weight.": (
            lambda t: np.mean([_correct(part) for _, part in t.groupby("query")])
        ),
        "Pairs are counted; divide by their number.": lambda t: _correct(t) * len(_pairs(t)),
        "Pairs are counted, and ties are not; count a tie one half, and divide by the number of pairs.": (
            lambda t: float((_pairs(t) > 0).sum())
        ),
        "This is the share of relevant documents, without the scores.": lambda t: float((t["grade"] > 0).mean()),
        "Only the mean scores of a query's relevant and other documents are compared; every pair should be.": (
            lambda t: _share_of_queries(t)
        ),
        "Only a query whose best document is relevant counts here; every pair should.": (
            lambda t: np.mean([part["grade"].to_numpy()[part["score"].argmax()] > 0 for _, part in t.groupby("query")])
        ),
        "Only documents of grade 1 count as relevant; any grade above 0 does.": (
            lambda t: _correct(t.assign(grade=(t["grade"] == 1).astype(int)))
        ),
        "Only documents of grade above 1 count as relevant; any grade above 0 does.": (
            lambda t: _correct(t.assign(grade=(t["grade"] > 1).astype(int)))
        ),
        "Ties are left out of the number of pairs; a tie is a pair, and counts one half.": (
            lambda t: (_pairs(t) > 0).sum() / (_pairs(t) != 0).sum()
        ),
        "Documents of grade 2 and 1 are compared too; a pair has one document of grade above 0, and one of grade 0.": (
            lambda t: _share_of_pairs(t, lambda mine, other: mine > other)
        ),
        "Every pair of documents counts, whatever its grades; a pair has one of grade above 0, and one of grade 0.": (
            lambda t: _share_of_pairs(t, lambda mine, other: mine >= other)
        ),
        "The mean margin is returned; the share of margins above 0 is due.": lambda t: _pairs(t).mean(),
    },
)

_TEACHER, _OTHER = draw(6, 5).numpy(), draw(6, 5, seed=1).numpy()
_LEVELS = 10 * np.arange(6)[:, None]

agrees = Exercise(
    task="How far a student agrees with its teacher, at most 1, from scores (queries, docs) of each; a measure of "
    "your own that sees neither a query's offset nor a scale.",
    praise="Levels and scales do not count, so that rankers on different scales can be compared.",
    cases=((_TEACHER, _OTHER),),
    demands={
        "Your measure is not one number.": lambda f: (
            np.ndim(f(_TEACHER, _OTHER)) == 0 and np.isfinite(f(_TEACHER, _OTHER))
        ),
        "A student that equals its teacher does not measure 1.": lambda f: np.isclose(f(_TEACHER, _TEACHER), 1),
        "Your measure is above 1 for some student.": (
            lambda f: all(f(_TEACHER, size * _TEACHER) <= 1 + 1e-9 for size in (0.5, 2, 9))
        ),
        "Adding another constant to each query's scores changes your measure.": (
            lambda f: (
                np.isclose(f(_TEACHER, _OTHER + _LEVELS), f(_TEACHER, _OTHER))
                and np.isclose(f(_TEACHER + _LEVELS, _OTHER), f(_TEACHER, _OTHER))
            )
        ),
        "Multiplying all scores by a positive number changes your measure.": (
            lambda f: (
                np.isclose(f(_TEACHER, 3 * _OTHER), f(_TEACHER, _OTHER))
                and np.isclose(f(3 * _TEACHER, _OTHER), f(_TEACHER, _OTHER))
            )
        ),
        "A student in the reverse order agrees no less than an unrelated one.": lambda f: (
            f(_TEACHER, -_TEACHER) < f(_TEACHER, _OTHER)
        ),
        "A student with a little noise agrees no more than an unrelated one.": (
            lambda f: f(_TEACHER, _TEACHER + 0.1 * _OTHER) > f(_TEACHER, _OTHER)
        ),
        "Your measure compares documents of different queries: swapping whole queries of both changes it.": (
            lambda f: np.isclose(f(_TEACHER[::-1], _OTHER[::-1]), f(_TEACHER, _OTHER))
        ),
        "Your measure changes when the documents of a query are permuted in both.": (
            lambda f: np.isclose(f(_TEACHER[:, ::-1], _OTHER[:, ::-1]), f(_TEACHER, _OTHER))
        ),
    },
)

_SIZES = torch.tensor([1.0, 1.0, 1000.0]).double()[:, None, None]
_SEVERAL = draw(3, 5, 4, seed=7)


def _order(scores: Tensor) -> Tensor:
    return scores.argsort(-1)


combine = Exercise(
    task="One teacher from several, whose scores are (teachers, batch, docs): (batch, docs); by a rule of your own "
    "in which no teacher counts more for its larger scale.",
    praise="A teacher's scale does not buy it weight.",
    cases=((_SEVERAL,),),
    demands={
        "Your result has not the shape (batch, docs).": lambda f: f(_SEVERAL).shape == (5, 4),
        "Your result is not finite.": lambda f: bool(f(_SEVERAL).isfinite().all()),
        "A teacher whose scores are multiplied by 1,000 takes over: standardise each teacher first.": (
            lambda f: torch.equal(_order(f(_SEVERAL * _SIZES)), _order(f(_SEVERAL)))
        ),
        "A constant added to one teacher's scores changes the order.": (
            lambda f: torch.equal(_order(f(_SEVERAL + _SIZES)), _order(f(_SEVERAL)))
        ),
        "The order of the teachers counts.": lambda f: torch.allclose(f(_SEVERAL.flip(0)), f(_SEVERAL)),
        "Teachers that agree on an order do not keep it.": (
            lambda f: torch.equal(
                _order(f(torch.stack([_SEVERAL[0], 3 * _SEVERAL[0], _SEVERAL[0] + 2]))), _order(_SEVERAL[0])
            )
        ),
        "Only one teacher counts: the others change nothing.": (
            lambda f: not any(torch.equal(_order(f(_SEVERAL)), _order(one)) for one in _SEVERAL)
        ),
        "A teacher that gives every document one score makes the result infinite or undefined: guard the division.": (
            lambda f: bool(f(torch.cat([_SEVERAL[:2], torch.ones(1, 5, 4).double()])).isfinite().all())
        ),
    },
)
