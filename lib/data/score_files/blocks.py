"""The bytes of a file, plain or gzip: whole lines, a block at a time."""

import contextlib
import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from lib.data.score_files.faults import Fault, ScoreFileError
from lib.machine import digest

BLOCK = 1 << 21  # bytes: larger ones are not faster, and Python strings of a block take several times its size
ENDINGS = {".tsv", ".csv", ".txt", ".json", ".jsonl", ".parquet", ".gz", ".trec", ".run"}
LONGEST = 1 << 26  # bytes of a line; beyond, the file is not one of lines
MARK = b"\xef\xbb\xbf"  # of UTF-8, put at the start of files by some editors
HALF_PAIR = re.compile("[\ud800-\udfff]")  # surrogates; UTF-8 cannot hold one


def blocks_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """(1-based number of the first line, whole lines): every line ends in one newline, also the file's last."""
    line, rest = 1, b""
    with clear_read_errors(path), _open(path) as file:
        while data := file.read(BLOCK):
            whole, newline, rest = (rest + data).rpartition(b"\n")
            if newline:
                yield line, _tidy(whole + newline, line)
                line += whole.count(b"\n") + 1
            if len(rest) > LONGEST:
                raise ScoreFileError(f"{path}, line {line}: longer than {LONGEST >> 20} MiB; is it a file of lines?")
        if rest:
            yield line, _tidy(rest + b"\n", line)
        elif line == 1:
            raise ScoreFileError(f"{path}: empty")


def _tidy(block: bytes, line: int) -> bytes:
    block = block.removeprefix(MARK) if line == 1 else block
    return block.replace(b"\r\n", b"\n") if b"\r" in block else block


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if compressed else path.open("rb")


def decoded(line: bytes) -> str:
    """A line as text, or the fault."""
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise Fault("bad UTF-8", f"byte {error.start + 1} is not UTF-8", "Convert the file to UTF-8") from None


def is_parquet(path: Path) -> bool:
    """Whether a file is parquet, told by its first bytes."""
    with clear_read_errors(path), path.open("rb") as file:
        return file.read(4) == b"PAR1"


@contextlib.contextmanager
def clear_read_errors(path: Path) -> Iterator[None]:
    """Name the file where it is damaged or cannot be read."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error, pa.ArrowInvalid) as error:
        raise ScoreFileError(f"{path}: broken off or damaged ({error}). Fetch or write it again") from error
    except OSError as error:
        raise ScoreFileError(f"{path}: cannot be read ({error.strerror or error})") from error


def fingerprint(path: Path | str) -> str:
    """SHA-256 of a file's bytes, as they lie there (compressed if it is), in 64 hexadecimal digits.

    Raises:
        ScoreFileError: the file is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise ScoreFileError(
            f"{path}: there is no file {path.absolute()}; give the path of a score file (as a teacher, a folder in the "
            "hub's layout or a model's name on the hub will do too)"
        )
    with clear_read_errors(path):
        return digest.of_file(path)


def is_file_name(name: str) -> bool:
    """Whether a teacher's name means a file of scores, there or not; else it is a model's folder or name on the hub."""
    path = Path(name)
    return path.is_file() or (not path.is_dir() and not ENDINGS.isdisjoint(path.suffixes[-2:]))
