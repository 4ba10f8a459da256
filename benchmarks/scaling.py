"""Does the cost of scoring grow with the number of pairs alone? Ten thousand to a million pairs, one layer of MiniLM.

Each size runs in a process of its own. `python -m benchmarks.scaling --publish` writes the table into figures/.
"""

import argparse
import json
import subprocess
import sys

import numpy as np
import pandas as pd

from benchmarks import ROOT, add_out, out_folder
from lib import models
from lib.analysis import style
from lib.data import collections
from lib.machine import hardware, provenance
from lib.models import backbone
from lib.study import rankers
from lib.study.experiment import Model
from lib.training import scoring

SIZES = {"full": (10_000, 100_000, 1_000_000), "tiny": (500, 1_000)}


def measure(pairs: int) -> dict[str, float]:
    """Score distinct pairs of PyDocs: as many documents, drawn at random, for each query as it takes."""
    collection = collections.load("pydocs")
    ranker = models.build("cat", backbone.MINILM, (0,), 0)
    inputs = rankers.inputs(ranker, collection, Model(layers=(0,)))
    # References to ids: numpy's own strings would all be as wide as the longest, which takes more than all else.
    queries, documents = (np.array([*texts], object) for texts in (collection.queries, collection.documents))
    each = -(-pairs // len(queries))
    draw = np.random.default_rng(0)
    asked = draw.permutation(queries)[: -(-pairs // each)]
    given = np.stack([draw.choice(documents, each, replace=False) for _ in asked])
    scoring.score(ranker, inputs, asked[:32, None], given[:32])  # warms up
    with hardware.Meter() as meter:
        scores = scoring.score(ranker, inputs, asked[:, None], given)
    rate = scores.size / meter.seconds
    return {
        "pairs": scores.size,
        "seconds": meter.seconds,
        "pairs per second": rate,
        "peak MiB": meter.peak_memory_gib * 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="full")
    add_out(parser)
    parser.add_argument("--pairs", type=int, help=argparse.SUPPRESS)  # one size in its own process
    chosen = parser.parse_args()
    if chosen.pairs:
        print(json.dumps(measure(chosen.pairs)))
        return
    rows = []
    for pairs in SIZES[chosen.size]:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.scaling", "--pairs", str(pairs)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    table = pd.DataFrame(rows).round(1).set_index("pairs")
    under = ", ".join(f"{name} {value}" for name, value in provenance.conditions().items())
    out = out_folder(chosen)
    table.assign(conditions=under).to_csv(out / "bench_scaling.csv")
    (out / "bench_scaling.md").write_text(style.markdown(table))
    print(table.to_string(), under, f"written to {out}", sep="\n")


if __name__ == "__main__":
    main()
