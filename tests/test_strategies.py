"""Strategies as values: named ones with other parameters, what is impossible is refused, weighted sums of losses."""

import functools
from typing import Literal

import pytest
import torch

from lib import losses
from lib.losses import margins
from lib.machine import store
from lib.study import identity
from lib.training import strategies
from lib.training.strategies import Strategy, Term, bind


def minimised(strategy):
    """What a run's identity says of a strategy."""
    return store.key(identity.of_strategy(strategy))


NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("kl", {"temperature": 0}, "temperature=0 is impossible; give a finite number above 0"),
        ("kl", {"temperature": -1}, "temperature=-1 is impossible"),
        ("kl", {"temperature": float("inf")}, "temperature=inf is impossible"),
        ("kl", {"temperature": NAN}, "temperature=nan is impossible"),
        ("kl", {"temperature": 1e300}, "must be one finite value per query"),
        ("kl", {"temperature": 1e-320}, "must be one finite value per query"),
        ("kl", {"temperature": "a"}, "temperature='a' has the wrong type; give float"),
        ("kl", {"temperature": True}, "temperature=True has the wrong type"),
        ("kl", {"temperature": None}, "temperature=None has the wrong type"),
        ("kl", {"temperature": [1]}, r"temperature=\[1\] has the wrong type"),
        ("kl", {"target_temperature": 0}, "target_temperature=0 is impossible"),
        ("kl", {"margin": 2}, "strategy kl: no parameter 'margin'; it has target_temperature, temperature"),
        ("bce", {"x": 1}, "strategy bce: no parameter 'x'; it has none"),
        ("klx", {}, "strategy='klx': give one of info_nce"),
        (None, {}, "strategy=None: give one of info_nce"),
        ("info_nce+kl", {"temperature": 0}, "temperature=0 is impossible"),
        ("hinge", {"margin": "1"}, "margin='1' has the wrong type"),
        ("lambda_loss", {"cutoff": 0}, "cutoff=0 is impossible; give a whole number of at least 1"),
        ("lambda_loss", {"cutoff": 2.5}, "cutoff=2.5 has the wrong type; give int or NoneType"),
        ("lambda_loss", {"scheme": "x"}, "scheme='x'"),
        ("dpo", {"beta": 0}, "beta=0 is impossible; give a finite number above 0"),
        ("orpo", {"odds_weight": -1}, "odds_weight=-1 is impossible; give a finite number of at least 0"),
        ("weighted_ranknet", {"bounded": True}, "strategy weighted_ranknet: no parameter 'bounded'; it has none"),
        ("adaptive_margin", {"scale": "nope"}, "scale='nope': give one of unit, clamp, raw"),
        ("adaptive_margin", {"error": "l3"}, "error='l3': give one of l2, l1, soft"),
        ("adaptive_margin", {"reading": "column"}, "reading='column': give one of row, literal"),
        ("adaptive_margin", {"threshold": "x"}, "threshold='x' has the wrong type; give float or NoneType"),
        ("adaptive_margin", {"threshold": 2}, "threshold=2 is impossible; give a cosine, -1 to 1"),
    ],
)
def test_impossible_values_are_refused(name, values, message):
    with pytest.raises(ValueError, match=message):
        strategies.named(name, **values)


def named(name, **values):
    return strategies.named(name, **values)


@pytest.mark.parametrize(
    "equal",
    [
        [named("kl", temperature=2), named("kl", temperature=2.0)],
        [named("kl"), named("kl", temperature=1), named("kl", target_temperature=None)],
        [named("adaptive_margin", error="l1", scale="clamp"),
         named("adaptive_margin", scale="clamp", error="l1", detach=False)],
        [named("adaptive_margin", in_batch=True), named("adaptive_margin_in_batch", reading="row")],
        [named("triplet"), named("hinge", margin=0.3)],
        [named("hinge"), named("triplet", margin=1)],
        [named("in_batch"), named("in_batch", temperature=0.05)],
        [named("kl"), Strategy("mine", "distillation", (Term(losses.kl, "teacher"),), style=("red", "o", "-"))],
    ],
)  # fmt: skip
def test_equal_strategies_have_one_identity(equal):
    assert len({minimised(strategy) for strategy in equal}) == 1


def test_other_strategies_have_other_identities():
    variants = [
        named("kl", temperature=2), named("kl", temperature=3), named("kl", target_temperature=2),
        named("gist", margin=0.1), named("dpo", beta=0.1), named("orpo", odds_weight=1.0), named("adaptive_margin", threshold=0.9), named("adaptive_margin", detach=True),
        named("distributed_margin", detach=True),
    ]  # fmt: skip
    everything = [*strategies.STRATEGIES.values(), *variants]
    assert len({minimised(strategy) for strategy in everything}) == len(everything)


def test_bound_functions_compare_by_value():
    assert bind(losses.kl, temperature=2.0) == bind(losses.kl, temperature=2.0) != bind(losses.kl, temperature=3.0)
    assert hash(bind(losses.kl, temperature=2.0)) == hash(bind(losses.kl, temperature=2.0))
    assert strategies.parameters(bind(losses.kl, temperature=2.0))["temperature"] == 2.0
    assert bind(bind(losses.kl, temperature=2.0), target_temperature=1.0).values == (
        ("target_temperature", 1.0), ("temperature", 2.0),
    )  # fmt: skip


def test_a_strategy_is_the_weighted_sum_of_its_terms():
    scores, labels, teacher = torch.tensor([[1.0, 0.5, -1.0]]), torch.tensor([[1.0, 0, 0]]), torch.tensor([[2.0, 0, 1]])
    both = Strategy("both", "distillation", (Term(losses.info_nce, "labels", 0.3), Term(losses.kl, "teacher", 2.0)))
    expected = 0.3 * losses.info_nce(scores, labels) + 2 * losses.kl(scores, teacher)
    torch.testing.assert_close(both.loss(scores, {"labels": labels, "teacher": teacher}), expected)
    assert both.needs_teacher and not named("info_nce").needs_teacher


SCORES = torch.tensor([[1.0, 0.5, -1.0], [0.0, 2.0, 1.0]])
SOURCES = {
    "labels": torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]), "teacher": torch.tensor([[2.0, 0.0, 1.0], [3.0, -1.0, 0.5]]),
}  # fmt: skip


def test_named_sums_are_the_weighted_sums_of_their_losses():
    labels, teacher = SOURCES.values()
    both = {
        named("info_nce+kl"): 0.5 * losses.info_nce(SCORES, labels) + 0.5 * losses.kl(SCORES, teacher),
        named("info_nce+kl", temperature=2): (losses.info_nce(SCORES, labels, temperature=2.0)
                                              + losses.kl(SCORES, teacher, temperature=2.0)) / 2,
        named("mse+ranknet"): losses.mse(SCORES, teacher) + losses.ranknet(SCORES, labels),
        named("teacher_ranknet"): losses.ranknet(SCORES, teacher),
    }  # fmt: skip
    for strategy, expected in both.items():
        torch.testing.assert_close(strategy.loss(SCORES, SOURCES), expected)


@pytest.mark.parametrize("name", [*strategies.CONTRASTIVE, *strategies.DISTILLATION])
def test_a_strategy_named_after_a_loss_is_that_loss_against_one_source(name):
    strategy = strategies.named(name)
    (source,) = {term.source for term in strategy.terms}
    assert source == ("teacher" if name in strategies.DISTILLATION else "labels")
    assert strategy.needs_teacher == (source == "teacher") == (strategy.paradigm == "distillation")
    targets = SOURCES[source].sigmoid() if name == "bce" else SOURCES[source]
    torch.testing.assert_close(strategy.loss(SCORES, {source: targets}), getattr(losses, name)(SCORES, targets))


def test_only_distillation_and_a_reference_need_a_teacher():
    needs = {name for name, one in strategies.STRATEGIES.items() if one.needs_teacher}
    distilled = {name for name, one in strategies.STRATEGIES.items() if one.paradigm == "distillation"}
    assert needs == distilled | {"dpo", "relabelled"} and strategies.PREFERENCE == ("dpo", "orpo")


def test_preferences_are_their_loss_against_a_reference_or_labels():
    torch.testing.assert_close(named("dpo").loss(SCORES, SOURCES), losses.dpo(SCORES, SOURCES["teacher"]))
    torch.testing.assert_close(named("orpo").loss(SCORES, SOURCES), losses.orpo(SCORES, SOURCES["labels"]))


def test_every_strategy_has_a_style_of_its_own():
    styles = [strategy.style for strategy in strategies.STRATEGIES.values()]
    assert len(set(styles)) == len(styles) and len({colour for colour, _, _ in styles}) == len(styles)


def hinge(scores, targets, *, margin: float = 1.0):
    return torch.relu(margin - scores[:, :1] + scores[:, 1:]).mean(1)


def positional(scores, targets, margin=1.0):
    return hinge(scores, targets, margin=margin)


def own(loss, source="labels", **fields):
    return Strategy("own", "contrastive", (Term(loss, source),), **fields)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: own(functools.partial(hinge, margin=2.0)), r"is a partial: give a function.*bind\(function"),
        (lambda: own(torch.nn.MSELoss(reduction="none")), "MSELoss.*give a function"),
        (lambda: own("kl"), "'kl' is a str: give a function"),
        (lambda: own(hinge, columns="rows"), "strategy='own': 'rows' is a str: give a function"),
        (lambda: bind(functools.partial(hinge), margin=2.0), "is a partial: give a function"),
        (lambda: own(hinge, "lables"), "source='lables': give one of labels, teacher, teacher_states, own"),
        (lambda: own(hinge, "own"), "the targets 'own' come from columns"),
        (lambda: own(losses.kl, "teacher", columns=margins.contrast), "a 'teacher' would not be read"),
        (
            lambda: own(losses.ranknet, columns=margins.contrast),
            "relevant document in the other's group .*score is -inf",
        ),
        (
            lambda: own(losses.list_net, columns=margins.contrast),
            "relevant document in the other's group .*score is -inf",
        ),
        (lambda: named("ssd", temperature=10), "strategy ssd: 'temperature' means 1.0 and 5.0 in its parts"),
        (
            lambda: named("wcord", temperature=0.1),
            "strategy wcord: 'temperature' means .* in its parts; make a Strategy",
        ),
        (lambda: Strategy("own", "contrastive", ()), r"terms=\(\): give a tuple of Terms"),
        (lambda: Strategy("own", "contrastive", [Term(hinge, "labels")]), "give a tuple of Terms"),
        (lambda: Strategy("own", "contrastive", (hinge,)), "give a tuple of Terms"),
        (lambda: Strategy("", "contrastive", (Term(hinge, "labels"),)), "name='': give a name"),
        (lambda: Term(hinge, "labels", NAN), "weight=nan: give a finite number"),
        (lambda: Term(hinge, "labels", torch.tensor(0.5)), "weight=tensor.*: give a finite number"),
        (lambda: own(lambda scores: scores.mean(1)), "strategy='own': TypeError on an example.*scores and targets"),
        (lambda: own(lambda scores, targets: (scores @ targets).mean(1)), "RuntimeError on an example of two queries"),
        (lambda: own(lambda scores, targets: scores.mean(1, keepdim=True)), "one finite value per query"),
        (lambda: own(lambda scores, targets: (scores > targets).sum(1)), "no gradient reaches the scores"),
        (lambda: own(lambda scores, targets: scores.detach().mean(1)), "no gradient reaches the scores"),
        (lambda: own(lambda scores, targets: targets.mean(1)), "no gradient reaches the scores"),
        (lambda: own(lambda scores, targets: scores.sub_(targets).square().mean(1)), "in place: change a copy"),
        (lambda: own(lambda scores, targets: (scores - targets.neg_()).mean(1)), "in place: change a copy"),
        (lambda: bind(positional, margin=2.0), "keyword-only parameter 'margin'; it has none; write it after a *"),
        (lambda: bind(lambda scores, targets, *, k=None: hinge(scores, targets), k=[1]), r"k=\[1\] has the wrong type"),
    ],
)
def test_what_is_no_strategy_is_refused_when_it_is_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_scalar_does_not_hide_among_other_terms():
    scalar = Term(lambda scores, targets: (scores - targets).mean(), "labels")
    with pytest.raises(ValueError, match="one finite value per query"):
        Strategy("own", "contrastive", (Term(hinge, "labels"), scalar))


def test_a_strategy_may_be_made_where_no_gradients_are_kept():
    with torch.inference_mode():
        assert own(bind(hinge, margin=3.0)).name == "own"


def test_annotations_of_any_kind_may_be_bound():
    def loss(scores, targets, *, text: "float" = 1.0, mode: Literal["a", "b"] = "a", parts: tuple[float, ...] = ()):
        return hinge(scores, targets)

    assert own(bind(loss, text=2.0, mode="b", parts=(1.0,))).terms[0].loss.values[0] == ("mode", "b")
