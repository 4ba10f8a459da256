"""Tables and sentences go from a study's files into the README."""

import pandas as pd

from lib.analysis import style
from lib.study import readme


def test_a_table_is_kept_as_csv_markdown_and_latex_and_put_into_its_place(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_DATA", str(tmp_path))
    table = pd.DataFrame({"RR@10": [0.51234, 0.6], "share %": ["a_b", None]}, pd.Index(["bm25", "kl"], name="ranker"))
    shown = style.save_table(table, "05_quality", "smoke")
    assert shown["RR@10"].tolist() == [0.512, 0.6]
    folder = style.folder("smoke")
    assert pd.read_csv(folder / "05_quality.csv", index_col="ranker")["RR@10"].tolist() == [0.512, 0.6]
    assert r"bm25 & 0.512 & a\_b \\" in (folder / "05_quality.tex").read_text()
    style.save_text("a sentence", "05_answer", "smoke")
    text = "before\n<!-- 05_quality -->\nold\n<!-- end -->\nbetween\n<!-- 05_answer -->\n<!-- end -->\nafter\n"
    once = readme.filled(text, folder)
    assert "| bm25 | 0.512 | a_b |\n| kl | 0.6 |  |\n<!-- end -->\nbetween\n<!-- 05_answer -->\na sentence\n" in once
    assert "old" not in once and once.endswith("after\n")
    assert readme.filled(once, folder) == once


def test_the_place_of_a_missing_table_stays_and_is_named(tmp_path, capsys):
    text = "<!-- 05_other -->\nas before\n<!-- end -->"
    assert readme.filled(text, tmp_path) == text
    assert "05_other.md: no such file" in capsys.readouterr().out


def test_the_readmes_places_are_tables_that_notebooks_write():
    notebooks = "".join(path.read_text() for path in readme.README.parent.glob("notebooks/*.ipynb"))
    places = [place["name"] for place in readme.PLACE.finditer(readme.README.read_text())]
    assert len(places) >= 7
    figures = readme.README.parent / "figures"
    for name in places:
        assert f'\\"{name}\\"' in notebooks or (name.startswith("bench_") and (figures / f"{name}.md").exists()), name
