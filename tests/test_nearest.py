"""Nearest neighbours: exact ones are numpy's, approximate ones nearly; what does not belong is refused."""

from pathlib import Path

import faiss
import numpy as np
import pytest
import torch

from lib.models import vectors
from lib.models.vectors import Identity, VectorStore
from lib.search import nearest

IDENTITY = Identity("model", "collection")
KINDS = ["Flat", "HNSW8", "IVF16,PQ16"]


def clustered(count, dim=32, seed=0):
    """Unit vectors around 50 centres, which are the same for every seed."""
    centres = np.random.default_rng(99).standard_normal((50, dim))
    draw = np.random.default_rng(seed)
    made = centres[draw.integers(0, 50, count)] + 0.6 * draw.standard_normal((count, dim))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def coarse(values):
    """Multiples of 1/16, whose inner products are exact in any order: equal vectors tie on every processor."""
    return np.round(values * 16) / np.float32(16)


def stored(folder, values, identity=IDENTITY, dtype="float32"):
    folder.mkdir(parents=True)
    names = [f"d{number}" for number in range(len(values))]
    vectors.write(folder, names, [values[:, None]], values.shape[1], dtype, identity)
    return VectorStore(folder)


@pytest.fixture(scope="module")
def passages():
    return clustered(3000)


@pytest.fixture
def store(tmp_path, passages):
    return stored(tmp_path / "vectors", passages)


def opened(store, factory):
    return nearest.build(store, IDENTITY, factory)


def brute_force(queries, passages, depth):
    scores = queries @ passages.T
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    return np.take_along_axis(scores, rows, 1), rows


def test_flat_is_exact(store, passages):
    queries = clustered(30, seed=1)
    scores, rows = nearest.search(opened(store, "Flat"), torch.from_numpy(queries), 20)
    expected_scores, expected_rows = brute_force(queries, passages, 20)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6, rtol=1e-6)
    own = np.einsum("nd,nkd->nk", queries, passages[rows])  # scores nearer than rounding may change places
    np.testing.assert_allclose(own, expected_scores, atol=1e-6, rtol=1e-6)
    assert all(len(set(row)) == 20 for row in rows) and (rows == expected_rows).mean() > 0.99
    assert scores.dtype == np.float32 and rows.dtype == np.int64


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(("kind", "least"), [("HNSW8", 0.95), ("HNSW8_SQfp16", 0.95), ("IVF16,PQ16", 0.5)])
def test_approximate_ones_find_most(tmp_path, passages, kind, least, dtype):
    store = stored(tmp_path / "vectors", passages, dtype=dtype)
    queries = clustered(100, seed=1)
    exact = nearest.search(opened(store, "Flat"), queries, 10)[1]
    assert nearest.recall(nearest.search(opened(store, kind), queries, 40, effort=8)[1], exact, 10) > least


@pytest.mark.parametrize("kind", ["SQ8", "L2norm,Flat", "Flat,RFlat", "IVF16_HNSW8,Flat"])
def test_other_descriptions_of_faiss_are_searched_too(store, kind):
    """Those without cells and without a graph have no effort to set."""
    queries = clustered(100, seed=1)
    exact = nearest.search(opened(store, "Flat"), queries, 10)[1]
    assert nearest.recall(nearest.search(opened(store, kind), queries, 40)[1], exact, 10) > 0.8


@pytest.mark.parametrize("kind", ["HNSW8", "IVF64,Flat", "IVF64,SQ8"])
def test_more_effort_finds_more(store, kind):
    queries = clustered(100, seed=1)
    exact, index = nearest.search(opened(store, "Flat"), queries, 10)[1], opened(store, kind)
    most, some = (nearest.recall(nearest.search(index, queries, 10, effort=e)[1], exact, 10) for e in (200, 1))
    assert most > some + 0.01 and most > 0.97


def test_a_graph_holds_as_many_candidates_as_are_searched(store):
    queries = clustered(100, seed=1)
    exact = nearest.search(opened(store, "Flat"), queries, 200)[1]
    found = nearest.search(opened(store, "HNSW8"), queries, 200, effort=4)[1]
    assert nearest.recall(found, exact, 200) > 0.95


def test_more_bytes_find_more(store):
    queries = clustered(100, seed=1)
    exact = nearest.search(opened(store, "Flat"), queries, 10)[1]
    found = [
        nearest.recall(nearest.search(opened(store, f"IVF16,PQ{parts}"), queries, 10)[1], exact, 10)
        for parts in (4, 32)
    ]
    assert found[0] + 0.2 < found[1] > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_inner_products(store, passages, kind):
    queries = clustered(20, seed=1)
    scores, rows = nearest.search(opened(store, kind), queries, 5)
    tolerance = 0.2 if "PQ" in kind else 1e-5
    np.testing.assert_allclose(scores, np.einsum("nd,nkd->nk", queries, passages[rows]), atol=tolerance)
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_equal_scores_are_ordered_by_row(tmp_path, kind):
    store = stored(tmp_path / "vectors", np.tile(coarse(clustered(20)), (4, 1)))
    scores, rows = nearest.search(opened(store, kind), coarse(clustered(5, seed=1)), 30)
    same = np.diff(scores, axis=1) == 0
    assert same.sum() > 50 and (np.diff(rows, axis=1)[same] > 0).all()


def last_first(values):
    """An exact search that of equal scores keeps the last rows, as faiss may do where it selects in blocks or threads."""

    def search(queries, depth):
        scores, rows = brute_force(queries, values[::-1], depth)
        return scores, len(values) - 1 - rows

    return search


@pytest.mark.parametrize("depth", [1, 3, 150, 499, 500])
@pytest.mark.parametrize("search", [last_first, None])
def test_flat_looks_for_ties_behind_the_last_place(tmp_path, depth, search):
    """500 equal vectors: the first ones by row are found, whichever the search has kept."""
    values = np.tile(coarse(clustered(1)), (500, 1))
    index = opened(stored(tmp_path / "vectors", values), "Flat")
    if search:
        index.searcher.search = search(values)
    rows = nearest.search(index, coarse(clustered(3, seed=1)), depth)[1]
    np.testing.assert_array_equal(rows, np.tile(np.arange(depth), (3, 1)))


@pytest.mark.parametrize("kind", KINDS)
def test_equal_builds_find_the_same(store, kind, monkeypatch, tmp_path):
    """To rounding: a product may be summed in another order where its numbers lie elsewhere in memory."""
    first = opened(store, kind)
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "elsewhere"))
    second = opened(store, kind)
    queries = clustered(100, seed=1)
    (scores, rows), (other_scores, other_rows) = (nearest.search(index, queries, 10) for index in (first, second))
    assert (rows == other_rows).mean() > 0.99
    np.testing.assert_allclose(scores[rows == other_rows], other_scores[rows == other_rows], atol=1e-5, rtol=1e-5)


def test_an_index_is_built_once(store, tmp_path, data_folder, monkeypatch):
    for kind in KINDS:
        opened(store, kind)
    other = Identity("another", "collection")
    nearest.build(stored(tmp_path / "other", clustered(300), other), other, "Flat")
    assert len(list((data_folder / "indexes").iterdir())) == 4
    monkeypatch.setattr(nearest, "_write", lambda *_: pytest.fail("built again"))
    assert opened(store, "HNSW8").searcher.ntotal == 3000


def test_vectors_of_something_else_are_refused(store):
    for whose in (Identity("mine", "collection"), Identity("model", "mine")):
        with pytest.raises(ValueError, match=r"vector store.*'model'.*expected was .*'mine'.*Encode"):
            nearest.build(store, whose, "Flat")


@pytest.mark.parametrize("kind", [*KINDS, "IVF1024,PQ8"])
@pytest.mark.parametrize("count", [1, 2, 3, 40, 300])
def test_small_collections(tmp_path, kind, count, capfd):
    store = stored(tmp_path / "vectors", clustered(count))
    if "PQ" in kind and count == 1:
        with pytest.raises(ValueError, match="over 1 vectors of 32 numbers: .* Give one that fits, like 'Flat'"):
            opened(store, kind)
        return
    scores, rows = nearest.search(opened(store, kind), clustered(4, seed=1), 50)
    found = rows >= 0
    assert rows.shape == scores.shape == (4, 50) and np.isinf(scores[~found]).all() and np.isfinite(scores[found]).all()
    assert (found.sum(1) == min(count, 50)).all()
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in rows)
    assert capfd.readouterr() == ("", "")  # faiss warns there of too few training points


def test_cells_and_codes_are_learnt_from_a_sample(store, monkeypatch):
    monkeypatch.setattr(nearest, "SAMPLE", 1000)
    learnt_from = []
    train = faiss.IndexIVFPQ.train
    monkeypatch.setattr(
        faiss.IndexIVFPQ, "train", lambda self, sample: (learnt_from.append(sample), train(self, sample))
    )
    opened(store, "IVF16,PQ16")
    np.testing.assert_array_equal(learnt_from[0], store.flat[::3])


@pytest.mark.parametrize(("factory", "text"), [
    ("Graph", "'Graph' cannot be built over 3000 vectors of 32 numbers: .*Graph"), ("IVF16,PQ5", "'IVF16,PQ5' cannot"),
    ("", "'' cannot"),
])  # fmt: skip
def test_descriptions_that_do_not_fit_are_refused(store, factory, text, data_folder):
    with pytest.raises(ValueError, match=text):
        opened(store, factory)
    assert not [path for path in (data_folder / "indexes").iterdir() if path.is_dir()]


@pytest.mark.parametrize("kind", KINDS)
def test_searches_that_make_no_sense_are_refused(store, kind):
    index = opened(store, kind)
    with pytest.raises(ValueError, match="dimensions"):
        nearest.search(index, np.zeros((1, 5)), 3)
    for wrong in ({"depth": 0}, {"depth": 1, "effort": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            nearest.search(index, np.zeros((1, 32)), **wrong)
    with pytest.raises(ValueError, match="queries: the vector in row 1 is not finite"):
        nearest.search(index, np.array([[0.0] * 32, [np.nan] * 32]), 3)
    assert nearest.search(index, np.zeros((0, 32)), 3)[1].shape == (0, 3)


def test_recall_by_hand():
    exact = np.array([[1, 2, 3, 4], [5, 6, -1, -1]])
    found = np.array([[4, 2, 9, 1], [6, -1, 5, -1]])
    assert nearest.recall(found, exact, 4) == (3 / 4 + 1) / 2
    assert nearest.recall(found, exact, 2) == (1 / 2 + 1 / 2) / 2
    with pytest.raises(ValueError, match="places"):
        nearest.recall(np.zeros((1, 2)), np.zeros((1, 9)), 3)


def test_faiss_settings_are_given_back(store, monkeypatch):
    read = lambda: (faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold)  # noqa: E731
    monkeypatch.setattr(faiss.cvar, "distance_compute_blas_threshold", 123_456)
    before = read()
    with pytest.raises(ValueError):
        opened(store, "Graph")
    nearest.search(opened(store, "HNSW4"), np.zeros((1, 32)), 3)
    assert read() == before


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_is_mapped(store, kind):
    if not Path("/proc/self/maps").exists():
        pytest.skip("this system does not list mappings")
    index = opened(store, kind)
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("index.faiss")]
    assert mapped and index.searcher.ntotal == 3000
