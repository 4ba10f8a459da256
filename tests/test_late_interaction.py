"""Late interaction: with every neighbour it is brute-force MaxSim, with some it is nearly."""

import numpy as np
import pytest
import torch

from lib.models import vectors
from lib.models.colbert import max_sim
from lib.models.vectors import Identity, Vectors, VectorStore
from lib.search import late_interaction, nearest

IDENTITY = Identity("colbert", "collection")
DIM = 16


def maxsim(query, query_mask, documents, mask):
    """Of one query, (tokens, dim), with documents (n, width, dim): (n,)."""
    return max_sim(Vectors(query[None], query_mask[None]), Vectors(documents[None], mask[None]))[0]


def unit(values):
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def coarse(values):
    """Multiples of 1/16, whose inner products are exact in any order: equal documents tie on every processor."""
    return (values * 16).round() / 16


def documents(count=120, seed=0):
    """Documents of 0 to 12 token vectors, each near one of 40 words."""
    draw = np.random.default_rng(seed)
    words = np.random.default_rng(99).standard_normal((40, DIM))
    return [
        unit(words[draw.integers(0, 40, length)] + 0.3 * draw.standard_normal((length, DIM))).astype(np.float32)
        for length in draw.integers(0, 13, count)
    ]


@pytest.fixture
def store(tmp_path):
    (tmp_path / "vectors").mkdir()
    made = documents()
    vectors.write(tmp_path / "vectors", [f"d{n}" for n in range(len(made))], [made], DIM, "float16", IDENTITY)
    return VectorStore(tmp_path / "vectors")


def queries(count=9):
    """Queries of 1 to 6 tokens, with what masked places hold being large and wrong."""
    some = [document[:6] for document in documents(3 * count, seed=1) if len(document)][:count]
    mask = torch.arange(6) < torch.tensor([[len(tokens)] for tokens in some])
    values = torch.full((count, 6, DIM), 100.0)
    values[mask] = torch.from_numpy(np.concatenate(some))
    return Vectors(values, mask)


def opened(store, factory="Flat"):
    return nearest.build(store, IDENTITY, factory)


def brute_force(store, values, mask, depth):
    """Loops over queries and documents, without padding."""
    scores = np.full((len(values), len(store)), -np.inf, dtype=np.float64)
    for number in range(len(values)):
        for row in np.flatnonzero(store.lengths):
            document = store.flat[store.starts[row] : store.starts[row + 1]].astype(np.float64)
            scores[number, row] = (values[number][mask[number]].numpy() @ document.T).max(1).sum()
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    return np.take_along_axis(scores, rows, 1), rows


@pytest.mark.parametrize("budget", [1, 40, 2**16])
def test_with_every_neighbour_it_is_brute_force(store, budget, monkeypatch):
    monkeypatch.setattr(late_interaction, "BATCH_VECTORS", budget)
    scores, rows = late_interaction.search(opened(store), queries(), neighbours=store.total, depth=20)
    expected_scores, expected_rows = brute_force(store, *queries(), 20)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-5, rtol=1e-5)
    assert (rows == expected_rows).mean() > 0.99  # scores nearer than rounding may change places


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "IVF8,PQ8"])
def test_with_some_neighbours_it_is_nearly_that(store, factory):
    scores, rows = late_interaction.search(opened(store, factory), queries(), neighbours=60, depth=5, effort=4)
    expected_scores, expected_rows = brute_force(store, *queries(), 5)
    assert nearest.recall(rows, expected_rows, 5) > 0.9
    agree = rows == expected_rows
    np.testing.assert_allclose(
        scores[agree], expected_scores[agree], atol=1e-5
    )  # whatever found them, scores are exact


def test_padding_does_not_beat_negative_similarities():
    query, document = torch.tensor([[1.0, 0.0]]), torch.tensor([[[-0.5, 0.0], [0.0, 0.0]], [[-0.9, 0.0], [-0.8, 0.0]]])
    mask = torch.tensor([[True, False], [True, True]])
    assert maxsim(query, torch.tensor([True]), document, mask).tolist() == pytest.approx([-0.5, -0.8])


def test_masked_query_tokens_do_not_count():
    query, documents = torch.randn(3, 4), torch.randn(5, 2, 4)
    whole = torch.ones(5, 2, dtype=torch.bool)
    cut = maxsim(query, torch.tensor([True, True, False]), documents, whole)
    torch.testing.assert_close(cut, maxsim(query[:2], torch.ones(2, dtype=torch.bool), documents, whole))


def test_fewer_candidates_than_asked(store):
    few = queries(2)
    few.mask[1] = False  # a query without tokens
    scores, rows = late_interaction.search(opened(store), few, neighbours=1, depth=50)
    found = rows >= 0
    assert 1 <= found[0].sum() <= 6 and not found[1].any()
    assert np.isfinite(scores[found]).all() and np.isneginf(scores[~found]).all()
    assert late_interaction.search(opened(store), few.map(lambda part: part[:0]), neighbours=1, depth=5)[1].shape == (
        0,
        5,
    )


def test_documents_without_vectors_have_no_score(store):
    empty = np.flatnonzero(store.lengths == 0)
    assert len(empty) and np.isneginf(late_interaction.score(store, queries(1), empty)).all()


def test_equal_scores_are_ordered_by_row(tmp_path):
    made = [coarse(document) for document in documents(6)] * 5
    vectors.write(tmp_path, [str(n) for n in range(30)], [made], DIM, "float32", IDENTITY)
    store = VectorStore(tmp_path)
    values, mask = queries()
    scores, rows = late_interaction.search(
        opened(store), Vectors(coarse(values), mask), neighbours=store.total, depth=20
    )
    same = np.diff(scores, axis=1) == 0
    assert same.sum() > 50 and (np.diff(rows, axis=1)[same] > 0).all()


def test_queries_that_are_not_finite_are_refused(store):
    values, mask = queries(3)
    values[1, 0] = torch.nan
    with pytest.raises(ValueError, match="queries: the vector in row . is not finite"):
        late_interaction.search(opened(store), Vectors(values, mask), neighbours=3, depth=3)
    mask[1] = False  # what does not count may hold anything
    late_interaction.search(opened(store), Vectors(values, mask), neighbours=3, depth=3)
