"""Five architectures on one interface: oracles, padding, what is stored against what is joint, saving."""

import numpy as np
import pytest
import torch
import transformers

from lib import models
from lib.models import backbone, colbert, ranker, tk, tokens
from lib.models.vectors import Vectors
from lib.training import scoring
from tests import kit
from tests.conftest import padded, same_weights

ARCHITECTURES = sorted(models.ARCHITECTURES)
LATE = [name for name in ARCHITECTURES if issubclass(models.ARCHITECTURES[name], models.LateRanker)]
VARIANTS = [
    ("cat", {}), ("dot", {}), ("dot", {"pooling": "cls", "similarity": "cosine"}), ("colbert", {"dim": 16, "masks": 4}),
    ("colbert", {"dim": 8, "masks": 0, "similarity": "cosine", "punctuation": False}), ("prettr", {"offset": 16}),
    ("colbert", {"projection": False, "similarity": "cosine", "query_marker": "mu", "document_marker": "nu"}),
    ("prettr", {"offset": 16, "split": 0}), ("prettr", {"offset": 16, "compression": 8}), ("tk", {"heads": 4}),
]  # fmt: skip
NAMES = [f"{name} {options}" for name, options in VARIANTS]


pytestmark = pytest.mark.usefixtures("float32")


def build(architecture, options, tiny_backbone, seed=0):
    return models.build(architecture, tiny_backbone, None, seed, **options)


def pairs(found, count=6):
    """Queries (count,) and documents (count, 5)."""
    documents = np.array(list(found.documents)[: count * 5]).reshape(count, 5)
    return np.array(list(found.queries)[:count]), documents


@pytest.mark.parametrize(("architecture", "options"), VARIANTS, ids=NAMES)
def test_a_score_depends_on_its_pair_alone(architecture, options, tiny_backbone, found):
    """Not on padding, on the other pairs of a batch, nor on the number of documents a query has."""
    model = build(architecture, options, tiny_backbone)
    layout = kit.inputs(model, found, tiny_backbone, 32)
    queries, documents = pairs(found)
    whole = scoring.score(model, layout, queries[:, None], documents)
    np.testing.assert_allclose(
        whole, scoring.score(model, layout, queries[:, None], documents, batch_size=1), atol=1e-5
    )
    batch = layout.batch(
        layout.queries.rows(queries), layout.documents.rows(documents.ravel()).reshape(documents.shape)
    )
    with torch.no_grad():
        np.testing.assert_allclose(whole, model(batch, 5), atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(whole, model(padded(batch, 16), 5), atol=1e-5, rtol=1e-5)
    assert whole.std() > 0


@pytest.mark.parametrize(("architecture", "options"), [one for one in VARIANTS if one[0] != "cat"], ids=NAMES[1:])
def test_stored_documents_score_as_joint_ones(architecture, options, tiny_backbone, found, tmp_path):
    model = build(architecture, options, tiny_backbone)
    layout = kit.inputs(model, found, tiny_backbone, 32)
    queries, documents = pairs(found)
    store = kit.encoded(model, layout, found, tmp_path)
    rows = layout.documents.rows(documents.ravel()).reshape(documents.shape)
    with torch.no_grad():
        joint = model(layout.batch(layout.queries.rows(queries), rows), documents.shape[1])
    stored = scoring.score_stored(model, layout, store, queries, documents)
    np.testing.assert_allclose(joint, stored, atol=1e-4)


@pytest.mark.parametrize(("architecture", "options"), VARIANTS, ids=NAMES)
def test_a_saved_ranker_is_the_same(architecture, options, tiny_backbone, found, tmp_path):
    model = build(architecture, options, tiny_backbone, seed=3)
    model.save(tmp_path / "model", backbone.tokenizer(tiny_backbone), 32)
    again = models.load(tmp_path / "model")
    assert type(again) is type(model) and again.options == model.options
    same_weights(again, model)
    queries, documents = pairs(found)
    layout = kit.inputs(model, found, tiny_backbone, 32)
    ours, theirs = (scoring.score(one, layout, queries[:, None], documents) for one in (model, again))
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_seed_decides_what_is_new(architecture, tiny_backbone):
    options = {"heads": 4} if architecture == "tk" else {"dim": 16} if architecture == "colbert" else {}
    first, same, other = (build(architecture, options, tiny_backbone, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    differ = {name for name in first if not torch.equal(first[name], other[name])}
    assert bool(differ) == (architecture != "dot")  # a bi-encoder has nothing new
    if architecture in ("cat", "prettr"):
        assert differ == {"transformer.classifier.weight"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_parameter_learns(architecture, tiny_backbone, found):
    """A gradient reaches every trained parameter, but the pooler where no score goes through it."""
    options = {"heads": 4} if architecture == "tk" else {"dim": 16} if architecture == "colbert" else {}
    model = build(architecture, options, tiny_backbone).train()
    layout = kit.inputs(model, found, tiny_backbone, 32)
    queries, documents = pairs(found)
    batch = layout.batch(
        layout.queries.rows(queries), layout.documents.rows(documents.ravel()).reshape(documents.shape)
    )
    model(batch, 5).square().mean().backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert all("pooler" in name for name in without), without


def test_unknown_options_are_refused(tiny_backbone):
    with pytest.raises(ValueError, match="architecture='bert': give one of cat, dot"):
        models.build("bert", tiny_backbone, None, 0)
    with pytest.raises(ValueError, match="option 'dims': architecture colbert has dim, masks"):
        models.build("colbert", tiny_backbone, None, 0, dims=3)
    with pytest.raises(ValueError, match="similarity='l2': give one of dot, cosine"):
        models.build("dot", tiny_backbone, None, 0, similarity="l2")
    with pytest.raises(ValueError, match="layers=.*TK has none"):
        models.build("tk", tiny_backbone, (0,), 0)
    with pytest.raises(ValueError, match="split=2: the model has 2 layers"):
        models.build("prettr", tiny_backbone, None, 0, split=2)


# --- ColBERT


def vectors(rows):
    return torch.tensor([rows], dtype=torch.float64)


QUERY, QUERY_MASK = vectors([[1, 0], [0, 2], [3, 3]]), torch.tensor([[True, True, False]])
DOCUMENT, DOCUMENT_MASK = vectors([[1, 1], [-1, 2], [10, 10]]), torch.tensor([[True, True, False]])


def max_sim(query, document):
    return colbert.max_sim(Vectors(query, QUERY_MASK), Vectors(document[:, None], DOCUMENT_MASK[:, None]))


def test_max_sim_by_hand():
    score = max_sim(QUERY, DOCUMENT)
    assert score.item() == pytest.approx(5.0, abs=1e-12)  # 1 from the first query token, 4 from the second
    unit = [torch.nn.functional.normalize(part, dim=-1) for part in (QUERY, DOCUMENT)]
    score = max_sim(*unit)
    assert score.item() == pytest.approx(1.6015339721864632, abs=1e-12)


def test_padding_never_beats_a_document_whose_every_similarity_is_negative():
    document = vectors([[-1, -2], [-3, -1], [0, 0]])
    score = max_sim(QUERY, document)
    assert score.item() == -3.0  # -1 and -2; zero-filled padding would give 0


def test_a_query_is_filled_up_with_masks(tiny_backbone, found):
    tokenizer = backbone.tokenizer(tiny_backbone)
    layout = kit.inputs(build("colbert", {"dim": 16, "masks": 3}, tiny_backbone), found, tiny_backbone, 32)
    batch = layout.batch(np.array([0]), np.array([[0]]))
    kept = batch["queries"]["input_ids"][0, : int(batch["queries"]["attention_mask"].sum())].tolist()
    text = next(iter(found.queries.values()))
    assert kept == tokenizer(text)["input_ids"] + [tokenizer.mask_token_id] * 3
    document = batch["documents"]["input_ids"][0, : int(batch["documents"]["attention_mask"].sum())].tolist()
    assert document == tokenizer(next(iter(found.documents.values())))["input_ids"]


def test_a_marker_is_the_first_token_of_its_side(tiny_backbone, found):
    tokenizer = backbone.tokenizer(tiny_backbone)
    options = {"dim": 16, "masks": 1, "query_marker": "mu", "document_marker": "nu"}
    layout = kit.inputs(build("colbert", options, tiny_backbone), found, tiny_backbone, 8, 5)
    batch = layout.batch(np.array([0]), np.array([[0]]))
    for side, texts, marker, kept, after in (
        ("queries", found.queries, "mu", 2, [tokenizer.sep_token_id, tokenizer.mask_token_id]),
        ("documents", found.documents, "nu", 5, [tokenizer.sep_token_id]),
    ):
        text = tokenizer(next(iter(texts.values())), add_special_tokens=False)["input_ids"][:kept]
        read = batch[side]["input_ids"][0, : int(batch[side]["attention_mask"].sum())].tolist()
        assert read == [tokenizer.cls_token_id, tokenizer.convert_tokens_to_ids(marker), *text, *after]
    for marker in ("query_marker", "document_marker"):
        with pytest.raises(ValueError, match=rf"{marker}='\[Q\]': tokenizer .* has no such token"):
            build("colbert", {"dim": 16, marker: "[Q]"}, tiny_backbone)


def test_without_a_projection_vectors_are_the_encoders(tiny_backbone):
    model = build("colbert", {"projection": False, "similarity": "cosine"}, tiny_backbone)
    tokens = {"input_ids": torch.tensor([[2, 7, 3]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    with torch.no_grad():
        hidden = model.transformer(**tokens).last_hidden_state
        torch.testing.assert_close(model.encode_queries(tokens).values, torch.nn.functional.normalize(hidden, dim=-1))
    assert model.options["dim"] == 32
    with pytest.raises(ValueError, match="dim=16: without a projection it is the encoder's 32; give none"):
        build("colbert", {"projection": False, "dim": 16}, tiny_backbone)


def test_punctuation_can_be_left_out():
    encoder = transformers.BertModel(transformers.BertConfig(
        vocab_size=12, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16))  # fmt: skip
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", ",", "."]
    tokenizer = transformers.BertTokenizerFast(vocab={word: number for number, word in enumerate(vocabulary)})
    text = dict(tokenizer("a , b .", return_tensors="pt"))
    for kept, counted in ((True, [1, 1, 1, 1, 1, 1]), (False, [1, 1, 0, 1, 0, 1])):
        model = colbert.ColBERT(encoder, tokenizer, dim=8, punctuation=kept).eval()
        assert model.encode_documents(text)[1].int().tolist() == [counted]
        assert model.encode_queries(text)[1].all()  # a query keeps its own


# --- TK


def test_kernel_features_by_hand():
    axes = torch.eye(4, dtype=torch.float64)
    query, document = axes[None, :3], torch.stack([axes[0], axes[0] + axes[1], axes[2], axes[3]])[None, None]
    query_mask, document_mask = torch.tensor([[True, True, False]]), torch.tensor([[[True, True, True, False]]])
    both = Vectors(query, query_mask), Vectors(document, document_mask)
    features = tk.kernel_features(*both, torch.ones(11, dtype=torch.float64))
    expected = [-4.275700848231142, -2.1320112459236817, 0.00602489122296402, -4.289194595661539, -8.27316751796895,
                -0.30685279491246165, -0.3068528194400375, -8.306852819440055, -24.306852819440053, -46.051701859880914,
                -46.051701859880914]  # fmt: skip
    assert features[0, 0].tolist() == pytest.approx(expected, abs=1e-9)
    score = features @ torch.linspace(-0.5, 0.5, 11, dtype=torch.float64)
    assert score.item() == pytest.approx(-45.7566402395095, abs=1e-9)


def test_positions_are_sines_and_cosines_from_an_offset():
    found = tk.positions(3, 4, 500, torch.device("cpu"))
    assert found.shape == (3, 4)
    assert found[2].tolist() == pytest.approx([np.sin(502), np.cos(502), np.sin(5.02), np.cos(5.02)], abs=1e-4)


# --- PreTTR


def test_without_a_split_it_is_the_cross_encoder(tiny_backbone, found):
    """With documents placed where the query ends; that place is the one documented difference."""
    cat = models.build("cat", tiny_backbone, None, 5)
    queries, documents = pairs(found)
    words = next(int(length) for length in kit.inputs(cat, found, tiny_backbone, 32).queries.lengths)
    model = models.build("prettr", tiny_backbone, None, 5, split=0, offset=words + 2)
    scores = [
        scoring.score(one, kit.inputs(one, found, tiny_backbone, 32), queries[:, None], documents)
        for one in (cat, model)
    ]
    np.testing.assert_allclose(*scores, atol=1e-5, rtol=1e-5)
    further = models.build("prettr", tiny_backbone, None, 5, split=0, offset=words + 9)
    other = scoring.score(further, kit.inputs(further, found, tiny_backbone, 32), queries[:, None], documents)
    assert np.abs(other - scores[0]).max() > 1e-3  # and it is a difference


def test_below_the_split_no_side_sees_the_other(tiny_backbone, found):
    model = models.build("prettr", tiny_backbone, None, 0, split=1, offset=16)
    layout = kit.inputs(model, found, tiny_backbone, 32)
    one, other = (layout.batch(np.array([query]), np.array([[7]])) for query in (0, 1))
    assert not torch.equal(one["queries"]["input_ids"], other["queries"]["input_ids"])
    with torch.no_grad():
        first, second = (model.encode_documents(batch["documents"])[0] for batch in (one, other))
    torch.testing.assert_close(first, second, atol=1e-6, rtol=0)


# --- DOT


@pytest.mark.slow
def test_a_bi_encoder_opens_in_sentence_transformers(tiny_backbone, found, tmp_path):
    from sentence_transformers import SentenceTransformer

    for pooling, similarity in (("mean", "cosine"), ("cls", "dot")):
        model = models.build("dot", tiny_backbone, (1,), 0, pooling=pooling, similarity=similarity)
        folder = tmp_path / pooling
        model.save(folder, backbone.tokenizer(tiny_backbone), 32)
        queries, documents = pairs(found)
        ours = scoring.score(model, kit.inputs(model, found, tiny_backbone, 32), queries[:, None], documents)
        theirs = SentenceTransformer(str(folder), device="cpu")
        assert theirs.similarity_fn_name == similarity
        asked = theirs.encode([found.queries[query] for query in queries], show_progress_bar=False)
        for row, names in enumerate(documents):
            given = theirs.encode([found.documents[name] for name in names], show_progress_bar=False)
            np.testing.assert_allclose(ours[row], theirs.similarity(asked[row : row + 1], given)[0], atol=1e-4)


def test_similarities_of_a_batch_hold_every_pair(tiny_backbone, found):
    model = models.build("dot", tiny_backbone, None, 0, similarity="cosine")
    layout = kit.inputs(model, found, tiny_backbone, 32)
    queries, documents = pairs(found, 3)
    rows = layout.documents.rows(documents.ravel()).reshape(documents.shape)
    batch = layout.batch(layout.queries.rows(queries), rows)
    with torch.no_grad():
        every, own = model.similarities(*model.encode(batch, 5)), model(batch, 5)
        asked, given = model.vectors(batch, 5)
    assert every.scores.shape == every.documents.shape == (3, 3, 5)
    for row in range(3):
        torch.testing.assert_close(every.scores[row, row], own[row])
        torch.testing.assert_close(every.documents[row, row, 0], torch.tensor(1.0))
        torch.testing.assert_close(every.documents[row, 2], given[2] @ given[row, 0])
    assert ranker.float32(asked.bfloat16()).dtype == torch.float32 and isinstance(layout, tokens.SeparateTokens)


def test_heads_that_do_not_divide_the_vectors_are_refused_by_name(tiny_backbone):
    with pytest.raises(ValueError, match="heads=5: the word vectors have 32 dimensions"):
        models.build("tk", tiny_backbone, None, 0, heads=5)
