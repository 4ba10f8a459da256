"""Masked language model: an encoder with a head over its vocabulary, with which pre-training goes on.

Devlin et al. 2019, https://arxiv.org/abs/1810.04805. The head is the backbone's own where its folder has one; else it
is its family's, drawn anew, with the input embeddings as its last layer. It is used in pre-training alone.
"""

from __future__ import annotations  # transformers reads its model classes, for seconds, when one is named

import transformers
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lib.models import backbone, weights
from lib.models.ragged import Ragged
from lib.models.ranker import Ranker, Tokens, drawn_from
from lib.models.tokens import Pattern, Side


class MaskedLM(nn.Module):
    """transformers' masked language model, whose head sees the places that are asked for and no others."""

    def __init__(self, transformer: transformers.PreTrainedModel):
        super().__init__()
        self.transformer = transformer

    @classmethod
    def open(
        cls, name: str, layers: tuple[int, ...] | None, seed: int, *, dropout: float, embeddings: bool
    ) -> MaskedLM:
        """That of a backbone, as `check` allows it; options as in `lib.models.build`."""
        check(name)
        with drawn_from(seed):
            found = weights.pretrained(transformers.AutoModelForMaskedLM, backbone.folder(name), whole=False)
        return cls(backbone.prepare(found, layers, dropout=dropout, embeddings=embeddings))

    def forward(self, tokens: Tokens, asked: Bool[Tensor, "texts width"]) -> Float[Tensor, "asked vocabulary"]:
        """Logits at the places asked for, in float32; the vocabulary at every place would cost seven times as much."""
        with backbone.giving(self.transformer.base_model, lambda hidden: hidden[asked].unsqueeze(0)):
            return self.transformer(**tokens).logits.squeeze(0).float()

    def give(self, ranker: Ranker) -> None:
        """Put the encoder's weights into a ranker of the same backbone and layers; a pooler stays the ranker's."""
        encoder = self.transformer.base_model.state_dict()
        lacking, beyond = ranker.transformer.base_model.load_state_dict(encoder, strict=False)
        if others := [name for name in (*lacking, *beyond) if "pooler" not in name]:
            raise ValueError(f"the weight {others[0]!r} is not in both {type(ranker).__name__} and its pre-training")


def check(name: str) -> None:
    """Raise ValueError if a backbone has no masked language model, or its tokenizer no mask."""
    config = weights.config(backbone.folder(name))
    if type(config) not in transformers.MODEL_FOR_MASKED_LM_MAPPING or backbone.tokenizer(name).mask_token is None:
        fix = "give an encoder like BERT"
        raise ValueError(f"backbone {name!r}: {config.model_type} has no masked language model; {fix}")


def side(texts: Ragged, name: str, max_length: int) -> Side:
    """How a text is read by itself: between the tokenizer's special tokens, cut to `max_length`."""
    alone = Pattern.of_single(backbone.tokenizer(name))
    return Side(texts, alone.before, alone.after, alone.pad, max_length)
