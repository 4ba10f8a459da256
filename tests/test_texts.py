"""Texts in Arrow files: they read like a dict, ids of equal hashes are told apart, and reading holds little memory."""

import subprocess
import sys

import numpy as np
import pytest

from lib.data import texts
from lib.data.texts import Ids, Texts

SOME = {f"d{number}": f"text {number}" * (number % 3) for number in range(50)} | {"é": "ü", "文": "字\n", "x y": ""}


@pytest.fixture(params=[4096, 7])
def stored(tmp_path, monkeypatch, request):
    """`SOME` in one part, and in parts of seven."""
    monkeypatch.setattr(texts, "BATCH", request.param)
    assert texts.write(tmp_path, SOME.items()) is None
    return Texts(tmp_path)


def test_texts_read_like_a_dict(stored):
    assert stored == SOME and len(stored) == len(SOME)
    assert list(stored) == list(SOME) and list(stored.values()) == list(SOME.values())
    assert list(stored.items()) == list(SOME.items())
    assert stored["文"] == "字\n" and stored.get("none") is None and "d1" in stored and "d50" not in stored
    assert 3 not in stored and "\ud800" not in stored
    assert {"d1", "none", "é"} & stored.keys() == stored.keys() & ["d1", "none", "é"] == {"d1", "é"}
    assert set() & stored.keys() == set()
    with pytest.raises(KeyError, match="none"):
        stored["none"]


def test_empty_texts_are_named(stored):
    assert stored.empty() == [name for name, text in SOME.items() if not text]


@pytest.mark.parametrize("kinds", [1, 3])
def test_ids_of_equal_hashes_are_told_apart(kinds, tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "_hash", lambda name: len(name) % kinds)
    texts.write(tmp_path, SOME.items())
    stored = Texts(tmp_path)
    assert stored == SOME and "none" not in stored and "d99" not in stored
    names = [*SOME, "d99", "none", "d7"]
    assert stored.ids.rows(names).tolist() == [*range(len(SOME)), -1, -1, 7]


def test_the_first_repeated_id_is_found(tmp_path, monkeypatch):
    pairs = [*SOME.items(), ("é", "again"), ("d3", "again")]
    assert texts.write(tmp_path, pairs) == len(SOME)
    monkeypatch.setattr(texts, "_hash", lambda _: 5)
    assert texts.write(tmp_path, pairs) == len(SOME)
    assert Ids.of([["a"], ["b"], ["a"]]).repeated() == 2 and Ids.of([]).repeated() is None


def test_hashes_are_the_same_in_every_process():
    command = [sys.executable, "-c", "from lib.data import texts; print(texts._hash('d1'))"]
    assert int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) == texts._hash("d1")


@pytest.mark.slow
def test_reading_a_corpus_takes_less_memory_than_its_texts(tmp_path):
    """200 MB of text: a dict of it takes more than the texts, and what is written and mapped must not."""
    program = """if True:
        import resource, sys
        from pathlib import Path
        from lib.data import texts
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        before = peak()
        texts.write(Path(sys.argv[1]), ((f"d{number}", f"{number} " * 800) for number in range(40_000)))
        stored = texts.Texts(Path(sys.argv[1]))
        assert stored["d39999"].startswith("39999 ") and "none" not in stored
        print((peak() - before) / 1024, sum(map(len, stored.values())) / 2**20)
    """
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    grown, size = map(float, done.stdout.split())
    assert size > 170 and grown < 0.6 * size


def test_rows_are_numbers_even_of_no_name():
    rows = Ids.of([["a"]]).rows([])
    assert rows.shape == (0,) and rows.dtype == np.int64
