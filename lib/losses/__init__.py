"""Every ranking loss on one signature: loss(scores, targets) -> one value a query.

scores and targets are (batch, docs), column 0 is the positive, the result is (batch,). No loss holds a model, a
device, a state or a reduction; parameters are bound with `functools.partial`.
"""

from lib.losses.distillation import kl
from lib.losses.listwise import info_nce
from lib.losses.pairwise import margin_mse, ranknet
from lib.losses.pointwise import bce, mse

__all__ = ["bce", "info_nce", "kl", "margin_mse", "mse", "ranknet"]
