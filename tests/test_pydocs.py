"""PyDocs on the installed packages: no leak, no duplicate, one build."""

import ast
import os
import re
import sys
from pathlib import Path
from unittest import mock

import pytest

from lib.data import collections, pydocs


@pytest.fixture(scope="module")
def domains(built_packages):
    with mock.patch.dict(os.environ, {"STUDY_DATA": str(built_packages)}):
        return {name: collections.load(name) for name in pydocs.DOMAINS}


@pytest.mark.slow
def test_every_domain_has_enough_to_measure_on(domains):
    assert len(domains["pydocs"].split("test")) >= 300
    assert len(domains["pydocs"].split("train")) >= 4000
    for name in pydocs.OUT_OF_DOMAIN:
        assert list(domains[name].judgements) == ["test"]
        assert len(domains[name].split("test")) >= 200


@pytest.mark.slow
def test_no_positive_of_a_test_or_dev_query_is_a_training_positive(domains):
    judged = domains["pydocs"].judgements
    train = set(judged["train"]["document"])
    for split in ("dev", "test"):
        assert not train & set(judged[split]["document"])
        assert not set(judged["train"]["query"]) & set(judged[split]["query"])


@pytest.mark.slow
def test_no_relevant_passage_contains_its_query(domains):
    for collection in domains.values():
        for judged in collection.judgements.values():
            for query, document in zip(judged["query"], judged["document"], strict=True):
                assert pydocs.words(collection.queries[query]) not in pydocs.words(collection.documents[document])


@pytest.mark.slow
def test_no_text_appears_twice(domains):
    for collection in domains.values():
        assert len({pydocs.words(text) for text in collection.queries.values()}) == len(collection.queries)
        bodies = [pydocs.words(text) for text in collection.documents.values()]
        assert len(set(bodies)) == len(bodies)


def test_one_summary_of_several_functions_has_all_of_them_relevant():
    body = "this many words make a body that is long enough to count as a passage of its own"
    pairs = [("a.f", "Return the sum", f"f: {body} one two three four five six seven eight nine"),
             ("b.g", "Return  the sum.", "g: something else entirely stands in the text of this other function here")]  # fmt: skip
    passages, queries, judgements = pydocs.merge(pairs)
    assert list(queries.values()) == ["Return the sum"]
    assert next(iter(judgements.values())) == {"a.f", "b.g"} == set(passages)


def test_near_duplicates_become_one_passage_relevant_to_both_queries():
    body = "the axis along which the values are added up where none means that all of them are"
    pairs = [("a.sum", "Add up values", f"frame sum: {body}"), ("b.sum", "Sum of the values", f"series sum: {body}")]
    passages, queries, judgements = pydocs.merge(pairs)
    assert list(passages) == ["a.sum"]
    assert len(queries) == 2 and all(documents == {"a.sum"} for documents in judgements.values())


def test_a_passage_that_repeats_its_summary_is_left_out():
    again = "Compute the mean.\n\nCompute the mean! " + "More words follow here so that it is long enough to keep " * 2
    assert pydocs._pair(("mean",), again) is None


def test_readable_names():
    assert pydocs.readable_name(("DataFrame", "to_parquet")) == "data frame to parquet"
    assert pydocs.readable_name(("HTTPServer",)) == "http server"


def test_sources_are_parsed_not_imported():
    source = ast.parse(Path(pydocs.__file__).read_text())
    imported = {alias.name for node in ast.walk(source) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(source) if isinstance(node, ast.ImportFrom)}
    assert "collections.abc" in imported
    assert {name.partition(".")[0] for name in imported} <= set(sys.stdlib_module_names)
    nodes = [node for node in ast.walk(source) if isinstance(node, ast.Name | ast.Attribute)]
    called = {node.id if isinstance(node, ast.Name) else node.attr for node in nodes}
    assert "parse" in called and not {"eval", "exec", "__import__", "import_module"} & called


@pytest.mark.slow
def test_workers_import_nothing_of_the_callers_folder(tmp_path, monkeypatch):
    """A foreign lib/, modules of the standard library's names, there and beside the file; of one package, to be quick."""
    (tmp_path / "lib" / "data").mkdir(parents=True)
    for name in ("lib/__init__.py", "lib/data/__init__.py", "lib/data/pydocs.py", "json.py", "ast.py"):
        (tmp_path / name).write_text("raise SystemExit('imported from the wrong place')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    file = tmp_path / "lib" / "data" / "pydocs.py"
    (file.parent / "json.py").write_text("raise SystemExit('imported from the wrong place')")
    source, domains = Path(pydocs.__file__).read_text(), 'DOMAINS = {"pydocs": ("networkx",)}\n'
    file.write_text(re.sub(r"^DOMAINS = \{.*?^\}[^\n]*\n", domains, source, flags=re.MULTILINE | re.DOTALL))
    monkeypatch.setattr(pydocs, "__file__", str(file))
    assert len(pydocs._parsed()["pydocs"]) > 100


def test_a_worker_that_fails_says_why(monkeypatch, tmp_path):
    monkeypatch.setattr(pydocs, "__file__", str(tmp_path / "nowhere.py"))
    with pytest.raises(RuntimeError, match=r"parsing the installed packages failed.*nowhere\.py"):
        pydocs._parsed()


def test_a_missing_source_package_is_named(monkeypatch):
    monkeypatch.setitem(pydocs.DOMAINS, "web", ("no-such-distribution",))
    pydocs.versions.cache_clear()
    with pytest.raises(ModuleNotFoundError, match="no-such-distribution"):
        pydocs.versions()
