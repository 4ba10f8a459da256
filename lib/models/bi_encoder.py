"""Bi-encoder (DOT): one vector a text, the score is their dot product or cosine.

In 2010.02666 it is BERT_DOT (first token, dot product), in 2407.21515 the model of all experiments (cosine). Saved in
sentence-transformers' layout, so a trained ranker loads there as it is.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from lib.losses.margins import Similarities
from lib.models import backbone, weights
from lib.models.ranker import LateRanker, float32

POOLING = ("mean", "cls")
SIMILARITY = ("dot", "cosine")


class BiEncoder(LateRanker):
    """One shared encoder; `pooling` is "mean" (over tokens) or "cls" (first token), `similarity` "dot" or "cosine".

    `scale` multiplies every score. A cosine's margin ends at 2: a softmax over cosines is nearly flat, and a teacher's
    margins may be out of reach: sentence-transformers scales cosines by 20 in its losses. The order stays.
    """

    architecture = "dot"

    def __init__(
        self, transformer: transformers.PreTrainedModel, *, pooling: str = "mean", similarity: str = "dot",
        scale: float = 1.0,
    ):  # fmt: skip
        for name, value, among in (("pooling", pooling, POOLING), ("similarity", similarity, SIMILARITY)):
            if value not in among:
                raise ValueError(f"{name}={value!r}: give one of {', '.join(among)}")
        if not scale > 0:
            raise ValueError(f"scale={scale!r}: must be above 0")
        super().__init__({"pooling": pooling, "similarity": similarity, "scale": scale})
        self.transformer = transformer

    def encode_queries(self, tokens: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """As for documents, times the scale."""
        vectors, mask = self.encode_documents(tokens)
        return vectors * self.options["scale"], mask

    def encode_documents(self, tokens: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Token ids and mask (batch, width) -> one vector each (batch, 1, dim), of length 1 for cosine."""
        (hidden,) = float32(self.transformer(**tokens).last_hidden_state)  # (batch, width, dim)
        if self.options["pooling"] == "cls":
            vectors = hidden[:, 0]
        else:
            mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            vectors = (hidden * mask).sum(1) / mask.sum(1)
        if self.options["similarity"] == "cosine":
            vectors = F.normalize(vectors, dim=-1)
        return vectors.unsqueeze(1), torch.ones(len(vectors), 1, dtype=torch.bool, device=vectors.device)

    def late(self, queries: Tensor, query_mask: Tensor, documents: Tensor, document_mask: Tensor) -> Tensor:
        """(batch, 1, dim) queries, (batch or 1, docs, 1, dim) documents -> (batch, docs)."""
        with torch.autocast(queries.device.type, enabled=False):
            return (queries @ documents.squeeze(2).transpose(1, 2)).squeeze(1)

    def vectors(self, tokens: dict[str, dict[str, Tensor]], docs: int) -> tuple[Tensor, Tensor]:
        """One step's tokens -> queries (batch, dim), documents (batch, docs, dim)."""
        queries, documents = self.encode_queries(tokens["queries"])[0], self.encode_documents(tokens["documents"])[0]
        return queries.squeeze(1), documents.squeeze(1).unflatten(0, (-1, docs))

    def scores_of(self, queries: Tensor, documents: Tensor) -> Tensor:
        """The scores of a step, from its `vectors`."""
        return self.late(*_with_masks(queries, documents))

    def similarities_of(self, queries: Tensor, documents: Tensor) -> Similarities:
        """The similarities of a whole batch, from its `vectors`."""
        return self.similarities(*_with_masks(queries, documents))

    def _save_weights(self, folder: Path, max_length: int) -> None:
        with weights.quiet():
            self.transformer.save_pretrained(folder)
        _write_layout(folder, self.options, self.transformer.config.hidden_size, max_length)


def _with_masks(queries: Tensor, documents: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    queries, documents = queries.unsqueeze(1), documents.unsqueeze(2)
    masks = [torch.ones(part.shape[:-1], dtype=torch.bool, device=part.device) for part in (queries, documents)]
    return queries, masks[0], documents, masks[1]


def build(
    name: str, layers: tuple[int, ...] | None, seed: int, *, dropout: float | None = None, embeddings: bool = True,
    **options: object,
) -> BiEncoder:  # fmt: skip
    """A bi-encoder from a backbone, options as in `BiEncoder`; it has no new weights: `seed` decides nothing here."""
    transformer = backbone.encoder(backbone.folder(name), layers, dropout=dropout, embeddings=embeddings)
    return BiEncoder(transformer, **options).eval()


def load(folder: Path, *, dropout: float | None = None, embeddings: bool = True, **options: object) -> BiEncoder:
    """A trained bi-encoder as it was saved, ready to score."""
    return BiEncoder(backbone.encoder(folder, dropout=dropout, embeddings=embeddings, whole=True), **options).eval()


def _write_layout(folder: Path, options: dict, dim: int, max_length: int) -> None:
    """sentence-transformers' list of modules: transformer, pooling and, for cosine, normalisation."""
    kind = "sentence_transformers.models."
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules += [("2_Normalize", "Normalize")] if options["similarity"] == "cosine" else []
    pooling = {
        "word_embedding_dimension": dim, "pooling_mode_cls_token": options["pooling"] == "cls",
        "pooling_mode_mean_tokens": options["pooling"] == "mean",
    }  # fmt: skip
    files = {
        "modules.json": [
            {"idx": number, "name": str(number), "path": path, "type": kind + name}
            for number, (path, name) in enumerate(modules)
        ],
        "1_Pooling/config.json": pooling,
        "sentence_bert_config.json": {"max_seq_length": max_length, "do_lower_case": False},
        "config_sentence_transformers.json": {"similarity_fn_name": options["similarity"]},
    }
    for path, content in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(content, indent=1))
    if options["similarity"] == "cosine":
        (folder / "2_Normalize").mkdir(exist_ok=True)
