"""Where targets come from: another run, several, a model of the hub's layout, a file; or the model itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lib import losses
from lib.data import collections, score_files
from lib.losses import margins
from lib.losses.margins import Similarities
from lib.models import backbone, cross_encoder
from lib.study import runs as study
from lib.study.runs import Experiment
from lib.training import strategies


@pytest.fixture
def experiment(tiny_backbone, tiny_collection):
    return Experiment("info_nce", backbone=tiny_backbone, collection=tiny_collection, group_count=16, batch_size=4,
                      docs=3, max_length=48, learning_rate=1e-3)  # fmt: skip


def targets(experiment):
    return study.training_groups(experiment).targets[strategies.TEACHER]


def test_an_ensemble_is_the_mean_of_raw_scores(experiment):
    teachers = (replace(experiment, seed=7), replace(experiment, architecture="dot"))
    single = [targets(replace(experiment, strategy="margin_mse", teacher=one)) for one in teachers]
    both = replace(experiment, strategy="margin_mse", teacher=teachers)
    np.testing.assert_allclose(targets(both), np.mean(single, axis=0), atol=1e-6)
    assert both.key != replace(both, teacher=teachers[:1]).key
    table = study.results([both], [])
    assert set(table["teachers"]) == {2}


def test_a_folder_in_the_hubs_layout_teaches(experiment, tiny_backbone, tmp_path):
    cross_encoder.build(tiny_backbone, None, 3).save(tmp_path / "model", backbone.tokenizer(tiny_backbone), 48)
    (tmp_path / "model" / "ranker.json").unlink()  # as any cross-encoder from the hub
    student = replace(experiment, strategy="kl", teacher=str(tmp_path / "model"))
    found = targets(student)
    assert found.shape == (16, 3) and found.std() > 0
    assert study.results([student], [])["strategy"].eq("kl").all()


def test_a_file_of_scores_teaches(experiment, tmp_path):
    made = study.training_groups(experiment)
    scores = np.random.default_rng(0).normal(size=made.documents.shape).astype(np.float32)
    path = tmp_path / "scores.tsv"
    score_files.write(path, made.queries, made.documents, scores)
    student = replace(experiment, strategy="margin_mse", teacher=str(path))
    np.testing.assert_array_equal(targets(student), scores)
    key = student.key
    path.write_text(path.read_text().replace(path.read_text().split("\t")[0], "9.5", 1))
    assert student.key != key  # the file's content is part of the run's name


@pytest.mark.parametrize(
    "name",
    [
        *strategies.SELF,
        "in_batch",
        "triplet",
        "adaptive_margin(error='l1')",
        "adaptive_margin(error='soft')",
        "adaptive_margin_in_batch(reading='literal')",
        "distributed_margin(reading='literal')",
        "distributed_margin(detach=True)",
        "adaptive_margin(scale='raw')",
    ],
)
def test_a_bi_encoder_learns_from_its_own_similarities(name, experiment):
    student = replace(experiment, strategy=name, architecture="dot", options=(("similarity", "cosine"),), epochs=8)
    history = study.history(student)
    assert np.isfinite(history["loss"]).all()
    assert history["loss"].tail(8).mean() < history["loss"].head(8).mean()


def test_other_models_have_no_similarities_of_their_own(experiment):
    with pytest.raises(ValueError, match="adaptive_margin.*compares cosines.*architecture='dot'"):
        replace(experiment, strategy="adaptive_margin")


def test_encoded_queries_are_those_of_the_joint_call(experiment, float32):
    dot = replace(experiment, architecture="dot", options=(("similarity", "cosine"),))
    ranker, found = study.model(dot), collections.load(dot.collection)
    layout = study.layout(ranker, found, dot.backbone, 48)
    stored = study.encode(ranker, layout, dot.key, found)
    queries, documents = list(found.queries)[:5], list(found.documents)
    vectors, _ = study.scoring.encode_queries(ranker, layout, queries)
    joint = study.scoring.score(ranker, layout, np.array(queries)[:, None], np.array([documents] * 5))
    np.testing.assert_allclose(vectors[:, 0] @ stored.take(stored.rows(documents))[0][:, 0].T, joint, atol=1e-5)
    assert vectors.shape[:2] == (5, 1)


def test_a_name_gives_a_loss_other_values():
    scores, wanted = torch.tensor([[1.0, 0.5, -1.0]]), torch.tensor([[2.0, 0.0, 1.0]])
    changed = strategies.named("kl(temperature=2)")
    assert changed.name == "kl(temperature=2)" and changed.paradigm == "distillation"
    expected = losses.kl(scores, wanted, temperature=2)
    torch.testing.assert_close(changed.loss(scores, {strategies.TEACHER: wanted}), expected)
    assert not torch.allclose(expected, strategies.named("kl").loss(scores, {strategies.TEACHER: wanted}))


def test_a_name_gives_margins_other_values():
    draw = torch.Generator().manual_seed(0)
    batch = Similarities(*torch.rand(2, 4, 4, 2, generator=draw, dtype=torch.float64))
    changed = strategies.named("adaptive_margin(scale='clamp', error='l1')")
    scores, wanted = changed.columns(batch)
    expected_scores, expected = margins.adaptive(batch, scale="clamp")
    torch.testing.assert_close((scores, wanted), (expected_scores, expected))
    error = losses.margin_error(scores, wanted, error="l1")
    torch.testing.assert_close(changed.loss(scores, {strategies.OWN: wanted}), error)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kl(2)", "write it as name"),
        ("kl(temperature=x)", "write it as name"),
        ("kl(temperature=2", "write it as name"),
        ("kl(margin=2)", "no parameter 'margin'; kl has target_temperature, temperature"),
        ("bce(x=1)", "bce has no parameters"),
        ("klx(temperature=2)", "give one of"),
    ],
)
def test_what_stands_in_brackets_is_checked(name, message):
    with pytest.raises(ValueError, match=message):
        strategies.named(name)
