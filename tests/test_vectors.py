"""Vector store: what is put in any order comes out, padded; what does not fit is refused."""

import json
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.models import vectors
from lib.models.vectors import Identity, StoreDamaged, VectorStore

IDENTITY = Identity("model", "collection")
LENGTHS = [3, 0, 1, 5, 2]
NAMES = list("abcde")


def documents(dim=4):
    draw = np.random.default_rng(0)
    return [draw.standard_normal((length, dim)).astype(np.float32) for length in LENGTHS]


def written(folder, dtype="float32"):
    folder.mkdir()
    made = documents()
    vectors.write(folder, NAMES, [made[:2], made[2:]], 4, dtype, IDENTITY)
    return VectorStore(folder)


def test_written_in_order(tmp_path):
    store = written(tmp_path / "store")
    np.testing.assert_array_equal(store.flat, np.concatenate(documents()))
    assert store.lengths.tolist() == LENGTHS and store.total == 11 and len(store) == 5
    assert store.identity == IDENTITY and store.bytes_per_document == 11 * 4 * 4 / 5
    assert store.rows(["d", "a"]).tolist() == [3, 0]


def test_take_pads_with_zeros_and_masks(tmp_path):
    store = written(tmp_path / "store")
    rows = np.array([3, 1, 0, 3])
    taken, mask = store.take(rows)
    assert taken.shape == (4, 5, 4) and taken.dtype == torch.float32 and mask.dtype == torch.bool
    for number, row in enumerate(rows):
        np.testing.assert_array_equal(taken[number][mask[number]], documents()[row])
        assert not taken[number][~mask[number]].any()
    assert store.take(np.array([1]))[0].shape == (1, 0, 4)
    assert store.take(np.array([], dtype=int))[0].shape == (0, 0, 4)


def test_put_in_any_order(tmp_path):
    expected = written(tmp_path / "in_order")
    (tmp_path / "store").mkdir()
    with vectors.create(tmp_path / "store", NAMES, LENGTHS, 4, "float32", IDENTITY) as writer:
        for rows in ([3, 0], [4, 2]):  # b has no vectors, and nobody has to put it
            writer.put(np.array(rows), *expected.take(np.array(rows)))
    store = VectorStore(tmp_path / "store")
    np.testing.assert_array_equal(store.flat, expected.flat)
    assert store.about == expected.about


def test_masked_vectors_within_a_document_are_left_out(tmp_path):
    """Late interaction drops punctuation: the mask has holes."""
    with vectors.create(tmp_path, ["a"], [2], 3, "float16", IDENTITY) as writer:
        writer.put([0], torch.arange(9.0).reshape(1, 3, 3), torch.tensor([[True, False, True]]))
    np.testing.assert_array_equal(VectorStore(tmp_path).flat, [[0, 1, 2], [6, 7, 8]])


@pytest.mark.parametrize("dtype", vectors.DTYPES)
def test_one_vector_a_document(tmp_path, dtype):
    made = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    order = np.array([6, 2, 0, 1, 5, 4, 3])
    with vectors.create(tmp_path, [str(n) for n in range(7)], [1] * 7, 5, dtype, IDENTITY) as writer:
        writer.put(order[:4], made[order[:4]].bfloat16().float())
        writer.put(order[4:], made[order[4:]].bfloat16())  # numpy has none
    store = VectorStore(tmp_path)
    assert store.flat.dtype == dtype and store.bytes_per_document == 5 * np.dtype(dtype).itemsize
    torch.testing.assert_close(store.take(np.arange(7))[0][:, 0], made.bfloat16().float(), atol=1e-3, rtol=1e-3)


def test_places_and_their_documents(tmp_path):
    store = written(tmp_path / "store")
    assert store.documents_of(np.arange(11)).tolist() == [0] * 3 + [2] + [3] * 5 + [4] * 2
    assert store.documents_of(np.array([[-1, 3]])).tolist() == [[-1, 2]]


def test_chunks_cover_everything(tmp_path):
    store = written(tmp_path / "store", "float16")
    chunks = list(store.chunks(4))
    assert [len(chunk) for chunk in chunks] == [4, 4, 3] and chunks[0].dtype == np.float32
    np.testing.assert_array_equal(np.concatenate(chunks), store.flat)


def test_a_store_of_nothing(tmp_path):
    vectors.write(tmp_path, [], [], 4, "float16", IDENTITY)
    store = VectorStore(tmp_path)
    assert len(store) == store.total == store.bytes_per_document == 0 and not list(store.chunks(3))
    (tmp_path / "other").mkdir()
    with vectors.create(tmp_path / "other", ["a"], [0], 4, "float16", IDENTITY):
        pass
    assert VectorStore(tmp_path / "other").take(np.array([0]))[0].shape == (1, 0, 4)


def test_what_does_not_fit_is_refused(tmp_path):
    create = lambda names, lengths, dtype="float16": vectors.create(tmp_path, names, lengths, 2, dtype, IDENTITY)  # noqa: E731
    with pytest.raises(ValueError, match="repeat"):
        create(["a", "a"], [1, 1])
    with pytest.raises(ValueError, match="float64"):
        create(["a"], [1], "float64")
    with pytest.raises(ValueError, match="lengths"):
        create(["a"], [1, 1])
    writer = create(["a", "b"], [1, 2])
    with pytest.raises(ValueError, match="announced"):
        writer.put([1], torch.zeros(1, 2, 2), torch.tensor([[True, False]]))
    with pytest.raises(ValueError, match="store has 2"):
        writer.put([0], torch.zeros(1, 3))
    with pytest.raises(ValueError, match="document 'a': a vector is not finite in float16; give dtype='float32'"):
        writer.put([0], torch.full((1, 2), 1e5))
    with pytest.raises(ValueError, match="document 'b': a vector is not finite in float16; mend the model"):
        writer.put([0, 1], torch.tensor([[[1.0, 1], [0, 0]], [[1, 1], [torch.nan, 1]]]), torch.tensor([[1, 0], [1, 1]]))
    writer.put([0], torch.ones(1, 2))
    with pytest.raises(ValueError, match="1 of 2 documents"):
        writer.close()
    with pytest.raises(ValueError, match="2 names, but vectors of 1"):
        vectors.write(tmp_path, ["a", "b"], [[np.zeros((1, 2))]], 2, "float16", IDENTITY)
    with pytest.raises(ValueError, match="1 names, but vectors of 2"):
        vectors.write(tmp_path, ["a"], [np.zeros((2, 2))], 2, "float16", IDENTITY)
    with pytest.raises(ValueError, match="document 'c': a vector is not finite in float16; give dtype='float32'"):
        vectors.write(
            tmp_path,
            ["a", "b", "c"],
            [[np.ones((1, 2))], [np.ones((0, 2)), np.full((3, 2), 1e6)]],
            2,
            "float16",
            IDENTITY,
        )


@pytest.mark.parametrize("name", ["vectors.npy", "starts.npy", "names.json", "about.json"])
def test_truncated_and_missing_files_are_refused(tmp_path, name):
    written(tmp_path / "store")
    path = tmp_path / "store" / name
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(StoreDamaged, match="encode again"):
        VectorStore(tmp_path / "store")
    path.unlink()
    with pytest.raises(StoreDamaged, match="encode again"):
        VectorStore(tmp_path / "store")


def test_files_of_another_store_are_refused(tmp_path):
    written(tmp_path / "store")
    (tmp_path / "store" / "names.json").write_text(json.dumps(NAMES[:3]))
    with pytest.raises(StoreDamaged, match="disagree"):
        VectorStore(tmp_path / "store")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not say how much memory is used")
def test_writing_and_reading_hold_a_chunk_in_memory(tmp_path):
    """100 MiB pass through a process that gets less than half of that larger."""
    pages = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()  # noqa: E731
    rows, dim, step = 102_400, 256, 5_120
    before, most = pages(), 0
    with vectors.create(tmp_path, [str(n) for n in range(rows)], [1] * rows, dim, "float32", IDENTITY) as writer:
        for start in range(0, rows, step):
            writer.put(np.arange(start, start + step), np.ones((step, dim), np.float32))
            most = max(most, pages())
    for chunk in VectorStore(tmp_path).chunks(step):
        most = max(most, pages())
        assert chunk.min() == 1
    assert most - before < 50 * 2**20
