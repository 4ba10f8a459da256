"""A folder is whole or absent: whatever the kit keeps is built beside its place and renamed when done.

Collections, token stores, teacher scores and runs all go through `keep`, so a killed process leaves nothing
that a later one mistakes for a result, and two processes that want the same thing build it once. A folder is whole
when it holds `manifest.json`, which is written last and lists every file with its size and SHA-256.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from lib.machine import digest, processes, progress

MANIFEST = "manifest.json"
CHECKED_BYTES = (
    2**26
)  # a larger file is compared by its size alone when it is opened; `python -m lib.study.space` reads all

_DENIED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_verified: set[tuple[Path, int]] = set()  # places and the time of their manifests: once per process is enough


class StoreError(RuntimeError):
    """The data folder cannot be written, or something in it is damaged."""


def data_folder() -> Path:
    """Where everything is kept: the environment variable STUDY_DATA, else the project's `data/`.

    A relative STUDY_DATA means the caller's folder. A notebook's kernel works in the notebook's folder, so there it is
    the folder of the process that started the kernel (papermill, or Jupyter's server).
    """
    given = os.environ.get("STUDY_DATA")
    if not given:
        return Path(__file__).parents[2] / "data"
    try:
        caller = os.readlink(f"/proc/{os.environ.get('JPY_PARENT_PID') or 'self'}/cwd")
    except OSError:  # not Linux, or that process is gone
        caller = os.getcwd()
    return Path(caller, given).absolute()


def key(*parts: object) -> str:
    """A 16-digit name for JSON-like content: equal content, equal name, in every process.

    0.0 and 0 are equal content, as they are equal numbers; True and 1 are not.

    Raises:
        ValueError: a number is not finite.
        TypeError: a part is not made of texts, numbers, booleans, None, sequences and mappings.
    """
    text = json.dumps(_plain(parts), sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def keep(
    kind: str, name: str, build: Callable[[Path | None], None], *, of: Iterable[str] = (), together: bool = False
) -> Path:
    """Return `data/<kind>/<name>`, made by `build(folder)` where it is missing.

    `build` fills a folder beside the place, which is renamed when `build` returns: the rename is atomic, so the
    place exists only when whole. A lock (released by the system if its holder is killed) lets one process build.
    `of` names what it was made from, as "kind/name": without that nothing refers to it (`lib.study.space`).

    Of the processes of one `accelerate launch` the main one builds and the others wait for it. With `together` all of
    them call `build`, and all but the main one with None in the place of the folder.

    Raises:
        StoreError: the data folder is read-only, full, or not a folder; or a file of the place is damaged.
    """
    place = data_folder() / kind / name
    if together and processes.count() > 1:
        _build_together(place, build, tuple(of))
    elif not is_whole(place):
        if processes.is_main():
            _build(place, build, tuple(of))
        else:
            _wait_for(place)
    _verify(place)
    return place


def is_whole(place: Path) -> bool:
    """Whether a place was built to its end; an empty or half-copied folder was not."""
    return (place / MANIFEST).is_file()


def damage(place: Path, *, up_to: float = float("inf")) -> list[str]:
    """What is wrong with a whole place, a line for each file that is missing or altered; empty if nothing is.

    Files above `up_to` bytes are compared by size alone.
    """
    found = []
    for name, (size, noted) in manifest(place)["files"].items():
        path = place / name
        if not path.is_file():
            found.append(f"{path} is missing")
        elif path.stat().st_size != size:
            found.append(f"{path} has {path.stat().st_size} bytes and should have {size}")
        elif size <= up_to and digest.read(path) != noted:
            found.append(f"{path} is altered: its SHA-256 is not the one noted when it was written")
    return found


def manifest(place: Path) -> dict:
    """What a whole place holds and what it was made from: {"of": [...], "files": {name: [size, SHA-256]}}."""
    try:
        return json.loads((place / MANIFEST).read_text())
    except ValueError as error:
        raise StoreError(f"{place / MANIFEST} is damaged. Delete the folder {place}: it is made again.") from error


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Write a single file whole: `write` fills a temporary one that then takes the place of `path`."""
    with clear_write_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        try:
            Path(name).chmod(0o644)
            write(Path(name))
            _sync(Path(name))
            os.replace(name, path)
            _sync(path.parent)
        finally:
            Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def clear_write_errors(folder: Path) -> Iterator[None]:
    """Turn a read-only or full disk under `folder`, however a library reports it, into one StoreError with the fix."""
    try:
        yield
    except StoreError:
        raise
    except (OSError, SafetensorError) as error:
        if reason := _why(error, folder):
            raise StoreError(
                f"folder {folder}: {reason}. Free or unlock it, or set STUDY_DATA to another data folder."
            ) from error
        raise


def _why(error: OSError | SafetensorError, folder: Path) -> str | None:
    """Why `folder` could not be written, told by the system's error number or, without one, by the disk itself."""
    number = getattr(error, "errno", None)
    path = Path(getattr(error, "filename", None) or os.sep)
    if number in _FULL:
        return "no space is left"
    if number in _DENIED and (path.is_relative_to(folder) or (folder.is_relative_to(path) and path != Path(os.sep))):
        return f"it cannot be written ({os.strerror(number)})"
    if number is None and folder.is_dir():  # safetensors and numpy raise errors without the system's number
        if shutil.disk_usage(folder).free < 2**20:
            return "no space is left"
        if not os.access(folder, os.W_OK):
            return "it cannot be written"
    return None


def _build(place: Path, build: Callable[[Path], None], of: tuple[str, ...]) -> None:
    with clear_write_errors(data_folder()):
        place.parent.mkdir(parents=True, exist_ok=True)
        with _locked(place):
            if not is_whole(place):  # else another process built it while this one waited
                with _partial(place) as folder:
                    with clear_write_errors(data_folder()):  # here, while the disk is as the error found it
                        build(folder)
                    _finish(folder, place, of)


def _build_together(place: Path, build: Callable[[Path | None], None], of: tuple[str, ...]) -> None:
    """All processes of a launch build one place: the main one decides whether, so that none waits for the others."""
    if not processes.is_main():
        if not processes.from_main(None):
            build(None)
        _wait_for(place)
        return
    told = False

    def tell(whole: bool) -> None:
        nonlocal told
        told = True
        processes.from_main(whole)

    def announced(folder: Path) -> None:
        tell(False)
        build(folder)

    if not is_whole(place):
        _build(place, announced, of)
    if not told:
        tell(True)


def _wait_for(place: Path) -> None:
    """Until the main process has built it; if that one fails, the launcher ends this one."""
    while not is_whole(place):
        time.sleep(0.1)


@contextlib.contextmanager
def _partial(place: Path) -> Iterator[Path]:
    """A folder beside `place` to build in, removed at the end unless it was renamed.

    It is locked as long as its builder lives. So whoever builds next can tell what a killed process left from what a
    living one is filling, even if somebody removed the lock of the place.
    """
    for path in place.parent.glob(".*.partial"):
        if is_abandoned(path):
            shutil.rmtree(path, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".new", dir=place.parent))
    folder.chmod(0o755)  # mkdtemp makes it private; a shared data folder should stay readable
    owner = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: nothing is ever taken for abandoned
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder = folder.rename(folder.with_suffix(".partial"))
        yield folder
    finally:
        os.close(owner)
        shutil.rmtree(folder, ignore_errors=True)


def is_abandoned(partial: Path) -> bool:
    """Whether the builder of a partial folder is gone."""
    try:
        handle = os.open(partial, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:  # locked: somebody is building in it
        return False
    finally:
        os.close(handle)


def remove_free_lock(path: Path) -> None:
    """Remove the lock that a killed process left; one that is held stays."""
    lock = FileLock(path)
    with contextlib.suppress(Timeout):
        lock.acquire(timeout=0)
        path.unlink(missing_ok=True)
        lock.release()


def _finish(folder: Path, place: Path, of: tuple[str, ...]) -> None:
    """Write the manifest, make sure that everything is on the disk, and rename the folder to its place."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): [path.stat().st_size, digest.read(path)] for path in paths}
    (folder / MANIFEST).write_text(json.dumps({"of": sorted(of), "files": files}, indent=1))
    for path in paths:
        path.chmod(0o644)  # safetensors writes private files; a shared data folder should stay readable
    for path in (*paths, folder / MANIFEST, *(path for path in folder.rglob("*") if path.is_dir()), folder):
        _sync(path)
    if place.exists() and not is_whole(place):
        progress.say(f"{place} is not whole: it is made again")
        shutil.rmtree(place)
    with contextlib.suppress(FileExistsError):  # another process built it too, since somebody removed the lock
        try:
            folder.rename(place)
        except OSError as error:
            if error.errno == errno.ENOTEMPTY and is_whole(place):
                raise FileExistsError from error
            raise
    _sync(place.parent)


def _sync(path: Path) -> None:
    """Hand a file, or a folder's entries, to the disk: a rename then survives a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot sync folders
            os.fsync(handle)
    finally:
        os.close(handle)


def _verify(place: Path) -> None:
    mark = place, (place / MANIFEST).stat().st_mtime_ns
    if mark in _verified:
        return
    if found := damage(place, up_to=CHECKED_BYTES):
        raise StoreError(f"{found[0]}. Delete the folder {place}: it is made again.")
    _verified.add(mark)


@contextlib.contextmanager
def _locked(place: Path) -> Iterator[None]:
    lock = FileLock(place.parent / f".{place.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress.say(f"waiting: another process is making {place.parent.name}/{place.name}")
        lock.acquire()
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # whoever waits for the removed file finds the place whole
        lock.release()
