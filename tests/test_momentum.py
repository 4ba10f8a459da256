"""Momentum contrast around an encoder of a few numbers: the moving copy, the queue, and what is left alone."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib import losses
from lib.models.momentum import Momentum, negatives
from lib.models.vectors import Vectors


class Encoder(nn.Module):
    """Vectors of given numbers: tokens["queries"] (batch, 3), tokens["documents"] (batch, docs, 3)."""

    def __init__(self, dropout=0.0, dim=2):
        super().__init__()
        self.linear = nn.Linear(3, dim, bias=False, dtype=torch.float64)
        self.dropout = nn.Dropout(dropout)

    def encode_queries(self, tokens):
        """(texts, dim), or (texts, docs, dim) one below the other -> a vector for each."""
        values = self.dropout(self.linear(tokens)).flatten(0, -2).unsqueeze(1)
        return Vectors(values, values.new_ones(values.shape[:2]))

    encode_documents = encode_queries


def step(number, batch=2, docs=3):
    draw = torch.Generator().manual_seed(number)
    shapes = {"queries": (batch, 3), "documents": (batch, docs, 3)}
    return {side: torch.randn(shape, dtype=torch.float64, generator=draw) for side, shape in shapes.items()}


@pytest.fixture
def encoder():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Encoder()


def test_the_copy_follows_by_hand(encoder):
    start = encoder.linear.weight.detach().clone()
    model = Momentum(encoder, size=4, momentum=0.9).train()
    model(step(0), 3)
    assert torch.equal(model.momentum_encoder.linear.weight, start)  # nothing was learnt yet
    with torch.no_grad():
        encoder.linear.weight += 1
    model(step(1), 3)
    torch.testing.assert_close(model.momentum_encoder.linear.weight, 0.9 * start + 0.1 * (start + 1))
    model(step(2), 3)
    torch.testing.assert_close(model.momentum_encoder.linear.weight, 0.81 * start + 0.19 * (start + 1))
    assert torch.equal(encoder.linear.weight, start + 1)


def test_scores_are_own_documents_then_the_queue_both_by_the_copy(encoder):
    model = Momentum(encoder, size=10, momentum=1.0).train()  # the copy stays where it starts
    first, second = step(0), step(1)
    copied = encoder.linear.weight.detach().clone()
    own = model(first, 3)
    torch.testing.assert_close(
        own, torch.einsum("bd,bkd->bk", first["queries"] @ copied.T, first["documents"] @ copied.T)
    )
    with torch.no_grad():
        encoder.linear.weight *= -2
    queries = second["queries"] @ encoder.linear.weight.T
    expected = torch.cat([
        torch.einsum("bd,bkd->bk", queries, second["documents"] @ copied.T),
        queries @ (first["documents"][:, 0] @ copied.T).T,
    ], 1)  # fmt: skip
    torch.testing.assert_close(model(second, 3), expected)


def test_the_queue_grows_to_its_size_and_the_oldest_leave(encoder):
    model = Momentum(encoder, size=5, momentum=1.0).train()
    widths = [model(step(number), 3).shape[1] for number in range(5)]
    assert widths == [3, 5, 7, 8, 8]
    positives = torch.cat([step(number)["documents"][:, 0] for number in range(5)]) @ encoder.linear.weight.T
    torch.testing.assert_close(model.queue, positives[-5:].detach())
    model(step(9, batch=7), 3)  # a batch larger than the queue: its last ones
    torch.testing.assert_close(model.queue, (step(9, batch=7)["documents"][2:, 0] @ encoder.linear.weight.T).detach())


def test_places_in_the_queue_that_hold_no_relevant_document():
    relevant = torch.tensor([[0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]]).bool()
    assert negatives(relevant).tolist() == [[2, 3], [2, 3], [1, 2]]  # the newest, as many for each query
    assert negatives(torch.zeros(2, 3).bool()).tolist() == [[0, 1, 2]] * 2
    assert negatives(torch.ones(2, 3).bool()).shape == (2, 0)
    assert negatives(torch.zeros(2, 0).bool()).shape == (2, 0)


def test_each_query_is_compared_with_its_own_places_of_the_queue(encoder):
    whole, some = (Momentum(encoder, size=10, momentum=1.0).train() for _ in range(2))
    for model in (whole, some):
        model(step(0), 3)
    every, kept = whole(step(1), 3), some(step(1), 3, torch.tensor([[1], [0]]))
    torch.testing.assert_close(kept[:, :3], every[:, :3])
    assert torch.equal(kept[:, 3], every[[0, 1], [4, 3]])
    assert some(step(2), 3, torch.empty(2, 0, dtype=torch.long)).shape == (2, 3)


def test_only_the_queries_are_trained(encoder):
    model = Momentum(encoder, size=4, momentum=0.5).train()
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == [
        "encoder.linear.weight"
    ]
    model(step(0), 3)
    scores = model(step(1), 3)
    queue = model.queue
    scores.sum().backward()  # after the queue has moved on
    assert queue.grad_fn is None and not queue.requires_grad
    assert model.momentum_encoder.linear.weight.grad is None
    keys = torch.cat([step(0)["documents"][:, 0], step(1)["documents"].sum(1)]) @ encoder.linear.weight.detach().T
    of_queries = (keys[:2].sum(0) + keys[2:].unsqueeze(1)).squeeze(1)  # what each query's vector is multiplied with
    torch.testing.assert_close(encoder.linear.weight.grad, of_queries.T @ step(1)["queries"])


def test_it_learns_that_a_positive_is_its_query():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Momentum(Encoder(dim=3), size=8, momentum=0.9).train()
    search = torch.optim.Adam([each for each in model.parameters() if each.requires_grad], lr=0.05)
    history = []
    for number in range(200):
        tokens = {side: F.normalize(given, dim=-1) for side, given in step(number).items()}
        tokens["documents"][:, 0] = tokens["queries"]
        scores = model(tokens, 3)
        labels = torch.zeros_like(scores)
        labels[:, 0] = 1
        loss = losses.info_nce(scores, labels).mean()
        search.zero_grad()
        loss.backward()
        search.step()
        history.append(loss.item())
    assert sum(history[-20:]) < sum(history[5:25]) / 2


def test_the_copy_has_no_dropout():
    model = Momentum(Encoder(dropout=0.5), size=4, momentum=0.9).train()
    model(step(0), 3)
    assert model.encoder.training and not model.momentum_encoder.training
    expected = step(0)["documents"][:, 0] @ model.momentum_encoder.linear.weight.T
    torch.testing.assert_close(model.queue, expected)


def test_scores_stay_float32_under_autocast(encoder):
    model = Momentum(encoder.float(), size=4, momentum=0.9).train()
    with torch.autocast("cpu", torch.bfloat16):
        for number in range(2):
            scores = model({side: given.float() for side, given in step(number).items()}, 3)
    assert scores.dtype == model.queue.dtype == torch.float32
