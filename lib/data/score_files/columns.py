"""`lists`, `tevatron`, `tuples` and `flag`, whose values have names: values into rows, rows into values."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from lib.data.score_files.faults import Fault, ScoreFileError
from lib.data.score_files.rows import OVERFLOW, Row

_QUERY, _POSITIVE, _SCORES = ("query", "anchor", "question"), ("positive", "answer"), ("scores", "score")
# layout -> the columns it needs, each by any of its names
_KEYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "lists": (("query_id",), ("document_ids",), ("scores",)),
    "tevatron": (("query_id",), ("positive_passages",), ("negative_passages",)),
    "flag": (("query",), ("pos",), ("neg",), ("pos_scores",), ("neg_scores",)),
    "tuples": (_QUERY, _POSITIVE, ("negative_1", "negative"), _SCORES),
}


def layout_of_keys(keys: list[str], path: Path, line: int | None) -> str:
    """Which layout has these columns; `line` is named where none has."""
    for layout, needed in _KEYS.items():
        if all(any(name in keys for name in names) for names in needed):
            return layout
    wanted = "; ".join(f"{layout}: {', '.join(names[0] for names in needed)}" for layout, needed in _KEYS.items())
    place = f"{path}, line {line}" if line else str(path)
    what = f"the columns {', '.join(keys)} are no known layout"
    raise ScoreFileError(f"{place}: {what}. Rename them to those of {wanted}", line, "missing column")


def _parse_lists(row: Mapping) -> list[Row]:
    return [_row(_value(row, "query_id"), _list(row, "document_ids"), _list(row, "scores"))]


def _make_lists(row: Row) -> dict:
    return {"query_id": row[0], "document_ids": row[1], "scores": row[2]}


def _parse_tevatron(row: Mapping) -> list[Row]:
    sides = []
    for side in ("positive_passages", "negative_passages"):
        passages = _list(row, side)
        if not all(isinstance(passage, Mapping) for passage in passages):
            raise Fault("wrong type", f"{side} holds no objects", "Write each as {docid, score}")
        sides.append([(_value(passage, "docid"), _value(passage, "score")) for passage in passages])
    return _a_row_a_positive(_value(row, "query_id"), *sides)


def _make_tevatron(row: Row) -> dict:
    passages = [{"docid": name, "score": score} for name, score in zip(row[1], row[2], strict=True)]
    return {"query_id": row[0], "positive_passages": passages[:1], "negative_passages": passages[1:]}


def _parse_flag(row: Mapping) -> list[Row]:
    sides = []
    for side in ("pos", "neg"):
        texts, scores = _list(row, side), _list(row, f"{side}_scores")
        if len(texts) != len(scores):
            what = f"{len(scores)} {side}_scores for {len(texts)} {side}"
            raise Fault("wrong length", what, "Give every text its score")
        sides.append(list(zip(texts, scores, strict=True)))
    return _a_row_a_positive(_value(row, "query"), *sides)


def _make_flag(row: Row) -> dict:
    names, scores = row[1], row[2]
    return {"query": row[0], "pos": names[:1], "neg": names[1:], "pos_scores": scores[:1], "neg_scores": scores[1:]}


def _parse_tuples(row: Mapping) -> list[Row]:
    numbered = sorted((int(name[9:]), name) for name in row if name.startswith("negative_") and name[9:].isdecimal())
    negatives = [name for _, name in numbered] or ["negative"]
    documents = [_value(row, *_POSITIVE), *(_value(row, name) for name in negatives)]
    return [_row(_value(row, *_QUERY), documents, _list(row, *_SCORES))]


def _make_tuples(row: Row) -> dict:
    negatives = {f"negative_{number}": text for number, text in enumerate(row[1][1:], 1)}
    return {"query": row[0], "positive": row[1][0], **negatives, "scores": row[2]}


def _a_row_a_positive(query: Any, positives: list[tuple], negatives: list[tuple]) -> list[Row]:
    if not positives:
        raise Fault("wrong length", "no positive", "Remove the line")
    groups = ([positive, *negatives] for positive in positives)
    return [_row(query, [name for name, _ in group], [score for _, score in group]) for group in groups]


def _row(query: Any, documents: Iterable, scores: list) -> Row:
    """A sound row of these, or the fault."""
    [query], documents = _names([query], "the query"), _names(documents, "a document")
    if not documents or len(documents) != len(scores):
        what = f"{len(scores)} scores for {len(documents)} documents"
        raise Fault("wrong length", what, "Give every document its score; margins are not scores")
    if not set(map(type, scores)) <= {float, int}:
        odd = next(score for score in scores if type(score) not in (float, int))
        raise Fault("not a number", f"a score is {odd!r:.40}", "Write it as a number")
    # ints may be beyond float64, where isfinite raises; NaN compares as False
    if not all(-OVERFLOW < score < OVERFLOW for score in scores):
        odd = next(score for score in scores if not -OVERFLOW < score < OVERFLOW)
        raise Fault("not finite", f"a score is {odd!r:.40}, which float32 cannot hold", "Score the pair again")
    return query, documents, scores


def _names(values: Iterable, what: str) -> list[str]:
    values = list(values)
    if not set(map(type, values)) <= {str}:
        for value in values:
            if value is not None and (not isinstance(value, str | int) or isinstance(value, bool)):
                raise Fault("wrong type", f"{what} is {value!r:.40}, no id or text", "Write it as a string")
        values = ["" if value is None else str(value) for value in values]
    if "" in values:
        raise Fault("empty field", f"{what} is empty", "Fill it in or remove the line")
    return values


def _list(row: Mapping, *names: str) -> list:
    found = _value(row, *names)
    if not isinstance(found, list):
        what = f"{names[0]!r} is no list but {found!r:.40}"
        raise Fault("wrong length", what, "Make it a list with a value a document")
    return found


def _value(row: Mapping, *names: str) -> Any:
    """The first of several names for a column that the row has."""
    for name in names:
        if name in row:
            return row[name]
    raise Fault("missing column", f"{names[0]!r} is missing", "Add it, or give another layout")


# layout -> values into rows, a row into values
PARSERS: dict[str, Callable[[Mapping], list[Row]]] = {
    "lists": _parse_lists,
    "tevatron": _parse_tevatron,
    "tuples": _parse_tuples,
    "flag": _parse_flag,
}
MAKERS: dict[str, Callable[[Row], dict]] = {
    "lists": _make_lists,
    "tevatron": _make_tevatron,
    "tuples": _make_tuples,
    "flag": _make_flag,
}
