"""Checks of notebook 15 on other collections: how much is judged, the lowest gain, a cropped query of your own."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from lib.exercises.examine import Exercise, Function, draw

RANKINGS = (
    (["a", "b", "c", "d", "e"], {"a", "b", "x", "y"}, 3),
    (list("abcdefghijkl"), set("adl"), 10),
    (["a", "b", "c"], {"a"}, 10),
    (["a", "b", "c", "d"], {"d", "z"}, 4),
    (["a", "b", "c", "d"], {"x"}, 2),
)


def _share(ranking: list[str], judged: set[str]) -> float:
    return float(np.mean([name in judged for name in ranking]))


judged_at = Exercise(
    task="The share of the first `depth` documents of a ranking (names, the best first) that somebody has judged, "
    "whatever the grade; a ranking may be shorter.",
    praise="Where it is low, a measure says more about the judges than about the ranker.",
    cases=RANKINGS,
    right=lambda ranking, judged, depth: _share(ranking[:depth], judged),
    sizes=lambda ranking, _, depth: {"documents that are looked at": len(ranking[:depth])},
    slips={
        "The depth is ignored: documents below it count too.": lambda ranking, judged, depth: _share(ranking, judged),
        "This is the share that nobody has judged; 1 minus it is due.": lambda ranking, judged, depth: (
            1 - _share(ranking[:depth], judged)
        ),
        "This is the share of the judged documents that is found (a recall); divide by the documents looked at.": (
            lambda ranking, judged, depth: len(judged & set(ranking[:depth])) / len(judged)
        ),
        "The judged documents are counted; divide by the number of documents looked at.": (
            lambda ranking, judged, depth: float(len(judged & set(ranking[:depth])))
        ),
        "A ranking shorter than the depth is divided by the depth; divide by the documents it has.": (
            lambda ranking, judged, depth: len(judged & set(ranking[:depth])) / depth
        ),
        "The number of judged documents above the depth is divided by the length of the whole ranking.": (
            lambda ranking, judged, depth: len(judged & set(ranking[:depth])) / len(ranking)
        ),
        "One document too few is looked at: a slice up to `depth` has `depth` documents.": (
            lambda ranking, judged, depth: _share(ranking[: depth - 1], judged)
        ),
        "One document too many is looked at: a slice up to `depth` has `depth` documents.": (
            lambda ranking, judged, depth: _share(ranking[: depth + 1], judged)
        ),
        "The first document is left out: lists count from 0.": lambda ranking, judged, depth: _share(
            ranking[1:depth], judged
        ),
        "The end of the ranking is looked at; the best come first.": lambda ranking, judged, depth: _share(
            ranking[-depth:], judged
        ),
        "This says only whether any is judged; the share is due.": lambda ranking, judged, depth: float(
            any(name in judged for name in ranking[:depth])
        ),
        "This says only whether all are judged; the share is due.": lambda ranking, judged, depth: float(
            all(name in judged for name in ranking[:depth])
        ),
    },
)


def _values(names: str, seed: int, level: float) -> pd.DataFrame:
    mine, baseline = (draw(len(names), seed=seed + number).sigmoid().numpy() for number in (0, 1))
    steps = np.array([level * (ord(name) - ord("a")) for name in names])
    return pd.DataFrame({"collection": list(names), "mine": mine + steps, "baseline": baseline})


SETS = (
    (_values("aaaaabbc", 0, 0.3),),
    (_values("aabbbbbbcccc", 2, -0.5),),
    (_values("bbbbaaaaaacc", 4, 0.1),),
    (pd.DataFrame({"collection": list("aabb"), "mine": [0.9, 0.8, 0.2, 0.3], "baseline": [0.95, 0.9, 0.1, 0.1]}),),
)


def _gains(table: pd.DataFrame) -> pd.Series:
    return (table["mine"] - table["baseline"]).groupby(table["collection"]).mean()


lowest_gain = Exercise(
    task="The smallest gain over the collections: the mean of mine - baseline over a collection's queries, and of "
    "these the smallest. The table has the columns collection, mine, baseline, with one row per query.",
    praise="Who knows nothing of the next collection does well to look at the worst one.",
    cases=SETS,
    right=lambda table: _gains(table).min(),
    slips={
        "All queries are pooled: take the mean in each collection, then the smallest of these.": (
            lambda table: (table["mine"] - table["baseline"]).mean()
        ),
        "This is the mean over the collections; the smallest is due.": lambda table: _gains(table).mean(),
        "This is the largest gain; the smallest is due.": lambda table: _gains(table).max(),
        "This is the smallest difference of a single query; take each collection's mean first.": (
            lambda table: (table["mine"] - table["baseline"]).min()
        ),
        "The sign is wrong: a gain is mine minus the baseline.": lambda table: (-_gains(table)).min(),
        "The smallest mean of each is taken, and then the difference: the two may be of different collections.": (
            lambda table: (
                table.groupby("collection")["mine"].mean().min() - table.groupby("collection")["baseline"].mean().min()
            )
        ),
        "This is the smallest absolute difference, which hides a loss.": lambda table: _gains(table).abs().min(),
        "The differences of a collection are added up; take their mean.": (
            lambda table: (table["mine"] - table["baseline"]).groupby(table["collection"]).sum().min()
        ),
        "This is the median of a collection's differences; take their mean.": (
            lambda table: (table["mine"] - table["baseline"]).groupby(table["collection"]).median().min()
        ),
        "The baseline has no part: this is the collection where the ranker's own mean is smallest.": (
            lambda table: table.groupby("collection")["mine"].mean().min()
        ),
        "This is the gain where the ranker's own mean is smallest; take the smallest gain.": lambda table: _gains(
            table
        )[table.groupby("collection")["mine"].mean().idxmin()],
        "A ratio is taken; a gain is a difference.": lambda table: (
            table.groupby("collection")["mine"].mean() / table.groupby("collection")["baseline"].mean()
        ).min(),
        "Only the first collection counts.": lambda table: _gains(table)[table["collection"].iloc[0]],
    },
)

_PASSAGE = " ".join(f"word{number}" for number in range(40))


def _queries(yours: Function, count: int = 60) -> Iterator[list[str]]:
    for seed in range(count):
        yield yours(_PASSAGE, np.random.default_rng(seed)).split()


crop = Exercise(
    task="A query of three to eight words of a passage (a text), by a rule of your own that draws from the numpy "
    "generator `random`; a passage with fewer words gives at most these.",
    praise="Every passage becomes a training query, without a judge.",
    cases=((_PASSAGE, np.random.default_rng(0)),),
    demands={
        "Your query is no text.": lambda f: isinstance(f(_PASSAGE, np.random.default_rng(0)), str),
        "A word of your query is not in the passage.": lambda f: all(
            set(words) <= set(_PASSAGE.split()) for words in _queries(f)
        ),
        "Your query has fewer than three words, or more than eight.": lambda f: all(
            3 <= len(words) <= 8 for words in _queries(f)
        ),
        "Your query has a word twice that the passage has once.": lambda f: all(
            len(set(words)) == len(words) for words in _queries(f)
        ),
        "The same state of the generator gives another query: draw from `random` alone.": lambda f: (
            list(_queries(f, 5)) == list(_queries(f, 5))
        ),
        "Every draw gives the same query: draw from `random`.": lambda f: len(set(map(tuple, _queries(f)))) > 20,
        "Every query has the same number of words; real ones differ.": lambda f: len(set(map(len, _queries(f)))) > 1,
        "The first word of the passage is in every query: begin elsewhere too.": lambda f: (
            not all("word0" in words for words in _queries(f))
        ),
        "A quarter of the passage is never in a query: a model would learn to pass over it.": (
            lambda f: {int(word.removeprefix("word")) // 10 for one in _queries(f) for word in one} == {0, 1, 2, 3}
        ),
        "A passage of two words fails, or gives a word it has not.": lambda f: (
            1 <= len(words := f("two words", np.random.default_rng(0)).split()) <= 2 and {*words} <= {"two", "words"}
        ),
    },
)
