"""Targets from what is no ranker: dropout draws, an autoencoder; and queries that only the student reads corrupted."""

import numpy as np
import pytest
import torch

from lib.data import collections, corruptions
from lib.models import ragged
from lib.study import identity, rankers, runs, tables, targets
from lib.study.experiment import TestSet, vary
from lib.study.sources import Autoencoder, Draws, Relabelled
from lib.training import scoring, strategies
from tests import kit


def test_targets_are_made_again_after_a_change_of_the_recipe(monkeypatch):
    before = identity.of_teacher_scores(Autoencoder(), "texts", "pairs", 48)
    monkeypatch.setattr(identity, "RECIPE", 99)
    assert identity.of_teacher_scores(Autoencoder(), "texts", "pairs", 48) != before


def of(run):
    return kit.training_groups(run).targets[strategies.TEACHER]


def test_draws_are_several_and_around_the_runs_own_scores(experiment):
    student = vary(experiment, strategy="ssd", teacher=Draws(experiment, count=40, dropout=0.1))
    runs.complete([experiment])
    draws, plain = of(student), of(vary(experiment, strategy="kl", teacher=experiment))
    assert draws.shape == (16, 3, 40) and draws.std(-1).min() > 0
    assert np.corrcoef(draws.mean(-1).ravel(), plain.ravel())[0, 1] > 0.8
    np.testing.assert_array_equal(draws, of(student))  # read, not drawn again


def test_other_draws_are_other_targets(experiment):
    keys = {Draws(experiment, *more).key for more in ((), (4,), (8, 0.2))} | {Draws(vary(experiment, seed=1)).key}
    assert len(keys) == 4


def test_scoring_without_dropout_stays_without(experiment, float32):
    runs.complete([experiment])
    found, made = collections.load(experiment.data.collection), kit.training_groups(experiment)
    ranker = rankers.with_dropout(experiment, 0.5)
    inputs = rankers.inputs(ranker, found, experiment.model)
    first, second = (scoring.score(ranker, inputs, made.queries[:, None], made.documents) for _ in range(2))
    np.testing.assert_allclose(first, second, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(first, of(vary(experiment, strategy="kl", teacher=experiment)), atol=1e-5, rtol=1e-5)


def test_an_autoencoders_targets_are_highest_for_the_positive(experiment, found):
    made = kit.training_groups(experiment)
    values = Autoencoder(dim=16, epochs=20, scale=5.0).scores(made, found)
    assert values.shape == (16, 3) and values[:, 0] == pytest.approx(5.0) and (values[:, 1:] <= 5 + 1e-5).all()
    again = Autoencoder(dim=16, epochs=20, scale=5.0).scores(made, found)
    np.testing.assert_allclose(again, values, rtol=1e-3, atol=1e-4)  # trained twice


def test_what_a_ranker_prefers_to_the_positive_is_positive_too(experiment, float32):
    judge = experiment.before
    student = vary(experiment, strategy="relabelled", teacher=Relabelled(judge))
    labels, judged = of(student), of(vary(experiment, strategy="kl", teacher=judge))
    assert labels.dtype == np.float32 and set(np.unique(labels)) == {0, 1} and (labels[:, 0] == 1).all()
    np.testing.assert_array_equal(labels[:, 1:] == 1, judged[:, 1:] > judged[:, :1])
    assert 0 < labels[:, 1:].mean() < 1  # an untrained judge prefers some negatives
    with pytest.raises(ValueError, match="give teacher=Relabelled"):  # scores above 0 would be positives
        runs.complete([vary(student, teacher=experiment)])
    far = vary(student, teacher=Relabelled(judge, margin=1e6))
    np.testing.assert_array_equal(of(far), kit.training_groups(experiment).targets["labels"])
    assert len({student.key, far.key, vary(student, teacher=Relabelled(vary(judge, seed=1))).key}) == 3


def test_with_no_false_negative_relabelled_is_info_nce(experiment, float32):
    none = vary(experiment, strategy="relabelled", teacher=Relabelled(experiment.before, margin=1e6))
    runs.complete([none, experiment])
    one, other = (runs.history(run)["loss"] for run in (none, experiment))
    np.testing.assert_allclose(one, other, rtol=1e-5)


def test_texts_of_the_same_tokens_have_similar_codes(tmp_path):
    texts = [np.random.default_rng(number).choice(20, 8) for number in range(40)]
    ragged.write(tmp_path / "tokens.npy", [f"d{number}" for number in range(40)], [texts], np.int32)
    codes = Autoencoder(dim=16, epochs=200).codes(ragged.Ragged(tmp_path, "tokens.npy"), 20)
    assert codes.norm(dim=1).allclose(torch.ones(40), atol=1e-5)
    shared = np.array([[len({*one} & {*other}) for other in texts] for one in texts])
    pairs = np.triu_indices(40, 1)
    assert np.corrcoef((codes @ codes.T).numpy()[pairs], shared[pairs])[0, 1] > 0.5


@pytest.mark.parametrize("strategy", ["ssd", "reff_akd"])
def test_students_of_a_source_get_above_their_start(strategy, experiment, tiny_collection):
    teacher = Draws(vary(experiment, epochs=10), 4) if strategy == "ssd" else Autoencoder(8)
    run = vary(experiment, strategy=strategy, teacher=teacher, epochs=20)
    test = TestSet(tiny_collection, split="train", queries=None, depth=10)
    tables.complete([run, run.before], [test])
    assert tables.values(run, test, "RR@10").mean() > tables.values(run.before, test, "RR@10").mean() + 0.1
    assert set(tables.results([run], [test])["strategy"]) == {strategy}


def test_a_source_names_what_it_needs_and_is_no_part_of_a_mean(experiment):
    draws = Draws(experiment)
    student = vary(experiment, strategy="ssd", teacher=draws)
    assert [run.key for run in runs.lineage(student)] == [experiment.key, student.key]
    assert student.key != vary(student, teacher=Draws(experiment, 9)).key
    with pytest.raises(ValueError, match="a source is no part of a mean: give it alone"):
        vary(student, teacher=(draws, experiment))
    with pytest.raises(rankers.NotTrained, match="not trained yet"):
        targets.training_groups(student)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda run: Draws("minilm"), "run='minilm': give the Experiment"),
        (lambda run: Draws(run, 0), "count=0"),
        (lambda run: Draws(run, dropout=0), "dropout=0"),
        (lambda run: Draws(run, dropout=1.0), "dropout=1.0"),
        (lambda run: Relabelled("minilm"), "ranker='minilm': give a run"),
        (lambda run: Relabelled(run, float("nan")), "margin=nan"),
        (lambda run: Autoencoder(0), "dim=0"),
        (lambda run: Autoencoder(scale=0), "scale=0"),
        (lambda run: Autoencoder(seed=-1), "seed=-1"),
    ],
)
def test_impossible_sources_are_refused(make, message, experiment):
    with pytest.raises(ValueError, match=message):
        make(experiment)


# ---- corrupted queries ----------------------------------------------------------------------------------------------

TEXT = "Return the shortest path between two nodes of a weighted graph"


def test_corruptions_are_what_they_say():
    words = TEXT.split()
    typos = corruptions.corrupt("typos", TEXT).split()
    changed = [(one, other) for one, other in zip(words, typos, strict=True) if one != other]
    assert 1 <= len(changed) <= 4
    assert all(one[0] == other[0] and abs(len(one) - len(other)) <= 1 for one, other in changed)
    fewer = iter(words)
    assert all(word in fewer for word in corruptions.corrupt("fewer", TEXT).split())  # in their order
    assert len(corruptions.corrupt("fewer", TEXT).split()) == len(words) - 3
    kept = corruptions.corrupt("keywords", TEXT).split()
    assert sorted(kept) == sorted(set(words) - {"the", "of", "a"}) and kept != [word for word in words if word in kept]
    assert {corruptions.corrupt(kind, TEXT) for kind in corruptions.KINDS} == {
        corruptions.corrupt(kind, TEXT) for kind in corruptions.KINDS
    }


@pytest.mark.parametrize("text", ["", "a", "to be or not to be", "graph", "of the"])
def test_short_texts_keep_a_word(text):
    for kind in corruptions.KINDS:
        assert bool(corruptions.corrupt(kind, text)) == bool(text)


def test_mixed_leaves_some_queries_as_they_are():
    texts = [f"{TEXT} {number}" for number in range(200)]
    same = np.mean([corruptions.corrupt("mixed", text) == text for text in texts])
    assert 0.15 < same < 0.35


def test_a_corrupted_collection_has_other_queries_and_the_same_documents(tiny_collection):
    plain, typos = collections.load(tiny_collection), collections.load(f"typos:{tiny_collection}")
    assert typos.documents == plain.documents and typos.queries.keys() == plain.queries.keys()
    assert typos.queries != plain.queries and typos.name == f"typos:{plain.name}"
    assert typos.documents_digest == plain.documents_digest and typos.queries_digest != plain.queries_digest
    assert typos.fingerprint == collections.fingerprint(f"typos:{tiny_collection}") != plain.fingerprint
    assert typos.split("test") == plain.split("test")


def test_the_student_alone_reads_corrupted_queries(experiment):
    teacher = vary(experiment, seed=7)
    clean = vary(experiment, strategy="kl", teacher=teacher)
    noisy = vary(clean, reads="fewer")
    assert noisy.key != clean.key
    runs.complete([noisy])
    np.testing.assert_array_equal(of(noisy), of(clean))
    _, made, inputs = runs.at_start(noisy)
    _, plain, others = runs.at_start(clean)
    assert (made.documents == plain.documents).all()
    assert inputs.queries.total < others.queries.total
    with pytest.raises(ValueError, match="reads='noise': give '', or one of typos, fewer, keywords, mixed"):
        vary(clean, reads="noise")
