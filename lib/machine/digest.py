"""Hashes of files' content, each file read once for as long as it stays as it is."""

import hashlib
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path


def of_file(path: Path) -> str:
    """SHA-256 of a file; read again only when the system says that the file was changed or replaced.

    One that was changed a moment ago is read in any case: a further change may fall into the same tick of the clock.
    """
    status = path.stat()
    if time.time() - max(status.st_mtime, status.st_ctime) < 2:
        return read(path)
    return _known(str(path.absolute()), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def of_files(folder: Path, paths: Iterable[Path]) -> str:
    """One hash of several files by their names within `folder` and their content; where it lies does not matter."""
    names = sorted((path.relative_to(folder).as_posix(), of_file(path)) for path in paths)
    return hashlib.sha256(repr(names).encode()).hexdigest()


def read(path: Path) -> str:
    """SHA-256 of a file, read now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=4096)
def _known(path: str, *_: int) -> str:
    return read(Path(path))
