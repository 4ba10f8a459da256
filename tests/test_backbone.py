"""Which folder a backbone is, what tells two apart, how much it reads, and which of its parts are kept or trained."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import transformers

from lib import models
from lib.machine import digest
from lib.models import adapters, backbone, packaged
from lib.models.bi_encoder import BiEncoder
from lib.models.weights import WeightsError

SMALL = {"vocab_size": 30, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32,
         "max_position_embeddings": 40, "pad_token_id": 1}  # fmt: skip


def made(kind, **settings):
    """A small random encoder of a family."""
    return transformers.AutoModel.from_config(transformers.AutoConfig.for_model(kind, **SMALL | settings))


@pytest.fixture
def copy(tiny_backbone, tmp_path):
    return Path(shutil.copytree(tiny_backbone, tmp_path / "model"))


# --- What sentence-transformers computes beyond the encoder


@pytest.mark.parametrize(("kind", "pooled", "says"), [
    ("Dense", "mean", "its module Dense is not read"), ("Normalize", "cls", "another pooling than 'mean'"),
    ("Normalize", "mean", None),
])  # fmt: skip
def test_modules_that_are_not_read_are_told(kind, pooled, says, copy, recwarn):
    kinds = {"": "models.Transformer", "1_Pooling": "models.Pooling", f"2_{kind}": f"models.{kind}"}
    (copy / "modules.json").write_text(json.dumps([{"path": path, "type": one} for path, one in kinds.items()]))
    (copy / "1_Pooling").mkdir()
    names = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}
    settings = {name: mode == pooled for mode, name in names.items()}
    (copy / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    models.build("dot", str(copy), None, 0)
    told = [str(one.message) for one in recwarn]
    assert len(told) == (says is not None) and all(says in one and str(copy) in one for one in told)


def test_a_configuration_of_several_models_is_refused(tmp_path):
    transformers.Gemma3Config().save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=rf"{tmp_path}.*Gemma3Config has no num_hidden_layers.*its text model"):
        backbone.layer_count(str(tmp_path))


def test_a_tokenizer_that_is_not_fast_is_refused(copy, monkeypatch):
    monkeypatch.setattr(transformers.PreTrainedTokenizerFast, "is_fast", False)
    with pytest.raises(WeightsError, match="no fast tokenizer for .*: give a backbone with a tokenizer.json"):
        backbone.tokenizer(str(copy))


# --- Folders


@pytest.mark.parametrize("name", ["nowhere/there/is/none", "./x", "../x", "/abs/x", "~/x", "", "with space", "x/"])
def test_a_name_that_the_hub_cannot_have_is_a_folder_that_is_missing(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked the network"))
    with pytest.raises(WeightsError, match=f"there is no folder {Path(name).resolve()}"):
        backbone.folder(name)


def test_a_file_is_no_folder(copy, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked the network"))
    with pytest.raises(WeightsError, match="config.json is a file"):
        backbone.folder(str(copy / "config.json"))
    monkeypatch.chdir(copy)
    with pytest.raises(WeightsError, match="config.json is a file"):
        backbone.folder("config.json")


def test_a_hub_name_that_cannot_be_loaded_says_which_folder_was_looked_for(monkeypatch, tmp_path):
    def unreachable(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(ConnectionError, match=rf"'some/other'.*none at {tmp_path / 'some' / 'other'}"):
        backbone.folder("some/other")


def test_a_relative_path_is_resolved_at_once(copy, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = backbone.folder("model")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert found == copy.resolve()
    shutil.copytree(copy, tmp_path / "elsewhere" / "model")  # another folder of the same relative name
    assert backbone.folder("model") == tmp_path / "elsewhere" / "model"
    shutil.rmtree(tmp_path / "elsewhere" / "model")
    (tmp_path / "elsewhere" / "model").mkdir()
    with pytest.raises(WeightsError, match=r"no config\.json"):
        backbone.folder("model")


# --- Fingerprints

DECIDE = [
    "config.json", "model.safetensors", "model.safetensors.index.json", "model-00002-of-00003.safetensors", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt",
    "spiece.model", "modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors", "sentence_bert_config.json",
    "config_sentence_transformers.json", "ranker.json", "adapter/adapter_config.json", "adapter/adapter_model.safetensors",
    "projection.safetensors", "compression.safetensors",
]  # fmt: skip


@pytest.mark.parametrize("name", DECIDE)
def test_every_file_that_decides_scores_is_in_the_fingerprint(name, copy):
    before = backbone.fingerprint(str(copy))
    path = copy / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((path.read_bytes() if path.exists() else b"") + b" ")
    changed = backbone.fingerprint(str(copy))  # in one process, of one path
    assert changed != before
    path.write_bytes(path.read_bytes() + b"\n")
    assert backbone.fingerprint(str(copy)) not in (before, changed)


@pytest.mark.parametrize("name", ["README.md", "trainer_state.json", "notes.txt", ".gitattributes", "logs/config.json"])
def test_other_files_are_not_in_the_fingerprint(name, copy):
    before = backbone.fingerprint(str(copy))
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_text("something else")
    assert backbone.fingerprint(str(copy)) == before


def test_equal_folders_have_equal_fingerprints_wherever_they_lie(copy, tiny_backbone):
    assert backbone.fingerprint(str(copy)) == backbone.fingerprint(tiny_backbone)


def test_files_that_change_places_change_the_fingerprint(copy):
    (copy / "a.safetensors").write_bytes(b"a")
    (copy / "b.safetensors").write_bytes(b"b")
    before = backbone.fingerprint(str(copy))
    (copy / "a.safetensors").write_bytes(b"b")
    (copy / "b.safetensors").write_bytes(b"a")
    assert backbone.fingerprint(str(copy)) != before


def test_a_second_fingerprint_reads_no_file_again(monkeypatch):
    first = backbone.fingerprint("minilm")
    monkeypatch.setattr("hashlib.file_digest", lambda *_: pytest.fail("read again"))
    assert backbone.fingerprint("minilm") == first
    assert digest.of_file(backbone.folder("minilm") / "model.safetensors") == packaged.MODELS["minilm"].sha256


def test_a_weight_changed_in_place_is_seen_though_size_and_time_are_the_same(copy):
    """As a tool that keeps the time would leave it; the system keeps a time of its own."""
    path, before = copy / "model.safetensors", backbone.fingerprint(str(copy))
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert backbone.fingerprint(str(copy)) != before


def test_an_edited_folder_is_read_again(copy):
    assert (backbone.layer_count(str(copy)), backbone.limit(backbone.config(backbone.folder(str(copy))))) == (2, 64)
    path = copy / "config.json"
    path.write_text(path.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 7'))
    path.write_text(path.read_text().replace('"max_position_embeddings": 64', '"max_position_embeddings": 32'))
    assert (backbone.layer_count(str(copy)), backbone.limit(backbone.config(backbone.folder(str(copy))))) == (7, 32)


# --- Positions

OFFSET = ["roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "roberta-prelayernorm", "data2vec-text", "xmod",
          "xlm-roberta-xl"]  # fmt: skip


@pytest.mark.parametrize("kind", ["bert", "distilbert", "electra", "albert", "deberta-v2", "convbert", *OFFSET])
def test_positions_are_the_rows_that_a_text_can_use(kind):
    """The embeddings themselves tell: as many tokens go through, and one more does not."""
    config = transformers.AutoConfig.for_model(kind, **SMALL | ({"languages": ["en_XX"]} if kind == "xmod" else {}))
    most = 40 - 2 * (kind in OFFSET)
    assert backbone.limit(config) == most
    model = transformers.AutoModel.from_config(config)
    assert backbone.first_position(model) == (2 if kind in OFFSET else 0)
    ids = torch.full((1, most + 1), 5)
    model.embeddings(ids[:, :-1])
    with pytest.raises((IndexError, RuntimeError)):
        model.embeddings(ids)


def test_relative_positions_have_no_end():
    configs = (
        transformers.T5Config(),
        transformers.XLNetConfig(),
        transformers.DebertaV2Config(position_biased_input=False),
    )
    assert [backbone.limit(config) for config in configs] == [None, None, None]
    assert backbone.limit(transformers.ModernBertConfig(max_position_embeddings=8192)) == 8192
    assert backbone.limit(backbone.config(backbone.folder("minilm"))) == 512


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta", "camembert", "electra", "bert", "data2vec-text"])
def test_with_a_prefix_tokens_keep_their_positions(kind):
    """A prefix as long as the positions that are left, so that counting it would run past the table."""
    ranker = BiEncoder(backbone.prepare(made(kind))).eval()
    ids, mask = torch.randint(5, 30, (2, 9)), torch.ones(2, 9, dtype=torch.long)
    ids[1, 6:], mask[1, 6:] = 1, 0
    seen = []
    ranker.transformer.embeddings.register_forward_hook(lambda module, given, out: seen.append(out[mask.bool()]))
    ranker.encode_queries({"input_ids": ids, "attention_mask": mask})
    adapters.attach(ranker, "prefix", 31, 0)
    ranker.encode_queries({"input_ids": ids, "attention_mask": mask})
    torch.testing.assert_close(seen[0], seen[1])


@pytest.mark.parametrize("kind", ["roformer", "mpnet", "deberta-v2", "distilbert"])
def test_a_backbone_whose_positions_cannot_be_given_takes_no_prefix(kind):
    with pytest.raises(ValueError, match="takes no prefix: give one like BERT"):
        adapters.attach(BiEncoder(made(kind)), "prefix", 3, 0)


@pytest.mark.parametrize("kind", ["distilbert", "camembert", "mpnet", "albert"])
def test_a_backbone_whose_projections_peft_does_not_know_has_lora_in_every_linear_layer(kind):
    ranker = BiEncoder(made(kind))
    adapters.attach(ranker, "lora", 3, 0)
    trained = [name for name, weight in ranker.named_parameters() if weight.requires_grad]
    assert trained and all("lora_" in name for name in trained)


# --- Layers and embeddings


@pytest.mark.parametrize("layers", [(), (0, 0), (3,), (-1,)])
def test_layers_that_cannot_be_are_refused(layers):
    with pytest.raises(ValueError, match="this backbone has layers 0 to 2; give one or more, each once"):
        backbone.prepare(made("bert"), layers)


def test_layers_that_are_one_cannot_be_chosen():
    with pytest.raises(ValueError, match="AlbertModel has no list of its 3 layers; give layers=None"):
        backbone.prepare(made("albert"), (0,))


@pytest.mark.parametrize(
    "kind", ["distilbert", "roberta", "electra", "mpnet", "deberta-v2", "modernbert", "longformer", "smollm3", "gpt2"]
)
def test_a_cut_model_is_opened_as_it_was(kind, tmp_path):
    """What a configuration says of each layer is cut with the layers."""
    settings = {"modernbert": {"global_attn_every_n_layers": 2}, "longformer": {"attention_window": [4, 8, 12]},
                "smollm3": {"no_rope_layers": [1, 1, 0], "num_key_value_heads": 2}}  # fmt: skip
    sizes = {"embedding_size": 16} if kind == "electra" else settings.get(kind, {})
    model = backbone.prepare(made(kind, **sizes).eval(), (0, 2))
    model.save_pretrained(tmp_path)
    again = backbone.encoder(tmp_path, whole=True).eval()
    tokens = {"input_ids": torch.randint(5, 30, (2, 24)), "attention_mask": torch.ones(2, 24, dtype=torch.long)}
    torch.testing.assert_close(model(**tokens).last_hidden_state, again(**tokens).last_hidden_state)


def test_a_layer_made_for_its_place_cannot_move():
    """ModernBERT's first has no norm before its attention."""
    with pytest.raises(ValueError, match="a layer of ModernBertModel is made for its place"):
        backbone.prepare(made("modernbert"), (1, 2))


def test_a_layer_whose_place_decides_a_constant_cannot_move():
    """DiffLlama's lambda grows with the depth of a layer, which is no weight."""
    with pytest.raises(ValueError, match="a layer of DiffLlamaModel is made for its place"):
        backbone.prepare(made("diffllama", num_key_value_heads=2), (1, 2))
    assert backbone.prepare(made("diffllama", num_key_value_heads=2), (0, 1)).config.num_hidden_layers == 2


@pytest.mark.parametrize("kind", ["starcoder2", "gpt_bigcode", "seed_oss", "bloom", "gpt2"])
def test_no_dropout_is_left_where_there_should_be_none(kind):
    names = (
        "residual_dropout",
        "embedding_dropout",
        "attention_dropout",
        "hidden_dropout",
        "attn_pdrop",
        "resid_pdrop",
    )
    settings = dict.fromkeys(names, 0.5) | {"num_key_value_heads": 2, "n_layer": 2, "n_head": 2, "n_embd": 32}
    model = backbone.prepare(made(kind, **settings), dropout=0.0).train()
    tokens = {"input_ids": torch.randint(5, 30, (2, 24)), "attention_mask": torch.ones(2, 24, dtype=torch.long)}
    first, second = (model(**tokens).last_hidden_state for _ in range(2))
    assert torch.equal(first, second)


def test_a_first_token_that_reads_no_other_is_no_texts_vector():
    with pytest.raises(ValueError, match="pooling='cls': the first token of a decoder has read no other"):
        BiEncoder(backbone.prepare(made("gpt2")), pooling="cls")


def test_scoring_changes_no_weight_that_is_saved():
    """RWKV divides those of its later layers at its first scoring."""
    model = backbone.prepare(made("rwkv", attention_hidden_size=32, rescale_every=1)).eval()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with torch.no_grad():
        model(torch.randint(5, 30, (2, 8)))
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize(
    "kind", ["bert", "distilbert", "roberta", "electra", "mpnet", "deberta-v2", "modernbert", "albert"]
)
def test_without_embeddings_nothing_before_the_first_layer_learns(kind):
    model = backbone.prepare(
        made(kind, **{"embedding_size": 16} if kind in ("electra", "albert") else {}), embeddings=False
    )
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    before = ("embeddings.", "embeddings_project.", "encoder.embedding_hidden_mapping_in.")
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith(before)}
    assert len(frozen) < len(list(model.parameters()))


@pytest.mark.parametrize("kind", ["T5Encoder", "XLNet", "Bart"])
def test_a_model_without_embeddings_of_its_own_is_refused(kind):
    config = getattr(transformers, f"{kind.removesuffix('Encoder')}Config")(
        vocab_size=30, d_model=32, n_embd=32, n_layer=1, num_layers=1, n_head=2, num_heads=2, d_ff=32, d_kv=16, d_inner=32,
        encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32,
    )  # fmt: skip
    with pytest.raises(
        ValueError, match=f"backbone {kind}Model has no embeddings of its own: give an encoder like BERT"
    ):
        backbone.prepare(getattr(transformers, f"{kind}Model")(config))


@pytest.mark.parametrize("kind", ["FNet", "Nystromformer", "ConvBert", "MobileBert", "Yoso"])
def test_a_model_whose_scores_depend_on_padding_is_refused(kind):
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=30, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    with pytest.raises(ValueError, match=f"backbone {kind}Model reads padding: .* give a backbone that masks padding"):
        backbone.prepare(getattr(transformers, f"{kind}Model")(config))


def test_a_teacher_in_another_folder_of_one_name_is_told_apart(tiny_backbone, tmp_path):
    for seed in (0, 1):
        models.build("cat", tiny_backbone, None, seed).save(tmp_path / str(seed), backbone.tokenizer(tiny_backbone), 32)
    prints = {backbone.fingerprint(str(tmp_path / str(seed))) for seed in (0, 1)}
    path = tmp_path / "0" / "ranker.json"
    path.write_text(path.read_text().replace("cat", "dot"))
    assert len(prints | {backbone.fingerprint(str(tmp_path / "0"))}) == 3
