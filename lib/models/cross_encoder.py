"""Cross-encoder (CAT): query and document in one sequence, one score from its first token.

Nogueira and Cho 2019, https://arxiv.org/abs/1901.04085; in 2010.02666 it is BERT_CAT. Underneath stands
`AutoModelForSequenceClassification(num_labels=1)`, saved in the hub's layout, so a trained ranker loads in
sentence-transformers as it is.
"""

from pathlib import Path

import torch
import transformers
from torch import nn

from lib.models import backbone


class Float32Linear(nn.Linear):
    """A linear layer that stays in float32 under autocast.

    bfloat16 has 8 bits of mantissa: scores near 20 would be multiples of 1/8, and documents would tie.
    """

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden: (..., dim) of any type -> (..., out) in float32."""
        with torch.autocast(hidden.device.type, enabled=False):
            return super().forward(hidden.float())


class CrossEncoder(nn.Module):
    """Scores (batch, docs) from pair tokens whose rows are the documents of one query after another."""

    def __init__(self, transformer: transformers.PreTrainedModel):
        super().__init__()
        self.transformer = transformer
        for module in transformer.modules():
            if type(module) is nn.Linear and module.out_features == 1:
                module.__class__ = Float32Linear  # the same parameters and names: it saves and loads as before

    def forward(self, tokens: dict[str, torch.Tensor], docs: int = 1) -> torch.Tensor:
        """tokens: (batch * docs, length) each -> raw scores (batch, docs): no sigmoid, float32."""
        return self.transformer(**tokens).logits.float().view(-1, docs)

    def save(self, folder: Path, tokenizer: transformers.PreTrainedTokenizerFast, max_length: int) -> None:
        """Write weights (safetensors), configuration and tokenizer in the hub's layout."""
        # sentence-transformers would put a sigmoid over the score; this says that the score is the logit.
        self.transformer.config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
        with backbone.quiet():
            self.transformer.save_pretrained(folder)
        tokenizer.model_max_length = max_length
        tokenizer.save_pretrained(folder)


def build(
    name: str, layers: tuple[int, ...] | None, seed: int, *, dropout: float | None = None, embeddings: bool = True
) -> CrossEncoder:
    """A cross-encoder from a backbone with a new head drawn from `seed`; `layers` None keeps all of them.

    `dropout` replaces the backbone's; with `embeddings=False` the embedding table is not trained.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ranker = load(backbone.folder(name), dropout=dropout, embeddings=embeddings)
    if layers is not None:
        backbone.keep_layers(ranker.transformer, layers)
    return ranker


def load(folder: Path, *, dropout: float | None = None, embeddings: bool = True) -> CrossEncoder:
    """A trained cross-encoder as it was saved, ready to score; `dropout` and `embeddings` as in `build`."""
    with backbone.quiet():
        transformer = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=1, use_safetensors=True, local_files_only=True, dtype=torch.float32
        )
    if dropout is not None:
        for module in transformer.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
    transformer.base_model.embeddings.requires_grad_(embeddings)
    return CrossEncoder(transformer).eval()
