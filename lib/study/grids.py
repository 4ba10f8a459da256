"""What a notebook would train and score, found without doing it: its statements run one by one, and nothing computes.

What describes experiments is real: profiles, `vary`, strategies. `Unknown` stands for everything else, and for whatever
is made from it. `complete`, `results` and `best` of `tables`, `runs.complete` and `tuning.tuned` note their arguments.
A choice that depends on results takes one of its ways. A statement that cannot go on is left out, and said where it
would train.
"""

import ast
import contextlib
import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from unittest import mock

from lib.data import collections
from lib.study import notebooks, profiles, tuning
from lib.study.derived import Merged, Pretrained, Snapshot
from lib.study.experiment import Experiment, TestSet, lineage
from lib.study.run import Model, Run, Untrained

REAL = (
    "dataclasses", "itertools", "math", "json", "lib.study.experiment", "lib.study.profiles", "lib.training.settings",
    "lib.training.strategies", "lib.study.tuning", "lib.study.ways", "lib.study.derived",
    "lib.study.run", "torch", "torch.nn.functional", "lib.losses", "lib.losses.margins",
)  # fmt: skip
TRAINING = ("complete", "results", "best", "tuned")


class Unknown:
    """A value that is known only after data were read or models trained; so is whatever is made from it."""

    def __getattr__(self, name: str) -> "Unknown":
        if name.startswith("__"):
            raise AttributeError(name)  # it follows no protocol
        return self

    def _same(self, *_: object, **__: object) -> "Unknown":
        return self

    __call__ = __getitem__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _same
    __rtruediv__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __and__ = __or__ = __invert__ = __neg__ = _same
    __hash__ = object.__hash__
    __iter__ = None  # else Python would ask for item 0, 1, 2 ... without an end

    def __bool__(self) -> bool:
        return False

    def __format__(self, _: str) -> str:
        return "?"


@dataclass
class Grid:
    """What a notebook needs: every run once, with the starts and teachers that it needs, and each scoring once."""

    runs: dict[Run, None] = field(default_factory=dict)
    scorings: dict[tuple[Run, TestSet], None] = field(default_factory=dict)
    notes: int = 0  # how often something was to be trained or scored
    left_out: list[str] = field(default_factory=list)  # statements that train what only results decide

    def note(self, grid: Iterable[Run], tests: Iterable[TestSet] = ()) -> Unknown:
        """Stands for `tables.complete` and `tables.results`."""
        grid, tests = list(grid), list(tests)
        self.notes += 1
        needed = [one for run in grid for one in (lineage(run) or [run])]
        self.runs |= dict.fromkeys(needed)
        self.scorings |= dict.fromkeys((run, test) for run in grid for test in tests)
        return Unknown()

    def note_first(self, grid: Iterable[Run], tests: Iterable[TestSet], _measure: str) -> Run:
        """Stands for `tables.best`, whose choice only results decide: it gives the first."""
        grid = list(grid)
        self.note(grid, tests)
        return grid[0]


class _Tables(Unknown):
    def __init__(self, grid: Grid):
        self.complete = self.results = grid.note
        self.best = grid.note_first


class _Collections(Unknown):
    found = staticmethod(collections.found)


def of_notebook(notebook: Path, parameters: dict[str, object]) -> Grid:
    """The grid of a notebook with these parameters; raises NotebookError where the file is no notebook."""
    grid, unknown = Grid(), Unknown()
    names: dict[str, object] = dict.fromkeys(("print", "display", "open"), unknown)
    with contextlib.ExitStack() as stack:
        tables = _Tables(grid)
        for module in (profiles, tuning):
            stack.enter_context(mock.patch.object(module, "tables", tables))
        stack.enter_context(mock.patch.object(profiles, "backbone", unknown))  # no model is opened
        stack.enter_context(mock.patch.object(TestSet, "candidates", unknown))
        # For these, texts would be built and models fetched.
        named = [(kind, "key") for kind in (Experiment, Untrained, Merged, Pretrained, Snapshot)]
        for kind, name in (*named, (Model, "layer_count")):
            stack.enter_context(mock.patch.object(kind, name, property(lambda _: Unknown())))
        for cell in notebooks.read(notebook).cells:
            if cell.cell_type == "code":
                for statement in _statements(cell.source):
                    _run(statement, names, grid, tables)
                if "parameters" in cell.metadata.get("tags", []):
                    names |= parameters
    return grid


def _statements(source: str) -> Iterator[ast.stmt]:
    with contextlib.suppress(SyntaxError):  # a line for IPython alone
        yield from ast.parse(source).body


def _run(statement: ast.stmt, names: dict[str, object], grid: Grid, tables: _Tables) -> None:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        for alias in statement.names:
            module = getattr(statement, "module", None)
            names[alias.asname or alias.name.split(".")[0]] = _imported(module, alias, tables)
        return
    before = grid.notes
    try:
        exec(compile(ast.Module([statement], []), "<notebook>", "exec"), names)
    except Exception as error:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names[node.id] = Unknown()
        calls = {getattr(node.func, "attr", "") for node in ast.walk(statement) if isinstance(node, ast.Call)}
        if calls & set(TRAINING) and grid.notes == before:
            grid.left_out.append(f"{ast.unparse(statement).splitlines()[0][:100]} ({type(error).__name__}: {error})")


def _imported(module: str | None, alias: ast.alias, tables: _Tables) -> object:
    whole = f"{module}.{alias.name}" if module else alias.name
    if whole in ("lib.study.tables", "lib.study.runs"):
        return tables
    if whole == "lib.data.collections":
        return _Collections()
    if whole in REAL:
        return importlib.import_module(whole)
    found = getattr(importlib.import_module(module), alias.name, Unknown()) if module in REAL else Unknown()
    own = isinstance(found, ModuleType) and found.__name__.startswith("lib.")
    return Unknown() if own else found  # a module of this kit is there or not, as others have imported it
