"""Run store: a run is trained once, told apart from others, whole or absent, and reproduced by its seed."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors

from lib import models
from lib.analysis import significance
from lib.machine import provenance, store
from lib.study import runs as study
from lib.study.runs import TestSet
from lib.training import scoring


@pytest.fixture
def test_set(tiny_collection):
    return TestSet(tiny_collection, queries=8, depth=10)


def quality(table):
    return table[table["query"] != ""].drop(columns="run").reset_index(drop=True)


def test_the_table_has_quality_costs_and_provenance(experiment, test_set):
    table = study.results([experiment], [test_set])
    assert list(table.columns) == study.COLUMNS
    assert len(quality(table)) == 8 * 3
    assert {"train_seconds", "train_pairs_per_second", "score_pairs_per_second", "peak_memory_gib", "commit", "device",
            "torch"} <= set(table[table["query"] == ""]["measure"])  # fmt: skip
    assert not table["text"].isna().any()
    assert set(study.first_stage([test_set])["strategy"]) == {"bm25"}
    best = study.best_order([test_set])
    assert best["value"].mean() >= table.loc[table["query"] != "", "value"].mean()


def test_a_second_study_trains_nothing(experiment, test_set, monkeypatch):
    first = study.results([experiment], [test_set])
    monkeypatch.setattr("lib.training.loop.train", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr("lib.training.scoring.score", lambda *_, **__: pytest.fail("scored again"))
    pd.testing.assert_frame_equal(study.results([experiment], [test_set]), first)


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(
    experiment, test_set, monkeypatch, tmp_path, float32
):
    history, scores = study.history(experiment), study.scores(experiment, test_set).set_index(["query", "document"])
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "again"))
    near = {"rtol": 1e-3, "atol": 1e-5}  # trained twice: kernels depend on how memory happens to be aligned
    pd.testing.assert_frame_equal(study.history(experiment), history, **near)
    again, other = (
        study.scores(run, test_set).set_index(["query", "document"])["score"].reindex(scores.index)
        for run in (experiment, replace(experiment, seed=1))
    )
    np.testing.assert_allclose(again, scores["score"], **near)
    assert not np.allclose(other, scores["score"], rtol=1e-2, atol=1e-3)


def test_a_teacher_is_trained_first_and_its_scores_are_the_targets(experiment, test_set, float32):
    student = replace(experiment, strategy="margin_mse", teacher=replace(experiment, seed=7))
    assert set(study.results([student], [test_set])["paradigm"]) == {"distillation"}
    assert len(list((store.data_folder() / "runs").glob("[0-9a-f]*"))) == 2
    made = study.training_groups(student)
    ranker, pairs = study.model(student.teacher), study.pair_tokens(student, study.collections.load(student.collection))
    row = study.scoring.score(ranker, pairs, made.queries[:2, None], made.documents[:2])
    assert row == pytest.approx(made.targets["teacher"][:2], abs=1e-5)


def test_a_start_gives_its_weights_and_must_fit(experiment, test_set, tiny_collection):
    start = replace(experiment, collection=f"cropped:{tiny_collection}", seed=5)
    warm = replace(experiment, start=start)
    begun, ended = study.untrained(warm).state_dict(), study.model(start).state_dict()
    assert all(begun[name].equal(ended[name]) for name in ended)
    assert study.results([warm], [test_set])["run"].unique() == [warm.key] != [experiment.key]
    with pytest.raises(ValueError, match="same architecture, backbone and layers"):
        replace(warm, layers=(0,))


def test_a_model_is_exported_in_the_hubs_layout_and_scores_the_same(experiment, test_set, tmp_path):
    folder = study.export(experiment, tmp_path / "model")
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    collection, _, run = test_set.candidates()
    read = study.pair_tokens(experiment, collection)
    asked, given = run["query"].to_numpy(), run["document"].to_numpy()
    ours, opened = study.model(experiment), models.load(folder)
    for name, value in ours.state_dict().items():
        assert value.equal(opened.state_dict()[name]), name
    np.testing.assert_allclose(
        scoring.score(ours, read, asked, given), scoring.score(opened, read, asked, given), atol=1e-2
    )  # bfloat16 where the processor has it
    with pytest.raises(FileExistsError, match="not an empty folder"):
        study.export(experiment, tmp_path / "model")


def test_a_run_keeps_no_weight_that_the_backbone_has(experiment):
    with safetensors.safe_open(study._run(experiment) / study.WEIGHTS, "pt") as file:
        names = list(file.keys())
    assert names and not [name for name in names if "embeddings" in name]


def test_runs_of_one_strategy_are_kept_apart_by_what_they_differ_in(experiment, test_set):
    faster = replace(experiment, learning_rate=2e-3)
    table = study.results([experiment, replace(experiment, seed=1), faster], [test_set])
    values = significance.per_query(table, "RR@10", test_set.collection)
    assert list(values) == ["info_nce [learning_rate=0.001]", "info_nce [learning_rate=0.002]"]
    np.testing.assert_allclose(
        values.iloc[:, 0], study.values([experiment, replace(experiment, seed=1)], test_set, "RR@10")
    )
    with pytest.raises(ValueError, match=r"differ in nothing but the seed.*learning_rate=0.001.*learning_rate=0.002"):
        study.values([experiment, faster], test_set, "RR@10")
    with pytest.raises(ValueError, match=r"'RR@100'.*RR@10"):
        study.values(experiment, test_set, "RR@100")


def test_a_finished_training_is_kept_without_git(experiment, test_set, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    table = study.results([experiment], [test_set])
    assert set(table.loc[table["measure"] == "commit", "text"]) == {"unknown"}


def test_a_table_says_that_it_mixes_conditions(experiment, test_set, monkeypatch):
    study.results([experiment], [test_set])
    monkeypatch.setattr("lib.machine.hardware.features", lambda: "AVX7")
    with pytest.warns(provenance.MixedConditions, match=r"features: .*AVX7"):
        study.results([experiment, replace(experiment, seed=1)], [test_set])


def test_a_start_with_a_prefix_trains_all_weights_and_keeps_the_prefix(experiment, test_set):
    start = replace(experiment, adapter="prefix", adapter_size=2)
    warm = replace(experiment, start=start, seed=1)
    begun = study.untrained(warm)
    trained = {name for name, value in begun.named_parameters() if value.requires_grad}
    plain = {name for name, value in study.untrained(experiment).named_parameters() if value.requires_grad}
    assert plain < trained and {name for name in trained - plain if "adapter" not in name} == set()
    for name, value in study.model(start).state_dict().items():
        assert value.equal(begun.state_dict()[name])
    ended = study.model(warm).state_dict()
    moved = [name for name, value in begun.state_dict().items() if not value.equal(ended[name])]
    assert any("layer" in name for name in moved) and any("adapter" in name for name in moved)
    assert not np.allclose(study.scores(warm, test_set)["score"], study.scores(start, test_set)["score"])


REFUSED = {
    "layers": ({"layers": (0, 5)}, "layers=(0, 5)"),
    "length": ({"max_length": 65}, "max_length=65"),
    "groups": ({"group_count": 17}, "group_count=17: .* has 16 training groups"),
    "backbone": ({"backbone": "nowhere/there/is/none"}, "nowhere"),
    "collection": ({"collection": "nowhere"}, "nowhere"),
    "file": ({"strategy": "kl", "teacher": "scores.tsv"}, "there is no file .*scores.tsv"),
    "file in a tuple": ({"strategy": "kl", "teacher": ("a/b.jsonl",)}, "there is no file .*b.jsonl"),
}


@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_finished_is_refused_before_anything_trains(change, says, experiment, test_set, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("lib.training.loop.train", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises((ValueError, ConnectionError, RuntimeError), match=says.replace("(", r"\(").replace(")", r"\)")):
        study.results([experiment, replace(experiment, **change)], [test_set])


def test_a_teacher_without_a_scoring_head_is_refused_before_anything_trains(experiment, test_set, monkeypatch):
    monkeypatch.setattr("lib.training.loop.train", lambda *_, **__: pytest.fail("it trained"))
    taught = replace(experiment, strategy="kl", teacher=experiment.backbone)
    with pytest.raises(models.backbone.WeightsError, match="classifier"):
        study.results([experiment, taught], [test_set])


@pytest.mark.parametrize("change", [{"split": "validation"}, {"collection": "nowhere"}])
def test_a_test_set_that_is_not_there_is_refused_before_anything_trains(change, experiment, test_set, monkeypatch):
    monkeypatch.setattr("lib.training.loop.train", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises(ValueError, match="validation|nowhere"):
        study.results([experiment], [test_set, replace(test_set, **change)])


def test_a_run_whose_loss_is_not_finite_is_not_kept(experiment):
    with pytest.raises(FloatingPointError, match="info_nce"):
        study.history(replace(experiment, learning_rate=1e38))
    assert not [path for path in (store.data_folder() / "runs").iterdir() if store.is_whole(path)]


SCRIPT = """
import json, sys, os
from lib.study import runs as study
from lib.training import loop
fields = json.loads(sys.argv[1])
experiment = study.Experiment(**fields)
test = study.TestSet(fields["collection"], queries=8, depth=10)
if len(sys.argv) > 2:  # die in the middle of training, or while the run is being written
    def die(*_, **__): os.kill(os.getpid(), 9)
    if sys.argv[2] == "training":
        loop._History.table = die
    else:
        study.changes.save = die
trained = []
train = loop.train
loop.train = lambda *a, **k: (trained.append(1), train(*a, **k))[1]
table = study.results([experiment], [test])
print(json.dumps({"trained": len(trained), "value": table["value"].mean(), "rows": len(table)}))
"""


def start(experiment, *arguments):
    fields = {"strategy": "info_nce", "backbone": experiment.backbone, "collection": experiment.collection, "group_count": 16,
              "batch_size": 4, "docs": 3, "max_length": 48, "learning_rate": 1e-3}  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(Path(study.__file__).parents[2])}
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", SCRIPT, json.dumps(fields), *arguments], text=True,
                            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["training", "writing"])
def test_a_killed_run_leaves_nothing_that_counts(experiment, moment):
    killed = start(experiment, moment)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    runs = store.data_folder() / "runs"
    assert not [path for path in runs.iterdir() if store.is_whole(path)]
    assert list(runs.glob(".*.partial"))  # it was killed in the middle: that is what is being tested
    output, errors = start(experiment).communicate()
    assert json.loads(output)["trained"] == 1, errors
    assert not list(runs.glob(".*.partial"))


@pytest.mark.slow
def test_two_studies_at_once_train_a_run_once(experiment):
    both = [start(experiment), start(experiment)]
    outputs = [json.loads(process.communicate()[0]) for process in both]
    assert sum(output["trained"] for output in outputs) == 1
    assert outputs[0]["value"] == pytest.approx(outputs[1]["value"], rel=1e-9)
    assert outputs[0]["rows"] == outputs[1]["rows"]


def test_a_folder_that_cannot_be_written_is_one_clear_error(experiment, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "file"))
    with pytest.raises(store.StoreError, match=r"folder .*file.*cannot be written.*STUDY_DATA"):
        study.history(experiment)


def test_progress_says_what_and_how_long(experiment, test_set, capsys):
    study.results([experiment, replace(experiment, seed=1)], [test_set])
    lines = [line for line in capsys.readouterr().err.splitlines() if line[0] != " "]  # a slow machine says more
    assert lines[0] == "training 1 of 2: cat info_nce, 2 layers, seed 0"
    assert lines[1].startswith("training 2 of 2: cat info_nce, 2 layers, seed 1, about ") and lines[1].endswith(" left")
    assert sum(line.startswith("scoring") for line in lines) == 2


def test_values_and_scores_of_the_start_are_the_untrained_models(experiment, test_set, float32):
    trained, start = study.scores(experiment, test_set), study.scores(experiment, test_set, trained=False)
    assert list(trained["document"]) == list(start["document"])
    assert not np.allclose(trained["score"], start["score"])
    collection, _, candidates = test_set.candidates()
    read = study.pair_tokens(experiment, collection)
    asked, given = candidates["query"].to_numpy(), candidates["document"].to_numpy()
    expected = scoring.score(study.untrained(experiment), read, asked, given)
    np.testing.assert_allclose(start["score"], expected, atol=1e-5)
    values = study.values(experiment, test_set, "RR@10", trained=False)
    assert len(values) == 8 and values.between(0, 1).all()


def test_values_of_several_runs_are_their_mean_by_query(experiment, test_set):
    runs = [experiment, replace(experiment, seed=1)]
    each = [study.values(run, test_set, "nDCG@10") for run in runs]
    both = study.values(runs, test_set, "nDCG@10")
    np.testing.assert_allclose(both, np.mean(each, axis=0))
    assert list(both.index) == list(each[0].index) and not np.allclose(each[0], each[1])


def test_costs_are_those_of_the_run_and_of_the_sets_asked_for(experiment, test_set):
    alone, both = study.costs(experiment), study.costs(experiment, test_set)
    assert alone["train_seconds"] > 0 and alone["peak_memory_gib"] > 0
    assert alone["trained_parameters"] < alone["parameters"]  # the embedding table is frozen
    assert set(both.index) - set(alone.index) == {"score_pairs_per_second", "score_peak_memory_gib"}
    assert "RR@10" not in both.index


def test_an_adapter_trains_a_few_weights_and_is_kept(experiment, test_set):
    for kind in ("lora", "prefix"):
        run = replace(experiment, adapter=kind, adapter_size=2)
        assert study.costs(run)["trained_parameters"] < 0.3 * study.costs(experiment)["trained_parameters"]
        assert run.key != replace(run, adapter_size=4).key != experiment.key
        assert not np.allclose(
            study.scores(run, test_set)["score"], study.scores(run, test_set, trained=False)["score"]
        )
    with pytest.raises(ValueError, match="adapter='bitfit': give one of lora, prefix"):
        replace(experiment, adapter="bitfit")
