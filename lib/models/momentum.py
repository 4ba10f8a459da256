"""Momentum contrast: a queue of earlier steps' documents as negatives, around any bi-encoder."""

import copy

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lib.models.gathered import gathered


class Momentum(nn.Module):
    """Scores of an encoder's queries against its own documents and a queue of earlier positives.

    He et al. 2020 (MoCo), https://arxiv.org/abs/1911.05722; with one encoder for both sides, as in Contriever
    (https://arxiv.org/abs/2112.09118). A slowly moving copy of the encoder, without dropout, computes every document
    vector, own documents too: otherwise a query could tell its positive from the queue by the encoder. So the gradient
    reaches the queries only. The queue holds `size` documents; the copy keeps the share `momentum` of itself per step.
    Of the processes of a launch each scores its own queries, and all have one queue, which takes the positives of all.
    """

    def __init__(self, encoder: nn.Module, size: int, momentum: float):
        super().__init__()
        self.encoder, self.size, self.momentum = encoder, size, momentum
        self.momentum_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.register_buffer("queue", None, persistent=False)  # then (filled, dim), the oldest first

    def forward(
        self, tokens: dict, docs: int, queued: Int[Tensor, "batch kept"] | None = None
    ) -> Float[Tensor, "batch columns"]:
        """Scores (batch, docs + kept): own documents, the positive first, then the queue from its oldest.

        One call is one step: it moves the copy and, after scoring, puts this step's positives (column 0) in the queue,
        where the oldest leave. `queued` are the places that each query is compared with (`negatives`); None: all.
        """
        queries = self.encoder.encode_queries(tokens["queries"]).values.squeeze(1)
        with torch.no_grad():  # copy = momentum * copy + (1 - momentum) * encoder
            for slow, fast in zip(self.momentum_encoder.parameters(), self.encoder.parameters(), strict=True):
                slow.lerp_(fast, 1 - self.momentum)
            documents = self.momentum_encoder.eval().encode_documents(tokens["documents"]).values
            documents = documents.squeeze(1).unflatten(0, (-1, docs))
        with torch.autocast(queries.device.type, enabled=False):  # in bfloat16 near scores would tie
            kind = torch.promote_types(queries.dtype, torch.float32)
            queries, documents = queries.to(kind), documents.to(kind)
            scores = torch.einsum("bd,bkd->bk", queries, documents)
            if self.queue is not None:
                earlier = queries @ self.queue.T
                scores = torch.cat([scores, earlier if queued is None else earlier.gather(1, queued)], 1)
        # A new tensor: this step's backward pass still needs the queue that it was scored with.
        positives = gathered(documents[:, 0])
        queue = positives if self.queue is None else torch.cat([self.queue, positives])
        self.queue = queue[-self.size :].detach()
        return scores


def negatives(relevant: Bool[Tensor, "batch filled"]) -> Int[Tensor, "batch kept"]:
    """The places in a queue, the oldest first, that hold no document relevant to the row's query.

    Every row keeps as many as the row that has the fewest, its newest ones: losses then see whole rows.
    """
    kept = int((~relevant).sum(1).amin())
    return (~relevant).byte().argsort(dim=1, stable=True)[:, relevant.shape[1] - kept :]
