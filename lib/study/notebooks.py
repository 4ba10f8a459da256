"""One notebook: read and checked before it runs, its parameters strict, its executed copy whole or marked failed."""

import ast
import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbformat import NotebookNode


class ParameterError(ValueError):
    """A parameter is unknown or of the wrong type; the message names it."""


class NotebookError(RuntimeError):
    """A notebook cannot be run, or a cell of it failed; the message names the cell and its error."""


def read(notebook: Path) -> "NotebookNode":
    """A notebook that a Python kernel can run.

    Raises:
        NotebookError: there is no such file, it is no notebook, or it names no Python kernel.
    """
    import nbformat

    if not notebook.is_file():
        raise NotebookError(f"{notebook}: no such notebook")
    try:
        found = nbformat.read(notebook, as_version=4)
        nbformat.validate(found)
        kernel = found.metadata.get("kernelspec", {})
    except Exception as error:  # nbformat raises what it stumbles over
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise NotebookError(f"{notebook}: no readable notebook ({reason}); save it in JupyterLab") from error
    if not kernel.get("language", kernel.get("name", "")).startswith("python"):
        raise NotebookError(f"{notebook}: its metadata name no Python kernel; choose one in JupyterLab and save it")
    return found


def defaults(notebook: Path) -> dict[str, object]:
    """Name -> default value of the notebook's parameters, read from its one cell tagged `parameters`.

    Raises:
        NotebookError: the notebook cannot be run.
        ParameterError: the notebook has no such cell, several, or other statements than `name = literal` in it.
    """
    cells = [cell for cell in read(notebook).cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ParameterError(f"{notebook}: {len(cells)} cells are tagged parameters; there must be one")
    found = {}
    try:
        statements = ast.parse(cells[0].source).body
    except SyntaxError as error:
        raise ParameterError(f"{notebook}: line {error.lineno} of its parameters is no Python: {error.msg}") from error
    for statement in statements:
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
    """Execute one notebook into `folder` and return the executed copy's path; both paths are absolute.

    A failed one is kept as `<name>.failed.ipynb`, with the error at its top.

    Raises:
        NotebookError: a cell failed, or the kernel died.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    done, failed = folder / notebook.name, folder / f"{notebook.stem}.failed.ipynb"
    with _working_copy(notebook, folder) as working:
        try:
            papermill.execute_notebook(
                _plain(notebook), _plain(working), parameters=parameters, progress_bar=False, cwd=notebook.parent,
                kernel_name="python3", extra_arguments=["--log-level=CRITICAL"], start_timeout=300, iopub_timeout=60,
            )  # fmt: skip
        except papermill.PapermillExecutionError as error:
            working.replace(failed)
            raise NotebookError(f"cell {error.exec_count}: {error.ename}: {error.evalue}") from error
        except DeadKernelError as error:
            reason = "the kernel died: most likely memory ran out and the system killed it. Use a smaller profile"
            raise NotebookError(_marked(notebook, working, failed, reason)) from error
        except (CellTimeoutError, RuntimeError) as error:  # RuntimeError: the kernel does not start or answer
            raise NotebookError(_marked(notebook, working, failed, str(error).strip().splitlines()[0])) from error
        working.replace(done)
        failed.unlink(missing_ok=True)
    return done


@contextmanager
def _working_copy(notebook: Path, folder: Path) -> Iterator[Path]:
    """A hidden file in `folder` to execute into, locked while it is in use; those that killed runs left are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f".{_pattern(notebook.stem)}.*.ipynb"):
        with contextlib.suppress(OSError), left.open() as file:  # OSError: in use, or gone
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()
    handle, name = tempfile.mkstemp(prefix=f".{notebook.stem}.", suffix=".ipynb", dir=folder)
    working = Path(name)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        working.chmod(0o644)
        yield working
    finally:
        working.unlink(missing_ok=True)
        os.close(handle)


def _pattern(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)


def _plain(path: Path) -> str:
    """A path as papermill wants it, which reads braces as fields to fill."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _marked(notebook: Path, working: Path, failed: Path, reason: str) -> str:
    """Keep what was executed as `failed`, with the reason at its top, and return the reason with its cell."""
    import nbformat

    found = nbformat.read(working if working.stat().st_size else notebook, as_version=4)
    begun = [
        cell for cell in found.cells
        if cell.cell_type == "code" and cell.metadata.get("papermill", {}).get("start_time")
    ]  # fmt: skip
    said = f"cell {len(begun)}: {reason}" if begun else reason
    found.cells.insert(0, nbformat.v4.new_markdown_cell(f"**Stopped at {said}**"))
    nbformat.write(found, failed)
    return said
