"""The site and the slides of executed notebooks: what they contain, and in a browser that nothing is requested."""

import html
import importlib.util
import os
import re
import sys
import tomllib
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from latex2mathml.converter import convert
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lib.analysis import style
from lib.explorer import content, page
from lib.study import site
from lib.study.notebooks import NotebookError
from tests.test_explorer import GROUP, is_live

ROOT = Path(__file__).parents[1]
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
NOTED = {"parameters": {"profile": "smoke"}, "end_time": "2026-01-02T03:04:05", "duration": 61.4}


def shown(answer):
    """The output of a cell that shows what a notebook's last line returned."""
    data, metadata = answer._repr_mimebundle_()
    return new_output("execute_result", data, metadata=metadata, execution_count=1)


def figure(name):
    drawn, (axes,) = style.panels(width=2, height=2)
    axes.plot([0, 1], label='"a" & <b>')
    return style.save(style.finish(drawn, "Which way?", x="step", y="loss"), name, "smoke")


@pytest.fixture
def executed(data_folder, tmp_path, monkeypatch):
    """A data folder with a study of three executed notebooks, one of which failed once; and Markdown beside them."""
    folder = data_folder / "executed" / "smoke"
    folder.mkdir(parents=True)
    frame = page.show("Explorer", temperature=content.group(**GROUP)).data
    first = [
        new_markdown_cell("# 00 Start: what is $s_0 < 1$?\n\nSee [data](01_data.ipynb#Part-two), [this](../lib/x.py),\n"
                          "[a paper](https://arxiv.org/abs/2010.02666).\n\n$$L = \\frac1n \\sum_j s_j$$"),
        new_code_cell("profile = 'smoke'", metadata={"tags": ["injected-parameters"]}),
        new_code_cell("plot()", outputs=[shown(figure("00_a")), shown(figure("00_b"))]),
    ]  # fmt: skip
    second = [
        new_markdown_cell("# 01 Data: is it sound?", metadata={"slideshow": {"slide_type": "slide"}}),
        new_markdown_cell("## Part *two*", metadata={"slideshow": {"slide_type": "slide"}}),
        new_code_cell("table()", outputs=[new_output("display_data", {"text/html": "<b>A table</b>"})],
                      metadata={"slideshow": {"slide_type": "fragment"}}),
        new_code_cell("skipped()", metadata={"slideshow": {"slide_type": "skip"}}),
        new_code_cell("compare()", outputs=[new_output("stream", text="It is 0.5.")], id="predict-1-answer",
                      metadata={"slideshow": {"slide_type": "fragment"}}),
    ]  # fmt: skip
    third = [new_markdown_cell("# 02 Explorer: live?"), new_code_cell("show()", outputs=[
        new_output("display_data", {"text/html": frame})])]  # fmt: skip
    for name, cells in (("00_start", first), ("01_data", second), ("02_explorer", third), ("01_data.failed", third)):
        nbformat.write(new_notebook(cells=cells, metadata={**KERNEL, "papermill": NOTED}), folder / f"{name}.ipynb")
    monkeypatch.setattr(site, "SOURCES", tmp_path)
    (tmp_path / "README.md").write_text("# A guide\n\nBegin with [data](01_data.ipynb); see [papers](PAPERS.md).\n")
    style.save_text("Computed with: two threads.", "05_conditions", "smoke")
    return folder


class Elements(HTMLParser):
    """Every element of a page as (tag, attributes)."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def all(self, tag, attribute):
        return [attributes.get(attribute) for name, attributes in self.found if name == tag]


def test_the_site_has_an_index_and_every_page_leads_to_the_next(executed):
    (stale := executed.parents[1] / "reports" / "smoke" / "old.html").parent.mkdir(parents=True)
    stale.write_text("of a notebook that has another name now")
    first = site.report("smoke")
    order = ["index.html", "00_start.html", "01_data.html", "02_explorer.html", "README.html"]
    assert {path.name for path in first.parent.iterdir()} == set(order) and first.name == "index.html"
    for place, name in enumerate(order):
        elements = Elements((first.parent / name).read_text())
        turns = {(attributes["rel"], attributes["href"]) for _, attributes in elements.found if "rel" in attributes}
        around = {"prev": order[place - 1] if place else None, "next": (*order, None)[place + 1]}
        assert turns == {(rel, file) for rel, file in around.items() if file}
        links = elements.all("a", "href")
        files = {link.partition("#")[0] for link in links if not re.match(r"\w+:", link)} - {""}
        assert files <= set(order), "a link that leads nowhere"
        places = {attributes["id"] for _, attributes in elements.found if attributes.get("id")}
        assert {link[1:] for link in links if link.startswith("#")} <= places


def test_the_index_has_title_question_figure_and_conditions(executed):
    text = site.report("smoke").read_text()
    said = " ".join(re.sub(r"<[^>]*>", " ", re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)).split())
    for part in ("00 Start What is", "Is it sound?", "profile smoke, executed 2026-01-02 in 61 s", "A guide",
                 "Profile: smoke.", "Computed with: two threads."):  # fmt: skip
        assert part in said
    assert Elements(text).all("img", "alt") == ['Which way? Horizontal: step. Vertical: loss. Legend: "a" & <b>.']


def test_a_page_has_contents_formulas_links_and_alternative_texts(executed):
    folder = site.report("smoke").parent
    text = (folder / "00_start.html").read_text()
    elements = Elements(text)
    alternatives = elements.all("img", "alt")
    assert len(alternatives) == 2 and all(one.startswith("Which way?") for one in alternatives)
    assert "01_data.html#Part-two" in elements.all("a", "href") and "[this]" not in text and "x.py" not in text
    assert "https://arxiv.org/abs/2010.02666" in elements.all("a", "href")
    assert elements.all("math", "display") == ["inline", "block"] and "$" not in text.split("</style>")[-1]
    contents = (folder / "01_data.html").read_text().split('aria-label="contents of this page"')[1].split("</nav>")[0]
    assert '<a href="#Part-two">Part <em>two</em></a>' in contents


def test_nothing_of_another_host_is_named_but_in_links(executed):
    for path in site.report("smoke").parent.iterdir():
        for _, attributes in Elements(path.read_text()).found:
            assert not any(re.match(r"\w*:?//", attributes.get(name) or "") for name in ("src", "data", "srcset"))
        assert not re.search(r"@import|url\((?!data:)|<link", re.sub(r"srcdoc=\"[^\"]*\"", "", path.read_text()))


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_formula_of_the_notebooks_becomes_mathml(path):
    text = "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown")
    formulas = re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", text, re.DOTALL)
    for formula in (long or short for long, short in formulas):
        assert "\\" not in re.sub(r"<[^>]*>", "", convert(formula)), formula  # no command is left over


@pytest.mark.parametrize("text", [r"$\left( x$", "$a^b^c$", "it costs $5 and 3_1_2$", r"$$\begin{aligned} a$$"])
def test_what_is_no_formula_is_shown_as_it_is_written(text):
    shown = site.MarkdownWithMath(site.Renderer(set())).render(text)
    assert "<code>" in shown and html.unescape(shown).count("$") >= 2


@pytest.mark.parametrize("option", [[], ["--slides"]])
def test_without_an_executed_notebook_the_command_says_what_to_do(option, data_folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["site", "smoke", *option])
    assert site.main() == 2 and not data_folder.exists()
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.endswith("no executed notebook; run `make study PROFILE=smoke` first\n")


def test_the_templates_are_installed():
    kept = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["lib.study"]
    files = [path.relative_to(ROOT / "lib" / "study") for path in site.TEMPLATES.rglob("*") if path.is_file()]
    assert len(files) == 5
    for file in files:  # as setuptools matches: a star does not cross a folder
        assert any(len(Path(own).parts) == len(file.parts) and fnmatch(str(file), own) for own in kept), file


# Slides -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def reveal():
    if importlib.util.find_spec("sphinx_revealjs") is None:
        pytest.skip("needs reveal.js: make slides, or pip install --no-deps sphinx-revealjs")


def test_slides_show_figures_without_their_code(executed, reveal):
    folder = site.slides("smoke").parent
    text = (folder / "01_data.html").read_text()
    assert text.count("<section") == 4 and "A table" in text  # two slides of one below the other
    said = re.sub(r"<[^>]*>", "", text)
    assert "table()" in said and "skipped()" not in said
    assert "It is 0.5." in said and "compare()" not in said
    text = (folder / "00_start.html").read_text()
    assert len(Elements(text).all("img", "alt")) == 2 and "injected" not in text
    assert "plot()" not in re.sub(r"<[^>]*>", "", text)
    assert not any(re.match(r"\w*:?//", file or "") for file in Elements(text).all("script", "src"))
    assert {path.relative_to(folder).as_posix() for path in folder.glob("reveal/**/*.*")} == {
        f"reveal/{name}" for name in site.REVEAL
    }


def test_another_reveal_js_is_refused(executed, tmp_path, monkeypatch):
    other = tmp_path / "sphinx_revealjs"
    (file := other / "_static" / "revealjs" / "dist" / "reveal.js").parent.mkdir(parents=True)
    (other / "__init__.py").touch()
    file.write_text("alert('another')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(NotebookError, match=r"dist/reveal.js: no such file of reveal.js 5.2.1; `make slides`"):
        site.slides("smoke")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotebookError, match=r"dist/reveal.js: no such file of reveal.js 5.2.1; `make slides`"):
        site.slides("smoke")


# In a browser -------------------------------------------------------------------------------------------------------


@pytest.fixture
def tab(browser):
    """A page whose every request is noted, and none leaves the disk; no script fails."""
    context, requests, errors = browser.new_context(), [], []
    opened = context.new_page()
    context.route("**/*", lambda route: route.continue_() if route.request.url.startswith("file:") else route.abort())
    context.on("request", lambda request: requests.append(request.url))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda message: errors.append(message.text))
    yield opened
    assert errors == [] and requests
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    context.close()


def follow(tab, link):
    """Click, and wait until the page that it opens is read whole: what is counted there could come later."""
    with tab.expect_navigation():
        link.click()


@pytest.mark.browser
@pytest.mark.slow
def test_the_site_is_walked_and_the_explorer_alive_without_a_request(executed, tab):
    tab.goto(site.report("smoke").as_uri())
    walked = [tab.title()]
    while (after := tab.locator("a[rel=next]")).count():
        follow(tab, after.first)
        walked.append(tab.title())
        if tab.locator("iframe[srcdoc]").count():
            assert is_live(tab)
        for picture in tab.locator("img").all():
            assert picture.evaluate("image => image.naturalWidth") > 0
    assert [title.split(":")[0] for title in walked[1:]] == ["00 Start", "01 Data", "02 Explorer", "A guide"]
    for _ in walked[1:]:
        follow(tab, tab.locator("a[rel=prev]").first)
    assert tab.title() == walked[0]
    follow(tab, tab.get_by_role("link", name="01 Data"))
    follow(tab, tab.get_by_role("navigation", name="contents of this page").get_by_role("link"))
    assert tab.url.endswith("01_data.html#Part-two")
    follow(tab, tab.get_by_role("link", name="00 Start").first)
    above, below = (part.bounding_box() for part in tab.locator("math[display=block] mfrac > *").all())
    assert above["y"] + above["height"] <= below["y"] + 2  # the formula is drawn


@pytest.mark.browser
@pytest.mark.notebooks
@pytest.mark.slow
@pytest.mark.skipif("STUDY_EXECUTED" not in os.environ, reason="STUDY_EXECUTED names a data folder with a report")
def test_the_report_of_a_study_requests_nothing(tab):
    """The one that `make report PROFILE=smoke` wrote just before, as in `.ci/run`."""
    tab.goto((Path(os.environ["STUDY_EXECUTED"]).absolute() / "reports" / "smoke" / "index.html").as_uri())
    count = tab.locator(".cards li").count()
    assert count >= len(list((ROOT / "notebooks").glob("[0-9]*.ipynb")))
    for _ in range(count):
        follow(tab, tab.locator("a[rel=next]").first)
        assert tab.locator("img:not([alt*='?'])").count() == 0  # every figure asks a question
        if "13_explorer" in tab.url:
            assert tab.locator("iframe[srcdoc]").count() >= 4
            tab.frame_locator("iframe[srcdoc]").first.locator("#documents option").first.wait_for(state="attached")
    assert tab.locator("a[rel=next]").count() == 0


@pytest.mark.browser
@pytest.mark.slow
def test_the_policy_stops_what_an_output_would_load(executed, browser):
    path = executed / "01_data.ipynb"
    notebook = nbformat.read(path, 4)
    notebook.cells[2].outputs[0].data["text/html"] = "<img src='https://example.org/a.png' alt=''>"
    nbformat.write(notebook, path)
    context, failed = browser.new_context(), []
    context.on("requestfailed", lambda request: failed.append((request.url, request.failure)))
    opened = context.new_page()
    opened.goto((site.report("smoke").parent / "01_data.html").as_uri())
    assert failed == [("https://example.org/a.png", "csp")]
    context.close()


@pytest.mark.browser
@pytest.mark.slow
def test_slides_turn_without_a_request(executed, reveal, tab):
    tab.goto((site.slides("smoke").parent / "01_data.html").as_uri())
    now = tab.locator("section.present section.present")
    assert now.inner_text().startswith("01 Data: is it sound?")
    tab.keyboard.press("ArrowRight")
    now.get_by_role("heading", name="Part two").wait_for()
    assert now.locator(".fragment.visible").count() == 0
    tab.keyboard.press("ArrowRight")
    now.locator(".fragment.visible").get_by_text("A table").wait_for()
