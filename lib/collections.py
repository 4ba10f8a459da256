"""Collection: documents, queries, judgements and splits, whatever their source.

Every source ends in the BEIR layout (corpus.jsonl, queries.jsonl, qrels/<split>.tsv), which one reader loads.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from lib import pydocs, store


class CollectionError(ValueError):
    """A collection is missing, malformed or inconsistent; the message names file and row."""


@dataclass(frozen=True, eq=False)
class Collection:
    """Texts by id, and judgements by split. Ids keep the order of their files."""

    name: str
    fingerprint: str  # of the text, the judgements and, for PyDocs, the package versions
    documents: dict[str, str]  # id -> title and text
    queries: dict[str, str]  # id -> text
    judgements: dict[str, pd.DataFrame]  # split -> columns query, document, grade

    def split(self, name: str, limit: int | None = None) -> list[str]:
        """Judged query ids of a split in file order; the first `limit` of them.

        Raises:
            CollectionError: the collection has no such split.
        """
        if name not in self.judgements:
            raise CollectionError(f"{self.name}: no split {name!r}; it has {', '.join(sorted(self.judgements))}")
        return list(self.judgements[name]["query"].unique()[:limit])

    def relevant(self, split: str) -> dict[str, dict[str, int]]:
        """Query id -> {document id: grade} for the documents of grade 1 or more."""
        rows = self.judgements[split]
        rows = rows[rows["grade"] > 0]
        found: dict[str, dict[str, int]] = {}
        for query, document, grade in zip(rows["query"], rows["document"], rows["grade"], strict=True):
            found.setdefault(query, {})[document] = grade
        return found


@lru_cache(maxsize=16)
def load(name: str) -> Collection:
    """A collection by name: a PyDocs domain, `hub:<dataset>` (BEIR layout on the hub), or a folder's path.

    `cropped:<name>` is that collection with queries cropped from its own documents (see `cropped`).

    Raises:
        CollectionError: there is no such collection, or a file of it is malformed.
        ConnectionError: hub data was asked for and the hub cannot be reached.
    """
    if name in pydocs.DOMAINS:
        parts = {"layout": pydocs.LAYOUT, "versions": pydocs.versions(), "source": _source(pydocs)}
        return read_beir(store.keep("collections", f"pydocs-{store.key(parts)}", pydocs.build) / name, name=name)
    if name.startswith("hub:"):
        folder = store.keep("collections", f"hub-{store.key(name)}", lambda into: _from_hub(name[4:], into))
        return read_beir(folder, name=name)
    if name.startswith("cropped:"):
        return cropped(load(name.removeprefix("cropped:")))
    if Path(name).is_dir():
        return read_beir(Path(name))
    raise CollectionError(
        f"no collection {name!r}: give one of {', '.join(pydocs.DOMAINS)}, hub:<dataset>, or a folder in BEIR layout"
    )


CROPPED_WORDS = (3, 8)  # words of a cropped query: at least, at most


def cropped(collection: Collection) -> Collection:
    """The same documents, with a query a document: a few of its own words, in their order; no judgement is used.

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
    fingerprint = store.key("cropped", collection.fingerprint, CROPPED_WORDS)
    return Collection(f"cropped:{collection.name}", fingerprint, collection.documents, queries, {"train": judged})


def _source(module: object) -> str:
    """Hash of a module's text: PyDocs is rebuilt when the code that builds it changes."""
    return hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest()[:16]


def read_beir(folder: Path, name: str | None = None) -> Collection:
    """Read a folder in the BEIR layout (Thakur et al. 2021, https://arxiv.org/abs/2104.08663).

    Raises:
        CollectionError: a file is missing or malformed, an id stands twice, or a judgement names an unknown id.
    """
    folder = Path(folder)
    documents = _texts(folder / "corpus.jsonl")
    queries = _texts(folder / "queries.jsonl")
    files = sorted((folder / "qrels").glob("*.tsv"))
    if not files:
        raise CollectionError(f"{folder / 'qrels'}: no judgements; a BEIR folder holds qrels/<split>.tsv")
    judgements = {path.stem: _judgements(path, queries, documents) for path in files}
    card = folder / "fingerprint.json"
    if card.exists():
        fingerprint = json.loads(card.read_text())["fingerprint"]
    else:
        digest = hashlib.sha256()
        for path in (folder / "corpus.jsonl", folder / "queries.jsonl", *files):
            digest.update(path.name.encode() + path.read_bytes())
        fingerprint = digest.hexdigest()[:16]
    return Collection(name or folder.name, fingerprint, documents, queries, judgements)


def _texts(path: Path) -> dict[str, str]:
    if not path.exists():
        raise CollectionError(f"{path}: missing; a BEIR folder holds corpus.jsonl, queries.jsonl and qrels/")
    texts: dict[str, str] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                name, text = str(row["_id"]), " ".join(f"{row.get('title') or ''} {row['text']}".split())
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise CollectionError(f'{path}, line {number}: expected {{"_id": ..., "text": ...}}') from error
            if name in texts:
                raise CollectionError(f"{path}, line {number}: the id {name!r} stands twice")
            texts[name] = text
    if not texts:
        raise CollectionError(f"{path}: empty")
    return texts


def _judgements(path: Path, queries: dict[str, str], documents: dict[str, str]) -> pd.DataFrame:
    """Columns query, document, grade. Judged documents without text are an error in no one's test but ours."""
    rows: list[tuple[str, str, int]] = []
    missing = 0
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            fields = line.rstrip("\n").split("\t")
            if (number == 1 and fields[-1] == "score") or not line.strip():
                continue
            try:
                query, document, grade = fields
                rows.append((query, document, int(grade)))
            except ValueError as error:
                raise CollectionError(
                    f"{path}, line {number}: expected query-id, corpus-id and a whole-number score, tab-separated"
                ) from error
            if query not in queries:
                raise CollectionError(f"{path}, line {number}: query {query!r} is not in queries.jsonl")
            missing += document not in documents
    if not rows:
        raise CollectionError(f"{path}: no judgements")
    frame = pd.DataFrame(rows, columns=["query", "document", "grade"])
    twice = frame.duplicated(["query", "document"])
    if twice.any():
        raise CollectionError(f"{path}: {tuple(frame.loc[twice, ['query', 'document']].iloc[0])} is judged twice")
    frame.attrs["without_text"] = missing
    return frame


def _from_hub(dataset: str, folder: Path) -> None:
    """Copy a hub dataset in BEIR's hub layout (`<dataset>` and `<dataset>-qrels`, or a local copy) to a folder."""
    import datasets

    def rows(name: str, configuration: str | None = None) -> datasets.DatasetDict:
        try:
            return datasets.load_dataset(name, configuration)
        except (OSError, datasets.exceptions.DatasetNotFoundError) as error:  # requests' errors are OSErrors
            raise ConnectionError(
                f"hub dataset {name!r} cannot be loaded: {error}. "
                "Check the name and the network, or give a local folder."
            ) from error

    (folder / "qrels").mkdir()
    for configuration, file in (("corpus", "corpus.jsonl"), ("queries", "queries.jsonl")):
        rows(dataset, configuration)[configuration].to_json(folder / file)
    for split, part in rows(f"{dataset}-qrels").items():
        part.select_columns(["query-id", "corpus-id", "score"]).to_csv(folder / "qrels" / f"{split}.tsv", sep="\t")


def card(collection: Collection) -> pd.DataFrame:
    """A row a split: counts and lengths, for the data card of a collection."""
    lengths = np.array([len(text.split()) for text in collection.documents.values()])
    rows = []
    for split, judged in collection.judgements.items():
        asked = [len(collection.queries[query].split()) for query in judged["query"].unique()]
        relevant = judged[judged["grade"] > 0].groupby("query").size()
        rows.append({
            "collection": collection.name, "split": split, "documents": len(lengths), "queries": len(asked),
            "judgements": len(judged), "relevant a query": relevant.mean(), "words a query": np.mean(asked),
            "words a document": lengths.mean(), "words, longest 5 %": np.quantile(lengths, 0.95),
            "fingerprint": collection.fingerprint,
        })  # fmt: skip
    return pd.DataFrame(rows)
