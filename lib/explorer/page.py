"""One self-contained page from plain data: style, scripts and data inline, nothing is requested from anywhere.

A notebook shows it as an `<iframe srcdoc>`, whose sandbox lets its scripts run and keeps them away from the notebook.
It is live wherever the notebook's HTML is kept: in JupyterLab when the cell was run there or the notebook is trusted,
and in a page exported by nbconvert. JupyterLab removes it from notebooks that are not trusted: a sentence with the fix
remains.
"""

import html
import json
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from lib.machine import store

if TYPE_CHECKING:
    from IPython.display import HTML

# Panel -> the files of its script; panels are what a page consists of.
PANELS = {
    "documents": ("documents.js",),
    "losses": ("dual.js", "losses.js", "group.js", "gradients.js"),
    "temperature": ("dual.js", "losses.js", "group.js", "temperature.js"),
    "steps": ("steps.js",),
}
HEIGHTS = {"documents": 1120, "losses": 1020, "temperature": 810, "steps": 600}  # pixels, in a notebook's width
UNTRUSTED = (
    "The explorer is not shown because this notebook is not trusted. Run the cell, or the command "
    "“Trust Notebook” (or <code>jupyter trust</code>) and open the notebook again."
)


def build(title: str, **panels: object) -> str:
    """The HTML of a page with these panels, in this order; each is given its data, which must be JSON.

    Raises ValueError for a panel that does not exist, for numbers that are not finite, and without any panel.
    """
    if not panels or (unknown := panels.keys() - PANELS.keys()):
        wrong = f"no panel {sorted(unknown)[0]!r}" if panels else "no panel is given"
        raise ValueError(f"{wrong}; give some of {', '.join(PANELS)}")
    scripts = dict.fromkeys(["page.js", *(file for panel in panels for file in PANELS[panel])])
    parts = {"style": _asset("page.css"), "scripts": "\n".join(map(_asset, scripts))}
    return Template(_asset("page.html")).substitute(title=html.escape(title), data=_inline(panels), **parts)


def frame(page: str, *, title: str, height: int) -> str:
    """The HTML that shows a page inside another one; `height` in pixels."""
    inner = html.escape(page)
    look = f"width: 100%; height: {height}px; border: 1px solid #767676"
    # JupyterLab takes both the frame and `hidden` away from a notebook that is not trusted, so the sentence appears.
    return (
        f'<div><iframe title="{html.escape(title)}" sandbox="allow-scripts" style="{look}" srcdoc="{inner}"></iframe>'
        f"<p hidden>{UNTRUSTED}</p></div>"
    )


def show(title: str, **panels: object) -> "HTML":
    """A page for a notebook to display, its panels as in `build`."""
    from IPython.display import HTML

    return HTML(frame(build(title, **panels), title=title, height=sum(HEIGHTS[panel] for panel in panels)))


def write(page: str, file: Path) -> Path:
    """Write a page into a file, whole, to be opened in any browser."""
    store.replace_file(file, lambda path: path.write_text(page, encoding="utf-8"))
    return file


def _inline(data: Mapping[str, object]) -> str:
    """JSON that may stand inside a script element: no text in it can end the element or begin a comment."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
