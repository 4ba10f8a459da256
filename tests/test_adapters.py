"""LoRA and prefix tuning: what learns and what does not, by hand and against peft's own, merging, saving."""

import copy
import json
import warnings

import numpy as np
import peft
import pytest
import torch
import transformers

from lib import models
from lib.models import adapters, backbone
from lib.models.bi_encoder import BiEncoder
from lib.training import scoring
from tests import kit
from tests.conftest import padded, same_weights

OPTIONS = {"cat": {}, "dot": {}, "colbert": {"dim": 16, "masks": 4}, "prettr": {"offset": 16}}
NEW = {
    "cat": {"transformer.classifier.weight", "transformer.classifier.bias"}, "dot": set(),
    "colbert": {"projection.weight"}, "prettr": {"transformer.classifier.weight", "transformer.classifier.bias"},
}  # fmt: skip
CASES = [(kind, architecture) for kind in adapters.KINDS for architecture in adapters.FITS[kind]]
BOTH = pytest.mark.parametrize(("kind", "architecture"), CASES, ids=[" ".join(case) for case in CASES])
PREFIX = pytest.mark.parametrize("architecture", adapters.FITS["prefix"])
SIZE = 3


pytestmark = pytest.mark.usefixtures("float32")


def build(architecture, kind, tiny_backbone, seed=0, layers=None):
    ranker = models.build(architecture, tiny_backbone, layers, 0, **OPTIONS[architecture])
    adapters.attach(ranker, kind, SIZE, seed)
    return ranker


def batch(ranker, found, tiny_backbone, count=6, width=32):
    layout = kit.inputs(ranker, found, tiny_backbone, width)
    documents = np.array(list(found.documents)[: count * 5]).reshape(count, 5)
    rows = layout.documents.rows(documents.ravel()).reshape(documents.shape)
    return layout.batch(layout.queries.rows(np.array(list(found.queries)[:count])), rows)


def scores(ranker, tokens):
    with torch.no_grad():
        return ranker(tokens, 5)


def train(ranker, tokens, steps=2):
    """Returns which parameters changed."""
    before = {name: weight.clone() for name, weight in ranker.named_parameters()}
    learning = [weight for weight in ranker.parameters() if weight.requires_grad]
    search = torch.optim.AdamW(learning, lr=0.05)
    for _ in range(steps):
        search.zero_grad()
        ranker(tokens, 5).square().mean().backward()
        search.step()
    return {name for name, weight in ranker.named_parameters() if not torch.equal(before[name], weight)}


def is_adapter(name):
    return "lora_" in name or name == "adapter.encoder.default.embedding.weight"


@BOTH
def test_only_the_adapter_and_what_is_new_learn(kind, architecture, tiny_backbone, found):
    ranker = build(architecture, kind, tiny_backbone)
    changed = train(ranker, batch(ranker, found, tiny_backbone))
    assert {name for name in changed if not is_adapter(name)} == NEW[architecture]
    ours = {name for name, _ in ranker.named_parameters() if is_adapter(name)}
    assert ours <= changed and len(ours) == (1 if kind == "prefix" else 2 * 2 * 2)  # layers, projections, A and B
    sizes = {name: weight.numel() for name, weight in ranker.named_parameters()}
    assert sum(sizes[name] for name in ours) == (SIZE * 2 * 2 * 32 if kind == "prefix" else 2 * 2 * SIZE * (32 + 32))
    assert sum(sizes[name] for name in changed) < 0.1 * sum(sizes.values())


@BOTH
def test_equal_seeds_give_equal_adapters(kind, architecture, tiny_backbone):
    state = torch.get_rng_state()
    first, same, other = (build(architecture, kind, tiny_backbone, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], same[name]) for name in first)
    differ = {name for name in first if not torch.equal(first[name], other[name])}
    assert differ == {name for name in first if is_adapter(name) and "lora_B" not in name}


@BOTH
def test_a_score_depends_on_its_pair_alone(kind, architecture, tiny_backbone, found):
    ranker = build(architecture, kind, tiny_backbone)
    train(ranker, batch(ranker, found, tiny_backbone))
    layout = kit.inputs(ranker, found, tiny_backbone, 32)
    documents, queries = np.array(list(found.documents)[:30]).reshape(6, 5), np.array(list(found.queries)[:6])
    for attention in ("eager", "sdpa"):
        ranker.set_attention(attention)
        assert ranker.transformer.base_model.config._attn_implementation == attention
        whole = scoring.score(ranker, layout, queries[:, None], documents)
        alone = scoring.score(ranker, layout, queries[:, None], documents, batch_size=1)
        np.testing.assert_allclose(whole, alone, atol=1e-5, rtol=1e-5)
        tokens = batch(ranker, found, tiny_backbone)
        np.testing.assert_allclose(whole, scores(ranker, tokens), atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(whole, scores(ranker, padded(tokens, 16)), atol=1e-5, rtol=1e-5)
        assert whole.std() > 0


# --- LoRA


@pytest.mark.parametrize("architecture", adapters.FITS["lora"])
def test_lora_is_merged(architecture, tiny_backbone, found, tmp_path):
    plain = models.build(architecture, tiny_backbone, None, 0, **OPTIONS[architecture])
    ranker = build(architecture, "lora", tiny_backbone)
    tokens = batch(ranker, found, tiny_backbone)
    np.testing.assert_allclose(scores(ranker, tokens), scores(plain, tokens), atol=1e-6, rtol=1e-5)  # B is zero
    assert any("query" in name for name in train(ranker, tokens))
    with pytest.raises(ValueError, match="call lib.models.adapters.finish before saving"):
        ranker.save(tmp_path / "early", backbone.tokenizer(tiny_backbone), 32)
    learnt = scores(ranker, tokens)
    assert (learnt - scores(plain, tokens)).abs().max() > 1e-2
    adapters.finish(ranker)
    assert ranker.adapter is None and type(ranker.transformer) is type(plain.transformer)
    assert [type(module) for module in ranker.modules()] == [type(module) for module in plain.modules()]
    assert list(ranker.state_dict()) == list(plain.state_dict())
    trained = [{name for name, one in each.named_parameters() if one.requires_grad} for each in (ranker, plain)]
    assert trained[0] == trained[1]
    scale = max(1, learnt.abs().max().item())  # colbert sums over tokens
    np.testing.assert_allclose(scores(ranker, tokens), learnt, atol=1e-5 * scale, rtol=1e-5)
    ranker.save(tmp_path / "model", backbone.tokenizer(tiny_backbone), 32)
    assert not (tmp_path / "model" / "adapter").exists()
    again = models.load(tmp_path / "model")
    same_weights(again, ranker)
    np.testing.assert_allclose(scores(again, tokens), scores(ranker, tokens), atol=1e-5 * scale, rtol=1e-5)


def test_lora_by_hand(tiny_backbone, found):
    """alpha is twice the rank, so twice the product is added."""
    ranker = build("dot", "lora", tiny_backbone)
    train(ranker, batch(ranker, found, tiny_backbone))
    query = ranker.transformer.encoder.layer[1].attention.self.query
    wanted = query.base_layer.weight + 2 * query.lora_B["default"].weight @ query.lora_A["default"].weight
    assert query.lora_A["default"].weight.shape == (SIZE, 32)
    adapters.finish(ranker)
    torch.testing.assert_close(ranker.transformer.encoder.layer[1].attention.self.query.weight, wanted)


def test_after_lora_it_opens_in_sentence_transformers(tiny_backbone, found, tmp_path):
    from sentence_transformers import SentenceTransformer

    ranker = build("dot", "lora", tiny_backbone)
    tokens = batch(ranker, found, tiny_backbone)
    train(ranker, tokens)
    adapters.finish(ranker)
    ranker.save(tmp_path, backbone.tokenizer(tiny_backbone), 32)
    theirs = SentenceTransformer(str(tmp_path), device="cpu")
    asked = theirs.encode([found.queries[name] for name in list(found.queries)[:6]], show_progress_bar=False)
    with torch.no_grad():
        np.testing.assert_allclose(ranker.encode_queries(tokens["queries"])[0][:, 0], asked, atol=1e-5, rtol=1e-5)


# --- Prefix


def by_hand(encoder, weights, tokens):
    """BERT's layers, with `weights` (size, 2 * layers * dim) as keys and values before their own."""
    hidden, shown = encoder.embeddings(input_ids=tokens["input_ids"]), tokens["attention_mask"].bool()
    shown = torch.cat([torch.ones(len(shown), SIZE, dtype=torch.bool), shown], 1)[:, None, None]
    parts = weights.view(SIZE, -1, 2, 16).permute(1, 2, 0, 3)  # keys and values by turns, (heads, size, 16)
    for number, layer in enumerate(encoder.encoder.layer):
        own = layer.attention.self
        query, key, value = (
            part(hidden).unflatten(-1, (2, 16)).transpose(1, 2) for part in (own.query, own.key, own.value)
        )
        more = [parts[2 * number + which].expand(len(hidden), -1, -1, -1) for which in (0, 1)]
        weight = query @ torch.cat([more[0], key], 2).transpose(2, 3) / 4
        mixed = weight.masked_fill(~shown, -torch.inf).softmax(-1) @ torch.cat([more[1], value], 2)
        attended = layer.attention.output(mixed.transpose(1, 2).flatten(2), hidden)
        hidden = layer.output(layer.intermediate(attended), attended)
    return hidden


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("layers", [None, (1,), (1, 0)], ids=str)
def test_a_prefix_by_hand(attention, layers, tiny_backbone, found):
    """Of every layer, also where some of the backbone's are dropped or change places."""
    ranker = build("dot", "prefix", tiny_backbone, layers=layers)
    ranker.set_attention(attention)
    weights = ranker.adapter.encoder["default"].embedding.weight
    assert weights.shape == (SIZE, 2 * len(layers or (0, 1)) * 32)
    torch.nn.init.normal_(weights)
    plain = models.build("dot", tiny_backbone, layers, 0).transformer
    tokens = padded(batch(ranker, found, tiny_backbone)["documents"], 3)
    with torch.no_grad():
        hidden = ranker.transformer(**tokens).last_hidden_state
        torch.testing.assert_close(hidden, by_hand(plain, weights, tokens), atol=1e-5, rtol=1e-5)
        assert (hidden - plain(**tokens).last_hidden_state).abs().max() > 0.1


@PREFIX
def test_every_part_of_a_prefix_learns(architecture, tiny_backbone, found):
    ranker = build(architecture, "prefix", tiny_backbone)
    tokens = batch(ranker, found, tiny_backbone)
    before = scores(ranker, tokens)
    weight = ranker.adapter.encoder["default"].embedding.weight
    ranker(tokens, 5).square().mean().backward()
    assert (weight.grad.view(SIZE, 4, 32).norm(dim=-1) > 0).all()  # every token, both layers, keys and values
    with torch.no_grad():
        weight[:, :32] += 1  # the first layer's keys
    assert (scores(ranker, tokens) - before).abs().max() > 1e-4


@PREFIX
def test_a_prefix_is_saved_and_opened(architecture, tiny_backbone, found, tmp_path, capfd):
    ranker = build(architecture, "prefix", tiny_backbone)
    tokens = batch(ranker, found, tiny_backbone)
    train(ranker, tokens)
    adapters.finish(ranker)  # nothing to merge
    ranker.save(tmp_path, backbone.tokenizer(tiny_backbone), 32)
    state = torch.get_rng_state()
    again = models.load(tmp_path)
    assert torch.equal(torch.get_rng_state(), state) and capfd.readouterr() == ("", "")
    same_weights(again, ranker)
    torch.testing.assert_close(scores(again, tokens), scores(ranker, tokens), atol=1e-4, rtol=1e-5)
    assert not again.training
    learning, whole = (
        [name for name, weight in one.named_parameters() if weight.requires_grad] for one in (again, ranker)
    )
    assert learning == whole
    assert sorted(file.name for file in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    assert tiny_backbone not in (tmp_path / "adapter" / "adapter_config.json").read_text()
    plain = backbone.encoder(tmp_path)  # the weights beside it are the backbone's, as ever
    start = backbone.encoder(backbone.folder(tiny_backbone)).state_dict()
    assert all(torch.equal(weight, start[name]) for name, weight in plain.state_dict().items())


def test_peft_opens_a_saved_prefix(tiny_backbone, found, tmp_path):
    """Its own wrapper counts positions from after the prefix, so it is given those before."""
    ranker = build("dot", "prefix", tiny_backbone)
    tokens = batch(ranker, found, tiny_backbone)["documents"]
    torch.nn.init.normal_(ranker.adapter.encoder["default"].embedding.weight)
    ranker.save(tmp_path, backbone.tokenizer(tiny_backbone), 32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        theirs = peft.PeftModel.from_pretrained(backbone.encoder(tmp_path), str(tmp_path / "adapter")).eval()
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["num_virtual_tokens"] == SIZE
    places = torch.arange(tokens["input_ids"].shape[1]).expand_as(tokens["input_ids"]) - SIZE
    with torch.no_grad():
        hidden = theirs(**tokens, position_ids=places).last_hidden_state
        torch.testing.assert_close(ranker.transformer(**tokens).last_hidden_state, hidden)


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "Electra"])
def test_tokens_keep_their_positions(kind):
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=30, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=12, embedding_size=32,
    )  # fmt: skip
    ranker = BiEncoder(getattr(transformers, f"{kind}Model")(config)).eval()
    ids, mask = torch.randint(5, 30, (2, 9)), torch.ones(2, 9, dtype=torch.long)
    ids[1, 6:], mask[1, 6:] = config.pad_token_id, 0
    seen = []
    ranker.transformer.embeddings.register_forward_hook(lambda module, given, out: seen.append(out[mask.bool()]))
    without = ranker.encode_queries({"input_ids": ids, "attention_mask": mask})[0]
    adapters.attach(ranker, "prefix", 7, 0)  # more than there are positions left
    torch.nn.init.normal_(ranker.adapter.encoder["default"].embedding.weight)
    assert (ranker.encode_queries({"input_ids": ids, "attention_mask": mask})[0] - without).abs().max() > 1e-3
    torch.testing.assert_close(seen[0], seen[1])


# --- Both


@BOTH
def test_a_copy_has_an_adapter_of_its_own(kind, architecture, tiny_backbone, found):
    """Momentum needs that: the copy lags behind."""
    ranker = build(architecture, kind, tiny_backbone)
    tokens = batch(ranker, found, tiny_backbone)
    train(ranker, tokens)
    other, before = copy.deepcopy(ranker), scores(ranker, tokens)
    torch.testing.assert_close(scores(other, tokens), before, atol=1e-4, rtol=1e-5)
    with torch.no_grad():
        for name, weight in other.named_parameters():
            if is_adapter(name):
                weight += 1
    torch.testing.assert_close(scores(ranker, tokens), before, atol=1e-4, rtol=1e-5)
    assert (scores(other, tokens) - before).abs().max() > 1e-2


@BOTH
def test_scores_stay_float32_under_autocast(kind, architecture, tiny_backbone, found):
    ranker = build(architecture, kind, tiny_backbone)
    tokens = batch(ranker, found, tiny_backbone)
    train(ranker, tokens)
    exact = scores(ranker, tokens)
    for attention in ("eager", "sdpa"):
        ranker.set_attention(attention)
        with torch.autocast("cpu", torch.bfloat16):
            rough = scores(ranker, tokens)
        assert rough.dtype == torch.float32
        assert torch.corrcoef(torch.stack([rough.flatten(), exact.flatten()]))[0, 1] > 0.99


def test_what_cannot_be_is_refused(tiny_backbone):
    with pytest.raises(ValueError, match="architecture prettr cannot take a prefix: give one of cat, dot, colbert"):
        adapters.attach(models.build("prettr", tiny_backbone, None, 0), "prefix", 4, 0)
    for kind in adapters.KINDS:
        with pytest.raises(ValueError, match=f"architecture tk cannot take a {kind}: give one of cat, dot, colbert"):
            adapters.attach(models.build("tk", tiny_backbone, None, 0, heads=4), kind, 4, 0)
    other = transformers.DistilBertModel(transformers.DistilBertConfig(vocab_size=30, dim=32, n_layers=1, n_heads=2))
    with pytest.raises(ValueError, match="DistilBertModel takes no prefix: give one like BERT"):
        adapters.attach(BiEncoder(other), "prefix", 4, 0)


def test_a_second_adapter_is_refused(tiny_backbone):
    ranker = models.build("dot", tiny_backbone, None, 0)
    adapters.attach(ranker, "lora", 4, 0)
    with pytest.raises(ValueError, match="has an adapter already"):
        adapters.attach(ranker, "prefix", 4, 0)


def test_what_peft_does_not_know_has_lora_in_every_linear_layer(tiny_backbone, monkeypatch):
    ranker = models.build("dot", tiny_backbone, None, 0)
    linear = sum(isinstance(module, torch.nn.Linear) for module in ranker.modules())
    monkeypatch.setattr(peft.utils, "TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING", {})
    adapters.attach(ranker, "lora", 4, 0)
    found = [name for name, weight in ranker.named_parameters() if weight.requires_grad]
    assert len(found) == 2 * linear and all("lora_" in name for name in found)
