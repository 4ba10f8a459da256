"""Histories and metrics of one short run of every architecture, paradigm and way of training, and a comparison of two.

    python -m benchmarks.histories before.json          # writes what this version of the code computes
    python -m benchmarks.histories after.json
    python -m benchmarks.histories --compare before.json after.json

A change that is to leave results alone is shown to do so by a comparison of its parent's file with its own, both
written on one machine. Runs are trained on the real text, for a few steps each.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import pandas as pd

from lib.machine import store
from lib.study import runs, tables
from lib.study.experiment import Experiment, TestSet, vary
from lib.training import strategies
from lib.training.settings import Adapter, GradCache, Queue

TEST = TestSet(queries=12, depth=6)
RENAMED = {"wanted": "target_margin", "alike": "similarity"}  # columns of histories that older versions wrote


def grid() -> dict[str, Experiment]:
    """Name -> run, each of six steps of four groups."""
    base = vary(Experiment("info_nce"), layers=(0, 2), group_count=24, docs=3, batch_size=4, max_length=64)
    teacher = vary(base, layers=(0, 2, 4), learning_rate=1e-4)
    distilled = vary(base, strategy="margin_mse", teacher=teacher)
    start = vary(base, collection="cropped:pydocs")
    cosine = vary(base, architecture="dot", options=(("similarity", "cosine"),))
    scaled = vary(cosine, options=(("similarity", "cosine"), ("scale", 20.0)))
    grid = {"teacher": teacher, "cropped queries": start, "from a start": vary(base, start=start)}
    for name in ("cat", "dot", "colbert", "prettr", "tk"):
        layers = None if name == "tk" else base.model.layers
        options = {"prettr": (("split", 1),), "tk": (("depth", 1),)}.get(name, ())
        for run in (base, distilled):
            grid[f"{name}, {run.strategy.name}"] = vary(run, architecture=name, layers=layers, options=options)
    for strategy in ("bce", "ranknet", "lambda_loss", "list_mle", "approx_ndcg"):
        grid[f"cat, {strategy}"] = vary(base, strategy=strategy)
    for strategy in ("kl", "mse", "bounded_weighted_ranknet", "pearson", "info_nce+kl"):
        grid[f"cat, {strategy}"] = vary(distilled, strategy=strategy)
    for strategy in ("in_batch", "triplet", "fixed_margin", "adaptive_margin", "distributed_margin",
                     "adaptive_margin_in_batch"):  # fmt: skip
        grid[f"dot, {strategy}"] = vary(cosine, strategy=strategy)
    in_batch = vary(cosine, strategy="in_batch")
    return grid | {
        "several teachers": vary(distilled, teacher=(teacher, scaled)),
        "parameters": vary(cosine, strategy=strategies.named("adaptive_margin", scale="clamp", error="l1")),
        "GradCache": vary(in_batch, batch_size=8, batching=GradCache(2)),
        "momentum contrast": vary(scaled, batching=Queue(16)),
        "mined negatives": vary(in_batch, negatives=in_batch),
        "LoRA": vary(in_batch, adapter=Adapter("lora")),
        "prefix": vary(in_batch, adapter=Adapter("prefix")),
        "dropout and embeddings": vary(base, dropout=0.1, embeddings=True),
        "another seed, two epochs": vary(base, seed=3, epochs=2),
        "the longer text is cut": vary(base, max_query=None, max_length=32),
    }


def write(path: Path) -> None:
    """Train every run, and write histories and metrics as JSON."""
    histories = {}
    tables.complete(grid().values(), [TEST])
    for name, run in grid().items():
        table = tables.results([run], [TEST])
        metrics = table[table["query"] != ""].groupby("measure")["value"].mean().to_dict()
        histories[name] = {"history": runs.history(run).to_dict("list"), "metrics": metrics}
    store.replace_file(path, lambda place: place.write_text(json.dumps(histories, indent=1)))
    print(f"{len(histories)} runs -> {path}")


def compare(before: Path, after: Path) -> pd.DataFrame:
    """One row per run: the largest difference of a history's value, relative to its column's largest, and of a metric."""
    first, second = (json.loads(path.read_text()) for path in (before, after))
    if missing := first.keys() ^ second.keys():
        raise SystemExit(f"not in both files: {', '.join(sorted(missing))}")
    rows = []
    for name in first:
        one, other = (
            pd.DataFrame(runs[name]["history"]).astype(float).rename(columns=RENAMED) for runs in (first, second)
        )
        gap = ((one - other).abs().max() / one.abs().max().clip(lower=1e-12)).max()
        metrics = [pd.Series(runs[name]["metrics"]) for runs in (first, second)]
        same = one.shape == other.shape and bool((one.isna() == other.isna()).all(axis=None))
        rows.append({"run": name, "same shape": same, "history": gap, "metrics": (metrics[0] - metrics[1]).abs().max()})
    return pd.DataFrame(rows)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.histories", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--compare", action="store_true")
    options = parser.parse_args()
    if options.compare:
        table = compare(*options.files)
        print(table.to_string(index=False))
        print(f"largest differences: {table[['history', 'metrics']].max().to_dict()}, all of one shape: "
              f"{table['same shape'].all()}")  # fmt: skip
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STUDY_DATA"] = folder
        write(options.files[0].absolute())


if __name__ == "__main__":
    main()
