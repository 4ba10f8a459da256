"""Continued pre-training: what is masked, what the model learns from it, and what a run that starts from it gets."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

from lib.data import collections
from lib.machine import progress
from lib.models import backbone, masked_lm, tokens
from lib.models.masked_lm import MaskedLM
from lib.study import rankers, runs, tables
from lib.study.derived import Merged, Pretrained
from lib.study.experiment import Model, TestSet, fields, lineage, vary
from lib.training import pretraining
from lib.training.settings import Adapter, GradCache, Training
from tests import kit
from tests.conftest import WORDS


@pytest.fixture
def repeating(tmp_path):
    """A collection each of whose 64 documents is one word, eight times: what is masked can be read beside it."""
    folder = tmp_path / "repeating"
    (folder / "qrels").mkdir(parents=True)
    texts = [{"_id": f"d{number}", "text": " ".join([WORDS[number % 20]] * 8)} for number in range(64)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "alpha"}) + "\n")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td0\t1\n")
    return str(folder)


@pytest.fixture
def pretrained(experiment, repeating):
    """8 documents a step, 160 steps."""
    settings = Training(batch_size=8, epochs=20, learning_rate=3e-3)
    return Pretrained(experiment.model, repeating, 64, settings)


def test_fifteen_per_cent_are_asked_for_and_seen_as_in_bert(tiny_backbone):
    tokenizer = backbone.tokenizer(tiny_backbone)
    special = set(tokenizer.all_special_ids)
    ids = torch.full((400, 50), 7)
    ids[:, 0], ids[:, -1] = tokenizer.cls_token_id, tokenizer.sep_token_id
    with torch.random.fork_rng():
        torch.manual_seed(0)
        seen, asked, whole = pretraining._Mask(tokenizer)({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    assert not asked[:, [0, -1]].any() and whole is ids
    assert asked[:, 1:-1].float().mean().item() == pytest.approx(0.15, abs=0.01)
    shown = seen["input_ids"][asked]
    assert (shown == tokenizer.mask_token_id).float().mean().item() == pytest.approx(0.8, abs=0.04)
    kept = 0.1 + 0.1 / len(tokenizer)  # a random token may be the one that it replaces
    assert (shown == 7).float().mean().item() == pytest.approx(kept, abs=0.03)
    assert seen["input_ids"][~asked].equal(ids[~asked]) and special and (ids[:, 1:-1] == 7).all()


def test_logits_at_the_places_asked_for_are_those_of_the_whole(tiny_backbone, found, float32):
    model = MaskedLM.open(tiny_backbone, None, 0, dropout=0.0, embeddings=False).eval()
    stored = tokens.tokenise(found.documents, backbone.tokenizer(tiny_backbone), found.documents_digest)
    batch = masked_lm.side(stored, tiny_backbone, 16).batch(np.arange(4))
    asked = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    asked[1, 2] = asked[3, 1] = True
    whole = model.transformer(**batch).logits
    torch.testing.assert_close(model(batch, asked), whole[asked])
    assert model(batch, torch.zeros_like(asked)).shape == (0, 25)
    table = model.transformer.get_input_embeddings().weight
    assert model.transformer.get_output_embeddings().weight is table and not table.requires_grad


def test_a_head_that_the_backbone_has_is_used(tiny_backbone, tmp_path):
    whole = transformers.BertForMaskedLM(transformers.BertConfig.from_pretrained(tiny_backbone))
    whole.save_pretrained(tmp_path)
    backbone.tokenizer(tiny_backbone).save_pretrained(tmp_path)
    opened = [MaskedLM.open(str(tmp_path), (1,), seed, dropout=0.0, embeddings=True) for seed in (0, 1)]
    head = "cls.predictions.transform.dense.weight"
    for one in opened:
        assert one.transformer.state_dict()[head].equal(whole.state_dict()[head])
        assert one.transformer.config.num_hidden_layers == 1
    drawn = [MaskedLM.open(tiny_backbone, None, seed, dropout=0.0, embeddings=True) for seed in (0, 0, 1)]
    weights = [one.transformer.state_dict()[head] for one in drawn]
    assert weights[0].equal(weights[1]) and not weights[0].equal(weights[2])


def test_the_loss_falls_and_a_run_starts_from_the_weights(pretrained, experiment, tiny_collection, float32):
    warm, test = vary(experiment, start=pretrained), TestSet(tiny_collection, queries=8, depth=10)
    table = tables.results([pretrained, warm], [test])
    assert list(table["strategy"].unique()) == ["masked_language_model", "info_nce"]
    steps = runs.history(pretrained)
    assert list(steps.columns) == ["step", "loss", "accuracy", "gradient_norm", "learning_rate", "documents"]
    assert len(steps) == 160 and steps["loss"].iloc[-5:].mean() < 0.5 * steps["loss"].iloc[:5].mean()
    assert steps["accuracy"].iloc[-5:].mean() > 0.6
    before, after, begun = (
        kit.model(pretrained.before).state_dict(), rankers.ranker(pretrained).state_dict(),
        rankers.at_start(warm).state_dict(),
    )  # fmt: skip
    moved = {name for name, value in before.items() if not value.equal(after[name])}
    assert moved and all("encoder.layer" in name for name in moved)  # no head, no pooler, no embeddings
    assert all(begun[name].equal(value) for name, value in after.items())
    assert {"train_seconds", "train_documents_per_second"} <= set(tables.costs(pretrained, test).index)
    assert [run.key for run in lineage(warm)] == [pretrained.key, warm.key]


@pytest.mark.parametrize(
    ("architecture", "options"), [("dot", ()), ("colbert", (("dim", 16),)), ("prettr", (("split", 1),))]
)
def test_every_architecture_over_a_backbone_takes_it(architecture, options, pretrained, tiny_backbone):
    run = Pretrained(Model(architecture, options, tiny_backbone, max_length=24), pretrained.collection, 16,
                     Training(batch_size=8, embeddings=True))  # fmt: skip
    runs.complete([run])
    found, before = rankers.ranker(run).state_dict(), rankers.ranker(run.before).state_dict()
    moved = {name for name, value in found.items() if not value.equal(before[name])}
    assert any("word_embeddings" in name for name in moved) and not any("projection" in name for name in moved)
    runs.complete([Merged((run, dataclasses.replace(run, seed=1)), "task_arithmetic", scale=0.5)])


def test_the_same_seed_gives_the_same_weights_and_a_killed_training_goes_on(pretrained, monkeypatch, tmp_path, float32):
    short = vary(pretrained, epochs=1, dropout=0.1)
    runs.complete([short, vary(short, seed=1)])
    first, other = (rankers.ranker(run).state_dict() for run in (short, vary(short, seed=1)))
    history = runs.history(short)
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "again"))
    monkeypatch.setenv("STUDY_CHECKPOINT_SECONDS", "0")
    with monkeypatch.context() as patched:
        patched.setattr(progress, "steps", kit.cut(3))
        with pytest.raises(kit.Killed):
            runs.complete([short])
    runs.complete([short])
    again = rankers.ranker(short).state_dict()
    pd.testing.assert_frame_equal(runs.history(short), history, rtol=1e-3, atol=1e-5)
    for name, value in first.items():
        torch.testing.assert_close(again[name], value, rtol=1e-3, atol=1e-5)
    assert any(not torch.allclose(other[name], value, rtol=1e-2, atol=1e-3) for name, value in first.items())


def test_what_decides_it_is_in_its_key(pretrained, tiny_collection):
    changes = {
        "collection": tiny_collection, "document_count": 40, "seed": 1, "max_length": 24, "learning_rate": 1e-3,
        "epochs": 2, "batch_size": 4, "layers": (0,),
    }  # fmt: skip
    keys = {vary(pretrained, **{name: value}).key for name, value in changes.items()} | {pretrained.key}
    assert len(keys) == len(changes) + 1
    assert {"collection", "document_count", "seed", "layers", "learning_rate"} <= set(dict(fields(pretrained)))
    assert "pre-trained on" in pretrained.about


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "minilm"}, "model='minilm': give a Model"),
        ({"training": None}, "training=None: give a Training"),
        ({"collection": ""}, "collection='': give a name"),
        ({"document_count": 0}, "document_count=0: give a whole number"),
        ({"document_count": 4}, "batch_size=8: more than document_count=4"),
        ({"seed": -1}, "seed=-1"),
        ({"model": Model("tk")}, "architecture='tk' keeps no layers"),
        ({"training": Training(adapter=Adapter("lora"))}, "training: adapter is for experiments alone; give adapter=None"),
        ({"training": Training(batching=GradCache(2))}, "training: batching is for experiments alone"),
        ({"training": Training(snapshots=2)}, "training: snapshots is for experiments alone; give snapshots=1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(change, says, pretrained):
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(pretrained, **change)


def test_what_needs_a_look_at_files_is_refused_before_anything_trains(pretrained, experiment, tmp_path, monkeypatch):
    monkeypatch.setattr("lib.training.loop.train", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises(ValueError, match="document_count=65: .*repeating has 64 documents"):
        runs.complete([experiment, vary(pretrained, document_count=65)])
    transformers.GPT2Config(vocab_size=25, n_embd=16, n_layer=1, n_head=2).save_pretrained(tmp_path / "gpt")
    with pytest.raises(ValueError, match="gpt2 has no masked language model; give an encoder like BERT"):
        masked_lm.check(str(tmp_path / "gpt"))
    assert collections.load(pretrained.collection)
