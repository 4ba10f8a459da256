"""What takes space in the data folder, and what of it no run reads any more: `python -m lib.study.space`.

Unreferenced are: what killed processes left; runs that today's code would name differently (another recipe, other
constants, texts or weights); and whatever was made from a run or a store that is gone. A run whose collection or
backbone is not found, for its disk is not mounted or its path is relative to another folder, is kept and named. Texts
in Arrow, token stores, BM25 indexes, first stages and the hashes of large files are caches of a collection's files,
which `--caches` counts as unreferenced too; they are made again when needed.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from lib.data import collections, first_stage, views
from lib.machine import store
from lib.models import backbone
from lib.study import identity, runs

CACHES = ("texts", "tokens", "bm25", "first_stage", "digests")
OUTDATED = "outdated"


def folders() -> list[Path]:
    """Every folder `data/<kind>/<name>` that the store has made, whole or not, hidden ones too."""
    paths = filter(Path.is_dir, sorted(store.data_folder().glob("*/*")))
    return [path for path in paths if store.is_whole(path) or path.suffix in (".partial", ".new")]


def reviewed(*, caches: bool = False) -> tuple[list[Path], dict[Path, str]]:
    """Folders that no run of today's code reads and no process is building; and runs that cannot be checked -> why."""
    paths = folders()
    whole = set(filter(store.is_whole, paths))
    left = set(filter(store.is_abandoned, set(paths) - whole))
    states = {path: _state(path) for path in sorted(whole) if path.parent.name == "runs"}
    used = {path for path in whole if states.get(path) != OUTDATED}
    size = None
    while size != len(used):  # what was made from something that is gone, and what from that
        size, names = len(used), {f"{path.parent.name}/{path.name}" for path in used}
        used = {path for path in used if names.issuperset(store.manifest(path)["of"])}
    unchecked = {path: why for path, why in states.items() if why and path in used}
    if caches:
        used = {path for path in used if path.parent.name not in CACHES}
    return sorted(left | (whole - used)), unchecked


def _state(run: Path) -> str:
    """OUTDATED if today's code, texts or weights give a run another name, "" if they do not, else why nobody can say.

    Only what is found and differs makes it outdated: training it again may take hours.
    """
    try:
        about = json.loads((run / runs.ABOUT).read_text())
    except (OSError, ValueError):
        return f"{run / runs.ABOUT} is missing or damaged. Delete the folder {run}: it is made again."
    try:
        was = about["identity"]
        then, now = [was["recipe"], was["constants"]], [identity.RECIPE, identity.constants()]
        inputs = [(backbone.fingerprint, about["backbone"], was["model"]["backbone"])]
        if "data" in was:  # a merge has none of its own
            inputs.append((collections.fingerprint, about["collection"], was["data"]["collection"]))
            if "first_stage" in was["data"]:
                then, now = [*then, was["data"]["first_stage"]], [*now, first_stage.identity()]
    except KeyError:  # of an older version
        return OUTDATED
    states = [OUTDATED if store.key(then) != store.key(now) else "", *(_state_of(*one) for one in inputs)]
    return OUTDATED if OUTDATED in states else "; ".join(filter(None, states))


def _state_of(fingerprint: Callable[[str], str], name: str, then: str) -> str:
    """`_state` by one input alone, a collection or a backbone of this name."""
    try:
        if fingerprint(name) == then:
            return ""
    except (OSError, ValueError, RuntimeError) as error:
        return str(error)
    path = Path(views.around_path(name)[1])
    if path.is_dir() and not path.is_absolute():
        what = f"{name!r} in {Path.cwd()} has other content: it has changed, or the run was made in another folder"
        return f"{what}. Call this there, or delete the folder of the run."
    return OUTDATED


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status: 0, or 1 if `--check` found damage."""
    parser = argparse.ArgumentParser(prog="python -m lib.study.space", description=__doc__.splitlines()[0])
    parser.add_argument("--remove", action="store_true", help="remove what is unreferenced")
    parser.add_argument("--caches", action="store_true", help="count texts, tokens, BM25 indexes and first stages so")
    parser.add_argument("--check", action="store_true", help="compare every file with its recorded SHA-256")
    options = parser.parse_args(arguments)
    if options.check:
        lines = [line for path in folders() if store.is_whole(path) for line in store.damage(path)]
        print("\n".join([*lines, f"{len(lines)} damaged files" if lines else "every file is as it was written"]))
        return int(bool(lines))
    old, unchecked = reviewed(caches=options.caches)
    print(store.data_folder(), _table(old).round(1).to_string(index_names=False), sep="\n")
    for why in dict.fromkeys(unchecked.values()):
        names = ", ".join(f"runs/{path.name}" for path, reason in unchecked.items() if reason == why)
        print(f"cannot be checked, so kept: {names}: {why}")
    if options.remove:
        with store.clear_write_errors(store.data_folder()):
            for path in old:
                shutil.rmtree(path)
        for lock in store.data_folder().glob("*/.*.lock"):
            store.remove_free_lock(lock)
        print(f"removed {len(old)} folders")
    return 0


def _table(old: list[Path]) -> pd.DataFrame:
    """One row per kind of folder: how many there are, how large they are, and how much of that is unreferenced."""
    rows = []
    for path in folders():
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 2**20
        rows.append((path.parent.name, 1, size, int(path in old), size * (path in old)))
    columns = ["kind", "folders", "MiB", "unreferenced", "unreferenced MiB"]
    table = pd.DataFrame(rows, columns=columns).groupby("kind").sum()
    table.loc["all"] = table.sum()
    return table.astype({"folders": int, "unreferenced": int})


if __name__ == "__main__":
    try:
        sys.exit(main())
    except store.StoreError as error:
        sys.exit(f"error: {error}")
