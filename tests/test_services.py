"""Service descriptions: what is read of a small package, and the invariants on the installed one."""

import gzip
import json
import sys

import pytest

from lib.data import beir, collections, pydocs, services

REST = (
    "<p>The gateway forwards packets between networks, and every attached route table is kept until it is removed.</p>"
)
QUEUE = (
    "<p>A queue keeps messages in order, for fourteen days at most, unless a reader has removed them before that.</p>"
)
TAGS = (
    "<p>Labels help to sort resources by owner, purpose or environment, so that costs may be told apart later on.</p>"
)
SHARED = (
    "<p>Names are unique within an account, may hold letters, digits and hyphens, and cannot be changed afterwards.</p>"
)

OPERATIONS = {
    ("net", "Net Core", "2020-02-02"): {
        "CreateDBGateway": f"<note><p>A preview. It changes.</p></note><p>Creates a <code>gateway</code> &amp; its\n route,"
                           f" e.g. Amazon&#39;s. It&lt;br&gt; is new.</p>{REST}",
        "ReadQueue": f"<p>Reads messages of a queue</p>{QUEUE}",
        "RenameStream": f"<p>Renames the given stream.</p>{SHARED}",
        "DropStream": f"<p>Drops the given stream.</p>{SHARED}",  # the text of another operation
        "TagStream": f"<p>Tags a resource of yours.</p>{TAGS}",
        "Short": "<p>Says one sentence and no more than that.</p>",
        "Terse": f"<p>Tags.</p>{TAGS}",
        "Silent": None,
        "Empty": "<p> </p>",
        "Echo": f"<p>Echoes what is sent.</p>{REST.replace('.</p>', '. It echoes what is sent.</p>')}",
        "OldQueue": f"<p>This queue operation is deprecated.</p>{QUEUE}",
    },
    ("net", "Net Core", "2019-01-01"): {"Ancient": f"<p>Stands in an older version.</p>{QUEUE}"},
    ("desk", "Desk", "2021-01-01"): {
        "TagDesk": "<p>Tags a resource of yours!</p><p>Desks are counted by floor, room and building, and each has a"
                   " number of its own on it.</p>",
        "ReadQueue": f"<p>Reads messages of a queue.</p>{QUEUE}",  # copied from the other service
    },
}  # fmt: skip


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `botocore` of two services, ahead of the installed one, that must not be imported."""
    site = tmp_path / "site"
    (site / "botocore-9.9.dist-info").mkdir(parents=True)
    (site / "botocore-9.9.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: botocore\nVersion: 9.9\n")
    for (service, title, version), operations in OPERATIONS.items():
        folder = site / "botocore" / "data" / service / version
        folder.mkdir(parents=True)
        about = {name: {"documentation": text} if text else {} for name, text in operations.items()}
        about["Gone"] = {"documentation": f"<p>Removes what is gone.</p>{REST}", "deprecated": True}
        description = {"metadata": {"serviceId": title}, "operations": about}
        (folder / "service-2.json.gz").write_bytes(gzip.compress(json.dumps(description).encode()))
    (site / "botocore" / "data" / "endpoints.json").write_text("{}")  # lies beside the services, and is none
    (site / "botocore" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.delitem(sys.modules, "botocore", raising=False)
    monkeypatch.setattr(services, "SHARES", {"test": 100})
    monkeypatch.syspath_prepend(site)


def test_operations_become_queries_and_passages(package, tmp_path):
    services.build(tmp_path / "built")
    documents, queries, judgements = beir.read(tmp_path / "built" / "botocore")
    found = {}
    for query, document in zip(judgements["test"]["query"], judgements["test"]["document"], strict=True):
        found.setdefault(queries[query], set()).add(document)
    assert found == {
        "Creates a gateway & its route, e.g. Amazon's": {"net.CreateDBGateway"},
        "Reads messages of a queue": {"desk.ReadQueue"},
        "Drops the given stream": {"net.DropStream"},
        "Tags a resource of yours!": {"desk.TagDesk", "net.TagStream"},
    }
    assert set(documents) == set().union(*found.values())
    # The rest of the paragraph and the others, cut; a notice comes last.
    text = (
        "It<br> is new. The gateway forwards packets between networks, and every attached route table is kept until it"
    )
    assert documents["net.CreateDBGateway"] == f"Net Core create db gateway: {text} is removed. A preview. It changes."
    built_from = json.loads((tmp_path / "built" / "botocore" / "built_from.json").read_text())
    assert built_from["packages"] == {"botocore": "9.9"}


def test_passages_are_cut():
    documentation = f"<p>Counts the words.</p><ul>{'<li>word</li>' * 60}</ul>"
    sentence, rest = services._sentence_and_rest(documentation)
    assert (sentence, rest) == ("Counts the words.", " ".join(["word"] * 60))
    _, passage = pydocs.pair(sentence, "count", rest, services.PASSAGE_WORDS)
    assert len(passage.split()) == 1 + 48


def test_a_stray_end_of_a_notice_hides_nothing():
    assert services._sentence_and_rest("</note><p>One is. Two are.</p></important>three") == (
        "One is.",
        "Two are. three",
    )


def test_it_is_loaded_by_name_and_not_imported(package, monkeypatch):
    loaded = collections.load("botocore")
    assert loaded.name == "botocore" and len(loaded.documents) == 5
    cropped = collections.load("cropped:botocore")
    assert list(cropped.judgements) == ["train"] and cropped.documents == loaded.documents
    assert sys.modules.get("botocore") is None
    place, _ = collections._place("botocore")
    monkeypatch.setattr(services, "versions", lambda: {"botocore": "9.10"})
    assert collections._place("botocore")[0] != place


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(services, "PACKAGE", "no-such-package")
    with pytest.raises(collections.CollectionError, match=r"no-such-package.*not installed.*pip install"):
        collections.load("botocore")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("services")
    services.build(folder)
    return collections.load(str(folder / "botocore"))  # the reader refuses an id that appears twice


@pytest.mark.slow
def test_the_installed_package_has_enough_to_measure_on(installed):
    assert set(installed.judgements) == {"dev", "test"}
    assert len(installed.split("test")) >= 5000 and len(installed.split("dev")) >= 500


@pytest.mark.slow
def test_every_query_has_a_relevant_document_that_does_not_contain_it(installed):
    seen = []
    for split in installed.judgements:
        relevant = installed.relevant(split)
        assert set(relevant) == set(installed.split(split)) and sum(map(len, relevant.values())) == len(
            installed.judgements[split]
        )
        for query, documents in relevant.items():
            assert not any(
                pydocs.words(installed.queries[query]) in pydocs.words(installed.documents[name]) for name in documents
            )
        seen += relevant
    assert sorted(seen) == sorted(installed.queries)  # each in one split


@pytest.mark.slow
def test_no_text_appears_twice_and_splits_share_no_document(installed):
    for texts in (installed.queries, installed.documents):
        assert len({pydocs.words(text) for text in texts.values()}) == len(texts)
    assert not set(installed.judgements["dev"]["document"]) & set(installed.judgements["test"]["document"])


@pytest.mark.slow
def test_little_is_left_of_tags_and_entities(installed):
    texts = [*installed.queries.values(), *installed.documents.values()]
    marked = [text for text in texts if any(mark in text for mark in ("<p>", "<code>", "&amp;", "&#39;", "\n"))]
    assert len(marked) <= 10  # three in botocore 1.44.8, which escapes them twice
