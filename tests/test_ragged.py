"""Rows of different lengths: what is written in chunks comes out; what does not fit is refused."""

import resource
from pathlib import Path

import numpy as np
import pytest

from lib.models import ragged
from lib.models.ragged import Ragged

ROWS = [np.arange(length) + 10 * length for length in (3, 0, 1, 5, 2)]
NAMES = list("abcde")


def written(folder, rows=ROWS, names=NAMES, dtype=np.uint16):
    ragged.write(folder / "flat.npy", names, [rows[:2], [], rows[2:]], dtype)
    return Ragged(folder, "flat.npy")


def test_rows_come_out_by_name(tmp_path):
    rows = written(tmp_path)
    assert rows.flat.dtype == np.uint16 and rows.names == NAMES and len(rows) == 5 and rows.total == 11
    assert rows.lengths.tolist() == [3, 0, 1, 5, 2] and rows.rows(["d", "a"]).tolist() == [3, 0]
    np.testing.assert_array_equal(rows.flat, np.concatenate(ROWS))
    for row, expected in enumerate(ROWS):
        np.testing.assert_array_equal(rows.flat[rows.starts[row] : rows.starts[row + 1]], expected)


@pytest.mark.parametrize("rows", [[], [np.zeros(0), np.zeros(0)]])
def test_nothing_can_be_written_and_read(tmp_path, rows):
    found = written(tmp_path, rows, NAMES[: len(rows)])
    assert len(found) == len(rows) and found.total == 0 and found.flat.shape == (0,)


def test_the_file_is_one_that_numpy_opens(tmp_path):
    written(tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "flat.npy"), np.concatenate(ROWS))


@pytest.mark.parametrize(("names", "text"), [
    ("abcda", "names repeat"), ("abcd", "4 names, but 5 rows"), ("abcdef", "6 names, but 5 rows"),
])  # fmt: skip
def test_names_that_do_not_fit_are_refused(tmp_path, names, text):
    with pytest.raises(ValueError, match=text):
        written(tmp_path, names=list(names))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not say how much memory is used")
def test_writing_and_reading_hold_a_chunk_in_memory(tmp_path):
    """100 MiB pass through a process that gets less than half of that larger."""
    pages = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()  # noqa: E731
    rows, dim, step = 102_400, 256, 5_120
    before, most = pages(), 0

    def chunks():
        nonlocal most
        for _ in range(0, rows, step):
            yield np.ones((step, 1, dim), np.float32)
            most = max(most, pages())

    ragged.write(tmp_path / "flat.npy", [str(number) for number in range(rows)], chunks(), np.float32, (dim,))
    found = Ragged(tmp_path, "flat.npy")
    for start in range(0, rows, step):
        assert found.mapped()[start : start + step].min() == 1
        most = max(most, pages())
    assert most - before < 50 * 2**20
