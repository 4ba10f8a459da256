"""Profiles: functions that return a grid of experiments. Every notebook takes one by name.

smoke        every notebook in about six minutes: does everything run?
laptop       two cores, no accelerator, no network, real text: the default, whose figures the README shows
workstation  one accelerator: all training groups, longer lists, five seeds, every test query
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from lib.data import pydocs
from lib.study.experiment import Experiment, TestSet
from lib.training import strategies


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
    architectures: tuple[Experiment, ...]  # one an architecture, trained from labels
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
        return seeded(replace(self.student, strategy=strategy, teacher=teacher, start=self.start), seed)

    @property
    def ensemble(self) -> tuple[Experiment, ...]:
        """Teachers that differ in architecture; their mean score teaches."""
        return (self.teacher, *self.assistants)

    def taught(self, base: Experiment) -> dict[str, list[Experiment]]:
        """One architecture under every teaching: labels and Margin-MSE with every seed, the others with the first."""
        distilled = replace(base, strategy="margin_mse", teacher=self.teacher)
        return {
            "labels": self.with_seeds(base),
            "mse": [replace(distilled, strategy="mse")],
            "weighted_ranknet": [replace(distilled, strategy="weighted_ranknet")],
            "margin_mse": self.with_seeds(distilled),
            "margin_mse, ensemble": [replace(distilled, teacher=self.ensemble)],
        }

    def with_seeds(self, run: Experiment) -> list[Experiment]:
        """A run with every seed."""
        return [seeded(run, seed) for seed in self.seeds]

    def self_distilled(self) -> dict[str, Experiment]:
        """The bi-encoder with every margin loss, and what these are compared with.

        A teacher's margins are beyond a cosine, whose margin ends at 2, so where a teacher teaches, and for InfoNCE
        without the whole batch, cosines are scaled.
        """
        names = ("triplet", "in_batch", "fixed_margin", "adaptive_margin", "distributed_margin",
                 "fixed_margin_in_batch", "adaptive_margin_in_batch")  # fmt: skip
        scaled = replace(self.margins, options=(*self.margins.options, ("scale", 1 / strategies.TEMPERATURE)))
        batch = self.margins.batch_size
        return {
            **{name: replace(self.margins, strategy=name) for name in names},
            "in_batch, 4 times the batch": replace(
                self.margins, strategy="in_batch", batch_size=4 * batch, chunk=batch
            ),
            "momentum contrast": replace(scaled, strategy="info_nce", queue=16 * batch),
            **{name: replace(scaled, strategy=name, teacher=self.teacher) for name in ("kl", "margin_mse")},
        }

    def with_groups(self, strategy: str) -> list[Experiment]:
        """One strategy of the bi-encoder, trained on more and more groups."""
        whole = self.self_distilled()[strategy]
        return [replace(whole, group_count=count) for count in self.margin_groups]

    def ablations(self) -> dict[str, dict[str, Experiment]]:
        """Question -> answer -> run: one thing at a time differs from the bi-encoder of the margin losses."""
        margins = self.margins

        def runs(*names: str) -> dict[str, Experiment]:
            return {name: replace(margins, strategy=name) for name in names}

        def changed(strategy: str, name: str, values: tuple) -> dict[str, Experiment]:
            return {f"{value:g}": replace(margins, strategy=strategy, **{name: value}) for value in values}

        batch, rate = margins.batch_size, margins.learning_rate
        return {
            "margin of the fixed loss": {
                "0.1": replace(margins, strategy="fixed_margin(margin=0.1)"),
                "0.2": replace(margins, strategy="fixed_margin(margin=0.2)"),
                "0.3": replace(margins, strategy="fixed_margin"),
                "0.5": replace(margins, strategy="fixed_margin(margin=0.5)"),
                "0.8": replace(margins, strategy="fixed_margin(margin=0.8)"),
            },
            "scaling of the target": runs("adaptive_margin", "adaptive_margin(scale='clamp')"),
            "similarity threshold": runs("adaptive_margin", "adaptive_margin(threshold=0.6)"),
            "error": runs("adaptive_margin", "adaptive_margin(error='l1')"),
            "reading": runs(*(f"distributed_margin{how}" for how in ("", "(reading='literal')", "(detach=True)"))),
            "groups a batch": changed("distributed_margin", "batch_size", (batch, 4 * batch)),
            "learning rate": changed("adaptive_margin", "learning_rate", (rate, 3 * rate)),
        }  # fmt: skip

    def mined(self) -> Experiment:
        """In-batch InfoNCE on groups whose hard negatives a bi-encoder, trained on BM25's, finds in the collection."""
        first = self.self_distilled()["in_batch"]
        return replace(first, negatives=first)

    def cheaper(self) -> dict[str, Experiment]:
        """Trained whole, with LoRA, with a prefix: labels and the model's own margins. LoRA wants a higher rate."""
        adapters = {
            "whole": {},
            "LoRA": {"adapter": "lora", "adapter_size": 16, "learning_rate": 10 * self.margins.learning_rate},
            "prefix": {"adapter": "prefix", "adapter_size": 16, "learning_rate": 100 * self.margins.learning_rate},
        }
        return {
            f"{strategy}, {name}": replace(self.margins, strategy=strategy, **changes)
            for strategy in ("in_batch", "distributed_margin")
            for name, changes in adapters.items()
        }

    def plateau(self, group_count: int) -> dict[str, Experiment]:
        """Short runs from labels that differ in one thing from the second of them."""
        cold = replace(self.student, group_count=group_count)
        return {
            "cropped queries first": replace(cold, start=self.start),
            "cold": cold,
            "cold, dropout 0.1": replace(cold, dropout=0.1),
            "cold, layers 1, 3, 5": replace(cold, layers=(1, 3, 5)),
        }


def seeded(run: Experiment, seed: int) -> Experiment:
    """A run, and its start, with another seed."""
    start = run.start and replace(run.start, seed=seed)
    return replace(run, seed=seed, start=start)


def _tests(in_domain: int, out_of_domain: int, depth: int) -> tuple[TestSet, ...]:
    others = [TestSet(name, queries=out_of_domain, depth=depth) for name in pydocs.OUT_OF_DOMAIN]
    return (TestSet(pydocs.IN_DOMAIN, queries=in_domain, depth=depth), *others)


def _start(student: Experiment, group_count: int) -> Experiment:
    return replace(student, strategy="info_nce", collection=f"cropped:{student.collection}", group_count=group_count)


def _architectures(group_count: int, start: Experiment) -> tuple[Experiment, ...]:
    """Five architectures on the same groups.

    Layers 0, 3, 5 serve a bi-encoder best (dev queries, untrained: RR@10 .493, all six .490, layers 0 to 2 .344): the
    last one makes the sentence vector. A cross-encoder leaves its plateau soonest with 0, 1, 2 (notebook 04), and
    PreTTR, a cross-encoder in its upper layers, has the same plateau and the same way out. The rates of
    ColBERT and the bi-encoder are, of 3e-5, 1e-4 and 3e-4, the best on dev queries (mean of labels and Margin-MSE).
    """
    base = Experiment("info_nce", group_count=group_count, docs=3, learning_rate=3e-4)
    prettr = replace(base, architecture="prettr", layers=(0, 1, 2), options=(("split", 1),))
    return (
        replace(base, layers=(0, 1, 2), start=start),
        replace(prettr, start=replace(start, architecture=prettr.architecture, options=prettr.options)),
        replace(base, architecture="colbert", layers=(0, 3, 5), learning_rate=3e-5),
        replace(base, architecture="dot", layers=(0, 3, 5), learning_rate=3e-5),
        replace(base, architecture="tk", options=(("depth", 1),), learning_rate=1e-3),
    )


def _assistants(group_count: int) -> tuple[Experiment, ...]:
    """Two more teachers of six layers; both were pre-trained to compare texts, so few groups are enough for them."""
    base = Experiment("info_nce", group_count=group_count, docs=3, learning_rate=3e-5)
    return (replace(base, architecture="dot"), replace(base, architecture="colbert"))


def _margins(group_count: int, batch_size: int = 16) -> Experiment:
    options = (("similarity", "cosine"),)
    return Experiment(
        "triplet", architecture="dot", options=options, layers=(0, 3, 5), group_count=group_count, docs=2,
        batch_size=batch_size, learning_rate=1e-4,
    )  # fmt: skip


def smoke() -> Profile:
    """A step or two of everything, on the real text."""
    student = Experiment("info_nce", layers=(0, 1), group_count=8, docs=3, batch_size=4)
    return Profile(
        "smoke", teacher=replace(student, layers=(0, 1, 2), learning_rate=1e-4), start=_start(student, 8),
        student=student, strategies=("info_nce", "bce", "ranknet", "kl", "margin_mse", "mse"), seeds=(0, 1),
        repeated=("info_nce", "kl"), plateau_groups=12, tests=_tests(8, 4, 6),
        dev=TestSet(split="dev", queries=8, depth=6),
        architectures=_architectures(8, _start(replace(student, layers=(0, 1, 2)), 8)), assistants=_assistants(8),
        architecture_test=TestSet(queries=8, depth=6), margins=_margins(12, batch_size=2), margin_groups=(8, 12),
        retrieval=TestSet("networkx", queries=8, depth=20),
    )  # fmt: skip


def laptop() -> Profile:
    """Two cores, no accelerator, no network: under half an hour for everything."""
    # At equal cost, 2,700 groups of 3 gave better students on dev queries than 2,000 groups of 4. On 400 dev queries
    # 2,000 groups instead of 2,800 cost InfoNCE .01 to .03 RR@10 and Margin-MSE nothing, and pairs of 80 tokens instead
    # of 96 cost the teacher .013.
    student = Experiment("info_nce", layers=(0, 1, 2), group_count=2800, docs=3, learning_rate=3e-4)
    teacher = replace(student, layers=None, group_count=3200, learning_rate=1e-4)
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
    student = Experiment("info_nce", layers=(0, 1, 2), group_count=8000, docs=8, learning_rate=3e-4)
    return Profile(
        "workstation", teacher=replace(student, layers=None, learning_rate=1e-4, epochs=3),
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
