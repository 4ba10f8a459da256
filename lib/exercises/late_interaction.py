"""Checks of notebook 07 on late interaction: MaxSim, and MaxSim with padded documents."""

import torch
from torch import Tensor

from lib.exercises.examine import Exercise, draw

TOKENS = (
    (draw(3, 4), draw(5, 4, seed=1)),
    (draw(2, 3, seed=2), draw(4, 3, seed=3)),
    (draw(2, 3, seed=4).abs(), draw(4, 3, seed=5).abs() - 2),
)  # (tokens, dim) twice

maxsim = Exercise(
    task="MaxSim of query vectors (query tokens, dim) and document vectors (document tokens, dim): one number.",
    praise="Each query token looks for its own best match.",
    cases=TOKENS,
    right=lambda q, d: (q @ d.T).amax(1).sum(),
    gradients=(0, 1),
    sizes=lambda q, d: {"query tokens": len(q), "document tokens": len(d), "dimensions": q.shape[1]},
    slips={
        "Each document token looks for its best query token; it is the other way round.": lambda q, d: (
            (q @ d.T).amax(0).sum()
        ),
        "The mean over query tokens is taken; MaxSim adds them up.": lambda q, d: (q @ d.T).amax(1).mean(),
        "The mean over document tokens is taken; MaxSim takes their maximum.": lambda q, d: (q @ d.T).mean(1).sum(),
        "All similarities are added up; only the largest of each query token counts.": lambda q, d: (q @ d.T).sum(),
        "Only the single best pair of tokens counts; every query token has its own.": lambda q, d: (q @ d.T).amax(),
        "The sum over query tokens is missing.": lambda q, d: (q @ d.T).amax(1),
        "The vectors are pooled first; MaxSim keeps one vector per token.": lambda q, d: q.mean(0) @ d.mean(0),
        "The vectors are normalised; take the dot product as it is.": (
            lambda q, d: (_unit(q) @ _unit(d).T).amax(1).sum()
        ),
        "The smallest similarity is taken; it should be the largest.": lambda q, d: (q @ d.T).amin(1).sum(),
        "Negative similarities are cut off at 0.": lambda q, d: (q @ d.T).relu().amax(1).sum(),
        "Positions are added up (argmax); the largest similarities themselves are due.": (
            lambda q, d: (q @ d.T).argmax(1).sum()
        ),
        "The single best pair of tokens stands for every query token; each has its own.": (
            lambda q, d: (q @ d.T).amax() * len(q)
        ),
        "The query is detached: no gradient reaches it.": lambda q, d: (q.detach() @ d.T).amax(1).sum(),
        "The document is detached: no gradient reaches it.": lambda q, d: (q @ d.detach().T).amax(1).sum(),
        "Everything is detached: no gradient reaches the vectors.": lambda q, d: (q @ d.T).amax(1).sum().detach(),
        "Distances are taken; MaxSim has dot products.": lambda q, d: -torch.cdist(q, d).amin(1).sum(),
        "Both directions are averaged; only the query's tokens look for a match.": (
            lambda q, d: ((q @ d.T).amax(1).sum() + (q @ d.T).amax(0).sum()) / 2
        ),
        "The maximum is smoothed by a softmax: MaxSim takes the largest similarity alone.": (
            lambda q, d: ((q @ d.T).softmax(1) * (q @ d.T)).sum()
        ),
        "The maximum is smoothed by a logsumexp.": lambda q, d: (q @ d.T).logsumexp(1).sum(),
    },
)

_MASK = torch.tensor([[True, True, True], [True, False, False], [True, True, False], [False, True, True]])
PADDED = ((draw(2, 3), draw(4, 3, 3, seed=1), _MASK), (draw(3, 2, seed=2), draw(4, 3, 2, seed=3) - 2, _MASK))


def _similar(q: Tensor, d: Tensor) -> Tensor:
    return torch.einsum("td,kld->ktl", q, d)  # (docs, query tokens, document tokens)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)


def _filled(q: Tensor, d: Tensor, mask: Tensor, value: float = -torch.inf) -> Tensor:
    return _similar(q, d).masked_fill(~mask[:, None], value)


def _masked_maxsim(q: Tensor, d: Tensor, mask: Tensor) -> Tensor:
    return _filled(q, d, mask).amax(-1).sum(-1)


def _longer(q: Tensor, d: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return q, torch.cat([d, d[:, :1]], 1), torch.cat([mask, 0 * mask[:, :1]], 1).bool()


def _low(q: Tensor, d: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return q.abs(), d - 50, mask


masked_maxsim = Exercise(
    task="MaxSim of one query (query tokens, dim) with padded documents (docs, document tokens, dim); mask (docs, "
    "document tokens) is True where a token is real; (docs,).",
    praise="Padding never wins, whatever lies there.",
    cases=PADDED,
    right=_masked_maxsim,
    returns="one value per document",
    gradients=(0, 1),
    sizes=lambda q, d, _: {"query tokens": len(q), "document tokens": d.shape[1]},
    slips={
        "The mask is not used: padding takes part in the maximum.": lambda q, d, m: _similar(q, d).amax(-1).sum(-1),
        "Padding gets the similarity 0, which beats a negative one: fill it with minus infinity before the maximum.": (
            lambda q, d, m: _filled(q, d, m, 0.0).amax(-1).sum(-1)
        ),
        "The mask is the wrong way round: it is True where a token is real.": (
            lambda q, d, m: _filled(q, d, ~m).amax(-1).sum(-1)
        ),
        "The mean over query tokens is taken; MaxSim adds them up.": lambda q, d, m: _filled(q, d, m).amax(-1).mean(-1),
        "The maximum is over the query tokens; each query token takes its best document token.": (
            lambda q, d, m: (_similar(q, d).amax(1) * m).sum(-1)
        ),
        "All similarities of real tokens are added up; only the largest of each query token counts.": (
            lambda q, d, m: (_similar(q, d) * m[:, None]).sum((1, 2))
        ),
        "The mean over the real tokens is taken; MaxSim takes their maximum.": (
            lambda q, d, m: ((_similar(q, d) * m[:, None]).sum(-1) / m.sum(-1, keepdim=True)).sum(-1)
        ),
        "The sum over query tokens is missing.": lambda q, d, m: _filled(q, d, m).amax(-1),
        "The sum is over the documents; it should be over the query tokens.": lambda q, d, m: (
            _filled(q, d, m).amax(-1).sum(0)
        ),
        "Only the single best pair of tokens counts; every query token has its own.": (
            lambda q, d, m: _filled(q, d, m).amax((1, 2))
        ),
        "Each document is divided by its number of tokens.": (
            lambda q, d, m: _filled(q, d, m).amax(-1).sum(-1) / m.sum(-1)
        ),
        "The mask is applied after the maximum, when padding has already won: fill with minus infinity before it.": (
            lambda q, d, m: (_similar(q, d).amax(-1) * m[:, :1]).sum(-1)
        ),
        "The first token's mask decides for the whole document; each document token has its own.": (
            lambda q, d, m: _similar(q, d).masked_fill(~m[:, :1, None], -torch.inf).amax(-1).sum(-1)
        ),
        "The vectors are normalised; take the dot product as it is.": (
            lambda q, d, m: _filled(_unit(q), _unit(d), m).amax(-1).sum(-1)
        ),
        "Everything is detached: no gradient reaches the vectors.": (
            lambda q, d, m: _filled(q, d, m).amax(-1).sum(-1).detach()
        ),
    },
    demands={
        "More padding changes your result where real similarities are far below 0: fill with minus infinity before "
        "the maximum.": lambda f: all(torch.allclose(f(*_longer(*_low(*case))), f(*_low(*case))) for case in PADDED),
        "What lies in the padding changes your result: fill its similarities with minus infinity before the maximum, "
        "since a small penalty or a mask after it lets padding win.": (
            lambda f: all(
                torch.allclose(f(q, torch.where(m[..., None], d, far), m), f(q, d, m))
                for q, d, m in PADDED
                for far in (100 * q[0], -100 * q[0])
            )
        ),
    },
)
