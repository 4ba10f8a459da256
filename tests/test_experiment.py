"""What an experiment's literals can say wrong is refused when it is made."""

from dataclasses import replace

import pytest

from lib.study.experiment import Experiment, TestSet, ranker_names, without_seed

WRONG = [
    ({"layers": (0, 0)}, "layers=(0, 0): a layer appears twice"),
    ({"layers": ()}, "layers=(): give whole numbers"),
    ({"layers": [0, 1]}, r"layers=[0, 1]: give whole numbers"),
    ({"layers": (0, -1)}, "layers=(0, -1): give whole numbers"),
    ({"layers": (0.0, 1.0)}, "layers=(0.0, 1.0): give whole numbers"),
    ({"docs": 1}, "docs=1: a group holds 2 to 50 documents"),
    ({"docs": 51}, "docs=51: a group holds 2 to 50 documents"),
    ({"docs": 2.5}, "docs=2.5: must be a whole number"),
    ({"teacher": ()}, "teacher=(): give an Experiment"),
    ({"teacher": ("",)}, "teacher=('',): give an Experiment"),
    ({"teacher": 3}, "teacher=3: give an Experiment"),
    ({"seed": -1}, "seed=-1: must be a whole number of at least 0"),
    ({"seed": True}, "seed=True: must be a whole number"),
    ({"batch_size": 0}, "batch_size=0: must be a whole number of at least 1"),
    ({"epochs": 1.0}, "epochs=1.0: must be a whole number"),
    ({"learning_rate": float("nan")}, "learning_rate=nan: must be above 0"),
    ({"learning_rate": float("inf")}, "learning_rate=inf: must be above 0"),
    ({"learning_rate": "1e-4"}, "learning_rate='1e-4': must be above 0"),
    ({"warm_up": 1.0}, "warm_up=1.0: must be at least 0 and below 1"),
    ({"dropout": -0.1}, "dropout=-0.1: must be at least 0 and below 1"),
    ({"embeddings": 1}, "embeddings=1: must be True or False"),
    ({"max_query": 0}, "max_query=0: must be a whole number above 0, or None"),
    ({"max_length": 96.0}, "max_length=96.0: must be a whole number"),
    ({"options": (("dim", 4), ("dim", 8))}, "give pairs of different names"),
    ({"options": {"dim": 4}}, "give pairs of different names"),
    ({"collection": ""}, "collection='': must be a name"),
    ({"start": "run"}, "start='run': must be an Experiment or None"),
    ({"batch_size": 5000}, "batch_size=5000: more than group_count=4000"),
    ({"teacher": "scores.tsv"}, "strategy='info_nce' takes no teacher"),
    ({"strategy": "kl"}, "learns from a teacher's scores"),
]


@pytest.mark.parametrize(("change", "says"), WRONG, ids=lambda value: str(value))
def test_a_wrong_literal_is_refused_by_name(change, says):
    with pytest.raises(ValueError) as raised:
        replace(Experiment("info_nce"), **change)
    assert says in str(raised.value)


@pytest.mark.parametrize("change", [{"queries": 0}, {"queries": -3}, {"depth": 0}, {"depth": -1}, {"depth": None},
                                    {"queries": 2.0}, {"queries": True}, {"split": ""}, {"collection": None}])  # fmt: skip
def test_a_wrong_test_set_is_refused_by_name(change):
    (name,) = change
    with pytest.raises(ValueError, match=f"^{name}="):
        TestSet(**change)


def test_a_start_with_a_prefix_takes_no_further_adapter():
    start = Experiment("info_nce", adapter="prefix", adapter_size=4)
    warm = Experiment("info_nce", start=start)
    assert (start.prefix, warm.prefix, Experiment("info_nce").prefix) == (4, 4, 0)
    assert Experiment("info_nce", start=replace(start, adapter="lora")).prefix == 0
    with pytest.raises(ValueError, match="has a prefix already"):
        replace(warm, adapter="lora")


def test_names_tell_what_runs_of_one_strategy_differ_in(tiny_backbone, tiny_collection):
    base = Experiment("info_nce", layers=(0, 1), backbone=tiny_backbone, collection=tiny_collection, group_count=16)
    seeds = [base, replace(base, seed=1, start=None)]
    assert ranker_names(seeds) == ["info_nce", "info_nce"]
    assert ranker_names([*seeds, replace(base, learning_rate=5e-4), replace(base, strategy="bce")]) == [
        "info_nce [learning_rate=0.0002]", "info_nce [learning_rate=0.0002]", "info_nce [learning_rate=0.0005]", "bce",
    ]  # fmt: skip
    teachers = [replace(base, strategy="kl", teacher=replace(base, seed=seed)) for seed in (0, 1)]
    first, second = ranker_names(teachers)
    assert first != second and first.startswith("kl [teacher=cat info_nce")


def test_without_seed_takes_the_starts_seed_along_and_no_other():
    teacher = Experiment("info_nce", seed=4)
    run = Experiment("kl", teacher=teacher, start=Experiment("info_nce", seed=3), seed=3)
    plain = without_seed(run)
    assert (plain.seed, plain.start.seed, plain.teacher.seed) == (0, 0, 4)
