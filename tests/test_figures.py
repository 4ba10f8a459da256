"""Figures: every colour is visible on white, styles differ, and each figure asks a question and labels its axes."""

import inspect
import re
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest

from lib.analysis import figures
from lib.analysis.style import ARCHITECTURES, PALETTE, PLAIN, REFERENCES, described, style
from lib.training import strategies

ROOT = Path(__file__).parents[1]
DRAW = np.random.default_rng(0)
OWN = ["in_batch", "fixed_margin", "adaptive_margin", "distributed_margin"]
MEASURE = "RR@10"


def luminance(colour: str) -> float:
    """Relative luminance, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in matplotlib.colors.to_rgb(colour)]
    return float(np.dot(channels, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("colour", sorted({colour for colour, _, _ in (*PALETTE.values(), *PLAIN)}))
def test_colours_have_enough_contrast_on_white(colour):
    assert (luminance("white") + 0.05) / (luminance(colour) + 0.05) >= 3


# Degrees on the circle of colours: labels are green to blue, teachers red to yellow, own similarities violet to pink,
# preferences and students that teach each other olive.
HUES = {"contrastive": (70, 220), "distillation": (-15, 50), "self-distillation": (225, 345),
        "preference optimisation": (51, 69), "mutual learning": (51, 69)}  # fmt: skip


@pytest.mark.parametrize("paradigm", [*HUES])
def test_every_strategy_has_a_style_and_can_be_told_apart_in_grey(paradigm):
    names = [name for name, strategy in strategies.STRATEGIES.items() if strategy.paradigm == paradigm]
    assert all(name in PALETTE for name in names)
    assert len({style(name)[1:] for name in names}) == len(names)  # marker and dash
    assert len({style(name).colour for name in names}) == len(names)


@pytest.mark.parametrize("name", [name for name in strategies.STRATEGIES if "+" not in name])  # of one source
def test_a_strategy_has_a_colour_of_its_paradigm(name):
    hue = 360 * matplotlib.colors.rgb_to_hsv(matplotlib.colors.to_rgb(style(name).colour))[0]
    low, high = HUES[strategies.STRATEGIES[name].paradigm]
    assert low <= hue <= high or low <= hue - 360 <= high


@pytest.mark.parametrize("path", sorted((ROOT / "lib" / "analysis").rglob("*.py")), ids=lambda path: path.name)
def test_a_figure_has_no_colours_but_the_palette_and_greys(path):
    known = {colour for colour, _, _ in (*PALETTE.values(), *PLAIN)}
    for colour in set(re.findall(r"#[0-9a-f]{6}\b", path.read_text())) - known:
        assert len({colour[1:3], colour[3:5], colour[5:7]}) == 1, colour


def test_a_name_with_parameters_or_remarks_has_the_style_of_its_strategy():
    for name in ("kl(temperature=2)", "kl [layers=(0,)]", "kl, ensemble", "kl 0.512"):
        assert style(name) == style("kl")
    assert style("BM25") == style("bm25")


def test_what_is_no_strategy_has_no_hue_of_a_paradigm():
    for colour, _, _ in (*REFERENCES.values(), *ARCHITECTURES.values(), *PLAIN):
        assert matplotlib.colors.rgb_to_hsv(matplotlib.colors.to_rgb(colour))[1] == 0, colour


def test_lines_of_references_and_marks_of_architectures_and_variants_can_be_told_apart():
    assert len({style(name).dash for name in REFERENCES}) == len(REFERENCES)
    names = [name for name in ARCHITECTURES if name != "dense"]  # a bi-encoder that searches
    for styles in ([style(name) for name in names], PLAIN):
        assert all(len(set(part)) == len(styles) for part in zip(*styles, strict=True))


def history(steps=30):
    names = ["loss", "positive", "negative", "target_margin", "similarity"]
    return pd.DataFrame(DRAW.uniform(0.1, 1, (steps, 5)), columns=names).assign(step=range(steps))


def scores():
    return pd.DataFrame({"query": "q", "score": DRAW.normal(size=40), "grade": [1, 0] * 20})


def intervals(**columns):
    table = pd.DataFrame(columns)
    mean = DRAW.uniform(0.4, 0.6, len(table))
    return table.assign(mean=mean, difference=mean - 0.5, low=mean - 0.1, high=mean + 0.1)


def by_query(*names):
    return pd.DataFrame({name: DRAW.uniform(size=20) for name in names}, index=[f"q{place}" for place in range(20)])


def quality_of(table):
    values = table.melt(var_name="ranker", ignore_index=False).rename_axis("query").reset_index()
    return figures.quality(values, list(table), MEASURE, title="Who?")


OTHERS = pd.Series({"bm25": 0.4, "minilm": 0.45, "best": 0.7})
pairs = DRAW.normal(size=50)
both = {"cat": history(), "tk": history()}
TRAINED = (
    ["in_batch", "in_batch", "info_nce"]
    + ["fixed_margin", "adaptive_margin", "distributed_margin"]
    + ["margin_mse"] * 3
)
costs = [f"{paradigm}, {number}" for paradigm in ("labels", "own margins", "teacher") for number in range(3)]
differences = intervals(ranker=["bm25", "kl"] * 2, collection=["a", "a", "b", "b"]).drop(columns="mean")
ANSWERS = intervals(
    question=list("aabb"), answer=["0.1", "0.2", "bm25", "in_batch"], taught=["kl", "kl", "bm25", "in_batch"]
)
ANSWERS.loc[[0, 3], "difference"] = np.nan  # defaults
FIGURES = {
    "first_stage": lambda: figures.first_stage(pd.DataFrame({"collection": ["a", "b"], "bm25": 0.4, "best": 0.7})),
    "lengths": lambda: figures.lengths({"a": np.arange(90), "b": np.arange(50)}, 64),
    "score_distributions": lambda: figures.score_distributions({name: scores() for name in ("start", *OWN)}),
    "margins": lambda: figures.margins({"untrained": pairs / 100, "start": pairs, "kl": pairs + 1}),
    "teacher_against_student": lambda: figures.teacher_against_student(pairs, {"kl": pairs * 2, "mse": pairs + 1}),
    "learning_curves": lambda: figures.learning_curves({"kl": history(), "cold": history()}, 1.1, title="How?"),
    "differences": lambda: figures.differences(differences, MEASURE, "info_nce", title="Who?"),
    "quality": lambda: quality_of(by_query("bm25", "kl", "mse")),
    "gradients": lambda: figures.gradients(
        np.arange(50.0), {"bce": pairs, "kl": pairs, "mse": pairs}, {"labels": ["bce"], "teacher": ["kl", "mse"]}
    ),
    "training_margins": lambda: figures.training_margins(both),
    "before_and_after": lambda: figures.before_and_after({(w, n): scores() for w in ("start", "kl") for n in both}),
    "by_supervision": lambda: figures.by_supervision(
        intervals(architecture=["cat", "cat", "tk"], supervision=["start", "mse", "mse"]), ["start", "mse"], MEASURE, OTHERS
    ),
    "quality_and_cost": lambda: figures.quality_and_cost(
        intervals(architecture=["cat", "cat", "tk"], supervision=["labels", "kl", "kl"], milliseconds=[40, 40, 4]),
        MEASURE, OTHERS
    ),
    "margins_and_similarities": lambda: figures.margins_and_similarities({name: history() for name in OWN}),
    "by_feature": lambda: figures.by_feature(
        intervals(feature=["a", "a", "b"], bin=["1", "2 to 3", "1"], ranker="kl"), MEASURE, "info_nce"
    ),
    "reliability": lambda: figures.reliability(
        {"bce": {how: pd.DataFrame({"predicted": [0.1, 0.6], "observed": [0, 0.2]}) for how in ("as it is", "Platt")}}
    ),
    "over_data": lambda: figures.over_data(
        intervals(strategy=["kl", "kl", "mse"], groups=[8, 16, 8]), intervals(strategy=["mse"], groups=[8]), MEASURE, "kl",
        OTHERS
    ),
    "retrieval": lambda: figures.retrieval(
        intervals(ranker=["dense, exact", "start, exact"], wins=3, losses=4), MEASURE, "BM25"
    ),
    "ahead": lambda: figures.ahead(pd.Series([1.0, 0.0, 0.5, -0.5]), MEASURE, "dense, exact", "BM25"),
    "ablations": lambda: figures.ablations(ANSWERS, MEASURE),
    "quality_over_time": lambda: figures.quality_over_time(
        intervals(training=costs).assign(strategy=TRAINED, **{"all in, seconds": range(1, 10)}), MEASURE, costs[0], OTHERS
    ),
    "where_time_goes": lambda: figures.where_time_goes(
        pd.DataFrame({"transformers": [3.0, 1.0], "the kit": [1.0, 0.0]}, index=["products", "dropout"])
    ),
    "ladder": lambda: figures.ladder(
        pd.DataFrame({"pairs_per_second": [9.0, 18.0], "ratio": [1, 2.0], "to_first": [1, 2.0]}, ["a", "b"]),
        title="What?",
    ),
    "moves": lambda: figures.moves(pairs[:10], {"info_nce, from labels": pairs[10:20], "margin_mse": pairs[20:30]}),
    "verdicts": lambda: figures.verdicts(
        intervals(claim=["a", "b"] * 2, where=["in", "in", "out", "out"]).rename(columns={"mean": "difference"}).assign(
            verdict=["better", "worse", "equivalent", "not resolvable"]), MEASURE, 0.01, title="What?"
    ),
}  # fmt: skip


def test_every_figure_is_drawn_here():
    functions = inspect.getmembers(figures, inspect.isfunction)
    assert {name for name, function in functions if function.__module__.startswith(figures.__name__)} == set(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_each_figure_asks_a_question_and_labels_its_axes_and_lines(name, tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_DATA", str(tmp_path))
    figure = FIGURES[name]()
    shown = figures.save(figure, name, "smoke", measure=MEASURE)
    assert [path.name for path in figures.folder("smoke", measure=MEASURE).iterdir()] == [f"{name}.png"]
    assert "?" in figure.get_suptitle()
    (_, metadata) = shown._repr_mimebundle_()
    text = metadata["image/png"]["alt"]
    names = {label.get_text() for legend in figure.legends for label in legend.get_texts()}
    assert text.startswith(figure.get_suptitle()) and figure.axes[0].get_xlabel() in text and "\n" not in text
    assert all(name.replace("\n", " ") in text for name in names)
    assert all(axes.get_xlabel() and axes.get_legend() is None for axes in figure.axes)
    named_rows = name in ("ablations", "differences", "ladder", "quality", "retrieval", "verdicts", "where_time_goes")
    assert bool(figure.axes[0].get_ylabel()) != named_rows
    assert all(not text.get_text().startswith("_") for legend in figure.legends for text in legend.get_texts())


def test_the_alternative_text_names_rows_where_the_axis_has_no_label():
    said = described(FIGURES["differences"]())
    assert said == (
        "Who? (paired with info_nce, 95 % intervals) Panels: a; b. Horizontal: difference in RR@10. Rows: bm25; kl."
    )


def test_all_trainings_are_drawn_however_many():
    legend = FIGURES["quality_over_time"]().legends[0]
    others = {f"{name} ({value:.3f})" for name, value in OTHERS.items()}
    assert {text.get_text() for text in legend.get_texts()} == set(costs) | others


def test_an_ablations_default_is_a_hollow_point_at_zero_and_the_legend_names_strategies_alone():
    figure = FIGURES["ablations"]()
    hollow = [line for axes in figure.axes for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata()[0] for line in hollow] == [0, 0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["kl"]
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["bm25", "in_batch"]


def test_queries_are_counted_on_the_side_that_is_ahead():
    names = [text.get_text() for text in FIGURES["ahead"]().legends[0].get_texts()]
    assert {"dense, exact ahead: 2 queries", "BM25 ahead: 1 queries", "as good: 1 queries"} < set(names)
    assert any(name.startswith("mean +0.250 [") for name in names)


def test_a_training_has_its_strategys_colour_and_marker_and_no_two_look_the_same():
    lines = FIGURES["quality_over_time"]().axes[0].lines
    drawn = {line.get_label(): (line.get_color(), line.get_marker()) for line in lines}
    looks = {name: drawn[name] for name in costs}
    assert len({marker for _, marker in looks.values()}) == len(costs)  # in grey
    first = {name: style(strategy) for name, strategy in zip(costs[::-1], TRAINED[::-1], strict=True)}
    assert all(looks[name][0] == look.colour for name, look in first.items())
    assert all(
        looks[costs[place]] == style(TRAINED[place])[:2] for place in (0, 3, 4, 5, 6)
    )  # `info_nce` has that of 5


def test_the_baseline_of_a_cost_is_hollow_at_zero():
    lines = FIGURES["quality_over_time"]().axes[0].lines
    (hollow,) = (line for line in lines if line.get_markerfacecolor() == "white")
    assert (hollow.get_label(), hollow.get_ydata()[0]) == (costs[0], 0)


def test_over_data_draws_means_on_the_left_and_paired_intervals_on_the_right():
    left, right = FIGURES["over_data"]().axes
    assert (len(left.collections), len(right.collections)) == (0, 2)
    assert right.get_ylabel() == f"difference in {MEASURE}"


def test_a_ranker_that_is_a_line_too_keeps_its_row():
    values = by_query("bm25", "kl").melt(var_name="ranker", ignore_index=False).rename_axis("query").reset_index()
    figure = figures.quality(values, ["bm25", "kl"], MEASURE, title="Who?", lines=["bm25"])
    mean = values.loc[values["ranker"] == "bm25", "value"].mean()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"bm25 ({mean:.3f})"]
    assert [label.get_text().split()[0] for label in figure.axes[0].get_yticklabels()] == ["bm25", "kl"]


def test_quality_and_cost_shows_both_trainings_of_an_architecture_side_by_side():
    table = intervals(architecture=["cat", "cat"], supervision=["labels", "kl"], milliseconds=[40, 40])
    figure = figures.quality_and_cost(table, MEASURE, OTHERS)
    (before, after) = (line for line in figure.axes[0].lines if line.get_marker() == "o")
    assert before.get_xdata()[0] < 40 < after.get_xdata()[0]
    assert before.get_markerfacecolor() == "white" != after.get_markerfacecolor()
    assert len(figure.axes[0].collections) == 2  # the intervals


def test_panels_of_a_row_share_the_scale_of_scores():
    figure = FIGURES["before_and_after"]()
    limits = [axes.get_xlim() for axes in figure.axes]
    assert limits[0] == limits[1] and limits[2] == limits[3]
    assert all("mean |score|" in axes.get_title() and "median |margin|" in axes.get_title() for axes in figure.axes)


def test_given_limits_are_drawn_as_they_are():
    table = intervals(architecture=["cat"], supervision=["mse"])
    axes = figures.by_supervision(table, ["mse"], MEASURE, OTHERS[:0]).axes[0]
    drawn = sorted({round(float(y), 9) for line in axes.lines for y in line.get_ydata()})
    assert drawn == sorted(table[["low", "mean", "high"]].iloc[0].round(9))
