"""Measurements that no test asserts: speed, memory, recall, and equal histories before and after a change."""

import argparse
from pathlib import Path

from lib.machine import store

ROOT = Path(__file__).parents[1]


def add_out(parser: argparse.ArgumentParser) -> None:
    """Options for where results go: see `out_folder`."""
    parser.add_argument("--out", type=Path, help="folder of the results; default: benchmarks in the data folder")
    parser.add_argument("--publish", action="store_true", help="write into figures/ instead")


def out_folder(chosen: argparse.Namespace) -> Path:
    """The folder that the options name; it exists then."""
    out = ROOT / "figures" if chosen.publish else chosen.out or store.data_folder() / "benchmarks"
    out.mkdir(parents=True, exist_ok=True)
    return out
