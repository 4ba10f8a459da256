"""Tables and sentences go from a study's files into the README, and what it says in its own words agrees with them."""

import re

import pandas as pd
import pytest

from lib.analysis import style
from lib.study import readme

TABLES = readme.FIGURES / "tables"
TEXT = readme.README.read_text()


def test_a_table_is_kept_as_csv_markdown_and_latex_and_put_into_its_place(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_DATA", str(tmp_path))
    table = pd.DataFrame({"RR@10": [0.51234, 0.6], "share %": ["a_b", None]}, pd.Index(["bm25", "kl"], name="ranker"))
    shown = style.save_table(table, "05_quality", "smoke")
    assert shown["RR@10"].tolist() == [0.512, 0.6]
    folder = style.folder("smoke")
    assert pd.read_csv(folder / "05_quality.csv", index_col="ranker")["RR@10"].tolist() == [0.512, 0.6]
    latex = (folder / "05_quality.tex").read_text()
    assert r"bm25 & 0.512 & a\_b \\" in latex and r"ranker & RR@10 & share \% \\" in latex
    assert latex.startswith("\\begin{tabular}{lrr}\n\\toprule\n") and latex.endswith("\\end{tabular}\n")
    style.save_text("a sentence", "05_answer", "smoke")
    text = "before\n<!-- 05_quality -->\nold\n<!-- end -->\nbetween\n<!-- 05_answer -->\n<!-- end -->\nafter\n"
    once = readme.filled(text, folder)
    assert "| bm25 | 0.512 | a_b |\n| kl | 0.6 |  |\n<!-- end -->\nbetween\n<!-- 05_answer -->\na sentence\n" in once
    assert "old" not in once and once.endswith("after\n")
    assert readme.filled(once, folder) == once


def test_a_table_of_single_precision_has_three_digits_in_each_form(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_DATA", str(tmp_path))
    style.save_table(pd.DataFrame({"loss": [6.3984]}, pd.Index(["kl"], name="ranker")).astype("float32"), "t", "smoke")
    for ending in ("csv", "md", "tex"):
        assert re.search(r"\b6\.398\b", (style.folder("smoke") / f"t.{ending}").read_text())


def test_no_sign_of_a_cell_is_read_as_latex(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_DATA", str(tmp_path))
    style.save_table(pd.DataFrame({"a & b": [r"5 % of $x_1^2 \ ~{#}"]}, ["row"]), "signs", "smoke")
    latex = (style.folder("smoke") / "signs.tex").read_text()
    assert r"index & a \& b \\" in latex
    escaped = r"5 \% of \$x\_1\textasciicircum 2 \textbackslash \space \textasciitilde \{\#\}"
    assert f"row & {escaped} \\\\" in latex


def test_the_place_of_a_missing_table_stays_and_is_named(tmp_path, capsys):
    text = "<!-- 05_other -->\nas before\n<!-- end -->"
    assert readme.filled(text, tmp_path) == text
    assert "05_other.md: no such file" in capsys.readouterr().out


def test_the_readmes_places_are_tables_that_notebooks_write():
    notebooks = "".join(path.read_text() for path in readme.README.parent.glob("notebooks/*.ipynb"))
    places = [place["name"] for place in readme.PLACE.finditer(TEXT)]
    assert len(places) >= 7
    for name in places:
        folder = readme.FIGURES if name.startswith("bench_") else TABLES
        assert f'\\"{name}\\"' in notebooks or folder == readme.FIGURES, name
        assert (folder / f"{name}.md").exists(), f"{name}: `make figures` writes and git keeps it"


def test_the_readme_shows_the_tables_that_are_kept():
    assert readme.filled(TEXT, *readme.FOLDERS) == TEXT, "a place was edited by hand: python -m lib.study.readme"


@pytest.mark.parametrize("path", sorted(TABLES.glob("*.csv")), ids=lambda path: path.stem)
def test_a_table_is_the_same_as_csv_and_in_markdown(path):
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert style.markdown(table.set_index(table.columns[0])) == path.with_suffix(".md").read_text()


# What the README says in its own words ---------------------------------------------------------------------------------


def kept(name, index=0):
    return pd.read_csv((TABLES if re.match(r"\d\d_", name) else readme.FIGURES) / f"{name}.csv", index_col=index)


def undecided(name, *rankers):
    """Whether no difference of these rankers is significant after correction, by either test."""
    return (kept(name).loc[[*rankers], ["p", "p_t"]].min(axis=1) >= 0.05).all()


def far_below(table, column, row):
    return table.loc[row, column] < 0.9 * table[column].drop(row).min()


MEANS, ANSWER = kept("05_means"), (TABLES / "05_answer.md").read_text().splitlines()
STUDENTS = ["info_nce", "bce", "ranknet", "kl", "margin_mse", "mse"]
SUPERVISION, FEATURES = (kept(name, [0, 1]) for name in ("07_differences", "14_correlations"))
RETRIEVAL, COST = kept("09_retrieval"), kept("10_cost")["all in, seconds"]
OF_STUDENT = kept("10_cost").loc["teacher, Margin-MSE", "seconds"]  # the rest is its teacher's
CHOICES, TUNING, WORDS = kept("10_differences"), kept("10_tuning", [0, 1]), kept("09_words")
OWN_MARGINS = kept("08_differences").loc[["adaptive_margin", "distributed_margin"]]
AGREEMENT, WAYS = kept("02_agreement")["correlation of margins"], kept("16_verdicts")
STEPS = kept("11_training")["ratio"].nlargest(3)
DECIDED = kept("17_differences", [0, 1])[["p", "p_t"]].max(axis=1) < 0.05  # all of these are gains
WEB = kept("bench_adapting_web_differences", [0, 1]).loc["web"]
ACCELERATOR = kept("bench_workstation_verdicts", [0, 1])
MANY_GROUPS = kept("bench_workstation_quality").iloc[:, 1:3].apply(lambda column: column.str[:5].astype(float))
TAUGHT = MANY_GROUPS.loc["info_nce":]
OTHERS = kept("bench_collections")  # by collection
SCIFACT = OTHERS[OTHERS.index.str.contains("scifact")].set_index("ranker")
# A sentence, or a part of one -> whether the tables have it so
VERDICTS = {
    "the ideal ranking of BM25's candidates is far above BM25's own": (MEANS.loc["best"] > 1.25 * MEANS.loc["bm25"]).all(),
    "It is above BM25 in-domain and on the mean of the other sets":
        (MEANS.loc["teacher"] > MEANS.loc["bm25"])[["pydocs", "mean out-of-domain"]].all(),
    "all strategies end close together in-domain, above BM25":
        undecided("04_differences", *STUDENTS[1:]) and MEANS["pydocs"][STUDENTS].min() > MEANS["pydocs"]["bm25"],
    "it does in both, by a little, with three seeds":
        all("distillation is better than contrastive" in answer for answer in ANSWER),
    "pointwise MSE suffers from it; [Margin-MSE is ahead of it]": SUPERVISION["ahead"]["margin_mse", "mse"] == "first",
    "With 384 groups both adaptive losses are ahead of teacher distillation, and InfoNCE with in-batch negatives is no worse":
        (OWN_MARGINS[["p", "p_t"]].max(axis=1) < 0.05).all() and OWN_MARGINS["low"].min() > 0
        and kept("08_differences")["difference"]["in_batch"] >= OWN_MARGINS["difference"].max(),
    "on 500 dev queries the rule chooses the others' rate, and the lower one's mean is below the interval of that one's":
        TUNING.loc["margin_mse", "mean"].idxmax() == 1e-4
        and TUNING.loc[("margin_mse", 3.3e-5), "mean"] < TUNING.loc[("margin_mse", 1e-4), "low"],
    "with 2,800 groups adaptive margins are behind a teacher":
        set(kept("12_verdicts").loc["adaptive margins vs a teacher", "verdict"]) == {"worse"},
    "with so few queries a difference of .02 would go unnoticed":
        kept("08_differences")["resolvable"][["adaptive_margin", "distributed_margin"]].min() > 0.02,
    "Dense retrieval and BM25 are close and win on different queries":
        undecided("09_differences", "dense, exact")
        and kept("09_differences").loc["dense, exact", ["wins", "losses"]].min() > 20,
    "a graph index loses next to nothing, quantised vectors need rescoring":
        RETRIEVAL["recall"]["dense, HNSW"] > 0.98 and far_below(RETRIEVAL[3:0:-1], "recall", "dense, IVF-PQ"),
    "The margin of the fixed loss and the learning rate matter; the reading of the formula and stop-gradient do not":
        all(CHOICES.loc[[each], ["p", "p_t"]].max(axis=1).min() < 0.05 for each in ("margin of the fixed loss", "learning rate"))
        and CHOICES.loc["reading", ["low", "high"]].abs().max(axis=None) < 0.01,
    "Here it is better than labels for the bi-encoder in both places and for PreTTR out-of-domain; for ColBERT and TK these "
    "queries and seeds do not decide":
        [kept("12_verdicts").loc[f"{name}: Margin-MSE vs RankNet", "verdict"].tolist()
         for name in ("bi-encoder", "PreTTR", "ColBERT", "TK")]
        == [["better"] * 2, ["not resolvable", "better"], ["not resolvable"] * 2, ["not resolvable"] * 2],
    "For the cross-encoder it is better out-of-domain with five seeds, and in-domain not resolvable":
        kept("12_verdicts").loc["Margin-MSE vs RankNet on labels", ["where", "verdict", "seeds"]].values.tolist()
        == [["in-domain", "not resolvable", 5], ["out-of-domain", "better", 5]],
    "Every claim has three seeds at least": kept("12_verdicts")["seeds"].min() == 3,
    "The queries that exact dense search alone finds have fewer words in common with their relevant passage than those that "
    "BM25 alone finds": WORDS["overlap"]["only dense"] < WORDS["overlap"]["only BM25"],
    "most of what distillation costs is its teacher's own training":
        COST.idxmax() == "teacher, Margin-MSE" and 0.1 * COST["teacher, Margin-MSE"] > OF_STUDENT,
    "No property of a query is shown to be correlated with a difference: all correlations are weak, and none is significant "
    "after Holm's correction": FEATURES["p"].min() >= 0.05 and FEATURES["rho"].abs().max() < 0.1,
    "no ranker's scores are probabilities until they are scaled with an offset":
        all(2 * kept("14_calibration")[f"{where}, Platt"].max() < kept("14_calibration")[f"{where}, as it is"].min()
            for where in ("in-domain", "out-of-domain")),
    "After Holm's correction fine-tuning, DPO, ORPO and all merges but DARE's are better on the target than the source's "
    "student, and on the source no difference is resolvable":
        DECIDED.loc["botocore"][lambda is_better: is_better].index.tolist()
        == ["fine-tuned", "dpo", "orpo", "linear", "slerp", "task_arithmetic", "ties"] and not DECIDED.loc["pydocs"].any(),
    "after Holm's correction fine-tuning, ORPO, the student of the target alone and the DARE merge are worse there than the "
    "source's student": set(WEB.index[(WEB[["p", "p_t"]].max(axis=1) < 0.05) & (WEB["high"] < 0)])
        == {"fine-tuned", "orpo", "target", "dare"} and not ((WEB["low"] > 0) & (WEB["p"] < 0.05)).any(),
    "With so many groups every student is above every zero-shot ranker, in-domain and out-of-domain":
        (TAUGHT.min() > MANY_GROUPS.loc[["minilm", "bge-small", "msmarco-minilm-l12"]].max()).all(),
    "is above BM25 on both; students that learned from docstrings are not":
        (OTHERS.loc[OTHERS.index.str.contains("dl") & (OTHERS["ranker"] == "adapted"), "low"] > 0).all()
        and not (OTHERS[OTHERS["ranker"].isin(["info_nce", "kl", "margin_mse"])]["low"] > 0).any(),
    "it is below BM25. Its sum with the first stage is above BM25 on all three, on SciFact by less than these queries resolve":
        SCIFACT["high"]["adapted"] < 0
        and (OTHERS.loc[OTHERS["ranker"] == "adapted and first stage", "difference"] > 0).tolist() == [True] * 3
        and SCIFACT["low"]["adapted and first stage"] < 0
        and SCIFACT["difference"]["adapted and first stage"] < SCIFACT["resolvable"]["adapted and first stage"],
    "students of KL and of labels are equivalent, within .002":
        set(ACCELERATOR.loc["KL, larger teacher, vs labels", "verdict"]) == {"equivalent"}
        and ACCELERATOR.loc["KL, larger teacher, vs labels", "difference"].str.findall(r"[.]\d+").explode().max() <= ".002",
    "KL and Margin-MSE from the larger teacher are better than labels in both settings": all(
        kept("12_verdicts").loc[f"{name}, larger teacher, vs labels", "verdict"].tolist() == ["better"] * 2
        for name in ("KL", "Margin-MSE")),
    "of the four verdicts on KL and Margin-MSE from a larger teacher, that of Margin-MSE out-of-domain alone is *better*":
        [kept("12_verdicts").loc[f"{name}, larger teacher, vs labels", "over all claims"].tolist() for name in ("KL", "Margin-MSE")]
        == [["not resolvable"] * 2, ["not resolvable", "better"]],
    "(+.007 and +.012) goes back to +.002 and -.002, though the difference between the two teachers' students is not resolvable":
        [kept("12_verdicts").loc[name, "difference"].str.split().str[0].tolist() for name in (
            "KL, larger teacher, vs labels", "KL, a teacher that knows the labels vs labels")]
        == [["+0.007", "+0.012"], ["+0.002", "-0.002"]]
        and set(kept("12_verdicts").loc["KL, a teacher that knows the labels vs one that does not", "verdict"])
        == {"not resolvable"},
    "its positives are 17 above the negatives": round(kept("bench_workstation_quality").loc["kl"].iloc[-1]) == 17,
    "Margin-MSE, which has to reach the margins themselves, is behind in-domain":
        ACCELERATOR["verdict"]["Margin-MSE, larger teacher, vs labels", "in-domain"] == "worse",
    "Distilled students copy the teacher's margins more closely than contrastive ones":
        AGREEMENT.drop("info_nce").min() > AGREEMENT["info_nce"],
    "Mutual learning of two students helps in-domain, and its intervals are above zero elsewhere":
        WAYS[WAYS["where"] == "in-domain"]["verdict"]["mutual vs info_nce"] == "better"
        and WAYS["difference"]["mutual vs info_nce"].str.contains("[+", regex=False).all(),
    "SSD, TST and AFD make no difference in-domain: they are equivalent to KL":
        set(WAYS[(WAYS["where"] == "in-domain") & (WAYS["verdict"] == "equivalent")].index)
        == {f"{name} vs kl" for name in ("ssd", "tst", "afd")},
    "No other way is shown to help a ranker, and none to harm it":
        set(WAYS[WAYS["verdict"] == "better"].index) == {"mutual vs info_nce"} and "worse" not in set(WAYS["verdict"]),
    "In training, bf16 and cheaper or no dropout bring most":
        set(STEPS.index) == {"bfloat16", "dropout by 16 bits", "no dropout"},
}  # fmt: skip


@pytest.mark.parametrize("sentence", VERDICTS)
def test_the_readme_says_what_the_tables_have(sentence):
    assert sentence in " ".join(TEXT.split()), "the README says this no more: change it here too"
    assert VERDICTS[sentence], "the tables do not have it so any more: change the README, then this list"


def numbers_of_benchmarks():
    """Sentences of the README with the numbers that the benchmarks' tables have."""
    nearest = pd.read_csv(readme.FIGURES / "bench_nearest.csv").query("depth == 10 and rescored == 0")
    exact, pq = nearest.query("kind == 'flat'").iloc[0], nearest.query("kind == 'ivf_pq'").iloc[0]
    graph = nearest.query("kind == 'hnsw' and recall > 0.99").iloc[0]
    sizes = kept("bench_collection_sizes").query("passages == 8800000")["peak MiB"] / 1024
    bm25, ids, groups = (
        sizes[step] for step in ("BM25: index and 100 queries", "tokens", "900 groups of 8, with BM25")
    )
    files = kept("bench_score_files").loc[["pairs, few rows", "pairs, many rows"]]
    return [
        f"HNSW takes {graph['build_seconds']:.0f} s to build and answers one query in {graph['single_ms']:.2f} ms with "
        f"recall@10 {graph['recall']:.3f}; exact search takes {exact['single_ms']:.0f} ms".replace(" 0.9", " .9"),
        f"IVF-PQ needs {pq['index_mib']:.0f} MiB where the vectors need {pq['passages'] * 384 * 2 / 2**20:.0f}",
        f"{bm25:.0f} GiB at its peak, tokens take {ids:.0f} GiB and groups {groups:.0f} GiB",
        f"{files['rows_per_s'].iloc[1] / 1e6:.1f} million rows per second at ten million rows, with a peak of "
        f"{files['peak_mib'].iloc[1]} MiB, and of {files['peak_mib'].iloc[0]} at one million",
    ]  # fmt: skip


def test_the_numbers_of_benchmarks_are_those_of_their_tables():
    for sentence in numbers_of_benchmarks():
        assert sentence in " ".join(TEXT.split()), sentence


# Numbers in the README's own words that no table decides -> what does
ELSEWHERE = {
    **dict.fromkeys(("2507.08336", "2010.02666", "2407.21515"), "names of papers"),
    **dict.fromkeys(("+.008", "+.028", "+.035", "+.039"), "earlier versions of the study, as the text says"),
    **dict.fromkeys(("0.1", ".601", ".548", ".546"), "trials on dev queries, as the text says"),
    "256": "lib.machine.digest.LARGE", ".98": "lib.study.targets.KNOWN", "3.11": "requires-python", "2.0": "the licence",
}  # fmt: skip


def test_every_other_number_in_the_readmes_own_words_is_known():
    """Decimals, and whole numbers of %, ms, s or MiB; outside places, code and links."""
    text = readme.PLACE.sub("", re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)|\[\d+\.\d+", "", TEXT, flags=re.DOTALL))
    text = " ".join(text.split())
    for sentence in (*VERDICTS, *numbers_of_benchmarks()):
        text = text.replace(sentence, "")
    found = re.findall(r"(?<![\w.])[+-]?(?:\d*\.\d+|\d+(?= ?(?:%|ms|s|MiB)\b))(?![.\d]*\w)", text)
    assert set(found) == set(ELSEWHERE), "which table has it (VERDICTS), or what decides it (ELSEWHERE)?"
