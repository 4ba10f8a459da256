"""Runs made from other runs: merged, or kept in the middle of a training; wherever an experiment goes, they go."""

import dataclasses

import numpy as np
import pytest
import torch

from lib import models
from lib.machine import progress
from lib.models import merging
from lib.study import export, rankers, runs, space, tables
from lib.study.derived import HOW, Merged, Pretrained, Snapshot, snapshots
from lib.study.experiment import TestSet, Untrained, fields, lineage, vary
from lib.training.settings import Adapter, Training
from tests import kit


@pytest.fixture
def test_set(tiny_collection):
    return TestSet(tiny_collection, queries=8, depth=10)


@pytest.fixture
def pair(experiment, tiny_collection):
    """Two runs from one start, and the start."""
    start = vary(experiment, collection=f"cropped:{tiny_collection}")
    return vary(experiment, start=start), vary(experiment, start=start, strategy="bce"), start


def weights(run):
    return kit.model(run).state_dict()


@pytest.mark.parametrize("how", HOW)
def test_a_merge_is_a_row_of_the_table_a_teacher_and_a_start(how, pair, test_set, experiment):
    one, two, start = pair
    merged = Merged((one, two), how)
    taught, warm = vary(experiment, strategy="kl", teacher=merged), vary(experiment, start=merged)
    table = tables.results([merged, taught, warm], [test_set])
    assert list(table["strategy"].unique()) == [how, "kl", "info_nce"]
    assert set(table.loc[table["strategy"] == how, "paradigm"]) == {"merge"}
    runs.complete([merged])
    states = [weights(run) for run in (one, two, start)]
    expected = {
        "linear": lambda: merging.linear(states[:2], (0.5, 0.5)), "slerp": lambda: merging.slerp(states[:2], (0.5, 0.5)),
        "task_arithmetic": lambda: merging.task_arithmetic(states[:2], states[2], (1.0, 1.0), 1.0),
        "ties": lambda: merging.ties(states[:2], states[2], 0.2, 1.0),
        "dare": lambda: merging.dare(states[:2], states[2], (1.0, 1.0), 0.5, 1.0, 0),
    }[how]()  # fmt: skip
    found = rankers.ranker(merged).state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)
    begun = rankers.at_start(warm).state_dict()
    assert all(begun[name].equal(value) for name, value in found.items())
    assert [run.key for run in lineage(warm)][-2:] == [merged.key, warm.key]
    assert space.reviewed()[0] == []


def test_a_merge_whose_weights_are_not_finite_is_not_kept(pair):
    merged = Merged(pair[:2], "task_arithmetic", scale=1e39)
    with pytest.raises(FloatingPointError, match="is not finite, so the run is not kept"):
        runs.complete([merged])
    with pytest.raises(rankers.NotTrained):
        rankers.ranker(merged)


def test_the_base_is_the_common_start_or_the_untrained_model(pair, experiment):
    one, two, start = pair
    assert Merged((one, two), "ties").before == start
    assert Merged((one, experiment), "ties").before == Untrained(experiment.model, 0)
    assert Merged((one, two)).parents == (one, two)  # a mean has no base


def test_what_decides_a_merge_is_in_its_key(pair):
    one, two, _ = pair
    different = [
        Merged((one, two)), Merged((two, one), weights=(0.3, 0.7)), Merged((one, two), "slerp"),
        Merged((one, two), "ties"), Merged((one, two), "ties", density=0.3), Merged((one, two), "ties", scale=0.5),
        Merged((one, two), "dare"), Merged((one, two), "dare", seed=1), Merged((one, one)), Merged((one, two, two)),
    ]  # fmt: skip
    assert len({run.key for run in different}) == len(different)
    assert Merged((one, two)).key == Merged((one, two), weights=(0.5, 0.5)).key == Merged((one, two), seed=1).key
    assert Merged((one, two), "ties").key == Merged((one, two), "ties", density=0.2, scale=1).key
    assert {"runs", "how", "weights", "scale", "density", "seed"} == set(dict(fields(different[0])))


def test_a_seed_is_taken_by_runs_of_one_seed_alone(pair):
    one, two, _ = pair
    varied = Merged((one, two), "dare").with_seed(3)
    assert (varied.seed, [run.seed for run in varied.runs], varied.runs[0].start.seed) == (3, [3, 3], 3)
    soup = Merged((one, one.with_seed(1)))
    assert soup.with_seed(5).key == soup.key


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda one, two: Merged(one), "runs=.*give a tuple of two or more runs that were trained"),
        (lambda one, two: Merged((one,)), "give a tuple of two or more runs"),
        (lambda one, two: Merged((one, one.before.before)), "give a tuple of two or more runs that were trained"),
        (lambda one, two: Merged((one, two), "mean"), "how='mean': give one of linear, slerp, task_arithmetic"),
        (lambda one, two: Merged((one, vary(two, start=None, layers=(0,)))), "must have the architecture, options"),
        (lambda one, two: Merged((one, two, two), "slerp"), "an arc has two ends; give two runs instead of 3"),
        (lambda one, two: Merged((one, two), density=0.5), "density=0.5: how='linear' has none"),
        (lambda one, two: Merged((one, two), "ties", weights=(1.0, 1.0)), "weights=.*how='ties' has none"),
        (lambda one, two: Merged((one, two), weights=(1.0, 1.0)), "with how='linear' give numbers .* that sum to 1"),
        (lambda one, two: Merged((one, two), weights=(1.0,)), "give a tuple of 2 numbers"),
        (lambda one, two: Merged((one, two), "ties", density=2), "density=2: give a share above 0 and at most 1"),
        (lambda one, two: Merged((one, two), "dare", density=0), "density=0: give a finite number above 0"),
        (lambda one, two: Merged((one, two), "ties", scale=float("nan")), "scale=nan: give a finite number above 0"),
        (lambda one, two: Merged((one, two), seed=-1), "seed=-1: give a whole number"),
        (lambda one, two: Merged((one, vary(two, adapter=Adapter("prefix", 2)))), "has a prefix"),
        (lambda one, two: Snapshot("run", 1), "run='run': give an Experiment"),
        (lambda one, two: Snapshot(one, 2), r"number=2: .* keeps 1; give it training=Training\(snapshots=2\)"),
        (lambda one, two: Snapshot(one, 0), "number=0: give a whole number of at least 1"),
        (lambda one, two: vary(one, snapshots=5), "snapshots=5: the training has 4 steps; give so many or less"),
        (lambda one, two: vary(one, snapshots=2, adapter=Adapter("lora")), "snapshots=2: an adapter is merged"),
        (lambda one, two: vary(one, start=Untrained(one.model)), "start=.*has weights of its own"),
    ],
)
def test_what_cannot_be_is_refused_by_name(make, says, pair):
    with pytest.raises(ValueError, match=says):
        make(*pair[:2])


def test_a_merge_has_no_history_and_costs_of_its_own(pair, test_set):
    merged = Merged(pair[:2])
    assert "merge_seconds" in kit.costs(merged, test_set).index
    with pytest.raises(rankers.NotTrained, match="linear of 2 runs.*no history"):
        runs.history(merged)


@pytest.mark.parametrize("kind", ["merge", "snapshot", "pre-trained"])
def test_they_are_exported_with_a_card_that_says_what_they_are(kind, pair, kept, test_set, tmp_path):
    run, says = {
        "merge": lambda: (Merged(pair[:2]), ["cat linear of 2 runs", "made from: cat info_nce", "| how | linear |"]),
        "snapshot": lambda: (Snapshot(kept, 1), ["snapshot 1 of 3", "made from: cat info_nce"]),
        "pre-trained": lambda: (
            Pretrained(kept.model, test_set.collection, 8, Training(batch_size=4)), ["pre-trained on tiny"],
        ),
    }[kind]()  # fmt: skip
    tables.complete([run], [test_set])
    written = models.load(export.write(run, tmp_path / "out", [test_set])).state_dict()
    assert all(written[name].equal(value) for name, value in rankers.ranker(run).state_dict().items())
    card = (tmp_path / "out" / "README.md").read_text()
    assert all(text in card for text in says) and run.taught["paradigm"] in card


@pytest.fixture
def kept(experiment):
    return vary(experiment, epochs=2, snapshots=3, dropout=0.1)  # 8 steps; kept after 2, 5 and 8


def test_snapshots_are_the_weights_of_their_step_and_change_no_number(kept, test_set, float32, monkeypatch):
    plain = vary(kept, snapshots=1)
    assert plain.key != kept.key and "snapshots" not in str(runs.identity.of_run(plain)["training"])
    runs.complete([kept, plain])
    ended = rankers.ranker(kept).state_dict()
    for name, value in rankers.ranker(plain).state_dict().items():
        torch.testing.assert_close(ended[name], value, rtol=1e-3, atol=1e-5)
    shots, seen = snapshots(kept), {}
    trained, groups, inputs = runs.at_start(kept)
    copy = lambda step: seen.update({step: {n: v.clone() for n, v in trained.state_dict().items()}})  # noqa: E731
    runs.loop.train(trained, groups, inputs, kept.strategy, kept.training, seed=kept.seed, after=copy)
    for shot, step in zip(shots, (2, 5, 8), strict=True):
        found = rankers.ranker(shot).state_dict()
        for name, value in seen[step].items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5)
    assert shots[-1].key == kept.key and len({shot.key for shot in shots}) == 3
    files = {path.name: path.stat().st_size for path in rankers.folder(kept).glob("*.safetensors")}
    assert set(files) == {"weights.safetensors", "snapshot-1.safetensors", "snapshot-2.safetensors"}


def test_snapshots_teach_start_merge_and_are_chosen_on_dev(kept, experiment, test_set, tiny_collection):
    shots = snapshots(kept)
    taught = vary(experiment, strategy="kl", teacher=(*shots[:2], kept))
    warm = vary(experiment, start=shots[0])
    mean = Merged(shots)
    table = tables.results([*shots, taught, warm, mean], [test_set])
    assert {"info_nce snapshot 1", "info_nce snapshot 2", "kl", "linear"} <= set(table["strategy"])
    assert set(table.loc[table["strategy"] == "kl", "teachers"]) == {3}
    alone = [kit.training_groups(vary(taught, teacher=one)).targets["teacher"] for one in (*shots[:2], kept)]
    np.testing.assert_allclose(kit.training_groups(taught).targets["teacher"], np.mean(alone, 0), atol=1e-6, rtol=1e-5)
    dev = dataclasses.replace(test_set, split="train")
    means = {shot: kit.values(shot, dev, "RR@10").mean() for shot in shots}
    assert means[tables.best(shots, [dev], "RR@10")] == max(means.values())
    with pytest.raises(ValueError, match="split='test': what is chosen on test queries"):
        tables.best(shots, [dev, test_set], "RR@10")
    for grid, devs in ((shots, []), ([], [dev])):
        with pytest.raises(ValueError, match="give one of each at least"):
            tables.best(grid, devs, "RR@10")
    assert shots[0].about.endswith("snapshot 1 of 3") and shots[0].with_seed(4).run.seed == 4


def test_snapshots_of_a_training_that_was_cut_short_are_kept(kept, monkeypatch, tmp_path, float32):
    monkeypatch.setenv("STUDY_CHECKPOINT_SECONDS", "0")
    with monkeypatch.context() as patched:
        patched.setattr(progress, "steps", kit.cut(3))  # after the first snapshot
        with pytest.raises(kit.Killed):
            runs.complete([kept])
    runs.complete([kept])
    goes_on = [rankers.ranker(shot).state_dict() for shot in snapshots(kept)]
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "unbroken"))
    runs.complete([kept])
    for shot, state in zip(snapshots(kept), goes_on, strict=True):
        for name, value in rankers.ranker(shot).state_dict().items():
            torch.testing.assert_close(state[name], value, rtol=1e-3, atol=1e-5)
