"""Collections by name, whatever their source.

Every source ends in the BEIR layout, which one reader loads. The content of these files alone decides what a
collection is.
"""

import re
import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data import beir, hub, irds, pydocs, services, views
from lib.data.beir import CollectionError, CollectionWarning
from lib.data.collection import Collection
from lib.machine import digest, store

CARD = "collection.json"  # optional: {"relevant_grade": 2}
GRADE = "?relevant_grade="  # after a name: the same, for what cannot be written
BUILT = (*pydocs.DOMAINS, *services.OUT_OF_DOMAIN)  # from the texts of installed packages


def load(name: str) -> Collection:
    """A collection by name: a PyDocs domain, `botocore`, `hub:<dataset>`, `ir:<dataset>`, or a folder.

    `hub:` is a dataset of the Hugging Face hub, or a local folder in its form: in BEIR's layout, or with texts in its
    rows (`lib.data.layouts`). `ir:` is a dataset of ir_datasets by its id (`lib.data.irds`). A folder in BEIR's layout
    is named by its path, or by its name alone if it is in the data folder's `collections/`. A view of a collection has
    a word before its name, such as `cropped:pydocs` or `typos:pydocs` (`lib.data.views`). A folder's
    `collection.json`, or an ending of its name such as `?relevant_grade=2`, says from which grade on a document is
    relevant. Files are read again only if they change. Raises CollectionError if there is no such collection or a file
    is malformed, and ConnectionError if a dataset cannot be downloaded.
    """
    return _loaded(name, fingerprint(name))


def fingerprint(name: str) -> str:
    """The fingerprint of a collection by name, from its files' bytes. Raises as `load` does, but parses nothing."""
    kind, source = views.parted(name)
    if kind:
        return views.key(kind, fingerprint(source))
    folder, grade = _place(name)
    return store.key({path.relative_to(folder).as_posix(): digest.of_file(path) for path in beir.files(folder)}, grade)


def stored_run(name: str, run: str) -> Path:
    """The file of a TREC run: a path, or the name of a file in `runs/` of a collection's folder.

    .trec or .trec.gz at its end may be left out. Raises CollectionError if there is none.
    """
    if views.parted(name)[0] or _made(name.partition(GRADE)[0]):
        places = [Path(run)]
    else:
        runs = _place(name)[0] / "runs"
        places = [Path(run), *(runs / f"{run}{ending}" for ending in ("", ".trec", ".trec.gz"))]
    for place in places:
        if place.is_file():
            return place.absolute()
    raise CollectionError(
        f"no run {run!r}: give a path" + (f", or a file of {places[-1].parent}" if places[1:] else "")
    )


def folder(name: str) -> Path:
    """The folder of a collection in BEIR's layout; what the store has made must not be changed. Raises as `load`."""
    return _place(views.parted(name)[1])[0]


def is_here(name: str) -> bool:
    """Whether a collection is on this machine; nothing is built or downloaded."""
    path = views.parted(name)[1].partition(GRADE)[0]
    if made := _made(path):
        return store.is_whole(store.data_folder() / "collections" / made[0])
    return _given(path).is_dir()


def found() -> list[str]:
    """Names of the folders in BEIR's layout in the data folder's `collections/`, where a user puts them.

    Raises CollectionError if one has the name of a collection that comes with the kit, which that name means.
    """
    names = sorted(path.parent.name for path in (store.data_folder() / "collections").glob("*/corpus.jsonl")
                   if not store.is_whole(path.parent))  # fmt: skip
    if taken := set(names) & {*BUILT}:
        where = f"{store.data_folder() / 'collections'}: {', '.join(sorted(taken))}"
        raise CollectionError(f"{where} is the name of a collection that comes with the kit; rename the folder")
    return names


@lru_cache(maxsize=16)
def _loaded(name: str, fingerprint: str) -> Collection:
    kind, source = views.parted(name)
    if kind:
        return views.view(kind, load(source))
    folder, grade = _place(name)
    short = name if name.startswith(("hub:", "ir:")) else folder.name
    digests = [digest.of_file(folder / file) for file in ("corpus.jsonl", "queries.jsonl")]
    documents, queries, judgements = beir.read(folder)
    for split, rows in judgements.items():
        highest = rows.groupby("query", sort=False)["grade"].max()
        lacking = highest.index[highest < grade]
        if len(lacking) == len(highest) or (len(lacking) and split != "train"):
            what = f"{len(lacking)} of {len(highest)} queries have no document of grade {grade} or more"
            what = f"{name}: split {split!r}: {what}, so their recall and RR are 0; the first is {lacking[0]!r}"
            warnings.warn(what, CollectionWarning, stacklevel=3)
    return Collection(short, fingerprint, documents, queries, judgements, grade, *digests)


def _place(name: str) -> tuple[Path, int]:
    """The folder of a collection, built or downloaded where it has to be, and the grade that counts."""
    path, separator, grade = name.partition(GRADE)
    if made := _made(path):
        folder = store.keep("collections", *made)
        folder = folder / path if path in BUILT else folder
    elif not (folder := _given(path)).is_dir():
        choice = f"give one of {', '.join(BUILT)}, hub:<dataset>, ir:<dataset>, or a folder in BEIR layout"
        where = f"by its path or in {store.data_folder() / 'collections'} (there is no folder {folder})"
        raise CollectionError(f"no collection {name!r}: {choice}, {where}")
    card = folder / CARD
    if separator:
        where, text = name, f'{{"relevant_grade": {grade}}}'
    elif card.exists() or card.is_symlink():
        if not card.is_file():
            raise CollectionError(f"{card}: a folder or a broken link; write a file in its place, or remove it")
        where, text = card, card.read_text("utf-8-sig", "replace")
    else:
        return folder, 1
    found = re.fullmatch(r'\s*\{\s*"relevant_grade"\s*:\s*([1-9]\d?)\s*\}\s*', text)
    if not found:
        raise CollectionError(f'{where}: found {text[:80]!r}, expected {{"relevant_grade": 1}}, a number below 100')
    return folder, int(found[1])


def _made(path: str) -> tuple[str, Callable[[Path], None]] | None:
    """The store's name of a collection that the kit builds or copies, and what makes it; None for a user's folder."""
    if path in pydocs.DOMAINS:
        return f"pydocs-{store.key(pydocs.versions(), digest.of_file(Path(pydocs.__file__)))}", pydocs.build
    if path in services.OUT_OF_DOMAIN:
        code = [digest.of_file(Path(module.__file__)) for module in (pydocs, services)]
        return f"services-{store.key(services.versions(), code)}", services.build
    kind, _, dataset = path.partition(":")
    if (source := {"hub": hub, "ir": irds}.get(kind)) and dataset.partition("#")[0]:
        return source.identity(dataset), partial(source.copy, dataset)
    return None


def _given(path: str) -> Path:
    """A user's folder, by its path or by its name in the data folder; it may not exist."""
    folder, own = Path(path).absolute(), store.data_folder() / "collections" / path
    return own if not folder.is_dir() and own.is_dir() and Path(path).name == path else folder


def card(collection: Collection) -> pd.DataFrame:
    """One row per split: counts and lengths, for the data card of a collection."""
    lengths = np.array([len(text.split()) for text in collection.documents.values()])
    rows = []
    for split, judged in collection.judgements.items():
        queries, relevant = collection.split(split), collection.relevant(split)
        query_lengths = [len(collection.queries[query].split()) for query in queries]
        counts = [len(relevant.get(query, ())) for query in queries]  # of relevant documents that the collection has
        rows.append({
            "collection": collection.name, "split": split, "documents": len(lengths), "queries": len(queries),
            "judgements": len(judged), "relevant per query": np.mean(counts),
            "words per query": np.mean(query_lengths), "words per document": lengths.mean(),
            "words, longest 5 %": np.quantile(lengths, 0.95), "fingerprint": collection.fingerprint,
        })  # fmt: skip
    return pd.DataFrame(rows)
