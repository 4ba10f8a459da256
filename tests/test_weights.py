"""What a folder must hold to be loaded: damaged, missing or foreign weights are one error that names them."""

import contextlib
import json
import shutil

import peft
import pytest
import safetensors.torch
import torch
import transformers

from lib import models
from lib.models import adapters, backbone, weights
from lib.models.weights import WeightsError
from tests.test_causal import written

OPTIONS = {"cat": {}, "dot": {}, "colbert": {"dim": 16}, "prettr": {"offset": 16, "compression": 8}, "tk": {"heads": 4}}
TRANSFORMERS = ("cat", "dot", "colbert", "prettr")


@pytest.fixture(params=OPTIONS)
def architecture(request):
    return request.param


def saved(architecture, tiny_backbone, folder):
    models.build(architecture, tiny_backbone, None, 0, **OPTIONS[architecture]).save(
        folder, backbone.tokenizer(tiny_backbone), 32
    )
    return folder


def copied(source, folder):
    return shutil.copytree(source, folder)


def rewritten(path, change):
    """Change the tensors of a safetensors file."""
    found = safetensors.torch.load_file(path)
    change(found)
    safetensors.torch.save_file(found, path, metadata={"format": "pt"})


def without(*parts):
    def change(found):
        for name in [name for name in found if any(part in name for part in parts)]:
            del found[name]

    return change


def test_a_backbone_is_no_teacher():
    with pytest.raises(
        WeightsError, match=r"model: 2 weights are missing \(classifier.bias, classifier.weight\).*num_labels=1"
    ):
        models.load(backbone.folder("minilm"))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft's own
def test_an_adapter_of_peft_beside_the_weights_is_refused(tiny_backbone, tmp_path):
    """transformers would load it, and report nothing of a scoring head that is missing."""
    folder = tmp_path / "adapted"
    shutil.copytree(tiny_backbone, folder)
    model = transformers.BertModel.from_pretrained(folder)
    peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["query"])).save_pretrained(folder)
    for read in (lambda: models.load(folder), lambda: models.build("cat", str(folder), None, 0)):
        with pytest.raises(WeightsError, match=r"an adapter of the package peft.*merge it into the weights"):
            read()


@pytest.mark.parametrize("kind", ["gpt2", "bloom"])
def test_layers_beyond_the_configurations_are_not_dropped_whatever_they_are_called(kind, tmp_path):
    written(kind, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    less = {name: 1 for name in ("num_hidden_layers", "n_layer") if config.get(name) == 2}
    (tmp_path / "config.json").write_text(json.dumps(config | less))
    with pytest.raises(WeightsError, match=r"weights are unexpected"):
        models.build("dot", str(tmp_path), None, 0)


def test_a_model_of_several_labels_is_no_teacher_but_a_backbone(tmp_path):
    config = transformers.BertConfig(vocab_size=30, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                                     intermediate_size=32, num_labels=3)  # fmt: skip
    with weights.quiet():
        transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"classifier.weight: \(3, 32\) instead of \(1, 32\).*num_labels=1"):
        models.load(tmp_path)
    assert models.build("cat", str(tmp_path), None, 0).transformer.classifier.weight.shape == (1, 32)


def test_what_pre_training_had_beyond_is_ignored_for_training_alone(tmp_path):
    """A masked language model has a head of its own and no pooler."""
    config = transformers.BertConfig(vocab_size=30, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                                     intermediate_size=32)  # fmt: skip
    with weights.quiet():
        transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
    for architecture in ("cat", "dot"):
        models.build(architecture, str(tmp_path), None, 0)
    with pytest.raises(
        WeightsError, match=r"4 weights are missing .*; 5 weights are unexpected \(cls.predictions.bias, "
    ):
        models.load(tmp_path)


@pytest.mark.parametrize("architecture", TRANSFORMERS)
def test_a_pooler_and_places_that_nothing_reads_are_harmless(architecture, tiny_backbone, tmp_path):
    folder = saved(architecture, tiny_backbone, tmp_path / "model")
    prefix = "bert." if architecture in ("cat", "prettr") else ""
    rewritten(
        folder / "model.safetensors", lambda found: found.update({f"{prefix}embeddings.position_ids": torch.arange(64)})
    )
    if not prefix:
        rewritten(folder / "model.safetensors", without("pooler"))
    models.load(folder)


def test_a_pooler_that_scores_go_through_is_needed(tiny_backbone, tmp_path):
    folder = saved("cat", tiny_backbone, tmp_path / "model")
    rewritten(folder / "model.safetensors", without("pooler"))
    with pytest.raises(WeightsError, match=r"2 weights are missing \(bert.pooler"):
        models.load(folder)


def missing_layer(folder):
    rewritten(folder / "model.safetensors", without("encoder.layer.1."))


def other_shape(folder):
    def change(found):
        for name in found:
            if "layer.0.intermediate.dense.weight" in name:
                found[name] = torch.zeros(8, 32)

    rewritten(folder / "model.safetensors", change)


def layer_more(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))


def half(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_config(folder):
    (folder / "config.json").write_text("{")


def other_model(folder):
    (folder / "config.json").write_text('{"model_type": "never-heard-of"}')


def bin_alone(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def emptied(folder):
    (folder / "model.safetensors").write_bytes(b"")


def pointer(folder):
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


DAMAGE = {
    missing_layer: r"16 weights are missing \(.*encoder.layer.1", other_shape: r"1 weight is of another shape \(.*\(8, 32\)",
    layer_more: r"16 weights are unexpected \(.*encoder.layer.1", half: r"model.safetensors is truncated",
    emptied: r"model.safetensors is truncated", pointer: r"model.safetensors is truncated",
    bin_alone: r"has no model.safetensors: save the model as safetensors", no_config: r"config.json cannot be read: .*JSON",
    other_model: r"config.json cannot be read: .*never-heard-of",
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("architecture", OPTIONS)
def test_a_damaged_backbone_builds_nothing(architecture, damage, tiny_backbone, tmp_path):
    folder = copied(tiny_backbone, tmp_path / "model")
    damage(folder)
    with pytest.raises(WeightsError, match=DAMAGE[damage]):
        models.build(architecture, str(folder), None, 0, **OPTIONS[architecture])


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("architecture", TRANSFORMERS)
def test_a_damaged_ranker_is_not_loaded(architecture, damage, tiny_backbone, tmp_path):
    folder = saved(architecture, tiny_backbone, tmp_path / "model")
    damage(folder)
    with pytest.raises(WeightsError, match=DAMAGE[damage]):
        models.load(folder)


def test_the_tail_of_a_saved_ranker_is_checked_too(architecture, tiny_backbone, tmp_path):
    """One weight more than there should be."""
    name = {"colbert": "projection", "prettr": "compression"}.get(architecture, "model") + ".safetensors"
    folder = saved(architecture, tiny_backbone, tmp_path / "model")
    rewritten(folder / name, lambda found: found.update(more=torch.zeros(2)))
    with pytest.raises(WeightsError, match=r"1 weight is unexpected \(more\)"):
        models.load(folder)


@pytest.mark.parametrize(
    ("architecture", "name"),
    [("colbert", "projection.safetensors"), ("prettr", "compression.safetensors"), ("tk", "model.safetensors")],
)
def test_our_own_pieces_are_checked(architecture, name, tiny_backbone, tmp_path):
    folder = saved(architecture, tiny_backbone, tmp_path / "model")
    path, whole = folder / name, (folder / name).read_bytes()
    rewritten(path, lambda found: found.pop(sorted(found)[0]))
    with pytest.raises(WeightsError, match=rf"{name}: 1 weight is missing"):
        models.load(folder)
    path.write_bytes(whole)
    rewritten(path, lambda found: found.update({sorted(found)[-1]: torch.zeros(3)}))
    with pytest.raises(WeightsError, match=rf"{name}: 1 weight is of another shape"):
        models.load(folder)
    path.write_bytes(whole[:-5])
    with pytest.raises(WeightsError, match=rf"{name} is truncated"):
        models.load(folder)
    path.unlink()
    with pytest.raises(WeightsError, match=rf"{name} is missing"):
        models.load(folder)


def test_a_tk_without_word_vectors_is_refused(tiny_backbone, tmp_path):
    folder = saved("tk", tiny_backbone, tmp_path / "model")
    rewritten(folder / "model.safetensors", without("embedding.weight"))
    with pytest.raises(WeightsError, match=r"1 weight is missing \(embedding.weight\)"):
        models.load(folder)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("{", "JSONDecodeError"), ("[]", "TypeError"), ("{}", "KeyError.*architecture"), ("\xff", "Error"),
        ('{"architecture": "bert", "options": {}, "prefix": false}', "give one of cat, dot"),
        ('{"architecture": ["dot"], "options": {}, "prefix": false}', "Type(Check)?Error"),
        ('{"architecture": "dot", "options": {"dims": 3}, "prefix": false}', "option 'dims'"),
        ('{"architecture": "dot", "options": {"pooling": "mean"}, "prefix": false}', "options without scale, similarity"),
        ('{"architecture": "dot", "options": 3, "prefix": false}', "TypeError"),
        ('{"architecture": "dot", "options": {}}', "KeyError.*prefix"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(settings, said, tiny_backbone, tmp_path):
    folder = saved("dot", tiny_backbone, tmp_path / "model")
    (folder / "ranker.json").write_bytes(settings.encode("latin-1"))
    with pytest.raises(WeightsError, match=rf"ranker.json is not as Ranker.save writes it .*{said}"):
        models.load(folder)


@pytest.mark.parametrize("value", ['"max"', "3", "null"])
def test_an_options_value_that_cannot_be_is_refused(value, tiny_backbone, tmp_path):
    folder = saved("dot", tiny_backbone, tmp_path / "model")
    path = folder / "ranker.json"
    path.write_text(path.read_text().replace('"mean"', value))
    with pytest.raises(WeightsError, match=r"(?s)model holds no dot that can be: .*pooling"):
        models.load(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=rf"there is no folder {tmp_path / 'none'}"):
        models.load(tmp_path / "none")


def test_a_prefix_that_is_lost_or_left_over_changes_no_score(tiny_backbone, tmp_path):
    ranker = models.build("dot", tiny_backbone, None, 0)
    adapters.attach(ranker, "prefix", 3, 0)
    ranker.save(tmp_path / "with", backbone.tokenizer(tiny_backbone), 32)
    path = tmp_path / "with" / "adapter" / "adapter_model.safetensors"
    whole = path.read_bytes()
    rewritten(path, lambda found: found.update(prompt_embeddings=torch.zeros(3, 5)))
    with pytest.raises(WeightsError, match=r"prompt_embeddings: \(3, 5\) instead of \(3, 128\)"):
        models.load(tmp_path / "with")
    path.write_bytes(whole[:-1])
    with pytest.raises(WeightsError, match="adapter_model.safetensors is truncated"):
        models.load(tmp_path / "with")
    path.write_bytes(whole)
    saved("dot", tiny_backbone, tmp_path / "with")  # over it, without a prefix
    assert models.load(tmp_path / "with").adapter is None
    ranker.save(tmp_path / "with", backbone.tokenizer(tiny_backbone), 32)
    shutil.rmtree(tmp_path / "with" / "adapter")
    with pytest.raises(WeightsError, match="adapter_model.safetensors is missing"):
        models.load(tmp_path / "with")


@pytest.mark.parametrize("whole", [True, False])
def test_weights_in_several_files_are_loaded(whole, tiny_backbone, tmp_path):
    ranker = models.build("cat", tiny_backbone, None, 0)
    ranker.save(tmp_path, backbone.tokenizer(tiny_backbone), 32)
    (tmp_path / "model.safetensors").unlink()
    with weights.quiet():
        ranker.transformer.save_pretrained(tmp_path, max_shard_size="20KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    state = (models.load(tmp_path) if whole else models.build("cat", str(tmp_path), None, 1)).state_dict()
    assert all(torch.equal(state[name], value) for name, value in ranker.state_dict().items())
    shards[1].unlink()
    with pytest.raises(WeightsError, match=rf"{shards[1].name} is missing"):
        models.load(tmp_path) if whole else models.build("cat", str(tmp_path), None, 1)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"index.json has no weight_map"):
        models.load(tmp_path)


def test_what_sentence_transformers_saves_is_loaded(tiny_backbone, tmp_path):
    from sentence_transformers import CrossEncoder, SentenceTransformer

    saved("cat", tiny_backbone, tmp_path / "cat")
    saved("dot", tiny_backbone, tmp_path / "dot")
    with weights.quiet():
        CrossEncoder(str(tmp_path / "cat"), device="cpu").save_pretrained(str(tmp_path / "cat again"))
        SentenceTransformer(str(tmp_path / "dot"), device="cpu").save_pretrained(str(tmp_path / "dot again"))
    again, first = (models.load(tmp_path / name).state_dict() for name in ("cat again", "cat"))
    assert all(torch.equal(again[name], value) for name, value in first.items())
    again, first = (
        models.build("dot", str(name), None, 0).state_dict() for name in (tmp_path / "dot again", tiny_backbone)
    )
    assert all(torch.equal(again[name], value) for name, value in first.items() if "pooler" not in name)


@pytest.mark.parametrize(
    "lacking", [["tokenizer.json", "vocab.txt"], ["tokenizer.json", "vocab.txt", "tokenizer_config.json"]], ids=len
)
def test_a_tokenizer_without_words_is_refused(lacking, tiny_backbone, tmp_path):
    """transformers makes one that knows the special tokens and nothing else."""
    folder = copied(tiny_backbone, tmp_path / "model")
    for name in lacking:
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(WeightsError, match=r"model: .*tokenizer"):
        backbone.tokenizer(str(folder))


def test_a_tokenizer_that_is_damaged_is_refused(tiny_backbone, tmp_path):
    folder = copied(tiny_backbone, tmp_path / "model")
    (folder / "tokenizer.json").write_text('{"version": ')
    with pytest.raises(WeightsError, match=r"model: its tokenizer cannot be read"):
        backbone.tokenizer(str(folder))


CODE = """
from pathlib import Path
Path("{mark}").touch()
from transformers import BertConfig as Config, BertModel as Model, BertTokenizer as Tokenizer
"""


@pytest.mark.parametrize("kind", ["bert", "of-its-own"])
def test_a_folders_own_code_is_never_executed(kind, tiny_backbone, tmp_path, monkeypatch):
    """Nor is the user asked whether it may be."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    folder = copied(tiny_backbone, tmp_path / "model")
    mark = tmp_path / "executed"
    (folder / "own.py").write_text(CODE.format(mark=mark))
    for name, places in (
        (
            "config.json",
            {"AutoConfig": "own.Config", "AutoModel": "own.Model", "AutoModelForSequenceClassification": "own.Model"},
        ),
        ("tokenizer_config.json", {"AutoTokenizer": [None, "own.Tokenizer"]}),
    ):
        content = json.loads((folder / name).read_text()) | {"auto_map": places}
        content |= {"model_type": kind} if name == "config.json" else {"tokenizer_class": "OwnTokenizer"}
        (folder / name).write_text(json.dumps(content))
    for read in (
        lambda: backbone.layer_count(str(folder)), lambda: backbone.config(folder),
        lambda: backbone.encoder(folder), lambda: models.build("cat", str(folder), None, 0),
        lambda: models.load(folder), lambda: backbone.tokenizer(str(folder)),
    ):  # fmt: skip
        with contextlib.suppress(WeightsError):
            read()
    assert not mark.exists()
    if kind == "bert":
        assert backbone.layer_count(str(folder)) == 2
    else:
        with pytest.raises(WeightsError, match="config.json cannot be read"):
            backbone.encoder(folder)
