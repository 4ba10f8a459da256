"""PreTTR on every family of encoders that it takes: the cross-encoder's scores without a split; others are refused."""

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from lib import models
from lib.models import backbone, prettr, weights
from lib.training import scoring
from tests import kit

SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 64, "initializer_range": 0.2,
}  # fmt: skip
OWN = {
    "electra": {"embedding_size": 16},
    "distilbert": {"hidden_dim": 64},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "albert": {"embedding_size": 16},
}
# What their own tokenizers give; a RoBERTa with two rows of types still reads type 0 alone.
WITH_TYPES = {"bert", "electra", "deberta-v2", "albert"}


def folder_of(kind, folder, **settings):
    """A random encoder of a family in the hub's layout, with a tokenizer of words."""
    # Padding is number 1, as in RoBERTa: its positions then begin at 2.
    words = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta"]
    names = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer = transformers.BertTokenizerFast(
        vocab={word: number for number, word in enumerate(words)},
        model_input_names=names if kind in WITH_TYPES else names[::2],
    )
    tokenizer.save_pretrained(folder)
    config = transformers.AutoConfig.for_model(
        kind, vocab_size=len(words), pad_token_id=1, **SIZES | OWN.get(kind, {}) | settings
    )
    with torch.random.fork_rng(), weights.quiet():
        torch.manual_seed(0)
        transformers.AutoModel.from_config(config).save_pretrained(folder)
    return str(folder)


def both(name, found, offset):
    """Scores of the cross-encoder and of PreTTR without a split."""
    queries, documents = np.array(list(found.queries)[:4]), np.array(list(found.documents)[:12]).reshape(4, 3)
    rankers = (models.build("cat", name, None, 5), models.build("prettr", name, None, 5, split=0, offset=offset))
    return [scoring.score(one, kit.inputs(one, found, name, 32), queries[:, None], documents) for one in rankers]


@pytest.mark.parametrize("kind", prettr.FAMILIES)
def test_without_a_split_every_family_is_its_cross_encoder(kind, found, tmp_path, float32):
    name = folder_of(kind, tmp_path)
    cat, late = both(name, found, offset=4)  # [CLS], two words, [SEP]
    assert cat.std() > 1e-2
    np.testing.assert_allclose(cat, late, atol=1e-5, rtol=1e-5)


def test_a_tokenizer_that_gives_a_pair_one_type_is_followed(found, tmp_path, float32):
    name = folder_of("bert", tmp_path)
    tokenizer = transformers.BertTokenizerFast.from_pretrained(name)
    ends = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ends
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, model_input_names=tokenizer.model_input_names,
        **tokenizer.special_tokens_map,
    ).save_pretrained(name)  # fmt: skip
    cat, late = both(name, found, offset=4)
    np.testing.assert_allclose(cat, late, atol=1e-5, rtol=1e-5)


def test_a_roberta_with_rows_for_types_reads_the_first_alone(found, tmp_path, float32):
    cat, late = both(folder_of("roberta", tmp_path, type_vocab_size=2), found, offset=4)
    np.testing.assert_allclose(cat, late, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "electra"])
def test_the_head_drops_out_as_the_cross_encoders_does(kind, found, tmp_path):
    drop = {"seq_classif_dropout": 0.5} if kind == "distilbert" else {"classifier_dropout": 0.5}
    name = folder_of(kind, tmp_path, **drop)
    cat, late = models.build("cat", name, None, 5), models.build("prettr", name, None, 5, split=0, offset=4)
    for ranker in (cat, late):
        for module in ranker.transformer.base_model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0

    def scores(ranker):
        layout = kit.inputs(ranker, found, name, 32)
        torch.manual_seed(1)
        return ranker(layout.batch(np.arange(4), np.arange(12).reshape(4, 3)), 3).detach()

    torch.testing.assert_close(scores(cat.train()), scores(late.train()), atol=1e-5, rtol=0)
    assert (scores(cat) - scores(cat.eval())).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["mpnet", "deberta-v2", "modernbert", "albert"])
def test_other_families_are_refused_by_name(kind, tmp_path):
    name = folder_of(kind, tmp_path)
    with pytest.raises(ValueError, match=f"a {kind} backbone layer by layer: give one of bert, camembert"):
        models.build("prettr", name, None, 0)


def test_a_decoder_is_refused(tmp_path):
    """It would be read in both directions, which it never was."""
    with pytest.raises(ValueError, match="PreTTR cannot run a bert"):
        models.build("prettr", folder_of("bert", tmp_path, is_decoder=True), None, 0)


@pytest.mark.parametrize("kind", prettr.FAMILIES)
def test_every_family_is_saved_and_opened(kind, found, tmp_path, float32):
    name = folder_of(kind, tmp_path / "start")
    model = models.build("prettr", name, (1, 0), 0, offset=6, split=1, embeddings=False)
    before_layers = {one for one, weight in model.named_parameters() if not weight.requires_grad}
    assert before_layers == {one for one, _ in model.named_parameters() if ".embeddings" in one}
    model.save(tmp_path / "model", backbone.tokenizer(name), 32)
    again = models.load(tmp_path / "model")
    layout = kit.inputs(model, found, name, 32)
    queries, documents = np.array(list(found.queries)[:2]), np.array(list(found.documents)[:6]).reshape(2, 3)
    scores = [scoring.score(one, layout, queries[:, None], documents) for one in (model, again)]
    np.testing.assert_allclose(*scores, atol=1e-5, rtol=1e-5)
