"""What is trained beside a ranker to compare its hidden states with a teacher's, and dropped when the ranker is kept.

A part is made from (student layers, student dim, teacher layers, teacher dim). It takes both states, (batch, docs,
layers, dim) each, and gives what a loss of `lib.losses.representations` takes.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from lib.models.ranker import Ranker, drawn_from

States = Float[Tensor, "batch docs student_layers student_dim"]
Targets = Float[Tensor, "batch docs teacher_layers teacher_dim"]
Compared = tuple[Float[Tensor, "batch docs ..."], ...]


class WithStates(nn.Module):
    """A ranker whose step gives scores, and what each loss of hidden states compares."""

    def __init__(
        self, ranker: Ranker, makers: Sequence[Callable | None], teacher_layers: int, teacher_dim: int, seed: int
    ):
        super().__init__()
        self.ranker = ranker
        with drawn_from(seed):
            self.parts = nn.ModuleList(
                made(maker, *ranker.state_shape, teacher_layers, teacher_dim) for maker in makers
            )

    def forward(self, tokens: dict[str, Tensor], docs: int, targets: Targets) -> tuple[Tensor, tuple[Compared, ...]]:
        """Scores (batch, docs), and of each part what its loss takes.

        The states are those of the student's layers, without the embeddings: its first token is the same in each pair.
        """
        scores, states = self.ranker(tokens, docs, states=True)
        with torch.autocast(scores.device.type, enabled=False):
            return scores, tuple(part(states[:, :, 1:], targets.float()) for part in self.parts)


def made(maker: Callable | None, *shape: int) -> nn.Module:
    """The module of a part; of None one that leaves the states as they are."""
    return maker(*shape) if maker else AsTheyAre()


class AsTheyAre(nn.Module):
    """No part."""

    def forward(self, states: States, targets: Targets) -> Compared:
        """Both as they are."""
        return states, targets


class Projected(nn.Module):
    """The student's states in the teacher's width, by one linear map where the widths differ."""

    def __init__(self, student_dim: int, teacher_dim: int):
        super().__init__()
        same = student_dim == teacher_dim
        self.linear = nn.Identity() if same else nn.Linear(student_dim, teacher_dim, bias=False)

    def forward(self, states: States, targets: Targets) -> Compared:
        """States (batch, docs, student layers, teacher dim), and the targets."""
        return self.linear(states), targets


class LayerAttention(Projected):
    """Which student layers follow which teacher layer, per pair: Ji et al. 2021, https://arxiv.org/abs/2102.02973.

    As in the authors' code: queries come from the teacher's layers and keys from the student's, each layer by a linear
    map of its own, keys through a ReLU; a key is mapped once more for every teacher layer (bilinear), the products of
    positions are added, and a softmax runs over the student's layers. There batch norms follow the linear maps; here
    none do, since a batch has few pairs. What is compared are there maps of an image, here vectors of a pair.
    """

    def __init__(self, student_layers: int, student_dim: int, teacher_layers: int, teacher_dim: int, size: int):
        super().__init__(student_dim, teacher_dim)
        self.queries = nn.ModuleList(nn.Linear(teacher_dim, size) for _ in range(teacher_layers))
        self.keys = nn.ModuleList(nn.Linear(student_dim, size) for _ in range(student_layers))
        self.bilinear = nn.Linear(size, size * teacher_layers)
        self.positions = nn.ParameterList(
            nn.init.xavier_normal_(torch.empty(layers, size)) for layers in (teacher_layers, student_layers)
        )

    def forward(self, states: States, targets: Targets) -> Compared:
        """States in the teacher's width, targets, and attention (batch, docs, teacher layers, student layers)."""
        queries = torch.stack([query(targets[:, :, layer]) for layer, query in enumerate(self.queries)], 2)
        keys = torch.stack([key(states[:, :, layer]) for layer, key in enumerate(self.keys)], 2).relu()
        keys = self.bilinear(keys).unflatten(-1, queries.shape[2:])  # (batch, docs, student, teacher, size)
        logits = torch.einsum("bdtq,bdstq->bdts", queries, keys) + self.positions[0] @ self.positions[1].T
        return *super().forward(states, targets), (logits / queries.shape[-1] ** 0.5).softmax(-1)


class Critic(nn.Module):
    """A bilinear critic of states at length 1, 1-Lipschitz in each: the spectral norm of its matrix is 1.

    It begins as the dot product, so far as the widths go.
    """

    def __init__(self, student_dim: int, teacher_dim: int):
        super().__init__()
        linear = nn.Linear(student_dim, teacher_dim, bias=False)
        nn.init.eye_(linear.weight)
        self.linear = parametrizations.spectral_norm(linear)

    def forward(self, states: States, targets: Targets) -> Compared:
        """The student's states, at most of length 1, in the teacher's width, and the teacher's at length 1."""
        states, targets = (nn.functional.normalize(part, dim=-1) for part in (states, targets))
        return self.linear(states), targets


def projected(student_layers: int, student_dim: int, teacher_layers: int, teacher_dim: int) -> nn.Module:
    """`Projected`: one map for all layers, as in TinyBERT (Jiao et al. 2020, https://arxiv.org/abs/1909.10351)."""
    return Projected(student_dim, teacher_dim)


def layer_attention(
    student_layers: int, student_dim: int, teacher_layers: int, teacher_dim: int, *, size: int = 128
) -> nn.Module:
    """`LayerAttention` with queries and keys of `size` dimensions: 128 in the authors' code."""
    return LayerAttention(student_layers, student_dim, teacher_layers, teacher_dim, size)


def critic(student_layers: int, student_dim: int, teacher_layers: int, teacher_dim: int) -> nn.Module:
    """`Critic`, for the global part of WCoRD (https://arxiv.org/abs/2012.08674), which asks for a 1-Lipschitz one."""
    return Critic(student_dim, teacher_dim)
