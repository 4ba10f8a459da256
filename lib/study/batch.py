"""Run notebooks headless with strict parameters: `python -m lib.study.batch notebooks/*.ipynb -p profile smoke`.

papermill does the work (`lib.study.notebooks`). Relative paths are the caller's, progress is printed in the terminal
and stays out of the executed notebooks, and no signal leaves a kernel behind.
"""

import argparse
import ast
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.machine import outputs, progress, store
from lib.study import notebooks
from lib.study.notebooks import NotebookError, ParameterError

_PLACE = re.compile(r"(^|_)(folder|file|path)s?$")  # a parameter whose name ends so names what is read from disk


class Stopped(KeyboardInterrupt):
    """A signal asked the command to stop; its argument is the signal's number."""


@contextmanager
def _terminal_progress() -> Iterator[None]:
    """Print what kernels say through `lib.machine.progress` while the block runs."""
    with tempfile.NamedTemporaryFile("r", prefix="study-progress-", encoding="utf-8") as file:
        ended = threading.Event()

        def follow() -> None:
            while True:
                last = ended.is_set()
                for line in file:
                    print(f"  {line}", end="", flush=True)
                if last:
                    return
                ended.wait(0.3)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            with _environment(STUDY_PROGRESS=file.name):
                yield
        finally:
            ended.set()
            thread.join()


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Variables that kernels started in the block see."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Raise Stopped at the first signal to end, so that kernels are shut down on the way out; later ones wait for it.

    What the caller ignores, as nohup does with SIGHUP, stays ignored.
    """
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    caught = {number: signal.getsignal(number) for number in signals if signal.getsignal(number) != signal.SIG_IGN}

    def stop(number: int, _: object) -> None:
        for each in caught:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    for number in caught:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in caught.items():
            signal.signal(number, handler)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status: 0 all ran, 1 one failed, 2 a wrong argument, 128 + n: signal n."""
    parser = argparse.ArgumentParser(prog="python -m lib.study.batch", description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=_absolute)
    parser.add_argument("-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--out", type=_absolute, help="folder of the executed notebooks; "
                        "default: <data>/executed/<profile>[/<parameter>=<value>]")  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        given: dict[str, object] = {}
        for name, text in options.parameters:
            if name in given:
                raise ParameterError(f"parameter {name!r}: given twice; give it once")
            given[name] = _value(name, text)
        for notebook in options.notebooks:
            notebooks.check(given, notebook)
        variant = _variant(options.notebooks, given)
        folder = options.out or store.data_folder() / "executed" / variant
        _check_copies(options.notebooks, folder)
    except (ValueError, NotebookError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    root = Path(__file__).parents[2]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    # Kernels work in their notebook's folder: the data folder is the caller's, and lib this one, not an installed copy.
    with _environment(STUDY_DATA=str(store.data_folder()), PYTHONPATH=path):
        return _run_all(options.notebooks, folder, given)


def _variant(chosen: list[Path], given: dict[str, object]) -> str:
    """The folder of executed copies: by profile, which is checked, and by every parameter that is not its default."""
    known = {name: value for notebook in chosen for name, value in notebooks.defaults(notebook).items()}
    if "profile" not in known:
        return "default"
    from lib.study import profiles  # late: it brings torch in, which a misspelt name should not wait for

    profile = {**known, **given}.pop("profile")
    profiles.named(profile)
    changed = {name: value for name, value in given.items() if value != known[name] and name != "profile"}
    return outputs.variant_folder(profile, **changed)


def _check_copies(chosen: list[Path], folder: Path) -> None:
    """Refuse executed copies that would overwrite a notebook or each other."""
    names = [notebook.name for notebook in chosen]
    for notebook in chosen:
        if names.count(notebook.name) > 1:
            raise NotebookError(f"{notebook}: two notebooks have this name; run them one after the other, with --out")
        if (folder / notebook.name).resolve() == notebook.resolve():
            raise NotebookError(f"{notebook}: its executed copy would replace it; give another folder with --out")


def _run_all(chosen: list[Path], folder: Path, given: dict[str, object]) -> int:
    warnings.filterwarnings("ignore", message="Input notebook does not contain")
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it logs is raised as well
    begun = time.perf_counter()
    with _terminal_progress(), _stopped_by_signals():
        for number, notebook in enumerate(chosen, 1):
            start = time.perf_counter()
            try:
                print(f"[{number}/{len(chosen)}] {notebook.name}", flush=True)
                with store.clear_write_errors(folder):
                    notebooks.run(notebook, folder, given)
                print(f"[{number}/{len(chosen)}] {notebook.name} done in "
                      f"{progress.duration(time.perf_counter() - start)}", flush=True)  # fmt: skip
            except (NotebookError, store.StoreError) as error:
                print(f"error: {notebook.name}: {error}{_not_run(chosen[number:])}", file=sys.stderr)
                return 1
            except Stopped as stopped:
                print(f"stopped in {notebook.name}; what was finished is kept{_not_run(chosen[number:])}",
                      file=sys.stderr)  # fmt: skip
                return 128 + stopped.args[0]
    print(f"{len(chosen)} notebooks in {progress.duration(time.perf_counter() - begun)}; executed copies: {folder}")
    return 0


def _not_run(left: list[Path]) -> str:
    return f"; not run: {', '.join(notebook.name for notebook in left)}" if left else ""


def _value(name: str, text: str) -> object:
    """'3' -> 3, '[1, 2]' -> [1, 2], 'smoke' -> 'smoke'; of a parameter that names folders or files, absolute paths."""
    if _PLACE.search(name):
        return ",".join(_place(name, part.strip()) for part in text.split(",") if part.strip())
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _place(name: str, text: str) -> str:
    if re.match(r"[a-z]+:", text):  # hub:<dataset>
        return text
    path, kind = _absolute(text), "folder" if "folder" in name else "file"
    if not (path.is_dir() if kind == "folder" else path.exists()):
        raise ParameterError(f"parameter {name!r}: there is no {kind} {path}")
    return str(path)


def _absolute(text: str) -> Path:
    return Path(text).expanduser().absolute()


if __name__ == "__main__":
    sys.exit(main())
