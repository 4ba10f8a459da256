"""Cross-encoder (CAT): query and document in one sequence, one score from its first token.

Nogueira and Cho 2019, https://arxiv.org/abs/1901.04085; in 2010.02666 it is BERT_CAT. Underneath is
`AutoModelForSequenceClassification(num_labels=1)`, saved in the hub's layout, so a trained encoder without a template
loads in sentence-transformers as it is. Of a causal model (a decoder or a recurrent one) the last token is read, as in
RankLLaMA (Ma et al. 2023, https://arxiv.org/abs/2310.08319), or the language model's own head is asked for yes or no,
as in monoT5 (Nogueira et al. 2020, https://arxiv.org/abs/2003.06713) and 2507.08336's authors' later code.
"""

from __future__ import annotations  # transformers reads its model classes, for seconds, when one is named

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
import transformers
from torch import nn

from lib.models import backbone, packed, weights
from lib.models.ragged import Ragged
from lib.models.ranker import Ranker, Represented, Tokenizer, check_length, drawn_from
from lib.models.tokens import PairTokens, Pattern

# How a causal model's pair is scored, and the text around it: RankLLaMA's, and monoT5's, which the answer follows.
TEMPLATES = {"head": "query: {query} document: {document}", "yes_no": "Query: {query} Document: {document} Relevant:"}


class Float32Linear(nn.Linear):
    """A linear layer in float32 under autocast: in bfloat16 scores near 20 would be multiples of 1/8, and tie."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., dim) of any type -> (..., out) in float32."""
        with torch.autocast(hidden.device.type, enabled=False):
            return super().forward(hidden.float())


class CrossEncoder(Ranker):
    """Scores (batch, docs) from pair tokens whose rows are the documents of one query after another.

    `score`: "head", a linear layer, or "yes_no", the logit of the token `yes` minus that of `no` after the pair, by a
    causal model's own head. `template`: the whole text around {query} and {document}, special tokens too; "": what the
    tokenizer puts around a pair, and for causal models, whose tokenizers put nothing there, that of `TEMPLATES`, for a
    head with the end-of-text token after it.
    """

    architecture = "cat"
    has_states = True
    later = frozenset({"score", "template", "yes", "no"})

    def __init__(
        self, transformer: transformers.PreTrainedModel, tokenizer: Tokenizer | None = None, *, score: str = "head",
        template: str = "", yes: str = " yes", no: str = " no",
    ):  # fmt: skip
        super().__init__({"score": score, "template": template, "yes": yes, "no": no})
        self.transformer, self.causal = transformer, backbone.is_causal(transformer.config)
        if score not in TEMPLATES or (score == "yes_no" and not self.causal):
            fix = f"give one of {', '.join(TEMPLATES)}, and yes_no with a causal model alone"
            raise ValueError(f"score={score!r} with backbone {transformer.config.model_type}: {fix}")
        self.answers = [_token(tokenizer, word) for word in (yes, no)] if score == "yes_no" else None
        keep_float32(transformer)
        if self.answers and type(head := transformer.get_output_embeddings()) is nn.Linear:
            head.__class__ = Float32Linear
        packed.read_first(transformer)

    @classmethod
    def open(
        cls, folder: Path, layers: tuple[int, ...] | None, seed: int, *, trained: bool, dropout: float | None,
        embeddings: bool, **options: object,
    ) -> CrossEncoder:  # fmt: skip
        """The head is drawn from `seed`; trained ones of sentence-transformers are opened too."""
        changes = {"dropout": dropout, "embeddings": embeddings}
        if options.get("score") == "yes_no":
            if not backbone.is_causal(config := weights.config(folder)):
                raise ValueError(f"score='yes_no': {config.model_type} is no causal model; give score='head'")
            found = weights.pretrained(transformers.AutoModelForCausalLM, folder, whole=True)
            return cls(backbone.prepare(found, layers, **changes), backbone.tokenizer(str(folder)), **options)
        return cls(classifier(folder, layers, seed, whole=trained, **changes), **options)

    @property
    def state_shape(self) -> tuple[int, int]:
        """How many layers it has, and how wide they are."""
        return self.transformer.config.num_hidden_layers, self.transformer.config.hidden_size

    def forward(
        self, tokens: dict[str, torch.Tensor], docs: int = 1, *, states: bool = False
    ) -> torch.Tensor | Represented:
        """tokens: (batch * docs, width) each -> raw scores (batch, docs): no sigmoid, float32.

        With `states` also those that its head reads: the first token's, the last one's of a causal model, or the mean.
        """
        if not states:
            return self._scores(tokens, docs)
        mask = tokens["attention_mask"]
        if self.causal:
            read = partial(backbone.last, mask=mask)
        elif getattr(self.transformer.config, "classifier_pooling", "cls") == "mean":  # ModernBERT
            read = partial(backbone.mean, mask=mask)
        else:
            read = _first
        with _collected(self.transformer.base_model, read) as found:
            scores = self._scores(tokens, docs)
        return Represented(scores, torch.stack(found, 1).float().unflatten(0, (-1, docs)))

    def _scores(self, tokens: dict[str, torch.Tensor], docs: int) -> torch.Tensor:
        if not self.causal:
            return self.transformer(**tokens).logits.float().view(-1, docs)
        mask = tokens["attention_mask"]
        if self.answers is None:
            hidden = self.transformer.base_model(**tokens).last_hidden_state
            return self.transformer.score(backbone.last(hidden, mask)).view(-1, docs)
        # Each text's last state alone, (texts, 1, dim): the head over the vocabulary then sees one token.
        with backbone.giving(self.transformer.base_model, lambda hidden: backbone.last(hidden, mask).unsqueeze(1)):
            logits = self.transformer(**tokens).logits.float()  # (batch * docs, 1 or width, vocabulary)
        logits = logits[:, 0] if logits.shape[1] == 1 else backbone.last(logits, mask)
        yes, no = self.answers
        return (logits[:, yes] - logits[:, no]).view(-1, docs)

    def inputs(
        self, queries: Ragged, documents: Ragged, tokenizer: Tokenizer, max_length: int, max_query: int | None = 64
    ) -> PairTokens:
        """One sequence per pair; `max_query` counts a query's own tokens, as `PairTokens` has it."""
        check_length(self.transformer.config, max_length)
        return PairTokens(queries, documents, self._pattern(tokenizer), max_length, max_query)

    def leads(self, tokenizer: Tokenizer) -> tuple[str, str]:
        """Of the texts in the template."""
        return self._pattern(tokenizer).leads

    def _pattern(self, tokenizer: Tokenizer) -> Pattern:
        template, score = self.options["template"], self.options["score"]
        if not template and self.causal:
            end = tokenizer.eos_token
            # transformers' own classifiers would not find an end that is padding too.
            template = TEMPLATES[score] + (end if score == "head" and end and end != tokenizer.pad_token else "")
        return Pattern.of_template(tokenizer, template) if template else Pattern.of(tokenizer)

    def _save_weights(self, folder: Path, max_length: int) -> None:
        save_classifier(self.transformer, folder)


def _first(hidden: torch.Tensor) -> torch.Tensor:
    return hidden[:, 0]


def _token(tokenizer: Tokenizer, word: str) -> int:
    """The number of a word that is one token; raises ValueError for others."""
    numbers = tokenizer(word, add_special_tokens=False)["input_ids"]
    if len(numbers) != 1:
        raise ValueError(f"{word!r} is {len(numbers)} tokens of this tokenizer: give yes and no as one token each")
    return numbers[0]


@contextlib.contextmanager
def _collected(base: nn.Module, read: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """A block in which what `read` takes of each layer's states, (texts, dim), comes into a list at a model's call.

    Those after the embeddings come first; of layers that run packed they are the first token's. Raises ValueError if
    the backbone gives none.
    """
    found, encoder = [], getattr(base, "encoder", None)

    def ask(_: nn.Module, inputs: tuple, named: dict) -> tuple[tuple, dict]:
        return inputs, named | {"output_hidden_states": True}

    def take(_: nn.Module, inputs: tuple, output: transformers.utils.ModelOutput) -> None:
        if found:  # the layers ran packed
            return
        if not output.get("hidden_states"):
            raise ValueError(f"backbone {type(base).__name__} gives no hidden states of its layers: choose another")
        # The last is as the head reads it, after a norm that is no part of a layer.
        every = *output.hidden_states[:-1], output.last_hidden_state
        found.extend(map(read, every))

    hooks = base.register_forward_pre_hook(ask, with_kwargs=True), base.register_forward_hook(take)
    if isinstance(encoder, packed.PackedEncoder):
        encoder.states = found
    try:
        yield found
    finally:
        if isinstance(encoder, packed.PackedEncoder):
            encoder.states = None
        for hook in hooks:
            hook.remove()


def classifier(
    folder: Path, layers: tuple[int, ...] | None, seed: int, *, whole: bool, **changes: object
) -> transformers.PreTrainedModel:
    """transformers' classifier with one label, in float32; a new head is drawn from `seed`, with `whole` refused.

    Raises ValueError for a causal model whose classifier is no linear layer on its last token.
    """
    config, auto = weights.config(folder), transformers.AutoModelForSequenceClassification
    causal = backbone.is_causal(config)
    if causal and type(config) not in transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        auto = _classifier_of(type(config))
    with drawn_from(seed):
        transformer = weights.pretrained(auto, folder, whole=whole, num_labels=1)
    if causal and not isinstance(getattr(transformer, "score", None), nn.Linear):
        fix = "give the option score='yes_no'"
        raise ValueError(f"{type(transformer).__name__} is no linear layer `score` on the last token: {fix}")
    if causal:  # transformers' own call finds the last token by it
        transformer.config.pad_token_id = backbone.tokenizer(str(folder)).pad_token_id
    return backbone.prepare(transformer, layers, **changes)


def _classifier_of(config: type) -> type:
    """What transformers' newer families have and recurrent ones lack: a linear layer `score` on the last token."""
    from transformers.modeling_layers import GenericForSequenceClassification

    model = transformers.MODEL_MAPPING[config]
    family = next(kind for kind in model.__mro__ if kind.__name__.endswith("PreTrainedModel"))
    name = model.__name__.removesuffix("Model") + "ForSequenceClassification"
    return type(name, (GenericForSequenceClassification, family), {"base_model_prefix": family.base_model_prefix})


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
