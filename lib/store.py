"""A folder is whole or absent: whatever the kit keeps is built beside its place and renamed when done.

Collections, token stores, teacher scores and runs all go through `keep`, so a killed process leaves nothing
that a later one mistakes for a result, and two processes that want the same thing build it once.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from lib import progress

_DENIED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST}
_FULL = {errno.ENOSPC, errno.EDQUOT}
# arrow, safetensors and numpy say it in words
_FULL_SIGNS = ("No space left", "os error 28", " requested and ")


class StoreError(RuntimeError):
    """The data folder cannot be written."""


def data_folder() -> Path:
    """Where everything is kept: the environment variable STUDY_DATA, else the project's `data/`."""
    return Path(os.environ.get("STUDY_DATA") or Path(__file__).parents[1] / "data").absolute()


def key(*parts: object) -> str:
    """A 16-digit name for JSON-like content: equal content, equal name, in every process."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def keep(kind: str, name: str, build: Callable[[Path], None]) -> Path:
    """Return `data/<kind>/<name>`, made by `build(folder)` where it is missing.

    `build` fills a folder beside the place, which is renamed when `build` returns: the rename is atomic, so the
    place exists only when whole. A lock (released by the system if its holder is killed) lets one process build.

    Raises:
        StoreError: the data folder is read-only, full, or not a folder.
    """
    place = data_folder() / kind / name
    if place.is_dir():
        return place
    with clear_write_errors(data_folder()):
        place.parent.mkdir(parents=True, exist_ok=True)
        with _locked(place):
            if place.is_dir():  # another process built it while this one waited
                return place
            for left_by_a_killed_build in place.parent.glob(f".{name}.*.partial"):
                shutil.rmtree(left_by_a_killed_build, ignore_errors=True)
            partial = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".partial", dir=place.parent))
            try:
                partial.chmod(0o755)  # mkdtemp makes it private; a shared data folder should stay readable
                build(partial)
                partial.rename(place)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return place


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Write a single file whole: `write` fills a temporary one that then takes the place of `path`."""
    with clear_write_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        try:
            Path(name).chmod(0o644)
            write(Path(name))
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def clear_write_errors(folder: Path) -> Iterator[None]:
    """Turn a read-only or full disk under `folder`, however a library words it, into one StoreError with the mend."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        number = getattr(error, "errno", None)
        if number in _FULL or any(sign in str(error) for sign in _FULL_SIGNS):
            reason = "no space is left"
        elif number in _DENIED and _related(Path(getattr(error, "filename", None) or os.sep), folder):
            reason = f"it cannot be written ({os.strerror(number)})"
        else:
            raise
        raise StoreError(
            f"folder {folder}: {reason}. Free or unlock it, or set STUDY_DATA to another data folder."
        ) from error


def _related(path: Path, folder: Path) -> bool:
    """Whether a path lies in a folder or is one that would hold it."""
    return path.is_relative_to(folder) or (folder.is_relative_to(path) and path != Path(os.sep))


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
        lock.release()
