"""One function per figure of the notebooks; `save` writes it. Each figure asks a question and labels its axes."""

# ruff: noqa: F401
from lib.analysis.figures.cost import ladder, quality_and_cost, quality_over_time, where_time_goes
from lib.analysis.figures.paired import ablations, ahead, over_data, retrieval
from lib.analysis.figures.quality import by_feature, by_supervision, differences, quality, reliability, verdicts
from lib.analysis.figures.scores import (
    before_and_after,
    first_stage,
    gradients,
    learning_curves,
    lengths,
    margins,
    margins_and_similarities,
    moves,
    score_distributions,
    teacher_against_student,
    training_margins,
)
from lib.analysis.style import folder, save, save_table, save_text
