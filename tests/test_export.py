"""A run for use elsewhere: the hub's layout with a card, graphs, TREC runs, and the hub itself without a network."""

import dataclasses
import importlib.util
import re
import shutil
import warnings
from typing import ClassVar

import huggingface_hub
import ir_measures
import numpy as np
import pandas as pd
import pytest
import sentence_transformers
import torch
from safetensors import SafetensorError

from lib import models
from lib.analysis import measures, significance
from lib.data import collections
from lib.machine import store
from lib.models import backbone, graphs
from lib.models.weights import WeightsError
from lib.study import card, export, profiles, rankers, tables
from lib.study.experiment import TestSet, vary
from lib.study.rankers import NotTrained
from lib.study.sources import Draws
from lib.training import scoring
from tests import kit
from tests.test_causal import written

ARCHITECTURES = {"cat": (), "dot": (("similarity", "cosine"), ("pooling", "cls"))}


@pytest.fixture
def test_set(tiny_collection):
    return TestSet(tiny_collection, queries=8, depth=10)


@pytest.fixture
def onnx():
    for package in graphs.PACKAGES:
        pytest.importorskip(package, reason=f"graphs need {package}: pip install -e '.[onnx]'")


@pytest.fixture
def command(experiment, test_set, monkeypatch):
    """The command with a profile whose every run is `experiment`, trained, and whose test sets are one small one."""
    kit.complete([experiment], [test_set])
    small = dataclasses.replace(
        profiles.named("smoke"), tests=(test_set,), architecture_test=test_set, dev=test_set
    )  # fmt: skip
    monkeypatch.setattr(profiles, "named", lambda name: small)
    monkeypatch.setattr(export, "find", lambda name, seed, profile: experiment)
    return lambda *arguments: export.main(["kl", *map(str, arguments)])


def test_a_model_is_exported_in_the_hubs_layout_and_scores_the_same(experiment, test_set, tmp_path):
    kit.complete([experiment])
    folder = export.write(experiment, tmp_path / "model")
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir() if path.is_file()} == {0o644}
    collection, _, run = test_set.candidates()
    read = kit.pair_tokens(experiment, collection)
    asked, given = run["query"].to_numpy(), run["document"].to_numpy()
    ours, opened = kit.model(experiment), models.load(folder)
    for name, value in ours.state_dict().items():
        assert value.equal(opened.state_dict()[name]), name
    np.testing.assert_allclose(
        scoring.score(ours, read, asked, given), scoring.score(opened, read, asked, given), atol=1e-2
    )  # bfloat16 where the processor has it
    with pytest.raises(FileExistsError, match="not an empty folder"):
        export.write(experiment, tmp_path / "model")


def test_nothing_is_written_of_a_run_that_is_not_trained_or_where_the_card_fails(experiment, tmp_path, monkeypatch):
    with pytest.raises(NotTrained, match="not trained yet"):
        export.write(experiment, tmp_path / "out" / "model")
    kit.complete([experiment])
    monkeypatch.setattr(card, "card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export.write(experiment, tmp_path / "out" / "model")
    assert not list(tmp_path.glob("out/*")) + list(tmp_path.glob("out/.*"))


def test_a_card_has_the_measures_of_the_store_and_all_that_a_run_learned_from(experiment, test_set, tmp_path):
    teacher, start = vary(experiment, seed=7), vary(experiment, strategy="bce")
    untrained = vary(experiment, architecture="dot").before
    run = vary(experiment, strategy="margin_mse", teacher=(teacher, untrained), start=start)
    kit.complete([run, start], [test_set])
    written = huggingface_hub.ModelCard.load(export.write(run, tmp_path / "model", [test_set]) / "README.md")
    front, values = written.data, tables.values(run, test_set, "RR@10")
    assert (front.library_name, front.pipeline_tag, front.license) == ("sentence-transformers", "text-ranking", None)
    assert front.tags == ["cat", "distillation", "margin_mse"] and front.base_model is None  # it is a folder here
    (reached,) = [one for one in front.eval_results if one.metric_type == "RR@10"]
    assert reached.metric_value == pytest.approx(values.mean(), abs=1e-4)
    low, high = significance.interval(values)
    rows = [line for line in written.text.splitlines() if line.startswith("| tiny, test, 8 queries, top 10 of bm25 |")]
    assert [row.split(" | ")[1] for row in rows] == ["bm25", "start", "this model"]
    assert f"{values.mean():.3f} [{low:.3f}, {high:.3f}]" in rows[2]
    for ancestor in (run, teacher, start, untrained):
        assert f"{ancestor.about} (`{ancestor.key}`)" in written.text
    assert collections.fingerprint(test_set.collection) in written.text and "16 groups of 3 documents" in written.text
    for line in ("| learning_rate | 0.001 |", f"| torch | {torch.__version__} |", "| train_seconds |", "| commit |"):
        assert line in written.text
    assert test_set.collection not in str(written) and experiment.model.backbone not in str(written)  # no path of ours


def test_a_card_names_what_scores_as_the_kit_does(experiment, tmp_path):
    """sentence-transformers knows no template, no end-of-text token after a pair, and no yes or no."""
    template = vary(experiment, options=(("template", "{query} beta {document}"),))
    dot = vary(experiment, architecture="dot", options=(("query_prompt", "alpha "),))
    kit.complete([template, dot])
    front, text = (lambda one: (one.data, one.text))(card.card(template, []))
    assert front.library_name is None and front.pipeline_tag is None
    assert "With the kit that trained it: `lib.models.load(folder)`" in text
    decoder = vary(experiment, backbone=written("qwen2", tmp_path / "qwen2"))
    assert card._by_the_kit_alone(decoder) and not card._by_the_kit_alone(experiment)
    (code,) = re.findall(r"With sentence_transformers: `(.*)`", card.card(dot, []).text)
    folder = export.write(dot, tmp_path / "dot")
    model = sentence_transformers.SentenceTransformer(str(folder))
    theirs = eval(code.partition("; ")[2], {"model": model}).item()
    ours, tokenizer = kit.model(dot), backbone.tokenizer(experiment.model.backbone)
    vectors = [
        ours.encode_documents(dict(tokenizer(one, return_tensors="pt"))).values
        for one in ("alpha a query", "a document")
    ]
    assert theirs == pytest.approx((vectors[0] * vectors[1]).sum().item(), abs=1e-3)


def test_measures_of_graded_collections_keep_their_names(experiment, tiny_collection, tmp_path):
    graded = shutil.copytree(tiny_collection, tmp_path / "graded")
    for path in graded.glob("qrels/*.tsv"):
        path.write_text(path.read_text().replace("\t1\n", "\t2\n"))
    test = TestSet(f"{graded}?relevant_grade=2", queries=8, depth=10)
    kit.complete([experiment], [test])
    front = card.card(experiment, [test]).data
    assert (
        {one.metric_type for one in front.eval_results}
        == {"nDCG@10", "RR(rel=2)@10", "R(rel=2)@10"}
        == {*front.metrics}
    )


def test_the_section_on_graphs_counts_the_queries_that_there_are(tiny_collection):
    columns = ["largest", "mean", "tau", "change", "low", "high", "pairs_per_second", "kit_pairs_per_second"]
    section = export._section(
        pd.DataFrame(columns=columns, dtype=float), TestSet(tiny_collection, queries=300, depth=10)
    )
    assert "on 8 queries of tiny (test), top 10" in section


@pytest.mark.parametrize("fault", [WeightsError("weights are missing"), SafetensorError("I/O error (os error 28)")])
def test_an_export_that_fails_is_one_line(fault, command, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise fault

    monkeypatch.setattr(models.Ranker, "save", fail)
    assert command("--to", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and ("weights are missing" in said or "no space is left" in said)
    assert not list(tmp_path.glob("out*")) + list(tmp_path.glob(".out*"))


@pytest.mark.filterwarnings("ignore:.*negatives are random documents")
def test_a_card_tells_of_draws_of_a_peer_and_of_judged_negatives(experiment):
    draws = Draws(experiment, 2)
    taught = vary(experiment, strategy="ssd", teacher=draws, negatives="judgements")
    beside = vary(experiment, strategy="mutual", peer=vary(experiment, seed=5))
    kit.complete([taught, beside])
    text = str(card.card(taught, []))
    assert f"- teacher: 2 draws with dropout 0.1 of {experiment.about} (`{draws.key}`)" in text
    assert f"- made from: {experiment.about} (`{experiment.key}`)" in text
    assert "- hard negatives by: judgements" in text
    told = str(card.card(beside, []))
    assert f"- beside a student that starts from: {beside.peer.about} (`{beside.peer.key}`)" in told
    assert "| peer |" not in told


def test_a_card_scores_nothing(experiment, test_set, tmp_path):
    kit.complete([experiment])
    text = str(card.card(experiment, [test_set]))
    assert "## Quality" not in text and "model-index" not in text and "## Training" in text
    assert not tables.is_scored(experiment, test_set)


@pytest.mark.parametrize("name", ["sentence-transformers/all-MiniLM-L6-v2", "owner/name"])
def test_a_base_model_is_named_as_the_hub_has_it(name, experiment, monkeypatch):
    kit.complete([experiment])
    other = vary(experiment, backbone={"owner/name": name}.get(name, backbone.MINILM))
    monkeypatch.setattr(card, "_conditions", lambda _: card._settings(experiment))
    monkeypatch.setattr(card, "_lineage", lambda *_: [])
    monkeypatch.setattr(card, "_by_the_kit_alone", lambda _: False)  # it reads the model's files
    monkeypatch.setattr(type(other), "about", "a run")
    assert card.card(other, []).data.base_model == name


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_graphs_score_as_the_model_does(architecture, experiment, test_set, tmp_path, float32, onnx, capsys):
    run = vary(experiment, architecture=architecture, options=ARCHITECTURES[architecture])
    kit.complete([run])
    folder = export.write(run, tmp_path / "model", dev=test_set)
    paths = {name: folder / file for name, file in graphs.FILES.items()}
    collection, _, ranking = test_set.candidates()
    asked, given = ranking["query"].to_numpy(), ranking["document"].to_numpy()
    ranker = rankers.ranker(run)
    tokens = rankers.inputs(ranker, collection, run.model)
    own = scoring.score(ranker, tokens, asked, given)
    for name, path in paths.items():
        ranker.transformer = graphs.opened(path)
        found = scoring.score(ranker, tokens, asked, given)
        np.testing.assert_allclose(found, own, atol=2e-5 if "float32" in name else np.ptp(own) / 5, err_msg=name)
        assert ("float32" in name) or np.abs(found - own).max() > 1e-4
    table = export.compared(run, paths, test_set)
    exact, rough = (table.loc[[f"ONNX, {kind}", f"OpenVINO, {kind}"]] for kind in ("float32", "int8"))
    assert (exact["largest"] < 2e-5).all() and exact["tau"].min() == pytest.approx(1) and not exact["change"].any()
    assert (rough["mean"] > 1e-4).all() and (rough["low"] <= rough["change"]).all() and (rough["tau"] < 1).all()
    section = huggingface_hub.ModelCard.load(folder / "README.md").text.split("## Graphs")[1]
    assert "| ONNX, int8 | onnx/model_int8.onnx | " in section and f"{torch.get_num_threads()} threads each" in section
    assert section.split("##")[0].strip() in capsys.readouterr().out


@pytest.mark.parametrize(("architecture", "options"), [("colbert", {"dim": 16}), ("prettr", {"split": 1}), ("tk", {})])
def test_only_cross_encoders_and_bi_encoders_have_graphs(architecture, options, tiny_backbone, tmp_path, onnx):
    ranker = models.build(architecture, tiny_backbone, None, 0, **options)
    with pytest.raises(ValueError, match=f"{architecture}: only cat and dot"):
        graphs.write(ranker, backbone.tokenizer(tiny_backbone), tmp_path)


def test_a_decoder_has_no_graphs(tmp_path, onnx):
    folder = written("qwen2", tmp_path)
    with pytest.raises(ValueError, match="cat of a decoder: only cat and dot of an encoder"):
        graphs.write(models.build("cat", folder, None, 0), backbone.tokenizer(folder), tmp_path / "out")


def test_a_missing_package_is_named_with_the_way_to_install_it(command, tmp_path, monkeypatch, capsys):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "openvino" else real(name, *more)
    )
    assert command("--to", tmp_path / "model", "--graphs") == 1
    assert "graphs need openvino: pip install -c constraints.txt -e '.[onnx]'" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


class FakeHub:
    """Stands in for `huggingface_hub.HfApi` and remembers what it was asked."""

    calls: ClassVar = []

    def create_repo(self, repo_id, *, exist_ok):
        self.calls.append(("create", repo_id, exist_ok))
        return f"https://hub/{repo_id}"

    def upload_folder(self, *, repo_id, folder_path):
        self.calls.append(("upload", repo_id, sorted(path.name for path in folder_path.iterdir())))


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(FakeHub, "calls", [])
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "a token")
    return FakeHub


def test_a_folder_is_sent_only_if_that_is_asked_for(command, hub, tmp_path, capsys):
    assert command("--to", tmp_path / "one") == 0 and not hub.calls
    assert command("--to", tmp_path / "two", "--push", "owner/name") == 0
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert hub.calls == [("create", "owner/name", True), ("upload", "owner/name", files)]
    assert "README.md" in files and "https://hub/owner/name" in capsys.readouterr().out


@pytest.mark.parametrize(("repository", "token", "says"), [
    ("owner/name", None, "no token for the hub: call `hf auth login`, or set HF_TOKEN"),
    ("name", "a token", "'name': give owner/name"), ("a/b/c", "a token", "a/b/c"),
])  # fmt: skip
def test_what_cannot_be_sent_is_refused_before_anything_is_written(
    repository, token, says, command, hub, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: token)
    assert command("--to", tmp_path / "model", "--push", repository) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and says in said and not hub.calls and not (tmp_path / "model").exists()


def test_a_hub_that_refuses_is_one_clear_error(hub, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("403 Forbidden")

    monkeypatch.setattr(hub, "upload_folder", refuse)
    with pytest.raises(ConnectionError, match="the hub does not take owner/name: 403 Forbidden"):
        export.push(tmp_path, "owner/name")


def test_trec_eval_finds_the_kits_values_in_a_trec_run(command, experiment, test_set, tmp_path):
    assert command("--trec", tmp_path) == 0
    (path,) = tmp_path.glob("tiny-test-8-bm25-top10-*.trec")
    judged, run = ir_measures.read_trec_qrels(str(path.with_suffix(".qrels"))), ir_measures.read_trec_run(str(path))
    names = ["nDCG@10", "RR@10", "R@10"]
    found = ir_measures.calc_aggregate(map(ir_measures.parse_measure, names), list(judged), list(run))
    own = {name: tables.values(experiment, test_set, name).mean() for name in names}
    assert {str(name): value for name, value in found.items()} == pytest.approx(own)
    again = dataclasses.replace(test_set, run=str(path)).candidates()[2]  # as a first stage: no warning of ties
    ranked = measures.rank(tables.scores(experiment, test_set)[["query", "document", "score"]])
    assert set(map(tuple, again[["query", "document", "rank"]].to_numpy())) == set(
        map(tuple, ranked[["query", "document", "rank"]].to_numpy())
    )


def test_two_parts_of_a_split_have_files_of_their_own(experiment, test_set, tmp_path):
    parts = [dataclasses.replace(test_set, queries=4), dataclasses.replace(test_set, skip=4)]
    kit.complete([experiment], parts)
    paths = [export.trec(experiment, test, tmp_path) for test in parts]
    assert [path.name.split("-bm25")[0] for path in paths] == ["tiny-test-4", "tiny-test-4-after4"]
    tested = card.quality(experiment, parts)["test set"].unique()
    assert [name.split(", ")[2] for name in tested] == ["4 queries", "4 queries after the first 4"]


def test_sets_and_stored_runs_that_share_a_name_have_files_of_their_own(experiment, test_set, tmp_path):
    tests = []
    for place in ("one", "hub:two"):
        folder = shutil.copytree(test_set.collection, tmp_path / place / "tiny")
        with (folder / "qrels" / "test.tsv").open("a") as file:
            file.write(f"q16\td{len(place)}\t1\n")  # or they would be one set
        for name in ("a", "b"):
            (folder / name).mkdir()
            rows = [f"q{query} Q0 d{query + (name == 'b')} 1 1.0 x\n" for query in range(16, 24)]
            (folder / name / "run.trec").write_text("".join(rows))
            tests.append(TestSet(str(folder), queries=8, depth=None, run=str(folder / name / "run.trec")))
    with warnings.catch_warnings(action="ignore"):
        kit.complete([experiment], tests)
        paths = {export.trec(experiment, test, tmp_path / "out") for test in tests}
    assert len(paths) == 4 and {path.parent for path in paths} == {tmp_path / "out"}
    assert len([*(tmp_path / "out").iterdir()]) == 8


def test_what_is_not_scored_or_damaged_is_one_clear_error(command, experiment, test_set, tmp_path, capsys, monkeypatch):
    other = dataclasses.replace(test_set, depth=5)
    small = dataclasses.replace(profiles.named("smoke"), tests=(other,), architecture_test=other)
    with monkeypatch.context() as patch:
        patch.setattr(profiles, "named", lambda name: small)
        assert command("--trec", tmp_path / "runs") == 1 and not (tmp_path / "runs").exists()
    assert capsys.readouterr().err == (
        f"error: {experiment.about} is scored on no test set of profile laptop; run `make study PROFILE=laptop` first\n"
    )
    place = rankers.folder(experiment)
    (place / "costs.parquet").write_bytes(b"")
    store._verify.cache_clear()  # another process: in this one the folder was sound
    assert command("--to", tmp_path / "model") == 1
    assert f"Delete the folder {place}: it is made again." in capsys.readouterr().err


def test_the_command_wants_to_know_where_to(command, capsys):
    for wrong in (["--graphs"], ["--push", "owner/name"], []):
        with pytest.raises(SystemExit):
            command(*wrong)
        assert "give --to FOLDER" in capsys.readouterr().err


def test_a_run_of_a_profile_is_found_by_name_and_seed_or_by_key(monkeypatch):
    monkeypatch.setattr(collections, "fingerprint", lambda name: name)  # no collection is built for a name
    profile = profiles.named("smoke")
    assert export.find("kl", 1, profile) == profile.variant("kl", 1)
    assert export.find("start", 0, profile) == profile.start
    assert export.find("prettr", 0, profile) == profile.architectures[1]
    assert export.find(profile.cropped.key, 0, profile).key == profile.cropped.key
    with pytest.raises(ValueError, match=r"no run 'k1' of seed 0: profile smoke has teacher, .*lib.study.export.write"):
        export.find("k1", 0, profile)
