"""Adaptive relevance margins: the authors' values and gradients, both readings, and what the options change.

The numbers named the authors' are their formulas (webis-de/adaptive-relevance-margin-loss, src/loss.py, commit
76fc0d9) in float64 on an example without symmetry, where the readings differ.
"""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from lib import losses
from lib.losses import margins

QUERIES = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
POSITIVES = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 1.0]], dtype=torch.float64)
NEGATIVES = torch.tensor([[0.0, 1.0, 0.0], [1.0, 2.0, 2.0], [-1.0, 0.0, 2.0]], dtype=torch.float64)

BUILDS = {
    "fixed": partial(margins.fixed, margin=0.3),
    "fixed in-batch": partial(margins.fixed, margin=0.3, in_batch=True, reading="literal"),
    "adaptive": margins.adaptive,
    "adaptive in-batch": partial(margins.adaptive, in_batch=True, reading="literal"),
    "distributed": partial(margins.distributed, reading="literal"),
}
# build, error, the authors' loss, its gradient at the first positive
AUTHORS = [
    ("fixed", "l2", 0.16247757227323784, [0.03544478951333502, -0.07088957902667004, 0.0]),
    ("fixed", "l1", 0.3707615892201999, [0.029814239699997205, -0.059628479399994376, 0.0]),
    ("fixed", "soft", 0.6143687221538094, [-0.010602530891288327, 0.02120506178257663, 0.0]),
    ("fixed in-batch", "l2", 0.24014963076344287, [0.004093123502351945, -0.008186247004703889, 0.0]),
    ("fixed in-batch", "l1", 0.40489537457138075, [0.009938079899999064, -0.019876159799998128, 0.0]),
    ("fixed in-batch", "soft", 0.6556485709235361, [-0.014423894810306682, 0.02884778962061336, 0.0]),
    ("adaptive", "l2", 0.3019458682149581, [0.020371520600005612, -0.04074304120001121, 0.0]),
    ("adaptive", "l1", 0.4005336637829806, [0.0596284793999944, -0.11925695879998877, 0.0]),
    ("adaptive", "soft", 0.8729820890059616, [-0.027273973620147142, 0.054547947240294284, 0.0]),
    ("adaptive in-batch", "l2", 0.4663618968755094,
     [-0.015843303262040698, 0.031686606524081395, -0.028773521651122215]),
    ("adaptive in-batch", "l1", 0.5378550297414936,
     [-0.0027468177277773093, 0.0054936354555546185, -0.005658755722223779]),
    ("adaptive in-batch", "soft", 0.8921094888045261,
     [-0.025315841173092532, 0.05063168234618508, 0.016149437946402244]),
    ("distributed", "l2", 0.2701769611756935, [0.00906050284784439, -0.018121005695688745, 0.013620455359859809]),
    ("distributed", "l1", 0.4137717008139801, [0.037005501872218974, -0.07401100374443789, -0.005658755722223779]),
    ("distributed", "soft", 0.8369018394263468, [-0.022312013575535472, 0.04462402715107093, 0.02096136278242048]),
]  # fmt: skip
# The same with each query beside its own positive
ROW = {
    "fixed in-batch": 0.2622529143997714,
    "adaptive in-batch": 0.4933280003884757,
    "distributed": 0.29133625337501984,
}


def similarities(queries=QUERIES, positives=POSITIVES, *negatives):
    """Cosine similarities of raw vectors (batch, dim); each of `negatives` is a column."""
    documents = F.normalize(torch.stack([positives, *(negatives or (NEGATIVES,))], 1), dim=-1)  # (batch, docs, dim)
    return margins.Similarities(
        torch.einsum("id,jkd->ijk", F.normalize(queries, dim=-1), documents),
        torch.einsum("id,jkd->ijk", documents[:, 0], documents),
    )


def random_similarities(batch=4, docs=3):
    draw = torch.Generator().manual_seed(0)
    return similarities(*torch.randn(1 + docs, batch, 5, dtype=torch.float64, generator=draw))


def each(change, given):
    """Similarities with both matrices changed."""
    return given._replace(scores=change(given.scores), documents=change(given.documents))


def transposed(given):
    return each(lambda matrix: matrix.transpose(0, 1), given)


@pytest.mark.parametrize(("name", "error", "value", "gradient"), AUTHORS)
def test_the_authors_value_and_gradient(name, error, value, gradient):
    positives = POSITIVES.clone().requires_grad_()
    loss = losses.margin_error(*BUILDS[name](similarities(QUERIES, positives)), error=error).mean()
    loss.backward()
    assert loss.item() == pytest.approx(value, abs=1e-9)
    assert positives.grad[0].tolist() == pytest.approx(gradient, abs=1e-9)


@pytest.mark.parametrize("name", ROW)
def test_row_reading_is_the_default(name):
    build = partial(
        BUILDS[name].func, **{key: value for key, value in BUILDS[name].keywords.items() if key != "reading"}
    )
    assert losses.margin_error(*build(similarities())).mean().item() == pytest.approx(ROW[name], abs=1e-9)
    for given in (similarities(), random_similarities()):
        literal, row = BUILDS[name](given), build(transposed(given))
        torch.testing.assert_close(literal, row, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", BUILDS)
@pytest.mark.parametrize("error", ["l2", "l1", "soft"])
@pytest.mark.parametrize("reading", margins.READINGS)
def test_gradients(name, error, reading):
    draw = torch.Generator().manual_seed(1)
    vectors = [torch.randn(3, 4, dtype=torch.float64, generator=draw).requires_grad_() for _ in range(4)]
    build = partial(BUILDS[name], reading=reading)
    assert torch.autograd.gradcheck(
        lambda *vectors: losses.margin_error(*build(similarities(*vectors)), error=error), vectors
    )


def test_self_distillation_is_margin_mse_with_targets_from_the_documents():
    scores, targets = margins.adaptive(similarities())
    torch.testing.assert_close(scores, margins.own(similarities().scores), atol=1e-12, rtol=0)
    wanted = (1 + F.cosine_similarity(POSITIVES, NEGATIVES)) / 2
    torch.testing.assert_close(targets[:, 0] - targets[:, 1], wanted)
    assert losses.margin_mse(scores, targets).mean().item() == pytest.approx(0.3019458682149581, abs=1e-9)


def test_distributed_pulls_to_the_mean_target_and_draws_the_targets_together():
    given = similarities()
    margin = margins.own(given.scores)[:, 0] - margins.own(given.scores)[:, 1]
    wanted = (1 + given.documents[:, :, 1]) / 2
    for reading, along in (("literal", 0), ("row", 1)):
        expected = (margin - wanted.mean(along)).square() + wanted.var(along, correction=0)
        found = losses.margin_mse(*margins.distributed(given, reading=reading))
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_columns_by_hand_with_two_negatives():
    """Place k of a group meets place k: a loop over what the docstrings say."""
    given = random_similarities(batch=3, docs=3)
    scores, documents, _ = given
    wanted = lambda query, group, place: (1 + documents[query, group, place].item()) / 2  # noqa: E731
    others = [(group, place) for group in range(3) for place in (1, 2)]
    for query in range(3):
        found = {
            name: (
                (found[query, 0] - found[query, 1:]).tolist(),
                (targets[query, 0] - targets[query, 1:]).tolist(),
            )
            for name, (found, targets) in (
                ("adaptive", margins.adaptive(given)),
                ("in-batch", margins.adaptive(given, in_batch=True)),
                ("distributed", margins.distributed(given)),
                ("fixed", margins.fixed(given, margin=0.2, in_batch=True)),
            )
        }
        margin = lambda group, place, query=query: (scores[query, query, 0] - scores[query, group, place]).item()  # noqa: E731
        own = [margin(query, place) for place in (1, 2)]
        assert found["adaptive"] == (pytest.approx(own), pytest.approx([wanted(query, query, k) for k in (1, 2)]))
        every = [wanted(query, *other) for other in others]
        assert found["in-batch"] == (pytest.approx([margin(*other) for other in others]), pytest.approx(every))
        assert found["distributed"] == (pytest.approx(own * 3), pytest.approx(every))
        assert found["fixed"] == (pytest.approx([margin(*other) for other in others]), pytest.approx([0.2] * 6))


def test_contrast_by_hand():
    given = random_similarities(batch=3, docs=2)
    scores, labels = margins.contrast(given)
    own_first = [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    expected = torch.stack([given.scores[query, groups].flatten() for query, groups in enumerate(own_first)])
    assert torch.equal(scores, expected) and labels.tolist() == [[1, 0, 0, 0, 0, 0]] * 3
    everything = F.cross_entropy(given.scores.flatten(1), torch.arange(3) * 2, reduction="none")
    torch.testing.assert_close(losses.info_nce(scores, labels), everything)


def test_detached_targets_have_no_gradient_and_the_scores_have_theirs():
    for build in (margins.adaptive, partial(margins.adaptive, in_batch=True), margins.distributed):
        given = each(lambda matrix: matrix.clone().requires_grad_(), similarities())
        losses.margin_mse(*build(given, detach=True)).sum().backward()
        assert given.documents.grad is None and given.scores.grad.abs().sum() > 0
        losses.margin_mse(*build(given)).sum().backward()
        assert given.documents.grad.abs().sum() > 0


def test_scales():
    given = similarities()
    similarity = F.cosine_similarity(POSITIVES, NEGATIVES)
    for scale, expected in (("unit", (1 + similarity) / 2), ("clamp", similarity.clamp(min=0)), ("raw", similarity)):
        _, targets = margins.adaptive(given, scale=scale)
        torch.testing.assert_close(-targets[:, 1], expected)
    assert torch.equal(margins.distributed(given, scale="raw")[1][:, 1:], -given.documents[:, :, 1])


@pytest.mark.parametrize("name", BUILDS)
def test_pairs_above_the_threshold_cost_and_move_nothing(name):
    for error, nothing in (("l2", 0.0), ("l1", 0.0), ("soft", math.log(2))):
        given = each(lambda matrix: matrix.clone().requires_grad_(), random_similarities())
        taken_out = losses.margin_error(*BUILDS[name](given, threshold=-1.1), error=error)
        taken_out.sum().backward()
        torch.testing.assert_close(taken_out, torch.full_like(taken_out, nothing))
        assert given.scores.grad.abs().max() < 1e-12
        assert given.documents.grad is None or given.documents.grad.abs().max() == 0
    kept = BUILDS[name](random_similarities(), threshold=1.1)
    torch.testing.assert_close(kept, BUILDS[name](random_similarities()), atol=1e-12, rtol=0)


def test_the_threshold_takes_out_the_likely_false_negatives_only():
    """Documents 0.45, 0.94 and 0.32 alike: the second is above 0.9, and the mean still counts it."""
    every = losses.margin_mse(*margins.adaptive(similarities()))
    kept = losses.margin_mse(*margins.adaptive(similarities(), threshold=0.9))
    assert kept.tolist() == [every[0].item(), 0.0, every[2].item()]
    alike = random_similarities().documents[:, :, 1:].flatten(1) > 0.2
    for build in (partial(margins.adaptive, in_batch=True), partial(margins.fixed, margin=0.3, in_batch=True)):
        scores, targets = build(random_similarities(), threshold=0.2)
        assert torch.equal(scores[:, 1:] == scores[:, :1], alike) and torch.equal(targets[:, 1:] == 0, alike)
    own = margins.own(random_similarities().documents)[:, 1:] > 0.2
    scores, targets = margins.distributed(random_similarities(), threshold=0.2)
    assert 0 < own.sum() < own.numel()
    assert torch.equal(scores[:, 1:] == scores[:, :1], own.repeat(1, 4))


def test_half_precision_is_widened():
    given = each(torch.Tensor.bfloat16, similarities())
    for build in (*BUILDS.values(), margins.distributed):
        assert {matrix.dtype for matrix in build(given)} == {torch.float32}


def test_what_is_unknown_is_refused():
    given = similarities()
    for build in (partial(margins.fixed, margin=0.3), margins.adaptive, margins.distributed):
        with pytest.raises(ValueError, match="reading='column': give one of row, literal"):
            build(given, reading="column")
        with pytest.raises(ValueError, match=r"scores \(3, 3, 2\), documents \(3, 2\) .*must all be"):
            build(margins.Similarities(given.scores, margins.own(given.documents)))
    for build in (margins.adaptive, margins.distributed):
        with pytest.raises(ValueError, match="scale='log': give one of unit, clamp, raw"):
            build(given, scale="log")


def relevant_at(given, *places):
    """The similarities with documents k of groups j that are relevant to queries i."""
    relevant = torch.zeros_like(given.scores, dtype=torch.bool)
    for query, group, place in places:
        relevant[query, group, place] = True
    return given._replace(relevant=relevant)


def test_a_relevant_document_of_another_group_is_left_out_of_the_softmax():
    """Query 0 finds its own positive in group 1, as a negative there, and another relevant one as group 2's positive."""
    given = relevant_at(random_similarities(), (0, 0, 0), (0, 1, 2), (0, 2, 0))
    found = losses.info_nce(*margins.contrast(given), temperature=0.05)
    kept = given.scores[0].flatten()[[0, 1, 2, 3, 4, 7, 8, 9, 10, 11]] / 0.05
    torch.testing.assert_close(found[0], kept.logsumexp(0) - kept[0])
    plain = losses.info_nce(*margins.contrast(random_similarities()), temperature=0.05)
    torch.testing.assert_close(found[1:], plain[1:])
    assert found[0] < plain[0]


def test_what_is_left_out_has_no_gradient():
    given = each(lambda matrix: matrix.clone().requires_grad_(), random_similarities())
    losses.info_nce(*margins.contrast(relevant_at(given, (0, 1, 2), (0, 0, 0)))).sum().backward()
    assert given.scores.grad[0, 1, 2] == 0 and given.scores.grad[0, 0, 0] < 0
    assert given.scores.grad.isfinite().all() and (given.scores.grad[1:] != 0).all()


@pytest.mark.parametrize("reading", margins.READINGS)
@pytest.mark.parametrize("name", ["fixed in-batch", "adaptive in-batch"])
def test_a_relevant_document_of_another_group_costs_and_moves_nothing(name, reading):
    """Document 2 of group 1 is relevant to query 0; in the literal reading the pair stands in row 1, as column 0's."""
    plain = each(lambda matrix: matrix.clone().requires_grad_(), random_similarities())
    scores, targets = BUILDS[name](relevant_at(plain, (0, 1, 2)), reading=reading)
    every_scores, every_targets = BUILDS[name](plain, reading=reading)
    row, group = (0, 1) if reading == "row" else (1, 0)
    out = torch.zeros(4, 4, 2, dtype=torch.bool)
    out[row, group, 1] = True
    out = torch.cat([torch.zeros(4, 1, dtype=torch.bool), out.flatten(1)], 1)
    assert torch.equal(scores[out], scores[row, :1]) and targets[out] == 0
    assert torch.equal(scores[~out], every_scores[~out]) and torch.equal(targets[~out], every_targets[~out])
    losses.margin_error(scores, targets).sum().backward()
    assert plain.scores.grad[0, 1, 2] == 0 and (plain.scores.grad[:, :, 1:] == 0).sum() == 1


@pytest.mark.parametrize("reading", margins.READINGS)
def test_distributed_takes_out_pairs_with_a_relevant_document(reading):
    given = relevant_at(random_similarities(), (0, 1, 2), (3, 3, 1))
    scores, targets = margins.distributed(given, reading=reading)
    every_scores, every_targets = margins.distributed(random_similarities(), reading=reading)
    out = torch.zeros(4, 4, 2, dtype=torch.bool)
    out[(0, 1, 1) if reading == "row" else (1, 0, 1)] = True
    out[3, :, 0] = True  # the own negative, against every wanted margin
    out = torch.cat([torch.zeros(4, 1, dtype=torch.bool), out.flatten(1)], 1)
    positive = scores[:, :1].expand_as(scores)
    assert torch.equal(scores[out], positive[out]) and (targets[out] == 0).all()
    assert torch.equal(scores[~out], every_scores[~out]) and torch.equal(targets[~out], every_targets[~out])


@pytest.mark.parametrize("name", ["fixed", "adaptive"])
def test_an_own_negative_that_is_relevant_is_taken_out(name):
    scores, targets = BUILDS[name](relevant_at(random_similarities(), (2, 2, 1), (2, 2, 0), (1, 2, 2)))
    every, wanted = BUILDS[name](random_similarities())
    assert scores[2, 1] == scores[2, 0] and targets[2, 1] == 0
    assert torch.equal(scores[:, [0, 2]], every[:, [0, 2]]) and torch.equal(targets[:2], wanted[:2])
