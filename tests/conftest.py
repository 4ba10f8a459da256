"""A data folder of its own for every test, and a ranker small enough to train in a second."""

import json
import os
import shutil
from pathlib import Path
from unittest import mock

import accelerate
import jaxtyping
import numpy as np
import pytest
import torch
import transformers

# Packages whose annotations are checked at every call, shapes included; before any of them is imported. A whole number
# passes for a float, as for every type checker.
CHECKED = ["lib.losses", "lib.models", "lib.search"]
jaxtyping.install_import_hook(CHECKED, "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

from lib.data import collections  # noqa: E402

WORDS = [
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lamda", "mu", "nu", "xi",
    "omicron", "pi", "rho", "sigma", "tau", "upsilon",
]  # fmt: skip


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("notebooks") is None)  # they take longest: begin with them
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs an accelerator, and this machine has none"))


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    """No test reads or writes the project's own data folder."""
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(scope="session")
def built_packages(tmp_path_factory):
    """A data folder with PyDocs and the service descriptions, which take longer to build than most tests.

    One for all of pytest's workers, whose folders lie beside each other: the store's lock lets one of them build.
    """
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "packages"
    with mock.patch.dict(os.environ, {"STUDY_DATA": str(folder)}):
        for name in ("pydocs", "botocore"):
            collections.load(name)
    return folder


@pytest.fixture
def packages(built_packages, data_folder):
    """Those collections in the test's own data folder."""
    shutil.copytree(built_packages / "collections", data_folder / "collections")


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory):
    """A random two-layer BERT in the hub's layout, with a word-level tokenizer."""
    folder = tmp_path_factory.mktemp("backbone")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    tokenizer = transformers.BertTokenizerFast(vocab={word: number for number, word in enumerate(vocabulary)})
    tokenizer.save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.BertModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_collection(tmp_path_factory):
    """A BEIR folder: 40 documents of random words, 24 queries that repeat two words of their document."""
    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    (folder / "qrels").mkdir(parents=True)
    draw = np.random.default_rng(0)
    texts = {f"d{number}": " ".join(draw.choice(WORDS, 8)) for number in range(40)}
    queries = {f"q{number}": " ".join(texts[f"d{number}"].split()[:2]) for number in range(24)}
    write = lambda rows: "".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in rows.items())  # noqa: E731
    (folder / "corpus.jsonl").write_text(write(texts))
    (folder / "queries.jsonl").write_text(write(queries))
    for split, numbers in (("train", range(16)), ("test", range(16, 24))):
        rows = "".join(f"q{number}\td{number}\t1\n" for number in numbers)
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    return str(folder)


@pytest.fixture
def experiment(tiny_backbone, tiny_collection):
    """A run of a cross-encoder that trains in a second."""
    from tests import kit  # here: most tests need no more than the collection

    return kit.experiment("info_nce", backbone=tiny_backbone, collection=tiny_collection, group_count=16, batch_size=4,
                          docs=3, max_length=48, learning_rate=1e-3)  # fmt: skip


@pytest.fixture
def float32(monkeypatch):
    """Scores and training without autocast, whatever the processor; Accelerate would keep the precision it began with."""
    monkeypatch.setattr("lib.machine.hardware.precision", lambda: "no")
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    yield
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def found(tiny_collection):
    """The tiny collection, loaded."""
    return collections.load(tiny_collection)


def same_weights(one, other):
    """Bit for bit; scores may differ by a rounding, since kernels depend on where a weight lies in memory."""
    weights, others = one.state_dict(), other.state_dict()
    assert list(weights) == list(others)
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def padded(batch, more):
    """The same batch with `more` columns of padding."""
    return {name: padded(part, more) if isinstance(part, dict) else torch.nn.functional.pad(part, (0, more))
            for name, part in batch.items()}  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium: the system's, or the one that playwright has installed."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'playwright>=1.45'")
    names = ("chromium", "chromium-browser", "google-chrome")
    system = next(filter(None, map(shutil.which, names)), None)
    with api.sync_playwright() as playwright:
        if system is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("needs a Chromium: playwright install --with-deps chromium, or the system's package")
        launched = playwright.chromium.launch(executable_path=system)
        yield launched
        launched.close()
