"""What takes space in the data folder, and what of it nothing can ask for any more: `python -m lib.study.space`.

    python -m lib.study.space            for each kind of folder: how many, how large, how much of it is unreferenced
    python -m lib.study.space --remove   removes what is unreferenced
    python -m lib.study.space --check    reads every file and compares it with its noted SHA-256

Unreferenced are: what killed processes left; runs that the code of today would name otherwise (another recipe, other
constants, texts or weights), and all that was made from a run or a store that is gone. Token stores, indexes of BM25
and first stages are caches of texts: `--remove --caches` removes them too, and they are made again when needed.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from lib.data import collections, first_stage
from lib.machine import store
from lib.models import backbone
from lib.study import identity
from lib.study import runs as study

CACHES = ("tokens", "bm25", "first_stage")


def folders() -> Iterator[Path]:
    """Every folder `data/<kind>/<name>` that the store has made, whole or not, hidden ones too."""
    for kind in sorted(path for path in store.data_folder().glob("*") if path.is_dir()):
        for path in sorted(kind.iterdir()):
            if path.is_dir() and (store.is_whole(path) or path.name.endswith((".partial", ".new"))):
                yield path


def unreferenced(*, caches: bool = False) -> list[Path]:
    """Folders that no run of today's code reads; what another process is building at the moment is none of them."""
    found = {path for path in folders() if not store.is_whole(path) and store.is_abandoned(path)}
    whole = [path for path in folders() if store.is_whole(path)]
    gone = {path for path in whole if path.parent.name == "runs" and _outdated(path)}
    while True:  # what was made from something that is gone, and what from that
        kept = {f"{path.parent.name}/{path.name}" for path in whole if path not in gone}
        more = {path for path in whole if path not in gone and not kept.issuperset(store.manifest(path)["of"])}
        if not more:
            break
        gone |= more
    old = {path for path in whole if caches and path.parent.name in CACHES}
    return sorted(found | gone | old)


def size(path: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())


def _outdated(run: Path) -> bool:
    """Whether today's code, texts and weights would give this run another name."""
    about = json.loads((run / study.ABOUT).read_text())
    named, experiment = about["identity"], about["experiment"]
    now = {"recipe": identity.RECIPE, "constants": identity.constants(), "first_stage": first_stage.identity()}
    try:
        now["collection"] = collections.fingerprint(experiment["collection"])
        now["backbone"] = backbone.fingerprint(experiment["backbone"])
    except (OSError, ValueError, RuntimeError):  # the text or the model is not there any more
        return True
    return any(store.key(named[part]) != store.key(value) for part, value in now.items())


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status: 0, or 1 where `--check` found damage."""
    parser = argparse.ArgumentParser(prog="python -m lib.study.space", description=__doc__.splitlines()[0])
    parser.add_argument("--remove", action="store_true", help="remove what nothing refers to")
    parser.add_argument(
        "--caches", action="store_true", help="count token stores, BM25 indexes and first stages as such"
    )
    parser.add_argument("--check", action="store_true", help="compare every file with its noted SHA-256")
    options = parser.parse_args(arguments)
    if options.check:
        return _check()
    old = set(unreferenced(caches=options.caches))
    _print(old)
    if options.remove:
        for path in old:
            shutil.rmtree(path)
        for lock in store.data_folder().glob("*/.*.lock"):
            store.remove_free_lock(lock)
        print(f"removed {len(old)} folders")
    return 0


def _print(old: set[Path]) -> None:
    print(f"{store.data_folder()}\n{'kind':<20}{'folders':>8}{'MiB':>10}{'unreferenced':>14}{'MiB':>10}")
    rows: dict[str, list[float]] = {}
    for path in folders():
        row = rows.setdefault(path.parent.name, [0, 0, 0, 0])
        bytes_, unread = size(path), path in old
        row[:] = row[0] + 1, row[1] + bytes_, row[2] + unread, row[3] + unread * bytes_
    rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)] or [0, 0, 0, 0]
    for kind, (count, bytes_, unread, unread_bytes) in rows.items():
        print(f"{kind:<20}{count:>8}{bytes_ / 2**20:>10.1f}{unread:>14}{unread_bytes / 2**20:>10.1f}")


def _check() -> int:
    found = [line for path in folders() if store.is_whole(path) for line in store.damage(path)]
    for line in found:
        print(line)
    print(f"{len(found)} damaged files" if found else "every file is as it was written")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
