"""Test collections of the package ir_datasets (https://ir-datasets.com), copied to a folder in BEIR's layout."""

import contextlib
import errno
import json
from pathlib import Path

from lib.data import beir
from lib.data.beir import CollectionError
from lib.machine import store

COPY = 2  # of the stored copies: raise it when they change
SPLITS = ("train", "dev", "test")


def identity(name: str) -> str:
    """The store's name for a dataset."""
    return f"ir-{store.key(COPY, name)}"


def documents(name: str) -> int:
    """The number of a dataset's documents, as the package has it without a network; 0 where it has none."""
    with contextlib.suppress(ImportError, KeyError, AttributeError):
        import ir_datasets

        return ir_datasets.load(name).docs_metadata()["count"]
    return 0


def copy(name: str, folder: Path) -> None:
    """Copy documents, queries and judgements of a dataset's id, such as beir/scifact/test or msmarco-passage/train.

    Its split is the id's last part if that is train, dev or test, else test. An id without judgements, such as
    beir/scifact, has those of its parts with these names. A document's text is the package's own choice of fields
    (`default_text`). Raises CollectionError if the package or the id is missing, there are no judgements, or the data
    is malformed; ConnectionError if it cannot be downloaded.
    """
    try:
        import ir_datasets
    except ImportError:
        advice = "install it with: pip install -e '.[collections]'"
        raise CollectionError(f"the collection ir:{name} needs the package ir_datasets; {advice}") from None
    try:
        whole, splits = ir_datasets.load(name), _splits(ir_datasets, name)
        queries = {}
        for part in (whole, *splits.values()):
            for one in part.queries_iter() if part.has_queries() else ():
                if queries.setdefault(one.query_id, one.default_text()) != one.default_text():
                    advice = "give the id of one part, such as beir/scifact/test"
                    raise CollectionError(f"ir:{name}: query {one.query_id!r} has two texts in its parts; {advice}")
        with (folder / "corpus.jsonl").open("w") as file:
            file.writelines(_line(one.doc_id, one.default_text()) for one in whole.docs_iter())
        (folder / "queries.jsonl").write_text("".join(_line(*pair) for pair in queries.items()))
        (folder / "qrels").mkdir()
        for split, part in splits.items():
            rows = (f"{one.query_id}\t{one.doc_id}\t{one.relevance}\n" for one in part.qrels_iter())
            beir.write_judgements(folder, split, rows)
    except (KeyError, AttributeError) as error:  # the id is unknown, or without documents
        advice = "give an id of https://ir-datasets.com that has documents, queries and judgements"
        raise CollectionError(f"ir_datasets has no collection {name!r} ({error}); {advice}") from error
    except (OSError, RuntimeError) as error:  # requests' errors are OSErrors; RuntimeError: no mirror has a file
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise
        advice = "Check the network, or follow the instructions that ir_datasets printed"
        raise ConnectionError(f"ir:{name} cannot be downloaded: {error}. {advice}") from error
    beir.check_copy(folder, f"ir:{name}")


def _splits(ir_datasets, name: str) -> dict[str, object]:
    """Split -> the dataset with its judgements."""
    if (dataset := ir_datasets.load(name)).has_qrels():
        last = name.rpartition("/")[2]
        return {last if last in SPLITS else "test": dataset}
    parts = {}
    for split in SPLITS:
        with contextlib.suppress(KeyError):
            if (part := ir_datasets.load(f"{name}/{split}")).has_qrels():
                parts[split] = part
    if not parts:
        raise CollectionError(f"ir:{name} has no judgements; give an id that has, such as beir/scifact/test")
    return parts


def _line(name: str, text: str) -> str:
    return json.dumps({"_id": name, "text": text}) + "\n"
