"""The explorer: its data and its page; in a real browser, what a click changes; and where a notebook shows it."""

import contextlib
import html
import json
import os
import re
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from fnmatch import fnmatch
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch

from lib import losses
from lib.explorer import content, page, snapshots
from lib.losses import descent
from lib.study.experiment import TestSet
from lib.training import strategies
from tests import kit
from tests.test_figures import luminance

ROOT = Path(__file__).parents[1]
ROOM = Path(page.__file__).parent
EVIL = "</script><script>document.title='caught'</script><!-- & <b>"
# Query -> scores of documents d0 ... d4, of which d0 is relevant
A = {"q0": [5, 4, 3, 2, 1], "q1": [1, 4, 3, 2, 5], "q2": [5, 4, 3, 2, 1]}  # right, wrong, right
B = {"q0": [1, 2, 3, 4, 5], "q1": [9, 4, 3, 2, 1], "q2": [5, 4, 3, 1, 2]}  # wrong, right, right
GROUP = {"scores": [0.3, 1.0, -0.2, 0.6], "teacher": [3.0, 1.5, 3.5, -1.0], "labels": [1.0, 0.0, 0.0, 0.0]}


def table(scores):
    rows = [(query, f"d{place}", int(place == 0), float(score))
            for query, values in scores.items() for place, score in enumerate(values)]  # fmt: skip
    return pd.DataFrame(rows, columns=["query", "document", "grade", "score"])


def shots():
    part = table(A)
    parts = [part.assign(step=step, score=part["score"] * step - 3 * step * (1 - part["grade"])) for step in (0, 4, 9)]
    history = pd.DataFrame({"step": range(1, 10), "positive": np.linspace(0, 3, 9), "negative": 0.0})
    return pd.concat(parts), history


def panels(collection):
    table_of_steps, history = shots()
    return {
        "documents": content.documents({"bm25": table(A), "kl": table(B)}, collection),
        "losses": content.group(**GROUP), "temperature": content.group(**GROUP),
        "steps": content.steps({"kl": table_of_steps, "mse": table_of_steps}, {"kl": history, "mse": history}),
    }  # fmt: skip


def test_the_page_requests_nothing(found):
    built = page.build("Explorer", **panels(found))
    assert not re.search(
        r"https?:|//\w+\.\w|url\(|@import|fetch\(|XMLHttp|WebSocket", built.replace("http://www.w3.org/", "")
    )
    assert not re.search(r"<(script|link|img|iframe)[^>]*\b(src|href)=", built)
    assert "default-src 'none'" in built and built == page.build("Explorer", **panels(found))


def test_no_text_can_leave_its_place():
    built = page.build(EVIL, losses={"text": EVIL})
    assert built.count("</script>") == 2 and EVIL not in built
    (inlined,) = re.findall(r'id="data">(.*?)</script>', built, re.DOTALL)
    assert json.loads(inlined) == {"losses": {"text": EVIL}}
    (inner,) = re.findall(r'srcdoc="(.*?)"', page.frame(built, title=EVIL, height=10), re.DOTALL)
    assert html.unescape(inner) == built


@pytest.mark.parametrize(("given", "says"), [
    ({}, "no panel is given"), ({"loss": 1}, "no panel 'loss'; give some of documents, losses"),
    ({"losses": float("nan")}, "not JSON compliant"),
])  # fmt: skip
def test_a_page_without_sense_is_refused(given, says):
    with pytest.raises(ValueError, match=says):
        page.build("Explorer", **given)


def test_every_file_of_the_page_is_installed_and_used(found):
    files = {path.name for path in ROOM.iterdir() if path.suffix in (".html", ".css", ".js")}
    kept = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["lib.explorer"]
    assert all(any(fnmatch(name, pattern) for pattern in kept) for name in files)
    assert files == {"page.html", "page.css", "page.js", *(file for own in page.PANELS.values() for file in own)}
    assert list(page.HEIGHTS) == list(page.PANELS) == list(panels(found))


def test_colours_have_enough_contrast_on_white():
    grid = {"#e3e3e3", "#dddddd", "#cccccc", "#dbe7f3", "#eef3f8"}  # backgrounds, and lines that carry nothing
    colours = {colour for path in ROOM.iterdir() if path.suffix in (".css", ".js")
               for colour in re.findall(r"#[0-9a-f]{6}\b", path.read_text())} - grid  # fmt: skip
    assert colours and all(1.05 / (luminance(colour) + 0.05) >= 3 for colour in colours)


def test_documents_keep_texts_scores_and_the_ranks_of_the_measures(found):
    tied = {query: [1.0] * 5 for query in A}
    kept = content.documents({"a": table(A), "tied": table(tied).sample(frac=1, random_state=0)}, found)
    first = kept["queries"][0]
    assert (kept["rankers"], kept["relevant"], len(kept["documents"])) == (["a", "tied"], 1, 5)
    assert first["text"] == found.queries["q0"] and kept["documents"][0]["text"] == found.documents["d0"]
    assert first["grades"] == [1, 0, 0, 0, 0] and first["scores"]["a"] == A["q0"]
    assert kept["queries"][1]["ranks"] == {"a": [5, 2, 3, 4, 1], "tied": [1, 2, 3, 4, 5]}  # ties: by document
    with pytest.raises(ValueError, match="ranker 'b': its pairs of query and document differ from those of 'a'"):
        content.documents({"a": table(A), "b": table(A).iloc[1:]}, found)


def test_steps_share_their_bins_and_count_every_document():
    table_of_steps, history = shots()
    kept = content.steps({"kl": table_of_steps}, {"kl": history})["kl"]
    assert [shot["step"] for shot in kept["shots"]] == [0, 4, 9] and len(kept["edges"]) == content.BINS + 1
    assert all((sum(shot["relevant"]), sum(shot["other"])) == (3, 12) for shot in kept["shots"])
    assert len(kept["margins"]) == len(history) and kept["shots"][0]["margin"] == 0
    graded = table_of_steps.assign(grade=2 * table_of_steps["grade"] + (table_of_steps["document"] == "d1"))
    with_grade = content.steps({"kl": graded}, {"kl": history}, 2)["kl"]
    assert with_grade == kept != content.steps({"kl": graded}, {"kl": history})["kl"]


def test_a_group_is_refused_unless_its_lists_match():
    with pytest.raises(ValueError, match="4 scores, 4 of the teacher, 3 labels"):
        content.group(GROUP["scores"], GROUP["teacher"], [1.0, 0.0, 0.0])
    known = content.group(**GROUP)["losses"]
    assert [*known] == [*strategies.CONTRASTIVE, *strategies.DISTILLATION]


@pytest.mark.slow
def test_snapshots_begin_and_end_where_the_run_does(experiment, tiny_collection, float32):
    test = TestSet(tiny_collection, queries=4, depth=5)
    kit.complete([experiment, experiment.before], [test])
    taken = snapshots.scores(experiment, test, count=3)
    assert sorted(taken["step"].unique()) == [0, 1, 2, 4]  # of 16 groups, 4 a step
    for step, run in ((0, experiment.before), (4, experiment)):
        own = taken[taken["step"] == step]
        np.testing.assert_allclose(own["score"], kit.scores(run, test)["score"], atol=1e-6, rtol=1e-5)


# In a browser -------------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(browser, found, tmp_path):
    """The page as a file, the network off; nothing but the file is requested, and no script fails."""
    context = browser.new_context(offline=True, viewport={"width": 1250, "height": 900})
    tab, requests, errors = context.new_page(), [], []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: errors.append(message.text))
    file = page.write(page.build("Explorer", **panels(found)), tmp_path / "explorer.html")
    tab.goto(file.as_uri())
    yield tab
    assert errors == [] and requests == [file.as_uri()]
    context.close()


@pytest.mark.browser
def test_queries_are_filtered_and_documents_read(opened, found):
    root = opened.locator("#documents")
    texts = lambda: root.locator(".queries option").all_inner_texts()  # noqa: E731
    status = root.locator(".found")
    assert status.inner_text() == "3 of 3 queries" and root.locator("path.move").count() == 5
    root.get_by_label("only A right").check()
    assert status.inner_text() == "1 of 3 queries" and texts()[0].endswith(found.queries["q0"])
    assert root.locator("h3.query").inner_text() == f"Query: {found.queries['q0']}"
    assert root.locator(".ranks > div:last-child .move").all_inner_texts() == ["▲4", "▲2", "=", "▼2", "▼4"]
    assert root.locator("path.move.up").count() == 2 and root.locator("path.move.down.relevant").count() == 1
    root.get_by_label("only B right").check()
    assert status.inner_text() == "1 of 3 queries" and texts()[0].endswith(found.queries["q1"])
    root.get_by_label("where they differ most").check()
    assert [text.split("moved")[1].split()[0] for text in texts()] == ["12", "8", "2"]
    root.locator(".queries").press("ArrowDown")  # the list is operated by keyboard
    chosen = root.locator(".ranks > div:first-child button").nth(1)
    chosen.press("Enter")
    assert "d1, grade 0" in root.locator(".detail").inner_text()
    assert found.documents["d1"] in root.locator(".detail").inner_text()
    assert root.locator("path.move.chosen").count() == 1 and root.locator("button[aria-pressed=true]").count() == 2
    root.get_by_label("Search").fill(found.queries["q2"])
    assert 1 <= len(texts()) <= 3
    root.get_by_label("Search").fill("no such word")
    assert status.inner_text() == "0 of 3 queries" and root.locator(".ranks button").count() == 0
    root.get_by_label("Search").fill("")
    root.get_by_label("B", exact=True).select_option("bm25")
    assert set(root.locator(".ranks > div:last-child .move").all_inner_texts()) == {"="}


def positions(root):
    """The student's scores and the teacher's, as the handles say."""
    values = [[float(handle.get_attribute("aria-valuenow")) for handle in root.locator(f".handle.{who}").all()]
              for who in ("student", "teacher")]  # fmt: skip
    return [torch.tensor([own], dtype=torch.float64) for own in values]


def compare(root, *, minima=False):
    """Every loss, gradient and end of the descent in the page with the library's."""
    root.locator("xpath=self::*[@data-ready='true']").wait_for()
    student, teacher = positions(root)
    labels = torch.tensor([GROUP["labels"]], dtype=torch.float64)
    for name in (*strategies.CONTRASTIVE, *strategies.DISTILLATION):
        data = root.locator(f"tr[data-loss={name}]").evaluate("row => ({...row.dataset})")
        targets, free = labels if name in strategies.CONTRASTIVE else teacher, student.clone().requires_grad_()
        value = getattr(losses, name)(free, targets).sum()
        (gradient,) = torch.autograd.grad(value, free)
        assert float(data["value"]) == pytest.approx(value.item(), abs=1e-9), name
        assert json.loads(data["gradient"]) == pytest.approx(gradient[0].tolist(), abs=1e-9), name
        if minima:
            end = descent.descend(getattr(losses, name), student, targets)[0].tolist()
            assert json.loads(data["end"]) == pytest.approx(end, abs=1e-6), name


@pytest.mark.browser
@pytest.mark.slow
def test_losses_gradients_and_descents_are_those_of_the_library(opened):
    root = opened.locator("#losses")
    assert positions(root)[0].tolist() == [GROUP["scores"]]
    compare(root, minima=True)
    root.get_by_label("student's score of positive").press("ArrowUp")
    root.get_by_label("teacher's score of negative 2").press("PageDown")
    assert positions(root)[0][0, 0] == 0.4 and positions(root)[1][0, 2] == 2.5
    compare(root)
    handle = root.get_by_label("student's score of negative 3")
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    opened.mouse.move(*middle)
    opened.mouse.down()
    opened.mouse.move(middle[0], middle[1] - 60, steps=3)
    opened.mouse.up()
    assert positions(root)[0][0, 3] == pytest.approx(0.6 + 60 / 236 * 12, abs=0.1)  # 236 pixels for 12 points
    compare(root)
    before = root.locator("svg[aria-label='descent of the chosen loss']").inner_html()
    root.get_by_label("margin_mse", exact=True).check()
    assert root.get_by_text("Descent of margin_mse").is_visible()
    assert root.locator("svg[aria-label='descent of the chosen loss']").inner_html() != before


@pytest.mark.browser
def test_the_temperature_leads_from_kl_to_squared_margins(opened):
    root = opened.locator("#temperature")
    slider = root.get_by_role("slider", name="Temperature")
    read = lambda: root.evaluate("section => ({...section.dataset})")  # noqa: E731
    for key, docs in (("Home", 4), ("End", 4), ("ArrowLeft", 2)):
        root.get_by_label("two" if docs == 2 else "all 4").check()
        slider.press(key)
        data, (student, teacher) = read(), positions(root)
        temperature, free = float(data["temperature"]), student.clone().requires_grad_()
        value = losses.kl(free, teacher, temperature=temperature).sum()
        (gradient,) = torch.autograd.grad(value, free)
        assert student.shape[1] == docs and float(data["value"]) == pytest.approx(value.item(), abs=1e-6)
        assert json.loads(data["gradient"]) == pytest.approx(gradient[0].tolist(), abs=1e-6)
        gaps = (student - teacher)[0]
        assert float(data["limit"]) == pytest.approx((gaps - gaps.mean()).square().mean().item() / 2, abs=1e-9)
    limit = losses.margin_mse(student, teacher).item() / 8  # two documents
    assert float(data["limit"]) == pytest.approx(limit) == pytest.approx(float(data["margins"]))
    assert json.loads(data["gradient"]) == pytest.approx(json.loads(data["limitGradient"]), abs=1e-2)


@pytest.mark.browser
def test_the_slider_goes_through_the_steps_of_a_training(opened):
    root = opened.locator("#steps")
    slider, drawn = root.get_by_role("slider"), root.locator("path.relevant")
    seen = [drawn.get_attribute("d")]
    for step in (4, 9):
        slider.press("ArrowRight")
        assert root.get_attribute("data-step") == str(step) and f"after step {step}:" in root.inner_text()
        seen.append(drawn.get_attribute("d"))
    assert len(set(seen)) == 3
    root.get_by_label("Ranker").select_option("mse")
    assert root.get_attribute("data-ranker") == "mse"


def notebook(file, output):
    """A notebook of one cell that shows a frame, executed by somebody else."""
    (file.parent / "frame.html").write_text(output)
    cell = nbformat.v4.new_code_cell("from IPython.display import HTML\nHTML(open('frame.html').read())")
    cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": output, "text/plain": "<explorer>"})]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), file)
    return file


def is_live(tab):
    """Whether a key changes the frame's temperature."""
    root = tab.frame_locator("iframe[srcdoc]").locator("#temperature")
    root.wait_for()
    before = root.get_attribute("data-temperature")
    root.get_by_role("slider", name="Temperature").press("End")
    return root.get_attribute("data-temperature") != before


@pytest.fixture
def frame():
    return page.show("Explorer", temperature=content.group(**GROUP)).data


@pytest.mark.browser
@pytest.mark.slow
def test_the_exported_page_is_live_without_a_network(browser, frame, tmp_path):
    from nbconvert import HTMLExporter

    exported = tmp_path / "exported.html"
    exported.write_text(HTMLExporter().from_filename(notebook(tmp_path / "one.ipynb", frame))[0])
    context = browser.new_context(offline=True)
    tab = context.new_page()
    tab.goto(exported.as_uri(), wait_until="domcontentloaded")
    assert is_live(tab) and not tab.get_by_text("not trusted").is_visible()
    context.close()


@pytest.fixture
def lab(tmp_path):
    """A JupyterLab of its own: its address, its folder and its environment."""
    folders = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("DATA", "CONFIG", "RUNTIME")}
    more = {f"JUPYTERLAB_{name}_DIR": str(tmp_path / name) for name in ("SETTINGS", "WORKSPACES")}
    environment = {**os.environ, **folders, **more, "IPYTHONDIR": str(tmp_path / "ipython")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={address.rsplit(':', 1)[1]}",
               "--IdentityProvider.token=", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={tmp_path}"]  # fmt: skip
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(240):
                try:
                    urllib.request.urlopen(f"{address}/api", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.5)
            yield address, tmp_path, environment
        finally:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(timeout=5)
            server.kill()  # a thread that still waits for work can keep a server that has ended alive


@pytest.mark.browser
@pytest.mark.slow
def test_jupyterlab_shows_it_where_the_cell_was_run_or_the_notebook_is_trusted(browser, lab, frame):
    address, folder, environment = lab
    context = browser.new_context()
    context.set_default_timeout(180_000)
    context.route("**/*", lambda route: route.continue_() if route.request.url.startswith(address) else route.abort())
    tab = context.new_page()
    file = notebook(folder / "explorer.ipynb", frame)
    tab.goto(f"{address}/doc/tree/{file.name}", wait_until="domcontentloaded")
    tab.get_by_text("The explorer is not shown because this notebook is not trusted.").wait_for()
    assert tab.locator("iframe[srcdoc]").count() == 0
    for second in range(120):
        if tab.locator("iframe[srcdoc]").count():
            break
        if (told := tab.locator("dialog.jp-Dialog")).count():  # seen once, on a busy machine: it would wait for ever
            print(told.first.inner_text())
            told.first.locator(".jp-mod-accept").click()
        if second % 15 == 0:  # again: a key may be lost while the page and its kernel start
            tab.locator(".jp-Cell .cm-content").first.click()
            tab.keyboard.press("Shift+Enter")
        tab.wait_for_timeout(1000)
    assert is_live(tab) and not tab.get_by_text("not trusted").is_visible()
    trusted = notebook(folder / "trusted.ipynb", frame)
    subprocess.run([sys.executable, "-m", "nbformat.sign", trusted], env=environment, check=True, capture_output=True)
    tab.goto(f"{address}/doc/tree/{trusted.name}", wait_until="domcontentloaded")
    assert is_live(tab) and not tab.get_by_text("not trusted").is_visible()
    context.close()
