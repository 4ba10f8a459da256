"""Every ranking loss, with one signature: loss(scores, targets, *, parameters) -> one value per query.

Column 0 is the positive. No loss holds a model, a device, a state or a reduction, and none loops over queries or
documents. Parameters are bound with `lib.training.bound.bind`.
"""

from lib.losses.distillation import jensen_shannon, kl, pearson, reverse_kl
from lib.losses.listwise import adr_mse, approx_ndcg, gist, info_nce, list_mle, list_net, position_list_mle, smooth_mrr
from lib.losses.pairwise import (
    bounded_weighted_ranknet,
    hinge,
    lambda_loss,
    margin_error,
    margin_mse,
    ranknet,
    weighted_ranknet,
)
from lib.losses.pointwise import bce, mse
from lib.losses.preference import dpo, orpo

__all__ = [
    "adr_mse", "approx_ndcg", "bce", "bounded_weighted_ranknet", "dpo", "gist", "hinge", "info_nce", "jensen_shannon",
    "kl", "lambda_loss", "list_mle", "list_net", "margin_error", "margin_mse", "mse", "orpo", "pearson",
    "position_list_mle", "ranknet", "reverse_kl", "smooth_mrr", "weighted_ranknet",
]  # fmt: skip
