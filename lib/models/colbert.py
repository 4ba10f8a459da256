"""ColBERT: one vector per token; every query token finds its best document token, and the score is the sum (MaxSim).

Khattab and Zaharia 2020, https://arxiv.org/abs/2004.12832: 128 dimensions, cosine, queries filled up with [MASK]
tokens, punctuation left out. The defaults are the dot product and 8 [MASK] tokens after the last [SEP], whatever the
query's length, as in 2010.02666, with the original's dimension. The original also marks its texts, with [Q] or [D]
after [CLS]; here there is no marker by default, since pre-training has not seen one and a few thousand groups would
have to teach it. A model that was trained with markers should get its own: answerai-colbert-small-v1 has [unused0] and
[unused1] (https://huggingface.co/answerdotai/answerai-colbert-small-v1).
"""

from __future__ import annotations  # transformers reads its model classes, for seconds, when one is named

import string
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
import transformers
from jaxtyping import Float
from torch import Tensor, nn

from lib.models import backbone, weights
from lib.models.ranker import LateRanker, Tokens, drawn_from, float32
from lib.models.vectors import Vectors

PROJECTION = "projection.safetensors"
SIMILARITY = ("dot", "cosine")
# Length of the projection's rows at the start: scores, sums over a query's tokens, begin as other architectures' do.
# With 1, training from labels or a teacher ended below its start (dev, RR@10 .45 and .44; with 1/4 .52 and .50).
GAIN = 0.25


def max_sim(queries: Vectors, documents: Vectors) -> Float[Tensor, "batch docs"]:
    """Sum over query tokens of the largest dot product with a document token; -inf for a document without vectors.

    queries (batch, query tokens, dim), documents (batch or 1, docs, document tokens, dim).
    """
    if not documents.mask.shape[2]:
        return queries.values.new_full((len(queries.values), documents.mask.shape[1]), -torch.inf)
    # (batch, docs, query tokens, document tokens); padding is -inf, since a document's similarities may all be negative
    similarity = queries.values.unsqueeze(1) @ documents.values.transpose(-1, -2)
    similarity = similarity.masked_fill(~documents.mask.unsqueeze(2), -torch.inf)
    return similarity.amax(-1).masked_fill(~queries.mask.unsqueeze(1), 0.0).sum(-1)


class ColBERT(LateRanker):
    """Token vectors of `dim` dimensions (None: 128) after a linear projection without bias.

    `projection=False`: the encoder's own vectors, and `dim` is its width. `masks`: [MASK] tokens after each query,
    which the encoder turns into expansion terms. `similarity`: "dot" or "cosine". `punctuation`: whether document
    tokens that are punctuation count. `query_marker`, `document_marker`: a token of the vocabulary after [CLS], such as
    "[unused0]"; "": none.
    """

    architecture = "colbert"

    def __init__(
        self, transformer: transformers.PreTrainedModel, tokenizer: transformers.PreTrainedTokenizerFast, *,
        dim: int | None = None, masks: int = 8, similarity: str = "dot", punctuation: bool = True,
        projection: bool = True, query_marker: str = "", document_marker: str = "",
    ):  # fmt: skip
        width = transformer.config.hidden_size
        dim = (128 if projection else width) if dim is None else dim
        if similarity not in SIMILARITY:
            raise ValueError(f"similarity={similarity!r}: give one of {', '.join(SIMILARITY)}")
        if not 1 <= dim <= width or masks < 0:
            raise ValueError(f"dim={dim}, masks={masks}: dim is 1 to {width}, masks 0 or more")
        if not projection and dim != width:
            raise ValueError(f"dim={dim}: without a projection it is the encoder's {width}; give none")
        super().__init__({
            "dim": dim, "masks": masks, "similarity": similarity, "punctuation": punctuation, "projection": projection,
            "query_marker": query_marker, "document_marker": document_marker,
        })  # fmt: skip
        self.expansion(tokenizer), self.markers(tokenizer)  # refused here, where the tokenizer has no such token
        self.transformer = transformer
        self.projection = nn.Linear(width, dim, bias=False) if projection else nn.Identity()
        if projection:  # orthogonal rows keep the order of similarities as the encoder has it
            nn.init.orthogonal_(self.projection.weight, gain=GAIN)
        marks = () if punctuation else tokenizer.convert_tokens_to_ids(list(string.punctuation))
        left_out = torch.tensor([mark for mark in marks if mark != tokenizer.unk_token_id], dtype=torch.long)
        self.register_buffer("left_out", left_out, persistent=False)

    @classmethod
    def open(
        cls, folder: Path, layers: tuple[int, ...] | None, seed: int, *, trained: bool, dropout: float | None,
        embeddings: bool, **options: object,
    ) -> ColBERT:  # fmt: skip
        """The projection is drawn from `seed`."""
        transformer = backbone.encoder(folder, layers, dropout=dropout, embeddings=embeddings, whole=trained)
        with drawn_from(seed):
            ranker = cls(transformer, backbone.tokenizer(str(folder)), **options)
        if not trained:
            backbone.warn_of_modules(folder)
        if trained and ranker.options["projection"]:
            weights.fill(ranker.projection, folder / PROJECTION)
        return ranker

    def encode_queries(self, tokens: Tokens) -> Vectors:
        """One vector per token."""
        vectors = float32(self.projection(self.transformer(**tokens).last_hidden_state))
        if self.options["similarity"] == "cosine":
            vectors = F.normalize(vectors, dim=-1)
        return Vectors(vectors, tokens["attention_mask"].bool())

    def encode_documents(self, tokens: Tokens) -> Vectors:
        """As for queries, without the tokens that are left out."""
        vectors, mask = self.encode_queries(tokens)
        return Vectors(vectors, mask & ~torch.isin(tokens["input_ids"], self.left_out))

    def late(self, queries: Vectors, documents: Vectors) -> Float[Tensor, "batch docs"]:
        """`max_sim` in float32."""
        with torch.autocast(queries.values.device.type, enabled=False):
            return max_sim(queries, documents)

    def expansion(self, tokenizer: transformers.PreTrainedTokenizerFast) -> tuple[int, ...]:
        """[MASK] tokens, `masks` of them; raises ValueError if the tokenizer has none."""
        masks, mask = self.options["masks"], tokenizer.mask_token_id
        if masks and mask is None:
            raise ValueError(f"masks={masks}: tokenizer {tokenizer.name_or_path!r} has no [MASK] token; give masks=0")
        return (mask,) * masks

    def markers(self, tokenizer: transformers.PreTrainedTokenizerFast) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """`query_marker` and `document_marker`; raises ValueError if the vocabulary has no such token."""
        return self._marker("query_marker", tokenizer), self._marker("document_marker", tokenizer)

    def _marker(self, option: str, tokenizer: transformers.PreTrainedTokenizerFast) -> tuple[int, ...]:
        if not (marker := self.options[option]):
            return ()
        if marker not in tokenizer.get_vocab():
            raise ValueError(f"{option}={marker!r}: tokenizer {tokenizer.name_or_path!r} has no such token")
        return (tokenizer.convert_tokens_to_ids(marker),)

    def _save_weights(self, folder: Path, max_length: int) -> None:
        with weights.quiet():
            self.transformer.save_pretrained(folder)
        if self.options["projection"]:
            safetensors.torch.save_model(self.projection, str(folder / PROJECTION))
