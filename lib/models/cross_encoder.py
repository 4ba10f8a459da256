"""Cross-encoder (CAT): query and document in one sequence, one score from its first token.

Nogueira and Cho 2019, https://arxiv.org/abs/1901.04085; in 2010.02666 it is BERT_CAT. Underneath is
`AutoModelForSequenceClassification(num_labels=1)`, saved in the hub's layout, so a trained ranker loads in
sentence-transformers as it is.
"""

from pathlib import Path

import torch
import transformers
from torch import nn

from lib.models import backbone, packed, weights
from lib.models.ragged import Ragged
from lib.models.ranker import Ranker, Tokenizer, check_length, drawn_from
from lib.models.tokens import PairTokens, Pattern


class Float32Linear(nn.Linear):
    """A linear layer in float32 under autocast: in bfloat16 scores near 20 would be multiples of 1/8, and tie."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., dim) of any type -> (..., out) in float32."""
        with torch.autocast(hidden.device.type, enabled=False):
            return super().forward(hidden.float())


class CrossEncoder(Ranker):
    """Scores (batch, docs) from pair tokens whose rows are the documents of one query after another."""

    architecture = "cat"

    def __init__(self, transformer: transformers.PreTrainedModel):
        super().__init__({})
        self.transformer = transformer
        keep_float32(transformer)
        packed.read_first(transformer)

    @classmethod
    def open(
        cls, folder: Path, layers: tuple[int, ...] | None, seed: int, *, trained: bool, dropout: float | None,
        embeddings: bool,
    ) -> "CrossEncoder":  # fmt: skip
        """The head is drawn from `seed`; trained ones of sentence-transformers are opened too."""
        return cls(classifier(folder, layers, seed, dropout=dropout, embeddings=embeddings, whole=trained))

    def forward(self, tokens: dict[str, torch.Tensor], docs: int = 1) -> torch.Tensor:
        """tokens: (batch * docs, width) each -> raw scores (batch, docs): no sigmoid, float32."""
        return self.transformer(**tokens).logits.float().view(-1, docs)

    def inputs(
        self, queries: Ragged, documents: Ragged, tokenizer: Tokenizer, max_length: int, max_query: int | None = 64
    ) -> PairTokens:
        """One sequence per pair; `max_query` counts a query's own tokens, as `PairTokens` has it."""
        check_length(self.transformer.config, max_length)
        return PairTokens(queries, documents, Pattern.of(tokenizer), max_length, max_query)

    def _save_weights(self, folder: Path, max_length: int) -> None:
        save_classifier(self.transformer, folder)


def classifier(
    folder: Path, layers: tuple[int, ...] | None, seed: int, *, whole: bool, **changes: object
) -> transformers.PreTrainedModel:
    """transformers' classifier with one label, in float32; a new head is drawn from `seed`, with `whole` refused."""
    with drawn_from(seed):
        auto = transformers.AutoModelForSequenceClassification
        transformer = weights.pretrained(auto, folder, whole=whole, num_labels=1)
    return backbone.prepare(transformer, layers, **changes)


def keep_float32(transformer: transformers.PreTrainedModel) -> None:
    """Turn the scoring head into one that stays in float32, in place: the same parameters and names."""
    for module in transformer.modules():
        if type(module) is nn.Linear and module.out_features == 1:
            module.__class__ = Float32Linear


def save_classifier(transformer: transformers.PreTrainedModel, folder: Path) -> None:
    """Write weights and configuration in the hub's layout."""
    # Else sentence-transformers would put a sigmoid over the score.
    transformer.config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
    with weights.quiet():
        transformer.save_pretrained(folder)
