"""Decoders and recurrent models as backbones: what is read of them, padding, templates, LoRA, and what is refused."""

import json
import string

import numpy as np
import pytest
import sentence_transformers
import tokenizers
import torch
import transformers

from lib import models
from lib.data import collections, groups
from lib.models import adapters, backbone, tokens
from lib.models.tokens import Pattern
from lib.study import export, rankers, runs
from lib.study.experiment import Data, Experiment, Model, Untrained, vary
from lib.study.sources import Draws
from lib.training import scoring
from lib.training.settings import Adapter
from tests import kit
from tests.conftest import WORDS

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.2}
DECODER = {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 64,
           "head_dim": 16}  # fmt: skip
DECODERS = ("gpt2", "llama", "qwen2", "qwen3", "mistral", "gemma")
RECURRENT = ("mamba", "mamba2", "rwkv", "recurrent_gemma")
MAMBA = {"state_size": 4, "conv_kernel": 2, "expand": 2, "n_groups": 1, "head_dim": 16, "num_heads": 4, "chunk_size": 8}
OWN = {"mamba": MAMBA, "mamba2": MAMBA, "rwkv": {"attention_hidden_size": 32, "intermediate_size": 48}}
YES_NO = (("score", "yes_no"), ("yes", "yes"), ("no", "no"))


NAMES = ["<unk>", "</s>", "yes", "no", "query", "document", ":", "Query", "Document", "Relevant", *WORDS]


def tokenizer_of(kind, side):
    """Words as tokens and no special token but the end; Qwen's is byte-level BPE, whatever a folder says."""
    if kind.startswith("qwen"):
        words = tokenizers.Tokenizer(tokenizers.models.BPE())
        words.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        words.decoder = tokenizers.decoders.ByteLevel()
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=1000, special_tokens=["<unk>", "</s>"], initial_alphabet=alphabet
        )
        words.train_from_iterator([f"{name} {name} {name}" for name in NAMES[2:]] * 3, trainer)
        end = {"eos_token": "</s>", "pad_token": None}
        return transformers.PreTrainedTokenizerFast(tokenizer_object=words, padding_side=side, **end)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({name: at for at, name in enumerate(NAMES)}, "<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="</s>", unk_token="<unk>", padding_side=side
    )


def written(kind, folder, side="right"):
    """A random model of a family in the hub's layout, with a tokenizer without a padding token."""
    tokenizer_of(kind, side).save_pretrained(folder)
    fast = transformers.AutoTokenizer.from_pretrained(folder)
    end = fast.convert_tokens_to_ids("</s>")
    own = OWN.get(kind, DECODER)
    config = transformers.AutoConfig.for_model(
        kind, **SMALL, **own, vocab_size=len(fast) + 1, eos_token_id=end, bos_token_id=end, pad_token_id=None
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", params=[*DECODERS, *RECURRENT])
def family(request, tmp_path_factory):
    return written(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return written("qwen2", tmp_path_factory.mktemp("qwen"))


def model_of(folder, options=YES_NO, architecture="cat"):
    return Model(architecture, options, folder, max_length=32)


def scored(model, collection, pairs):
    ranker = rankers.ranker(Untrained(model)) if isinstance(model, Model) else model
    read = rankers.inputs(ranker, collection, model)
    return scoring.score(ranker, read, *map(np.array, zip(*pairs, strict=True)))


PAIRS = [("q0", "d0"), ("q0", "d1"), ("q1", "d7"), ("q5", "d2")]


def test_a_family_without_an_attention_keeps_its_own(family):
    ranker = models.build("dot", family, None, 0)
    for implementation in ("eager", "sdpa", "flash_attention_2"):
        ranker.set_attention(implementation)
    assert ranker.transformer.config._attn_implementation in ("eager", "sdpa")


def test_the_families_are_causal_and_encoders_are_not(family, tiny_backbone):
    assert backbone.is_causal(transformers.AutoConfig.from_pretrained(family))
    for kind in ("bert", "electra", "modernbert", "deberta-v2", "xlm-roberta", "distilbert", "mpnet"):
        assert not backbone.is_causal(transformers.AutoConfig.for_model(kind)), kind


def test_yes_minus_no_is_what_the_language_model_says(family, tiny_collection, float32):
    collection, model = collections.load(tiny_collection), model_of(family)
    read = rankers.inputs(rankers.ranker(Untrained(model)), collection, model)
    whole = transformers.AutoModelForCausalLM.from_pretrained(family).eval()
    yes, no = (backbone.tokenizer(family)(word, add_special_tokens=False)["input_ids"][0] for word in ("yes", "no"))
    wanted = []
    for query, document in PAIRS:
        batch = read.batch(read.queries.rows([query]), read.documents.rows([document])[:, None])
        ids = batch["input_ids"][:, : batch["attention_mask"].sum()]
        with torch.inference_mode():
            logits = whole(input_ids=ids, use_cache=False).logits[0, -1]
        wanted.append(float(logits[yes] - logits[no]))
    assert scored(model, collection, PAIRS) == pytest.approx(np.array(wanted), abs=1e-4)


def test_scores_do_not_depend_on_the_batch_or_on_padding(family, tiny_collection, float32):
    collection, model = collections.load(tiny_collection), model_of(family)
    together = scored(model, collection, PAIRS)
    alone = [scored(model, collection, [pair])[0] for pair in PAIRS]
    assert together == pytest.approx(np.array(alone), abs=1e-4)
    ranker = rankers.ranker(Untrained(model))
    batch = rankers.inputs(ranker, collection, model).batch(np.array([0]), np.array([[1]]))
    wide = {
        name: torch.cat([part, torch.full((1, 16), 7 if name == "input_ids" else 0)], 1) for name, part in batch.items()
    }
    with torch.inference_mode():
        torch.testing.assert_close(ranker(wide), ranker(batch), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "qwen2"])
def test_the_side_on_which_a_tokenizer_pads_changes_nothing(kind, tiny_collection, tmp_path):
    collection = collections.load(tiny_collection)
    folders = [written(kind, tmp_path / side, side) for side in ("left", "right")]
    left, right = (scored(model_of(folder), collection, PAIRS) for folder in folders)
    assert left.tolist() == right.tolist()


@pytest.mark.parametrize("kind", ["gemma2", "granite", "cohere", "opt"])
def test_what_a_family_does_after_its_head_counts_too(kind, tiny_collection, tmp_path, float32):
    """Gemma 2 caps its logits, Granite and Cohere scale them, OPT wraps its decoder once more."""
    test_yes_minus_no_is_what_the_language_model_says(written(kind, tmp_path), tiny_collection, float32)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "mistral"])
@pytest.mark.parametrize("unknown", ["<unk>", None])
def test_a_head_reads_the_last_token_as_transformers_does(kind, unknown, tiny_collection, tmp_path, float32):
    collection, folder = collections.load(tiny_collection), written(kind, tmp_path)
    if unknown is None:  # what pads is the end then, and no text ends with it
        about = json.loads((tmp_path / "tokenizer_config.json").read_text()) | {"unk_token": "</s>"}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(about))
    ranker, tokenizer = models.build("cat", folder, None, 3), backbone.tokenizer(folder)
    read = rankers.inputs(ranker, collection, model_of(folder, ()))
    batch = read.batch(np.array([0, 1]), np.array([[0], [1]]))
    ends = batch["input_ids"][torch.arange(2), batch["attention_mask"].sum(1) - 1]
    assert tokenizer.pad_token_id is not None and (tokenizer.pad_token == "</s>") == (unknown is None)
    assert all((end == tokenizer.eos_token_id) == (unknown is not None) for end in ends)
    padding = {"input_ids": tokenizer.pad_token_id, "attention_mask": 0}
    batch = {name: torch.cat([part, torch.full((2, 3), padding[name])], 1) for name, part in batch.items()}
    with torch.inference_mode():
        torch.testing.assert_close(ranker(batch), ranker.transformer(**batch).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_recurrent_model_gets_a_head_on_its_last_token(kind, tiny_collection, tmp_path, float32):
    folder = written(kind, tmp_path)
    ranker, plain = models.build("cat", folder, None, 3), transformers.AutoModel.from_pretrained(folder).eval()
    batch = rankers.inputs(ranker, collections.load(tiny_collection), model_of(folder, ())).batch(
        np.array([0]), np.array([[0, 1, 2]])
    )
    for row in range(3):
        ids = batch["input_ids"][row : row + 1, : batch["attention_mask"][row].sum()]
        with torch.inference_mode():
            wanted = ranker.transformer.score(plain(input_ids=ids, use_cache=False).last_hidden_state[:, -1])
            torch.testing.assert_close(ranker(batch, 3)[:, row : row + 1], wanted, rtol=1e-4, atol=1e-4)
    assert (
        ranker.transformer.score.weight.tolist()
        == models.build("cat", folder, None, 3).transformer.score.weight.tolist()
    )


def test_a_classifier_that_reads_otherwise_is_refused(tmp_path):
    folder = written("ctrl", tmp_path)
    with pytest.raises(ValueError, match="CTRLForSequenceClassification is no linear layer `score` on the last token"):
        models.build("cat", folder, None, 0)


@pytest.mark.parametrize("architecture, options, said", [
    ("colbert", {"masks": 0, "dim": 16}, None), ("tk", {"heads": 2}, None),
    ("colbert", {"dim": 16}, "tokenizer .* has no \\[MASK\\] token; give masks=0"),
    ("prettr", {}, "PreTTR cannot run a .* backbone layer by layer"),
])  # fmt: skip
def test_other_architectures_take_a_family_or_refuse_it_by_name(
    family, architecture, options, said, tiny_collection, float32
):
    if said:
        with pytest.raises(ValueError, match=said):
            models.build(architecture, family, None, 0, **options)
        return
    collection, model = collections.load(tiny_collection), model_of(family, tuple(options.items()), architecture)
    together = scored(model, collection, PAIRS)
    assert len(set(together.tolist())) > 1
    assert together == pytest.approx([scored(model, collection, [pair])[0] for pair in PAIRS], abs=1e-4)


@pytest.mark.parametrize("kind, architecture, options", [
    *((kind, "cat", ()) for kind in (*DECODERS, *RECURRENT)), ("qwen3", "cat", YES_NO), ("mamba", "cat", YES_NO),
    *((kind, "dot", (("pooling", "last"), ("query_prompt", "query : "))) for kind in ("qwen3", "mamba")),
])  # fmt: skip
def test_a_causal_ranker_learns_and_is_kept(kind, architecture, options, tiny_collection, tmp_path):
    family = written(kind, tmp_path / "model")
    run = Experiment("info_nce", data=Data(tiny_collection, 16, 3), model=model_of(family, options, architecture))
    run = vary(run, batch_size=4, epochs=6, learning_rate=3e-3, embeddings=True)
    runs.complete([run])
    steps = runs.history(run)
    assert steps["loss"].tail(4).mean() < steps["loss"].head(4).mean()
    collection = collections.load(tiny_collection)
    ranker = rankers.ranker(run)
    kept = scoring.score(
        ranker, rankers.inputs(ranker, collection, run.model), *map(np.array, zip(*PAIRS, strict=True))
    )
    before = scored(run.model, collection, PAIRS)
    assert np.isfinite(kept).all() and not np.allclose(kept, before)


@pytest.mark.parametrize("kind, options", [
    ("bert", ()), ("qwen2", ()), ("qwen2", YES_NO), ("gpt2", ()), ("mixtral", ()), ("mamba", ()), ("mamba2", YES_NO),
    ("rwkv", ()), ("recurrent_gemma", ()),
])  # fmt: skip
def test_lora_trains_its_own_weights_and_the_head_and_is_restored(
    kind, options, tiny_collection, tiny_backbone, tmp_path
):
    folder = tiny_backbone if kind == "bert" else written(kind, tmp_path / "model")
    collection = collections.load(tiny_collection)
    run = Experiment("info_nce", data=Data(tiny_collection, 8, 3), model=model_of(folder, options))
    run = vary(run, batch_size=4, learning_rate=1e-2, adapter=Adapter("lora", 2), embeddings=True)
    ranker = rankers.at_start(run)
    adapters.attach(ranker, "lora", 2, 0)
    trained = {name for name, weight in ranker.named_parameters() if weight.requires_grad}
    assert any("lora_" in name for name in trained) and any("score" in name for name in trained) == (
        kind != "bert" and not options
    )
    assert all("lora_" in name or name.startswith(("transformer.score", "transformer.classifier")) for name in trained)
    runs.complete([run])
    again = rankers.ranker(run)
    read = rankers.inputs(again, collection, run.model)
    first = scoring.score(again, read, *map(np.array, zip(*PAIRS, strict=True)))
    assert not np.allclose(first, scored(run.model, collection, PAIRS), atol=1e-4)
    export.write(run, tmp_path / "exported")
    opened = models.load(tmp_path / "exported")
    second = scoring.score(
        opened, rankers.inputs(opened, collection, run.model), *map(np.array, zip(*PAIRS, strict=True))
    )
    assert second == pytest.approx(first, abs=1e-5)


@pytest.mark.parametrize("kind", ["qwen3", "llama", "mamba"])
def test_a_saved_bi_encoder_gives_the_same_vectors_in_sentence_transformers(kind, tmp_path, float32):
    """Its tokenizer puts the end-of-text token itself then, pads with a token of its own, and both prompts are known."""
    folder, kept, texts = written(kind, tmp_path / "model"), tmp_path / "kept", {"a": "alpha beta gamma", "b": "delta"}
    ranker = models.build("dot", folder, None, 0, pooling="last", query_prompt="query : ")
    fast = backbone.tokenizer(folder)
    ranker.save(kept, fast, 32)
    stores = [tokens.tokenise(texts, fast, side, lead) for side, lead in zip("qd", ranker.leads(fast), strict=True)]
    theirs, again = sentence_transformers.SentenceTransformer(str(kept)), backbone.tokenizer(str(kept))
    for read in (ranker.inputs(*stores, fast, 32), ranker.inputs(*stores, again, 32)):
        rows = np.arange(2)
        with torch.inference_mode():
            queries = ranker.encode_queries(read.query_side.batch(rows)).values[:, 0]
            documents = ranker.encode_documents(read.document_side.batch(rows)).values[:, 0]
        assert queries.numpy() == pytest.approx(theirs.encode(list(texts.values()), prompt_name="query"), abs=1e-4)
        assert documents.numpy() == pytest.approx(theirs.encode(list(texts.values())), abs=1e-4)


def test_a_folder_that_lacks_the_later_options_has_their_defaults(tiny_backbone, tmp_path):
    models.build("dot", tiny_backbone, None, 0).save(tmp_path, backbone.tokenizer(tiny_backbone), 32)
    (tmp_path / "ranker.json").write_text(
        '{"architecture": "dot", "options": {"pooling": "mean", "similarity": "dot", "scale": 1.0}, "prefix": false}'
    )
    assert models.load(tmp_path).options["query_prompt"] == ""


# --- Templates


def test_a_template_is_kept_whole_and_the_document_is_cut(qwen, tiny_collection):
    collection = collections.load(tiny_collection)
    ranker = models.build("cat", qwen, None, 0, template="document: {query} query: {document} yes</s>")
    read = rankers.inputs(ranker, collection, Model(options=(), backbone=qwen, max_length=12))
    ids = read.batch(np.array([0]), np.array([[0]]))["input_ids"][0].tolist()
    fast = backbone.tokenizer(qwen)
    words = fast.convert_ids_to_tokens([number for number in ids if number != 0])
    assert words[:2] == ["document", ":"] and words[-2:] == ["Ġyes", "</s>"] and "Ġquery" in words and len(words) == 12


def spelled(kind):
    """Tokenizers that treat a word after a space in their own ways."""
    before, made = tokenizers.pre_tokenizers, tokenizers.Tokenizer(tokenizers.models.BPE())
    if kind.startswith("byte-level"):  # GPT-2, Qwen, Llama 3
        made.pre_tokenizer = before.ByteLevel(add_prefix_space=kind.endswith("prefix"))
        alphabet = before.ByteLevel.alphabet()
    else:  # XLM-R, T5, Gemma; "prepend": Llama 1 and 2
        made.pre_tokenizer = before.Metaspace(prepend_scheme="always" if kind == "prepend" else kind)
        alphabet = [*string.ascii_letters, "\u2581", ":"]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=500, special_tokens=["</s>", "<|user|>"], initial_alphabet=alphabet
    )
    made.train_from_iterator([f"{a} {b}" for a in NAMES for b in NAMES], trainer)
    if kind == "prepend":
        normal = tokenizers.normalizers
        made.normalizer = normal.Sequence([normal.Prepend("\u2581"), normal.Replace(" ", "\u2581")])
        made.pre_tokenizer = before.Split("\n", "isolated")  # a tokenizer that has one cannot be given none
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", pad_token="</s>")


SPELLINGS = ["byte-level", "byte-level with a prefix", "always", "first", "prepend", "word-piece", "word-level"]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("template", [
    "query: {query} document: {document}", "<|user|>query: {query} document: {document} Relevant:</s>",
    "Document: query {query} one two document: {document} Query :",
])  # fmt: skip
def test_tokens_of_the_parts_are_those_of_the_whole(spelling, template, tiny_collection, tiny_backbone):
    collection = collections.load(tiny_collection)
    fast = {
        "word-piece": lambda: backbone.tokenizer(tiny_backbone),
        "word-level": lambda: tokenizer_of("gpt2", "right"),
    }
    fast = fast.get(spelling, lambda: spelled(spelling))()
    pattern = Pattern.of_template(fast, template)
    stores = [
        tokens.tokenise(texts, fast, name, lead)
        for texts, name, lead in zip((collection.queries, collection.documents), "qd", pattern.leads, strict=True)
    ]
    batch = tokens.PairTokens(*stores, pattern, 200, None).batch(np.array([3]), np.array([[5, 9]]))
    for row, document in enumerate(["d5", "d9"]):
        text = template.format(query=collection.queries["q3"], document=collection.documents[document])
        assert batch["input_ids"][row, : batch["attention_mask"][row].sum()].tolist() == fast(text)["input_ids"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_prompt_is_read_with_its_text(spelling, tiny_backbone):
    fast = {
        "word-piece": lambda: backbone.tokenizer(tiny_backbone),
        "word-level": lambda: tokenizer_of("gpt2", "right"),
    }
    fast = fast.get(spelling, lambda: spelled(spelling))()
    (before, after), (lead,) = tokens.pieces(fast, ["query: ", ""], special=False)
    own = fast(lead + "alpha beta", add_special_tokens=False)["input_ids"]
    assert [*before, *own, *after] == fast("query: alpha beta", add_special_tokens=False)["input_ids"]


def test_a_field_that_its_neighbours_change_is_refused():
    with pytest.raises(ValueError, match="other tokens within 'query:one two' than by itself: put a space before"):
        Pattern.of_template(spelled("prepend"), "query:{query} {document}")


@pytest.mark.parametrize(
    "template", ["{query}", "{document} {query}", "{query} {document} {query}", "{query} {other} {document}"]
)
def test_a_template_has_both_texts_once_and_in_order(qwen, template):
    with pytest.raises(ValueError, match="give a text with {query} and then {document}, each once"):
        Pattern.of_template(backbone.tokenizer(qwen), template)


def test_an_encoder_takes_a_template_too(tiny_backbone, tiny_collection):
    fast = backbone.tokenizer(tiny_backbone)
    pattern = Pattern.of_template(fast, "{query} [SEP] {document}")
    assert pattern.before == (fast.cls_token_id,) and pattern.between == pattern.after == (fast.sep_token_id,)


# --- What is refused


@pytest.mark.parametrize("architecture, options, said", [
    ("cat", {"score": "yes_no", "yes": "yes no", "no": "no"}, "'yes no' is 2 tokens of this tokenizer"),
    ("cat", {"score": "maybe"}, "score='maybe' with backbone qwen2: give one of head, yes_no"),
])  # fmt: skip
def test_what_a_decoder_cannot_be_is_refused_by_name(qwen, architecture, options, said):
    with pytest.raises(ValueError, match=said):
        models.build(architecture, qwen, None, 0, **options)


def test_an_encoder_has_no_yes_and_no(tiny_backbone):
    with pytest.raises(ValueError, match="score='yes_no': bert is no causal model"):
        models.build("cat", tiny_backbone, None, 0, score="yes_no")


def test_a_prefix_is_refused(qwen):
    with pytest.raises(ValueError, match="takes no prefix"):
        adapters.attach(models.build("dot", qwen, None, 0), "prefix", 2, 0)


def test_groups_are_the_same_for_every_backbone(qwen, tiny_collection):
    assert len(groups.build(collections.load(tiny_collection), count=8, docs=3)) == 8


@pytest.mark.parametrize(("kind", "drops"), [("qwen2", True), ("llama", True), ("mamba", False)])
def test_dropout_reaches_what_has_no_module_for_it_and_draws_need_some(kind, drops, tmp_path, tiny_collection, float32):
    run = kit.experiment("info_nce", backbone=written(kind, tmp_path), collection=tiny_collection, group_count=8, docs=3,
                         batch_size=4, max_length=32, learning_rate=1e-4)  # fmt: skip
    made = kit.training_groups(run)
    kit.complete([run])
    draws = Draws(run, 3, 0.3)
    if drops:
        assert np.ptp(draws.scores(made, collections.load(tiny_collection)), -1).min() > 0
    else:
        with pytest.raises(ValueError, match="all draws are equal, since its backbone has no dropout"):
            draws.scores(made, collections.load(tiny_collection))
