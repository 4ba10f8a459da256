"""Hashes of files: read again exactly when a file has changed, in later processes too."""

import os

import pytest

from lib.machine import digest, store


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A large file that was last changed ten seconds ago, and a data folder of its own."""
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(digest, "LARGE", 4)
    later(monkeypatch, 10)
    path = tmp_path / "corpus.jsonl"
    path.write_text("before")
    return path


def later(monkeypatch, seconds):
    now = digest.time.time()
    monkeypatch.setattr(digest.time, "time", lambda: now + seconds)


def another_process(monkeypatch, *, may_read=True):
    """What this process knows is forgotten; without `may_read` reading a file whole is an error."""
    digest._recorded.cache_clear()
    if not may_read:
        monkeypatch.setattr(digest.store, "sha256", lambda path: pytest.fail(f"{path} was read again"))


def test_a_large_file_is_read_once_for_all_processes(large, monkeypatch):
    first = digest.of_file(large)
    assert first == store.sha256(large)
    with monkeypatch.context() as patch:
        patch.setattr(store, "CHECKED_BYTES", 0)  # the record's own manifest is not what is tested
        another_process(patch, may_read=False)
        assert digest.of_file(large) == first


def test_an_edit_of_the_same_length_and_time_is_seen(large, monkeypatch):
    first, was = digest.of_file(large), large.stat()
    large.write_text("after!")
    os.utime(large, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert (large.stat().st_size, large.stat().st_mtime_ns) == (was.st_size, was.st_mtime_ns)
    another_process(monkeypatch)
    assert digest.of_file(large) == store.sha256(large) != first


def test_a_file_changed_a_moment_ago_is_not_recorded(large, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("STUDY_DATA", str(large.parent / "data"))
    monkeypatch.setattr(digest, "LARGE", 4)
    large.write_text("now")
    assert digest.of_file(large) == store.sha256(large)
    assert not (store.data_folder() / "digests").exists()


def test_a_small_file_is_not_recorded(large, monkeypatch):
    monkeypatch.setattr(digest, "LARGE", 1000)
    digest.of_file(large)
    assert not (store.data_folder() / "digests").exists()


def test_a_damaged_record_is_not_believed(large, monkeypatch):
    first = digest.of_file(large)
    [record] = (store.data_folder() / "digests").glob("*/sha256")
    record.write_text("0" * 64)
    another_process(monkeypatch)
    store._verify.cache_clear()
    assert digest.of_file(large) == first


def test_a_data_folder_that_cannot_be_written_is_no_error(large, monkeypatch):
    def refuse(*_, **__):
        raise store.StoreError("read-only")

    monkeypatch.setattr(store, "keep", refuse)
    assert digest.of_file(large) == store.sha256(large)
