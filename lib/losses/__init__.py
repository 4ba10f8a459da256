"""Every ranking loss on one signature: loss(scores, targets) -> one value a query.

scores and targets are (batch, docs), column 0 is the positive, the result is (batch,). No loss holds a model, a
device, a state or a reduction; parameters are bound with `functools.partial`. None loops over queries or
documents. Half-precision inputs are widened to float32.
"""

from lib.losses.distillation import jensen_shannon, kl, pearson, reverse_kl
from lib.losses.in_batch import in_batch
from lib.losses.listwise import (
    adr_mse,
    approx_ndcg,
    gist,
    info_nce,
    list_mle,
    list_net,
    position_list_mle,
    smooth_mrr,
)
from lib.losses.pairwise import hinge, lambda_loss, margin_error, margin_mse, ranknet, weighted_ranknet
from lib.losses.pointwise import bce, mse

__all__ = [
    "adr_mse", "approx_ndcg", "bce", "gist", "hinge", "in_batch", "info_nce", "jensen_shannon", "kl", "lambda_loss",
    "list_mle", "list_net", "margin_error", "margin_mse", "mse", "pearson", "position_list_mle", "ranknet",
    "reverse_kl", "smooth_mrr", "weighted_ranknet",
]  # fmt: skip
