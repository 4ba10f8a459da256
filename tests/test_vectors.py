"""Vector store: what is written comes out, padded."""

import numpy as np
import pytest
import torch

from lib.models import vectors
from lib.models.vectors import Identity, VectorStore

IDENTITY = Identity("model", "collection")
LENGTHS = [3, 0, 1, 5, 2]
NAMES = list("abcde")


def documents(dim=4):
    draw = np.random.default_rng(0)
    return [draw.standard_normal((length, dim)).astype(np.float32) for length in LENGTHS]


def written(folder, dtype="float32"):
    made = documents()
    vectors.write(folder, NAMES, [made[:2], made[2:]], 4, dtype, IDENTITY)
    return VectorStore(folder)


def test_written_in_order(tmp_path):
    store = written(tmp_path)
    np.testing.assert_array_equal(store.flat, np.concatenate(documents()))
    assert store.lengths.tolist() == LENGTHS and store.total == 11 and len(store) == 5 and store.dim == 4
    assert store.identity == IDENTITY and store.bytes_per_document == 11 * 4 * 4 / 5


def test_names_and_lengths_decide_the_layout(tmp_path):
    layouts = set()
    for number, (names, lengths) in enumerate((("ab", (1, 2)), ("ba", (1, 2)), ("ab", (2, 1)))):
        folder = tmp_path / str(number)
        folder.mkdir()
        vectors.write(folder, list(names), [[np.ones((n, 2)) for n in lengths]], 2, "float16", IDENTITY)
        layouts.add(VectorStore(folder).about["layout"])
    assert len(layouts) == 3


def test_take_pads_with_zeros_and_masks(tmp_path):
    store = written(tmp_path)
    rows = np.array([3, 1, 0, 3])
    taken, mask = store.take(rows)
    assert taken.shape == (4, 5, 4) and taken.dtype == torch.float32 and mask.dtype == torch.bool
    for number, row in enumerate(rows):
        np.testing.assert_array_equal(taken[number][mask[number]], documents()[row])
        assert not taken[number][~mask[number]].any()
    assert store.take(np.array([1])).values.shape == (1, 0, 4)
    assert store.take(np.array([], dtype=int)).values.shape == (0, 0, 4)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_one_vector_per_document(tmp_path, dtype):
    made = np.random.default_rng(0).standard_normal((7, 1, 5)).astype(np.float32)
    vectors.write(tmp_path, [str(n) for n in range(7)], [made[:4], made[4:]], 5, dtype, IDENTITY)
    store = VectorStore(tmp_path)
    assert store.flat.dtype == dtype and store.bytes_per_document == 5 * np.dtype(dtype).itemsize
    np.testing.assert_array_equal(store.take(np.arange(7)).values, made.astype(dtype))


def test_places_and_their_documents(tmp_path):
    store = written(tmp_path)
    assert store.documents_of(np.arange(11)).tolist() == [0] * 3 + [2] + [3] * 5 + [4] * 2
    assert store.documents_of(np.array([[-1, 3]])).tolist() == [[-1, 2]]


def test_chunks_cover_everything(tmp_path):
    store = written(tmp_path, "float16")
    chunks = list(store.chunks(4))
    assert [len(chunk) for chunk in chunks] == [4, 4, 3] and chunks[0].dtype == np.float32
    np.testing.assert_array_equal(np.concatenate(chunks), store.flat)


def test_a_store_of_nothing(tmp_path):
    vectors.write(tmp_path, [], [], 4, "float16", IDENTITY)
    store = VectorStore(tmp_path)
    assert len(store) == store.total == store.bytes_per_document == 0 and not list(store.chunks(3))
