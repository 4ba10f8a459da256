"""Hashes of files' content; a file is read again only after it has changed."""

import contextlib
import hashlib
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from lib.machine import processes, store

LARGE = 2**28  # bytes from which a hash is kept for other processes too: so many take about half a second


def of_file(path: Path) -> str:
    """SHA-256 of a file; read again only if the system reports a change, a large file in later processes too.

    One that changed a moment ago is always read: a further change may fall into the same tick of the clock.
    """
    status = path.stat()
    if time.time() - max(status.st_mtime, status.st_ctime) < 2:
        return store.sha256(path)
    known = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return _recorded(path.absolute(), known)


@lru_cache(maxsize=4096)
def _recorded(path: Path, status: tuple[int, ...]) -> str:
    """From the data folder, where a large file of this path and status was read before."""
    _, _, size, *_ = status
    if size < LARGE:
        return store.sha256(path)
    name = store.key(str(path), status)
    with contextlib.suppress(store.StoreError):  # damaged
        if place := store.find("digests", name):
            return (place / "sha256").read_text()
    found = store.sha256(path)
    if processes.is_main():  # the others of a launch may not all come here, so nobody waits
        with contextlib.suppress(store.StoreError):  # the data folder cannot be written
            store.keep("digests", name, lambda into: (into / "sha256").write_text(found))
    return found


def of_files(folder: Path, paths: Iterable[Path]) -> str:
    """One hash of several files by their names within `folder` and their content, wherever the folder is."""
    names = sorted((path.relative_to(folder).as_posix(), of_file(path)) for path in paths)
    return hashlib.sha256(repr(names).encode()).hexdigest()
