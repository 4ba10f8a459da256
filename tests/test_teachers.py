"""Where targets come from: another run, several, a model of the hub's layout, a file; or the model itself."""

import numpy as np
import pytest
import torch

from lib import losses, models
from lib.data import collections, score_files
from lib.losses import margins
from lib.losses.margins import Similarities
from lib.models import backbone
from lib.study import rankers, tables
from lib.study.experiment import vary
from lib.training import scoring, strategies
from tests import kit


def targets(experiment):
    return kit.training_groups(experiment).targets[strategies.TEACHER]


def test_an_ensemble_is_the_mean_of_raw_scores(experiment):
    teachers = (vary(experiment, seed=7), vary(experiment, architecture="dot"))
    single = [targets(vary(experiment, strategy="margin_mse", teacher=one)) for one in teachers]
    both = vary(experiment, strategy="margin_mse", teacher=teachers)
    np.testing.assert_allclose(targets(both), np.mean(single, axis=0), atol=1e-6, rtol=1e-5)
    assert both.key != vary(both, teacher=teachers[:1]).key
    table = tables.results([both], [])
    assert set(table["teachers"]) == {2}


def test_a_folder_in_the_hubs_layout_teaches(experiment, tiny_backbone, tmp_path):
    models.build("cat", tiny_backbone, None, 3).save(tmp_path / "model", backbone.tokenizer(tiny_backbone), 48)
    (tmp_path / "model" / "ranker.json").unlink()  # as any cross-encoder from the hub
    student = vary(experiment, strategy="kl", teacher=str(tmp_path / "model"))
    found = targets(student)
    assert found.shape == (16, 3) and found.std() > 0
    assert tables.results([student], [])["strategy"].eq("kl").all()


@pytest.mark.parametrize("margin", [17.0, 2.0])
def test_a_teacher_that_knows_the_labels_is_told(experiment, tmp_path, margin, recwarn):
    made = kit.training_groups(experiment)
    scores = np.zeros(made.documents.shape, np.float32)
    scores[:, 0] = margin
    path = tmp_path / "scores.tsv"
    score_files.write(path, made.queries, made.documents, scores)
    targets(vary(experiment, strategy="kl", teacher=str(path)))
    told = [str(one.message) for one in recwarn if "teaches little that labels do not say" in str(one.message)]
    assert len(told) == (margin == 17)
    recwarn.clear()
    targets(vary(experiment, strategy="dpo", teacher=str(path)))  # its reference teaches nothing
    assert not recwarn
    assert all("scores.tsv" in text and "gives the positives of these groups 1.000" in text for text in told)


def test_a_file_of_scores_teaches(experiment, tmp_path):
    made = kit.training_groups(experiment)
    scores = np.random.default_rng(0).normal(size=made.documents.shape).astype(np.float32)
    path = tmp_path / "scores.tsv"
    score_files.write(path, made.queries, made.documents, scores)
    student = vary(experiment, strategy="margin_mse", teacher=str(path))
    np.testing.assert_array_equal(targets(student), scores)
    key = student.key
    path.write_text(path.read_text().replace(path.read_text().split("\t")[0], "9.5", 1))
    assert student.key != key  # the file's content is part of the run's name


def test_a_file_that_lacks_a_pair_is_refused_before_anything_trains(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr("lib.training.loop.train", lambda *_, **__: pytest.fail("it trained"))
    made, path = kit.training_groups(experiment), tmp_path / "scores.tsv"
    score_files.write(path, made.queries[:-1], made.documents[:-1], np.zeros((15, 3)))
    student = vary(experiment, strategy="margin_mse", teacher=str(path))
    with pytest.raises(score_files.ScoreFileError, match="no score for 3 of 48 pairs"):
        tables.complete([experiment, student])


@pytest.mark.parametrize(
    "name",
    [
        *(name for name, one in strategies.STRATEGIES.items() if one.paradigm == "self-distillation"),
        "in_batch",
        "triplet",
        strategies.named("adaptive_margin", error="l1"),
        strategies.named("adaptive_margin", error="soft"),
        strategies.named("adaptive_margin_in_batch", reading="literal"),
        strategies.named("distributed_margin", reading="literal"),
        strategies.named("distributed_margin", detach=True),
        strategies.named("adaptive_margin", scale="raw"),
    ],
    ids=lambda strategy: getattr(strategy, "name", strategy),
)
def test_a_bi_encoder_learns_from_its_own_similarities(name, experiment):
    student = vary(experiment, strategy=name, architecture="dot", options=(("similarity", "cosine"),), epochs=8)
    history = kit.history(student)
    assert np.isfinite(history["loss"]).all()
    assert history["loss"].tail(8).mean() < history["loss"].head(8).mean()


def test_other_models_have_no_similarities_of_their_own(experiment):
    with pytest.raises(ValueError, match="adaptive_margin.*compares cosines.*architecture='dot'"):
        vary(experiment, strategy="adaptive_margin")


def test_encoded_queries_are_those_of_the_joint_call(experiment, float32):
    dot = vary(experiment, architecture="dot", options=(("similarity", "cosine"),))
    ranker, found = kit.model(dot), collections.load(dot.data.collection)
    inputs = rankers.inputs(ranker, found, dot.model)
    stored = rankers.document_vectors(dot, found)
    queries, documents = list(found.queries)[:5], list(found.documents)
    vectors, mask = scoring.encode_queries(ranker, inputs, queries)
    joint = scoring.score(ranker, inputs, np.array(queries)[:, None], np.array([documents] * 5))
    np.testing.assert_allclose(
        vectors[:, 0] @ stored.take(stored.rows(documents))[0][:, 0].T, joint, atol=1e-5, rtol=1e-5
    )
    assert mask.all() and vectors.shape[:2] == (5, 1)


def test_a_name_gives_a_loss_other_values():
    scores, wanted = torch.tensor([[1.0, 0.5, -1.0]]), torch.tensor([[2.0, 0.0, 1.0]])
    changed = strategies.named("kl", temperature=2)
    assert changed.name == "kl(temperature=2)" and changed.paradigm == "distillation"
    expected = losses.kl(scores, wanted, temperature=2)
    torch.testing.assert_close(changed.loss(scores, {strategies.TEACHER: wanted}), expected)
    assert not torch.allclose(expected, strategies.named("kl").loss(scores, {strategies.TEACHER: wanted}))


def test_a_name_gives_margins_other_values():
    draw = torch.Generator().manual_seed(0)
    batch = Similarities(*torch.rand(2, 4, 4, 2, generator=draw, dtype=torch.float64))
    changed = strategies.named("adaptive_margin", scale="clamp", error="l1")
    scores, wanted = changed.columns(batch)
    expected_scores, expected = margins.adaptive(batch, scale="clamp")
    torch.testing.assert_close((scores, wanted), (expected_scores, expected))
    error = losses.margin_error(scores, wanted, error="l1")
    torch.testing.assert_close(changed.loss(scores, {strategies.OWN: wanted}), error)
