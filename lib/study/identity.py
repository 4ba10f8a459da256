"""What decides a number: the one description that a run's, a teacher's scores' and an evaluation's name is a hash of.

Two runs have one name exactly if they have the same settings, inputs of the same content (texts, judgements, weights,
score files; where these lie does not matter), losses of the same content (`lib.study.functions`), constants, precision
and versions of bm25s and the stemmer, which choose candidates and negatives. Other versions of torch, transformers and
accelerate compute the same up to rounding, and an upgrade should not retrain a study: these are recorded beside each
run, and a table that mixes them says so (`lib.machine.provenance`).
"""

import dataclasses
import pkgutil

from lib.analysis import measures
from lib.data import collections, first_stage, score_files
from lib.machine import digest, hardware, store
from lib.models import backbone, merging
from lib.study.functions import of_function
from lib.training.strategy import Strategy

RECIPE = 5  # raise it when a change of the code, and of nothing described here, changes more than a run's rounding

# Module-level numbers of lib that decide a run or its evaluation and are in no field of an experiment.
CONSTANTS = (
    "data.groups.DEPTH", "training.strategies.TEMPERATURE", "models.tokens.DOCUMENT_SHARE", "training.batches.WINDOW",
    "models.tk.CENTRES", "models.tk.WIDTH", "models.tk.SMALLEST", "models.tk.DOCUMENT_OFFSET", "models.colbert.GAIN",
)  # fmt: skip


def of_run(run: object) -> dict[str, object]:
    """The description of an `Experiment`: settings as they are, everything else by its content."""
    return {
        **_common(), "seed": run.seed, "strategy": of_strategy(run.strategy), "model": _of_model(run.model),
        "teacher": [of_teacher(teacher) for teacher in run.teachers], "start": run.start and run.start.key,
        "training": _of_training(run.training),
        "data": {
            "collection": collections.fingerprint(run.data.collection), "group_count": run.data.group_count,
            "docs": run.data.docs, "negatives": getattr(run.data.negatives, "key", run.data.negatives),
            "first_stage": first_stage.identity(),
            **({"positives": run.data.positives} if run.data.positives else {}),
            **({"reads": collections.fingerprint(run.data.read)} if run.data.reads else {}),
        },
        **({"peer": run.peer.key} if run.peer else {}),
    }  # fmt: skip


def of_untrained(model: object) -> dict[str, object]:
    """The description of an `Untrained` model."""
    return {**_common(), "seed": model.seed, "model": _of_model(model.model)}


def of_merged(run: object) -> dict[str, object]:
    """The description of a `Merged` run: what it is made from, by name, and how."""
    of = {"runs": [one.key for one in run.parents], "how": run.how, "parallel": merging.PARALLEL, **run.settings}
    return {**_common(), "merged": of, "model": _of_model(run.model)}


def of_pretrained(run: object) -> dict[str, object]:
    """The description of a `Pretrained` run."""
    data = {"collection": collections.fingerprint(run.collection), "document_count": run.document_count}
    return {
        **_common(), "seed": run.seed, "model": _of_model(run.model), "training": _of_training(run.training),
        "data": data, "pretrained": "masked language model",
    }  # fmt: skip


def of_strategy(strategy: Strategy) -> dict[str, object]:
    """Its terms and columns with every parameter, whatever the strategy is called."""
    terms = [[of_function(term.loss), term.source, term.weight, *([of_function(term.part)] if term.part else [])]
             for term in strategy.terms]  # fmt: skip
    found = {"terms": terms, "columns": strategy.columns and of_function(strategy.columns)}
    if strategy.peers:
        found |= {"peers": of_function(strategy.peers)}
    if strategy.compares_states:
        found |= {"layers": strategy.layers, "align": strategy.align and of_function(strategy.align)}
    return found


def of_teacher(teacher: object) -> dict[str, object]:
    """A run by its name; a score file or a model that is no run of the kit by its content."""
    if not isinstance(teacher, str):  # a run or a source
        return {"run": teacher.key}
    if score_files.is_file_name(teacher):
        return {"file": score_files.fingerprint(teacher)}
    return {"model": backbone.fingerprint(teacher)}


def of_teacher_scores(teacher: object, collection: str, pairs: str, max_length: int) -> dict[str, object]:
    """What decides a teacher's scores: `collection` and `pairs` are the fingerprint and the key of what it scores."""
    of = {"teacher": of_teacher(teacher), "collection": collection, "pairs": pairs}
    if isinstance(teacher, str):
        return of | _common() | {"max_length": max_length}
    return of if hasattr(teacher, "model") else of | {"recipe": RECIPE}  # the key of a source need not have it


def of_evaluation(run: object, test: object) -> dict[str, object]:
    """What decides the scores and values of a run, or of an untrained model, on a `TestSet`."""
    return {
        "run": run.key, "collection": collections.fingerprint(test.collection), "split": test.split,
        "queries": test.queries, "depth": test.depth, "first_stage": _of_first_stage(test),
        "measures": list(measures.MEASURES), **({"skip": test.skip} if test.skip else {}),
    }  # fmt: skip


def evaluation(run: object, test: object) -> str:
    """The name of the scores and values of a run on a `TestSet`: the same in the store, a plan and a table."""
    return store.key(of_evaluation(run, test))


def constants() -> dict[str, object]:
    """Name -> value of `CONSTANTS`."""
    return {name: pkgutil.resolve_name(f"lib.{name}") for name in CONSTANTS}


def _common() -> dict[str, object]:
    return {"recipe": RECIPE, "precision": hardware.precision(), "constants": constants()}


def _of_first_stage(test: object) -> dict[str, object]:
    if test.run:
        return {"run": digest.of_file(collections.stored_run(test.collection, test.run))}
    return first_stage.identity()


def _of_training(training: object) -> dict[str, object]:
    batching, fields = training.batching, dataclasses.asdict(training)
    for name in ("gradient_checkpointing", "snapshots"):  # later than the runs of earlier versions
        if fields[name] == type(training).__dataclass_fields__[name].default:
            del fields[name]
    kind = batching and {"kind": type(batching).__name__, **dataclasses.asdict(batching)}
    return fields | {"batching": kind}


def _of_model(model: object) -> dict[str, object]:
    content = {"options": dict(model.options), "backbone": backbone.fingerprint(model.backbone)}
    return dataclasses.asdict(model) | content
