"""Pairs per second in training and scoring: the kit, its peers and the machine's own limit, on the same pairs.

One model of MiniLM's size; all take turns, so that a machine whose speed drifts treats them alike, and a ratio is the
median of the rounds' own ratios. `make bench` on an idle machine; `--size tiny` only shows that everything runs. The
peers profit from `hardware.keep_memory`, which holds for the whole process.
"""

import argparse
import importlib.util
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import torch
import transformers
from matplotlib.figure import Figure

from benchmarks import ROOT, add_out, out_folder, peers
from lib import models
from lib.analysis import style
from lib.data import collections, groups
from lib.data.groups import Groups
from lib.machine import hardware, provenance
from lib.models import backbone, graphs
from lib.study import rankers
from lib.study.experiment import Model
from lib.training import ladder, loop, scoring, strategies
from lib.training.ladder import Way
from lib.training.settings import Training

RATE, MAX_LENGTH = 1e-4, 96
PEER = "sentence-transformers"  # ratios are to its fastest settings in each task
TUNED = f"{PEER}, tuned"
LIMIT = "the machine: these products alone"


@dataclass(frozen=True)
class Size:
    """How much there is to do."""

    groups: int
    docs: int
    layers: tuple[int, ...] | None  # of the backbone; None: all
    rounds: int
    batch: int = 8  # groups in a step of training
    scored: int = 64  # pairs in a batch of scoring; on an accelerator the kit takes what fits into `scoring.PLACES`


SIZES = {
    "full": Size(160, 4, None, 5), "tiny": Size(8, 2, (0,), 1),
    "accelerator": Size(4096, 8, None, 5, batch=64, scored=512),
}  # fmt: skip


@dataclass(frozen=True)
class Material:
    """A cross-encoder and a ColBERT on disk, and the same pairs as every system reads them."""

    folder: Path
    size: Size

    @cached_property
    def collection(self) -> collections.Collection:
        return collections.load("pydocs")

    @cached_property
    def made(self) -> Groups:
        return groups.build(self.collection, count=self.size.groups, docs=self.size.docs)

    @cached_property
    def work(self) -> ladder.Work:
        """The pairs as the cross-encoder reads them, counted."""
        ranker = models.load(self.folder / "cat")
        inputs = rankers.inputs(ranker, self.collection, Model(layers=self.size.layers, max_length=MAX_LENGTH))
        return ladder.Work(ranker, self.made, inputs, self.size.batch)

    @cached_property
    def texts(self) -> list[tuple[str, str]]:
        return [
            (self.collection.queries[query], self.collection.documents[document])
            for query, row in zip(self.made.queries, self.made.documents, strict=True) for document in row
        ]  # fmt: skip

    @property
    def labelled(self) -> datasets.Dataset:
        """The pairs with their labels, as sentence-transformers' trainer reads them."""
        queries, documents = zip(*self.texts, strict=True)
        labels = self.made.targets["labels"].ravel().tolist()
        return datasets.Dataset.from_dict({"query": queries, "text": documents, "label": labels})


def save_models(folder: Path, size: Size) -> None:
    """A cross-encoder with a new head and a ColBERT without [MASK] tokens, in sentence-transformers' layouts."""
    for name, options in {"cat": {}, "colbert": {"masks": 0, "similarity": "cosine"}}.items():
        ranker = models.build(name, backbone.MINILM, size.layers, 0, **options)
        ranker.save(folder / name, backbone.tokenizer(backbone.MINILM), MAX_LENGTH)


def our_training(given: Material, dropout: float) -> Callable[[], None]:
    settings = Training(given.size.batch, learning_rate=RATE)

    def run() -> None:
        ranker = models.load(given.folder / "cat", dropout=dropout, embeddings=dropout > 0)
        ranker.set_attention(hardware.attention(training=True))
        loop.train(ranker, given.made, given.work.tokens, strategies.named("bce"), settings)

    return run


def their_training(given: Material, **settings: object) -> Callable[[], None]:
    pairs = given.size.batch * given.size.docs
    return partial(peers.trained, given.folder / "cat", given.labelled, MAX_LENGTH, pairs, RATE, **settings)


def our_scoring(given: Material, graph: str = "", *, bf16: bool = False) -> peers.Scorer:
    """The kit's scoring, of its own transformer or of one of `graphs.FILES`."""
    ranker = models.load(given.folder / "cat")
    if graph:
        path = given.folder / "cat" / graphs.FILES[graph]
        if not path.exists():
            graphs.write(models.load(given.folder / "cat"), backbone.tokenizer(backbone.MINILM), given.folder / "cat")
        ranker.transformer = graphs.opened(path, bf16=bf16)
    return lambda: scoring.score(ranker, given.work.tokens, given.made.queries[:, None], given.made.documents).ravel()


def our_late_scoring(given: Material) -> peers.Scorer:
    ranker = models.load(given.folder / "colbert")
    inputs = rankers.inputs(ranker, given.collection, Model("colbert", max_length=MAX_LENGTH))
    return lambda: scoring.score(ranker, inputs, given.made.queries[:, None], given.made.documents).ravel()


def their_scoring(given: Material, **settings: object) -> peers.Scorer:
    return peers.scorer(given.folder / "cat", given.texts, MAX_LENGTH, given.size.scored, **settings)


def their_late_scoring(given: Material, **settings: object) -> peers.Scorer:
    return peers.late_scorer(given.folder / "colbert", given.texts, given.size.scored, **settings)


# On a processor attention by plain products, on an accelerator the fused one.
_TUNED = {"attn_implementation": hardware.attention(training=True)}
_WEIGHTS = {"dtype": torch.bfloat16, **_TUNED}
# (task, system) -> what makes a run of it
SYSTEMS: dict[tuple[str, str], Callable[[Material], Callable[[], object]]] = {
    ("training", "the kit, as it trains: no dropout, embeddings kept"): partial(our_training, dropout=0.0),
    ("training", "the kit, dropout 0.1 and embeddings as the peer's"): partial(our_training, dropout=0.1),
    ("training", TUNED): partial(their_training, **_TUNED),
    ("training", "sentence-transformers, bf16"): their_training,
    ("scoring", "the kit"): our_scoring,
    ("scoring", TUNED): partial(their_scoring, autocast=False, **_WEIGHTS),
    ("scoring", "sentence-transformers, autocast"): partial(their_scoring, autocast=True),
    ("scoring", "sentence-transformers, defaults: float32"): partial(their_scoring, autocast=False),
    ("scoring", "ONNX Runtime, float32"): partial(our_scoring, graph="ONNX, float32"),
    ("scoring", "ONNX Runtime, int8"): partial(our_scoring, graph="ONNX, int8"),
    ("scoring", "OpenVINO, bf16"): partial(our_scoring, graph="OpenVINO, float32", bf16=True),
    ("scoring", "OpenVINO, int8"): partial(our_scoring, graph="OpenVINO, int8", bf16=True),
    ("late interaction", "the kit: ColBERT"): our_late_scoring,
    ("late interaction", TUNED): partial(their_late_scoring, **_TUNED),
    ("late interaction", "sentence-transformers, autocast"): their_late_scoring,
}  # fmt: skip


def available(task_and_system: tuple[str, str]) -> bool:
    """Whether its package is installed; says so if not."""
    needed = graphs.PACKAGES if task_and_system[1].startswith(("ONNX", "OpenVINO")) else ()
    found = all(map(importlib.util.find_spec, needed))
    if not found:
        print(f"without {task_and_system[1]}: pip install -c constraints.txt -e '.[onnx]'")
    return found


def limit(given: Material, task: str) -> float:
    """Pairs per second if nothing but the cross-encoder's products were computed, without padding."""
    dtype = torch.bfloat16 if hardware.precision() == "bf16" else torch.float32
    passes = 3 if task == "training" else 1  # forward; gradients of inputs and of weights
    return ladder.limit(given.work, dtype) * given.work.pairs / (passes * given.work.operations)


def measure(given: Material, names: list[tuple[str, str]]) -> tuple[pd.DataFrame, dict]:
    """Pairs per second, one row per round and one column per (task, system); and the scores of those that score."""
    work = {name: SYSTEMS[name](given) for name in names}
    rounds, scores = [], {}
    for number in range(given.size.rounds + 1):  # the first warms up
        rates = {(task, LIMIT): limit(given, task) for task in ("training", "scoring")}
        for name, run in work.items():
            start = time.perf_counter()
            scores[name] = run()
            rates[name] = given.work.pairs / (time.perf_counter() - start)
        print(f"round {number} of {given.size.rounds}", flush=True)
        rounds.append(rates)
    return pd.DataFrame(rounds[1:]), scores


def peaks(given: Material, names: list[tuple[str, str]], size: str) -> dict[tuple[str, str], float]:
    """Peak memory of each, MiB, in a process of its own."""
    found = {}
    for name in names:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.speed", "--size", size, "--folder", given.folder]
        done = subprocess.run(
            [*map(str, command), "--only", json.dumps(name)], cwd=ROOT, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr}")
        found[name] = float(done.stdout.splitlines()[-1])
    return found


def summary(rates: pd.DataFrame, scores: dict, peak: dict) -> pd.DataFrame:
    """One row per task and system; ratios are to the fastest of `PEER` in the task, round by round."""
    exact = scores[("scoring", "sentence-transformers, defaults: float32")]
    tasks = list(dict.fromkeys(task for task, _ in rates))
    own = {task: [rates[name] for name in rates if name[0] == task and name[1].startswith(PEER)] for task in tasks}
    fastest = {task: max(settings, key=pd.Series.median) for task, settings in own.items()}
    rows = []
    for task, system in sorted(rates, key=lambda name: tasks.index(name[0])):
        some = rates[(task, system)]
        ratios = some / fastest[task]
        row = {
            "task": task, "system": system, "pairs per second": some.median(), "low": some.min(), "high": some.max(),
            "ratio": ratios.median(), "ratio, low": ratios.min(), "ratio, high": ratios.max(),
            "peak MiB": peak.get((task, system)),
        }  # fmt: skip
        if (task, LIMIT) in rates:
            row["share of the limit"] = (some / rates[(task, LIMIT)]).median()
        if task == "scoring" and system != LIMIT:
            row["drift"] = np.abs(scores[(task, system)] - exact).max()
        rows.append(row)
    return pd.DataFrame(rows).set_index("system")


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table as README shows it."""
    ratio = [f"{r.ratio:.2f} [{r.low:.2f}, {r.high:.2f}]"
             for r in table[["ratio", "ratio, low", "ratio, high"]].set_axis(["ratio", "low", "high"], axis=1).itertuples()]  # fmt: skip
    return pd.DataFrame({
        "task": table["task"], "pairs per second": table["pairs per second"].round().astype(int),
        "ratio to sentence-transformers' fastest [range]": ratio,
        "share of the limit": [f"{s:.0%}" if s == s else "" for s in table["share of the limit"]],
        "peak MiB": [f"{p:,.0f}" if p == p else "" for p in table["peak MiB"].astype(float)],
        "drift of scores": [f"{d:.1e}" if d == d else "" for d in table["drift"]],
    }, table.index)  # fmt: skip


def draw(table: pd.DataFrame) -> Figure:
    """Bars with the range over rounds; the dotted line is the machine's limit."""
    tasks = list(dict.fromkeys(table["task"]))
    figure, panels = style.panels(tasks, width=9, height=2.6, columns=1)
    for axes, task in zip(panels, tasks, strict=True):
        some = table[(table["task"] == task) & (table.index != LIMIT)]
        reach = [some["pairs per second"] - some["low"], some["high"] - some["pairs per second"]]
        colours = ["#444444" if name.startswith("the kit") else "#cccccc" for name in some.index]
        bars = axes.barh(some.index, some["pairs per second"], xerr=reach, color=colours, edgecolor="black")
        axes.bar_label(bars, fmt=" %.0f", fontsize=8)
        for bound in table.loc[(table["task"] == task) & (table.index == LIMIT), "pairs per second"]:
            axes.axvline(bound, color="black", linestyle=":", label=LIMIT)
        axes.invert_yaxis()
        axes.margins(x=0.12)
    return style.finish(figure, "How fast do the kit and its peers train and score?", x="pairs per second", y="")


def padding(given: Material) -> str:
    """Which share of a training batch's places is padding."""
    plain = [1 - given.work.useful_tokens / ladder.places(given.work, Way(by_length=sort)) for sort in (True, False)]
    return f"padding {plain[0]:.0%} of a batch by length, {plain[1]:.0%} of a random one"


def conditions(given: Material) -> str:
    about = given.size
    layers = "six" if about.layers is None else len(about.layers)
    under = ", ".join(f"{name} {value}" for name, value in provenance.conditions().items())
    return (f"{about.rounds} rounds in turn, {given.work.pairs} pairs of {given.work.useful_tokens / given.work.pairs:.0f} tokens "
            f"on average (at most {MAX_LENGTH}), {layers} layers of MiniLM, batches of {about.batch * about.docs} pairs in training "
            f"and {about.scored} in scoring, BCE; {padding(given)}; {under}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="full")
    add_out(parser)
    parser.add_argument("--only", type=json.loads, help=argparse.SUPPRESS)  # these two: one system in its own process
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    logging.disable(logging.WARNING)  # ONNX Runtime's advice
    size = SIZES[chosen.size]
    if chosen.only:
        run = SYSTEMS[tuple(chosen.only)](Material(chosen.folder, size))
        run()
        print(hardware.peak_bytes() / 2**20)
        return
    names = [name for name in SYSTEMS if available(name)]
    with tempfile.TemporaryDirectory() as folder:
        save_models(Path(folder), size)
        given = Material(Path(folder), size)
        rates, scores = measure(given, names)
        weighed = names[:3] if chosen.size == "tiny" else names  # each takes a process of its own
        table = summary(rates, scores, peaks(given, weighed, chosen.size))
        under = conditions(given)
    out = out_folder(chosen)
    table.round(4).assign(conditions=under).to_csv(out / "bench_speed.csv")
    (out / "bench_speed.md").write_text(style.markdown(shown(table)) + f"\n{under}.\n")
    draw(table).savefig(out / "bench_speed.png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    print(shown(table).to_string(), under, f"written to {out}", sep="\n")


if __name__ == "__main__":
    main()
