"""Views of a collection: the same documents with other queries, or other splits, by a word before its name.

`cropped:pydocs` has queries cropped from the documents, `typos:pydocs` (or another of `lib.data.corruptions.KINDS`)
corrupted queries, and `from-dev:botocore` most of the dev queries for training.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data import corruptions
from lib.data.beir import CollectionError
from lib.data.collection import Collection
from lib.machine import digest, store

CROPPED_WORDS = (3, 8)  # words of a cropped query: at least, at most
STAYS_DEV = 5  # of so many dev queries in a row the last one is no training query of `from_dev`


def parted(name: str) -> tuple[str, str]:
    """The view that a name asks for, "" if it asks for none, and the name of the collection itself."""
    kind, _, source = name.partition(":")
    return (kind, source) if kind in VIEWS else ("", name)


def uncorrupted(name: str) -> str:
    """The name of a collection without the words before it that corrupt its queries."""
    kind, source = parted(name)
    return uncorrupted(source) if kind in corruptions.KINDS else name


def around_path(name: str) -> tuple[str, str, str]:
    """The name of a collection or a run in three: words such as "typos:" and "hub:", the path, what follows it."""
    words = "|".join([*VIEWS, "hub"])
    before, path, after = re.fullmatch(rf"(?s)(\s*(?:(?:{words}):)*)([^?]*?)(\s*(?:\?.*)?)", name).groups()
    if before.endswith("hub:"):
        path, mark, configuration = path.partition("#")
        after = mark + configuration + after
    return before, path, after


def key(kind: str, source: str) -> str:
    """The fingerprint of a view, from that of its collection."""
    if kind in corruptions.KINDS:
        return store.key("corrupted", kind, source, corruptions.SHARE, digest.of_file(Path(corruptions.__file__)))
    return store.key(kind, source, {"cropped": CROPPED_WORDS, "from-dev": STAYS_DEV}[kind])


def view(kind: str, collection: Collection) -> Collection:
    """The view of a collection; raises CollectionError where it has none."""
    found = VIEWS[kind](collection)
    return replace(found, name=f"{kind}:{collection.name}", fingerprint=key(kind, collection.fingerprint))


def cropped(collection: Collection) -> Collection:
    """The same documents, with one query per document: a few of its own words, in their order; no judgement is used.

    It teaches a cross-encoder to compare tokens across the two texts before it sees a label. After the inverse cloze
    task (Lee et al. 2019, https://arxiv.org/abs/1906.00300).
    """
    queries, rows = {}, []
    few, many = CROPPED_WORDS
    shuffled = sorted(collection.documents, key=lambda name: hashlib.sha256(name.encode()).digest())
    for number, name in enumerate(shuffled):
        draw, words = np.random.default_rng(number), collection.documents[name].split()
        if len(words) >= few:
            count = min(int(draw.integers(few, many + 1)), len(words))
            places = np.sort(draw.choice(len(words), count, replace=False))
            queries[f"crop-{number}"] = " ".join(words[place] for place in places)
            rows.append((f"crop-{number}", name, 1))
    return replace(
        collection, queries=queries, queries_digest=key("cropped", collection.documents_digest), relevant_grade=1,
        uncorrupted=None,
        judgements={"train": pd.DataFrame(rows, columns=["query", "document", "grade"])},
    )  # fmt: skip


def corrupted(collection: Collection, kind: str) -> Collection:
    """The same documents and judgements, with every query corrupted (see `lib.data.corruptions`)."""
    queries = {name: corruptions.corrupt(kind, text) for name, text in collection.queries.items()}
    known, before = key(kind, collection.queries_digest), collection.uncorrupted or collection.queries
    return replace(collection, queries=queries, queries_digest=known, uncorrupted=before)


def from_dev(collection: Collection) -> Collection:
    """The same collection with four in five of its dev queries for training, for one that has no training queries.

    The others stay for choices, and the test queries are as before. Raises CollectionError if there is no dev split,
    one of so few queries that none would stay, or a training split already.
    """
    if "train" in collection.judgements:
        raise CollectionError(f"from-dev:{collection.name}: it has training queries; give {collection.name!r} itself")
    dev, judged = collection.split("dev"), collection.judgements["dev"]
    if len(dev) < STAYS_DEV:
        what = f"it has {len(dev)} dev queries, and {STAYS_DEV} are the fewest of which one stays"
        raise CollectionError(f"from-dev:{collection.name}: {what}; judge more, or give cropped:{collection.name}")
    stays = judged["query"].isin(dev[STAYS_DEV - 1 :: STAYS_DEV])
    splits = {"train": judged[~stays].reset_index(drop=True), "dev": judged[stays].reset_index(drop=True)}
    return replace(collection, judgements=collection.judgements | splits)


VIEWS: dict[str, Callable[[Collection], Collection]] = {
    "cropped": cropped, "from-dev": from_dev, **{kind: partial(corrupted, kind=kind) for kind in corruptions.KINDS},
}  # fmt: skip
