"""Transformer layers without padding: the tokens of a batch in one row after another.

A batch of texts is as wide as its longest, and a quarter of a training batch is padding. Here products, norms and
activations see the tokens alone; attention spreads them out per text, since a token attends to its own text. Where only
the first token of a text is read ([CLS]), the last layer computes that one. Both change no score but by rounding.
Under autocast hidden states are of its type between the layers too: training was 1.03 to 1.1 times as fast.

The modules are transformers' own (so LoRA, saving and loading know nothing of this); what changes is the order of the
work. Notebook 11 climbs here from transformers' way, one step at a time, and shows what each step brings.
"""

from __future__ import annotations  # transformers reads its model classes, for seconds, when one is named

from collections.abc import Iterable
from functools import cache, cached_property, partial

import numpy as np
import torch
import transformers
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions as Output

# model_type of encoders whose layers are built like BERT's and whose positions are absolute.
FAMILIES = ("bert", "camembert", "electra", "roberta", "xlm-roberta")


ROWS = 64  # packed rows come in multiples of this; where they are many, of a power of two that is up to a 16th of them
MASKED = -1e4  # in the place of a logit: its exponential is 0, and of float32's least number that is slow


class Places:
    """Where the tokens of a batch (texts, width) are, packed and spread out over the heads of attention.

    Batches differ in their number of tokens, and oneDNN compiles a kernel for every shape that it has not seen lately,
    which took as long as the products themselves. So the first token is repeated until there are few numbers of rows;
    what is computed of these copies is not read, and their gradients are 0. On two cores with AMX three layers trained
    1.3 to 1.5 and scored 1.1 to 1.3 times as fast. Where attention spreads rows out, padding is one of the copies, so
    that it has no gradient either.
    """

    def __init__(self, mask: Bool[Tensor, "texts width"], heads: int):
        (self.texts, self.width), self.heads, self._biases = mask.shape, heads, {}
        tokens = mask.flatten().nonzero().squeeze(1)  # place of each in the flat batch
        self.count = len(tokens)
        self._padding = None if mask.all() else ~mask
        unit = max(ROWS, 2 ** (self.count.bit_length() - 5))
        copies = -self.count % unit or (0 if self._padding is None else unit)
        self.tokens = torch.cat([tokens, tokens[:1].expand(copies)])  # (rows,), with the copies
        row = mask.flatten().cumsum(0) - 1  # packed row of each place
        self._row = row if self._padding is None else row.masked_fill_(self._padding.flatten(), self.count)
        self.first = self._row.view(mask.shape)[:, 0]

    @cached_property
    def _spread(self) -> Tensor:
        # One head of one token is the unit that moves: rows of (tokens * heads, dim), of (texts * heads * width, dim).
        row, head = self._row.view(self.texts, 1, self.width), torch.arange(self.heads, device=self._row.device)
        return (row * self.heads + head[:, None]).flatten()

    @cached_property
    def _packed(self) -> Tensor:
        text, place = self.tokens // self.width, self.tokens % self.width
        head = torch.arange(self.heads, device=text.device)
        return ((text[:, None] * self.heads + head) * self.width + place[:, None]).flatten()

    def spread(self, hidden: Float[Tensor, "rows all"]) -> Float[Tensor, "texts_heads width dim"]:
        """Packed rows -> texts by heads; padding is a copy of the first token."""
        dim = hidden.shape[1] // self.heads
        rows = hidden.reshape(-1, dim).index_select(0, self._spread)
        return rows.view(self.texts * self.heads, self.width, dim)

    def pack(self, spread: Float[Tensor, "texts_heads width dim"]) -> Float[Tensor, "rows all"]:
        """Texts by heads -> packed rows; copies are of the first token."""
        dim = spread.shape[2]
        return spread.reshape(-1, dim).index_select(0, self._packed).view(-1, self.heads * dim)

    def pack_gradient(self, spread: Float[Tensor, "texts_heads width dim"]) -> Float[Tensor, "rows all"]:
        """The same of gradients: those of the copies are 0."""
        rows = self.pack(spread)
        rows[self.count :] = 0
        return rows

    def fill(self, hidden: Float[Tensor, "rows all"]) -> Float[Tensor, "texts width all"]:
        """Packed rows -> the batch; padding is a copy of the first token."""
        rows = hidden[: self.count] if self._padding is None else hidden.index_select(0, self._row)
        return rows.view(self.texts, self.width, -1)

    def leave_out(self, wide: Float[Tensor, "texts width all"]) -> Float[Tensor, "rows all"]:
        """The batch -> packed rows."""
        return wide.flatten(0, 1).index_select(0, self.tokens)

    def bias(self, dtype: torch.dtype) -> Float[Tensor, "texts 1 1 width"] | None:
        """What is added to the logits of attention, so that nothing attends to padding; None where there is none."""
        if self._padding is None:
            return None
        return torch.zeros_like(self._padding, dtype=dtype).masked_fill_(self._padding, MASKED)[:, None, None]

    def bias_of_heads(self, dtype: torch.dtype) -> Float[Tensor, "texts_heads 1 width"]:
        """The same for every head of every text; zeros where there is no padding."""
        if dtype not in self._biases:
            bias = torch.zeros(self.texts, 1, 1, self.width, dtype=dtype) if self._padding is None else self.bias(dtype)
            self._biases[dtype] = bias.expand(-1, self.heads, -1, -1).flatten(0, 1)
        return self._biases[dtype]


class Attention(torch.autograd.Function):
    """softmax(Q K^T / sqrt(dim)) V within each text, for packed tokens; Vaswani et al. 2017, equation 1.

    https://arxiv.org/abs/1706.03762. The backward pass is by hand: that of a gather would be a scatter, which is slow,
    and is a gather here too. It takes the copies' gradient to be 0, as it is where nothing reads them.
    """

    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor, places: Places, dropout: float) -> Tensor:
        """key, value (rows, heads * dim); query the same, or (texts, heads * dim): of each text's first token."""
        first = len(query) != len(key)
        scale = (key.shape[1] // places.heads) ** -0.5
        key, value = places.spread(key), places.spread(value)
        query = query.view(len(key), 1, -1) if first else places.spread(query)
        logits = torch.baddbmm(places.bias_of_heads(key.dtype), query, key.transpose(1, 2), alpha=scale)
        probability = torch.softmax(logits, -1)  # of bfloat16 too in float32 within, and rounded once
        kept = kept_places(probability, dropout) if dropout else None
        out = _product(_dropped(probability, kept), value, 1 / (1 - dropout))
        ctx.save_for_backward(query, key, value, probability, kept)
        ctx.places, ctx.first, ctx.scale, ctx.of_kept = places, first, scale, 1 / (1 - dropout)
        return out.view(places.texts, -1) if first else places.pack(out)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of query, key and value, packed as they were."""
        query, key, value, probability, kept = ctx.saved_tensors
        places, first = ctx.places, ctx.first
        gradient = gradient.reshape(len(value), 1, -1) if first else places.spread(gradient)
        of_value = _product(_dropped(probability, kept).transpose(1, 2), gradient, ctx.of_kept)
        of_probability = _dropped(torch.bmm(gradient, value.transpose(1, 2)), kept)
        # One pass; the formula's three took thrice as long.
        of_logits = torch._softmax_backward_data(of_probability, probability, -1, probability.dtype)
        of_query = _product(of_logits, key, ctx.scale * ctx.of_kept)
        of_key = _product(of_logits.transpose(1, 2), query, ctx.scale * ctx.of_kept)
        of_query = of_query.view(places.texts, -1) if first else places.pack_gradient(of_query)
        return of_query, places.pack_gradient(of_key), places.pack_gradient(of_value), None, None


def _product(
    left: Float[Tensor, "count rows inner"], right: Float[Tensor, "count inner dim"], factor: float
) -> Float[Tensor, "count rows dim"]:
    """factor * left @ right in one pass."""
    if factor == 1:
        return torch.bmm(left, right)
    return torch.baddbmm(right[:, :1], left, right, beta=0, alpha=factor)  # of its first argument nothing is read


INTEGERS = {kind.itemsize: kind for kind in (torch.int16, torch.int32, torch.int64)}


def kept_places(values: Float[Tensor, "*shape"], dropout: float) -> Int[Tensor, "*shape"]:
    """-1, all bits set, where dropout keeps a value, with probability 1 - dropout (to 2^-16); 0 elsewhere.

    Integers as wide as the values, for `_dropped`. Two random bytes each, of numpy's SFC64, whose seed torch's
    generator draws: torch's own draws, 53 bits each and in one thread, took a quarter of a training step.
    """
    count = values.numel()
    bits = np.random.SFC64(int(torch.randint(2**62, ()))).random_raw(-(-count // 4)).view(np.int16)[:count]
    left_out = torch.from_numpy(bits).lt_(round(dropout * 2**16) - 2**15)
    return left_out.sub_(1).view(values.shape).to(INTEGERS[values.element_size()])


def _dropped(values: Tensor, kept: Tensor | None) -> Tensor:
    """The values that are kept, else 0: by their bits, which took half as long as a product."""
    return values if kept is None else (values.view(kept.dtype) & kept).view(values.dtype)


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor, dropout: float) -> Tensor:
        kept, ctx.dropout = kept_places(values, dropout), dropout
        ctx.save_for_backward(kept)
        return _dropped(values, kept).mul_(1 / (1 - dropout))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return _dropped(gradient, kept).mul_(1 / (1 - ctx.dropout)), None


class Dropout(nn.Dropout):
    """torch's dropout with faster draws on a processor."""

    def forward(self, values: Tensor) -> Tensor:
        """Any shape -> the same."""
        if not self.training or not 0 < self.p < 1 or values.device.type != "cpu":
            return super().forward(values)
        return _Drop.apply(values, self.p)


def run(
    layers: Iterable[nn.Module], hidden: Float[Tensor, "texts width dim"], mask: Bool[Tensor, "texts width"], *,
    first: bool = False, low: bool = True, states: list[Tensor] | None = None,
) -> Float[Tensor, "texts width_or_1 dim"]:  # fmt: skip
    """Hidden states through transformers' layers, packed in between; padding comes out as zeros.

    With `first` the last layer computes the first token of every text, and the width is 1. With `low`, and under
    autocast, hidden states between the layers are of its type. To a list `states` each text's first token is added,
    (texts, dim), as it is before the first layer and after every layer.
    """
    layers = list(layers)
    if not layers:
        return hidden
    texts, width, dim = hidden.shape
    places = Places(mask, layers[0].attention.self.num_attention_heads)
    hidden, dtype = hidden.reshape(-1, dim).index_select(0, places.tokens), hidden.dtype
    if low and torch.is_autocast_enabled(hidden.device.type):  # or every product casts its input, every sum the product
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    if states is not None:
        states.append(hidden.index_select(0, places.first).to(dtype))
    for layer in layers:
        alone = first and layer is layers[-1]
        step = partial(_run_layer, layer, places=places, first=alone)
        again = layer.gradient_checkpointing and layer.training
        hidden = checkpoint(step, hidden, use_reentrant=False) if again else step(hidden)
        if states is not None:
            states.append((hidden if alone else hidden.index_select(0, places.first)).to(dtype))
    hidden = hidden.to(dtype)
    if first:
        return hidden.unsqueeze(1)
    whole = hidden.new_zeros(texts * width, dim)
    return whole.index_copy(0, places.tokens[: places.count], hidden[: places.count]).view(texts, width, dim)


def _run_layer(
    layer: nn.Module, hidden: Float[Tensor, "rows dim"], places: Places, first: bool
) -> Float[Tensor, "rows_or_texts dim"]:
    if fused := getattr(layer, "fused", None):  # within `lib.models.fused.fused`
        return fused(hidden, places, first)
    attention = layer.attention.self
    asking = hidden
    if first:  # what is read is not rounded
        asking = hidden.index_select(0, places.first).to(layer.output.LayerNorm.weight.dtype)
    dropout = attention.dropout.p if attention.training else 0.0
    sides = attention.query(asking), attention.key(hidden), attention.value(hidden)
    attended = layer.attention.output(Attention.apply(*sides, places, dropout), asking)
    return layer.output(layer.intermediate(attended), attended)


class PackedEncoder(nn.Module):
    """What `pack` turns a transformer's encoder into: the same layers, run packed on a processor."""

    first = False  # whether only the first token of each text is read
    low = True  # whether hidden states are of autocast's type between the layers
    states: list[Tensor] | None = None  # what `run` adds each layer's first tokens to

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, past_key_values: object = None,
        **others: object,
    ) -> Output:  # fmt: skip
        """transformers' own call: `attention_mask` (texts, 1, 1 or width, width), added or bool."""
        if past_key_values is not None or hidden_states.device.type != "cpu":  # a prefix; an accelerator's own kernels
            return super().forward(hidden_states, attention_mask, past_key_values=past_key_values, **others)
        if attention_mask is None:
            mask = hidden_states.new_ones(hidden_states.shape[:2], dtype=torch.bool)
        else:
            mask = attention_mask[:, 0, -1]
            mask = mask if mask.dtype == torch.bool else mask == 0
        ways = {"first": self.first, "low": self.low, "states": self.states}
        return Output(last_hidden_state=run(self.layer, hidden_states, mask, **ways))


@cache
def _packed(kind: type[nn.Module]) -> type[nn.Module]:  # `unpack` takes the second base
    return type(kind.__name__, (PackedEncoder, kind), {})


def fits(config: transformers.PreTrainedConfig) -> bool:
    """Whether the layers of such a model can be run here."""
    return config.model_type in FAMILIES and not getattr(config, "is_decoder", False)


def pack(transformer: transformers.PreTrainedModel) -> None:
    """Let a model's encoder run packed, in place: same parameters and names. Other families stay as they are."""
    if fits(transformer.config) and not isinstance(transformer.base_model.encoder, PackedEncoder):
        encoder = transformer.base_model.encoder
        encoder.__class__ = _packed(type(encoder))


def unpack(transformer: transformers.PreTrainedModel) -> None:
    """Undo `pack`, in place: the encoder runs as transformers has it."""
    encoder = getattr(transformer.base_model, "encoder", None)
    if isinstance(encoder, PackedEncoder):
        encoder.__class__ = type(encoder).__bases__[1]


def read_first(transformer: transformers.PreTrainedModel) -> None:
    """Say that only the first token of every text is read of this model's output."""
    if fits(transformer.config):
        transformer.base_model.encoder.first = True
