"""Profiles: what is trained and evaluated at each scale. A notebook defines its own grid.

smoke        a step or two of everything, on the real text: does it run?
laptop       two cores, no accelerator, no network; the figures of the README
workstation  one accelerator, no network: 8,000 training groups, longer lists, five seeds, 1,500 and 800 test queries
paper        an accelerator of 80 GB and hub data: the re-rankers of 2507.08336, the architectures of 2010.02666 and the
             bi-encoder of 2407.21515, as far as they are known; each setting's source is in `lib.study.papers`
paper-2010.02666  the same with the teachers and students of 2010.02666, since a profile has one teacher
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd

from lib.analysis import measures
from lib.data import pydocs, services
from lib.models import backbone
from lib.models.weights import WeightsError
from lib.study import papers, tables
from lib.study.experiment import Experiment, Model, TestSet, Untrained, vary
from lib.training import strategies

FROM_LABELS = Experiment("info_nce")  # what every run is a variant of
OUT_OF_DOMAIN = (*pydocs.OUT_OF_DOMAIN, *services.OUT_OF_DOMAIN)  # docstrings of other packages, and one other text
_COSINE = (("similarity", "cosine"),)
# Rankers that nothing was trained for here, by their names in tables: what training has to be better than.
# What others trained them on: `lib.models.packaged.trained_on`.
ZERO_SHOT = {
    "minilm": Untrained(Model("dot", options=_COSINE)),
    "bge-small": Untrained(Model("dot", options=(("pooling", "cls"), *_COSINE), backbone="bge-small")),
    "colbert-small": Untrained(
        Model(
            "colbert",
            backbone="colbert-small",
            options=(
                *_COSINE,
                ("projection", False),
                ("masks", 0),
                ("query_marker", "[unused0]"),
                ("document_marker", "[unused1]"),
            ),
        )
    ),
    "msmarco-minilm-l12": Untrained(Model(backbone="msmarco-minilm-l12")),
}
# The same encoder as a teacher. A margin between its cosines is at most 2; 20 is sentence-transformers' own scale.
FREE_TEACHER = Untrained(Model("dot", options=(*_COSINE, ("scale", 1 / strategies.TEMPERATURE))))


@dataclass(frozen=True)
class Profile:
    """The experiments and test sets of one scale."""

    name: str
    teacher: Experiment  # contrastive
    cropped: Experiment  # the small model, taught to match words on queries cropped from documents
    start: Experiment  # what every student starts from: that one, taught by the encoder that the kit has (no labels)
    student: Experiment  # its strategy, teacher and seed vary
    strategies: tuple[str, ...]  # how students are trained
    seeds: tuple[int, ...]  # of the strategies in `repeated`; the others run with the first
    repeated: tuple[str, ...]
    other_seeds: tuple[int, ...]  # of architectures and bi-encoders (notebooks 07 and 08)
    plateau_groups: int  # how long the runs are that show the plateau
    tests: tuple[TestSet, ...]  # the first is in-domain
    dev: TestSet  # for choices: no test judgement decides anything
    architectures: tuple[Experiment, ...]  # one per architecture, trained from labels
    assistants: tuple[Experiment, ...]  # further teachers: with `teacher` they are the ensemble
    architecture_test: TestSet
    margins: Experiment  # the bi-encoder of the self-distillation notebook, trained from labels
    margin_groups: tuple[int, ...]  # numbers of groups, for the curve over data
    retrieval: TestSet  # whose whole collection is searched
    # More queries of the same sets, for the strategies in `repeated` alone: notebook 05 answers its question on all.
    further: tuple[TestSet, ...] = ()
    distilled_rate: float | None = None  # of `distilled_margins`, by dev queries (notebook 10); None: that of `margins`

    def students(self) -> list[Experiment]:
        """The grid of students: same start, same groups, another strategy."""
        seeds = {name: self.seeds if name in self.repeated else self.seeds[:1] for name in self.strategies}
        return [self.variant(strategy, seed) for strategy in self.strategies for seed in seeds[strategy]]

    def variant(self, strategy: str, seed: int = 0) -> Experiment:
        """The student of one strategy and seed; the students of one seed share their start."""
        teacher = self.teacher if strategies.named(strategy).needs_teacher else None
        return vary(self.student, strategy=strategy, teacher=teacher, start=self.start).with_seed(seed)

    @property
    def distilled_margins(self) -> Experiment:
        """The bi-encoder of `margins`, taught by the teacher, with cosines as `FREE_TEACHER` has them."""
        rate = self.distilled_rate or self.margins.training.learning_rate
        taught = vary(self.margins, strategy="margin_mse", teacher=self.teacher, learning_rate=rate)
        return vary(taught, options=FREE_TEACHER.model.options)

    def with_seeds(self, run: Experiment) -> list[Experiment]:
        """An architecture or a bi-encoder with every seed that it has."""
        return [run.with_seed(seed) for seed in self.other_seeds]


def test_sets(in_domain: int | None, out_of_domain: int, depth: int) -> tuple[TestSet, ...]:
    """The in-domain test set, then the others, with so many queries each (None: all)."""
    queries = {pydocs.IN_DOMAIN: in_domain, **dict.fromkeys(OUT_OF_DOMAIN, out_of_domain)}
    return tuple(TestSet(name, queries=count, depth=depth) for name, count in queries.items())


def _beyond(tests: tuple[TestSet, ...], in_domain: int | None, out_of_domain: int) -> tuple[TestSet, ...]:
    """Of so many queries of each test set (None: all), those that it has not."""
    more = test_sets(in_domain, out_of_domain, tests[0].depth)
    return tuple(replace(one, skip=test.queries) for one, test in zip(more, tests, strict=True))


def _cropped(student: Experiment, group_count: int) -> Experiment:
    data = {"collection": f"cropped:{student.data.collection}", "group_count": group_count}
    return vary(student, learning_rate=3e-4, **data)


def _start(student: Experiment, cropped: Experiment) -> Experiment:
    """Three layers, 200 steps, 512 dev queries, RR@10: InfoNCE from here .601, from cropped queries alone .548."""
    return vary(student, strategy="margin_mse", teacher=FREE_TEACHER, start=cropped, learning_rate=3e-4)


def _architectures(group_count: int, cropped: Experiment) -> tuple[Experiment, ...]:
    """Five architectures on the same groups.

    Layers 0, 3, 5 serve a bi-encoder best (dev queries, untrained: RR@10 .493, all six .490, layers 0 to 2 .344): the
    last one makes the sentence vector. A cross-encoder, and PreTTR, which is one in its upper layers, leave their
    plateau soonest with 0, 1, 2 (notebook 04). The rates of ColBERT and the bi-encoder are, of 3e-5, 1e-4 and 3e-4, the
    best on dev queries (mean of labels and Margin-MSE).
    """
    base = vary(FROM_LABELS, group_count=group_count, docs=3, learning_rate=3e-4)
    prettr = {"architecture": "prettr", "options": (("split", 1),)}
    return (
        vary(base, layers=(0, 1, 2), start=cropped),
        vary(base, layers=(0, 1, 2), start=vary(cropped, **prettr), **prettr),
        vary(base, architecture="colbert", layers=(0, 3, 5), learning_rate=3e-5),
        vary(base, architecture="dot", layers=(0, 3, 5), learning_rate=3e-5),
        vary(base, architecture="tk", options=(("depth", 1),), learning_rate=1e-3),
    )


def _assistants(group_count: int) -> tuple[Experiment, ...]:
    """Two more teachers of six layers; both were pre-trained to compare texts, so few groups are enough for them."""
    base = vary(FROM_LABELS, group_count=group_count, docs=3, learning_rate=3e-5)
    return vary(base, architecture="dot"), vary(base, architecture="colbert")


def _margins(group_count: int, batch_size: int = 16) -> Experiment:
    model = {"architecture": "dot", "options": _COSINE, "layers": (0, 3, 5)}
    data = {"group_count": group_count, "docs": 2, "batch_size": batch_size}
    return vary(FROM_LABELS, strategy="triplet", learning_rate=1e-4, **model, **data)


def _smoke() -> Profile:
    student = vary(FROM_LABELS, layers=(0, 1), group_count=8, docs=3, batch_size=4, learning_rate=1e-4)
    cropped, tests = _cropped(student, 8), test_sets(8, 4, 6)
    return Profile(
        "smoke", teacher=vary(student, layers=(0, 1, 2)), cropped=cropped, start=_start(student, cropped),
        student=student, strategies=("info_nce", "bce", "ranknet", "kl", "margin_mse", "mse"), seeds=(0, 1),
        repeated=("info_nce", "kl"), other_seeds=(0, 1), plateau_groups=12, tests=tests, further=_beyond(tests, 12, 6),
        dev=TestSet(split="dev", queries=8, depth=6),
        architectures=_architectures(8, _cropped(vary(student, layers=(0, 1, 2)), 8)), assistants=_assistants(8),
        architecture_test=TestSet(queries=8, depth=6), margins=_margins(12, batch_size=2), margin_groups=(8, 12),
        retrieval=TestSet("networkx", queries=8, depth=20),
    )  # fmt: skip


def _laptop() -> Profile:
    # At equal cost, 2,700 groups of 3 gave better students on dev queries than 2,000 groups of 4. On 400 dev queries
    # 2,000 groups instead of 2,800 cost InfoNCE .01 to .03 RR@10 and Margin-MSE nothing, and pairs of 80 tokens instead
    # of 96 cost the teacher .013.
    student = vary(FROM_LABELS, layers=(0, 1, 2), group_count=2800, docs=3, learning_rate=1e-4)
    teacher = vary(student, layers=None, group_count=3200)
    # 400 and 100 queries do not tell students of one start apart; every in-domain query and 250 of each other set may.
    cropped, tests = _cropped(student, 700), test_sets(400, 100, 20)
    return Profile(
        "laptop", teacher=teacher, cropped=cropped, start=_start(student, cropped), student=student,
        strategies=("info_nce", "bce", "ranknet", "kl", "margin_mse", "mse"), seeds=(0, 1, 2),
        repeated=("info_nce", "kl", "margin_mse"), other_seeds=(0,), plateau_groups=1000, tests=tests,
        further=_beyond(tests, None, 250), dev=TestSet(split="dev", queries=100, depth=20),
        architectures=_architectures(320, cropped), assistants=_assistants(320),
        architecture_test=TestSet(queries=100, depth=20), margins=_margins(384), margin_groups=(48, 96, 192, 384),
        retrieval=TestSet(queries=150, depth=20),
        distilled_rate=1e-4 / 3,  # chosen on 100 dev queries; on 500 of them (notebook 10) 1e-4 is better
    )  # fmt: skip


def _workstation() -> Profile:
    student = vary(FROM_LABELS, layers=(0, 1, 2), group_count=8000, docs=8, learning_rate=1e-4)
    cropped = _cropped(student, 2000)
    return Profile(
        "workstation", teacher=vary(student, layers=None, epochs=3), cropped=cropped, start=_start(student, cropped),
        student=student,
        strategies=("info_nce", "bce", "ranknet", "lambda_loss", "kl", "margin_mse", "mse", "info_nce+kl"),
        seeds=(0, 1, 2, 3, 4), repeated=("info_nce", "kl", "margin_mse"), other_seeds=(0, 1, 2, 3, 4),
        plateau_groups=1000, tests=test_sets(1500, 800, 50), dev=TestSet(split="dev", queries=500, depth=50),
        architectures=_architectures(8000, cropped), assistants=_assistants(8000),
        architecture_test=TestSet(queries=1500, depth=50), margins=_margins(8000),
        margin_groups=(500, 1000, 2000, 4000, 8000), retrieval=TestSet(queries=1500, depth=50),
    )  # fmt: skip


def _paper() -> Profile:
    student = vary(FROM_LABELS, **papers.values(*papers.RERANKER))
    base = vary(FROM_LABELS, strategy="ranknet", **papers.values(*papers.CROSS_ARCHITECTURE))
    architectures = {
        name: vary(base, architecture=name, **papers.values(*own)) for name, own in papers.ARCHITECTURES.items()
    }
    margins = vary(FROM_LABELS, strategy="triplet", **papers.values(*papers.OWN_MARGINS))
    dl19 = TestSet(papers.DL19, queries=43, depth=1000)
    return Profile(
        "paper", teacher=vary(student, **papers.values(*papers.TEACHER)),
        cropped=vary(_cropped(student, 2000), learning_rate=student.training.learning_rate),
        start=_unchanged(student), student=student, strategies=("info_nce", "kl", "margin_mse"), seeds=(0, 1, 2),
        repeated=("info_nce", "kl", "margin_mse"), other_seeds=(0, 1, 2), plateau_groups=2000,
        tests=(replace(dl19, depth=100), *(TestSet(f"hub:BeIR/{name}", "test", None, 100) for name in papers.BEIR)),
        dev=TestSet(papers.TRAIN, "dev", 3200, 100), architectures=tuple(architectures.values()),
        assistants=tuple(vary(architectures["cat"], backbone=name) for name in papers.ENSEMBLE),
        architecture_test=dl19, margins=margins,
        margin_groups=tuple(papers.GROUPS // part for part in (16, 8, 4, 2, 1)), retrieval=dl19,
    )  # fmt: skip


def _unchanged(student: Experiment) -> Experiment:
    """One step that changes nothing: students start from the backbone, and notebooks have a start to show."""
    return vary(student, group_count=student.training.batch_size, learning_rate=1e-12)


def _paper_of_architectures() -> Profile:
    paper = _paper()
    student, (teacher, *assistants) = paper.architectures[0], paper.assistants
    return replace(
        paper, name="paper-2010.02666", teacher=teacher, assistants=tuple(assistants), student=student,
        cropped=vary(_cropped(student, 2000), learning_rate=student.training.learning_rate), start=_unchanged(student),
        strategies=("info_nce", "ranknet", "weighted_ranknet", "mse", "margin_mse"),
        repeated=("info_nce", "ranknet", "margin_mse"),
    )  # fmt: skip


PROFILES: dict[str, Callable[[], Profile]] = {
    "smoke": _smoke, "laptop": _laptop, "workstation": _workstation, "paper": _paper,
    "paper-2010.02666": _paper_of_architectures,
}  # fmt: skip


def named(name: str) -> Profile:
    """The profile of a name, which is checked as `parameter` does; notebooks call it on their parameter."""
    return PROFILES[parameter("profile", name, str, among=tuple(PROFILES))]()


def zero_shot() -> dict[str, Untrained]:
    """`ZERO_SHOT` without those whose weights are not installed; it prints which and how to install them."""
    found = {}
    for name, run in ZERO_SHOT.items():
        try:
            backbone.folder(run.model.backbone)
        except WeightsError as error:
            print(f"without {name}: {error}")
        else:
            found[name] = run
    return found


def reference_values(test: TestSet, measure: str) -> pd.DataFrame:
    """By query the values of what was not trained here: BM25, the zero-shot rankers, and the ideal ranking."""
    runs = zero_shot()
    tables.complete(runs.values(), [test])
    ends = {"bm25": tables.first_stage([test]), "best": tables.best_order([test])}
    rows = {name: measures.select(table, measure) for name, table in ends.items()}
    values = {name: part.set_index("query")["value"] for name, part in rows.items()}
    between = {name: tables.values(run, test, measure) for name, run in runs.items()}
    return pd.DataFrame({"bm25": values["bm25"], **between, "best": values["best"]})


def references(test: TestSet, measure: str) -> pd.Series:
    """The means of `reference_values`, by name."""
    return reference_values(test, measure).mean()


def parameter(name: str, value: object, kind: type, *, among: tuple | None = None) -> object:
    """A notebook's parameter, checked; raises TypeError unless it is of `kind`, ValueError unless it is in `among`."""
    if type(value) is not kind:
        raise TypeError(f"parameter {name!r}: {value!r} is {type(value).__name__}, not {kind.__name__}")
    if among is not None and value not in among:
        raise ValueError(f"parameter {name!r}: {value!r} is unknown; give one of {', '.join(map(str, among))}")
    return value
