"""Every profile's grids: what they hold differs where it should, and every name means something."""

from dataclasses import asdict

import pytest

from lib.study import profiles
from lib.training import strategies


@pytest.fixture(params=sorted(profiles.PROFILES))
def settings(request):
    return profiles.named(request.param)


def differing(one, other):
    return {name for name, value in asdict(one).items() if value != asdict(other)[name]}


def test_seeds_differ_in_the_seed_and_in_the_starts(settings):
    for base in settings.architectures:
        first, second, *_ = settings.with_seeds(base)
        assert differing(first, second) <= {"seed", "start"} and first.seed != second.seed
        assert base.start is None or second.start.seed == second.seed


def test_every_architecture_is_taught_the_same(settings):
    for base in settings.architectures:
        taught = settings.taught(base)
        assert {len(runs) for runs in taught.values()} == {1, len(settings.seeds)}
        for runs in taught.values():
            assert all(differing(run, base) <= {"strategy", "teacher", "seed", "start"} for run in runs)
        assert len(taught["margin_mse, ensemble"][0].teachers) >= 3


def test_an_ablation_changes_one_thing(settings):
    for answers in settings.ablations().values():
        runs = list(answers.values())
        assert len(set(runs)) == len(runs) > 1
        changed = set().union(*(differing(run, runs[0]) for run in runs))
        assert len(changed) == 1
        names = {strategies.base_name(run.strategy) for run in runs}
        assert names <= {"fixed_margin", "adaptive_margin", "distributed_margin", "adaptive_margin_in_batch"}


def test_the_grid_of_margins_says_its_margins(settings):
    for value, run in settings.ablations()["margin of the fixed loss"].items():
        assert strategies.named(run.strategy).columns.keywords["margin"] == float(value)


def test_hard_negatives_are_found_by_the_run_that_they_are_compared_with(settings):
    assert settings.mined().negatives == settings.self_distilled()["in_batch"]
    assert differing(settings.mined(), settings.self_distilled()["in_batch"]) == {"negatives"}
