"""Training data whose rows hold their own texts, written as a folder in BEIR's layout.

The layouts, by the columns of a row; further columns are ignored:

- triples: query, positive, negative, all texts, or negative_1, negative_2, ...; sentence-transformers' triplets:
  https://huggingface.co/datasets/sentence-transformers/msmarco-bm25 (configuration triplet).
- pairs: query, positive: sentence-transformers' pairs, such as
  https://huggingface.co/datasets/sentence-transformers/natural-questions; or query, passage, label: a grade per pair.
- scored lists: query, passages: [text], scores: [number]; passages may be called docs, and scores labels, as in
  sentence-transformers' cross-encoders (https://sbert.net/docs/cross_encoder/training_overview.html).
- Tevatron's: query, positive_passages: [{docid, title, text}, ...], negative_passages: [...], perhaps query_id;
  RLHN's too: https://huggingface.co/datasets/rlhn/default-680K-bge-reranker-v2-gemma
- MS MARCO's: query, query_id, passages: {passage_text: [text], is_selected: [0 or 1]}:
  https://huggingface.co/datasets/microsoft/ms_marco
- FlagEmbedding's: query, pos: [text], neg: [text]: https://huggingface.co/datasets/Shitao/bge-m3-data

A query may be called anchor or question, a positive answer, and a passage document. A text without an id of its own is
named by its hash, so that equal texts are one document. A positive has grade 1, a negative 0. Scores of lists that are
integers, or nothing but 0.0 and 1.0 in a whole split, are grades. Of others the highest of a row is grade 1 and the
rest 0, and `SCORES` holds them in the layout `lists` of `lib.data.score_files`, as a teacher's.
"""

import hashlib
import json
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from lib.data import beir
from lib.data.score_files import ALIASES, NEGATIVE

SCORES = "scores.jsonl"
NAMES = ALIASES | {"docs": "passages", "documents": "passages", "document": "passage", "labels": "scores",
                   "label": "scores"}  # fmt: skip
SAID = ("labels", "label", "score", "scores")  # columns that say which document is relevant
TEXTS = ("query_id", "query", "anchor", "question", "positive", "answer", "negative", "passage", "document")  # columns
COLUMNS = (
    "query with positive and perhaps negatives, passage and label, passages and scores, positive_passages and "
    "negative_passages, or pos and neg"
)


class Candidate(NamedTuple):
    """A document of a row; its own id, if it has one, and its grade or score."""

    name: str | None
    text: str
    value: float


def write(splits: Mapping[str, Iterable[dict[str, Any]]], folder: Path) -> None:
    """Write corpus, queries, and judgements of each split, in the order of the rows.

    A pair that is in several rows has its highest grade. Raises ValueError, with split and row, for columns of no
    layout, a text that is null or no text, lists of different lengths, a document with two scores in a row, and an id
    with two texts.
    """
    seen: dict[str, dict[str, int]] = {"corpus": {}, "queries": {}}  # id -> hash of its text
    with (folder / "corpus.jsonl").open("w") as corpus, (folder / "queries.jsonl").open("w") as queries:
        for split, rows in splits.items():
            grades: dict[tuple[str, str], int] = {}
            two, graded = 0, _are_grades(rows)
            for number, row in enumerate(rows):
                try:
                    row = _named(row)
                    query = _name(row.get("query_id"), row["query"], queries, seen["queries"])
                    found = list(_candidates(row, graded))
                    names = [_name(one.name, one.text, corpus, seen["corpus"]) for one in found]
                    _check_scores(names, found)
                except (ValueError, TypeError, KeyError) as error:
                    what = f"lacks column {error}; expected {COLUMNS}" if isinstance(error, KeyError) else error
                    raise ValueError(f"split {split}, row {number}: {what}") from None
                for name, grade in zip(names, _grades(found), strict=True):
                    two += grades.setdefault((query, name), grade) != grade
                    grades[query, name] = max(grade, grades[query, name])
                if any(isinstance(one.value, float) for one in found):
                    scored = {"query_id": query, "document_ids": names, "scores": [one.value for one in found]}
                    with (folder / SCORES).open("a") as file:
                        file.write(json.dumps(scored) + "\n")
            if two:
                what = f"split {split}: {two} times a document has another grade for a query than before"
                warnings.warn(f"{what}; the highest counts", beir.CollectionWarning, stacklevel=2)
            lines = (f"{query}\t{name}\t{grade}\n" for (query, name), grade in grades.items())
            beir.write_judgements(folder, split, lines)


def _named(row: dict[str, Any]) -> dict[str, Any]:
    """A row by the names that the layouts have here; raises ValueError if it has both labels and scores."""
    said = [name for name, value in row.items() if name in SAID and value is not None]
    if len(said) > 1:
        raise ValueError(f"columns {' and '.join(said)} both say which document is relevant; leave one out")
    named = {NAMES.get(name, name): value for name, value in row.items()} | row
    return named | {"scores": row[said[0]]} if said else named  # another column of them is null


def _are_grades(rows: Iterable[dict[str, Any]]) -> bool:
    """Whether the scores of all lists are 0 or 1: a teacher's may be so in one row by chance."""
    if not any(isinstance(next(iter(rows), {}).get(name), list) for name in SAID):
        return True  # there are none, and the rows need not be read twice
    scores = (row.get(name) for row in rows for name in SAID)
    return all(score in (0, 1) for one in scores if isinstance(one, list) for score in one)


def _candidates(row: dict[str, Any], graded: bool) -> Iterator[Candidate]:
    """The documents of a row; `graded`: its scores are grades also where they are floats."""
    if "positive_passages" in row:
        for side, grade in (("positive_passages", 1), ("negative_passages", 0)):
            for one in _list(row, side):
                text = one["text"]
                if isinstance(text, str):  # else it is refused as it is
                    text = " ".join(filter(None, (one.get("title"), text)))
                yield Candidate(one["docid"], text, grade)
    elif "passages" in row:
        if isinstance(row["passages"], dict):  # MS MARCO's
            row = {"passages": row["passages"]["passage_text"], "scores": row["passages"]["is_selected"]}
        passages, scores = _list(row, "passages"), _list(row, "scores")
        if len(passages) != len(scores):
            raise ValueError(f"{len(passages)} passages, but {len(scores)} scores")
        for score in scores:
            if not isinstance(score, int | float) or not math.isfinite(score):
                raise ValueError(f"score {score!r:.40} is not a finite number")
        values = map(int, scores) if graded else scores
        yield from (Candidate(None, text, value) for text, value in zip(passages, values, strict=True))
    elif "pos" in row:
        sides = (("pos", 1), ("neg", 0))
        yield from (Candidate(None, text, grade) for side, grade in sides for text in _list(row, side))
    elif negatives := [name for name in row if re.fullmatch(NEGATIVE, name)]:
        yield Candidate(None, row["positive"], 1)
        yield from (Candidate(None, row[name], 0) for name in negatives)
    else:
        yield Candidate(None, row["passage"] if "passage" in row else row["positive"], _label(row))


def _label(row: dict[str, Any]) -> int:
    """The grade of a pair."""
    label = row["scores"] if "passage" in row else row.get("scores", 1)
    if not isinstance(label, int | float) or label % 1 != 0:  # NaN too
        what = f"label {label!r:.40} of a pair is no grade, a whole number"
        raise ValueError(f"{what}; scores of pairs are for a score file (lib.data.score_files)")
    return int(label)


def _check_scores(names: list[str], found: list[Candidate]) -> None:
    scores: dict[str, float] = {}
    for name, one in zip(names, found, strict=True):
        if isinstance(one.value, float) and scores.setdefault(name, one.value) != one.value:
            raise ValueError(f"{one.text[:40]!r} is there twice, with scores {scores[name]} and {one.value}")


def _list(row: dict[str, Any], column: str) -> list:
    if not isinstance(row[column], list):
        raise ValueError(f"{column} is {row[column]!r:.40}; expected a list")
    return row[column]


def _grades(found: list[Candidate]) -> list[int]:
    values = [one.value for one in found]
    highest = max(values, default=None)
    return [int(one if type(one) is not float else one == highest) for one in values]


def _name(name: object, text: object, file: TextIO, seen: dict[str, int]) -> str:
    """The id of a text, which is written if it is new."""
    if not isinstance(text, str):
        raise ValueError(f"{text!r:.40} in place of a text")
    if name is not None and type(name) not in (int, str):
        raise ValueError(f"id {name!r:.40} is neither a text nor a whole number")
    text = " ".join(text.split())  # as it will be read: texts that differ in white space alone are one
    name = hashlib.sha256(text.encode()).hexdigest()[:16] if name is None else str(name)
    if name not in seen:
        file.write(json.dumps({"_id": name, "text": text}) + "\n")
    if seen.setdefault(name, hash(text)) != hash(text):
        raise ValueError(f"id {name!r} has another text in an earlier row")
    return name
