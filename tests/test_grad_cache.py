"""A cached step has the gradients of the uncached one, however the batch is parted."""

import pytest
import torch
from torch import nn

from lib import losses
from lib.training import grad_cache

QUERIES = torch.randn(7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
DOCUMENTS = torch.randn(7, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
SIZES = [[7], [3, 4], [1, 2, 4], [1] * 7]


def tower(dropout=0.0):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 4)).double()


def in_batch_info_nce(queries, documents):
    """queries (batch, dim), documents (batch * docs, dim): a query against the whole batch's documents."""
    scores = queries @ documents.T
    labels = torch.zeros_like(scores)
    labels[torch.arange(len(scores)), torch.arange(len(scores)) * 3] = 1
    return losses.info_nce(scores, labels).mean()


def parts(sizes):
    return list(zip(QUERIES.split(sizes), DOCUMENTS.split(sizes), strict=True))


def encoder(model):
    return lambda part: (model(part[0]), model(part[1].flatten(0, 1)))


def gradients(model):
    return [parameter.grad for parameter in model.parameters()]


def uncached(model, sizes):
    encoded = [encoder(model)(part) for part in parts(sizes)]
    loss = in_batch_info_nce(*map(torch.cat, zip(*encoded, strict=True)))
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("sizes", SIZES, ids=len)
def test_gradients_and_loss_are_the_uncached_steps(sizes):
    ours, theirs = tower(), tower()
    value = grad_cache.cached_backward(encoder(ours), parts(sizes), in_batch_info_nce)
    torch.testing.assert_close(value, uncached(theirs, [7]), atol=1e-10, rtol=0)
    torch.testing.assert_close(gradients(ours), gradients(theirs), atol=1e-10, rtol=0)
    assert value.grad_fn is None


@pytest.mark.parametrize("sizes", SIZES, ids=len)
def test_dropout_repeats_and_the_random_stream_goes_on_as_without_a_cache(sizes):
    ours, theirs = tower(dropout=0.5), tower(dropout=0.5)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        value = grad_cache.cached_backward(encoder(ours), parts(sizes), in_batch_info_nce)
        after = torch.rand(3)
        torch.manual_seed(3)
        expected = uncached(theirs, sizes)
        assert torch.equal(after, torch.rand(3))
    torch.testing.assert_close(value, expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(gradients(ours), gradients(theirs), atol=1e-10, rtol=0)


@pytest.mark.gpu
def test_dropout_repeats_on_the_accelerator():
    ours, theirs = tower(dropout=0.5).cuda(), tower(dropout=0.5).cuda()
    given = [tuple(tensor.cuda() for tensor in part) for part in parts([3, 4])]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        grad_cache.cached_backward(encoder(ours), given, in_batch_info_nce)
        torch.manual_seed(3)
        in_batch_info_nce(*map(torch.cat, zip(*map(encoder(theirs), given), strict=True))).backward()
    torch.testing.assert_close(gradients(ours), gradients(theirs), atol=1e-10, rtol=0)


def test_no_graph_of_more_than_one_part():
    model, graphs = tower(), []

    def encode(part):
        graphs.append(torch.is_grad_enabled())
        return encoder(model)(part)

    backwards = []
    grad_cache.cached_backward(encode, parts([2, 2, 3]), in_batch_info_nce, lambda loss: backwards.append(len(graphs)))
    assert graphs == [False] * 3 + [True] * 3
    assert backwards == [4, 5, 6]  # each part's graph is gone before the next one's is built


def test_a_backward_that_scales_scales_once():
    ours, theirs = tower(), tower()
    grad_cache.cached_backward(encoder(ours), parts([3, 4]), in_batch_info_nce, lambda loss: (loss / 4).backward())
    uncached(theirs, [7])
    torch.testing.assert_close([4 * grad for grad in gradients(ours)], gradients(theirs), atol=1e-10, rtol=0)


def test_gradients_add_up_to_those_already_there():
    ours, theirs = tower(), tower()
    for _ in range(2):
        grad_cache.cached_backward(encoder(ours), parts([3, 4]), in_batch_info_nce)
    uncached(theirs, [7])
    torch.testing.assert_close(gradients(ours), [2 * grad for grad in gradients(theirs)], atol=1e-10, rtol=0)


def test_vectors_that_the_loss_leaves_out():
    ours, theirs = tower(), tower()
    grad_cache.cached_backward(encoder(ours), parts([3, 4]), lambda queries, _: queries.square().sum())
    theirs(QUERIES).square().sum().backward()
    torch.testing.assert_close(gradients(ours), gradients(theirs), atol=1e-10, rtol=0)


def test_one_autocast_around_both_passes():
    ours, theirs = tower().float(), tower().float()
    given = [(queries.float(), documents.float()) for queries, documents in parts([3, 4])]
    with torch.autocast("cpu", torch.bfloat16):
        grad_cache.cached_backward(encoder(ours), given, in_batch_info_nce)
        in_batch_info_nce(*map(torch.cat, zip(*map(encoder(theirs), given), strict=True))).backward()
    torch.testing.assert_close(gradients(ours), gradients(theirs), atol=0.01, rtol=0.02)
    assert all(gradient.abs().sum() > 0 for gradient in gradients(ours))
