"""Checks of the notebooks' exercises: `check.kl(yours)` praises your function, or says in one sentence what is wrong.

Each is an `Exercise`; `check.kl.task` says what is to be written.
"""

from lib.exercises.adapting import dpo, merge_changes, slerp, task_arithmetic
from lib.exercises.calibrating import calibrated, calibration_error, reached_share
from lib.exercises.choices import all_in, choose, frontier
from lib.exercises.contrastive import info_nce, info_nce_gradient
from lib.exercises.distillation import kl
from lib.exercises.elsewhere import crop, judged_at, lowest_gain
from lib.exercises.evaluation import effect, holm, p_value
from lib.exercises.examine import NotYet
from lib.exercises.first_steps import group_gradient, ndcg_at_10, own_measure, rr_at_10
from lib.exercises.late_interaction import masked_maxsim, maxsim
from lib.exercises.own_losses import listwise, sparing_loss
from lib.exercises.own_margins import adaptive_loss, adaptive_target, target_margin
from lib.exercises.pairwise import margin_mse, ranknet
from lib.exercises.plateaus import departure, guessing_loss, schedule
from lib.exercises.rank_changes import moved, only_a_right, unlike
from lib.exercises.rankings import overlap, reciprocal_rank, share_of_leaks
from lib.exercises.retrieval import fuse, recall, search
from lib.exercises.scores import agrees, combine, correct, score_margins
from lib.exercises.speed import length_batches, padding_share, speed_up
from lib.exercises.teaching import mutual_targets, own_way, ssd_targets
from lib.exercises.verdicts import plan, rejected, verdict

__all__ = [
    "NotYet", "adaptive_loss", "adaptive_target", "agrees", "all_in", "calibrated", "calibration_error", "choose",
    "combine", "correct", "crop", "departure", "dpo", "effect", "frontier", "fuse", "group_gradient", "guessing_loss",
    "holm", "info_nce", "info_nce_gradient", "judged_at", "kl", "length_batches", "listwise", "lowest_gain",
    "margin_mse", "masked_maxsim", "maxsim", "merge_changes", "moved", "mutual_targets", "ndcg_at_10", "only_a_right",
    "overlap", "own_measure", "own_way", "p_value", "padding_share", "plan", "ranknet", "reached_share", "recall",
    "reciprocal_rank", "rejected", "rr_at_10", "schedule", "score_margins", "search", "share_of_leaks", "slerp",
    "sparing_loss", "speed_up", "ssd_targets", "target_margin", "task_arithmetic", "unlike", "verdict",
]  # fmt: skip
