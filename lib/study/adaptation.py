"""Adapting to a domain: the rankers of notebook 17, and what each gains on the target and forgets of the source."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import pandas as pd

from lib.analysis import significance
from lib.data import collections, groups, views
from lib.study.derived import Merged, Pretrained
from lib.study.experiment import Experiment, Run, TestSet, vary
from lib.study.profiles import Profile
from lib.training.settings import Training

SIZES = {"smoke": (8, 8, 16), "laptop": (200, 1000, 4000), "workstation": (800, 8000, 10000)}
RELATION = {"better": "better than", "worse": "worse than", "equivalent": "equivalent to",
            "not resolvable": "not told apart from"}  # fmt: skip
SCALES = (0.4, 0.7, 1.0)  # of the merged task vector in task arithmetic, one of which dev queries choose


@dataclass(frozen=True)
class Adaptation:
    """Rankers that go from the source, on which a profile trains, to a target collection."""

    profile: Profile
    target: str  # a collection with test queries
    learned: Experiment | None = None  # from the source; None: the profile's student

    def __post_init__(self) -> None:
        source, target = (views.around_path(name)[1] for name in (self.profile.student.data.collection, self.target))
        if target == source:
            raise ValueError(
                f"target={self.target!r}: the source, {source}, is adapted to another collection; give one"
            )

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Test queries of each text, training groups, and documents of the pre-training."""
        return SIZES.get(self.profile.name, SIZES["workstation"])

    @property
    def text(self) -> str:
        """What is learned from in the target: training queries, else most dev queries, else cropped queries."""
        target = collections.load(self.target)
        if "train" in target.judgements:
            return self.target
        enough = "dev" in target.judgements and len(target.split("dev")) >= views.STAYS_DEV
        return f"from-dev:{self.target}" if enough else f"cropped:{self.target}"

    @property
    def tests(self) -> tuple[TestSet, TestSet]:
        """Queries of the source, and of the target."""
        queries, depth = self.sizes[0], self.profile.tests[0].depth
        names = self.profile.student.data.collection, self.target
        return tuple(TestSet(name, queries=queries, depth=depth) for name in names)

    @property
    def devs(self) -> list[TestSet]:
        """The same for choices; of the source alone where the target has no dev queries."""
        source, target = (replace(test, split="dev") for test in self.tests)
        target = replace(target, collection=self.text)  # without the dev queries that are trained on
        return [dev for dev in (source, target) if "dev" in collections.load(dev.collection).judgements]

    @property
    def source(self) -> Experiment:
        """What has learned from the source's labels."""
        return self.learned or self.profile.variant("info_nce")

    def on_target(self, run: Experiment, strategy: str = "info_nce", start: Run | None = None) -> Experiment:
        """The same training on the target, from `start`; a reference, where the strategy has one, is the start too."""
        collection, teacher = collections.load(self.text), start if strategy == "dpo" else None
        # Where queries have many relevant documents, groups of all of them would be of few queries.
        positives = 1 if groups.available(collection) > 2 * len(collection.relevant("train")) else None
        count = min(self.sizes[1], groups.available(collection, positives))
        data = {"collection": self.text, "group_count": count, "positives": positives}
        return vary(run, strategy=strategy, teacher=teacher, start=start, **data)

    def trained(self) -> dict[str, Run]:
        """The source's student, and those that are trained further or otherwise, by name.

        "target" has learned from the target what "source" has learned from the source, from the same start.
        """
        source, count = self.source, self.sizes[2]
        settings = Training(batch_size=min(16, count), learning_rate=5e-4)
        documents = min(count, len(collections.load(self.target).documents))
        pretrained = Pretrained(source.model, self.target, documents, settings, source.seed)
        return {
            "source": source,
            "pre-trained": _again(source, pretrained),
            "fine-tuned": self.on_target(source, start=source),
            "dpo": self.on_target(source, "dpo", source),
            "orpo": self.on_target(source, "orpo", source),
            "target": self.on_target(source, start=source.start),
        }

    def halfway(self) -> dict[str, Run]:
        """The source's student, the one fine-tuned from it, and their mean.

        Wortsman et al. 2022 (WiSE-FT), https://arxiv.org/abs/2109.01903, with the share one half.
        """
        source = self.source
        tuned = self.on_target(source, start=source)
        return {"source": source, "fine-tuned": tuned, "mean": Merged((source, tuned))}

    def merged(self, how: str) -> list[Merged]:
        """Merges of "source" and "target" one way: several of task arithmetic, of which dev queries choose."""
        runs = self.source, self.on_target(self.source, start=self.source.start)
        return [Merged(runs, how, scale=scale) for scale in (SCALES if how == "task_arithmetic" else (None,))]


def _again(run: Experiment, bottom: Run) -> Experiment:
    """A run, and everything that it starts from, with `bottom` before the first of them."""
    return replace(run, start=bottom if run.start is None else _again(run.start, bottom))


def sentences(compared: pd.DataFrame, baseline: str) -> list[str]:
    """One for each ranker of `significance.compare_each`: what it does on each collection, beside the baseline."""
    lines = []
    for ranker, rows in compared.groupby("ranker", sort=False):
        parts = [
            f"{significance.decided(row)} on {row['collection']} ({significance.size(row)})" for row in _rows(rows)
        ]
        lines.append(f"{ranker}, beside {baseline}: {' and '.join(parts)}.")
    return lines


def beats_both(
    results: pd.DataFrame,
    measure: str,
    tests: tuple[TestSet, TestSet],
    merges: Iterable[str],
    parents: tuple[str, str] = ("source", "target"),
) -> dict[str, dict[str, str]]:
    """Merge -> collection -> whether it is better there than both parents, or how it stands to each.

    Holm's correction is over all merges and both parents on a collection: who looks for the best of several finds one.
    """
    found: dict[str, dict[str, str]] = {merge: {} for merge in merges}
    for test in tests:
        values = significance.per_query(results, measure, test.collection)
        pairs = [(merge, parent) for merge in found for parent in parents]
        differences = pd.DataFrame({pair: values[pair[0]] - values[pair[1]] for pair in pairs})
        differences.columns = pd.Index(range(len(pairs)))
        words = dict(zip(pairs, map(significance.decided, _rows(significance.contrasts(differences))), strict=True))
        for merge, on in found.items():
            own = {parent: words[merge, parent] for parent in parents}
            both = set(own.values()) == {"better"}
            on[test.collection] = "yes" if both else ", ".join(f"{RELATION[word]} {one}" for one, word in own.items())
    return found


def _rows(table: pd.DataFrame) -> list[pd.Series]:
    return [row for _, row in table.iterrows()]
