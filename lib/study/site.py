"""The executed notebooks of a study as a site, `python -m lib.study.site laptop`, or as slides, with `--slides`.

nbconvert's exporters do the work, with templates that load nothing from another host (`lib/study/templates`). Formulas
become MathML, which browsers draw by themselves. reveal.js is what the package sphinx-revealjs carries: files that are
copied, of a package that is never imported.
"""

import argparse
import html
import importlib.util
import re
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nbformat
from latex2mathml.converter import convert
from nbconvert import HTMLExporter, SlidesExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

from lib.analysis import style
from lib.machine import digest, store
from lib.study import notebooks
from lib.study.notebooks import NotebookError

TEMPLATES = Path(__file__).parent / "templates"
SOURCES = Path(__file__).parents[2] / "notebooks"
GUIDES = ("README", "PAPERS")  # Markdown beside the notebooks
REVEAL = {  # file of reveal.js 5.2.1 -> SHA-256, which is also that of its package on npm
    "dist/reveal.js": "46538b52db48724192f59bf46f5e851a18e302777c46f4a34c32709d010d6a29",
    "dist/reveal.css": "68f915a11ebf7203c0446576b7e952ff61c5dd02134a8a226ffaf62ed42136d2",
    "dist/theme/serif.css": "39fd52f089ab189264a264db1a7d8d5a501ff6fe0ef23313e28bbb00a3e4e14f",
}


@dataclass(frozen=True)
class Page:
    """A page of the site: an executed notebook, or one whose only cell is a Markdown text."""

    file: str
    notebook: NotebookNode

    @property
    def heading(self) -> tuple[str, str]:
        """'05 Comparison' and 'Does ...?' of '# 05 Comparison: does ...?'; without a colon, '' is the question."""
        title, _, question = self.notebook.cells[0].source.strip("# ").split("\n")[0].partition(": ")
        return title, question[:1].upper() + question[1:]

    @property
    def figure(self) -> NotebookNode | None:
        """The output that has the last figure, since notebooks end with their answer."""
        outputs = [output for cell in self.notebook.cells for output in cell.get("outputs", [])]
        return next((output for output in reversed(outputs) if "image/png" in output.get("data", {})), None)


class Renderer(IPythonRenderer):
    """Markdown as nbconvert renders it, formulas as MathML; links lead to pages of the site or of the web."""

    def __init__(self, files: set[str]):
        super().__init__(escape=False)
        self.files = files

    def inline_math(self, body: str) -> str:
        """A formula in a line."""
        return _formula(body)

    def block_math(self, body: str) -> str:
        """A formula of its own."""
        return _formula(body, display="block")

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """A link; of one to a file that is not in the site, the text."""
        url = re.sub(r"\.(ipynb|md)(?=#|$)", ".html", url)
        ours = url.startswith("#") or url.partition("#")[0] in self.files
        return super().link(text, url, title) if ours or re.match(r"\w+:", url) else text


def _formula(body: str, **options: str) -> str:
    """MathML, or what was written where that is no formula, such as prices in dollars."""
    try:
        return convert(body, xmlns="", **options)  # in headings, nbconvert would turn a namespace into prefixes
    except Exception:  # of many kinds, some without a message
        return f"<code>{html.escape(f'${body}$')}</code>"


def report(profile: str) -> Path:
    """Write the site into `<data>/reports/<profile>` and return its first page; raises NotebookError as `executed`."""
    under = [path.read_text() for path in sorted(style.folder(profile).glob("*_conditions.md"))]
    start = _text("index", "\n\n".join(["# How should a neural ranker be trained?", f"Profile: {profile}.", *under]))
    guides = [_text(name, path.read_text()) for name in GUIDES if (path := SOURCES / f"{name}.md").exists()]
    return _write(HTMLExporter, "site", [start, *executed(profile), *guides], store.data_folder() / "reports" / profile)


def slides(profile: str) -> Path:
    """Write slides into `<data>/slides/<profile>` and return the first file; raises NotebookError as `executed`.

    Also where reveal.js is missing, or is not the version that was tested.
    """
    pages, folder = executed(profile), store.data_folder() / "slides" / profile
    package = importlib.util.find_spec("sphinx_revealjs")
    for name, known in REVEAL.items():
        source = Path(*package.submodule_search_locations, "_static", "revealjs", name) if package else Path(name)
        if not source.exists() or digest.of_file(source) != known:
            raise NotebookError(f"{source}: no such file of reveal.js 5.2.1; `make slides` installs sphinx-revealjs")
        store.replace_file(folder / "reveal" / name, partial(shutil.copyfile, source))
    return _write(SlidesExporter, "slides", pages, folder, reveal_url_prefix="reveal", reveal_theme="serif")


def executed(profile: str) -> list[Page]:
    """The executed notebooks of a profile, in order; raises NotebookError if there is none."""
    folder = store.data_folder() / "executed" / profile
    paths = [path for path in sorted(folder.glob("[0-9]*.ipynb")) if ".failed" not in path.suffixes]
    if not paths:
        raise NotebookError(f"{folder}: no executed notebook; run `make study PROFILE={profile}` first")
    return [Page(f"{path.stem}.html", notebooks.read(path)) for path in paths]


def _text(name: str, text: str) -> Page:
    return Page(f"{name}.html", nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)]))


def _write(kind: type[HTMLExporter], template: str, pages: list[Page], folder: Path, **options: str) -> Path:
    paths = {"extra_template_basedirs": [str(TEMPLATES)], "extra_template_paths": [str(TEMPLATES)]}
    exporter, files = kind(template_name=template, **paths, **options), {page.file for page in pages}
    exporter.register_filter("markdown2html", lambda text: MarkdownWithMath(Renderer(files)).render(text))
    exporter.register_filter("headings", partial(re.findall, r'<h([23]) id="([^"]+)">(.*?)<a class="anchor-link"'))
    for page, before, after in zip(pages, [None, *pages], [*pages[1:], None], strict=False):
        about = {"page": page, "pages": pages[1:], "previous": before, "next": after}
        about["metadata"] = {"name": ": ".join(filter(None, page.heading))}
        text, _ = exporter.from_notebook_node(page.notebook, about)
        store.replace_file(folder / page.file, lambda path, text=text: path.write_text(text, encoding="utf-8"))
    for path in folder.glob("*.html"):
        if path.name not in files:  # of a notebook that has another name now
            path.unlink()
    return folder / pages[0].file


def main() -> int:
    """Write the executed notebooks of a profile as a site, or as slides; returns 0, or 2 after an error."""
    parser = argparse.ArgumentParser(prog="python -m lib.study.site", description=main.__doc__)
    parser.add_argument("profile")
    parser.add_argument("--slides", action="store_const", const=slides, default=report, dest="write")
    options = parser.parse_args()
    try:
        print(options.write(options.profile))
    except (NotebookError, store.StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
