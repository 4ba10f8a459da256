"""Histories and metrics of one short run of every architecture, paradigm and way of training, and a comparison of two.

    python -m benchmarks.histories before.json          # writes what this version of the code computes
    python -m benchmarks.histories after.json
    python -m benchmarks.histories --compare before.json after.json

A change that is to leave results alone is shown to do so by a comparison of its parent's file with its own, both
written on one machine. Runs are trained on the real text, for a few steps each.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd

from lib.machine import store
from lib.study import runs as study
from lib.study.experiment import Experiment, TestSet

TEST = TestSet(queries=12, depth=6)


def grid() -> dict[str, Experiment]:
    """Name -> run, each of six steps of four groups."""
    base = Experiment("info_nce", layers=(0, 2), group_count=24, docs=3, batch_size=4, max_length=64)
    teacher = replace(base, layers=(0, 2, 4), learning_rate=1e-4)
    distilled = replace(base, strategy="margin_mse", teacher=teacher)
    start = replace(base, collection="cropped:pydocs")
    cosine = replace(base, architecture="dot", options=(("similarity", "cosine"),))
    scaled = replace(cosine, options=(("similarity", "cosine"), ("scale", 20.0)))
    runs = {"teacher": teacher, "cropped queries": start, "from a start": replace(base, start=start)}
    for name in ("cat", "dot", "colbert", "prettr", "tk"):
        layers = None if name == "tk" else base.layers
        options = {"prettr": (("split", 1),), "tk": (("depth", 1),)}.get(name, ())
        for strategy in (base, distilled):
            runs[f"{name}, {strategy.strategy}"] = replace(strategy, architecture=name, layers=layers, options=options)
    for strategy in ("bce", "ranknet", "lambda_loss", "list_mle", "approx_ndcg"):
        runs[f"cat, {strategy}"] = replace(base, strategy=strategy)
    for strategy in ("kl", "mse", "weighted_ranknet", "pearson", "info_nce+kl"):
        runs[f"cat, {strategy}"] = replace(distilled, strategy=strategy)
    for strategy in ("in_batch", "triplet", "fixed_margin", "adaptive_margin", "distributed_margin",
                     "adaptive_margin_in_batch"):  # fmt: skip
        runs[f"dot, {strategy}"] = replace(cosine, strategy=strategy)
    runs |= {
        "several teachers": replace(distilled, teacher=(teacher, scaled)),
        "parameters": replace(cosine, strategy="adaptive_margin(scale='clamp', error='l1')"),
        "GradCache": replace(cosine, strategy="in_batch", batch_size=8, chunk=2),
        "momentum contrast": replace(scaled, queue=16),
        "mined negatives": replace(cosine, strategy="in_batch", negatives=replace(cosine, strategy="in_batch")),
        "LoRA": replace(cosine, strategy="in_batch", adapter="lora"),
        "prefix": replace(cosine, strategy="in_batch", adapter="prefix"),
        "dropout and embeddings": replace(base, dropout=0.1, embeddings=True),
        "another seed, two epochs": replace(base, seed=3, epochs=2),
        "the longer text is cut": replace(base, max_query=None, max_length=32),
    }
    return runs


def write(path: Path) -> None:
    """Train every run in a data folder of its own, and write histories and metrics as JSON."""
    runs, found = grid(), {}
    study.complete(runs.values(), [TEST])
    for name, run in runs.items():
        table = study.results([run], [TEST])
        metrics = table[table["query"] != ""].groupby("measure")["value"].mean().to_dict()
        found[name] = {"history": study.history(run).to_dict("list"), "metrics": metrics}
    store.replace_file(path, lambda place: place.write_text(json.dumps(found, indent=1)))
    print(f"{len(found)} runs -> {path}")


def compare(before: Path, after: Path) -> pd.DataFrame:
    """One row per run: the largest difference of a history's value, relative to its largest, and of a metric."""
    first, second = (json.loads(path.read_text()) for path in (before, after))
    if missing := first.keys() ^ second.keys():
        raise SystemExit(f"not in both files: {', '.join(sorted(missing))}")
    rows = []
    for name in first:
        one, other = (pd.DataFrame(found[name]["history"]).astype(float) for found in (first, second))
        gap = ((one - other).abs().max() / one.abs().max().clip(lower=1e-12)).max()
        metrics = [pd.Series(found[name]["metrics"]) for found in (first, second)]
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
        store.data_folder = lambda: Path(folder)
        write(options.files[0].absolute())


if __name__ == "__main__":
    main()
