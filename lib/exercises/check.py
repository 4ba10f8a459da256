"""Checks of the notebooks' exercises: `check.kl(yours)` praises your function, or says in one sentence what is wrong.

Each is an `Exercise`; `check.kl.task` says what is to be written.
"""

from lib.exercises.choices import all_in, choose, frontier
from lib.exercises.contrastive import info_nce, info_nce_gradient, listwise, ranknet, sparing_loss
from lib.exercises.distillation import kl, margin_mse
from lib.exercises.evaluation import departure, effect, guessing_loss, holm, p_value, schedule
from lib.exercises.examine import NotYet
from lib.exercises.first_steps import group_gradient, ndcg_at_10, own_measure, rr_at_10
from lib.exercises.own_margins import adaptive_loss, adaptive_target, target_margin
from lib.exercises.rank_changes import moved, only_a_right, unlike
from lib.exercises.rankings import overlap, reciprocal_rank, share_of_leaks
from lib.exercises.retrieval import fuse, recall, search
from lib.exercises.scores import agrees, combine, correct, masked_maxsim, maxsim, score_margins
from lib.exercises.verdicts import plan, rejected, verdict

__all__ = [
    "NotYet", "adaptive_loss", "adaptive_target", "agrees", "all_in", "choose", "combine", "correct", "departure",
    "effect", "frontier", "fuse", "group_gradient", "guessing_loss", "holm", "info_nce", "info_nce_gradient", "kl",
    "listwise", "margin_mse", "masked_maxsim", "maxsim", "moved", "ndcg_at_10", "only_a_right", "overlap",
    "own_measure", "p_value", "plan", "ranknet", "recall", "reciprocal_rank", "rejected", "rr_at_10", "schedule",
    "score_margins", "search", "share_of_leaks", "sparing_loss", "target_margin", "unlike", "verdict",
]  # fmt: skip
