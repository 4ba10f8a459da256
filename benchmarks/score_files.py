"""Rows per second and memory of reading score files, on synthetic files of 1 and 10 million rows.

`python -m benchmarks.score_files` on an idle machine (Linux: memory is read from /proc); `--size tiny` only shows that
everything runs. Every file is read by a process of its own, on one thread, and the files take turns: a rate is the
median of `ROUNDS`. Writes bench_score_files.png and .csv.
"""

import argparse
import csv
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import ROOT, add_out, out_folder
from lib.data import score_files

MILLION = 1_000_000
BLOCK, ROUNDS = 100_000, 3
SAMPLE = 10_000  # rows between two looks at the memory
SIZES = {"full": (MILLION, 10 * MILLION, 300_000), "tiny": (BLOCK, 2 * BLOCK, 3_000)}  # rows: few, many, and lists
STYLE = [("#111111", "-", "o"), ("#777777", "--", "s")]  # of few and many rows: colour, dash, marker


def make_pairs(path: Path, rows: int) -> None:
    """Rows like those of 2010.02666: its numbers of queries and passages, scores with all the digits of a float."""
    draw = np.random.default_rng(0)
    with path.open("w") as file:
        for _ in range(rows // BLOCK):
            columns = [draw.normal(5, 4, BLOCK), draw.normal(-5, 6, BLOCK)]
            columns += [draw.integers(0, most, BLOCK) for most in (808_731, 8_841_823, 8_841_823)]
            file.writelines(
                "{}\t{}\t{}\t{}\t{}\n".format(*row) for row in zip(*(c.tolist() for c in columns), strict=True)
            )


def make_lists(path: Path, rows: int, docs: int = 32) -> None:
    draw = np.random.default_rng(0)
    documents = draw.integers(0, 8_841_823, (rows, docs)).astype(str)
    score_files.write(path, np.arange(rows).astype(str), documents, draw.normal(size=(rows, docs)), "lists")


def memory(key: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at most."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def count_rows(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(2**20), b""))


def measure_reading(path: Path, what: str) -> None:
    """In a process of its own: one line of JSON with time, peak, and memory at a hundred places."""
    before, start = memory("VmRSS"), time.perf_counter()
    rows, samples = 0, [(0, before)]
    if what == "look-up":
        draw = np.random.default_rng(1)
        queries, documents = draw.integers(0, 808_731, 10_000), draw.integers(0, 8_841_823, (10_000, 8))
        try:
            score_files.scores_of(path, queries, documents)
        except score_files.ScoreFileError as error:  # pairs at random are hardly there; the pass is the same
            assert "no score for" in str(error)
    else:
        known = None
        if what == "known":
            known = (set(map(str, range(808_731))), set(map(str, range(8_841_823))))
            before, start = memory("VmRSS"), time.perf_counter()
        kept = []
        for rows, one in enumerate(score_files.read(path, known=known or (None, None)), 1):
            if what == "keep":
                kept.append(one)
            if rows % SAMPLE == 0:
                samples.append((rows, memory("VmRSS")))
    seconds = time.perf_counter() - start
    rows = rows or count_rows(path)
    print(json.dumps({"rows": rows, "seconds": seconds, "before": before, "peak": memory("VmHWM"), "samples": samples}))


def measured(path: Path, what: str = "read") -> dict:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.score_files", "--read", str(path), "--what", what]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def in_turns(cases: dict[str, tuple[Path, str]]) -> dict[str, list[dict]]:
    """Every case once per round."""
    runs = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, (path, what) in cases.items():
            runs[name].append(measured(path, what))
    return runs


def row(name: str, runs: list[dict]) -> dict:
    """A case as the table has it."""
    rates = np.array([run["rows"] / run["seconds"] for run in runs])
    middle, scores = np.median(rates), 32 if name.startswith("lists") else 2  # of a row
    return {
        "what": name, "rows": runs[0]["rows"], "rows_per_s": round(middle), "least": round(rates.min()),
        "most": round(rates.max()), "scores_per_s": round(middle * scores), "start_mib": round(runs[0]["before"]),
        "peak_mib": round(max(run["peak"] for run in runs)),
    }  # fmt: skip


def draw(few: list[dict], many: list[dict], held: dict, path: Path) -> None:
    """Memory while a file is read: the first run of each, labelled with the medians of all, as the table has them."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for runs, (colour, dash, marker) in zip((few, many), STYLE, strict=True):
        rows, sizes = np.array(runs[0]["samples"]).T
        shown = row("", runs)
        millions, rate = shown["rows"] / MILLION, shown["rows_per_s"] / MILLION
        label = f"{millions:g} million rows: {rate:.1f} million rows/s, peak {shown['peak_mib']:.0f} MiB"
        axes.plot(
            rows / MILLION, sizes, dash, color=colour, marker=marker, markevery=max(1, len(rows) // 12), label=label
        )
    rows, sizes = np.array(held["samples"]).T
    label = f"{held['rows'] / MILLION:g} million rows, every row kept, for comparison"
    axes.plot(rows / MILLION, sizes, ":", color="#111111", label=label)
    axes.set(xlabel="rows read (million)", ylabel="resident memory (MiB)", ylim=(0, None))
    axes.set_title("Reading a teacher-score file takes the same memory whatever its length")
    axes.legend(loc="upper right", frameon=False)
    figure.savefig(path, dpi=150)


def benchmark(folder: Path, size: str) -> dict[str, list[dict]]:
    """Make the files and read them: case -> its runs."""
    few, many, lists = SIZES[size]
    paths = {name: folder / name for name in ("few.tsv", "many.tsv", "few.tsv.gz", "few.jsonl", "many.jsonl")}
    make_pairs(paths["few.tsv"], few)
    make_pairs(paths["many.tsv"], many)
    make_lists(paths["few.jsonl"], lists // 10)
    make_lists(paths["many.jsonl"], lists)
    with paths["few.tsv"].open("rb") as plain, gzip.open(paths["few.tsv.gz"], "wb", compresslevel=6) as file:
        shutil.copyfileobj(plain, file)
    cases = {
        "pairs, few rows": (paths["few.tsv"], "read"), "pairs, many rows": (paths["many.tsv"], "read"),
        "pairs, every row kept": (paths["few.tsv"], "keep"),
        "pairs, 80,000 pairs looked up": (paths["few.tsv"], "look-up"), "pairs, gzip": (paths["few.tsv.gz"], "read"),
        "lists of 32, JSON lines, few rows": (paths["few.jsonl"], "read"),
        "lists of 32, JSON lines, many rows": (paths["many.jsonl"], "read"),
    }  # fmt: skip
    if size == "full":  # nine million ids are a gigabyte, and take seconds to make
        cases["pairs, ids checked against MS MARCO's numbers"] = paths["few.tsv"], "known"
    return in_turns(cases)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="full")
    add_out(parser)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--what", default="read", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        measure_reading(given.read, given.what)
        return
    with tempfile.TemporaryDirectory() as folder:
        runs = benchmark(Path(folder), given.size)
    out = out_folder(given)
    few, many, held = (runs[f"pairs, {name}"] for name in ("few rows", "many rows", "every row kept"))
    draw(few, many, held[0], out / "bench_score_files.png")
    with (out / "bench_score_files.csv").open("w", newline="") as file:
        table = [row(name, some) for name, some in runs.items()]
        writer = csv.DictWriter(file, table[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    for one in table:
        print(f"{one['what']:46} {one['rows']:>10} rows {one['rows_per_s']:>9} rows/s, peak {one['peak_mib']} MiB")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
