"""The model card of a trained run, read from the store: what it learned from, its settings, what it reaches.

The front matter is the hub's (https://huggingface.co/docs/hub/model-cards), without a licence, which the user chooses.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import huggingface_hub
import pandas as pd

from lib.analysis import measures, significance, style
from lib.data import collections, views
from lib.models import packaged
from lib.models.backbone import folder, is_causal
from lib.models.weights import config
from lib.study import runs, tables
from lib.study.experiment import Experiment, Run, Teacher, TestSet, fields
from lib.training.bound import inner_function, parameters

# architecture -> the hub's task, and how sentence-transformers opens it; the kit alone opens the others
OPENED = {
    "cat": ("text-ranking", 'CrossEncoder("a folder").predict([("a query", "a document")])'),
    "dot": ("sentence-similarity", 'model = SentenceTransformer("a folder"); '
            'model.similarity(model.encode_query(["a query"]), model.encode_document(["a document"]))'),
}  # fmt: skip
MEASURED = ["test set", "ranker", "measure", "mean", "low", "high"]


def card(run: Run, tests: Iterable[TestSet], graphs: str = "") -> huggingface_hub.ModelCard:
    """The card of a run, with its measures on those of `tests` that it is scored on; nothing is trained or scored.

    `graphs`: a section in Markdown. Raises NotTrained if the run is not in the store.
    """
    table, backbone = quality(run, tests), run.model.backbone
    task, code = OPENED.get("" if _by_the_kit_alone(run) else run.model.architecture, (None, "lib.models.load(folder)"))
    hub = packaged.MODELS[backbone].hub if backbone in packaged.MODELS else backbone
    own = table.loc[table["ranker"] == "this model", ["test set", "measure", "mean"]].round(4)
    results = [huggingface_hub.EvalResult("text-ranking", test, test, *value) for test, *value in own.to_numpy()]
    data = huggingface_hub.ModelCardData(
        base_model=None if Path(hub).exists() else hub, library_name="sentence-transformers" if task else None,
        pipeline_tag=task, tags=[run.model.architecture, run.taught["paradigm"], run.taught["strategy"]],
        metrics=table["measure"].unique().tolist() or list(measures.MEASURES), eval_results=results or None,
        model_name=run.about if results else None,
    )  # fmt: skip
    table["text"] = [f"{row.mean:.3f} [{row.low:.3f}, {row.high:.3f}]" for row in table.itertuples()]
    shown = table.pivot_table("text", MEASURED[:2], "measure", "first", sort=False)
    sections = {
        "Use": f"With {'sentence_transformers' if task else 'the kit that trained it'}: `{code}`",
        "Training": "\n".join(_lineage(run, "this model")), "Settings": style.markdown(_settings(run)),
        "Quality": f"{style.markdown(shown)}\nMean of the queries with its 95 % bootstrap interval.",
        "Graphs": graphs, "Conditions of the training": style.markdown(_conditions(run)),
    }  # fmt: skip
    left_out = {"Quality": table.empty, "Graphs": not graphs}
    text = "\n\n".join(f"## {name}\n\n{part.strip()}" for name, part in sections.items() if not left_out.get(name))
    return huggingface_hub.ModelCard(f"---\n{data.to_yaml()}\n---\n\n# {run.about}\n\n{text}\n")


def _by_the_kit_alone(run: Run) -> bool:
    """Whether sentence-transformers would score otherwise: it knows no prefix, and no words around a pair."""
    template = bool(dict(run.model.options).get("template"))
    causal = run.model.architecture == "cat" and is_causal(config(folder(run.model.backbone)))
    return bool(run.prefix) or template or causal


def quality(run: Run, tests: Iterable[TestSet]) -> pd.DataFrame:
    """A run's measures with 95 % intervals on those of `tests` that it is scored on; columns `MEASURED`.

    Beside it stand the first stage whose candidates it ranks anew, and what it starts from where that is scored.
    """
    rows = []
    for test in filter(lambda test: tables.is_scored(run, test), dict.fromkeys(tests)):
        stage = tables.first_stage([test])
        first, size = stage["ranker"].iloc[0], stage["query"].nunique()
        both = {"start": run.before, "this model": run}
        scored = {name: one for name, one in both.items() if tables.is_scored(one, test)}
        for measure in measures.MEASURES:
            selected = measures.select(stage, measure)
            own, called = selected["value"], selected["measure"].iloc[0]
            by_query = {first: own} | {name: tables.values(one, test, measure) for name, one in scored.items()}
            asked = f"{public(test.collection)}, {test.split}, {queries(test, size)}"
            name = f"{asked}, top {test.depth or 'all'} of {first}"
            rows += [(name, ranker, called, values.mean(), *significance.interval(values))
                     for ranker, values in by_query.items()]  # fmt: skip
    return pd.DataFrame(rows, columns=MEASURED)


def queries(test: TestSet, count: int | str) -> str:
    """How many queries of a split a test set has, and where they begin unless that is at the first."""
    return f"{count} queries" + (f" after the first {test.skip}" if test.skip else "")


def _lineage(one: Teacher, role: str, depth: int = 0) -> Iterator[str]:
    """A line for a model and, indented below it, for each that it learned from."""
    line = "  " * depth + f"- {role}: {public(one) if isinstance(one, str) else f'{one.about} (`{one.key}`)'}"
    if not isinstance(one, Experiment):
        backbone = one.model.backbone if isinstance(one, Run) else one if isinstance(one, str) else None
        before = backbone and packaged.trained_on(backbone)
        yield line + (f"; {backbone} was trained on: {before}" if before else "")
        for parent in () if isinstance(one, str) else one.parents:
            yield from _lineage(parent, "made from", depth + 1)
        return
    data, strategy = one.data, one.strategy
    terms = " + ".join(f"{term.weight:g} x {_call(term.loss)} against {term.source}" for term in strategy.terms)
    columns = f", columns by {_call(strategy.columns)}" if strategy.columns else ""
    text = f"{public(data.collection)} (fingerprint `{collections.fingerprint(data.collection)}`)"
    yield f"{line}: {strategy.paradigm}, {terms}{columns}; {data.group_count} groups of {data.docs} documents of {text}"
    parents = [("starts from", one.before), ("beside a student that starts from", one.peer),
               ("hard negatives by", data.negatives)]  # fmt: skip
    for role, parent in [*parents, *(("teacher", teacher) for teacher in one.teachers)]:
        if parent is not None:
            yield from _lineage(parent, role, depth + 1)


def _call(function: object) -> str:
    given = ", ".join(f"{name}={value}" for name, value in parameters(function).items())
    return f"`{inner_function(function).__name__}({given})`"


def _settings(run: Run) -> pd.DataFrame:
    left_out = ("strategy", "teacher", "start", "peer", "negatives", "runs", "run")  # `_lineage` tells of these
    values = {name: value for name, value in fields(run) if name not in left_out}
    texts = [public(value) if isinstance(value, str) else str(value) for value in values.values()]
    return pd.DataFrame({"setting": values.keys(), "value": texts}).set_index("setting")


def _conditions(run: Run) -> pd.DataFrame:
    """Device, precision, versions, commit and costs of a training."""
    rows = runs.costs(run).set_index("measure").rename_axis("condition")
    texts = rows["text"].where(rows["text"] != "", rows["value"].map("{:,.2f}".format))
    return texts[texts != "nan"].to_frame("value")


def public(name: str) -> str:
    """The name of a model, collection or file; of a path on this machine its last part."""
    is_path = Path(views.around_path(name)[1]).exists()
    return Path(name).name if is_path else name
