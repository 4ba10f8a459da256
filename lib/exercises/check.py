"""Checks of the notebooks' exercises: `check.kl(yours)` praises your function, or says in one sentence what is wrong.

Each is an `Exercise`; `check.kl.task` says what is to be written.
"""

from lib.exercises.choices import all_in, choose, frontier
from lib.exercises.contrastive import info_nce, info_nce_gradient
from lib.exercises.distillation import kl
from lib.exercises.evaluation import effect, holm, p_value
from lib.exercises.examine import NotYet
from lib.exercises.late_interaction import masked_maxsim, maxsim
from lib.exercises.own_losses import listwise, sparing_loss
from lib.exercises.own_margins import adaptive_loss, adaptive_target, target_margin
from lib.exercises.pairwise import margin_mse, ranknet
from lib.exercises.plateaus import departure, guessing_loss, schedule
from lib.exercises.rankings import overlap, reciprocal_rank, share_of_leaks
from lib.exercises.retrieval import fuse, recall, search
from lib.exercises.scores import agrees, combine, correct, score_margins

__all__ = [
    "NotYet", "adaptive_loss", "adaptive_target", "agrees", "all_in", "choose", "combine", "correct", "departure",
    "effect", "frontier", "fuse", "guessing_loss", "holm", "info_nce", "info_nce_gradient", "kl", "listwise",
    "margin_mse", "masked_maxsim", "maxsim", "overlap", "p_value", "ranknet", "recall", "reciprocal_rank", "schedule",
    "score_margins", "search", "share_of_leaks", "sparing_loss", "target_margin",
]  # fmt: skip
