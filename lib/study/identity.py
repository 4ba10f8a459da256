"""What decides a number: the one description that a run's, a teacher's scores' and an evaluation's name is a hash of.

Two runs have one name exactly if they have the same settings, inputs of the same content (texts, judgements, weights,
score files; where these lie does not matter), the same constants and the same precision. The versions of bm25s and of
the stemmer are in the description, because another version may choose other candidates and negatives. Those of torch,
transformers and accelerate are not: they compute the same up to rounding, and an upgrade should not retrain a study.
These are recorded beside each run, and a table that mixes them says so (`lib.machine.provenance`).
"""

import dataclasses
import importlib
from collections.abc import Callable

from lib.analysis import measures
from lib.data import collections, first_stage, score_files
from lib.machine import hardware
from lib.models import backbone
from lib.training import strategies

RECIPE = 4  # raise it when a change of the code, and of nothing described here, changes a run's numbers

# Module-level numbers of lib that decide a run or its evaluation and are in no field of an experiment.
CONSTANTS = (
    "data.groups.DEPTH", "training.strategies.TEMPERATURE", "models.tokens.DOCUMENT_SHARE", "training.loop.CLIP",
    "training.loop.WEIGHT_DECAY", "training.loop.WINDOW", "models.tk.CENTRES", "models.tk.WIDTH", "models.tk.SMALLEST",
    "models.tk.DOCUMENT_OFFSET", "models.colbert.GAIN",
)  # fmt: skip
BY_CONTENT = ("strategy", "options", "collection", "backbone", "start", "negatives", "teacher")


def of_run(run: object) -> dict[str, object]:
    """The description of an `Experiment`: settings as they are, everything else by its content."""
    settings = {field.name: getattr(run, field.name) for field in dataclasses.fields(run)}
    return {
        "recipe": RECIPE, "precision": hardware.precision(), "constants": constants(),
        "settings": {name: value for name, value in settings.items() if name not in BY_CONTENT},
        "strategy": of_strategy(strategies.named(run.strategy)), "options": dict(run.options),
        "collection": collections.fingerprint(run.collection), "backbone": backbone.fingerprint(run.backbone),
        "start": run.start and run.start.key, "negatives": run.negatives and run.negatives.key,
        "teacher": [of_teacher(one) for one in run.teachers], "first_stage": first_stage.identity(),
    }  # fmt: skip


def of_strategy(strategy: strategies.Strategy) -> dict[str, object]:
    """Its terms and columns with every parameter, however the strategy's name spells them."""
    terms = [[_of_function(term.loss), term.source, term.weight] for term in strategy.terms]
    return {"terms": terms, "columns": strategy.columns and _of_function(strategy.columns)}


def of_teacher(teacher: object) -> dict[str, object]:
    """A run by its name; a score file or a model that is no run of the kit by its content."""
    if not isinstance(teacher, str):
        return {"run": teacher.key}
    if score_files.is_file_name(teacher):
        return {"file": score_files.fingerprint(teacher)}
    return {"model": backbone.fingerprint(teacher)}


def of_teacher_scores(teacher: object, collection: str, pairs: str, max_length: int) -> dict[str, object]:
    """What decides a teacher's scores: `collection` and `pairs` are the fingerprint and the key of what it scores."""
    of = {"teacher": of_teacher(teacher), "collection": collection, "pairs": pairs}
    own_run = not isinstance(teacher, str)
    return of if own_run else of | {"max_length": max_length, "precision": hardware.precision(), "recipe": RECIPE}


def of_evaluation(run: object, test: object, *, trained: bool) -> dict[str, object]:
    """What decides the scores and values of a run on a `TestSet`."""
    return {
        "run": run.key, "trained": trained, "collection": collections.fingerprint(test.collection),
        "split": test.split, "queries": test.queries, "depth": test.depth, "first_stage": first_stage.identity(),
        "measures": list(measures.MEASURES),
    }  # fmt: skip


def constants() -> dict[str, object]:
    """Name -> value of `CONSTANTS`."""
    return {name: _constant(name) for name in CONSTANTS}


def _constant(name: str) -> object:
    module, _, constant = name.rpartition(".")
    return getattr(importlib.import_module(f"lib.{module}"), constant)


def _of_function(function: Callable) -> list[object]:
    """A function's name and its keyword parameters, given or default."""
    inner = getattr(function, "func", function)
    return [f"{inner.__module__}.{inner.__qualname__}", strategies.values_of(function)]
