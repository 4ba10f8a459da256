"""Where negatives come from beside a search: judgements, chance, or BM25's candidates by a ranker's scores."""

from dataclasses import dataclass

from lib.machine import store
from lib.machine.literals import check_number, check_whole
from lib.study.run import Run

JUDGEMENTS = "judgements"  # the documents of grade 0, such as a triple's negatives
RANDOM = "random"  # any documents that are not judged relevant


@dataclass(frozen=True)
class Mined:
    """BM25's candidates of a query, scored anew: `Data(negatives=Mined(teacher))`; any ranker can, a bi-encoder too.

    A candidate is left out whose score is not at least `margin` below that of the query's lowest positive: it may be
    relevant and unjudged (Moreira et al. 2024, TopK-MarginPos, https://arxiv.org/abs/2407.15831; RocketQA's denoising,
    https://arxiv.org/abs/2010.08191). With `strata` each of a group's negatives is drawn from another part of the
    order, from the hardest to the easiest, in the place of the hardest alone.
    """

    ranker: Run
    depth: int = 100  # candidates per query
    margin: float | None = 0.0  # in the ranker's unit; None: no candidate is left out
    strata: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.ranker, Run):
            raise ValueError(f"ranker={self.ranker!r}: give a run, or an Untrained model")
        check_whole(self, "depth")
        if self.margin is not None:
            check_number(self, "margin")

    @property
    def key(self) -> str:
        """A name for everything that decides the negatives, but the collection and the first stage."""
        return store.key({"mined": self.ranker.key, "depth": self.depth, "margin": self.margin, "strata": self.strata})

    @property
    def about(self) -> str:
        """One line for people."""
        kind = "strata" if self.strata else "the best"
        return f"{kind} of BM25's top {self.depth} by {self.ranker.about}"

    @property
    def parents(self) -> tuple[Run, ...]:
        """The run that scores."""
        return (self.ranker,)
