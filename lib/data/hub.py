"""Datasets on the Hugging Face hub, in BEIR's layout or with texts in their rows, as folders in BEIR's layout."""

import contextlib
import errno
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from huggingface_hub.errors import HfHubHTTPError
from pyarrow import types

from lib.data import beir, layouts
from lib.machine import digest, store

COPY = 3  # of the stored copies: raise it when they change
TEXTS = ("_id", "title", "text", "query-id", "corpus-id", *layouts.TEXTS)  # columns
# Of CSV and TSV: datasets would take an id 0001 for 1, `true` for True, and a text N/A for none.
AS_WRITTEN = {"converters": dict.fromkeys(TEXTS, str), "keep_default_na": False,
              "na_values": {"score": [""], "label": [""]}}  # fmt: skip
NETWORK = HfHubHTTPError.__bases__  # what is raised where the hub cannot be reached or refuses: OSError, its client's


def identity(dataset: str) -> str:
    """The store's name for a dataset; it follows the content of one in a local folder."""
    name = dataset.partition("#")[0]
    folders = filter(Path.is_dir, (Path(name), Path(f"{name}-qrels")))
    content = [digest.of_files(folder, filter(Path.is_file, folder.rglob("*"))) for folder in folders]
    return f"hub-{store.key(COPY, dataset, content)}"


def copy(dataset: str, folder: Path) -> None:
    """Copy a dataset, on the hub or in a local folder, to a BEIR folder.

    It is in BEIR's layout, with judgements in `<dataset>-qrels` (BEIR) or in its configuration qrels (NanoBEIR) or
    default (MTEB), or in one of `lib.data.layouts`; of the latter `<dataset>#<configuration>` chooses one of several
    configurations. Raises CollectionError if it is malformed, ConnectionError if it cannot be downloaded.
    """
    import datasets

    name, _, configuration = dataset.partition("#")
    # A cache of its own: datasets' takes a local file that was edited within a second for the old one.
    load = partial(_load, str(folder / "cache"))
    (folder / "qrels").mkdir()
    try:
        if configuration or not (corpus := _configuration(load, name, "corpus")):
            layouts.write(_splits(load(name, configuration or None)), folder)
        else:
            for part, rows in (("corpus", corpus), ("queries", load(name, "queries"))):
                whole = rows[part] if part in rows else datasets.concatenate_datasets([*rows.values()])
                whole.to_json(folder / f"{part}.jsonl")
            for split, rows in _splits(_judgements(load, name)).items():
                beir.write_judgements(folder, split, (_line(split, *row) for row in enumerate(rows)))
    except Exception as error:  # scripts are RuntimeErrors, broken files are errors of datasets' own
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise
        if isinstance(error, NETWORK) and not Path(name).is_dir():
            advice = f"Check the name and the network, or give a local folder: {Path(name).absolute()} is none."
            raise ConnectionError(f"hub dataset {dataset!r} cannot be loaded: {error}. {advice}") from error
        layout = f"configurations corpus and queries, and {name}-qrels with query-id, corpus-id and score"
        what = f"is neither in BEIR's layout ({layout}) nor in one with texts in its rows ({layouts.COLUMNS})"
        cause = f" ({error.__cause__})" if error.__cause__ else ""  # a broken file is named there
        raise beir.CollectionError(f"hub dataset {dataset!r} {what}: {error}{cause}") from error
    beir.check_copy(folder, f"hub dataset {dataset!r}")
    shutil.rmtree(folder / "cache")


def _load(cache: str, name: str, configuration: str | None = None) -> Mapping:
    """The splits of a dataset, with ids and texts as they are in its files; raises ValueError for what became dates."""
    import datasets

    load = partial(datasets.load_dataset, name, configuration, cache_dir=cache)
    splits = {}
    with contextlib.suppress(TypeError, ValueError):  # of other files than CSV, which have no such settings
        splits = load(**AS_WRITTEN)
    splits = splits or load()  # any other fault is raised here
    for split, rows in splits.items():
        for field in rows.features.arrow_schema:
            if field.name in TEXTS and types.is_temporal(field.type):
                what = f"datasets reads the column {field.name!r} as {field.type}, not as text"
                raise ValueError(f"split {split}: {what}; save it as text, in CSV or parquet")
    return splits


def _configuration(load: Callable, name: str, configuration: str) -> Mapping | None:
    """A configuration of a dataset; None if there is none of this name."""
    import datasets

    return load(name, configuration) if configuration in datasets.get_dataset_config_names(name) else None


def _judgements(load: Callable, name: str) -> Mapping:
    for configuration in ("qrels", "default"):
        found = _configuration(load, name, configuration)
        if found and all("query-id" in rows.column_names for rows in found.values()):
            return found
    return load(f"{name}-qrels")


def _line(split: str, number: int, row: Mapping) -> str:
    """A judgement as a line; without a score it is 1. Raises ValueError for what a line cannot hold."""
    query, document, score = row["query-id"], row["corpus-id"], row.get("score", 1)
    names = [str(name) for name in (query, document) if type(name) in (int, str)]
    if len(names) < 2 or not all(names) or any(set(name) & set("\t\r\n") for name in names):
        raise ValueError(f"split {split}, row {number}: ids {query!r} and {document!r}; give texts without tabs")
    if not isinstance(score, int | float) or score % 1 != 0:  # NaN too
        raise ValueError(f"split {split}, row {number}: score {score!r} is no whole number")
    return f"{names[0]}\t{names[1]}\t{int(score)}\n"


def _splits(loaded: Mapping) -> dict:
    """Split -> rows. What is named dev, as in BEIR, is validation to datasets; ValueError if there are both."""
    if {"dev", "validation"} <= loaded.keys():
        raise ValueError("it has a split dev and a split validation, which would both be dev")
    return {"dev" if split == "validation" else split: rows for split, rows in loaded.items()}
