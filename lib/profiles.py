"""Profiles: functions that return a grid of experiments. Every notebook takes one by name.

smoke        every notebook in about two minutes: does everything run?
laptop       two cores, no accelerator, no network, real text: the default, whose figures the README shows
workstation  one GPU: the whole of PyDocs, deeper teacher from the hub, more seeds
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from lib import pydocs, strategies
from lib.study import Experiment, TestSet


@dataclass(frozen=True)
class Profile:
    """The experiments and test sets of one scale."""

    name: str
    teacher: Experiment  # contrastive
    student: Experiment  # a smaller one; its strategy, teacher and seed vary
    strategies: tuple[str, ...]  # how students are trained
    seeds: tuple[int, ...]  # of the strategies in `repeated`; the others run with the first
    repeated: tuple[str, ...]
    plateau: dict[str, Experiment]  # what is changed -> run: the plateau and the ways out
    tests: tuple[TestSet, ...]  # the first is in-domain
    dev: TestSet  # for choices: no test judgement decides anything

    def students(self) -> list[Experiment]:
        """The grid of students: same start, same groups, another strategy."""
        return [
            self.variant(strategy, seed)
            for strategy in self.strategies
            for seed in (self.seeds if strategy in self.repeated else self.seeds[:1])
        ]

    def variant(self, strategy: str, seed: int = 0) -> Experiment:
        """The student of one strategy and seed."""
        teacher = self.teacher if strategies.named(strategy).needs_teacher else None
        return replace(self.student, strategy=strategy, seed=seed, teacher=teacher)


def _tests(in_domain: int, out_of_domain: int, depth: int) -> tuple[TestSet, ...]:
    others = [TestSet(name, queries=out_of_domain, depth=depth) for name in pydocs.OUT_OF_DOMAIN]
    return (TestSet(pydocs.IN_DOMAIN, queries=in_domain, depth=depth), *others)


def _plateau(student: Experiment) -> dict[str, Experiment]:
    """The student as it is, and with one thing changed at a time."""
    return {
        "as used": student,
        "dropout 0.1": replace(student, dropout=0.1),
        "layers 1, 3, 5": replace(student, layers=(1, 3, 5)),
    }


def smoke() -> Profile:
    """A few steps of everything, on the real text."""
    student = Experiment("info_nce", layers=(0, 1), group_count=64)
    return Profile(
        "smoke", teacher=replace(student, layers=(0, 1, 2), learning_rate=1e-4), student=student,
        strategies=("info_nce", "bce", "ranknet", "kl", "margin_mse", "mse"), seeds=(0, 1), repeated=("info_nce", "kl"),
        plateau=_plateau(student), tests=_tests(16, 12, 10), dev=TestSet(split="dev", queries=16, depth=10),
    )  # fmt: skip


def laptop() -> Profile:
    """Two cores, no accelerator, no network: about a quarter of an hour for everything."""
    teacher = Experiment("info_nce", group_count=4000, docs=3, learning_rate=1e-4)
    # Layers 0 to 2, no dropout and 3e-4 left the plateau within 60 steps with each of three seeds (notebook 04).
    student = Experiment("info_nce", layers=(0, 1, 2), group_count=3000, docs=3, learning_rate=3e-4)
    return Profile(
        "laptop", teacher=teacher, student=student,
        strategies=("info_nce", "bce", "ranknet", "kl", "margin_mse", "mse"),
        seeds=(0, 1), repeated=("info_nce", "margin_mse"),
        plateau=_plateau(replace(student, group_count=1000)),
        tests=_tests(300, 60, 20), dev=TestSet(split="dev", queries=200, depth=20),
    )  # fmt: skip


def workstation() -> Profile:
    """One accelerator: all training groups, a deeper teacher and longer lists, five seeds, every test query."""
    teacher = Experiment("info_nce", learning_rate=1e-4, group_count=8000, docs=8, epochs=3)
    student = Experiment("info_nce", layers=(0, 1, 2), group_count=8000, docs=8, learning_rate=3e-4)
    return Profile(
        "workstation", teacher=teacher, student=student,
        strategies=("info_nce", "bce", "ranknet", "lambda_loss", "kl", "margin_mse", "mse", "info_nce+kl"),
        seeds=(0, 1, 2, 3, 4), repeated=("info_nce", "kl", "margin_mse"),
        plateau=_plateau(replace(student, docs=4, group_count=1000)),
        tests=_tests(1500, 800, 50), dev=TestSet(split="dev", queries=500, depth=50),
    )  # fmt: skip


PROFILES: dict[str, Callable[[], Profile]] = {"smoke": smoke, "laptop": laptop, "workstation": workstation}


def named(name: str) -> Profile:
    """The profile of a name; notebooks call it on their parameter.

    Raises:
        TypeError: `name` is no text.
        ValueError: no profile has that name.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"parameter 'profile': {name!r} is {type(name).__name__}, not text; give one of {', '.join(PROFILES)}"
        )
    if name not in PROFILES:
        raise ValueError(f"parameter 'profile': {name!r} is unknown; give one of {', '.join(PROFILES)}")
    return PROFILES[name]()


def parameter(name: str, value: object, kind: type, *, among: tuple | None = None) -> object:
    """Check another parameter of a notebook and return it.

    Raises:
        TypeError: it is not of type `kind`.
        ValueError: it is not one of `among`.
    """
    if type(value) is not kind:
        raise TypeError(f"parameter {name!r}: {value!r} is {type(value).__name__}, not {kind.__name__}")
    if among is not None and value not in among:
        raise ValueError(f"parameter {name!r}: {value!r} is unknown; give one of {', '.join(map(str, among))}")
    return value
