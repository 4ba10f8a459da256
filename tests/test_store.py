"""What the kit keeps is whole or absent, told apart from what was left half done, and checked when it is read."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors

from lib.machine import store

ROOT = Path(__file__).parents[1]


def write(text):
    return lambda folder: (folder / "file.txt").write_text(text)


def python(script, **popen):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", script], env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **popen)  # fmt: skip


def test_equal_content_has_an_equal_key():
    assert store.key(0.0, {"a": 2.0, "b": (1,)}) == store.key(0, {"b": [1], "a": 2})
    assert store.key(-0.0) == store.key(0)
    different = [0, 0.5, "0", True, False, None, [], [0], {"a": 0}, {"b": 0}]
    assert len({store.key(one) for one in different}) == len(different)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, Path("x")])
def test_what_has_no_stable_text_has_no_key(value):
    with pytest.raises((ValueError, TypeError)):
        store.key(value)


def test_a_place_is_built_once_and_then_read():
    place = store.keep("runs", "a", write("first"))
    assert store.keep("runs", "a", lambda _: pytest.fail("built again")) == place
    assert (place / "file.txt").read_text() == "first" and store.is_whole(place)
    assert [path.name for path in place.parent.iterdir()] == ["a"]  # no lock and nothing partial is left


@pytest.mark.parametrize("content", [{}, {"file.txt": "half"}])
def test_a_folder_without_its_manifest_does_not_count(content, data_folder):
    (data_folder / "runs" / "a").mkdir(parents=True)
    for name, text in content.items():
        (data_folder / "runs" / "a" / name).write_text(text)
    place = store.keep("runs", "a", write("whole"))
    assert (place / "file.txt").read_text() == "whole" and store.is_whole(place)


def test_finding_builds_nothing_and_checks_what_is_there(data_folder):
    assert store.find("runs", "a") is None and not data_folder.exists()
    place = store.keep("runs", "a", write("text"))
    assert store.find("runs", "a") == place
    (place / "file.txt").write_text("txet")
    store._verify.cache_clear()  # as in another process
    with pytest.raises(store.StoreError, match=r"file\.txt is altered"):
        store.find("runs", "a")


def test_a_flipped_bit_is_noticed(data_folder, monkeypatch):
    place = store.keep("runs", "a", lambda folder: (folder / "scores.npy").write_bytes(bytes(1000)))
    store._verify.cache_clear()  # as in another process
    content = bytearray((place / "scores.npy").read_bytes())
    content[500] ^= 1
    (place / "scores.npy").write_bytes(content)
    with pytest.raises(store.StoreError, match=r"scores.npy is altered.*Delete the folder .*runs/a"):
        store.keep("runs", "a", write("again"))
    (place / "scores.npy").write_bytes(bytes(999))
    with pytest.raises(store.StoreError, match="has 999 bytes and should have 1000"):
        store.keep("runs", "a", write("again"))
    (place / "scores.npy").unlink()
    with pytest.raises(store.StoreError, match="scores.npy is missing"):
        store.keep("runs", "a", write("again"))
    (place / store.MANIFEST).write_text("{")
    with pytest.raises(store.StoreError, match="manifest.json is damaged"):
        store.keep("runs", "a", write("again"))


BUILD = """
import sys, time
from pathlib import Path
from lib.machine import store
def build(folder):
    (folder / "mine.txt").write_text({mark!r})
    print("building", flush=True)
    sys.stdin.readline()
    assert (folder / "mine.txt").exists(), "somebody removed it"
print(store.keep("runs", "a", build))
"""


def test_a_removed_lock_costs_no_builder_its_work(data_folder):
    first = python(BUILD.format(mark="first"), stdin=subprocess.PIPE)
    assert first.stdout.readline() == "building\n"
    (data_folder / "runs" / ".a.lock").unlink()
    second = python(BUILD.format(mark="second"), stdin=subprocess.PIPE)
    assert second.stdout.readline() == "building\n"  # it has looked for what killed builders left, and builds too
    for process in (second, first):
        _, errors = process.communicate("go\n", timeout=60)
        assert process.returncode == 0, errors
    assert (data_folder / "runs" / "a" / "mine.txt").read_text() == "second"  # the first to end
    assert [path.name for path in (data_folder / "runs").iterdir()] == ["a"]


def test_the_other_processes_of_a_launch_are_told_that_the_main_one_waits(data_folder, monkeypatch):
    """They wait in a collective, which ends with an error long before another study's training does."""
    said = []
    monkeypatch.setattr(store, "TOLD_EVERY", 0.05)
    monkeypatch.setattr(store.processes, "from_main", lambda value: said.append(value) or value)
    other = python(BUILD.format(mark="other"), stdin=subprocess.PIPE)
    assert other.stdout.readline() == "building\n"
    ending = threading.Timer(0.5, lambda: other.communicate("go\n"))
    ending.start()
    store.keep("runs", "a", write("x"), together=True)
    ending.join()
    assert said[:2] == [store.WAITING] * 2 and said[-1] is True  # whole, since the other one built it
    replies = iter([store.WAITING, store.WAITING, True])
    monkeypatch.setattr(store.processes, "from_main", lambda _: next(replies))
    monkeypatch.setattr(store.processes, "is_main", lambda: False)
    assert store.keep("runs", "a", write("x"), together=True).name == "a" and not list(replies)


def test_what_a_killed_build_left_is_removed_by_the_next(data_folder):
    killed = python(BUILD.format(mark="killed"), stdin=subprocess.PIPE)
    assert killed.stdout.readline() == "building\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert list((data_folder / "runs").glob(".a.*.partial")) and (data_folder / "runs" / ".a.lock").exists()
    store.keep("runs", "another", write("x"))
    assert not list((data_folder / "runs").glob(".*.partial"))
    store.keep("runs", "a", write("x"))
    assert sorted(path.name for path in (data_folder / "runs").iterdir()) == ["a", "another"]


def test_two_that_want_the_same_build_it_once():
    built = []

    def build(folder):
        built.append(1)
        time.sleep(0.2)
        (folder / "x").write_text("x")

    threads = [threading.Thread(target=store.keep, args=("runs", "a", build)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == [1]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="/proc says which file a descriptor is of")
def test_everything_is_on_the_disk_before_the_rename(monkeypatch, data_folder):
    events = []
    real = {"fsync": os.fsync, "rename": Path.rename}
    monkeypatch.setattr(
        os, "fsync", lambda handle: (events.append(os.readlink(f"/proc/self/fd/{handle}")), real["fsync"](handle))
    )
    monkeypatch.setattr(
        Path, "rename", lambda path, to: (events.append(f"rename to {Path(to).name}"), real["rename"](path, to))[1]
    )
    store.keep("runs", "a", write("x"))
    final = events.index("rename to a")
    before, after = events[:final], events[final + 1 :]
    assert {Path(name).name for name in before if not name.startswith("rename")} >= {"file.txt", store.MANIFEST}
    assert after == [str(data_folder / "runs")]


class Unknown(RuntimeError):
    pass


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "x"),
        OSError(errno.EDQUOT, "x"),
        OSError("100 requested and 7 written"),
        safetensors.SafetensorError("x"),
        safetensors.SafetensorError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_clear_error_and_leaves_nothing(error, data_folder, monkeypatch):
    def build(folder):
        (folder / "half").write_text("half")
        raise error

    if getattr(error, "errno", None) is None and "os error" not in str(error):  # no number: the disk is asked
        monkeypatch.setattr(store.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 0}))
    with pytest.raises(store.StoreError, match="no space is left.*STUDY_DATA"):
        store.keep("runs", "full", build)
    assert not list((data_folder / "runs").iterdir())


@pytest.mark.parametrize(
    "error", [OSError("he requested and got"), Unknown("No space left on device"), ValueError("os error 28")]
)
def test_an_error_is_told_by_what_it_is_and_not_by_its_words(error):
    def build(_):
        raise error

    with pytest.raises(type(error)) as raised:
        store.keep("runs", "x", build)
    assert raised.value is error


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "figure.png"
    path.write_text("old")

    def fail(file):
        file.write_text("ha")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        store.replace_file(path, fail)
    assert path.read_text() == "old" and [path] == list(tmp_path.iterdir())
    store.replace_file(path, lambda file: file.write_text("new"))
    assert path.read_text() == "new" and [path] == list(tmp_path.iterdir())


def test_an_error_elsewhere_is_not_blamed_on_the_folder(tmp_path):
    with pytest.raises(PermissionError), store.clear_write_errors(tmp_path / "data"):
        raise PermissionError(13, "denied", str(tmp_path / "weights"))
    for place in (tmp_path / "data" / "runs" / "x", tmp_path):
        with pytest.raises(store.StoreError), store.clear_write_errors(tmp_path / "data"):
            raise PermissionError(13, "denied", str(place))


def test_an_error_of_the_work_itself_is_not_blamed_on_the_folder():
    def build(_):
        raise ConnectionRefusedError(111, "refused")

    with pytest.raises(ConnectionRefusedError):
        store.keep("runs", "x", build)


def test_what_a_place_was_made_from_is_noted():
    place = store.keep(
        "evaluations", "e", lambda folder: np.save(folder / "a.npy", np.zeros(2)), of=["runs/b", "runs/a"]
    )
    noted = json.loads((place / store.MANIFEST).read_text())
    assert noted["of"] == ["runs/a", "runs/b"] and set(noted["files"]) == {"a.npy"}


def test_the_other_processes_of_a_launch_wait_for_the_main_one(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    got = []
    other = threading.Thread(target=lambda: got.append(store.keep("tokens", "a", lambda _: pytest.fail("it built"))))
    other.start()
    time.sleep(0.3)
    assert not got
    monkeypatch.setenv("RANK", "0")
    place = store.keep("tokens", "a", write("x"))
    other.join(5)
    assert got == [place]


def test_a_relative_data_folder_is_the_callers_in_a_kernel_too(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setenv("STUDY_DATA", "my data")
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    assert store.data_folder() == tmp_path / "notebooks" / "my data"
    starter = python("input()", cwd=tmp_path, stdin=subprocess.PIPE)
    try:
        monkeypatch.setenv("JPY_PARENT_PID", str(starter.pid))  # as jupyter_client tells a kernel
        expected = tmp_path if Path("/proc/self/cwd").exists() else tmp_path / "notebooks"
        assert store.data_folder() == expected / "my data"
    finally:
        starter.communicate("done\n")
    assert store.data_folder() == tmp_path / "notebooks" / "my data"  # it has gone
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "absolute"))
    assert store.data_folder() == tmp_path / "absolute"
