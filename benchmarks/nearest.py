"""Recall, latency, memory and build time of nearest neighbours over many passages: `python -m benchmarks.nearest`.

`--size tiny` only shows that everything runs.

Synthetic passages: unit vectors around random centres, of 64 latent dimensions in 384, with a little noise in all of
them. Every build and every search is a process of its own, so that its peak memory is its own. Recall is against the
exact index. Real embeddings have other neighbourhoods and other recall; build time and memory carry over.
"""

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np
import pandas as pd
import torch

from benchmarks import add_out, out_folder
from lib.machine import hardware, store
from lib.models import vectors
from lib.models.vectors import Identity, VectorStore
from lib.search import nearest

IDENTITY = Identity("synthetic", "synthetic")
DIM, LATENT, CENTRES, CHUNK = 384, 64, 2_000, 50_000
DEPTHS, QUERIES, SINGLE, BATCH = (10, 100), 1_024, 100, 64
SIZES = {"full": 1_000_000, "tiny": 1_000}  # passages
RESCORED = 4  # times the depth, searched by IVF-PQ before exact inner products order what was found
FACTORIES = {"flat": "Flat", "hnsw": "HNSW16_SQfp16", "ivf_pq": "IVF1024,PQ48"}
EFFORTS = {"flat": [1], "hnsw": [16, 32, 64, 128, 256, 512], "ivf_pq": [1, 4, 16, 64, 256]}
STYLE = {
    ("flat", 0): ("exact", "#111111", "*", "none"),
    ("hnsw", 0): ("HNSW, by efSearch", "#08306b", "o", "-"),
    ("ivf_pq", 0): ("IVF-PQ, by nprobe", "#e6770b", "s", "--"),
    ("ivf_pq", RESCORED): (f"IVF-PQ, {RESCORED}x as deep, rescored from the store", "#777777", "^", ":"),
}


def passages(count: int, seed: int) -> Iterator[np.ndarray]:
    """Chunks of unit vectors, (up to 50,000, 384) float32; seeds share centres."""
    shared = np.random.default_rng(0)
    centres = shared.standard_normal((CENTRES, LATENT), dtype=np.float32)
    spread = shared.standard_normal((LATENT, DIM), dtype=np.float32) / np.sqrt(LATENT)
    for start in range(0, count, CHUNK):
        draw = np.random.default_rng([seed, start])
        size = min(CHUNK, count - start)
        latent = centres[draw.integers(0, CENTRES, size)] + 0.5 * draw.standard_normal((size, LATENT), dtype=np.float32)
        made = latent @ spread + 0.1 * draw.standard_normal((size, DIM), dtype=np.float32)
        yield made / np.linalg.norm(made, axis=1, keepdims=True)


def peak_mib() -> float:
    """Peak resident memory of this process, mapped file pages included."""
    return hardware.peak_bytes() / 2**20


def generate(folder: Path, count: int) -> dict:
    start = time.perf_counter()
    (folder / "vectors").mkdir()
    names = [f"p{number}" for number in range(count)]
    chunks = (chunk[:, None] for chunk in passages(count, 1))
    vectors.write(folder / "vectors", names, chunks, DIM, "float16", IDENTITY)
    return {"seconds": time.perf_counter() - start, "peak": peak_mib()}


def build(folder: Path, kind: str) -> dict:
    start = time.perf_counter()
    nearest.build(VectorStore(folder / "vectors"), IDENTITY, FACTORIES[kind])
    seconds = time.perf_counter() - start
    newest = max(store.data_folder().glob("indexes/*/index.faiss"), key=lambda path: path.stat().st_mtime)
    return {"build_seconds": seconds, "build_peak_mib": peak_mib(), "index_mib": newest.stat().st_size / 2**20}


def search(folder: Path, kind: str, rescored: int) -> dict:
    stored = VectorStore(folder / "vectors")
    index = nearest.build(stored, IDENTITY, FACTORIES[kind])  # it was built by the step before
    queries = next(passages(QUERIES, 2))
    rows = []
    for depth, effort in itertools.product(DEPTHS, EFFORTS[kind]):
        if kind == "hnsw" and effort < depth:
            continue  # a graph holds at least as many candidates as are asked for

        def look(some: np.ndarray, depth: int = depth, effort: int = effort) -> np.ndarray:
            found = nearest.search(index, some, depth * max(rescored, 1), effort=effort)[1]
            return rescore(stored, some, found)[:, :depth] if rescored else found

        # the batches read every page that the single queries then find in memory
        batch, found = timed(look, [queries[start : start + BATCH] for start in range(0, QUERIES, BATCH)])
        single, _ = timed(look, [queries[number : number + 1] for number in range(SINGLE)])
        found = np.concatenate(found)
        if kind == "flat":
            np.save(folder / f"exact_{depth}.npy", found)
        recall = nearest.recall(found, np.load(folder / f"exact_{depth}.npy"), depth)
        row = {"kind": kind, "rescored": rescored, "effort": effort, "depth": depth, "recall": recall}
        rows.append(row | {"single_ms": single, "batch_ms": batch / BATCH})
    return {"rows": rows, "search_peak_mib": peak_mib()}


def rescore(stored: VectorStore, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows (n, depth) in the order of the stored vectors' own inner products, which codes only approximate."""
    scores = np.einsum("nd,nkd->nk", queries, stored.flat[np.maximum(rows, 0)].astype(np.float32))
    order = np.argsort(-np.where(rows < 0, -np.inf, scores), axis=1, kind="stable")
    return np.take_along_axis(rows, order, 1)


def timed(look: Callable[[np.ndarray], np.ndarray], batches: list[np.ndarray]) -> tuple[float, list[np.ndarray]]:
    """Median milliseconds of a call, and what the calls returned."""
    took, found = [], []
    for batch in batches:
        start = time.perf_counter()
        found.append(look(batch))
        took.append(1000 * (time.perf_counter() - start))
    return float(np.median(took)), found


def in_a_process(folder: Path, *step: object) -> dict:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.nearest", "--folder", folder, "--step", json.dumps(step)],
        env=os.environ | {"STUDY_DATA": str(folder / "data")}, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def measure(folder: Path, count: int) -> pd.DataFrame:
    print("passages", in_a_process(folder, "generate", count), flush=True)
    tables = []
    for kind, factory in FACTORIES.items():
        built = in_a_process(folder, "build", kind)
        print(kind, built, flush=True)
        for rescored in (0, RESCORED) if kind == "ivf_pq" else (0,):
            found = in_a_process(folder, "search", kind, rescored)
            table = pd.DataFrame(found.pop("rows")).assign(passages=count, **built, **found)
            tables.append(table.assign(parameters=factory, conditions=conditions()))
            print(table.round(4).to_string(), flush=True)
    return pd.concat(tables, ignore_index=True)


def conditions() -> str:
    return (
        f"{torch.get_num_threads()} thread(s) of an {platform.machine()} processor, faiss {faiss.__version__}, "
        f"torch {torch.__version__}, numpy {np.__version__}, {DIM} dimensions, float16 store"
    )


def draw(table: pd.DataFrame, path: Path) -> None:
    import matplotlib.pyplot as plt  # not in the processes that measure

    figure, panels = plt.subplots(2, 2, figsize=(11, 8), sharey=True, sharex="col", layout="constrained")
    modes = (("single_ms", "one query at a time"), ("batch_ms", f"batches of {BATCH}"))
    for (depth, (column, mode)), axes in zip(itertools.product(DEPTHS, modes), panels.ravel(), strict=True):
        for (kind, rescored), (label, colour, marker, dash) in STYLE.items():
            some = table[(table["kind"] == kind) & (table["rescored"] == rescored) & (table["depth"] == depth)]
            axes.plot(
                some[column], some["recall"], color=colour, marker=marker, linestyle=dash, markersize=7,
                label=f"{label} ({some['index_mib'].iloc[0]:,.0f} MiB)",
            )  # fmt: skip
            for _, row in some[some["kind"] != "flat"].iterrows():
                place = (row[column], row["recall"])
                axes.annotate(
                    f"{row['effort']:.0f}", place, (4, -11), textcoords="offset points", fontsize=7, color=colour
                )
        axes.set(xscale="log", title=f"depth {depth}, {mode}", ylim=(0, 1.04), ylabel=f"recall@{depth}")
        axes.grid(alpha=0.3)
    for axes in panels[1]:
        axes.set_xlabel("latency (ms per query, log scale)")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    asked = f"What does recall cost over {table['passages'].iloc[0]:,} synthetic passages? Index (size of its file):"
    figure.legend(
        handles, labels, loc="outside upper center", ncols=4, fontsize=9, title=asked, title_fontsize=12, frameon=False
    )
    figure.supxlabel(table["conditions"].iloc[0], fontsize=7)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="full")
    add_out(parser)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # these two: one step in a process of its own
    parser.add_argument("--step", type=json.loads, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.step:
        name, *arguments = chosen.step
        steps = {"generate": generate, "build": build, "search": search}
        print(json.dumps(steps[name](chosen.folder, *arguments)))
        return
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        table = measure(Path(folder), SIZES[chosen.size])
    out = out_folder(chosen)
    table.round(4).to_csv(out / "bench_nearest.csv", index=False)
    draw(table, out / "bench_nearest.png")
    print(f"{(time.perf_counter() - start) / 60:.1f} minutes; {conditions()}; written to {out}")


if __name__ == "__main__":
    main()
