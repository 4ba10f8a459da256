"""Rows a second and memory of reading score files, on made files of 1 and 10 million rows.

`python -m tests.bench_score_files [--out folder]` on an idle machine (Linux: memory is read from /proc). Every file is
read by a process of its own, on one thread. Writes bench_score_files.png and .csv into the folder, `figures` if none.
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

from lib import score_files

ROOT = Path(__file__).parents[1]
MILLION = 1_000_000
STYLE = {1: ("#111111", "-", "o"), 10: ("#777777", "--", "s")}  # million rows -> colour, dash, marker


def make_pairs(path: Path, rows: int) -> None:
    """Rows like those of 2010.02666: its numbers of queries and passages, scores with all the digits of a float."""
    draw = np.random.default_rng(0)
    with path.open("w") as file:
        for _ in range(rows // 100_000):
            columns = [draw.normal(5, 4, 100_000), draw.normal(-5, 6, 100_000)]
            columns += [draw.integers(0, most, 100_000) for most in (808_731, 8_841_823, 8_841_823)]
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
        rows = MILLION
    else:
        known = None
        if what == "known":
            known = (set(map(str, range(808_731))), set(map(str, range(8_841_823))))
            before, start = memory("VmRSS"), time.perf_counter()
        kept = []
        for chunk in score_files.read(path, known=known):
            rows += len(chunk)
            kept += [chunk] if what == "keep" else []
            samples.append((rows, memory("VmRSS")))
    seconds = time.perf_counter() - start
    print(json.dumps({"rows": rows, "seconds": seconds, "before": before, "peak": memory("VmHWM"), "samples": samples}))


def measured(path: Path, what: str = "read") -> dict:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.bench_score_files", "--read", str(path), "--what", what]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def draw(runs: dict[int, dict], held: dict, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for millions, run in runs.items():
        colour, dash, marker = STYLE[millions]
        rows, sizes = np.array(run["samples"]).T
        label = f"{millions} million rows: {run['rows'] / run['seconds'] / MILLION:.1f} million rows/s, peak {run['peak']:.0f} MiB"
        axes.plot(
            rows / MILLION, sizes, dash, color=colour, marker=marker, markevery=max(1, len(rows) // 12), label=label
        )
    rows, sizes = np.array(held["samples"]).T
    axes.plot(rows / MILLION, sizes, ":", color="#111111", label="1 million rows, every chunk kept, for comparison")
    axes.set(xlabel="rows read (million)", ylabel="resident memory (MiB)", ylim=(0, None))
    axes.set_title("Reading a teacher-score file takes the same memory whatever its length")
    axes.legend(loc="upper right", frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "figures")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--what", default="read", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        measure_reading(given.read, given.what)
        return
    runs, table = {}, []

    def note(name: str, run: dict, scores: int) -> None:
        rate = run["rows"] / run["seconds"]
        table.append({"what": name, "rows": run["rows"], "rows_per_s": round(rate), "scores_per_s": round(rate * scores),
                      "start_mib": round(run["before"]), "peak_mib": round(run["peak"])})  # fmt: skip
        print(
            f"{name:42} {run['rows']:>10} rows {rate:>10.0f} rows/s, {run['before']:.0f} MiB at start, peak {run['peak']:.0f} MiB"
        )

    with tempfile.TemporaryDirectory() as folder:
        for millions in STYLE:
            path = Path(folder) / f"{millions}.tsv"
            make_pairs(path, millions * MILLION)
            runs[millions] = measured(path)
            note(f"pairs, {path.stat().st_size / 1e6:.0f} MB", runs[millions], 2)
        small, packed, lists = (Path(folder) / name for name in ("1.tsv", "1.tsv.gz", "lists.jsonl"))
        note("pairs, every chunk kept", held := measured(small, "keep"), 2)
        note("pairs, ids checked against MS MARCO's numbers", measured(small, "known"), 2)
        note("pairs, 80,000 pairs looked up", measured(small, "look-up"), 2)
        with small.open("rb") as plain, gzip.open(packed, "wb", compresslevel=6) as file:
            shutil.copyfileobj(plain, file)
        note("pairs, gzip", measured(packed), 2)
        for rows in (30_000, 300_000):
            make_lists(lists, rows)
            note("lists of 32, JSON lines", measured(lists), 32)
    given.out.mkdir(parents=True, exist_ok=True)
    draw(runs, held, given.out / "bench_score_files.png")
    with (given.out / "bench_score_files.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, table[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


if __name__ == "__main__":
    main()
