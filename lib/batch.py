"""Run notebooks headless with strict parameters: `python -m lib.batch notebooks/*.ipynb -p profile smoke`.

papermill does the work. Added here: a misspelt or ill-typed parameter is an error before anything runs, progress is
printed in the terminal and stays out of the executed notebooks, and an executed notebook is whole or marked failed.
"""

import argparse
import ast
import os
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import progress, store


class ParameterError(ValueError):
    """A parameter is unknown or of the wrong type; the message names it."""


class NotebookError(RuntimeError):
    """A cell of a notebook failed; the message names the cell and its error."""


def defaults(notebook: Path) -> dict[str, object]:
    """Name -> default value of the notebook's parameters, read from its one cell tagged `parameters`.

    Raises:
        ParameterError: the notebook has no such cell, several, or other statements than `name = literal` in it.
    """
    import nbformat

    cells = [
        cell for cell in nbformat.read(notebook, as_version=4).cells
        if "parameters" in cell.metadata.get("tags", [])
    ]  # fmt: skip
    if len(cells) != 1:
        raise ParameterError(f"{notebook}: {len(cells)} cells are tagged parameters; there must be one")
    found = {}
    for statement in ast.parse(cells[0].source).body:
        try:
            (target,) = statement.targets
            found[target.id] = ast.literal_eval(statement.value)
        except (AttributeError, ValueError) as error:
            raise ParameterError(
                f"{notebook}: line {statement.lineno} of its parameters is no `name = literal`"
            ) from error
    return found


def check(given: dict[str, object], notebook: Path) -> None:
    """Compare parameters with a notebook's own.

    Raises:
        ParameterError: the notebook has no parameter of that name, or its default has another type.
    """
    known = defaults(notebook)
    for name, value in given.items():
        if name not in known:
            raise ParameterError(
                f"parameter {name!r}: {notebook.name} has none of that name; it has {', '.join(known)}"
            )
        kind = type(known[name])
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise ParameterError(
                f"parameter {name!r}: {value!r} is {type(value).__name__}; {notebook.name} takes {kind.__name__}"
            )


def run(notebook: Path, folder: Path, parameters: dict[str, object]) -> Path:
    """Execute one notebook into `folder` and return the executed copy's path.

    A failed one is kept as `<name>.failed.ipynb`, with the error at its top.

    Raises:
        NotebookError: a cell failed.
    """
    import papermill

    done, failed = folder / notebook.name, folder / f"{notebook.stem}.failed.ipynb"
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{notebook.stem}.", suffix=".ipynb", dir=folder)
    os.close(handle)
    working = Path(name)
    working.chmod(0o644)
    try:
        papermill.execute_notebook(
            notebook,
            working,
            parameters=parameters,
            progress_bar=False,
            cwd=notebook.parent,
            kernel_name="python3",
            extra_arguments=["--log-level=ERROR"],
        )
        working.replace(done)
        failed.unlink(missing_ok=True)
    except papermill.PapermillExecutionError as error:
        working.replace(failed)
        raise NotebookError(f"cell {error.exec_count}: {error.ename}: {error.evalue}") from error
    finally:
        working.unlink(missing_ok=True)
    return done


@contextmanager
def _terminal_progress() -> Iterator[None]:
    """Print what kernels say through `lib.progress` while the block runs."""
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

        os.environ["STUDY_PROGRESS"] = file.name
        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            del os.environ["STUDY_PROGRESS"]


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status: 0 all ran, 1 one failed, 2 a wrong argument."""
    parser = argparse.ArgumentParser(prog="python -m lib.batch", description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--out", type=Path, help="folder of the executed notebooks; default: <data>/executed/<profile>")
    options = parser.parse_args(arguments)
    given = {name: _literal(value) for name, value in options.parameters}
    try:
        for notebook in options.notebooks:
            if not notebook.is_file():
                raise ParameterError(f"{notebook}: no such notebook")
            check(given, notebook)
        if "profile" in given:
            from lib import profiles  # late: it brings torch in, which a misspelt name should not wait for

            profiles.named(given["profile"])
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    profile = given.get("profile", defaults(options.notebooks[0]).get("profile", "default"))
    folder = options.out or store.data_folder() / "executed" / str(profile)
    return _run_all(options.notebooks, folder, given)


def _run_all(notebooks: list[Path], folder: Path, given: dict[str, object]) -> int:
    warnings.filterwarnings("ignore", message="Input notebook does not contain")
    begun = time.perf_counter()
    with _terminal_progress():
        for number, notebook in enumerate(notebooks, 1):
            print(f"[{number}/{len(notebooks)}] {notebook.name}", flush=True)
            start = time.perf_counter()
            try:
                with store.clear_write_errors(folder):
                    run(notebook, folder, given)
            except (NotebookError, store.StoreError) as error:
                print(f"error: {notebook.name}: {error}", file=sys.stderr)
                return 1
            except KeyboardInterrupt:
                print(f"interrupted in {notebook.name}; what was finished is kept", file=sys.stderr)
                return 130
            print(f"[{number}/{len(notebooks)}] {notebook.name} done in "
                  f"{progress.duration(time.perf_counter() - start)}", flush=True)  # fmt: skip
    print(f"{len(notebooks)} notebooks in {progress.duration(time.perf_counter() - begun)}; executed copies: {folder}")
    return 0


def _literal(text: str) -> object:
    """'3' -> 3, '[1, 2]' -> [1, 2], 'smoke' -> 'smoke'."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


if __name__ == "__main__":
    sys.exit(main())
