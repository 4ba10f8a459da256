"""Nearest neighbours: exact ones are numpy's, approximate ones nearly; what does not belong is refused."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch

from lib.models import vectors
from lib.models.vectors import Identity, VectorStore
from lib.search import nearest
from lib.search.nearest import HNSW, IVFPQ, Flat, IndexDamaged, IndexMismatch

IDENTITY = Identity("model", "collection")
SMALL = {"flat": Flat(), "hnsw": HNSW(m=8, ef_construction=40), "ivf_pq": IVFPQ(nlist=16, m=16, nprobe=8, sample=2000)}


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
    vectors.write(folder, names, [values], values.shape[1], dtype, identity)
    return folder


@pytest.fixture(scope="module")
def passages():
    return clustered(3000)


@pytest.fixture
def folder(tmp_path, passages):
    return stored(tmp_path / "vectors", passages)


def opened(folder, parameters, identity=IDENTITY):
    built = nearest.build(folder, identity, parameters)
    return nearest.load(built, model=identity.model, collection=identity.collection)


def brute_force(queries, passages, depth):
    scores = queries @ passages.T
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    return np.take_along_axis(scores, rows, 1), rows


def test_flat_is_exact(folder, passages):
    queries = clustered(30, seed=1)
    scores, rows = nearest.search(opened(folder, Flat()), torch.from_numpy(queries), 20)
    expected_scores, expected_rows = brute_force(queries, passages, 20)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)
    own = np.einsum("nd,nkd->nk", queries, passages[rows])  # scores nearer than rounding may change places
    np.testing.assert_allclose(own, expected_scores, atol=1e-6)
    assert all(len(set(row)) == 20 for row in rows) and (rows == expected_rows).mean() > 0.99
    assert scores.dtype == np.float32 and rows.dtype == np.int64


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(("kind", "least"), [("hnsw", 0.95), ("ivf_pq", 0.5)])
def test_approximate_ones_find_most(tmp_path, passages, kind, least, dtype):
    folder = stored(tmp_path / "vectors", passages, dtype=dtype)
    queries = clustered(100, seed=1)
    exact = nearest.search(opened(folder, Flat()), queries, 10)[1]
    index = opened(folder, SMALL[kind])
    found = nearest.search(index, queries, 40)[1]
    assert nearest.recall(found, exact, 10) > least
    assert nearest.recall(nearest.rescore(VectorStore(folder), queries, found)[1], exact, 10) > 0.95
    most, some = (nearest.recall(nearest.search(index, queries, 10, effort=e)[1], exact, 10) for e in (200, 1))
    assert most > some


def test_a_graph_holds_as_many_candidates_as_are_asked_for(folder):
    queries = clustered(100, seed=1)
    exact = nearest.search(opened(folder, Flat()), queries, 200)[1]
    found = nearest.search(opened(folder, HNSW(m=8, ef_search=4)), queries, 200)[1]
    assert nearest.recall(found, exact, 200) > 0.95


def test_more_bytes_find_more(folder):
    queries = clustered(100, seed=1)
    exact = nearest.search(opened(folder, Flat()), queries, 10)[1]
    found = [
        nearest.recall(nearest.search(opened(folder, replace(SMALL["ivf_pq"], m=m)), queries, 10)[1], exact, 10)
        for m in (4, 32)
    ]
    assert found[0] + 0.2 < found[1] > 0.9


@pytest.mark.parametrize("kind", SMALL)
def test_scores_are_inner_products(folder, passages, kind):
    queries = clustered(20, seed=1)
    scores, rows = nearest.search(opened(folder, SMALL[kind]), queries, 5)
    tolerance = 0.2 if kind == "ivf_pq" else 1e-5
    np.testing.assert_allclose(scores, np.einsum("nd,nkd->nk", queries, passages[rows]), atol=tolerance)
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("kind", SMALL)
def test_equal_scores_are_ordered_by_row(tmp_path, kind):
    folder = stored(tmp_path / "vectors", np.tile(coarse(clustered(20)), (4, 1)))
    scores, rows = nearest.search(
        opened(folder, SMALL[kind] if kind != "ivf_pq" else IVFPQ(m=8)), coarse(clustered(5, seed=1)), 30
    )
    same = np.diff(scores, axis=1) == 0
    assert same.sum() > 50 and (np.diff(rows, axis=1)[same] > 0).all()


class LastFirst:
    """Exact, but of equal scores it keeps the last rows, as faiss may do where it selects in blocks or threads."""

    def __init__(self, values):
        self.values, self.ntotal, self.d = values, len(values), values.shape[1]

    def search(self, queries, depth, params=None):
        scores, rows = brute_force(queries, self.values[::-1], depth)
        return scores, self.ntotal - 1 - rows


@pytest.mark.parametrize("depth", [1, 3, 150, 499, 500])
@pytest.mark.parametrize("searcher", [LastFirst, None])
def test_flat_looks_for_ties_behind_the_last_place(tmp_path, depth, searcher):
    """500 equal vectors: the first ones by row are found, whichever the search has kept."""
    values = np.tile(coarse(clustered(1)), (500, 1))
    index = opened(stored(tmp_path / "vectors", values), Flat())
    if searcher:
        index = replace(index, searcher=searcher(values))
    rows = nearest.search(index, coarse(clustered(3, seed=1)), depth)[1]
    np.testing.assert_array_equal(rows, np.tile(np.arange(depth), (3, 1)))


@pytest.mark.parametrize("kind", SMALL)
def test_equal_builds_find_the_same(folder, kind, monkeypatch, tmp_path):
    """To rounding: a product may be summed in another order where its numbers lie elsewhere in memory."""
    first = nearest.build(folder, IDENTITY, SMALL[kind])
    assert nearest.build(folder, IDENTITY, SMALL[kind]) == first
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "elsewhere"))
    second = nearest.build(folder, IDENTITY, SMALL[kind])
    assert first != second
    queries = clustered(100, seed=1)
    (scores, rows), (other_scores, other_rows) = (
        nearest.search(nearest.load(built, model="model", collection="collection"), queries, 10)
        for built in (first, second)
    )
    assert (rows == other_rows).mean() > 0.99
    np.testing.assert_allclose(scores[rows == other_rows], other_scores[rows == other_rows], atol=1e-5)


@pytest.mark.parametrize("kind", SMALL)
def test_parameters_and_content_have_indexes_of_their_own(tmp_path, folder, kind):
    first = nearest.build(folder, IDENTITY, SMALL[kind])
    assert first != nearest.build(folder, IDENTITY, HNSW(m=9, ef_construction=40))
    other = Identity("another", "collection")
    assert first != nearest.build(stored(tmp_path / "other", clustered(300), other), other, SMALL[kind])
    about = json.loads((first / "index.json").read_text())
    assert (about["model"], about["collection"], about["kind"]) == ("model", "collection", kind)
    assert about["bytes"] == (first / "index.faiss").stat().st_size and about["faiss"] == faiss.__version__


@pytest.mark.parametrize("kind", SMALL)
def test_an_index_of_something_else_is_refused(folder, kind):
    built = nearest.build(folder, IDENTITY, SMALL[kind])
    with pytest.raises(IndexMismatch, match="of model 'model'.*expected were model 'mine'.*nearest.build"):
        nearest.load(built, model="mine", collection="collection")
    with pytest.raises(IndexMismatch, match="collection 'collection'; expected.*collection 'mine'"):
        nearest.load(built, model="model", collection="mine")
    with pytest.raises(IndexMismatch, match="vector store.*Encode"):
        nearest.build(folder, Identity("mine", "collection"), SMALL[kind])


@pytest.mark.parametrize("kind", SMALL)
def test_truncated_and_missing_files_are_refused(folder, kind):
    built = nearest.build(folder, IDENTITY, SMALL[kind])
    whole = (built / "index.faiss").read_bytes()
    about = json.loads((built / "index.json").read_text())
    mine = {"model": "model", "collection": "collection"}
    (built / "index.faiss").write_bytes(whole[:-1])
    with pytest.raises(IndexDamaged, match="should have.*nearest.build again"):
        nearest.load(built, **mine)
    (built / "index.faiss").write_bytes(b"x" * len(whole))
    with pytest.raises(IndexDamaged, match="faiss cannot read"):
        nearest.load(built, **mine)
    (built / "index.faiss").write_bytes(whole)
    (built / "index.json").write_text(json.dumps(about | {"vectors": 1}))
    with pytest.raises(IndexDamaged, match="describes"):
        nearest.load(built, **mine)
    for name in ("index.json", "index.faiss"):
        (built / name).unlink()
        with pytest.raises(IndexDamaged, match="no whole index"):
            nearest.load(built, **mine)


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("count", [1, 2, 3, 40, 300])
def test_small_collections(tmp_path, kind, count, capfd):
    folder = stored(tmp_path / "vectors", clustered(count))
    if kind == "ivf_pq" and count == 1:
        with pytest.raises(ValueError, match="use Flat"):
            nearest.build(folder, IDENTITY, SMALL[kind])
        return
    index = opened(folder, IVFPQ(m=8) if kind == "ivf_pq" else SMALL[kind])
    scores, rows = nearest.search(index, clustered(4, seed=1), 50)
    found = rows >= 0
    assert rows.shape == scores.shape == (4, 50) and np.isinf(scores[~found]).all() and np.isfinite(scores[found]).all()
    assert (found.sum(1) == min(count, 50)).all()
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in rows)
    assert capfd.readouterr() == ("", "")  # faiss warns there of too few training points


@pytest.mark.parametrize("chunk", [1000, 999, 5000])
def test_the_sample_is_read_in_chunks(folder, passages, chunk, monkeypatch):
    monkeypatch.setattr(nearest, "CHUNK", chunk)
    for rows in (np.arange(3000), np.array([2999]), np.array([0, 998, 999, 1000, 2500])):
        np.testing.assert_array_equal(nearest._sample(VectorStore(folder), rows), passages[rows])


def test_nothing_cannot_be_indexed(tmp_path):
    vectors.write(tmp_path, [], [], 4, "float32", IDENTITY)
    with pytest.raises(ValueError, match="no vectors"):
        nearest.build(tmp_path, IDENTITY, Flat())


def test_lowering_is_said_in_the_index(folder):
    built = nearest.build(folder, IDENTITY, IVFPQ(m=8))
    about = json.loads((built / "index.json").read_text())
    assert about["parameters"]["nlist"] == 1024 and about["fitted"]["nlist"] == 3000 // 39
    assert about["fitted"]["sample"] == 3000 and about["fitted"]["nprobe"] == 32


@pytest.mark.parametrize(("make", "text"), [
    (lambda: HNSW(m=1), "at least 2"), (lambda: HNSW(ef_search=0), "ef_search=0"), (lambda: IVFPQ(bits=9), "at most 8"),
    (lambda: IVFPQ(nlist=1.5), "whole number"), (lambda: IVFPQ(seed=-1), "seed=-1"), (lambda: nearest.fit(IVFPQ(m=5), 100, 32), "does not divide 32"),
])  # fmt: skip
def test_parameters_out_of_range_are_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_searches_that_make_no_sense_are_refused(folder):
    index = opened(folder, Flat())
    with pytest.raises(ValueError, match="dimensions"):
        nearest.search(index, np.zeros((1, 5)), 3)
    with pytest.raises(ValueError, match="depth=0"):
        nearest.search(index, np.zeros((1, 32)), 0)
    assert nearest.search(index, np.zeros((0, 32)), 3)[1].shape == (0, 3)
    with pytest.raises(ValueError, match="places"):
        nearest.recall(np.zeros((1, 2)), np.zeros((1, 9)), 3)


def test_recall_by_hand():
    exact = np.array([[1, 2, 3, 4], [5, 6, -1, -1]])
    found = np.array([[4, 2, 9, 1], [6, -1, 5, -1]])
    assert nearest.recall(found, exact, 4) == (3 / 4 + 1) / 2
    assert nearest.recall(found, exact, 2) == (1 / 2 + 1 / 2) / 2


def test_faiss_settings_are_given_back(folder, monkeypatch):
    read = lambda: (faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold)  # noqa: E731
    monkeypatch.setattr(faiss.cvar, "distance_compute_blas_threshold", 123_456)
    before = read()
    index = opened(folder, HNSW(m=4, ef_construction=8, threads=before[0] + 1))
    with pytest.raises(ValueError, match="dimensions"):
        nearest.search(index, np.zeros((1, 5)), 3)
    nearest.search(index, np.zeros((1, 32)), 3)
    assert read() == before


@pytest.mark.parametrize("kind", SMALL)
def test_the_file_is_mapped(folder, kind):
    if not Path("/proc/self/maps").exists():
        pytest.skip("this system does not list mappings")
    index = opened(folder, SMALL[kind])
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("index.faiss")]
    assert mapped and index.total == 3000


def start(script, *arguments):
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script, *map(str, arguments)], cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


BUILD = """
import sys, time
from pathlib import Path
from lib.search import nearest
from lib.models.vectors import Identity
{before}
print(nearest.build(Path(sys.argv[1]), Identity("model", "collection"), nearest.HNSW(m=8, ef_construction=40)), flush=True)
"""


@pytest.mark.slow
def test_a_killed_build_leaves_nothing_that_loads(folder, data_folder):
    half_way = """
whole = nearest.faiss.write_index
def half(index, path):
    whole(index, path)
    file = Path(path)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    print("half", flush=True)
    time.sleep(60)
nearest.faiss.write_index = half
"""
    process = start(BUILD.format(before=half_way), folder)
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    left = [path for path in (data_folder / "indexes").iterdir() if path.is_dir()]
    assert len(left) == 1 and left[0].name.endswith(".partial") and (left[0] / "index.faiss").exists()
    with pytest.raises(IndexDamaged, match="no whole index"):
        nearest.load(left[0], model="model", collection="collection")
    index = opened(folder, HNSW(m=8, ef_construction=40))
    assert index.total == 3000 and not left[0].exists()


@pytest.mark.slow
def test_two_processes_build_once(folder, data_folder):
    slow = """
whole = nearest._write
def counted(*arguments):
    print("built", flush=True)
    time.sleep(1)
    whole(*arguments)
nearest._write = counted
"""
    both = [start(BUILD.format(before=slow), folder) for _ in range(2)]
    lines = [process.communicate()[0].splitlines() for process in both]
    assert sorted(map(len, lines)) == [1, 2] and lines[0][-1] == lines[1][-1]
    assert nearest.load(Path(lines[0][-1]), model="model", collection="collection").total == 3000
