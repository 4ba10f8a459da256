"""Bi-encoder (DOT): one vector per text, the score is their dot product or cosine.

In 2010.02666 it is BERT_DOT (first token, dot product), in 2407.21515 the model of all experiments (cosine). Saved in
sentence-transformers' layout, so a trained ranker loads there as it is.
"""

from __future__ import annotations  # transformers reads its model classes, for seconds, when one is named

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import tokenizers
import torch
import torch.nn.functional as F
import transformers
from jaxtyping import Float
from torch import Tensor

from lib.models import backbone, packed, weights
from lib.models.ranker import LateRanker, Tokenizer, Tokens, float32
from lib.models.tokens import Pattern, pieces
from lib.models.vectors import Vectors

POOLING = ("mean", "cls", "last")
SIMILARITY = ("dot", "cosine")


class BiEncoder(LateRanker):
    """One shared encoder; `similarity` is "dot" or "cosine".

    `pooling`: "mean" (over tokens), "cls" (first token) or "last" (the end-of-text token, or what the tokenizer puts at
    the end: in a causal model it alone has read everything; RepLLaMA, https://arxiv.org/abs/2310.08319).
    `query_prompt` and `document_prompt`: a text before each, as E5's "query: " (https://arxiv.org/abs/2212.03533).

    `scale` multiplies every score: a softmax over cosines is nearly flat, and a teacher's margins may be above 2, which
    no cosines reach; sentence-transformers scales cosines by 20 in its losses.
    """

    architecture = "dot"
    later = frozenset({"query_prompt", "document_prompt"})

    def __init__(
        self, transformer: transformers.PreTrainedModel, *, pooling: str = "mean", similarity: str = "dot",
        scale: float = 1.0, query_prompt: str = "", document_prompt: str = "",
    ):  # fmt: skip
        for name, value, among in (("pooling", pooling, POOLING), ("similarity", similarity, SIMILARITY)):
            if value not in among:
                raise ValueError(f"{name}={value!r}: give one of {', '.join(among)}")
        if pooling == "cls" and backbone.is_causal(transformer.config):
            raise ValueError(f"pooling={pooling!r}: the first token of a decoder has read no other; give mean or last")
        if not scale > 0:
            raise ValueError(f"scale={scale!r}: must be above 0")
        options = {"pooling": pooling, "similarity": similarity, "scale": scale}
        super().__init__({**options, "query_prompt": query_prompt, "document_prompt": document_prompt})
        self.transformer = transformer
        if pooling == "cls":
            packed.read_first(transformer)

    @classmethod
    def open(
        cls, folder: Path, layers: tuple[int, ...] | None, seed: int, *, trained: bool, dropout: float | None,
        embeddings: bool, **options: object,
    ) -> BiEncoder:  # fmt: skip
        """It has no weights of its own, so `seed` decides nothing."""
        transformer = backbone.encoder(folder, layers, dropout=dropout, embeddings=embeddings, whole=trained)
        if not trained:
            backbone.warn_of_modules(folder, options.get("pooling", "mean"))
        return cls(transformer, **options)

    def encode_queries(self, tokens: Tokens) -> Vectors:
        """As for documents, times the scale."""
        vectors, mask = self.encode_documents(tokens)
        return Vectors(vectors * self.options["scale"], mask)

    def encode_documents(self, tokens: Tokens) -> Vectors:
        """One vector per text, (batch, 1, dim), of length 1 for cosine."""
        hidden = float32(self.transformer(**tokens).last_hidden_state)  # (batch, width, dim)
        if self.options["pooling"] == "cls":
            vectors = hidden[:, 0]
        elif self.options["pooling"] == "last":
            vectors = backbone.last(hidden, tokens["attention_mask"])
        else:
            vectors = backbone.mean(hidden, tokens["attention_mask"])
        if self.options["similarity"] == "cosine":
            vectors = F.normalize(vectors, dim=-1)
        return _counted(vectors.unsqueeze(1))

    def markers(self, tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The tokens of both prompts."""
        return tuple(before for before, _ in self._prompts(tokenizer))

    def leads(self, tokenizer: Tokenizer) -> tuple[str, str]:
        """Of the texts after both prompts."""
        return tuple(lead for _, lead in self._prompts(tokenizer))

    def _prompts(self, tokenizer: Tokenizer) -> Iterator[tuple[tuple[int, ...], str]]:
        for prompt in (self.options["query_prompt"], self.options["document_prompt"]):
            if not prompt:
                yield (), ""
                continue
            (before, _), (lead,) = pieces(tokenizer, [prompt, ""], special=False)
            yield before, lead

    def late(self, queries: Vectors, documents: Vectors) -> Float[Tensor, "batch docs"]:
        """Dot products."""
        with torch.autocast(queries.values.device.type, enabled=False):
            return (queries.values @ documents.values.squeeze(2).transpose(1, 2)).squeeze(1)

    def vectors(
        self, tokens: dict[str, Tokens], docs: int
    ) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch docs dim"]]:
        """Queries and documents of one step's tokens."""
        queries, documents = self.encode(tokens, docs)
        return queries.values.squeeze(1), documents.values.squeeze(2)

    @staticmethod
    def sides(
        queries: Float[Tensor, "batch dim"], documents: Float[Tensor, "batch docs dim"]
    ) -> tuple[Vectors, Vectors]:
        """What `late` and `similarities` take, from the `vectors` of a step."""
        return _counted(queries.unsqueeze(1)), _counted(documents.unsqueeze(2))

    def save(self, folder: Path, tokenizer: Tokenizer, max_length: int) -> None:
        """As every ranker; the tokenizer that is kept puts the end-of-text token itself, where `inputs` does."""
        alone = Pattern.of_single(tokenizer, end=self.options["pooling"] == "last")
        if alone.size > tokenizer.num_special_tokens_to_add():
            tokenizer, around = copy.deepcopy(tokenizer), (alone.before, alone.after)
            first, last = (tokenizer.convert_ids_to_tokens(list(ids)) for ids in around)
            known = [*zip(first + last, alone.before + alone.after, strict=True)]
            tokenizer.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
                single=[*first, "$A", *last], special_tokens=known
            )
        super().save(folder, tokenizer, max_length)

    def _save_weights(self, folder: Path, max_length: int) -> None:
        with weights.quiet():
            self.transformer.save_pretrained(folder)
        given = {"query": self.options["query_prompt"], "document": self.options["document_prompt"]}
        prompts = {"prompts": given} if any(given.values()) else {}
        modules = {"": "Transformer", "1_Pooling": "Pooling"}
        if self.options["similarity"] == "cosine":
            modules["2_Normalize"] = "Normalize"
        files = {
            "modules.json": [
                {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
                for number, (path, kind) in enumerate(modules.items())
            ],
            "1_Pooling/config.json": {
                "word_embedding_dimension": self.transformer.config.hidden_size,
                "pooling_mode_cls_token": self.options["pooling"] == "cls",
                "pooling_mode_mean_tokens": self.options["pooling"] == "mean",
                "pooling_mode_lasttoken": self.options["pooling"] == "last",
            },
            "sentence_bert_config.json": {"max_seq_length": max_length, "do_lower_case": False},
            "config_sentence_transformers.json": {"similarity_fn_name": self.options["similarity"]} | prompts,
        }
        for path in modules:
            (folder / path).mkdir(exist_ok=True)
        for path, content in files.items():
            (folder / path).write_text(json.dumps(content, indent=1))


def _counted(values: Float[Tensor, "*texts vectors dim"]) -> Vectors:
    """Vectors that all count."""
    return Vectors(values, torch.ones(values.shape[:-1], dtype=torch.bool, device=values.device))
