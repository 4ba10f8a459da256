"""Transformer layers for scoring on a processor in bfloat16, where no weight changes.

What limits small models there is memory, not products. So a product does what follows it before its result leaves the
cache: bias, GELU or the sum with the residual stream. Weights lie in the order of oneDNN's kernels, otherwise every
product orders its weights anew; hidden states are bfloat16 between the layers, and attention never holds its
probabilities as a whole (FlashAttention, Dao et al. 2022, https://arxiv.org/abs/2205.14135). Notebook 11 measures it.
"""

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lib.machine import hardware
from lib.models.packed import PackedEncoder, Places


class Product:
    """One or several linear modules of the same input as one product, its weights copied: rows (n, in) -> (n, out)."""

    def __init__(self, *linear: nn.Linear):
        weight = torch.cat([module.weight for module in linear]).detach().bfloat16()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, 1024)  # for about as many rows
        biases = [module.bias for module in linear]
        self._bias = None if None in biases else torch.cat(biases).detach().bfloat16()

    def __call__(self, rows: Tensor, then: str = "none") -> Tensor:
        """The product in bfloat16, and then "none" or "gelu"."""
        return torch.ops.mkldnn._linear_pointwise(rows.bfloat16(), self._weight, self._bias, then, [], "none")

    def plus(self, rows: Tensor, others: Tensor) -> Tensor:
        """The product and the sum with others (n, out)."""
        return torch.ops.mkldnn._linear_pointwise.binary(rows, others, self._weight, self._bias, "add")


class Layer:
    """A layer of one of `packed.FAMILIES`; it is in place of the module within `fused`."""

    def __init__(self, layer: nn.Module):
        from transformers.activations import GELUActivation  # late: it brings all of torch's compiler in

        attention, out = layer.attention.self, layer.attention.output
        self._query, self._keys = Product(attention.query), Product(attention.key, attention.value)
        inner, back = layer.intermediate.dense, layer.output.dense
        self._out, self._inner, self._back = Product(out.dense), Product(inner), Product(back)
        self._activation = layer.intermediate.intermediate_act_fn
        self._gelu = isinstance(self._activation, GELUActivation)
        self._norms = out.LayerNorm, layer.output.LayerNorm

    def __call__(
        self, hidden: Float[Tensor, "rows dim"], places: Places, first: bool
    ) -> Float[Tensor, "rows_or_texts dim"]:
        """Packed tokens -> the same in bfloat16, or with `first` the first token of each text in float32."""
        hidden = hidden.bfloat16()
        asking = hidden.index_select(0, places.first) if first else hidden
        query, sides = self._query(asking), places.fill(self._keys(hidden))
        query = query.view(places.texts, 1, -1) if first else places.fill(query)
        heads = [part.unflatten(2, (places.heads, -1)).transpose(1, 2) for part in (query, *sides.chunk(2, 2))]
        attended = F.scaled_dot_product_attention(*heads, attn_mask=places.bias(query.dtype)).transpose(1, 2).flatten(2)
        attended = attended.squeeze(1) if first else places.leave_out(attended)
        attended = self._norms[0](self._out.plus(attended, asking))
        inner = self._inner(attended, "gelu") if self._gelu else self._activation(self._inner(attended))
        hidden = self._back.plus(inner, attended)
        return self._norms[1](hidden.float() if first else hidden)  # what is read is not rounded


def fits(layer: nn.Module) -> bool:
    """Whether a layer is as transformers has it: no adapter in it, and no dropout in use."""
    attention = layer.attention
    parts = [attention.self.query, attention.self.key, attention.self.value, attention.output.dense,
             layer.intermediate.dense, layer.output.dense]  # fmt: skip
    return not layer.training and all(type(part) is nn.Linear for part in parts)


@contextlib.contextmanager
def fused(model: nn.Module) -> Iterator[None]:
    """A block in which a model's packed layers are `Layer` and its other linear modules `Product`; where oneDNN can.

    Copying the weights takes about as long as scoring twenty pairs, so a block within another copies none again.
    """
    modules = list(model.modules()) if hardware.orders_weights() else []
    encoders = [part for part in modules if isinstance(part, PackedEncoder)]
    fitting = [layer for encoder in encoders for layer in encoder.layer if fits(layer)]
    layers = [layer for layer in fitting if "fused" not in layer.__dict__]
    within = {part for layer in fitting for part in layer.modules()}
    others = [part for part in modules if type(part) is nn.Linear and part not in within]
    linear = [part for part in others if "forward" not in part.__dict__]
    try:
        for layer in layers:
            layer.fused = Layer(layer)
        for module in linear:
            module.forward = Product(module)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("fused", None)
        for module in linear:
            module.__dict__.pop("forward", None)
