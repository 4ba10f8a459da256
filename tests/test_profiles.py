"""The grids of profiles and of notebooks: what they hold differs where it should, and every name means something."""

from pathlib import Path

import nbformat
import pytest

from lib.study import profiles
from lib.study.experiment import TestSet, Untrained, fields
from lib.training import strategies

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@pytest.fixture(params=sorted(profiles.PROFILES))
def settings(request):
    return profiles.named(request.param)


def names_of(notebook, profile):
    """What a notebook's cells define, without anything that trains or reads what was trained."""
    names = {}
    for cell in nbformat.read(NOTEBOOKS / f"{notebook}.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            lines = [line for line in cell.source.splitlines() if not line.startswith("tables.complete(")]
            source = "\n".join(lines)
            if (
                not any(word in source for word in ("figures.", "history(", "tables.", "predict.", "tuning."))
                or "import" in source
            ):
                if "questions" in names:  # the best of these is known only after training
                    names |= {"grid": names["questions"]["margin of the fixed loss"], "best": "0.3"}
                exec(source.replace('profile = "laptop"', f'profile = "{profile}"'), names)  # the kit's own cells
            if "plans = {" in source or "margin_groups" in source or "def taught(" in source:
                return names
    raise AssertionError(f"{notebook} has no grid")


def differing(one, other):
    return {name for name, value in fields(one) if value != dict(fields(other))[name]}


def test_seeds_differ_in_the_seed_and_in_the_starts(settings):
    for base in settings.architectures:
        assert [run.seed for run in settings.with_seeds(base)] == list(settings.other_seeds)
        first, second = base.with_seed(0), base.with_seed(1)
        assert differing(first, second) <= {"seed", "start"} and first.seed != second.seed
        assert base.start is None or second.start.seed == second.seed


def test_every_architecture_is_taught_the_same(settings):
    names = names_of("07_architectures", settings.name)
    assert len(names["runs"]) == 5
    for architecture, teachings in names["runs"].items():
        assert {len(runs) for runs in teachings.values()} == {1, len(settings.other_seeds)}
        for runs in teachings.values():
            base = names["bases"][architecture]
            assert all(differing(run, base) <= {"strategy", "teacher", "seed", "start"} for run in runs)
        assert len(teachings["margin_mse, ensemble"][0].teachers) >= 3


def test_the_bi_encoders_differ_in_what_they_learn_from(settings):
    names = names_of("08_self_distillation", settings.name)
    allowed = {"strategy", "options", "teacher", "batch_size", "batching"}
    assert len(names["grid"]) == 11
    for run in names["grid"].values():  # with a teacher the rate is that which the tuning rule chose
        assert differing(run, names["base"]) <= allowed | ({"learning_rate"} if run.teachers else set())
    assert all(differing(run, names["grid"][name]) <= {"group_count"}
               for name, curve in names["curves"].items() for run in curve)  # fmt: skip


def test_an_ablation_changes_one_thing(settings):
    names = names_of("10_cost_and_ablations", settings.name)
    assert len(names["questions"]) == 8
    for answers in names["questions"].values():
        runs = list(answers.values())
        assert len(set(runs)) == len(runs) > 1
        assert len(set().union(*(differing(run, runs[0]) for run in runs))) == 1
    for value, run in names["questions"]["margin of the fixed loss"].items():
        assert strategies.parameters(run.strategy.columns)["margin"] == float(value)


def test_hard_negatives_are_found_by_the_run_that_they_are_compared_with(settings):
    plans = names_of("10_cost_and_ablations", settings.name)["plans"]
    mined, in_batch = plans["labels, hard negatives of its own"], plans["labels, in-batch"]
    assert mined.data.negatives == in_batch and differing(mined, in_batch) == {"negatives"}


def test_references_are_what_no_training_made(experiment, tiny_collection, monkeypatch):
    """BM25, the zero-shot rankers and the ideal ranking, which none is above."""
    monkeypatch.setattr(profiles, "ZERO_SHOT", {"a ranker": Untrained(experiment.model)})
    test = TestSet(tiny_collection, queries=8, depth=10)
    found, values = profiles.references(test, "RR@10"), profiles.reference_values(test, "RR@10")
    assert list(found.index) == ["bm25", "a ranker", "best"] and len(values) == 8
    assert found.to_dict() == values.mean().to_dict() and (values["best"] >= values["bm25"]).all()
    assert found["best"] == found.max() > found["a ranker"] > 0
