"""Run notebooks headless with strict parameters: `python -m lib.study.batch notebooks/*.ipynb -p profile smoke`.

papermill does the work (`lib.study.notebooks`), one notebook after another or, with `--engine`, on several machines
(`lib.study.engines`). Relative paths are the caller's, progress is printed in the terminal and stays out of the
executed notebooks, and no signal leaves a kernel behind.
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
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lib.machine import outputs, progress, store
from lib.study import engines, notebooks
from lib.study.notebooks import NotebookError

if TYPE_CHECKING:
    from lib.study.ahead import Pool


class Stopped(KeyboardInterrupt):
    """A signal asked the command to stop; its argument is the signal's number."""


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status: 0 all ran, 1 one failed, 2 a wrong argument, 128 + n: signal n."""
    parser = argparse.ArgumentParser(prog="python -m lib.study.batch", description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=_absolute)
    parser.add_argument("-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--out", type=_absolute, help="folder of the executed notebooks; "
                        "default: <data>/executed/<profile>[/<parameter>=<value>]")  # fmt: skip
    parser.add_argument("--missing", action="store_true", help="leave out notebooks whose executed copy has the same "
                        "notebook, parameters and lib")  # fmt: skip
    parser.add_argument("--engine", default="here", choices=engines.NAMES, help="here: one after another; ray, "
                        "submitit: each notebook a task of its own")  # fmt: skip
    parser.add_argument("--processes", type=int, help="how many train and score what a notebook needs, before "
                        "it runs; default: one for each thread of torch, at most 4")  # fmt: skip
    for name, default, text in (("cpus", 1, "processors of a task"),
                                ("gpus", 0.0, "accelerators of a task, on Ray also a part of one"),
                                ("retries", 0, "how often a notebook that failed is run again")):  # fmt: skip
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{text}; default: {default:g}")
    parser.add_argument("-s", dest="submitit", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                        help="a parameter of submitit's executor, such as slurm_partition gpu")  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        parameters: dict[str, object] = {}
        for name, text in options.parameters:
            if name in parameters:
                raise ValueError(f"parameter {name!r}: given twice; give it once")
            parameters[name] = _value(name, text)
        for notebook in options.notebooks:
            notebooks.check(parameters, notebook)
        variant = _variant(options.notebooks, parameters)
        folder = options.out or store.data_folder() / "executed" / variant
        _check_copies(options.notebooks, folder)
        resources = engines.Resources(
            options.cpus, options.gpus, options.retries, {name: _value(name, text) for name, text in options.submitit}
        )
        _check_engine(options.engine, resources, options.processes)
        engines.package(options.engine)
    except (ValueError, NotebookError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    chosen = options.notebooks
    if options.missing:
        chosen = [notebook for notebook in chosen if not notebooks.is_done(notebook, folder, parameters)]
        print(f"{len(options.notebooks) - len(chosen)} of {len(options.notebooks)} notebooks are executed already")
    try:
        return _run_all(chosen, folder, parameters, options.engine, resources, options.processes)
    except ValueError as error:  # the engine cannot give what a task asks for
        print(f"error: {error}", file=sys.stderr)
        return 2


def _value(name: str, text: str) -> object:
    """'3' -> 3, '[1, 2]' -> [1, 2], 'smoke' -> 'smoke'; paths of collections and runs become absolute."""
    if name == "folders":
        return ",".join(_folder(part.strip()) for part in text.split(",") if part.strip())
    if name in ("sets", "target"):
        return re.sub(r"[^,;|]+", lambda part: _of_caller(part[0]), text)
    with suppress(ValueError, SyntaxError, TypeError):
        return ast.literal_eval(text)
    return text


def _folder(text: str) -> str:
    """A folder as an absolute one; a dataset of the hub, or a view of a named collection, stays."""
    from lib.data import views  # late: it takes half a second

    before, path, after = views.around_path(text)
    if path and _absolute(path).is_dir():
        return f"{before}{_absolute(path)}{after}"
    if not before and not path.startswith("ir:"):
        raise ValueError(f"parameter 'folders': there is no folder {_absolute(path)}")
    return text


def _of_caller(part: str) -> str:
    """A path of the caller's folder as an absolute one; a name, such as that of a collection, stays."""
    from lib.data import views  # late: it takes half a second

    before, path, after = views.around_path(part)
    return f"{before}{_absolute(path)}{after}" if "/" in path and _absolute(path).exists() else part


def _absolute(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _check_engine(engine: str, resources: engines.Resources, processes: int | None) -> None:
    """Refuse what an engine would not heed."""
    if processes is not None and (engine != "here" or processes < 1):
        raise ValueError("--processes: give a whole number from 1 on, and no --engine")
    if engine == "here" and (resources.cpus, resources.gpus) != (1, 0):
        raise ValueError("--cpus, --gpus: a notebook that runs here has the whole machine; give --engine too")
    if engine != "submitit" and resources.submitit:
        raise ValueError(f"-s {next(iter(resources.submitit))}: for submitit alone; give --engine submitit")


def _variant(chosen: list[Path], parameters: dict[str, object]) -> str:
    """The subfolder of executed copies, by the profile, which is checked, and the parameters that are not defaults."""
    known = {name: value for notebook in chosen for name, value in notebooks.defaults(notebook).items()}
    if "profile" not in known:
        return "default"
    from lib.study import profiles  # late: it brings torch in, which a misspelt name should not wait for

    changed = {name: value for name, value in parameters.items() if value != known[name]}
    profile = changed.pop("profile", known["profile"])
    profiles.named(profile)
    return outputs.variant_folder(profile, **changed)


def _check_copies(chosen: list[Path], folder: Path) -> None:
    """Refuse executed copies that would overwrite a notebook or each other."""
    for notebook in chosen:
        if sum(other.name == notebook.name for other in chosen) > 1:
            raise NotebookError(f"{notebook}: two notebooks have this name; run them one after the other, with --out")
        if (folder / notebook.name).resolve() == notebook.resolve():
            raise NotebookError(f"{notebook}: its executed copy would replace it; give another folder with --out")


@contextmanager
def _kernel_environment() -> Iterator[None]:
    """What kernels started in the block see: the caller's data folder, this `lib`, and where progress is printed.

    They work in their notebook's folder, and another copy of `lib` may be the installed one.
    """
    before, path = dict(os.environ), [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    with tempfile.TemporaryDirectory(prefix="study-batch-") as folder:
        pipe = Path(folder, "progress")
        os.mkfifo(pipe)
        printer = threading.Thread(target=_print_lines, args=(pipe,), daemon=True)
        printer.start()
        with pipe.open("w"):  # as long as one writer has it open, the printer goes on
            os.environ |= {"STUDY_DATA": str(store.data_folder()), "STUDY_PROGRESS": str(pipe),
                           "PYTHONPATH": os.pathsep.join(filter(None, path))}  # fmt: skip
            try:
                yield
            finally:
                os.environ.clear()
                os.environ.update(before)
        printer.join()


def _print_lines(pipe: Path) -> None:
    with pipe.open(encoding="utf-8") as lines:
        for line in lines:
            with suppress(OSError):  # nobody reads what is printed, as after `| head`; kernels still write
                print(f"  {line}", end="", flush=True)


def execute(
    notebook: Path, folder: Path, parameters: dict[str, object], pool: "Pool | None" = None
) -> None:  # fmt: skip
    """The task of a batch: run one notebook; raises NotebookError or StoreError.

    The processes of a pool train and score before it what it needs (`lib.study.ahead`).
    """
    warnings.filterwarnings("ignore", message="Input notebook does not contain")
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it logs is raised as well
    print(f"running {notebook.name}", flush=True)
    if pool:
        from lib.study import ahead  # late: it brings torch in

        ahead.complete(notebook, parameters, pool)
    with _kernel_environment(), store.clear_write_errors(folder):
        notebooks.run(notebook, folder, parameters)


@contextmanager
def _pool(count: int | None, engine: str) -> Iterator["Pool | None"]:
    """Processes that work ahead of notebooks which run here; None for one."""
    if engine == "here" and count != 1:
        from lib.study import ahead  # late: it brings torch in

        if (count := count or ahead.processes()) > 1:
            with ahead.pool(count) as pool:
                yield pool
            return
    yield None


def _run_all(
    chosen: list[Path], folder: Path, parameters: dict[str, object], engine: str, resources: engines.Resources,
    processes: int | None,
) -> int:  # fmt: skip
    profile = chosen and parameters.get("profile", notebooks.defaults(chosen[0]).get("profile"))
    if profile and len(chosen) > 1:
        from lib.study import forecast  # late: it brings torch in

        forecast.announce(profile, [notebook.stem for notebook in chosen])
    begin, failed, left = time.perf_counter(), [], list(chosen)
    try:
        with _pool(processes if profile else 1, engine) as pool:
            work = partial(execute, pool=pool) if pool else execute
            tasks = [(notebook, folder, parameters) for notebook in chosen]
            for (notebook, *_), outcome in engines.each(engine, work, tasks, resources):
                left.remove(notebook)
                title = f"[{len(chosen) - len(left)}/{len(chosen)}] {notebook.name}"
                if outcome.error:
                    failed.append(notebook)
                    print(f"error: {notebook.name}: {outcome.error}", file=sys.stderr, flush=True)
                else:
                    print(f"{title} done in {progress.duration(outcome.seconds)}", flush=True)
                    if profile:
                        notebooks.record(folder, {notebook.stem: outcome.seconds})
    except Stopped as stopped:
        where = f"in {left.pop(0).name}" if engine == "here" else f"with {engine}"
        not_run = f"; not run: {', '.join(path.name for path in left)}" if left else ""
        print(f"stopped {where}; what was finished is kept{not_run}", file=sys.stderr)
        return 128 + stopped.args[0]
    done = f"{len(chosen) - len(failed)} of {len(chosen)} notebooks" if failed else f"{len(chosen)} notebooks"
    print(f"{done} in {progress.duration(time.perf_counter() - begin)}; executed copies: {folder}")
    if failed and len(chosen) > 1:
        names = ", ".join(path.name for path in failed)
        print(f"failed: {names}; with --missing only these run again", file=sys.stderr)
    return bool(failed)


def _stop_at_signals() -> None:
    """Raise Stopped at the first signal to end, so that kernels are shut down on the way out; ignore later ones.

    What the caller ignores, as nohup does with SIGHUP, stays ignored.
    """
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
               if signal.getsignal(number) != signal.SIG_IGN]  # fmt: skip

    def stop(number: int, _: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        logging.getLogger("asyncio").disabled = True  # a kernel's last task may tell that the kernel has died
        raise Stopped(number)

    for number in numbers:
        signal.signal(number, stop)


if __name__ == "__main__":
    _stop_at_signals()
    try:
        sys.exit(main())
    except Stopped as stopped:  # before the first notebook
        sys.exit(128 + stopped.args[0])
    except BrokenPipeError:  # as after `| head`: what was finished is kept
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
