"""Strategies are weighted sums of losses; what is impossible is refused when it is named, and each has one spelling."""

import pytest
import torch

from lib import losses
from lib.machine import store
from lib.study import identity
from lib.training import strategies


def minimised(name):
    """What a run's identity says of a strategy."""
    return store.key(identity.of_strategy(strategies.named(name)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kl(temperature=0)", "temperature=0 is impossible; give a finite number above 0"),
        ("kl(temperature=-1)", "temperature=-1 is impossible"),
        ("kl(temperature=1e999)", "temperature=inf is impossible"),
        ("kl(temperature=1e300)", "the loss of an example is not finite"),
        ("kl(temperature=1e-320)", "the loss of an example is not finite"),
        ("kl(temperature='a')", "temperature='a' has the wrong type; give a number"),
        ("kl(temperature=True)", "temperature=True has the wrong type"),
        ("kl(temperature=None)", "temperature=None has the wrong type"),
        ("kl(temperature=[1])", r"temperature=\[1\] has the wrong type"),
        ("kl(temperature=nan)", "write it as name"),
        ("kl(target_temperature=0)", "target_temperature=0 is impossible"),
        ("info_nce+kl(temperature=0)", "temperature=0 is impossible"),
        ("hinge(margin='1')", "margin='1' has the wrong type"),
        ("lambda_loss(cutoff=0)", "cutoff=0 is impossible; give a whole number of at least 1"),
        ("lambda_loss(cutoff=2.5)", "cutoff=2.5 has the wrong type; give a whole number or None"),
        ("lambda_loss(scheme='x')", "scheme='x'"),
        ("weighted_ranknet(bounded=1)", "bounded=1 has the wrong type; give True or False"),
        ("adaptive_margin(scale='nope')", "scale='nope': give one of unit, clamp, raw"),
        ("adaptive_margin(error='l3')", "error='l3': give one of l2, l1, soft"),
        ("adaptive_margin(reading='column')", "reading='column': give one of row, literal"),
        ("adaptive_margin(threshold='x')", "threshold='x' has the wrong type; give a number or None"),
        ("adaptive_margin(threshold=2)", "threshold=2 is impossible; give a cosine, -1 to 1"),
        ("kl(temperature=1, temperature=2)", "each parameter once"),
        ("kl(**{'temperature': 2})", "write it as name"),
        ("kl(temperature=2)(temperature=3)", "write it as name"),
        ("kl(temperature=2", "write it as name"),
        (None, "strategy=None: give one of info_nce"),
    ],
)
def test_what_is_impossible_is_refused_when_it_is_named(name, message):
    with pytest.raises(ValueError, match=message):
        strategies.named(name)


@pytest.mark.parametrize(
    ("spellings", "one"),
    [
        (("kl(temperature=2)", "kl( temperature = 2.0 )", " kl (temperature=2e0,)"), "kl(temperature=2.0)"),
        (("kl", "kl()", "kl(temperature=1)", "kl(target_temperature=None)"), "kl"),
        (
            ("adaptive_margin(error='l1', scale='clamp')", 'adaptive_margin(scale="clamp",error="l1",detach=False)'),
            "adaptive_margin(error='l1', scale='clamp')",
        ),
        (("info_nce+kl(temperature=2)",), "info_nce+kl(temperature=2.0)"),
        (("adaptive_margin(in_batch=True)", "adaptive_margin_in_batch(reading='row')"), "adaptive_margin_in_batch"),
        (("triplet", "hinge(margin=0.3)", "triplet(margin=.30)"), "triplet"),
        (("hinge(margin=1)", "triplet(margin=1)"), "hinge"),
        (("in_batch(temperature=0.05)",), "in_batch"),
    ],
)
def test_one_strategy_has_one_spelling(spellings, one):
    assert {minimised(name) for name in spellings} == {minimised(one)}


def test_other_strategies_have_other_spellings():
    names = [
        *strategies.STRATEGIES, "kl(temperature=2)", "kl(temperature=3)", "kl(target_temperature=2)", "gist(margin=0.1)",
        "adaptive_margin(threshold=0.9)", "adaptive_margin(detach=True)", "distributed_margin(detach=True)",
    ]  # fmt: skip
    assert len({minimised(name) for name in names}) == len(names)


def test_a_spelling_minimises_what_it_says():
    scores, targets = torch.tensor([[1.0, 0.5, -1.0]]), torch.tensor([[2.0, 0.0, 1.0]])
    for name, other in (("kl(temperature=2)", "kl( temperature=2.0 )"), ("hinge(margin=0.3)", "triplet")):
        given, same = strategies.named(name), strategies.named(other)
        sources = dict.fromkeys(("labels", "teacher"), targets)
        torch.testing.assert_close(given.loss(scores, sources), same.loss(scores, sources))
    torch.testing.assert_close(
        strategies.named("kl(temperature=2)").loss(scores, {"teacher": targets}),
        losses.kl(scores, targets, temperature=2),
    )


SCORES = torch.tensor([[1.0, 0.5, -1.0], [0.0, 2.0, 1.0]])
SOURCES = {
    "labels": torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]), "teacher": torch.tensor([[2.0, 0.0, 1.0], [3.0, -1.0, 0.5]]),
}  # fmt: skip


def test_the_loss_is_the_weighted_sum_of_its_terms_each_against_its_own_targets():
    labels, teacher = SOURCES.values()
    both = {
        "info_nce+kl": 0.5 * losses.info_nce(SCORES, labels) + 0.5 * losses.kl(SCORES, teacher),
        "info_nce+kl(temperature=2)": (losses.info_nce(SCORES, labels, temperature=2.0)
                                       + losses.kl(SCORES, teacher, temperature=2.0)) / 2,
        "mse+ranknet": losses.mse(SCORES, teacher) + losses.ranknet(SCORES, labels),
        "teacher_ranknet": losses.ranknet(SCORES, teacher),
    }  # fmt: skip
    for name, expected in both.items():
        value = strategies.named(name).loss(SCORES, SOURCES)
        assert value.shape == (2,)
        torch.testing.assert_close(value, expected)


def test_the_gradient_is_the_weighted_sum_too():
    summed = SCORES.clone().requires_grad_()
    strategies.named("info_nce+kl").loss(summed, SOURCES).sum().backward()
    parts = [SCORES.clone().requires_grad_() for _ in range(2)]
    losses.info_nce(parts[0], SOURCES["labels"]).sum().backward()
    losses.kl(parts[1], SOURCES["teacher"]).sum().backward()
    torch.testing.assert_close(summed.grad, 0.5 * parts[0].grad + 0.5 * parts[1].grad)


@pytest.mark.parametrize("name", [*strategies.CONTRASTIVE, *strategies.DISTILLATION])
def test_a_strategy_named_after_a_loss_is_that_loss_against_one_source(name):
    strategy = strategies.named(name)
    (source,) = {term.source for term in strategy.terms}
    assert source == ("teacher" if name in strategies.DISTILLATION else "labels")
    assert strategy.needs_teacher == (source == "teacher") == (strategy.paradigm == "distillation")
    targets = SOURCES[source].sigmoid() if name == "bce" else SOURCES[source]
    torch.testing.assert_close(strategy.loss(SCORES, {source: targets}), getattr(losses, name)(SCORES, targets))


def test_only_distillation_needs_a_teacher():
    needs = {name for name, one in strategies.STRATEGIES.items() if one.needs_teacher}
    assert needs == {name for name, one in strategies.STRATEGIES.items() if one.paradigm == "distillation"}
