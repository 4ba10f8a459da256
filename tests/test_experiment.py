"""What an experiment's literals can say wrong is refused when it is made."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from lib import losses
from lib.data.collections import CollectionError
from lib.study.experiment import Experiment, Model, TestSet, Untrained, fields, vary
from lib.study.tables import ranker_names
from lib.training.settings import Adapter, GradCache, Queue
from lib.training.strategies import Strategy, Term
from tests import kit

WRONG = [
    ({"layers": (0, 0)}, "layers=(0, 0): a layer appears twice"),
    ({"layers": ()}, "layers=(): give whole numbers"),
    ({"layers": [0, 1]}, r"layers=[0, 1]: give whole numbers"),
    ({"layers": (0, -1)}, "layers=(0, -1): give whole numbers"),
    ({"layers": (0.0, 1.0)}, "layers=(0.0, 1.0): give whole numbers"),
    ({"docs": 1}, "docs=1: a group holds 2 to 50 documents"),
    ({"docs": 51}, "docs=51: a group holds 2 to 50 documents"),
    ({"docs": 2.5}, "docs=2.5: give a whole number"),
    ({"teacher": ()}, "teacher=(): give an Experiment"),
    ({"teacher": ("",)}, "teacher=('',): give an Experiment"),
    ({"teacher": 3}, "teacher=3: give an Experiment"),
    ({"seed": -1}, "seed=-1: give a whole number of at least 0"),
    ({"seed": 2**70}, "seed=1180591620717411303424: give a whole number of at least 0, below 2**63"),
    ({"max_length": 7}, "max_length=7: give a whole number of at least 8"),
    ({"seed": True}, "seed=True: give a whole number"),
    ({"batch_size": 0}, "batch_size=0: give a whole number of at least 1"),
    ({"epochs": 1.0}, "epochs=1.0: give a whole number"),
    ({"learning_rate": float("nan")}, "learning_rate=nan: give a finite number above 0"),
    ({"learning_rate": float("inf")}, "learning_rate=inf: give a finite number above 0"),
    ({"learning_rate": "1e-4"}, "learning_rate='1e-4': give a finite number above 0"),
    ({"warm_up": 1.0}, "warm_up=1.0: give a finite number of at least 0 and below 1"),
    ({"dropout": -0.1}, "dropout=-0.1: give a finite number of at least 0 and below 1"),
    ({"embeddings": 1}, "embeddings=1: give True or False"),
    ({"max_query": 0}, "max_query=0: give a whole number of at least 1 or None"),
    ({"max_length": 96.0}, "max_length=96.0: give a whole number"),
    ({"options": (("dim", 4), ("dim", 8))}, "give pairs of different names"),
    ({"options": {"dim": 4}}, "give pairs of different names"),
    ({"collection": ""}, "collection='': give a name"),
    ({"start": "run"}, "start='run': give an Experiment or another run that has weights of its own"),
    ({"batch_size": 5000}, "batch_size=5000: more than group_count=4000"),
    ({"teacher": "scores.tsv"}, "strategy='info_nce' takes no teacher"),
    ({"strategy": "kl"}, "learns from a teacher's scores"),
    ({"strategy": "klx"}, "strategy='klx': give one of info_nce"),
    ({"strategy": 3}, "strategy=3: give a Strategy"),
    ({"data": "pydocs"}, "data='pydocs': give a Data"),
    ({"weight_decay": -1}, "weight_decay=-1: give a finite number of at least 0"),
    ({"clip": 0}, "clip=0: give a finite number above 0"),
    ({"adapter": "lora"}, "adapter='lora': give None or one of lib.training.settings"),
    ({"batching": 3}, "batching=3: give None or one of lib.training.settings"),
    ({"learning_rate": np.float64(1e-4)}, "give a number of Python instead of numpy: learning_rate=0.0001"),
    ({"seed": np.int64(3)}, "give a number of Python instead of numpy: seed=3"),
    ({"architecture": "dot", "options": (("pooling", ["cls"]),)}, "give pairs of different names and literals"),
    ({"architecture": "dot", "options": (("scale", np.float64(2)),)}, "give pairs of different names and literals"),
    ({"teacher": ("scores.tsv", None)}, "teacher=('scores.tsv', None): give an Experiment"),
    ({"negatives": "run"}, "negatives='run': give a bi-encoder's run, Mined(run), 'judgements', 'random' or None"),
    ({"negatives": Untrained()}, "no bi-encoder (dot); give Mined(run)"),
    ({"batching": GradCache(2)}, "architecture='cat'; only bi-encoders (dot) have it"),
]


@pytest.mark.parametrize(("change", "says"), WRONG, ids=lambda value: str(value))
def test_a_wrong_literal_is_refused_by_name(change, says):
    with pytest.raises(ValueError) as raised:
        vary(kit.experiment("info_nce"), **change)
    assert says in str(raised.value)


@pytest.mark.parametrize("change", [{"queries": 0}, {"queries": -3}, {"depth": 0}, {"depth": -1}, {"depth": None},
                                    {"queries": 2.0}, {"queries": True}, {"split": ""}, {"collection": None},
                                    {"skip": -1}, {"skip": None}])  # fmt: skip
def test_a_wrong_test_set_is_refused_by_name(change):
    (name,) = change
    with pytest.raises(ValueError, match=f"^{name}="):
        TestSet(**change)


def test_two_test_sets_share_the_queries_of_a_split_out(tiny_collection):
    whole, first = TestSet(tiny_collection, queries=8, depth=10), TestSet(tiny_collection, queries=3, depth=10)
    rest = dataclasses.replace(whole, skip=3)
    (_, every, ranking), (_, some, _), (_, others, of_others) = (one.candidates() for one in (whole, first, rest))
    assert some + others == every and len(others) == 5
    kept = ranking[ranking["query"].isin(others)].reset_index(drop=True)
    pd.testing.assert_frame_equal(of_others.reset_index(drop=True), kept)
    with pytest.raises(CollectionError, match="skip=8 leaves no query of 'test'"):
        dataclasses.replace(whole, skip=8).candidates()


def test_a_start_with_a_prefix_takes_no_further_adapter():
    start = kit.experiment("info_nce", adapter=Adapter("prefix", 4))
    warm = kit.experiment("info_nce", start=start)
    assert (start.prefix, warm.prefix, kit.experiment("info_nce").prefix) == (4, 4, 0)
    assert kit.experiment("info_nce", start=vary(start, adapter=Adapter("lora"))).prefix == 0
    with pytest.raises(ValueError, match="has a prefix already"):
        vary(warm, adapter=Adapter("lora"))


def test_names_tell_what_runs_of_one_strategy_differ_in(tiny_backbone, tiny_collection):
    base = kit.experiment("info_nce", layers=(0, 1), backbone=tiny_backbone, collection=tiny_collection, group_count=16)
    seeds = [base, vary(base, seed=1, start=None)]
    assert ranker_names(seeds) == ["info_nce", "info_nce"]
    started = vary(base, start=vary(base, learning_rate=1e-3))
    with pytest.raises(ValueError, match="seed 1: two runs of this seed differ in the seed of what they start from"):
        ranker_names([started, started.with_seed(1), vary(started, seed=1)])
    assert len(set(ranker_names([started, vary(started, seed=1), vary(started, seed=2)]))) == 1
    assert ranker_names([*seeds, vary(base, learning_rate=5e-4), vary(base, strategy="bce")]) == [
        "info_nce [learning_rate=0.0002]", "info_nce [learning_rate=0.0002]", "info_nce [learning_rate=0.0005]", "bce",
    ]  # fmt: skip
    teachers = [vary(base, strategy="kl", teacher=vary(base, seed=seed)) for seed in (0, 1)]
    first, second = ranker_names(teachers)
    assert first != second and first.startswith("kl [teacher=cat info_nce")


def test_a_seed_is_taken_by_the_start_and_by_no_teacher():
    teacher = kit.experiment("info_nce", seed=4)
    run = Experiment("kl", teacher=teacher, start=kit.experiment("info_nce", seed=3), seed=3)
    plain = run.with_seed(0)
    assert (plain.seed, plain.start.seed, plain.teacher.seed) == (0, 0, 4)


def test_variants_reach_every_part_and_unknown_fields_are_refused():
    run = vary(Experiment("info_nce"), seed=2, docs=8, layers=(0, 1), learning_rate=1e-3)
    assert (run.seed, run.data.docs, run.model.layers, run.training.learning_rate) == (2, 8, (0, 1), 1e-3)
    assert vary(run, data=Experiment("bce").data, group_count=9).data.group_count == 9
    assert {"seed", "docs", "layers", "learning_rate"} <= dict(fields(run)).keys()
    with pytest.raises(TypeError, match="no field layer; it has strategy, teacher, .*layers"):
        vary(run, layer=(0,))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Adapter("bitfit"), "adapter kind='bitfit': give one of lora, prefix"),
        (lambda: Adapter("lora", 0), "size=0: give a whole number of at least 1"),
        (lambda: GradCache(0), "chunk=0: give"),
        (lambda: Queue(-1), "size=-1: give"),
        (lambda: Queue(4, momentum=1.0), "momentum=1.0: give a finite number of at least 0 and below 1"),
    ],
)
def test_a_wrong_part_of_the_training_is_refused_by_name(make, says):
    with pytest.raises(ValueError) as raised:
        make()
    assert says in str(raised.value)


def test_a_wrong_untrained_model_is_refused_by_name():
    for make, says in ((lambda: Untrained("minilm"), "model='minilm': give a Model"),
                       (lambda: Untrained(seed=-1), "seed=-1: give a whole number")):  # fmt: skip
        with pytest.raises(ValueError, match=says):
            make()
    with pytest.raises(ValueError, match="data=None: give a Data"):
        vary(kit.experiment("info_nce"), data=None, group_count=9)
    assert vary(Untrained(), layers=(0,), seed=2) == Untrained(Model(layers=(0,)), 2)
    with pytest.raises(TypeError, match="no field learning_rate"):
        vary(Untrained(), learning_rate=1e-3)


def test_a_queue_takes_whatever_strategy_has_no_teacher():
    dot = kit.experiment("info_nce", architecture="dot", batching=Queue(4))
    assert vary(dot, strategy=Strategy("mine", "of my own", (Term(losses.info_nce, "labels"),)))
    with pytest.raises(ValueError, match="a queue has no teacher's scores"):
        vary(dot, strategy=Strategy("mine", "contrastive", (Term(losses.kl, "teacher"),)), teacher=dot)


def test_what_a_run_starts_from():
    plain = kit.experiment("info_nce", layers=(0, 1), seed=3)
    assert plain.before == Untrained(plain.model, 3)
    assert vary(plain, start=plain).before is plain
