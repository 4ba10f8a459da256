"""How time and memory grow with a collection: reading, BM25, tokens, groups and evaluation, 0.1 to 8.8 million passages.

The passages are made of PyDocs's words, as many in each as in MS MARCO's. Every step runs in a process of its own, in an
order in which it finds what it needs. An exponent is that of seconds in passages between the smallest and the largest
size: 1 is proportional. `python -m benchmarks.collections --publish` writes into figures/.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import ROOT, add_out, out_folder
from lib.analysis import measures, style
from lib.data import beir, collections, first_stage, groups
from lib.data.collection import Collection
from lib.machine import hardware, provenance
from lib.models import backbone, tokens

SIZES = {"full": (100_000, 1_000_000, 8_800_000), "laptop": (100_000, 1_000_000), "tiny": (1_000,)}
WORDS = 56  # of a passage, on average, as in MS MARCO
TRAIN, TEST = 900, 100  # queries
BLOCK = 10_000


def make(folder: Path, passages: int) -> None:
    """A folder in BEIR's layout, of passages whose words are drawn from PyDocs; a query is six words of a passage."""
    (folder / "qrels").mkdir(parents=True)
    words = np.array(" ".join(collections.load("pydocs").documents.values()).split())
    draw, queries = np.random.default_rng(0), {}
    each = passages // (TRAIN + TEST)
    with (folder / "corpus.jsonl").open("w") as file:
        for start in range(0, passages, BLOCK):
            count = min(BLOCK, passages - start)
            lengths = draw.poisson(WORDS, count) + 1
            drawn = np.split(words[draw.integers(0, len(words), lengths.sum())], np.cumsum(lengths)[:-1])
            for number, chosen in enumerate(drawn, start):
                file.write(json.dumps({"_id": str(number), "text": " ".join(chosen)}) + "\n")
                if number % each == 0 and len(queries) < TRAIN + TEST:
                    queries[number] = " ".join(draw.choice(chosen, 6))
    lines = [json.dumps({"_id": f"q{number}", "text": text}) + "\n" for number, text in queries.items()]
    (folder / "queries.jsonl").write_text("".join(lines))
    judged = [f"q{number}\t{number}\t1\n" for number in queries]
    for split, rows in (("train", judged[:TRAIN]), ("test", judged[TRAIN:])):
        beir.write_judgements(folder, split, rows)


def search(collection: Collection) -> pd.DataFrame:
    return first_stage.bm25(collection, collection.split("test"), 100)


def evaluate(collection: Collection) -> pd.DataFrame:
    return measures.measure(search(collection), collection, "test", collection.split("test"))


STEPS: dict[str, tuple[bool, Callable]] = {  # step -> whether the collection is loaded before, and what is measured
    "key of the files": (False, collections.fingerprint),
    "reading, the first time": (False, collections.load),
    "reading, later": (False, collections.load),
    "tokens": (
        True,
        lambda found: tokens.tokenise(found.documents, backbone.tokenizer(backbone.MINILM), found.documents_digest),
    ),
    "BM25: index and 100 queries": (True, search),
    "900 groups of 8, with BM25": (True, lambda found: groups.build(found, count=TRAIN, docs=8)),
    "evaluation of 100 queries": (True, evaluate),
}


def measured(step: str, folder: Path) -> dict[str, float]:
    """Seconds of a step, the memory of its process before, and the most during it; files that it maps count."""
    loaded, work = STEPS[step]
    given = collections.load(str(folder)) if loaded else str(folder)
    with hardware.Meter() as nothing:
        pass
    with hardware.Meter() as meter:
        work(given)
    memory = {"start MiB": nothing.peak_memory_gib * 1024, "peak MiB": meter.peak_memory_gib * 1024}
    return {"seconds": meter.seconds, **memory}


def rows_of(passages: int, folder: Path) -> list[dict]:
    """Every step with so many passages."""
    place, rows = folder / f"passages-{passages}", []
    make(place, passages)
    size = (place / "corpus.jsonl").stat().st_size / 2**20
    for step in STEPS:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.collections"]
        command += ["--step", step, "--folder", str(place)]
        done = subprocess.run(command, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, text=True, check=True)
        rows.append({"step": step, "passages": passages, "texts MiB": size, **json.loads(done.stdout.splitlines()[-1])})
    return rows


def with_exponents(rows: list[dict]) -> pd.DataFrame:
    """One row per step and size: memory beside that of the texts, and how seconds grow from the least to the most."""
    table = pd.DataFrame(rows)
    table["memory / texts"] = (table["peak MiB"] - table["start MiB"]) / table["texts MiB"]
    ends = table.groupby("step")[["passages", "seconds"]].agg(["first", "last"])
    grown = {name: np.log(ends[name, "last"] / ends[name, "first"]) for name in ("passages", "seconds")}
    return table.assign(exponent=table["step"].map(grown["seconds"] / grown["passages"]))


def draw(table: pd.DataFrame, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    for (step, part), marker in zip(table.groupby("step", sort=False), "os^vDPX", strict=True):
        label = f"{step} (time: exponent {part['exponent'].iloc[0]:.2f})"
        left.plot(part["passages"], part["seconds"], marker=marker, label=label)
        right.plot(part["passages"], part["peak MiB"] - part["start MiB"], marker=marker)
    sizes = table.drop_duplicates("passages")
    right.plot(sizes["passages"], 1.3 * sizes["texts MiB"], ":", color="#111111", label="1.3 times the corpus file")
    left.set(xscale="log", yscale="log", xlabel="passages", ylabel="seconds")
    right.set(xscale="log", yscale="log", xlabel="passages", ylabel="memory beyond the start (MiB)")
    right.legend(frameon=False)
    figure.suptitle("Time and memory of each step as a collection grows")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="full")
    add_out(parser)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)  # one step in its own process
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.step:
        print(json.dumps(measured(chosen.step, chosen.folder)))
        return
    out = out_folder(chosen)
    collections.load("pydocs")  # its words are drawn from before the data folder changes
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STUDY_DATA"] = folder
        for size in SIZES[chosen.size]:
            rows += rows_of(size, Path(folder))
    table = with_exponents(rows)
    under = ", ".join(f"{name} {value}" for name, value in provenance.conditions().items())
    table.round(3).assign(conditions=under).to_csv(out / "bench_collection_sizes.csv", index=False)
    (out / "bench_collection_sizes.md").write_text(style.markdown(table.round(2).set_index("step")))
    draw(table, out / "bench_collection_sizes.png")
    print(table.round(2).to_string(index=False), under, f"written to {out}", sep="\n")


if __name__ == "__main__":
    main()
