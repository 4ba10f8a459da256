"""Hard negatives by a ranker's scores: what is left out, the hardest, one from each stratum, and training with them."""

import itertools
import shutil

import numpy as np
import pytest

from lib.data import collections, first_stage, groups
from lib.machine import store
from lib.study import rankers, targets
from lib.study.experiment import Untrained, lineage, vary
from lib.study.mining import Mined
from lib.study.sources import Relabelled
from lib.training import scoring
from tests import kit


@pytest.fixture
def by(experiment):
    """A cross-encoder that was trained a little."""
    return vary(experiment, seed=5)


def scored(run, collection, queries, documents):
    ranker = rankers.ranker(run)
    return scoring.score(ranker, rankers.inputs(ranker, collection, run.model), np.array(queries), np.array(documents))


@pytest.mark.parametrize("margin", [0.0, 0.01, None])
def test_candidates_are_in_the_rankers_order_and_below_the_lowest_positive(by, margin):
    kit.history(by)
    collection = collections.load(by.data.collection)
    queries, relevant = list(collection.relevant("train")), collection.relevant("train")
    found = targets.mined(Mined(by, depth=12, margin=margin), collection, queries, 50)
    assert found["score"].to_numpy() == pytest.approx(
        scored(by, collection, found["query"], found["document"]), abs=1e-5
    )
    candidates = first_stage.bm25(collection, queries, 12)
    kept = set(zip(found["query"], found["document"], strict=True))
    for query, part in candidates.groupby("query"):
        lowest = scored(by, collection, query, list(relevant[query])).min()
        values = scored(by, collection, query, part["document"].tolist())
        ours = found[found["query"] == query]
        assert ours["score"].is_monotonic_decreasing
        for document, value in zip(part["document"], values, strict=True):
            clear = margin is None or abs(value - (lowest - margin)) > 1e-5
            assert not clear or ((query, document) in kept) == (margin is None or value <= lowest - margin)


def _mine(by, collection):
    return targets.mined(Mined(by, depth=12), collection, list(collection.relevant("train")), 50)["score"].to_numpy()


def _relabel(by, collection):
    return Relabelled(by).scores(kit.training_groups(vary(by, docs=8)), collection)


@pytest.mark.parametrize("score", [_mine, _relabel])
def test_long_scoring_that_was_cut_short_goes_on(score, by, found, float32, monkeypatch):
    monkeypatch.setenv("STUDY_CHECKPOINT_SECONDS", "0")
    kit.history(by)
    counts, computed = [], scoring._score_jointly

    def count(model, tokens, pairs, *more):
        counts.append(len(pairs))
        return computed(model, tokens, pairs, *more)

    monkeypatch.setattr(scoring, "_score_jointly", count)
    with monkeypatch.context() as patched, pytest.raises(kit.Killed):
        patched.setattr("lib.machine.progress.steps", kit.cut(1))
        score(by, found)
    before = sum(counts)
    counts.clear()
    goes_on = score(by, found)
    after = sum(counts)
    assert not [path for path in (store.data_folder() / "checkpoints").iterdir() if any(path.iterdir())]
    shutil.rmtree(store.data_folder() / "first_stage")
    counts.clear()
    np.testing.assert_allclose(score(by, found), goes_on, rtol=1e-5, atol=1e-6)
    assert before > 0 and before + after == sum(counts)


def test_what_is_left_out_is_chosen_among_scores_that_are_computed_once(by, found, monkeypatch):
    kit.history(by)
    queries = list(found.relevant("train"))
    whole = targets.mined(Mined(by, depth=12, margin=None, strata=True), found, queries, 50)
    monkeypatch.setattr(targets.scoring, "score", lambda *_, **__: pytest.fail("scored again"))
    best = targets.mined(Mined(by, depth=12, margin=None), found, queries, 3)
    assert best["document"].tolist() == whole.groupby("query").head(3)["document"].tolist()
    assert len(targets.mined(Mined(by, depth=12, margin=0.5), found, queries, 50)) < len(whole)


def test_nothing_is_mined_where_the_first_stage_finds_nothing(by, monkeypatch):
    kit.history(by)
    collection = collections.load(by.data.collection)
    none = first_stage.bm25(collection, list(collection.relevant("train")), 12)[:0]
    monkeypatch.setattr(targets.first_stage, "bm25", lambda *_: none)
    assert targets.mined(Mined(by, depth=12), collection, list(collection.relevant("train")), 50).empty


def test_the_hardest_alone_or_one_from_each_part_of_the_order(by):
    kit.history(by)
    collection = collections.load(by.data.collection)
    order = targets.mined(
        Mined(by, depth=40, margin=None, strata=True), collection, list(collection.relevant("train")), 50
    )
    place = {pair: number for number, pair in enumerate(zip(order["query"], order["document"], strict=True))}
    data = vary(by, docs=4, negatives=Mined(by, depth=40, margin=None, strata=True)).data
    built = targets.groups_of(data)
    for query, documents in zip(built.queries, built.documents[:, 1:], strict=True):
        pool = [name for name in order.loc[order["query"] == query, "document"] if name not in built.related[query]]
        if len(pool) < 3:
            continue
        parts = np.array_split(pool, 3)
        assert all(name in part for name, part in zip(documents, parts, strict=True))
        ranks = [place[query, name] for name in documents]
        assert all(first < second for first, second in itertools.pairwise(ranks))


def test_random_negatives_are_from_the_whole_collection_and_not_relevant(experiment):
    run = vary(experiment, docs=8, negatives="random")
    built, found = targets.groups_of(run.data), collections.load(run.data.collection)
    shares = []
    candidates = first_stage.bm25(found, list(built.queries), groups.DEPTH).groupby("query")["document"].agg(set)
    for query, documents in zip(built.queries, built.documents[:, 1:], strict=True):
        assert not set(documents) & built.related[query] and len(set(documents)) == 7
        shares.append(len(set(documents) & candidates[query]) / len(candidates[query]))
    assert np.mean(shares) < 0.35  # 7 of 39 documents, if drawn by chance
    assert run.key != vary(experiment, docs=8).key and np.isfinite(kit.history(run)["loss"]).all()


def test_a_run_learns_from_mined_negatives_and_its_key_follows_them(experiment, by):
    one, two = (vary(experiment, negatives=Mined(by, margin=margin)) for margin in (0.0, 1.0))
    assert len({experiment.key, one.key, two.key, vary(one, negatives=Mined(by, margin=0.0, strata=True)).key}) == 4
    assert by in lineage(one) and "strata of BM25's top 9" in Mined(by, 9, strata=True).about
    history = kit.history(one)
    assert np.isfinite(history["loss"]).all()
    assert kit.training_groups(one).key != kit.training_groups(experiment).key


@pytest.mark.parametrize("arguments, says", [
    (("minilm",), "ranker='minilm': give a run"),
    ((Untrained(), 0), "depth=0: give a whole number of at least 1"),
    ((Untrained(), 10, -1.0), "margin=-1.0: give a finite number of at least 0"),
])  # fmt: skip
def test_what_cannot_mine_is_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        Mined(*arguments)


def test_groups_without_strata_are_as_before(found):
    assert groups.build(found, count=8, docs=4).key == groups.build(found, count=8, docs=4, strata=False).key
