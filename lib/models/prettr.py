"""PreTTR: a cross-encoder whose lower layers encode query and document separately, so that documents can be stored.

MacAvaney et al. 2020, https://arxiv.org/abs/2004.14255; in 2010.02666 it is PreTT (DistilBERT, separate in layers 0 to
2, joined before layer 3, no compression). The sequence is the cross-encoder's, [CLS] query [SEP] document [SEP], with
the same head. Two things differ: below `split` no token sees the other side, and a document's positions begin at
`offset`, wherever its query ends. With `split=0` and a query of `offset` tokens the scores are the cross-encoder's.
"""

from __future__ import annotations  # transformers reads its model classes, for seconds, when one is named

from pathlib import Path

import safetensors.torch
import torch
import transformers
from jaxtyping import Float
from torch import Tensor, nn

from lib.models import backbone, packed, weights
from lib.models.cross_encoder import classifier, keep_float32, save_classifier
from lib.models.ragged import Ragged
from lib.models.ranker import LateRanker, Tokenizer, Tokens, check_length, drawn_from, float32
from lib.models.tokens import Pattern, SeparateTokens, Side, check_room
from lib.models.vectors import Vectors

COMPRESSION = "compression.safetensors"
# Whose layers can be run one by one: absolute positions, and no state between the layers (as MPNet's and DeBERTa's
# relative positions would be). For each a test finds the cross-encoder's scores at split 0.
FAMILIES = ("bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta")


class PreTTR(LateRanker):
    """`split`: how many layers run separately. `offset`: a document's first position, and tokens of the longest query.

    `compression`: dimensions in which a document token is stored (None: all); a linear layer in, GELU, one out, and a
    layer norm, trained with the rest.
    """

    architecture = "prettr"

    def __init__(
        self, transformer: transformers.PreTrainedModel, tokenizer: Tokenizer, *, split: int, offset: int = 32,
        compression: int | None = None,
    ):  # fmt: skip
        super().__init__({"split": split, "offset": offset, "compression": compression})
        config = transformer.config
        if config.model_type not in FAMILIES or getattr(config, "is_decoder", False):
            fix = f"give one of {', '.join(FAMILIES)}"
            raise ValueError(f"PreTTR cannot run a {config.model_type} backbone layer by layer: {fix}")
        self.transformer = transformer
        keep_float32(transformer)
        count, most = config.num_hidden_layers, backbone.limit(config)
        if not 0 <= split < count:
            raise ValueError(f"split={split}: the model has {count} layers, and one must see both sides")
        if not 1 <= offset < most:
            raise ValueError(f"offset={offset}: the model has {most} positions, and a document needs some")
        if compression is not None and compression < 1:
            raise ValueError(f"compression={compression}: give 1 or more dimensions, or None")
        types = Pattern.of(tokenizer).has_types and getattr(config, "type_vocab_size", 0) > 1
        self._second_type = 1 if types else 0  # of a document's tokens, as in the cross-encoder's pairs
        width = config.hidden_size
        self.compression = None if compression is None else nn.Sequential(
            nn.Linear(width, compression), nn.GELU(), nn.Linear(compression, width), nn.LayerNorm(width)
        )  # fmt: skip

    @classmethod
    def open(
        cls, folder: Path, layers: tuple[int, ...] | None, seed: int, *, trained: bool, dropout: float | None,
        embeddings: bool, split: int | None = None, **options: object,
    ) -> PreTTR:  # fmt: skip
        """Head and compression are drawn from `seed`; `split` None is half of the layers."""
        transformer = classifier(folder, layers, seed, dropout=dropout, embeddings=embeddings, whole=trained)
        split = transformer.config.num_hidden_layers // 2 if split is None else split
        with drawn_from(seed):
            ranker = cls(transformer, backbone.tokenizer(str(folder)), split=split, **options)
        if trained and ranker.compression is not None:
            weights.fill(ranker.compression, folder / COMPRESSION)
        return ranker

    def _run(self, hidden: Tensor, mask: Tensor, layers: slice) -> Tensor:
        """Hidden states (texts, width, dim) through some layers; mask (texts, width)."""
        base = self.transformer.base_model
        if packed.fits(base.config) and hidden.device.type == "cpu":  # at the end the head reads the first token
            return packed.run(base.encoder.layer[layers], hidden, mask, first=layers.stop is None)
        from transformers.masking_utils import create_bidirectional_mask

        wide = create_bidirectional_mask(base.config, hidden, mask)
        for layer in (getattr(base, "encoder", None) or base.transformer).layer[layers]:
            hidden = layer(hidden, wide)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        return hidden

    def _lower(self, tokens: Tokens, first: int, kind: int) -> Vectors:
        """Hidden states at the split of texts at places from `first` on, of token type `kind`."""
        ids, mask = tokens["input_ids"], tokens["attention_mask"].bool()
        base = self.transformer.base_model
        first += backbone.first_position(base)
        places = {"position_ids": (first + torch.arange(ids.shape[1], device=ids.device)).expand_as(ids)}
        if getattr(base.config, "type_vocab_size", 0) > 1:
            places["token_type_ids"] = torch.full_like(ids, kind)
        hidden = base.embeddings(input_ids=ids, **places)
        if hasattr(base, "embeddings_project"):  # ELECTRA
            hidden = base.embeddings_project(hidden)
        return Vectors(self._run(hidden, mask, slice(self.options["split"])), mask)

    def encode_queries(self, tokens: Tokens) -> Vectors:
        """[CLS] query [SEP] up to the split."""
        return self._lower(tokens, first=0, kind=0)

    def encode_documents(self, tokens: Tokens) -> Vectors:
        """document [SEP] up to the split, compressed: what is stored."""
        hidden, mask = self._lower(tokens, first=self.options["offset"], kind=self._second_type)
        return Vectors(hidden if self.compression is None else self.compression[:2](hidden), mask)

    def late(self, queries: Vectors, documents: Vectors) -> Float[Tensor, "batch docs"]:
        """Query before document, through the upper layers and the head."""
        batch, docs = len(queries.mask), documents.mask.shape[1]
        if self.compression is not None:
            documents = Vectors(self.compression[2:](documents.values), documents.mask)
        queries = Vectors(queries.values.to(documents.values.dtype), queries.mask)
        sides = (queries.map(lambda part: part.unsqueeze(1)), documents)
        sides = [side.map(lambda part: part.expand(batch, docs, *part.shape[2:])) for side in sides]
        hidden, mask = (torch.cat(parts, dim=2).flatten(0, 1) for parts in zip(*sides, strict=True))
        hidden = self._run(hidden, mask, slice(self.options["split"], None))
        return float32(self._head(hidden)).view(batch, docs)

    def _head(self, hidden: Tensor) -> Tensor:
        """The classifier's own head over the first token, (texts, 1)."""
        model = self.transformer
        pooler = getattr(model.base_model, "pooler", None)
        if pooler is not None:  # BERT
            return model.classifier(model.dropout(pooler(hidden)))
        if hasattr(model, "pre_classifier"):  # DistilBERT
            return model.classifier(model.dropout(torch.relu(model.pre_classifier(hidden[:, 0]))))
        return model.classifier(hidden)  # RoBERTa, ELECTRA: the head takes the first token itself

    def inputs(
        self, queries: Ragged, documents: Ragged, tokenizer: Tokenizer, max_length: int, max_query: int | None = 64
    ) -> SeparateTokens:
        """[CLS] query [SEP], and document [SEP] without a [CLS] of its own.

        A query has at most `offset` tokens, special tokens included, and `max_query` of its own (None: no such limit).
        """
        pair, limit = Pattern.of(tokenizer), self.options["offset"]
        special = len(pair.before) + len(pair.between)
        check_room("offset", limit, special)
        check_length(self.transformer.config, limit + max_length, f"offset={limit} and max_length={max_length}")
        if max_query is not None:
            check_room("max_query", max_query, 0)
            limit = min(limit, max_query + special)
        asked = Side(queries, pair.before, pair.between, pair.pad, limit)
        return SeparateTokens(asked, Side(documents, (), pair.after, pair.pad, max_length))

    def _save_weights(self, folder: Path, max_length: int) -> None:
        save_classifier(self.transformer, folder)
        if self.compression is not None:
            safetensors.torch.save_model(self.compression, str(folder / COMPRESSION))
