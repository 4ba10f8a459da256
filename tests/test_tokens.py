"""How texts are cut: against the tokenizer's own truncation and sentence-transformers, and what is refused."""

import numpy as np
import pytest
import torch
import transformers

from lib import models
from lib.models import backbone, tokens
from lib.models.ranker import check_length
from lib.training import scoring
from tests.conftest import WORDS

LENGTHS = [0, 1, 2, 3, 5, 8, 13, 27, 63, 64, 65, 90]  # words, and so tokens, of the texts


def texts(seed, lengths=LENGTHS):
    draw = np.random.default_rng(seed)
    return {f"{seed}-{length}": " ".join(draw.choice(WORDS, length)) for length in lengths}


@pytest.fixture(scope="module")
def tokenizer(tiny_backbone):
    return backbone.tokenizer(tiny_backbone)


@pytest.fixture
def made(tokenizer):
    """Texts of one side and of the other, and their token stores."""
    sides = texts(0), texts(1)
    return *sides, *(tokens.tokenise(side, tokenizer, str(number)) for number, side in enumerate(sides))


def ids(batch):
    """The rows of a batch without padding, as lists."""
    return [row[keep.bool()].tolist() for row, keep in zip(batch["input_ids"], batch["attention_mask"], strict=True)]


def crossed(longest=90):
    """Every text of one side with every text of the other, up to a length: rows (pairs,), (pairs, 1)."""
    rows = np.flatnonzero(np.array(LENGTHS) <= longest)
    return np.repeat(rows, len(rows)), np.tile(rows, len(rows))[:, None]


def paired(queries, documents, longest=90):
    asked, given = crossed(longest)
    return [list(queries.values())[row] for row in asked], [list(documents.values())[row] for row in given[:, 0]]


@pytest.mark.parametrize("max_length", [5, 8, 11, 24, 31, 64, 96, 97, 200])
def test_without_max_query_a_pair_is_cut_as_the_tokenizer_cuts_it(made, tokenizer, max_length):
    queries, documents, *stores = made
    pairs = tokens.PairTokens(*stores, tokens.Pattern.of(tokenizer), max_length, max_query=None)
    longest = 13 if max_length < 10 else 90  # the tokenizer is slow to cut much
    asked, given = crossed(longest)
    batch = pairs.batch(asked, given)
    expected = tokenizer(*paired(queries, documents, longest), truncation="longest_first", max_length=max_length)
    assert ids(batch) == expected["input_ids"]
    types = [
        row[keep.bool()].tolist() for row, keep in zip(batch["token_type_ids"], batch["attention_mask"], strict=True)
    ]
    assert types == expected["token_type_ids"]
    assert pairs.lengths(asked[:, None], given).ravel().tolist() == [len(row) for row in expected["input_ids"]]


def test_a_query_up_to_its_limit_is_whole_and_the_document_is_cut(made, tokenizer):
    """At the default lengths: the document alone is cut, as `only_second` cuts it."""
    queries, documents, *stores = made
    asked, given = crossed()
    short = np.array(LENGTHS)[asked] <= 64
    pairs = tokens.PairTokens(*stores, tokens.Pattern.of(tokenizer), 96)
    expected = tokenizer(*paired(queries, documents))["input_ids"]
    expected = [[*row[:95], tokenizer.sep_token_id] if len(row) > 96 else row for row in expected]
    assert ids(pairs.batch(asked[short], given[short])) == [expected[row] for row in np.flatnonzero(short)]


@pytest.mark.parametrize("max_length", [5, 6, 8, 12, 23, 48, 66, 96, 300])
@pytest.mark.parametrize("max_query", [1, 10, 64, 1000])
def test_a_long_query_leaves_the_document_its_share(made, tokenizer, max_length, max_query):
    *_, queries, documents = made
    pairs = tokens.PairTokens(queries, documents, tokens.Pattern.of(tokenizer), max_length, max_query)
    asked, given = crossed()
    room = max_length - 3
    for row, asks, gives in zip(ids(pairs.batch(asked, given)), asked, given[:, 0], strict=True):
        query, document = LENGTHS[asks], LENGTHS[gives]
        second = row.index(tokenizer.sep_token_id)
        kept = second - 1, len(row) - second - 2
        assert kept[1] >= min(document, tokens.DOCUMENT_SHARE * room)  # at least its share
        assert kept[0] <= min(query, max_query)
        # Nothing is cut without need: all that fits is there.
        assert sum(kept) == min(room, min(query, max_query) + document)
        assert kept[0] == min(query, max_query, room - min(document, -(-room // 4)))
        assert row[0] == tokenizer.cls_token_id and row[-1] == tokenizer.sep_token_id
        assert row[1:second] == queries.flat[queries.starts[asks] :][: kept[0]].tolist()
        assert row[second + 1 : -1] == documents.flat[documents.starts[gives] :][: kept[1]].tolist()


def test_two_empty_texts_are_special_tokens_alone(made, tokenizer):
    *_, queries, documents = made
    nothing = np.array([LENGTHS.index(0)])
    for max_query in (64, None):
        pairs = tokens.PairTokens(queries, documents, tokens.Pattern.of(tokenizer), 5, max_query)
        assert ids(pairs.batch(nothing, nothing[:, None])) == tokenizer([""], [""])["input_ids"]
    alone = tokens.Pattern.of_single(tokenizer)
    assert ids(tokens.Side(queries, alone.before, alone.after, 0, 3).batch(nothing)) == tokenizer([""])["input_ids"]


@pytest.mark.parametrize("max_length", [3, 4, 17, 64, 200])
def test_a_text_by_itself_is_cut_as_the_tokenizer_cuts_it(made, tokenizer, max_length):
    queries, _, store, _ = made
    alone = tokens.Pattern.of_single(tokenizer)
    side = tokens.Side(store, alone.before, alone.after, alone.pad, max_length)
    expected = tokenizer(list(queries.values()), truncation=True, max_length=max_length)["input_ids"]
    assert ids(side.batch(np.arange(len(LENGTHS)))) == expected
    assert side.longest == max(len(row) for row in expected)


@pytest.mark.parametrize("max_length", [24, 33, 64])
def test_without_max_query_scores_are_those_of_sentence_transformers(
    made, tokenizer, tiny_backbone, tmp_path, float32, max_length
):
    from sentence_transformers import CrossEncoder

    queries, documents, *stores = made
    ranker = models.build("cat", tiny_backbone, None, seed=3)
    ranker.save(tmp_path, backbone.tokenizer(tiny_backbone), max_length)
    asked, given = np.array(list(queries))[:, None], np.array([list(documents)] * len(queries))
    ours = scoring.score(ranker, ranker.inputs(*stores, tokenizer, max_length, max_query=None), asked, given)
    theirs = CrossEncoder(str(tmp_path), device="cpu", activation_fn=torch.nn.Identity()).predict(
        list(zip(*paired(queries, documents), strict=True)), show_progress_bar=False
    )
    np.testing.assert_allclose(ours.ravel(), theirs, atol=1e-5, rtol=1e-5)
    cut_otherwise = scoring.score(ranker, ranker.inputs(*stores, tokenizer, max_length), asked, given)
    assert np.abs(cut_otherwise - ours).max() > 1e-3


@pytest.mark.parametrize("max_length", [-1, 0, 3, 4])
@pytest.mark.parametrize("max_query", [64, None])
def test_a_pair_needs_its_special_tokens_and_one_token_of_each_text(made, tokenizer, max_length, max_query):
    *_, queries, documents = made
    with pytest.raises(ValueError, match=rf"max_length={max_length} .* give 5 or more"):
        tokens.PairTokens(queries, documents, tokens.Pattern.of(tokenizer), max_length, max_query)


def test_a_query_needs_one_token(made, tokenizer):
    *_, queries, documents = made
    with pytest.raises(ValueError, match="max_query=0 .* give 1 or more"):
        tokens.PairTokens(queries, documents, tokens.Pattern.of(tokenizer), 96, 0)


SHORT = [
    ("cat", {}, (4,), "max_length=4 .* give 5 or more"),
    ("cat", {}, (32, 0), "max_query=0 .* give 1 or more"),
    ("dot", {}, (2,), "max_length=2 .* give 3 or more"),
    ("dot", {}, (32, 2), "max_query=2 .* give 3 or more"),
    ("dot", {}, (2, None), "max_length=2 .* give 3 or more"),
    ("colbert", {"dim": 16}, (2, 9), "max_length=2 .* give 3 or more"),
    ("colbert", {"dim": 16}, (32, 2), "max_query=2 .* give 3 or more"),
    ("tk", {"heads": 4}, (2,), "max_length=2 .* give 3 or more"),
    ("prettr", {"offset": 2}, (32,), "offset=2 .* give 3 or more"),
    ("prettr", {"offset": 16}, (1,), "max_length=1 .* give 2 or more"),
    ("prettr", {"offset": 16}, (32, 0), "max_query=0 .* give 1 or more"),
]
LONG = [
    ("cat", {}, (65,), "max_length=65: .* bert has 64 positions"),
    ("dot", {}, (65,), "max_length=65: .* 64 positions"),
    ("dot", {}, (32, 65), "max_query=65: a sequence of 65 tokens.* 64 positions"),
    ("colbert", {"dim": 16}, (65,), "max_length=65: .* 64 positions"),
    ("colbert", {"dim": 16, "masks": 8}, (32, 64), "max_query=64 and 8 tokens after each query: .* 72 tokens"),
    ("colbert", {"dim": 16, "masks": 8}, (60, None), "max_length=60 and 8 tokens after each query: .* 68 tokens"),
    ("prettr", {"offset": 16}, (49,), "offset=16 and max_length=49: a sequence of 65 tokens.* 64 positions"),
]


@pytest.mark.parametrize(("architecture", "options", "lengths", "message"), SHORT + LONG)
def test_a_layout_refuses_lengths_that_cannot_work(
    made, tokenizer, tiny_backbone, architecture, options, lengths, message
):
    ranker = models.build(architecture, tiny_backbone, None, 0, **options)
    with pytest.raises(ValueError, match=message):
        ranker.inputs(*made[2:], tokenizer, *lengths)


@pytest.mark.parametrize(
    ("architecture", "options", "lengths"),
    [("cat", {}, (5,)), ("cat", {}, (64, None)), ("dot", {}, (3, 3)), ("dot", {}, (64, None)),
     ("colbert", {"dim": 16}, (3, 3)), ("colbert", {"dim": 16, "masks": 4}, (60, None)),
     ("tk", {"heads": 4}, (500, None)), ("prettr", {"offset": 3}, (2,)), ("prettr", {"offset": 16}, (48, None))],
)  # fmt: skip
def test_every_architecture_scores_any_texts_at_the_limits(
    made, tokenizer, tiny_backbone, float32, architecture, options, lengths
):
    ranker = models.build(architecture, tiny_backbone, None, 0, **options)
    layout = ranker.inputs(*made[2:], tokenizer, *lengths)
    queries, documents = np.array(list(made[0])), np.array(list(made[1]))
    scores = scoring.score(ranker, layout, queries[:, None], np.array([documents] * len(queries)))
    assert np.isfinite(scores).all()


def test_queries_too_short_for_the_masks_to_pass_the_positions_are_taken(tokenizer, tiny_backbone):
    """64 tokens and 8 [MASK] would be too many for 64 positions, but no query has so many."""
    store = tokens.tokenise(texts(2, [1, 9]), tokenizer, "short")
    ranker = models.build("colbert", tiny_backbone, None, 0, dim=16)
    assert ranker.inputs(store, store, tokenizer, 32).query_side.longest == 9 + 2 + 8


def test_masks_need_a_mask_token(made, tokenizer, tiny_backbone):
    bare = backbone.tokenizer(tiny_backbone)
    bare.mask_token = None
    ranker = models.build("colbert", tiny_backbone, None, 0, dim=16, masks=2)
    with pytest.raises(ValueError, match=r"masks=2.*no \[MASK\]"):
        ranker.inputs(*made[2:], bare, 32)
    models.build("colbert", tiny_backbone, None, 0, dim=16, masks=0).inputs(*made[2:], bare, 32)


def test_a_model_holds_as_many_tokens_as_it_has_positions():
    check_length(transformers.BertConfig(max_position_embeddings=64), 64)
    with pytest.raises(ValueError, match="max_length=65: .*64"):
        check_length(transformers.BertConfig(max_position_embeddings=64), 65)


@pytest.mark.parametrize(
    "config",
    [transformers.RobertaConfig, transformers.XLMRobertaConfig, transformers.CamembertConfig, transformers.MPNetConfig],
)
def test_a_roberta_begins_after_its_padding(config):
    """As the model itself has it: one token more than `check_length` allows fails."""
    small = config(
        vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        max_position_embeddings=20, pad_token_id=1,
    )  # fmt: skip
    model = transformers.AutoModel.from_config(small).eval()
    check_length(small, 18)
    model(torch.full((1, 18), 5))
    with pytest.raises(ValueError, match="max_length=19: .* 18 positions"):
        check_length(small, 19)
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, 19), 5))


@pytest.mark.parametrize(
    "config",
    [transformers.XLNetConfig(), transformers.T5Config(), transformers.DebertaV2Config(position_biased_input=False)],
)
def test_relative_positions_alone_have_no_end(config):
    check_length(config, 10_000)
    with pytest.raises(ValueError, match="512 positions"):
        check_length(transformers.DebertaV2Config(), 513)


class Tokenizer:
    """A tokenizer of single letters; what is put around the texts is given."""

    name_or_path, pad_token_id = "letters", 0

    def __init__(self, before=(1,), between=(2,), after=(2,), words=None, types=None, **sides):
        self.parts, self.words, self.types = (before, between, after), words or {"one": [10, 11], "two": [20]}, types
        self.model_input_names = ["input_ids"] + ["token_type_ids"] * (types is not None)
        vars(self).update(sides)

    def __call__(self, first, second=None, add_special_tokens=True):
        before, between, after = self.parts
        if not add_special_tokens:
            return {"input_ids": self.words[first]}
        if second is None:
            return {"input_ids": [*before, *self.words[first], *after]}
        whole = [*before, *self.words[first], *between, *self.words[second], *after]
        return {"input_ids": whole, "token_type_ids": self.types}


def test_a_tokenizer_with_bert_types_is_learnt():
    assert tokens.Pattern.of(Tokenizer(types=[0, 0, 0, 0, 1, 1])) == tokens.Pattern((1,), (2,), (2,), 0, True)


def test_types_that_are_all_0_are_left_to_the_model():
    assert not tokens.Pattern.of(Tokenizer(types=[0] * 6)).has_types


class Merging(Tokenizer):
    """It makes one token of two words."""

    def __call__(self, *words, add_special_tokens=True):
        return {"input_ids": [1, 99, 2]} if add_special_tokens else super().__call__(*words, add_special_tokens=False)


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [(Tokenizer(between=()), "no token between"),
     (Tokenizer(truncation_side="left"), "truncation_side"),
     (Merging(), "'one'"), (Tokenizer(words={"one": [], "two": []}), "'one'"),
     (Tokenizer(words={"one": [10], "two": []}), "'two'"), (Tokenizer(types=[2, 0, 0, 0, 1, 1]), "token types"),
     (Tokenizer(types=[0, 0, 0, 1, 1, 1]), "token types")],
)  # fmt: skip
def test_a_tokenizer_that_builds_pairs_otherwise_is_refused(tokenizer, message):
    with pytest.raises(ValueError, match=rf"{type(tokenizer).__name__} 'letters' .*{message}"):
        tokens.Pattern.of(tokenizer)


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [(Tokenizer(before=(), after=()), "no special token"), (Tokenizer(truncation_side="left"), "truncation_side"),
     (Merging(), "'one'"), (Tokenizer(words={"one": []}), "'one'")],
)  # fmt: skip
def test_a_tokenizer_that_builds_texts_otherwise_is_refused(tokenizer, message):
    with pytest.raises(ValueError, match=rf"{type(tokenizer).__name__} 'letters' .*{message}"):
        tokens.Pattern.of_single(tokenizer)
