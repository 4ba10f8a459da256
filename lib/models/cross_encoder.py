"""Cross-encoder (CAT): query and document in one sequence, one score from its first token.

Nogueira and Cho 2019, https://arxiv.org/abs/1901.04085; in 2010.02666 it is BERT_CAT. Underneath is
`AutoModelForSequenceClassification(num_labels=1)`, saved in the hub's layout, so a trained ranker loads in
sentence-transformers as it is. Of a causal model (a decoder or a recurrent one) the last token is read, as in
RankLLaMA (Ma et al. 2023, https://arxiv.org/abs/2310.08319), or the language model's own head is asked for yes or no,
as in monoT5 (Nogueira et al. 2020, https://arxiv.org/abs/2003.06713) and 2507.08336's authors' later code.
"""

from pathlib import Path

import torch
import transformers
from torch import nn

from lib.models import backbone, packed, weights
from lib.models.ragged import Ragged
from lib.models.ranker import Ranker, Tokenizer, check_length, drawn_from
from lib.models.tokens import PairTokens, Pattern

SCORES = ("head", "yes_no")
TEMPLATE = "query: {query} document: {document}"  # RankLLaMA's


class Float32Linear(nn.Linear):
    """A linear layer in float32 under autocast: in bfloat16 scores near 20 would be multiples of 1/8, and tie."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., dim) of any type -> (..., out) in float32."""
        with torch.autocast(hidden.device.type, enabled=False):
            return super().forward(hidden.float())


class CrossEncoder(Ranker):
    """Scores (batch, docs) from pair tokens whose rows are the documents of one query after another.

    `score`: "head", a linear layer, or "yes_no", the logit of the token `yes` minus that of `no` after the pair, by a
    causal model's own head. `template`: a text around {query} and {document}; "": what the tokenizer puts around a
    pair, and `TEMPLATE` for causal models, whose tokenizers put nothing there.
    """

    architecture = "cat"
    later = frozenset({"score", "template", "yes", "no"})

    def __init__(
        self, transformer: transformers.PreTrainedModel, tokenizer: Tokenizer | None = None, *, score: str = "head",
        template: str = "", yes: str = " yes", no: str = " no",
    ):  # fmt: skip
        super().__init__({"score": score, "template": template, "yes": yes, "no": no})
        self.transformer, self.causal = transformer, backbone.is_causal(transformer.config)
        if score not in SCORES or (score == "yes_no" and not self.causal):
            fix = f"give one of {', '.join(SCORES)}, and yes_no with a causal model alone"
            raise ValueError(f"score={score!r} with backbone {transformer.config.model_type}: {fix}")
        self.answers = [_token(tokenizer, word) for word in (yes, no)] if score == "yes_no" else None
        keep_float32(transformer)
        packed.read_first(transformer)

    @classmethod
    def open(
        cls, folder: Path, layers: tuple[int, ...] | None, seed: int, *, trained: bool, dropout: float | None,
        embeddings: bool, **options: object,
    ) -> "CrossEncoder":  # fmt: skip
        """The head is drawn from `seed`; trained ones of sentence-transformers are opened too."""
        changes = {"dropout": dropout, "embeddings": embeddings}
        if options.get("score") == "yes_no":
            if not backbone.is_causal(config := weights.config(folder)):
                raise ValueError(f"score='yes_no': {config.model_type} is no causal model; give score='head'")
            found = weights.pretrained(transformers.AutoModelForCausalLM, folder, whole=True)
            return cls(backbone.prepare(found, layers, **changes), backbone.tokenizer(str(folder)), **options)
        return cls(classifier(folder, layers, seed, whole=trained, **changes), **options)

    def forward(self, tokens: dict[str, torch.Tensor], docs: int = 1) -> torch.Tensor:
        """tokens: (batch * docs, width) each -> raw scores (batch, docs): no sigmoid, float32."""
        if not self.causal:
            return self.transformer(**tokens).logits.float().view(-1, docs)
        hidden = self.transformer.base_model(**tokens).last_hidden_state
        state = backbone.last(hidden, tokens["attention_mask"])  # (batch * docs, dim)
        if self.answers is None:
            return self.transformer.score(state).view(-1, docs)
        yes, no = self.transformer.get_output_embeddings().weight[self.answers].float()
        with torch.autocast(state.device.type, enabled=False):
            return (state.float() @ (yes - no)).view(-1, docs)

    def inputs(
        self, queries: Ragged, documents: Ragged, tokenizer: Tokenizer, max_length: int, max_query: int | None = 64
    ) -> PairTokens:
        """One sequence per pair; `max_query` counts a query's own tokens, as `PairTokens` has it."""
        check_length(self.transformer.config, max_length)
        template = self.options["template"] or (TEMPLATE if self.causal else "")
        asked = self.options["score"] == "yes_no"  # the token after the pair is the answer, not the end
        pattern = Pattern.of_template(tokenizer, template, end=not asked) if template else Pattern.of(tokenizer)
        return PairTokens(queries, documents, pattern, max_length, max_query)

    def _save_weights(self, folder: Path, max_length: int) -> None:
        save_classifier(self.transformer, folder)


def _token(tokenizer: Tokenizer, word: str) -> int:
    """The number of a word that is one token; raises ValueError for others."""
    numbers = tokenizer(word, add_special_tokens=False)["input_ids"]
    if len(numbers) != 1:
        raise ValueError(f"{word!r} is {len(numbers)} tokens of this tokenizer: give yes and no as one token each")
    return numbers[0]


def classifier(
    folder: Path, layers: tuple[int, ...] | None, seed: int, *, whole: bool, **changes: object
) -> transformers.PreTrainedModel:
    """transformers' classifier with one label, in float32; a new head is drawn from `seed`, with `whole` refused.

    Raises ValueError for a causal model that transformers has no such classifier of.
    """
    config, known = weights.config(folder), transformers.models.auto.modeling_auto
    names = known.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    if backbone.is_causal(config) and config.model_type not in names:
        raise ValueError(f"transformers has no classifier of {config.model_type}: give the option score='yes_no'")
    with drawn_from(seed):
        auto = transformers.AutoModelForSequenceClassification
        transformer = weights.pretrained(auto, folder, whole=whole, num_labels=1)
    if transformer.config.pad_token_id is None:  # else transformers' own call refuses more than one text
        transformer.config.pad_token_id = transformer.config.eos_token_id
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
