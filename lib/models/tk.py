"""TK: word vectors, a small transformer over each text, and kernels that count soft matches between the two.

Hofstaetter et al. 2020, https://arxiv.org/abs/2002.01854; as in the code of 2010.02666 (one kernel branch, natural
logarithm). Of the backbone only the token embeddings are used, as word vectors, where the paper takes GloVe.
"""

import math
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lib.models import backbone, weights
from lib.models.ranker import LateRanker, Tokens, drawn_from, float32
from lib.models.vectors import Vectors

CENTRES = (1.0, 0.9, 0.7, 0.5, 0.3, 0.1, -0.1, -0.3, -0.5, -0.7, -0.9)  # of the kernels, as cosines
WIDTH = 0.1  # standard deviation of each kernel
SMALLEST = 1e-10  # of a kernel's sum, before the logarithm
DOCUMENT_OFFSET = 500  # a document's first position, so that its positions differ from the query's


def kernel_features(
    queries: Vectors, documents: Vectors, strength: Float[Tensor, " kernels"]
) -> Float[Tensor, "batch docs kernels"]:
    """phi_k = sum over query tokens of log(strength_k * sum over document tokens of exp(-(cos - mu_k)^2 / 2 sigma^2)).

    queries (batch, query tokens, dim), documents (batch or 1, docs, document tokens, dim).
    """
    words, others = F.normalize(queries.values, dim=-1), F.normalize(documents.values, dim=-1)
    cosine = words.unsqueeze(1) @ others.transpose(-1, -2)  # (batch, docs, query tokens, document tokens)
    counts = documents.mask.unsqueeze(2)
    sums = torch.stack([  # one kernel at a time: all at once would be eleven match matrices in memory
        (torch.exp(-torch.square(cosine - centre) / (2 * WIDTH**2)) * counts).sum(-1) for centre in CENTRES
    ], dim=-1)  # (batch, docs, query tokens, kernels)  # fmt: skip
    logs = torch.log(torch.clamp(sums * strength, min=SMALLEST))
    return (logs * queries.mask[:, None, :, None]).sum(2)


class TK(LateRanker):
    """`depth`: layers of the contextualiser. `heads`, `feed_forward`: their attention heads and inner dimension."""

    architecture = "tk"

    def __init__(self, embeddings: Tensor, *, depth: int = 2, heads: int = 8, feed_forward: int = 300):
        if embeddings.shape[1] % heads:
            raise ValueError(f"heads={heads}: the word vectors have {embeddings.shape[1]} dimensions; give a divisor")
        super().__init__({"depth": depth, "heads": heads, "feed_forward": feed_forward})
        self.embedding = nn.Embedding.from_pretrained(embeddings, freeze=False)
        layer = nn.TransformerEncoderLayer(embeddings.shape[1], heads, feed_forward, dropout=0.0, batch_first=True)
        self.contextualiser = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.mixer = nn.Parameter(torch.tensor(0.5))  # share of the word vector itself
        self.strength = nn.Parameter(torch.ones(len(CENTRES)))  # alpha of each kernel
        self.weights = nn.Parameter(torch.empty(len(CENTRES)).uniform_(-0.014, 0.014))

    @classmethod
    def open(
        cls, folder: Path, layers: tuple[int, ...] | None, seed: int, *, trained: bool, dropout: float | None,
        embeddings: bool, **options: object,
    ) -> "TK":  # fmt: skip
        """All but the word vectors is drawn from `seed`; TK has no dropout. Raises ValueError if `layers` is given."""
        if layers is not None:
            raise ValueError(f"layers={layers}: TK has none of the backbone's; give layers=None and the option depth")
        path = folder / weights.WEIGHTS
        if trained:
            words = weights.tensors(path, "embedding.weight")["embedding.weight"]
        else:
            words = standardised(backbone.encoder(folder).get_input_embeddings().weight.detach())
        with drawn_from(seed):
            ranker = cls(words, **options)
        if trained:
            weights.fill(ranker, path)
        ranker.embedding.requires_grad_(embeddings)
        return ranker

    def _encode(self, tokens: Tokens, first: int) -> Vectors:
        words, mask = self.embedding(tokens["input_ids"]), tokens["attention_mask"].bool()
        placed = words + positions(*words.shape[1:], first, words.device)
        context = self.contextualiser(placed, src_key_padding_mask=~mask)
        vectors = float32(self.mixer * words + (1 - self.mixer) * context)
        return Vectors(vectors, mask)

    def encode_queries(self, tokens: Tokens) -> Vectors:
        """One contextual vector per token."""
        return self._encode(tokens, 0)

    def encode_documents(self, tokens: Tokens) -> Vectors:
        """One contextual vector per token."""
        return self._encode(tokens, DOCUMENT_OFFSET)

    def late(self, queries: Vectors, documents: Vectors) -> Float[Tensor, "batch docs"]:
        """Kernel features times their weights, in float32."""
        with torch.autocast(queries.values.device.type, enabled=False):
            return kernel_features(queries, documents, self.strength) @ self.weights

    def _save_weights(self, folder: Path, max_length: int) -> None:
        safetensors.torch.save_model(self, str(folder / weights.WEIGHTS))


def positions(width: int, dim: int, first: int, device: torch.device) -> Tensor:
    """Sinusoidal positions (width, dim) from position `first` on (Vaswani et al. 2017, section 3.5)."""
    place = torch.arange(first, first + width, device=device, dtype=torch.float32).unsqueeze(1)
    rate = torch.exp(torch.arange(0, dim, 2, device=device) * (-math.log(10000.0) / dim))
    return torch.stack([torch.sin(place * rate), torch.cos(place * rate)], dim=-1).flatten(1)[:, :dim]


def standardised(words: Tensor) -> Tensor:
    """Word vectors (vocabulary, dim) with mean 0 and root mean square 1 over all of them.

    A transformer's embeddings share a direction, which makes every cosine high, and are short beside positions and the
    contextualiser's output; GloVe's are not.
    """
    centred = words - words.mean(0)
    return centred / centred.square().mean().sqrt()
