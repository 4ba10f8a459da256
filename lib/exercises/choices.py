"""Checks of notebook 10 on choices: cost all in, what no other setting beats, which answer to choose on dev queries."""

import numpy as np
import pandas as pd

from lib.exercises.examine import Exercise, draw

# seconds of the student, seconds of the teacher, pairs to score, pairs per second, students
BILLS = ((60.0, 300.0, 4000, 50.0, 1), (45.0, 120.0, 900, 30.0, 4), (10.0, 0.0, 100, 20.0, 2))

all_in = Exercise(
    task="Seconds that one student costs: its own training, and its share of training the teacher and of scoring "
    "`pairs` pairs at `pairs_per_second`, both shared by `students`.",
    praise="The more students a teacher serves, the less distillation costs.",
    cases=BILLS,
    right=lambda own, teacher, pairs, rate, students: own + (teacher + pairs / rate) / students,
    sizes=lambda own, teacher, pairs, rate, students: {"students": students},
    slips={
        "The rate is divided by the pairs; seconds are pairs divided by pairs per second.": (
            lambda own, teacher, pairs, rate, students: own + (teacher + rate / pairs) / students
        ),
        "The student's own training is shared too; each student has its own.": (
            lambda own, teacher, pairs, rate, students: (own + teacher + pairs / rate) / students
        ),
        "Nothing is shared: teacher and scoring serve all students.": (
            lambda own, teacher, pairs, rate, students: own + teacher + pairs / rate
        ),
        "The scoring is not shared: one scoring of the groups serves all students.": (
            lambda own, teacher, pairs, rate, students: own + teacher / students + pairs / rate
        ),
        "The teacher's training is not shared: it serves all students.": (
            lambda own, teacher, pairs, rate, students: own + teacher + pairs / rate / students
        ),
        "The teacher's scoring is missing.": lambda own, teacher, pairs, rate, students: own + teacher / students,
        "The teacher's training is missing.": lambda own, teacher, pairs, rate, students: own + pairs / rate / students,
        "The student's own training is missing.": (
            lambda own, teacher, pairs, rate, students: (teacher + pairs / rate) / students
        ),
        "This is what all students cost together; one student's cost is due.": (
            lambda own, teacher, pairs, rate, students: students * own + teacher + pairs / rate
        ),
        "The pairs are counted as seconds; divide them by pairs per second.": (
            lambda own, teacher, pairs, rate, students: own + (teacher + pairs) / students
        ),
        "The teacher is multiplied by the number of students, as if each had its own.": (
            lambda own, teacher, pairs, rate, students: own + (teacher + pairs / rate) * students
        ),
        "The teacher counts as one more student; the students alone share its cost.": (
            lambda own, teacher, pairs, rate, students: own + (teacher + pairs / rate) / (students + 1)
        ),
        "The scoring is shared twice.": (
            lambda own, teacher, pairs, rate, students: own + (teacher + pairs / rate / students) / students
        ),
    },
    wraps={
        "Pairs are multiplied by the rate; seconds are pairs divided by pairs per second.": (
            lambda f: lambda own, teacher, pairs, rate, students: f(own, teacher, pairs * rate**2, rate, students)
        ),
    },
)

# quality, cost
SETTINGS = (
    (np.array([0.5, 0.6, 0.4, 0.7, 0.6]), np.array([10.0, 20.0, 15.0, 90.0, 30.0])),
    (np.array([0.3, 0.3, 0.5, 0.5]), np.array([5.0, 5.0, 8.0, 6.0])),
    (np.array([0.4]), np.array([1.0])),
    (np.array([0.2, 0.6, 0.6, 0.1]), np.array([7.0, 7.0, 9.0, 3.0])),
)


def _frontier(quality: np.ndarray, cost: np.ndarray) -> np.ndarray:
    better = (quality[:, None] >= quality) & (cost[:, None] <= cost)  # (i, j): i no worse than j on both
    strictly = (quality[:, None] > quality) | (cost[:, None] < cost)
    return ~(better & strictly).any(0)


def _running(quality: np.ndarray, cost: np.ndarray) -> np.ndarray:
    order = np.argsort(cost, kind="stable")
    before = np.concatenate([[-np.inf], np.maximum.accumulate(quality[order])[:-1]])
    return (quality[order] > before)[np.argsort(order)]


frontier = Exercise(
    task="Which of the settings with `quality` and `cost` (n,) no other one beats, that is, is at least as good on "
    "both and better on one: (n,) of bool.",
    praise="Whoever chooses a setting off this frontier pays for nothing.",
    cases=SETTINGS,
    right=_frontier,
    returns="one truth value per setting",
    slips={
        "The truth values are reversed: these are the settings that another one beats.": lambda *a: ~_frontier(*a),
        "Cost is taken for something of which more is better.": lambda q, c: _frontier(q, -c),
        "Quality is taken for something of which less is better.": lambda q, c: _frontier(-q, c),
        "Only the best quality counts here; a cheaper setting may be worth its lower quality.": lambda q, c: (
            q == q.max()
        ),
        "Only the lowest cost counts here; a better setting may be worth its price.": lambda q, c: c == c.min(),
        "A setting is beaten only if another is better on both; equal on one and better on the other is enough.": (
            lambda q, c: ~((q[:, None] > q) & (c[:, None] < c)).any(0)
        ),
        "Equal settings beat each other, or a setting itself: one of the two comparisons has to be strict.": (
            lambda q, c: ~((q[:, None] >= q) & (c[:, None] <= c)).any(0)
        ),
        "Equal settings beat each other: one of the two comparisons has to be strict.": (
            lambda q, c: ((q[:, None] >= q) & (c[:, None] <= c)).sum(0) == 1
        ),
        "Each setting is compared with the best so far in the order of cost, so that at equal costs their order "
        "decides: equal settings do not beat each other, and a better one of the same cost does.": (_running),
        "Indices are returned; one truth value per setting is due.": lambda q, c: np.flatnonzero(_frontier(q, c)),
        "The indices of the settings that another one beats are returned; one truth value per setting is due.": (
            lambda q, c: np.flatnonzero(~_frontier(q, c))
        ),
        "Only the best quality and the lowest cost count; what lies between may be worth its price.": (
            lambda q, c: (q == q.max()) | (c == c.min())
        ),
        "Settings are compared only with cheaper ones; one of the same cost and better quality beats them too.": (
            lambda q, c: np.array([bool((q[i] > q[c < c[i]]).all()) for i in range(len(q))])
        ),
        "The qualities of these settings are returned; one truth value per setting is due.": lambda q, c: q[
            _frontier(q, c)
        ],
        "The ratio of quality to cost is returned; one truth value per setting is due.": lambda q, c: q / c,
        "Settings are compared with the medians; whether another one beats them decides.": (
            lambda q, c: (q >= np.median(q)) & (c <= np.median(c))
        ),
        "Only the best ratio of quality to cost counts; every setting that no other beats should.": (
            lambda q, c: q / c == (q / c).max()
        ),
        "A setting is beaten here if another is better on one of the two; it has to be no worse on the other.": (
            lambda q, c: ~((q[:, None] > q) | (c[:, None] < c)).any(0)
        ),
        "The roles are swapped: this asks which settings beat no other one.": (
            lambda q, c: ~(((q[:, None] >= q) & (c[:, None] <= c)) & ((q[:, None] > q) | (c[:, None] < c))).any(1)
        ),
    },
    wraps={
        "The values come in the order of cost; put them back in the order given.": (
            lambda f: lambda q, c: f(q, c)[np.argsort(c, kind="stable")]
        ),
        "The values come in the order of quality; put them back in the order given.": (
            lambda f: lambda q, c: f(q, c)[np.argsort(-q, kind="stable")]
        ),
    },
)

_BASE, _SMALL = draw(40).numpy(), 0.5 * draw(40, seed=1).numpy()


def _answers(**columns: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"default": _BASE, **columns})


_CHANCE = {f"answer {n}": _BASE + draw(40, seed=100 + n).numpy() for n in range(20)}
_LUCKY = _SMALL - _SMALL.mean() + 2.25 * _SMALL.std() / 40**0.5  # t = 2.25, of which p = 0.03

choose = Exercise(
    task="The name of the answer to choose, by a rule of your own, from values (queries, answers) on dev queries; "
    "the first column is the default.",
    praise="It leaves the default for a clear gain, and not for noise.",
    cases=((_answers(other=_BASE + 1),), (_answers(other=_BASE - 1),)),
    demands={
        "Your result is no name of a column.": lambda f: f(_answers(other=_BASE + _SMALL)) in ("default", "other"),
        "An answer that is better on every query is not chosen.": lambda f: f(_answers(other=_BASE + 1)) == "other",
        "An answer that is worse on every query is chosen.": lambda f: f(_answers(other=_BASE - 1)) == "default",
        "The better of two clear gains is not chosen.": (
            lambda f: (
                f(_answers(good=_BASE + 0.5, best=_BASE + 1)) == "best" == f(_answers(best=_BASE + 1, good=_BASE + 0.5))
            )
        ),
        "A difference that these queries cannot tell from zero is enough to leave the default.": (
            lambda f: f(_answers(other=_BASE + _SMALL - _SMALL.mean() + 0.02)) == "default"
        ),
        "With twenty answers that differ by chance alone, one of them is chosen: correct for their number.": (
            lambda f: f(_answers(**_CHANCE)) == "default"
        ),
        "With twenty-one answers, one of them ahead with p = 0.03 before any correction, that one is chosen: among so "
        "many such a p comes by chance, so correct for their number (Holm's correction, for one).": (
            lambda f: f(_answers(**_CHANCE, lucky=_BASE + _LUCKY)) == "default"
        ),
        "Your rule ignores that answers are paired: their large spread hides a small gain on every query.": (
            lambda f: f(pd.DataFrame({"default": 9 * _BASE, "other": 9 * _BASE + 0.2 + 0.1 * _SMALL})) == "other"
        ),
        "Only one answer, the default, gives an error.": lambda f: f(_answers()) == "default",
    },
)
