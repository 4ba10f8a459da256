"""Run store: a run is trained once, told apart from others, whole or absent, and reproduced by its seed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import accelerate
import numpy as np
import pandas as pd
import pytest
import safetensors
import torch
import transformers

from lib import losses, models
from lib.analysis import measures, significance
from lib.data import collections
from lib.data.collections import CollectionWarning
from lib.machine import store
from lib.study import rankers, runs, space, tables, tuning
from lib.study.experiment import Model, TestSet, Untrained, vary
from lib.study.mining import Mined
from lib.training import loop, scoring
from lib.training.settings import Adapter, GradCache
from lib.training.strategies import Strategy, Term, bind
from tests import kit


@pytest.fixture
def test_set(tiny_collection):
    return TestSet(tiny_collection, queries=8, depth=10)


def quality(table):
    return table[table["query"] != ""].drop(columns="run").reset_index(drop=True)


def test_the_table_has_quality_costs_and_provenance(experiment, test_set):
    table = tables.results([experiment], [test_set])
    assert list(table.columns) == tables.COLUMNS
    assert len(quality(table)) == 8 * 3
    assert {"train_seconds", "train_pairs_per_second", "score_pairs_per_second", "peak_memory_gib", "commit", "device",
            "torch"} <= set(table[table["query"] == ""]["measure"])  # fmt: skip
    assert not table["text"].isna().any()
    assert set(tables.first_stage([test_set])["strategy"]) == {"bm25"}
    best = tables.best_order([test_set])
    assert best["value"].mean() >= table.loc[table["query"] != "", "value"].mean()


def test_a_second_study_trains_nothing(experiment, test_set, monkeypatch):
    first = tables.results([experiment], [test_set])
    monkeypatch.setattr("lib.training.loop.train", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr("lib.training.scoring.score", lambda *_, **__: pytest.fail("scored again"))
    pd.testing.assert_frame_equal(tables.results([experiment], [test_set]), first)


def test_the_main_process_says_what_is_missing(experiment, monkeypatch):
    """Another study may end a run after one process of a launch has looked and before another one does."""
    monkeypatch.setattr(runs.processes, "from_main", lambda found: [*found, experiment.key])
    monkeypatch.setattr(runs, "_keep", lambda _: pytest.fail("it is there"))
    runs.complete([experiment])


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(
    experiment, test_set, monkeypatch, tmp_path, float32
):
    history, scores = kit.history(experiment), kit.scores(experiment, test_set).set_index(["query", "document"])
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "again"))
    near = {"rtol": 1e-3, "atol": 1e-5}  # trained twice: kernels depend on how memory happens to be aligned
    pd.testing.assert_frame_equal(kit.history(experiment), history, **near)
    again, other = (
        kit.scores(run, test_set).set_index(["query", "document"])["score"].reindex(scores.index)
        for run in (experiment, vary(experiment, seed=1))
    )
    np.testing.assert_allclose(again, scores["score"], **near)
    assert not np.allclose(other, scores["score"], rtol=1e-2, atol=1e-3)


def test_a_teacher_is_trained_first_and_its_scores_are_the_targets(experiment, test_set, float32):
    student = vary(experiment, strategy="margin_mse", teacher=vary(experiment, seed=7))
    assert set(tables.results([student], [test_set])["paradigm"]) == {"distillation"}
    assert len(list((store.data_folder() / "runs").glob("[0-9a-f]*"))) == 2
    made = kit.training_groups(student)
    ranker, pairs = kit.model(student.teacher), kit.pair_tokens(student, collections.load(student.data.collection))
    row = scoring.score(ranker, pairs, made.queries[:2, None], made.documents[:2])
    assert row == pytest.approx(made.targets["teacher"][:2], abs=1e-5)


def test_a_start_gives_its_weights_and_must_fit(experiment, test_set, tiny_collection):
    start = vary(experiment, collection=f"cropped:{tiny_collection}", seed=5)
    warm = vary(experiment, start=start)
    begun, ended = kit.start(warm).state_dict(), kit.model(start).state_dict()
    assert all(begun[name].equal(ended[name]) for name in ended)
    assert tables.results([warm], [test_set])["run"].unique() == [warm.key] != [experiment.key]
    with pytest.raises(ValueError, match="same architecture, backbone and layers"):
        vary(warm, layers=(0,))


def test_a_run_keeps_no_weight_that_the_backbone_has(experiment):
    kit.complete([experiment])
    with safetensors.safe_open(rankers.folder(experiment) / experiment.file, "pt") as file:
        names = list(file.keys())
    assert names and not [name for name in names if "embeddings" in name]


def test_runs_of_one_strategy_are_kept_apart_by_what_they_differ_in(experiment, test_set):
    faster = vary(experiment, learning_rate=2e-3)
    table = tables.results([experiment, vary(experiment, seed=1), faster], [test_set])
    values = significance.per_query(table, "RR@10", test_set.collection)
    assert list(values) == ["info_nce [learning_rate=0.001]", "info_nce [learning_rate=0.002]"]
    np.testing.assert_allclose(values.iloc[:, 0], kit.values([experiment, vary(experiment, seed=1)], test_set, "RR@10"))
    with pytest.raises(ValueError, match=r"differ in nothing but the seed.*learning_rate=0.001.*learning_rate=0.002"):
        kit.values([experiment, faster], test_set, "RR@10")
    with pytest.raises(ValueError, match=r"'RR@100'.*RR@10"):
        kit.values(experiment, test_set, "RR@100")


def test_a_finished_training_is_kept_without_git(experiment, test_set, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    table = tables.results([experiment], [test_set])
    assert set(table.loc[table["measure"] == "commit", "text"]) == {"unknown"}


def test_a_table_says_that_it_mixes_conditions(experiment, test_set, monkeypatch):
    tables.results([experiment], [test_set])
    monkeypatch.setattr("lib.machine.hardware.features", lambda: "AVX7")
    with pytest.warns(UserWarning, match=r"features: .*AVX7"):
        tables.results([experiment, vary(experiment, seed=1)], [test_set])


def test_a_start_with_a_prefix_trains_all_weights_and_keeps_the_prefix(experiment, test_set):
    start = vary(experiment, adapter=Adapter("prefix", 2))
    warm = vary(experiment, start=start, seed=1)
    begun = kit.start(warm)
    trained = {name for name, value in begun.named_parameters() if value.requires_grad}
    plain = {name for name, value in kit.start(experiment).named_parameters() if value.requires_grad}
    assert plain < trained and {name for name in trained - plain if "adapter" not in name} == set()
    for name, value in kit.model(start).state_dict().items():
        assert value.equal(begun.state_dict()[name])
    ended = kit.model(warm).state_dict()
    moved = [name for name, value in begun.state_dict().items() if not value.equal(ended[name])]
    assert any("layer" in name for name in moved) and any("adapter" in name for name in moved)
    assert not np.allclose(kit.scores(warm, test_set)["score"], kit.scores(start, test_set)["score"])


REFUSED = {
    "layers": ({"layers": (0, 5)}, "layers=(0, 5)"),
    "length": ({"max_length": 65}, "max_length=65"),
    "groups": ({"group_count": 17}, "group_count=17: .* has 16 training groups"),
    "backbone": ({"backbone": "nowhere/there/is/none"}, "nowhere"),
    "collection": ({"collection": "nowhere"}, "nowhere"),
    "file": ({"strategy": "kl", "teacher": "scores.tsv"}, "there is no file .*scores.tsv"),
    "file in a tuple": ({"strategy": "kl", "teacher": ("a/b.jsonl",)}, "there is no file .*b.jsonl"),
    "docs": ({"docs": 41}, "docs=41: .* has 40 documents"),
    "query": ({"architecture": "dot", "max_query": 2}, "max_query=2"),
    "PreTTR": (
        {"architecture": "prettr", "options": (("offset", 32),), "max_length": 40},
        "offset=32 and max_length=40",
    ),
    "ColBERT": ({"architecture": "colbert", "options": (("dim", 16), ("masks", 61))}, "61 tokens after each query"),
}


@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_finished_is_refused_before_anything_trains(change, says, experiment, test_set, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("lib.training.loop.train", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises((ValueError, ConnectionError, RuntimeError), match=says.replace("(", r"\(").replace(")", r"\)")):
        tables.results([experiment, vary(experiment, **change)], [test_set])


def test_a_teacher_without_a_scoring_head_is_refused_before_anything_trains(experiment, test_set, monkeypatch):
    monkeypatch.setattr("lib.training.loop.train", lambda *_, **__: pytest.fail("it trained"))
    taught = vary(experiment, strategy="kl", teacher=experiment.model.backbone)
    with pytest.raises(models.backbone.WeightsError, match="classifier"):
        tables.results([experiment, taught], [test_set])


@pytest.mark.parametrize("change", [
    lambda run, other: {"strategy": "kl", "teacher": other},
    lambda run, other: {"strategy": "kl", "teacher": (run, other)},
    lambda run, other: {"negatives": Mined(other)},
])  # fmt: skip
def test_scores_of_a_head_that_was_drawn_at_random_are_refused(change, experiment, test_set, monkeypatch):
    monkeypatch.setattr("lib.training.loop.train", lambda *_, **__: pytest.fail("it trained"))
    taught = vary(experiment, **change(experiment, Untrained(experiment.model, 7)))
    with pytest.raises(ValueError, match="untrained.*classifier.weight is drawn at random"):
        tables.results([experiment, taught], [test_set])


def test_weights_that_a_seed_decides_are_known_and_those_of_an_edited_backbone_too(tiny_backbone, tmp_path):
    folder = shutil.copytree(tiny_backbone, tmp_path / "backbone")
    model = Model(backbone=str(folder))
    assert "transformer.classifier.weight" in rankers.drawn(model)
    assert not [name for name in rankers.drawn(model) if "encoder" in name or "embeddings" in name]
    whole = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    whole.save_pretrained(folder)
    assert rankers.drawn(model) == frozenset()


def test_a_reference_is_what_the_run_starts_from_drawn_or_not(experiment):
    runs.checks.check([vary(experiment, strategy="dpo", teacher=experiment.before)], [])


def test_a_misspelt_measure_is_refused_before_anything_trains(experiment, test_set, monkeypatch):
    monkeypatch.setattr("lib.training.loop.train", lambda *_, **__: pytest.fail("it trained"))
    dev = replace(test_set, split="dev")
    with pytest.raises(ValueError, match="measure 'RR10': unknown"):
        tables.best([experiment], [dev], "RR10")
    with pytest.raises(ValueError, match="measure 'RR10': unknown"):
        tuning.tuned({"a": experiment}, "learning_rate", (1e-5, 1e-4, 1e-3), dev, "RR10")


def test_a_test_set_with_nothing_to_rank_is_refused_before_anything_trains(experiment, test_set, monkeypatch):
    monkeypatch.setattr("lib.training.loop.train", lambda *_, **__: pytest.fail("it trained"))
    monkeypatch.setattr("lib.data.first_stage.bm25", lambda *_: pd.DataFrame(columns=["query", "document", "rank"]))
    with pytest.raises(ValueError, match="8 of 8 queries share no word with a document"):
        tables.complete([experiment], [test_set])


@pytest.mark.parametrize("change", [{"split": "validation"}, {"collection": "nowhere"}])
def test_a_test_set_that_is_not_there_is_refused_before_anything_trains(change, experiment, test_set, monkeypatch):
    monkeypatch.setattr("lib.training.loop.train", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises(ValueError, match="validation|nowhere"):
        tables.complete([experiment], [test_set, replace(test_set, **change)])


def test_a_run_whose_loss_is_not_finite_is_not_kept(experiment):
    with pytest.raises(FloatingPointError, match="info_nce"):
        kit.history(vary(experiment, learning_rate=1e38))
    assert not [path for path in (store.data_folder() / "runs").iterdir() if store.is_whole(path)]


SCRIPT = """
import json, sys, os
from lib.study import rankers, tables
from lib.study.experiment import TestSet
from tests import kit
from lib.training import loop
fields = json.loads(sys.argv[1])
experiment = kit.experiment(**fields)
test = TestSet(fields["collection"], queries=8, depth=10)
if len(sys.argv) > 2:  # die in the middle of training, or while the run is being written
    def die(*_, **__): os.kill(os.getpid(), 9)
    if sys.argv[2] == "training":
        loop.History.table = die
    else:
        rankers.changes.save = die
trained = []
train = loop.train
loop.train = lambda *a, **k: (trained.append(1), train(*a, **k))[1]
table = tables.results([experiment], [test])
print(json.dumps({"trained": len(trained), "value": table["value"].mean(), "rows": len(table)}))
"""


def start(experiment, *arguments):
    fields = {"strategy": "info_nce", "backbone": experiment.model.backbone, "collection": experiment.data.collection, "group_count": 16,
              "batch_size": 4, "docs": 3, "max_length": 48, "learning_rate": 1e-3}  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", SCRIPT, json.dumps(fields), *arguments], text=True,
                            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["training", "writing"])
def test_a_killed_run_leaves_nothing_that_counts(experiment, moment, monkeypatch):
    killed = start(experiment, moment)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    folder = store.data_folder() / "runs"
    assert not [path for path in folder.iterdir() if store.is_whole(path)]
    assert list(folder.glob(".*.partial"))  # it was killed in the middle: that is what is being tested
    trained, train = [], loop.train
    monkeypatch.setattr(loop, "train", lambda *given, **more: (trained.append(1), train(*given, **more))[1])
    kit.complete([experiment])
    assert trained == [1] and not list(folder.glob(".*.partial"))


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
        kit.history(experiment)


def test_progress_says_what_and_how_long(experiment, test_set, capsys):
    tables.results([experiment, vary(experiment, seed=1)], [test_set])
    lines = [line for line in capsys.readouterr().err.splitlines() if line[0] != " "]  # a slow machine says more
    assert lines[0] == "training 1 of 2: cat info_nce, 2 layers, seed 0"
    assert lines[1].startswith("training 2 of 2: cat info_nce, 2 layers, seed 1, about ") and lines[1].endswith(" left")
    assert sum(line.startswith("scoring") for line in lines) == 2


def test_values_and_scores_of_the_start_are_the_untrained_models(experiment, test_set, float32):
    trained, start = kit.scores(experiment, test_set), kit.scores(experiment.before, test_set)
    assert list(trained["document"]) == list(start["document"])
    assert not np.allclose(trained["score"], start["score"])
    collection, _, candidates = test_set.candidates()
    read = kit.pair_tokens(experiment, collection)
    asked, given = candidates["query"].to_numpy(), candidates["document"].to_numpy()
    expected = scoring.score(kit.start(experiment), read, asked, given)
    np.testing.assert_allclose(start["score"], expected, atol=1e-5, rtol=1e-5)
    assert kit.values(experiment.before, test_set, "RR@10").between(0, 1).all()


def test_values_of_several_runs_are_their_mean_by_query(experiment, test_set):
    runs = [experiment, vary(experiment, seed=1)]
    each = [kit.values(run, test_set, "nDCG@10") for run in runs]
    both = kit.values(runs, test_set, "nDCG@10")
    np.testing.assert_allclose(both, np.mean(each, axis=0))
    assert list(both.index) == list(each[0].index) and not np.allclose(each[0], each[1])


def test_costs_are_those_of_the_run_and_of_the_sets_asked_for(experiment, test_set):
    alone, both = kit.costs(experiment), kit.costs(experiment, test_set)
    assert alone["train_seconds"] > 0 and alone["peak_memory_gib"] > 0
    assert alone["trained_parameters"] < alone["parameters"]  # the embedding table is frozen
    assert set(both.index) - set(alone.index) == {"score_pairs_per_second", "score_peak_memory_gib"}
    assert "RR@10" not in both.index


def test_an_adapter_trains_a_few_weights_and_is_kept(experiment, test_set):
    for kind in ("lora", "prefix"):
        run = vary(experiment, adapter=Adapter(kind, 2))
        assert kit.costs(run)["trained_parameters"] < 0.3 * kit.costs(experiment)["trained_parameters"]
        assert run.key != vary(run, adapter=Adapter(kind, 4)).key != experiment.key
        assert not np.allclose(kit.scores(run, test_set)["score"], kit.scores(run.before, test_set)["score"])
    with pytest.raises(ValueError, match="architecture prettr cannot take a prefix"):
        vary(experiment, architecture="prettr", adapter=Adapter("prefix"))


def test_reading_never_trains(experiment, test_set):
    for read in (lambda: runs.history(experiment), lambda: tables.scores(experiment, test_set),
                 lambda: tables.values(experiment, test_set, "RR@10"), lambda: tables.costs(experiment),
                 lambda: rankers.ranker(experiment)):  # fmt: skip
        with pytest.raises(rankers.NotTrained, match=r"cat info_nce.* call lib\.study\.(runs|tables)\.complete"):
            read()
    assert not (store.data_folder() / "runs").exists()


def test_an_untrained_model_is_a_row_of_the_table(experiment, test_set):
    table = tables.results([experiment.before, experiment], [test_set])
    assert list(table["strategy"].unique()) == ["untrained", "info_nce"]
    values = significance.per_query(table, "RR@10", test_set.collection)
    np.testing.assert_allclose(values["untrained"], kit.values(experiment.before, test_set, "RR@10"))


def half_hinge(scores, targets, *, margin: float = 0.5):
    """A reader's own loss."""
    return torch.relu(margin - scores[:, :1] + scores[:, 1:]).mean(1) / 2


def test_a_readers_own_loss_and_strategy_are_an_experiment(experiment, test_set):
    own = Strategy("half_hinge", "contrastive", (Term(half_hinge, "labels"),))
    wider = Strategy("half_hinge", "contrastive", (Term(bind(half_hinge, margin=2.0), "labels"),))
    both = Strategy("both", "distillation", (Term(half_hinge, "labels"), Term(losses.kl, "teacher", 0.1)))
    grid = [vary(experiment, strategy=own), vary(experiment, strategy=wider),
            vary(experiment, strategy=both, teacher=experiment)]  # fmt: skip
    table = tables.results(grid, [test_set])
    assert len(set(table["configuration"])) == 3
    histories = [kit.history(run)["loss"] for run in grid]
    assert all(np.isfinite(history).all() for history in histories)
    assert histories[1].iloc[0] > histories[0].iloc[0] + 0.5  # the wider margin of the same scores


def test_a_strategy_whose_loss_is_no_loss_is_refused():
    with pytest.raises(ValueError, match="strategy='mean'.*one finite value per query"):
        Strategy("mean", "contrastive", (Term(lambda scores, targets: (scores - targets).mean(), "labels"),))
    with pytest.raises(ValueError, match="half_hinge: no keyword-only parameter 'temperature'; it has margin"):
        bind(half_hinge, temperature=2.0)


def test_an_untrained_bi_encoder_teaches_and_finds_negatives(experiment, test_set, float32):
    zero_shot = vary(experiment, architecture="dot").before
    taught = vary(experiment, strategy="margin_mse", teacher=zero_shot)
    mined = vary(experiment, negatives=zero_shot)
    assert len({taught.key, vary(taught, teacher=vary(experiment, seed=9)).key, mined.key, experiment.key}) == 4
    table = tables.results([taught, mined], [test_set])
    assert set(table["teachers"]) == {0, 1}
    groups = kit.training_groups(taught)
    inputs = kit.inputs(kit.model(zero_shot), collections.load(test_set.collection), zero_shot.model.backbone, 48)
    expected = scoring.score(kit.model(zero_shot), inputs, groups.queries[:, None], groups.documents)
    np.testing.assert_allclose(groups.targets["teacher"], expected, rtol=1e-4, atol=1e-5)
    assert space.reviewed()[0] == []
    wrong = Untrained(replace(zero_shot.model, layers=(0, 7)))
    with pytest.raises(ValueError, match="layers"):
        tables.complete([vary(taught, teacher=wrong, seed=1)])


def test_equal_runs_are_one_run_however_they_are_written(experiment, test_set):
    cosine = (("similarity", "cosine"), ("pooling", "cls"))
    runs_of_one_key = [vary(experiment, architecture="dot", options=order) for order in (cosine, cosine[::-1])]
    other = vary(runs_of_one_key[0], seed=1)
    table = tables.results([*runs_of_one_key, other], [test_set, test_set])
    assert len(table) == 2 * len(table[table["run"] == other.key])
    pd.testing.assert_series_equal(
        tables.values([*runs_of_one_key, other], test_set, "RR@10"),
        tables.values([runs_of_one_key[0], other], test_set, "RR@10"),
    )
    with pytest.raises(TypeError, match="'info_nce' in a grid: give Experiments"):
        tables.complete(["info_nce"])


def test_two_test_sets_of_one_collection_are_not_mixed(experiment, test_set):
    both = [test_set, replace(test_set, depth=5)]
    for table in (lambda: tables.results([experiment], both), lambda: tables.first_stage(both)):
        with pytest.raises(ValueError, match="2 test sets of collection .*: a table tells test sets apart"):
            table()
    assert list(tables.results([experiment.before], []).columns) == tables.COLUMNS


def test_untrained_models_are_kept_apart_and_cost_their_scoring_alone(experiment, test_set):
    joint, late = (Untrained(vary(experiment, architecture=name).model) for name in ("cat", "dot"))
    table = tables.results([joint, replace(joint, seed=1), late], [test_set])
    assert set(significance.per_query(table, "RR@10", test_set.collection)) == {
        "untrained [architecture=cat]", "untrained [architecture=dot]"
    }  # fmt: skip
    assert set(tables.costs(joint, test_set).index) == {"score_pairs_per_second", "score_peak_memory_gib"}
    for read in (lambda: runs.history(joint), lambda: tables.costs(joint)):
        with pytest.raises(rankers.NotTrained, match="cat, untrained.*: it has no training"):
            read()


def test_only_strategies_that_share_a_name_get_a_key_as_well(experiment):
    own = [Strategy("own", "contrastive", (Term(bind(half_hinge, margin=one), "labels"),)) for one in (1.0, 2.0)]
    names = tables.ranker_names([experiment, *(vary(experiment, strategy=one) for one in own)])
    assert names[0] == "info_nce" and names[1] != names[2] and all(name.startswith("own [") for name in names[1:])


def test_a_loss_computes_in_float32_in_chunks_too(experiment, monkeypatch):
    monkeypatch.setattr("lib.machine.hardware.precision", lambda: "bf16")
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)

    def product(scores, targets):
        values = (scores - scores[:, :1]).square() @ torch.ones(3)
        return values if values.dtype == torch.float32 else values * torch.nan

    dot = vary(experiment, architecture="dot", strategy=Strategy("product", "contrastive", (Term(product, "labels"),)))
    assert np.isfinite(kit.history(vary(dot, batching=GradCache(2)))["loss"]).all()
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


def test_a_loss_that_changes_what_decides_it_is_not_kept(experiment):
    scope = {"calls": 0}
    exec("def loss(scores, targets):\n    global calls\n    calls += 1\n    return (scores - targets).mean(1)", scope)
    own = vary(experiment, strategy=Strategy("own", "contrastive", (Term(scope["loss"], "labels"),)))
    with pytest.raises(ValueError, match="own.*what decides it changed while it was trained"):
        runs.complete([own])
    assert not [path for path in (store.data_folder() / "runs").glob("*") if store.is_whole(path)]


def test_only_what_encodes_documents_alone_has_their_vectors(experiment, test_set):
    with pytest.raises(ValueError, match="cat, untrained.*no vectors of documents alone"):
        rankers.document_vectors(experiment.before, collections.load(test_set.collection))


def test_a_run_and_its_first_stage_together_tune_nothing(experiment, test_set):
    kit.complete([experiment], [test_set])
    table = tables.with_first_stage(experiment, [test_set])
    assert set(table["ranker"]) == {"info_nce, with the first stage"} and len(table) == 8 * 3
    found = tables.scores(experiment, test_set)
    for query, part in found.groupby("query"):
        parts = [(part[name] - part[name].mean()) / part[name].std() for name in ("score", "first_stage")]
        order = part.assign(both=sum(parts)).sort_values(["both", "document"], ascending=[False, True])
        ranks = np.flatnonzero(order["grade"] > 0)
        value = table[(table["query"] == query) & (table["measure"] == "RR@10")]["value"].item()
        assert value == pytest.approx(1 / (1 + ranks[0]) if len(ranks) else 0)
    assert tables.first_stage([test_set])["value"].mean() > 0


@pytest.mark.parametrize("constant", [0.0, 1.0, 12.5])
def test_a_stored_run_of_equal_scores_adds_nothing_to_a_rankers(experiment, test_set, constant, tmp_path):
    ranking = test_set.candidates()[2]
    lines = [f"{row.query} Q0 {row.document} {row.rank} {constant} same\n" for row in ranking.itertuples()]
    (tmp_path / "same.trec").write_text("".join(lines))
    stored = replace(test_set, run=str(tmp_path / "same.trec"), depth=None)
    with pytest.warns(CollectionWarning, match="share their score"):
        kit.complete([experiment], [stored])
    both = measures.select(tables.with_first_stage(experiment, [stored]), "nDCG@10")
    assert both.set_index("query")["value"].to_dict() == tables.values(experiment, stored, "nDCG@10").to_dict()
