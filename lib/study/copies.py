"""Executed notebooks as Markdown, where a reader on the web sees tables and figures.

`python -m lib.study.copies laptop figures`, which `make figures` calls, writes figures/notebooks. A figure is a link to
the one of the same bytes in figures/, so a copy holds text alone and its differences can be read; what only a browser
with scripts shows, such as the explorer, is left out.
"""

import argparse
import re
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

from lib.machine import store

LIVE = "*(Live in JupyterLab and in the report.)*"


def write(executed: Path, figures: Path, into: Path) -> None:
    """Write a notebook's copy; a figure that `figures` does not hold is left out."""
    known = {path.read_bytes(): path.name for path in figures.glob("*.png")}
    notebook = nbformat.read(executed, 4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _plain_warnings(cell.outputs)
    text, resources = MarkdownExporter().from_notebook_node(notebook)
    text = re.sub(r"<style[^>]*>.*?</style>\n*", "", text, flags=re.DOTALL)
    text = re.sub(r"<iframe.*?</iframe>", LIVE, text, flags=re.DOTALL)
    text = re.sub(r"<p hidden>.*?</p>", "", text, flags=re.DOTALL)
    for file, content in resources["outputs"].items():
        name = known.get(content, "")
        text = re.sub(rf"!\[.*?\]\({re.escape(file)}\)", f"![{Path(name).stem}](../{name})" if name else "", text)
    text = re.sub(r"\]\((\w+)\.ipynb", r"](\1.md", text)
    text = re.sub(r"\]\((README|PAPERS)\.md", r"](../../notebooks/\1.md", text)
    text = re.sub(r"[ \t]+\n", "\n", text)
    said = f"*Executed copy of [notebooks/{executed.name}](../../notebooks/{executed.name}).*\n\n"
    store.replace_file(into, lambda path: path.write_text(said + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"))


def _plain_warnings(outputs: list) -> list:
    """A cell's outputs, each warning once and without its place in a file of the machine."""
    kept, seen = [], set()
    for output in outputs:
        if output.output_type == "stream" and output.name == "stderr":
            found = re.findall(r"^\S+:\d+: (\w*Warning: .*)$", output.text, re.MULTILINE)
            if found and not (found := [one for one in dict.fromkeys(found) if one not in seen]):
                continue
            seen |= set(found)
            output.text = "\n".join(found) + "\n" if found else output.text
        kept.append(output)
    return kept


def main() -> None:
    """Copy the executed notebooks of a profile into a folder of figures."""
    parser = argparse.ArgumentParser(prog="python -m lib.study.copies", description=main.__doc__)
    parser.add_argument("profile")
    parser.add_argument("figures", type=Path, help="the copies go to its folder `notebooks`")
    given = parser.parse_args()
    place, figures = store.data_folder() / "executed" / given.profile, given.figures
    paths = sorted(path for path in place.glob("*.ipynb") if not path.stem.endswith(".failed"))
    if not paths:
        raise SystemExit(f"{place}: no executed notebooks; run `make study PROFILE={given.profile}`")
    try:
        store.check_writable(figures / "notebooks")
    except store.StoreError as error:
        parser.error(str(error))
    for path in paths:
        write(path, figures, figures / "notebooks" / f"{path.stem}.md")


if __name__ == "__main__":
    main()
