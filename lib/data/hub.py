"""Datasets in BEIR's layout on the Hugging Face hub, copied to a folder in BEIR's layout on disk."""

import errno
import shutil
from functools import partial
from pathlib import Path

from lib.data import beir
from lib.machine import digest, store


def identity(dataset: str) -> str:
    """The store's name for a dataset; it follows the content of one in a local folder."""
    folders = filter(Path.is_dir, (Path(dataset), Path(f"{dataset}-qrels")))
    content = [digest.of_files(folder, filter(Path.is_file, folder.rglob("*"))) for folder in folders]
    return f"hub-{store.key(dataset, content)}"


def copy(dataset: str, folder: Path) -> None:
    """Copy `<dataset>` and `<dataset>-qrels`, on the hub or in local folders, to a BEIR folder.

    Raises CollectionError if they are malformed, ConnectionError if they cannot be downloaded.
    """
    import datasets

    # A cache of its own: datasets' takes a local file that was edited within a second for the old one.
    load = partial(datasets.load_dataset, cache_dir=str(folder / "cache"))
    (folder / "qrels").mkdir()
    try:
        for part in ("corpus", "queries"):
            load(dataset, part)[part].to_json(folder / f"{part}.jsonl")
        for split, rows in load(f"{dataset}-qrels").items():
            rows = rows.select_columns(["query-id", "corpus-id", "score"])
            rows.to_csv(folder / "qrels" / f"{split}.tsv", sep="\t")
    except Exception as error:  # scripts are RuntimeErrors, broken files are errors of datasets' own
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise
        if isinstance(error, OSError) and not Path(dataset).is_dir():  # requests' errors are OSErrors
            advice = f"Check the name and the network, or give a local folder: {Path(dataset).absolute()} is none."
            raise ConnectionError(f"hub dataset {dataset!r} cannot be loaded: {error}. {advice}") from error
        layout = f"configurations corpus and queries, and {dataset}-qrels with query-id, corpus-id and score"
        raise beir.CollectionError(f"hub dataset {dataset!r} is not in BEIR's layout ({layout}): {error}") from error
    beir.read(folder)  # a malformed copy is not kept
    shutil.rmtree(folder / "cache")
