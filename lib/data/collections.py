"""Collection: documents, queries, judgements and splits, whatever their source.

Every source ends in the BEIR layout (corpus.jsonl, queries.jsonl, qrels/<split>.tsv), which one reader loads. What a
collection is, is decided by the content of these files and by nothing that a file says about them.
"""

import errno
import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data import pydocs
from lib.machine import digest, store

CARD = "collection.json"  # optional: {"relevant_grade": 2}
GRADE = "?relevant_grade="  # after a folder's path: the same, for folders that cannot be written


class CollectionError(ValueError):
    """A collection is missing, malformed or inconsistent; the message names file and row."""


class CollectionWarning(UserWarning):
    """A collection has a fault that the field goes on with; the message counts it."""


@dataclass(frozen=True, eq=False)
class Collection:
    """Texts by id, and judgements by split. Ids keep the order of their files."""

    name: str
    fingerprint: str  # of the files' content and of the grade that counts
    documents: dict[str, str]  # id -> title and text
    queries: dict[str, str]  # id -> text
    judgements: dict[str, pd.DataFrame]  # split -> columns query, document, grade
    relevant_grade: int = 1  # the lowest grade that counts as relevant; 2 in TREC Deep Learning
    documents_digest: str = ""  # of the documents alone: what their tokens and their BM25 index depend on
    queries_digest: str = ""

    def __post_init__(self) -> None:
        for name, texts in (("documents_digest", self.documents), ("queries_digest", self.queries)):
            if not getattr(self, name):  # made by hand
                object.__setattr__(self, name, store.key(list(texts.items())))

    def split(self, name: str, limit: int | None = None) -> list[str]:
        """Judged query ids of a split in file order; the first `limit` of them.

        Raises:
            CollectionError: the collection has no such split.
        """
        if name not in self.judgements:
            raise CollectionError(f"{self.name}: no split {name!r}; it has {', '.join(sorted(self.judgements))}")
        return list(self.judgements[name]["query"].unique()[:limit])

    def relevant(self, split: str) -> dict[str, dict[str, int]]:
        """Query id -> {document id: grade} for the relevant documents that the collection has."""
        self.split(split, 0)  # refuses one that is not there
        rows = self.judgements[split]
        rows = rows[rows["grade"] >= self.relevant_grade]
        found: dict[str, dict[str, int]] = {}
        for query, document, grade in zip(rows["query"], rows["document"], rows["grade"], strict=True):
            if document in self.documents:
                found.setdefault(query, {})[document] = grade
        return found


def load(name: str) -> Collection:
    """A collection by name: a PyDocs domain, `hub:<dataset>` (BEIR layout on the hub), or a folder's path.

    `cropped:<name>` is that collection with queries cropped from its own documents (see `cropped`). A folder says in
    `collection.json`, or its name in an ending such as `?relevant_grade=2`, from which grade on a document is relevant.
    It is read once for as long as its files stay as they are.

    Raises:
        CollectionError: there is no such collection, or a file of it is malformed.
        ConnectionError: hub data was asked for and the hub cannot be reached.
    """
    return _loaded(name, fingerprint(name))


def fingerprint(name: str) -> str:
    """The fingerprint of a collection by name, from its files' bytes: nothing is parsed.

    Raises:
        CollectionError, ConnectionError: as `load`.
    """
    if name.startswith("cropped:"):
        return store.key("cropped", fingerprint(name.removeprefix("cropped:")), CROPPED_WORDS)
    folder, grade = _place(name)
    return store.key({path.relative_to(folder).as_posix(): digest.of_file(path) for path in _files(folder)}, grade)


@lru_cache(maxsize=16)
def _loaded(name: str, fingerprint: str) -> Collection:
    if name.startswith("cropped:"):
        return cropped(load(name.removeprefix("cropped:")))
    folder, grade = _place(name)
    documents, queries = _texts(folder / "corpus.jsonl"), _texts(folder / "queries.jsonl")
    judgements = {path.stem: _judgements(path, queries, documents) for path in _files(folder)[2:]}
    short = name if name in pydocs.DOMAINS or name.startswith("hub:") else folder.name
    return Collection(
        short, fingerprint, documents, queries, judgements, grade, digest.of_file(folder / "corpus.jsonl"),
        digest.of_file(folder / "queries.jsonl"),
    )  # fmt: skip


def _place(name: str) -> tuple[Path, int]:
    """The folder of a collection, built or fetched where it has to be, and the grade that counts."""
    if name in pydocs.DOMAINS:
        parts = {
            "layout": pydocs.LAYOUT,
            "versions": pydocs.versions(),
            "source": digest.of_file(Path(pydocs.__file__)),
        }
        return store.keep("collections", f"pydocs-{store.key(parts)}", pydocs.build) / name, 1
    if name.startswith("hub:"):
        return store.keep("collections", _hub_name(name[4:]), lambda into: _from_hub(name[4:], into)), 1
    path, suffix, grade = name.partition(GRADE)
    if not Path(path).is_dir():
        raise CollectionError(
            f"no collection {name!r}: give one of {', '.join(pydocs.DOMAINS)}, hub:<dataset>, or a folder in BEIR "
            f"layout (there is no folder {Path(path).absolute()})"
        )
    return Path(path).absolute(), _grade(grade, name) if suffix else _card(Path(path).absolute())


def _card(folder: Path) -> int:
    path = folder / CARD
    if not path.exists():
        return 1
    try:
        card = json.loads(path.read_bytes())
        return _grade(card["relevant_grade"], path) if set(card) == {"relevant_grade"} else int("unknown keys")
    except (ValueError, TypeError, KeyError) as error:
        raise CollectionError(f'{path}: expected {{"relevant_grade": 1}} or another whole number') from error


def _grade(value: object, where: object) -> int:
    if not re.fullmatch(r"[1-9]\d?", str(value)):
        raise CollectionError(f"{where}: relevant_grade={value!r} must be a whole number of at least 1")
    return int(str(value))


def _files(folder: Path) -> list[Path]:
    """The files that a collection consists of: corpus, queries, and a file of judgements for each split."""
    for name in ("corpus.jsonl", "queries.jsonl"):
        if not (folder / name).is_file():
            raise CollectionError(
                f"{folder / name}: missing; a BEIR folder holds corpus.jsonl, queries.jsonl and qrels/"
            )
    judged = sorted((folder / "qrels").glob("*.tsv"))
    if not judged:
        raise CollectionError(f"{folder / 'qrels'}: no judgements; a BEIR folder holds qrels/<split>.tsv")
    return [folder / "corpus.jsonl", folder / "queries.jsonl", *judged]


CROPPED_WORDS = (3, 8)  # words of a cropped query: at least, at most


def cropped(collection: Collection) -> Collection:
    """The same documents, with one query per document: a few of its own words, in their order; no judgement is used.

    Finding the document that holds all of a query's words teaches a cross-encoder to compare tokens across the two
    texts before it sees a label. After the inverse cloze task (Lee et al. 2019, https://arxiv.org/abs/1906.00300).
    """
    names = sorted(collection.documents, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    queries, rows = {}, []
    few, many = CROPPED_WORDS
    for number, name in enumerate(names):
        draw = np.random.default_rng(number)
        words = collection.documents[name].split()
        if len(words) >= few:
            count = min(int(draw.integers(few, many + 1)), len(words))
            places = np.sort(draw.choice(len(words), count, replace=False))
            queries[f"crop-{number}"] = " ".join(words[place] for place in places)
            rows.append((f"crop-{number}", name, 1))
    judged = pd.DataFrame(rows, columns=["query", "document", "grade"])
    names = store.key("cropped", collection.documents_digest, CROPPED_WORDS)
    return Collection(
        f"cropped:{collection.name}", store.key("cropped", collection.fingerprint, CROPPED_WORDS), collection.documents,
        queries, {"train": judged}, 1, collection.documents_digest, names,
    )  # fmt: skip


def _texts(path: Path) -> dict[str, str]:
    """Id -> text of a file of JSON lines; a title stands before the text."""
    texts: dict[str, str] = {}
    for number, line in _lines(path):
        name, text = _id_and_text(line, f"{path}, line {number}")
        if name in texts:
            raise CollectionError(f"{path}, line {number}: the id {name!r} appears twice")
        texts[name] = text
    if not texts:
        raise CollectionError(f"{path}: empty")
    return texts


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number, text) of the lines that are not blank; a byte order mark and Windows line ends are no fault."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise CollectionError(
                    f"{path}, line {number}: byte {error.start + 1} is not UTF-8; convert the file to UTF-8"
                ) from None
            if text.strip():
                yield number, text


def _id_and_text(line: str, where: str) -> tuple[str, str]:
    """What one line of JSON says, or a CollectionError that says what is wrong with it."""
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        row = None
    if not isinstance(row, dict) or not {"_id", "text"} <= set(row):
        raise CollectionError(f'{where}: expected {{"_id": ..., "text": ...}}')
    name, title = row["_id"], row.get("title") or ""
    name = str(name) if type(name) is int else name
    if not isinstance(name, str) or name != name.strip() or not name or re.search(r"[\t\r\n]", name):
        raise CollectionError(f"{where}: _id {name!r} must be a text without tabs, line breaks and outer spaces")
    for field, value in (("text", row["text"]), ("title", title)):
        if not isinstance(value, str):
            raise CollectionError(f"{where}: {field} of {name!r} is {json.dumps(value)[:40]}; it must be a text")
    text = " ".join(f"{title} {row['text']}".split())
    try:
        (name + text).encode()
    except UnicodeEncodeError:
        raise CollectionError(f"{where}: half of a surrogate pair, which is no character; repair the text") from None
    return name, text


def _judgements(path: Path, queries: dict[str, str], documents: dict[str, str]) -> pd.DataFrame:
    """Columns query, document, grade; judged documents that the corpus lacks are counted in one warning."""
    rows: list[tuple[str, str, int]] = []
    for number, line in _lines(path):
        fields = line.split("\t")
        if number == 1 and fields[-1] == "score":
            continue
        if len(fields) != 3 or not re.fullmatch(r"[+-]?\d{1,9}", fields[2]):
            found = "; this looks like TREC's four columns" if len(line.split()) == 4 and len(fields) != 3 else ""
            raise CollectionError(
                f"{path}, line {number}: expected query-id, corpus-id and a whole-number score, tab-separated{found}"
            )
        if fields[0] not in queries:
            raise CollectionError(f"{path}, line {number}: query {fields[0]!r} is not in queries.jsonl")
        rows.append((fields[0], fields[1], int(fields[2])))
    if not rows:
        raise CollectionError(f"{path}: no judgements")
    frame = pd.DataFrame(rows, columns=["query", "document", "grade"])
    twice = frame.duplicated(["query", "document"])
    if twice.any():
        raise CollectionError(f"{path}: {tuple(frame.loc[twice, ['query', 'document']].iloc[0])} is judged twice")
    if missing := int((~frame["document"].isin(documents.keys())).sum()):
        warnings.warn(
            f"{path}: {missing} of {len(frame)} judgements name documents that corpus.jsonl lacks; the measures "
            "count them as documents that no ranker finds, and they are never training positives",
            CollectionWarning,
            stacklevel=5,
        )
    return frame


def _hub_name(dataset: str) -> str:
    """The store's name for a hub dataset; one that lies in a local folder is told by its content, too."""
    folders = [folder for folder in (Path(dataset), Path(f"{dataset}-qrels")) if folder.is_dir()]
    content = [digest.of_files(folder, filter(Path.is_file, folder.rglob("*"))) for folder in folders]
    return f"hub-{store.key(dataset, content)}"


def _from_hub(dataset: str, folder: Path) -> None:
    """Copy a hub dataset in BEIR's hub layout (`<dataset>` and `<dataset>-qrels`, or a local copy) to a folder."""
    import datasets

    def rows(name: str, configuration: str | None = None) -> datasets.DatasetDict:
        try:
            # A cache of its own: datasets' takes a local file that was edited within a second for the old one.
            return datasets.load_dataset(name, configuration, cache_dir=str(cache))
        except Exception as error:  # scripts are RuntimeErrors, broken files are errors of datasets' own
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise
            if isinstance(error, OSError) and not Path(dataset).is_dir():  # requests' errors are OSErrors
                raise ConnectionError(
                    f"hub dataset {name!r} cannot be loaded: {error}. "
                    f"Check the name and the network, or give a local folder: {Path(name).absolute()} is none."
                ) from error
            raise CollectionError(f"hub dataset {name!r} is not in BEIR's layout: {error}") from error

    cache = folder / "cache"
    (folder / "qrels").mkdir()
    try:
        for configuration, file in (("corpus", "corpus.jsonl"), ("queries", "queries.jsonl")):
            rows(dataset, configuration)[configuration].to_json(folder / file)
        for split, part in rows(f"{dataset}-qrels").items():
            columns = part.select_columns(["query-id", "corpus-id", "score"])
            columns.to_csv(folder / "qrels" / f"{split}.tsv", sep="\t")
    except (KeyError, ValueError) as error:
        raise CollectionError(
            f"hub dataset {dataset!r} is not in BEIR's layout (configurations corpus and queries, and {dataset}-qrels "
            f"with query-id, corpus-id and score): {error}"
        ) from error
    load(str(folder))  # a malformed copy is not kept
    shutil.rmtree(cache)


def card(collection: Collection) -> pd.DataFrame:
    """One row per split: counts and lengths, for the data card of a collection."""
    lengths = np.array([len(text.split()) for text in collection.documents.values()])
    rows = []
    for split, judged in collection.judgements.items():
        asked = [len(collection.queries[query].split()) for query in judged["query"].unique()]
        relevant = judged[judged["grade"] >= collection.relevant_grade].groupby("query").size()
        rows.append({
            "collection": collection.name, "split": split, "documents": len(lengths), "queries": len(asked),
            "judgements": len(judged), "relevant per query": relevant.mean(), "words per query": np.mean(asked),
            "words per document": lengths.mean(), "words, longest 5 %": np.quantile(lengths, 0.95),
            "fingerprint": collection.fingerprint,
        })  # fmt: skip
    return pd.DataFrame(rows)
