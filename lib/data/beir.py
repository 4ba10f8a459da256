"""BEIR layout: corpus.jsonl, queries.jsonl and qrels/<split>.tsv. Every fault is named with its file and line."""

import json
import re
import warnings
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pandas as pd

from lib.data import texts
from lib.data.texts import Texts
from lib.machine import digest, store

LAYOUT = 1  # of the stored texts: raise it when they change
NAME = re.compile(r"[^\s\0]([^\t\r\n\0]*[^\s\0])?")  # an id; NumPy would drop a NUL at its end
HEADER = "query-id\tcorpus-id\tscore"  # of judgements


class CollectionError(ValueError):
    """A collection is missing, malformed or inconsistent; the message names file and line."""


class CollectionWarning(UserWarning):
    """A collection has a fault that the field goes on with; the message counts it."""


def files(folder: Path) -> list[Path]:
    """The files of a collection: corpus, queries, and judgements for each split."""
    texts = [folder / "corpus.jsonl", folder / "queries.jsonl"]
    judgements = sorted((folder / "qrels").glob("[!.]*.tsv"))  # a file with a dot in front is some system's own
    for path in texts + judgements:
        if not path.is_file():
            what = "missing, or a folder or a broken link; a BEIR folder holds the files"
            raise CollectionError(f"{path}: {what} corpus.jsonl, queries.jsonl and qrels/<split>.tsv")
    if not judgements:
        raise CollectionError(f"{folder / 'qrels'}: no judgements; a BEIR folder holds qrels/<split>.tsv")
    return texts + judgements


def read(folder: Path) -> tuple[Texts, dict[str, str], dict[str, pd.DataFrame]]:
    """Documents and queries (id -> text), and judgements (split -> columns query, document, grade).

    Documents are parsed once, into an Arrow file in the store. Raises CollectionError if a file is missing or
    malformed; warns of empty texts and of judged documents that the corpus lacks.
    """
    corpus, topics, *splits = files(folder)
    documents, queries, judgements = _documents(corpus), _entries(topics, _text), {}
    for path, named, empty in (
        (corpus, documents, documents.empty()), (topics, queries, [name for name, text in queries.items() if not text])
    ):  # fmt: skip
        if empty:
            where = f"{empty[0]!r} in line {_line(path, _text, empty[0])}"
            what = f"{len(empty)} of {len(named)} texts are empty, the first {where}"
            _warn(f"{path}: {what}; no ranker can tell them apart")
    for path in splits:
        parse = partial(_grade, queries=queries, documents=documents)
        grades = _entries(path, parse)
        rows = [(query, document, grade) for (query, document), grade in grades.items()]
        judgements[path.stem] = pd.DataFrame(rows, columns=["query", "document", "grade"])
        known = {document for _, document in grades} & documents.keys()
        if missing := [pair for pair in grades if pair[1] not in known]:
            where = f"the first in line {_line(path, parse, missing[0])}"
            what = f"{len(missing)} of {len(rows)} judgements name documents that corpus.jsonl lacks, {where}"
            why = "the measures count them as documents that no ranker finds, and they are never training positives"
            _warn(f"{path}: {what}; {why}")
    return documents, queries, judgements


def check_copy(folder: Path, name: str) -> None:
    """Read a copy of a dataset that is not kept if it is malformed: its errors name the dataset in the folder's place.

    Its warnings are given when the copy is read in its own place.
    """
    try:
        with warnings.catch_warnings(action="ignore", category=CollectionWarning):
            read(folder)
    except CollectionError as error:
        raise CollectionError(str(error).replace(str(folder), name)) from None


def write_judgements(folder: Path, split: str, lines: Iterable[str]) -> None:
    """Write lines `query<tab>document<tab>grade`, each with its line end, under the header to `qrels/<split>.tsv`."""
    (folder / "qrels" / f"{split}.tsv").write_text("".join([HEADER, "\n", *lines]))


def _warn(message: str) -> None:
    warnings.warn(message, CollectionWarning, stacklevel=5)  # the caller of collections.load


def _documents(path: Path) -> Texts:
    def build(into: Path) -> None:
        lines = array("Q")

        def entries() -> Iterator[tuple[str, str]]:
            for number, entry in _parsed(path, _text):
                lines.append(number)
                yield entry

        repeated = texts.write(into, entries())
        if repeated is not None:
            name = texts.Texts(into).ids.names[repeated].as_py()
            raise CollectionError(f"{path}, line {lines[repeated]}: {name!r} appears twice")

    return Texts(store.keep("texts", store.key(LAYOUT, digest.of_file(path)), build))


def _entries(path: Path, parse: Callable[[str], tuple]) -> dict:
    """Key -> value, by `parse` from each line."""
    entries = {}
    for number, (key, value) in _parsed(path, parse):
        if key in entries:
            raise CollectionError(f"{path}, line {number}: {key!r} appears twice")
        entries[key] = value
    return entries


def _line(path: Path, parse: Callable[[str], tuple], wanted: object) -> int:
    """The line of a key; read again, since lines are asked for only where something is wrong."""
    return next(number for number, (key, _) in _parsed(path, parse) if key == wanted)


def _parsed(path: Path, parse: Callable[[str], tuple]) -> Iterator[tuple[int, tuple]]:
    """(number, what `parse` makes of it) of each line; blank lines, a byte order mark and Windows line ends pass."""
    there = False
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if not text.strip() or (not there and text == HEADER):
                    continue
                there, entry = True, parse(text)
            except ValueError as error:
                advice = "; repair it or convert the file to UTF-8" if isinstance(error, UnicodeError) else ""
                raise CollectionError(f"{path}, line {number}: {error}{advice}") from None
            yield number, entry
    if not there:
        raise CollectionError(f"{path}: empty; fill it, or remove it if it is a split without judgements")


def _text(line: str) -> tuple[str, str]:
    """(id, title and text) of a line of JSON."""
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f'expected {{"_id": ..., "text": ...}}: {error}') from None
    if not isinstance(row, dict) or not {"_id", "text"} <= set(row):
        raise ValueError('expected {"_id": ..., "text": ...}')
    title = "" if row.get("title") is None else row["title"]
    name = str(row["_id"]) if type(row["_id"]) is int else row["_id"]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"_id {name!r} must be a text without tabs, line breaks, NUL characters and outer spaces")
    for field, value in (("text", row["text"]), ("title", title)):
        if not isinstance(value, str):
            raise ValueError(f"{field} of {name!r} is {json.dumps(value)[:40]}; it must be a text")
    text = " ".join(f"{title} {row['text']}".split())
    (name + text).encode()  # half of a surrogate pair is no character: a UnicodeError
    return name, text


def _grade(line: str, queries: Mapping[str, str], documents: Mapping[str, str]) -> tuple[tuple[str, str], int]:
    """((query, document), grade) of a line of judgements."""
    fields = line.split("\t")
    if len(fields) != 3 or not fields[1].strip() or not re.fullmatch(r"[+-]?[0-9]{1,4}", fields[2]):
        hint = "; this looks like TREC's four columns" if len(fields) != 3 and len(line.split()) == 4 else ""
        expected = "query-id, corpus-id and a score, a whole number of at most four digits, tab-separated"
        raise ValueError(f"expected {expected}{hint}")
    query, document = map(_unquoted, fields, (queries, documents))
    if query not in queries:
        raise ValueError(f"query {query!r} is not in queries.jsonl")
    return (query, document), int(fields[2])


def _unquoted(field: str, known: Mapping[str, str]) -> str:
    """An id of a line of judgements: BEIR's own files are CSV, with quotation marks around an id that holds one."""
    quoted = re.fullmatch('"(.+)"', field)
    return quoted[1].replace('""', '"') if quoted and field not in known else field
