"""Preference optimisation: the positive is preferred to each negative, as an answer to a prompt is in language models.

The softmax of a query's scores stands for the probabilities of its documents. Supervised fine-tuning, the negative
log-likelihood of what is preferred, is then `info_nce` itself.
"""

import torch
import torch.nn.functional as F

from lib.losses.listwise import info_nce
from lib.losses.pairwise import ranknet
from lib.losses.signature import PerQuery, Scores, ranking_loss


@ranking_loss
def dpo(scores: Scores, targets: Scores, *, beta: float = 1.0) -> PerQuery:
    """DPO: log(1 + exp(-beta ((s_0 - s_j) - (t_0 - t_j)))), mean over the negatives; targets are a reference's scores.

    Rafailov et al. 2023, https://arxiv.org/abs/2305.18290, equation 7. A difference of two scores is the log of the
    ratio of their probabilities: the softmax's normaliser cancels. The loss is RankNet on beta times what training has
    added to the reference's scores, so at beta 1 a reference of equal scores gives `ranknet`. Typically the reference
    is what training starts from, and every query costs log 2 at first, in whichever order it is. Shift invariant on
    both sides; it has no minimum.
    """
    added = scores - targets
    return F.softplus(-beta * (added[..., :1] - added[..., 1:])).mean(-1)


@ranking_loss
def orpo(scores: Scores, targets: Scores, *, odds_weight: float = 0.1) -> PerQuery:
    """ORPO: InfoNCE (the fine-tuning) plus `odds_weight` times RankNet on the log odds of each document; no reference.

    Hong et al. 2024, https://arxiv.org/abs/2403.07691 (`odds_weight` is its lambda); mean over pairs.
    With p the softmax, log(p_j / (1 - p_j)) is s_j minus the logsumexp of the other scores, which needs no p near 1.
    Of two documents the odds' margin is twice the scores'. Shift invariant; of the targets, which documents are
    positive (above 0) and their order.
    """
    own = torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device)
    others = scores.unsqueeze(-2).masked_fill(own, torch.finfo(scores.dtype).min)  # (batch, j, k): s_k beside j
    odds = scores - torch.logsumexp(others, -1)
    return info_nce(scores, targets) + odds_weight * ranknet(odds, targets)
