"""A folder is whole or absent: the kit builds everything it keeps beside its final place and renames it when done.

So no process takes what a killed one left for a result, and two that need the same thing build it once. A folder is
whole when it holds `manifest.json`, which is written last and lists every file with its size and SHA-256.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from lib.machine import processes, progress

MANIFEST = "manifest.json"
WAITING, TOLD_EVERY = "waiting", 60.0  # what the main process of a launch tells the others while it waits; seconds
CHECKED_BYTES = 2**26  # `keep` compares larger files by size alone; `python -m lib.study.space --check` reads all

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST}


class StoreError(RuntimeError):
    """The data folder cannot be written, or something in it is damaged."""


def data_folder() -> Path:
    """The folder that holds everything: the environment variable STUDY_DATA, else the project's `data/`.

    A relative STUDY_DATA is relative to the folder of the caller: for a notebook, of what started its kernel.
    """
    if not (folder := os.environ.get("STUDY_DATA")):
        return Path(__file__).parents[2] / "data"
    try:
        caller = os.readlink(f"/proc/{os.environ.get('JPY_PARENT_PID') or 'self'}/cwd")
    except OSError:  # not Linux, or that process has ended
        caller = os.getcwd()
    return Path(caller, folder).absolute()


def key(*parts: object) -> str:
    """A 16-digit name for JSON-like content: equal content, equal name, in every process.

    0.0 and 0 are equal content; True and 1 are not. Raises ValueError or TypeError for what is not finite or not JSON.
    """
    text = json.dumps(_plain(parts), sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sha256(path: Path) -> str:
    """SHA-256 of a file, read now; `lib.machine.digest` reads what has not changed once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def keep(
    kind: str, name: str, build: Callable[[Path | None], None], *, of: Iterable[str] = (), together: bool = False
) -> Path:
    """Return `data/<kind>/<name>`; where it is missing, `build(folder)` makes it.

    `build` fills a folder beside the place, which is then renamed: the rename is atomic, so the place exists only when
    whole. A lock, which the system releases if its holder is killed, lets one process build. `of` names what the place
    was made from, as "kind/name"; `lib.study.space` removes it when one of those is gone.

    Of the processes of one `accelerate launch` the main one builds and the others wait for it. With `together` all of
    them call `build`, and all but the main one with None instead of a folder. Raises StoreError if the data folder
    cannot be written or a file of the place is damaged.
    """
    place = data_folder() / kind / name
    if not processes.is_main():
        if together and not _said():
            build(None)
        while not is_whole(place):  # if the main process fails, the launcher ends this one
            time.sleep(0.1)
    elif not is_whole(place):
        _build(place, build, sorted(of), together)
    elif together:
        processes.from_main(True)
    return _checked(place)


def find(kind: str, name: str) -> Path | None:
    """`data/<kind>/<name>`, None where it is missing: nothing is built. Raises StoreError if a file is damaged."""
    place = data_folder() / kind / name
    return _checked(place) if is_whole(place) else None


def is_whole(place: Path) -> bool:
    """Whether a folder was built to its end; an empty or half-copied one was not."""
    return (place / MANIFEST).is_file()


def manifest(place: Path) -> dict:
    """What a whole folder holds and what it was made from: {"of": [...], "files": {name: [size, SHA-256]}}."""
    try:
        return json.loads((place / MANIFEST).read_text())
    except ValueError as error:
        raise StoreError(f"{place / MANIFEST} is damaged. Delete the folder {place}: it is made again.") from error


def damage(place: Path, *, up_to: float = float("inf")) -> list[str]:
    """One line for each missing or altered file of a whole folder; above `up_to` bytes their size alone is compared."""
    lines = []
    for name, (size, expected) in manifest(place)["files"].items():
        path = place / name
        if not path.is_file():
            lines.append(f"{path} is missing")
        elif path.stat().st_size != size:
            lines.append(f"{path} has {path.stat().st_size} bytes and should have {size}")
        elif size <= up_to and sha256(path) != expected:
            lines.append(f"{path} is altered: its SHA-256 is not the one in {MANIFEST}")
    return lines


def _checked(place: Path) -> Path:
    _verify(place, (place / MANIFEST).stat().st_mtime_ns)
    return place


@functools.cache
def _verify(place: Path, _written: int) -> None:
    """Once per process and manifest is enough, so the result is cached; an error is not."""
    if lines := damage(place, up_to=CHECKED_BYTES):
        raise StoreError(f"{lines[0]}. Delete the folder {place}: it is made again.")


def _build(place: Path, build: Callable[[Path], None], of: list[str], together: bool) -> None:
    with clear_write_errors(data_folder()):
        place.parent.mkdir(parents=True, exist_ok=True)
        with locked(place, together):
            whole = is_whole(place)  # then another process built it while this one waited
            if together:
                processes.from_main(whole)
            if not whole:
                with _partial(place) as folder, clear_write_errors(data_folder()):  # before clean-up frees the disk
                    build(folder)
                    _finish(folder, place, of)


def _said() -> bool:
    """Whether the main process finds a place whole, once it has the lock."""
    while (said := processes.from_main(None)) == WAITING:
        pass
    return said


@contextlib.contextmanager
def locked(place: Path, together: bool = False) -> Iterator[None]:
    """A block in which no other process changes `place`; who waits for it says so."""
    lock, timeout = FileLock(place.parent / f".{place.name}.lock"), 0.0
    while True:
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=timeout)
            break
        if not timeout:
            progress.say(f"waiting: another process is making {place.parent.name}/{place.name}")
        if together:  # the other processes would not wait for as long as a training takes
            processes.from_main(WAITING)
        timeout = TOLD_EVERY
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # whoever waits for the removed file finds the place whole
        lock.release()


def remove_free_lock(path: Path) -> None:
    """Remove the lock that a killed process left; one that is held stays."""
    with contextlib.suppress(Timeout), FileLock(path, timeout=0):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _partial(place: Path) -> Iterator[Path]:
    """A folder beside `place` to build in, removed at the end unless it was renamed.

    It stays locked as long as its builder lives, which tells it from what a killed one left.
    """
    for path in place.parent.glob(".*.partial"):
        if is_abandoned(path):
            shutil.rmtree(path, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".new", dir=place.parent))
    folder.chmod(0o755)  # mkdtemp makes it private; a shared data folder should stay readable
    with folder_lock(folder):
        try:
            folder = folder.rename(folder.with_suffix(".partial"))
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def is_abandoned(partial: Path) -> bool:
    """Whether the builder of a partial folder has ended."""
    with folder_lock(partial) as locked:
        return locked


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[bool]:
    """Yield whether this process could lock the folder: not if another has, or on a file system without locks."""
    with contextlib.ExitStack() as stack:
        locked = False
        with contextlib.suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        yield locked


def _finish(folder: Path, place: Path, of: list[str]) -> None:
    """Write the manifest, make sure that everything is on the disk, and rename the folder to its place."""
    files = {}
    for path in sorted(filter(Path.is_file, folder.rglob("*"))):
        path.chmod(0o644)  # safetensors writes private files; a shared data folder should stay readable
        files[path.relative_to(folder).as_posix()] = [path.stat().st_size, sha256(path)]
    (folder / MANIFEST).write_text(json.dumps({"of": of, "files": files}, indent=1))
    for path in (*folder.rglob("*"), folder):
        _sync(path)
    if place.exists() and not is_whole(place):
        progress.say(f"{place} is not whole: it is made again")
        shutil.rmtree(place)
    try:
        folder.rename(place)
    except OSError:
        if not is_whole(place):  # else another process built it too, since somebody removed the lock
            raise
    _sync(place.parent)


def _sync(path: Path) -> None:
    """Hand a file, or a folder's entries, to the disk: a rename then survives a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():  # some network file systems cannot sync folders
            raise
    finally:
        os.close(handle)


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Write a single file whole: `write` fills a temporary one of the same name, which then replaces `path`."""
    with clear_write_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.stem}.", dir=path.parent) as folder:
            temporary = Path(folder, path.name)
            with clear_write_errors(path.parent):  # before clean-up frees the disk
                write(temporary)
                _sync(temporary)
                temporary.replace(path)
        _sync(path.parent)


def check_writable(folder: Path) -> None:
    """Raise StoreError unless a file can be written into a folder, which is made where it is missing."""
    with clear_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


@contextlib.contextmanager
def clear_write_errors(folder: Path) -> Iterator[None]:
    """Turn a read-only or full disk under `folder`, however a library reports it, into one StoreError with the fix."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = getattr(error, "errno", None)
        path = Path(getattr(error, "filename", None) or "")
        ours = path.is_relative_to(folder) or folder.is_relative_to(path)
        hidden = number is None and folder.is_dir()  # safetensors and numpy hide the system's number: ask the disk
        if isinstance(error, SafetensorError) and (match := re.search(r"\(os error (\d+)\)", str(error))):
            number = int(match[1])  # safetensors has removed its file, so the disk may have space again
        if number in _FULL or (hidden and shutil.disk_usage(folder).free < 2**20):
            reason = "no space is left"
        elif (number in _DENIED and ours) or (hidden and not os.access(folder, os.W_OK)):
            reason = f"it cannot be written ({os.strerror(number or errno.EACCES)})"
        else:
            raise
        advice = "Free or unlock it, or set STUDY_DATA to another data folder."
        raise StoreError(f"folder {folder}: {reason}. {advice}") from error
