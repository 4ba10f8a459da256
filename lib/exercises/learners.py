"""Write the learners' copies of the notebooks: `python -m lib.exercises.learners [--out folder]`.

The notebooks hold the solutions, in cells tagged `solution`; here each becomes its stub. A copy that is already there
is somebody's work, and stays as it is.
"""

import argparse
import ast
import copy
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lib.machine import store
from lib.study import notebooks

if TYPE_CHECKING:
    from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CHECK = re.compile(r"check\.(\w+)\(\1\)")


def stub(solution: str) -> str:
    """A solution's signature and docstring, with a body that raises NotImplementedError.

    Raises ValueError unless the solution is one function with a docstring.
    """
    body = ast.parse(solution).body
    if len(body) != 1 or not isinstance(body[0], ast.FunctionDef) or ast.get_docstring(body[0]) is None:
        raise ValueError(f"a solution is one function with a docstring, and not:\n{solution}")
    head = solution.splitlines()[: body[0].body[0].end_lineno]
    return "\n".join([*head, f'    raise NotImplementedError("{body[0].name}")'])


def without_solutions(notebook: "NotebookNode") -> "NotebookNode":
    """A copy of a notebook with stubs; a check that fails does not stop the cells after it."""
    made = copy.deepcopy(notebook)
    for cell in made.cells:
        if "solution" in cell.metadata.get("tags", []):
            cell.source = stub(cell.source)
            cell.metadata.tags = [tag for tag in cell.metadata.tags if tag != "solution"]
        elif cell.cell_type == "code" and CHECK.fullmatch(cell.source):
            cell.metadata.tags = [*cell.metadata.get("tags", []), "raises-exception"]
        elif cell.cell_type == "markdown":
            cell.source = cell.source.replace("](PAPERS.md", "](../PAPERS.md")  # copies are in a folder of their own
    return made


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status, 0."""
    import nbformat

    parser = argparse.ArgumentParser(prog="python -m lib.exercises.learners", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=NOTEBOOKS / "learners", help="default: notebooks/learners")
    parser.add_argument("--overwrite", action="store_true", help="replace copies that are there, and all work in them")
    options = parser.parse_args(arguments)
    try:
        store.check_writable(options.out)
    except store.StoreError as error:
        parser.error(str(error))
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        made, to = without_solutions(notebooks.read(path)), options.out / path.name
        if to.exists() and not options.overwrite:
            print(f"{to} is there already and stays as it is")
            continue
        store.replace_file(to, lambda partial, made=made: nbformat.write(made, partial))
        print(f"wrote {to}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
