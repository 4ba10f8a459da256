"""Checks of notebooks 02 and 07 on scores: margins, pairs in the right order, agreement, MaxSim, several teachers."""

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


# ---- 07 -------------------------------------------------------------------------------------------------------------

TOKENS = (
    (draw(3, 4), draw(5, 4, seed=1)),
    (draw(2, 3, seed=2), draw(4, 3, seed=3)),
    (draw(2, 3, seed=4).abs(), draw(4, 3, seed=5).abs() - 2),
)  # (tokens, dim) twice

maxsim = Exercise(
    task="MaxSim of query vectors (query tokens, dim) and document vectors (document tokens, dim): one number.",
    praise="Each query token looks for its own best match.",
    cases=TOKENS,
    right=lambda q, d: (q @ d.T).amax(1).sum(),
    gradients=(0, 1),
    sizes=lambda q, d: {"query tokens": len(q), "document tokens": len(d), "dimensions": q.shape[1]},
    slips={
        "Each document token looks for its best query token; it is the other way round.": lambda q, d: (
            (q @ d.T).amax(0).sum()
        ),
        "The mean over query tokens is taken; MaxSim adds them up.": lambda q, d: (q @ d.T).amax(1).mean(),
        "The mean over document tokens is taken; MaxSim takes their maximum.": lambda q, d: (q @ d.T).mean(1).sum(),
        "All similarities are added up; only the largest of each query token counts.": lambda q, d: (q @ d.T).sum(),
        "Only the single best pair of tokens counts; every query token has its own.": lambda q, d: (q @ d.T).amax(),
        "The sum over query tokens is missing.": lambda q, d: (q @ d.T).amax(1),
        "The vectors are pooled first; MaxSim keeps one vector per token.": lambda q, d: q.mean(0) @ d.mean(0),
        "The vectors are normalised; take the dot product as it is.": (
            lambda q, d: (q / q.norm(dim=1, keepdim=True) @ (d / d.norm(dim=1, keepdim=True)).T).amax(1).sum()
        ),
        "The smallest similarity is taken; it should be the largest.": lambda q, d: (q @ d.T).amin(1).sum(),
        "Negative similarities are cut off at 0.": lambda q, d: (q @ d.T).relu().amax(1).sum(),
        "The maximum is smoothed by a logsumexp.": lambda q, d: (q @ d.T).logsumexp(1).sum(),
    },
)

_MASK = torch.tensor([[True, True, True], [True, False, False], [True, True, False], [False, True, True]])
PADDED = ((draw(2, 3), draw(4, 3, 3, seed=1), _MASK), (draw(3, 2, seed=2), draw(4, 3, 2, seed=3) - 2, _MASK))


def _similar(q: Tensor, d: Tensor) -> Tensor:
    return torch.einsum("td,kld->ktl", q, d)  # (docs, query tokens, document tokens)


def _filled(q: Tensor, d: Tensor, mask: Tensor, value: float = -torch.inf) -> Tensor:
    return _similar(q, d).masked_fill(~mask[:, None], value)


masked_maxsim = Exercise(
    task="MaxSim of one query (query tokens, dim) with padded documents (docs, document tokens, dim); mask (docs, "
    "document tokens) is True where a token is real; (docs,).",
    praise="Padding never wins, whatever lies there.",
    cases=PADDED,
    right=lambda q, d, m: _filled(q, d, m).amax(-1).sum(-1),
    returns="one value per document",
    gradients=(0, 1),
    sizes=lambda q, d, _: {"query tokens": len(q), "document tokens": d.shape[1]},
    slips={
        "The mask is not used: padding takes part in the maximum.": lambda q, d, m: _similar(q, d).amax(-1).sum(-1),
        "Padding gets the similarity 0, which beats a negative one: fill it with minus infinity before the maximum.": (
            lambda q, d, m: _filled(q, d, m, 0.0).amax(-1).sum(-1)
        ),
        "The mask is the wrong way round: it is True where a token is real.": (
            lambda q, d, m: _filled(q, d, ~m).amax(-1).sum(-1)
        ),
        "The mean over query tokens is taken; MaxSim adds them up.": lambda q, d, m: _filled(q, d, m).amax(-1).mean(-1),
        "The maximum is over the query tokens; each query token takes its best document token.": (
            lambda q, d, m: (_similar(q, d).amax(1) * m).sum(-1)
        ),
        "All similarities of real tokens are added up; only the largest of each query token counts.": (
            lambda q, d, m: (_similar(q, d) * m[:, None]).sum((1, 2))
        ),
        "The mean over the real tokens is taken; MaxSim takes their maximum.": (
            lambda q, d, m: ((_similar(q, d) * m[:, None]).sum(-1) / m.sum(-1, keepdim=True)).sum(-1)
        ),
        "The sum over query tokens is missing.": lambda q, d, m: _filled(q, d, m).amax(-1),
        "The sum is over the documents; it should be over the query tokens.": lambda q, d, m: (
            _filled(q, d, m).amax(-1).sum(0)
        ),
        "Only the single best pair of tokens counts; every query token has its own.": (
            lambda q, d, m: _filled(q, d, m).amax((1, 2))
        ),
        "Each document is divided by its number of tokens.": (
            lambda q, d, m: _filled(q, d, m).amax(-1).sum(-1) / m.sum(-1)
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
