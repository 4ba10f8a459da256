"""Executed notebooks as Markdown: figures as links to tracked ones, tables without styles, nothing that needs scripts."""

import base64

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lib.study import copies


@pytest.fixture
def executed(tmp_path):
    """A notebook with a tracked figure, one that is not, a table and a frame."""
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "05_gain.png").write_bytes(b"tracked")
    show = lambda **data: new_output("display_data", data)  # noqa: E731
    image = lambda content: show(**{"image/png": base64.b64encode(content).decode()})  # noqa: E731
    table = "<div><style scoped>td {color: red}</style><table><tr><td>0.5</td></tr></table></div>"
    cell = new_code_cell("1 + 1", outputs=[
        image(b"tracked"), image(b"another"), show(**{"text/html": table}),
        show(**{"text/html": '<iframe srcdoc="a &lt;p&gt;"></iframe><p hidden>Trust it.</p>'}),
    ])  # fmt: skip
    links = "# 05 Gain: how much?\n\n[glossary](00_start.ipynb#Glossary), [plans](README.md), $x^2$"
    path = tmp_path / "05_gain.ipynb"
    nbformat.write(new_notebook(cells=[new_markdown_cell(links), cell]), path)
    return path


def test_a_copy_links_to_tracked_figures_and_holds_text_alone(executed, tmp_path):
    into = tmp_path / "copy.md"
    copies.write(executed, tmp_path / "figures", into)
    text = into.read_text()
    assert text.startswith("*Executed copy of [notebooks/05_gain.ipynb](../../notebooks/05_gain.ipynb).*")
    assert text.count("![") == 1 and "![05_gain](../05_gain.png)" in text
    assert "<td>0.5</td>" in text and "style" not in text
    assert "iframe" not in text and copies.LIVE in text and "Trust" not in text
    assert "[glossary](00_start.md#Glossary), [plans](../../notebooks/README.md), $x^2$" in text


def test_every_notebook_of_a_profile_is_copied(executed, tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("sys.argv", ["copies", "smoke", str(tmp_path / "figures")])
    place = tmp_path / "data" / "executed" / "smoke"
    place.mkdir(parents=True)
    with pytest.raises(SystemExit, match="no executed notebooks; run `make study PROFILE=smoke`"):
        copies.main()
    for name in ("05_gain.ipynb", "06_more.failed.ipynb"):
        executed.with_name(name).write_text(executed.read_text())
        (place / name).write_text(executed.read_text())
    copies.main()
    assert [path.name for path in (tmp_path / "figures" / "notebooks").iterdir()] == ["05_gain.md"]


def test_the_command_asks_for_its_arguments(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["copies"])
    with pytest.raises(SystemExit):
        copies.main()
    assert "error: the following arguments are required: profile, figures" in capsys.readouterr().err


def test_a_warning_is_copied_once_and_without_its_place(tmp_path):
    said = "/a/machine/lib/x.py:158: UserWarning: mixed conditions.\n  rows = _rows(results)\n"
    outputs = [new_output("stream", name="stderr", text=2 * said), new_output("stream", name="stderr", text=said),
               new_output("stream", name="stderr", text="plain\n")]  # fmt: skip
    path = tmp_path / "05_gain.ipynb"
    nbformat.write(new_notebook(cells=[new_markdown_cell("# 05"), new_code_cell("1", outputs=outputs)]), path)
    copies.write(path, tmp_path, tmp_path / "copy.md")
    text = (tmp_path / "copy.md").read_text()
    assert text.count("UserWarning: mixed conditions.") == 1 and "plain" in text and "/a/machine" not in text
