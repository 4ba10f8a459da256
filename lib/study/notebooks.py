"""One notebook: checked before it runs, its parameters strict, its executed copy whole or marked as failed."""

import ast
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lib.machine import digest, store

if TYPE_CHECKING:
    from nbformat import NotebookNode


KEY = "study"  # in an executed copy's metadata: its `key`
TIMES = "times.json"  # what notebooks took, beside their executed copies; read by `lib.study.forecast`


class NotebookError(RuntimeError):
    """A notebook cannot be run, or a cell of it failed; the message names the cell and its error."""


def read(notebook: Path) -> "NotebookNode":
    """A notebook that a Python kernel can run; raises NotebookError where the file is none."""
    import nbformat

    if not notebook.is_file():
        raise NotebookError(f"{notebook}: no such notebook")
    try:
        content = nbformat.read(notebook, as_version=4)
        nbformat.validate(content)
        kernel = content.metadata.get("kernelspec", {})
    except Exception as error:  # nbformat passes on errors of many kinds
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise NotebookError(f"{notebook}: no readable notebook ({reason}); save it in JupyterLab") from error
    if not kernel.get("language", kernel.get("name", "")).startswith("python"):
        raise NotebookError(f"{notebook}: its metadata name no Python kernel; choose one in JupyterLab and save it")
    return content


def defaults(notebook: Path) -> dict[str, object]:
    """Name -> default value of the notebook's parameters, read from its one cell tagged `parameters`.

    Raises NotebookError as `read`, and ValueError unless there is one such cell, of `name = literal` alone.
    """
    cells = [cell for cell in read(notebook).cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ValueError(f"{notebook}: {len(cells)} cells are tagged parameters; there must be one")
    values, line = {}, 0
    try:
        for statement in ast.parse(cells[0].source).body:
            line = statement.lineno
            (target,) = statement.targets
            values[target.id] = ast.literal_eval(statement.value)
    except SyntaxError as error:
        raise ValueError(f"{notebook}: line {error.lineno} of its parameters is no Python: {error.msg}") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{notebook}: line {line} of its parameters is no `name = literal`") from error
    return values


def check(parameters: dict[str, object], notebook: Path) -> None:
    """Raise ValueError if the notebook has no parameter of a name, or its default has another type."""
    known = defaults(notebook)
    for name, value in parameters.items():
        if name not in known:
            raise ValueError(f"parameter {name!r}: {notebook.name} has none of that name; it has {', '.join(known)}")
        given, kind = type(value), type(known[name])
        if given is not kind and (given, kind) != (int, float):
            reason = f"{value!r} is {given.__name__}; {notebook.name} takes {kind.__name__}"
            raise ValueError(f"parameter {name!r}: {reason}")


def run(notebook: Path, folder: Path, parameters: dict[str, object]) -> Path:
    """Execute one notebook and return its copy in `folder`, which is written at the end; both paths are absolute.

    If a cell fails or the kernel dies, raises NotebookError; the copy is `<name>.failed.ipynb`, the error at its top.
    """
    import papermill
    from traitlets.config import Config

    done, failed = folder / notebook.name, folder / f"{notebook.stem}.failed.ipynb"
    of = key(notebook, parameters)  # now: either may be edited while it runs
    store.check_writable(folder)  # now, and not after hours of work
    with tempfile.TemporaryDirectory(prefix="study-notebook-") as scratch:
        working = Path(scratch, notebook.name)
        # Kernels that start at once would choose one port: sockets are files, whose paths must stay below 100 letters.
        sockets = Config(KernelManager={"transport": "ipc", "ip": str(Path(scratch, "kernel"))})
        try:
            papermill.execute_notebook(
                _escaped(notebook), _escaped(working), parameters=parameters, progress_bar=False, cwd=notebook.parent,
                kernel_name="python3", extra_arguments=["--log-level=CRITICAL"], start_timeout=300, iopub_timeout=60,
                config=sockets,
            )  # fmt: skip
        except papermill.PapermillExecutionError as error:  # it has written the error at the top
            store.replace_file(failed, lambda path: shutil.copyfile(working, path))
            raise NotebookError(f"cell {error.exec_count}: {error.ename}: {error.evalue}") from error
        except (RuntimeError, TimeoutError) as error:  # the kernel does not start, does not answer, or died
            raise NotebookError(_explain(error, working if working.exists() else notebook, failed)) from error
        executed = json.loads(working.read_text())
        executed["metadata"][KEY] = of
        text = json.dumps(executed, indent=1, ensure_ascii=False) + "\n"
        store.replace_file(done, lambda path: path.write_text(text, encoding="utf-8"))
        failed.unlink(missing_ok=True)
    return done


def key(notebook: Path, parameters: dict[str, object]) -> str:
    """What an executed copy is of: the notebook's cells, the values of all its parameters, and the content of `lib`."""
    library = Path(__file__).parents[1]
    cells = [[cell.cell_type, cell.source] for cell in read(notebook).cells]
    return store.key(cells, defaults(notebook) | parameters, digest.of_files(library, library.rglob("*.py")))


def is_done(notebook: Path, folder: Path, parameters: dict[str, object]) -> bool:
    """Whether `folder` holds an executed copy with today's `key`; a broken one is none."""
    try:
        made = json.loads((folder / notebook.name).read_text())["metadata"][KEY]
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return made == key(notebook, parameters)


def record(folder: Path, taken: dict[str, float]) -> None:
    """Keep the seconds that notebooks took, by name, beside their executed copies: when first run, and when last.

    A damaged file is begun anew, since what it says is worth less than the notebooks that are still to run.
    """
    path, before = folder / TIMES, {}
    try:
        if path.exists():
            before = {name: {"first": value["first"], "last": value["last"]}
                      for name, value in json.loads(path.read_text()).items()}  # fmt: skip
    except (ValueError, LookupError, TypeError, AttributeError):
        print(f"{path} is damaged: it is begun anew", file=sys.stderr, flush=True)
    kept = {name: {"first": before.get(name, {}).get("first", value), "last": value} for name, value in taken.items()}
    store.replace_file(path, lambda into: into.write_text(json.dumps({**before, **kept}, indent=1)))


def _escaped(path: Path) -> str:
    """A path for papermill, which reads braces as fields to fill."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _explain(error: Exception, executed: Path, failed: Path) -> str:
    """Copy what was executed to `failed`, with the cell and the reason at its top, and return these."""
    import nbformat
    from nbclient.exceptions import DeadKernelError

    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, DeadKernelError):
        reason = "the kernel died: most likely memory ran out and the system killed it. Use a smaller profile"
    content = nbformat.read(executed, as_version=4)
    timings = [cell.metadata.get("papermill", {}) for cell in content.cells if cell.cell_type == "code"]
    if started := sum(bool(timing.get("start_time")) for timing in timings):
        reason = f"cell {started}: {reason}"
    content.cells.insert(0, nbformat.v4.new_markdown_cell(f"**Stopped at {reason}**"))
    store.replace_file(failed, lambda path: nbformat.write(content, path))
    return reason
