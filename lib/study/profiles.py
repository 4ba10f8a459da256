"""Profiles: what is trained and evaluated at each scale. A notebook defines its own grid.

smoke        a step or two of everything: does it run?
laptop       two cores, no accelerator, no network, real text: the default, whose figures the README shows
workstation  one accelerator: all training groups, longer lists, five seeds, every test query
"""

from collections.abc import Callable
from dataclasses import dataclass

from lib.data import pydocs
from lib.study.experiment import Data, Experiment, Model, TestSet, vary, with_seed
from lib.training import strategies
from lib.training.settings import Training


@dataclass(frozen=True)
class Profile:
    """The experiments and test sets of one scale."""

    name: str
    teacher: Experiment  # contrastive
    start: Experiment  # what every student starts from: the small model, taught to match words on cropped queries
    student: Experiment  # its strategy, teacher and seed vary
    strategies: tuple[str, ...]  # how students are trained
    seeds: tuple[int, ...]  # of the strategies in `repeated`; the others run with the first
    repeated: tuple[str, ...]
    plateau_groups: int  # how long the runs are that show the plateau
    tests: tuple[TestSet, ...]  # the first is in-domain
    dev: TestSet  # for choices: no test judgement decides anything
    architectures: tuple[Experiment, ...]  # one per architecture, trained from labels
    assistants: tuple[Experiment, ...]  # further teachers: with `teacher` they are the ensemble
    architecture_test: TestSet
    margins: Experiment  # the bi-encoder of the self-distillation notebook, trained from labels
    margin_groups: tuple[int, ...]  # numbers of groups, for the curve over data
    retrieval: TestSet  # whose whole collection is searched

    def students(self) -> list[Experiment]:
        """The grid of students: same start, same groups, another strategy."""
        return [
            self.variant(strategy, seed)
            for strategy in self.strategies
            for seed in (self.seeds if strategy in self.repeated else self.seeds[:1])
        ]

    def variant(self, strategy: str, seed: int = 0) -> Experiment:
        """The student of one strategy and seed; the students of one seed share their start."""
        teacher = self.teacher if strategies.named(strategy).needs_teacher else None
        return with_seed(vary(self.student, strategy=strategy, teacher=teacher, start=self.start), seed)

    def with_seeds(self, run: Experiment) -> list[Experiment]:
        """A run with every seed."""
        return [with_seed(run, seed) for seed in self.seeds]


def _tests(in_domain: int, out_of_domain: int, depth: int) -> tuple[TestSet, ...]:
    others = [TestSet(name, queries=out_of_domain, depth=depth) for name in pydocs.OUT_OF_DOMAIN]
    return (TestSet(pydocs.IN_DOMAIN, queries=in_domain, depth=depth), *others)


def _start(student: Experiment, group_count: int) -> Experiment:
    collection = f"cropped:{student.data.collection}"
    return vary(student, strategy="info_nce", collection=collection, group_count=group_count)


def _labels(**changes: object) -> Experiment:
    """A run from labels; changes as in `vary`."""
    return vary(Experiment("info_nce"), **changes)


def _architectures(group_count: int, start: Experiment) -> tuple[Experiment, ...]:
    """Five architectures on the same groups.

    Layers 0, 3, 5 serve a bi-encoder best (dev queries, untrained: RR@10 .493, all six .490, layers 0 to 2 .344): the
    last one makes the sentence vector. A cross-encoder leaves its plateau soonest with 0, 1, 2 (notebook 04), and
    PreTTR, a cross-encoder in its upper layers, has the same plateau and the same way out. The rates of
    ColBERT and the bi-encoder are, of 3e-5, 1e-4 and 3e-4, the best on dev queries (mean of labels and Margin-MSE).
    """
    base = _labels(group_count=group_count, docs=3, learning_rate=3e-4)
    prettr = {"architecture": "prettr", "options": (("split", 1),)}
    return (
        vary(base, layers=(0, 1, 2), start=start),
        vary(base, layers=(0, 1, 2), start=vary(start, **prettr), **prettr),
        vary(base, architecture="colbert", layers=(0, 3, 5), learning_rate=3e-5),
        vary(base, architecture="dot", layers=(0, 3, 5), learning_rate=3e-5),
        vary(base, architecture="tk", options=(("depth", 1),), learning_rate=1e-3),
    )


def _assistants(group_count: int) -> tuple[Experiment, ...]:
    """Two more teachers of six layers; both were pre-trained to compare texts, so few groups are enough for them."""
    base = _labels(group_count=group_count, docs=3, learning_rate=3e-5)
    return (vary(base, architecture="dot"), vary(base, architecture="colbert"))


def _margins(group_count: int, batch_size: int = 16) -> Experiment:
    return Experiment(
        "triplet", data=Data(group_count=group_count, docs=2),
        model=Model("dot", options=(("similarity", "cosine"),), layers=(0, 3, 5)),
        training=Training(batch_size, learning_rate=1e-4),
    )  # fmt: skip


def smoke() -> Profile:
    """A step or two of everything, on the real text."""
    student = _labels(layers=(0, 1), group_count=8, docs=3, batch_size=4)
    return Profile(
        "smoke", teacher=vary(student, layers=(0, 1, 2), learning_rate=1e-4), start=_start(student, 8),
        student=student, strategies=("info_nce", "bce", "ranknet", "kl", "margin_mse", "mse"), seeds=(0, 1),
        repeated=("info_nce", "kl"), plateau_groups=12, tests=_tests(8, 4, 6),
        dev=TestSet(split="dev", queries=8, depth=6),
        architectures=_architectures(8, _start(vary(student, layers=(0, 1, 2)), 8)), assistants=_assistants(8),
        architecture_test=TestSet(queries=8, depth=6), margins=_margins(12, batch_size=2), margin_groups=(8, 12),
        retrieval=TestSet("networkx", queries=8, depth=20),
    )  # fmt: skip


def laptop() -> Profile:
    """Two cores, no accelerator, no network: under half an hour for everything."""
    # At equal cost, 2,700 groups of 3 gave better students on dev queries than 2,000 groups of 4. On 400 dev queries
    # 2,000 groups instead of 2,800 cost InfoNCE .01 to .03 RR@10 and Margin-MSE nothing, and pairs of 80 tokens instead
    # of 96 cost the teacher .013.
    student = _labels(layers=(0, 1, 2), group_count=2800, docs=3, learning_rate=3e-4)
    teacher = vary(student, layers=None, group_count=3200, learning_rate=1e-4)
    start = _start(student, 700)
    return Profile(
        "laptop", teacher=teacher, start=start, student=student,
        strategies=("info_nce", "bce", "ranknet", "kl", "margin_mse", "mse"), seeds=(0, 1),
        repeated=("info_nce", "margin_mse"), plateau_groups=400, tests=_tests(300, 60, 20),
        dev=TestSet(split="dev", queries=100, depth=20), architectures=_architectures(320, start),
        assistants=_assistants(320), architecture_test=TestSet(queries=100, depth=20), margins=_margins(384),
        margin_groups=(48, 96, 192, 384), retrieval=TestSet(queries=150, depth=20),
    )  # fmt: skip


def workstation() -> Profile:
    """One accelerator: all training groups, longer lists, five seeds, every test query."""
    student = _labels(layers=(0, 1, 2), group_count=8000, docs=8, learning_rate=3e-4)
    return Profile(
        "workstation", teacher=vary(student, layers=None, learning_rate=1e-4, epochs=3),
        start=_start(student, 2000), student=student,
        strategies=("info_nce", "bce", "ranknet", "lambda_loss", "kl", "margin_mse", "mse", "info_nce+kl"),
        seeds=(0, 1, 2, 3, 4), repeated=("info_nce", "kl", "margin_mse"), plateau_groups=1000,
        tests=_tests(1500, 800, 50), dev=TestSet(split="dev", queries=500, depth=50),
        architectures=_architectures(8000, _start(student, 2000)), assistants=_assistants(8000),
        architecture_test=TestSet(queries=1500, depth=50), margins=_margins(8000),
        margin_groups=(500, 1000, 2000, 4000, 8000), retrieval=TestSet(queries=1500, depth=50),
    )  # fmt: skip


PROFILES: dict[str, Callable[[], Profile]] = {"smoke": smoke, "laptop": laptop, "workstation": workstation}


def named(name: str) -> Profile:
    """The profile of a name; notebooks call it on their parameter.

    Raises:
        TypeError: `name` is no text.
        ValueError: no profile has that name.
    """
    parameter("profile", name, str, among=tuple(PROFILES))
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
