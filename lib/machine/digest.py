"""Hashes of files' content; a file is read again only after it has changed."""

import hashlib
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

_known = lru_cache(maxsize=4096)(lambda path, *status: read(path))


def of_file(path: Path) -> str:
    """SHA-256 of a file; read again only if the system reports a change.

    One that changed a moment ago is always read: a further change may fall into the same tick of the clock.
    """
    status = path.stat()
    if time.time() - max(status.st_mtime, status.st_ctime) < 2:
        return read(path)
    return _known(path.absolute(), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def of_files(folder: Path, paths: Iterable[Path]) -> str:
    """One hash of several files by their names within `folder` and their content, wherever the folder is."""
    names = sorted((path.relative_to(folder).as_posix(), of_file(path)) for path in paths)
    return hashlib.sha256(repr(names).encode()).hexdigest()


def read(path: Path) -> str:
    """SHA-256 of a file, read now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
