"""The rankers of notebook 17, and what is said of them."""

import numpy as np
import pandas as pd
import pytest

from lib.analysis import significance
from lib.study import adaptation, profiles
from lib.study.adaptation import Adaptation
from lib.study.derived import HOW, Merged, Pretrained
from lib.study.experiment import TestSet, lineage


@pytest.fixture
def plan(tiny_collection):
    return Adaptation(profiles.named("smoke"), tiny_collection)


def test_a_target_is_learned_from_by_its_queries_or_by_cropped_ones(packages, plan):
    assert plan.text == plan.target  # it has a training split
    assert Adaptation(plan.profile, "botocore").text == "from-dev:botocore"
    assert Adaptation(plan.profile, "sympy").text == "cropped:sympy"
    assert [test.split for test in plan.tests] == ["test", "test"] and plan.tests[1].collection == plan.target
    assert [dev.collection for dev in plan.devs] == ["pydocs"]  # the target has no dev queries
    assert [dev.collection for dev in Adaptation(plan.profile, "sympy").devs] == ["pydocs"]
    assert [dev.collection for dev in Adaptation(plan.profile, "botocore").devs] == ["pydocs", "from-dev:botocore"]


@pytest.mark.parametrize("target", ["pydocs", "typos:pydocs", "cropped:pydocs?relevant_grade=1"])
def test_the_source_is_no_target(packages, plan, target):
    with pytest.raises(ValueError, match="the source, pydocs, is adapted to another collection"):
        Adaptation(plan.profile, target)


def test_who_starts_from_whom(packages, plan):
    runs = plan.trained()
    source = runs["source"]
    assert runs["fine-tuned"].start == runs["orpo"].start == runs["dpo"].start == runs["dpo"].teacher == source
    assert runs["target"].start == source.start and runs["target"].data.collection == plan.target
    assert runs["target"].data.docs == source.data.docs and runs["target"].training == source.training
    first, *others = lineage(runs["pre-trained"])
    assert isinstance(first, Pretrained) and first.collection == plan.target and others[-1] == runs["pre-trained"]
    assert [run.strategy for run in others] == [run.strategy for run in lineage(source)]
    for how in HOW:
        merges = plan.merged(how)
        assert all(type(run) is Merged and run.runs == (source, runs["target"]) for run in merges)
        assert all(run.before == source.start for run in merges)
    assert len(plan.merged("task_arithmetic")) == len(adaptation.SCALES)


def test_another_size_is_merged_halfway_to_its_fine_tuning(plan):
    larger = Adaptation(plan.profile, plan.target, plan.profile.teacher)
    for one in (plan, larger):
        runs = one.halfway()
        assert runs["fine-tuned"].start == one.source and runs["mean"].runs == (one.source, runs["fine-tuned"])
        assert runs["fine-tuned"].data.collection == plan.target
    assert larger.source.model.layers == (0, 1, 2) != plan.source.model.layers


def results(**values):
    """Ranker -> values of 20 queries on two collections."""
    tests = TestSet("a"), TestSet("b")
    draw = np.random.default_rng(0)
    rows = [
        {"run": name, "configuration": name, "ranker": name, "collection": test.collection, "query": f"q{query}",
         "measure": "RR@10", "value": mean + draw.normal(scale=0.001), "seed": 0}
        for test in tests for name, means in values.items() for mean in [means[test.collection]] for query in range(20)
    ]  # fmt: skip
    return pd.DataFrame(rows), tests


def test_what_is_gained_and_forgotten_is_said_in_a_sentence():
    table, tests = results(source={"a": 0.6, "b": 0.4}, target={"a": 0.5, "b": 0.5}, mean={"a": 0.7, "b": 0.45})
    values = {test.collection: significance.per_query(table, "RR@10", test.collection) for test in tests}
    compared = significance.compare_each(values, "source")
    assert compared[["ranker", "collection"]].to_numpy().tolist() == [
        ["target", "a"], ["mean", "a"], ["target", "b"], ["mean", "b"]
    ]  # fmt: skip
    first, second = adaptation.sentences(compared, "source")
    assert first.startswith("target, beside source: worse on a (-0.") and "better on b (+0." in first
    assert second.startswith("mean, beside source: better on a (+0.") and "better on b (+0.0" in second
    found = adaptation.beats_both(table, "RR@10", tests, ["mean"])
    assert found == {"mean": {"a": "yes", "b": "better than source, worse than target"}}


def test_what_cannot_be_told_apart_is_not_called_better():
    table, tests = results(source={"a": 0.6, "b": 0.4}, target={"a": 0.6, "b": 0.4}, mean={"a": 0.6, "b": 0.4})
    found = adaptation.beats_both(table, "RR@10", tests, ["mean"])["mean"]
    assert found["a"] == "equivalent to source, equivalent to target"


def test_the_best_of_many_merges_has_to_be_better_than_chance_gives():
    """One ranker with a p of about .02 is better alone, and not among ten that are drawn from noise."""
    draw = np.random.default_rng(1)
    noise = {f"merge {number}": draw.normal(scale=0.1, size=20) for number in range(10)}
    best = max(noise, key=lambda name: noise[name].mean() / noise[name].std())
    noise[best] += 0.05 - noise[best].mean()
    same = {"a": 0.5, "b": 0.5}
    table, tests = results(source=same, target=same, **dict.fromkeys(noise, same))
    for name, values in noise.items():
        for collection in ("a", "b"):
            table.loc[(table["ranker"] == name) & (table["collection"] == collection), "value"] = 0.5 + values
    alone, among = (adaptation.beats_both(table, "RR@10", tests, names)[best]["a"] for names in ([best], noise))
    assert alone == "yes" and among == "not told apart from source, not told apart from target"
