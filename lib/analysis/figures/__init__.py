"""One function per figure, one module per group of notebooks; `style` has what they share."""

from lib.analysis.figures.architectures import before_and_after, by_supervision, quality_and_cost, training_margins
from lib.analysis.figures.scores import first_stage, lengths, margins, score_distributions, teacher_against_student
from lib.analysis.figures.self_distillation import ablations, margins_and_similarities, over_data, quality_over_time
from lib.analysis.figures.students import (
    differences,
    gradients,
    in_and_out_of_domain,
    learning_curves,
    quality,
    retrieval,
)
from lib.analysis.figures.style import folder, save
