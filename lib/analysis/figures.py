"""One function per figure of the notebooks; `save` writes it. Each figure asks a question and labels its axes."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.analysis import significance
from lib.analysis.style import (  # noqa: F401, some are for notebooks
    finish,
    folder,
    line,
    log_ticks,
    moved,
    panels,
    points,
    references,
    save,
    save_table,
    save_text,
    style,
)  # fmt: skip
from lib.training import strategies


def first_stage(quality: pd.DataFrame) -> Figure:
    """How well does BM25 rank, and how much could a re-ranker gain? Columns collection, bm25, best."""
    figure, (axes,) = panels(width=9, height=3.6)
    bars = {"data": quality, "x": "collection", "edgecolor": "black", "ax": axes}
    sns.barplot(**bars, y="best", color="white", hatch="//", label="best order of its candidates")
    sns.barplot(**bars, y="bm25", color=style("bm25").colour, label="BM25's order")
    title = "How well does BM25 rank, and what could re-ranking gain?"
    return finish(figure, title, x="collection", y="RR@10 (mean over queries)")


def lengths(lengths_by_name: dict[str, np.ndarray], limit: int) -> Figure:
    """How long are pairs, and how many does the model's limit cut?"""
    figure, (axes,) = panels(width=9, height=3.6)
    for number, (name, values) in enumerate(lengths_by_name.items()):
        colour, _, dash = style(name, number)
        sns.ecdfplot(x=values, color=colour, linestyle=dash, label=f"{name} (median {np.median(values):.0f})", ax=axes)
    axes.axvline(limit, color="black", linewidth=1)
    axes.annotate(f" cut at {limit}", (limit, 0.02))
    labels = {"x": "tokens of query and passage together", "y": "share of pairs up to this length"}
    return finish(figure, "How long are the pairs, and what does the limit cut?", **labels)


def score_distributions(scores: dict[str, pd.DataFrame], *, columns: int = 4) -> Figure:
    """How far apart do rankers put relevant and other documents? Ranker -> columns score, grade."""
    figure, places = panels(scores, width=3, height=2.3, columns=columns)
    for axes, (name, table) in zip(places, scores.items(), strict=True):
        relevant = table["grade"] > 0
        bars = {"bins": np.histogram_bin_edges(table["score"], 40), "stat": "density", "element": "step", "ax": axes}
        sns.histplot(table["score"][~relevant], color="#cccccc", alpha=1, linewidth=0, label="not relevant", **bars)
        sns.histplot(table["score"][relevant], color=style(name).colour, fill=False, label="relevant", **bars)
        axes.xaxis.set_major_locator(plt.MaxNLocator(3))
    return finish(figure, "How far apart are relevant and other documents?", x="raw score", y="density")


def margins(values: dict[str, np.ndarray]) -> Figure:
    """How large is the margin between a positive and its negatives? Name -> margins."""
    figure, (axes,) = panels(width=10, height=3.8)
    for number, (name, of_pairs) in enumerate(values.items()):
        colour, marker, dash = style(name)
        label = f"{name}: median {np.median(of_pairs):.2g}, {np.mean(of_pairs < 0):.0%} below 0"
        marks = {"marker": marker, "markersize": 5, "markevery": (0.02 * number, 0.14)}  # shares of the diagonal
        sns.ecdfplot(x=of_pairs, color=colour, linestyle=dash, label=label, ax=axes, **marks)
    axes.axvline(0, color="black", linewidth=0.5)
    labels = {"x": "margin: raw score of the positive minus a negative's", "y": "share of margins up to this value"}
    return finish(figure, "How large are the margins, and how many are negative?", **labels)


def teacher_against_student(teacher: np.ndarray, students: dict[str, np.ndarray]) -> Figure:
    """Does the student copy the teacher's scores, or only their order? Margins of the same pairs."""
    figure, places = panels(students, width=3.4, height=3.4, sharex=True)
    for axes, (name, values) in zip(places, students.items(), strict=True):
        axes.xaxis.set_major_locator(plt.MaxNLocator(4))
        axes.plot(teacher, values, ".", color=style(name).colour, markersize=2, alpha=0.4, rasterized=True)
        axes.axline((0, 0), slope=1, color="black", linewidth=1, linestyle="--")
        axes.set_title(f"{name}: r = {np.corrcoef(teacher, values)[0, 1]:.2f}")
    title = "Does the student copy the teacher's margins (dashed), or only their order?"
    return finish(figure, title, x="teacher's margin", y="student's margin")


def learning_curves(histories: dict[str, pd.DataFrame], plateau: float | None = None, *, title: str) -> Figure:
    """How do loss and margin move? Name -> history; both are smoothed over a twentieth of the steps."""
    figure, (left, right) = panels(["loss", "margin"], width=5.2, height=3.4)
    for number, (name, history) in enumerate(histories.items()):
        smooth = history.set_index("step").rolling(max(1, len(history) // 20), min_periods=1).mean()
        line(left, smooth["loss"], name, number)
        line(right, smooth["positive"] - smooth["negative"], name, number)
    if plateau is None:
        left.set_yscale("log")
    else:
        left.axhline(plateau, color="black", linewidth=1, linestyle=":", label="ln(group size): a guess")
    finish(figure, title, x="step", y="training loss")
    right.set_ylabel("positive minus negative score")
    return figure


def quality(values: pd.DataFrame, names: Sequence[str], measure: str, *, title: str) -> Figure:
    """Which ranker ranks best, and how certain is it? Columns ranker, query, value; bars are 95 % intervals."""
    figure, (axes,) = panels(width=7, height=0.42 * len(names) + 1.4)
    points(axes, values, "ranker", x="value", y="ranker", order=names, errorbar=significance.interval)
    means = values.groupby("ranker")["value"].mean()
    axes.set_yticks(range(len(names)), [f"{name}  {means[name]:.3f}" for name in names])
    return finish(figure, title, x=f"{measure}: mean and 95 % interval over {values['query'].nunique()} queries", y="")


def retrieval(by_query: pd.DataFrame, measure: str) -> Figure:
    """How well does each way of searching rank? One column per way, one row per query."""
    values = by_query.rename_axis("query").reset_index().melt("query", var_name="ranker")
    return quality(values, list(by_query), measure, title="How well does each way of searching the collection rank?")


def differences(table: pd.DataFrame, measure: str, baseline: str, *, title: str) -> Figure:
    """Which rankers differ from the baseline, and where? Columns ranker, collection, difference, low, high."""
    table = table.rename(columns={"difference": "mean"})
    rankers, collections = table["ranker"].unique(), table["collection"].unique()
    shape = {"width": 3.4, "height": 0.26 * len(rankers) + 1, "columns": 3}
    figure, places = panels(collections, **shape, sharex=True, sharey=True)
    for axes, collection in zip(places, collections, strict=True):
        points(axes, table[table["collection"] == collection], "ranker", x="value", y="ranker", order=rankers)
        axes.axvline(0, color="black", linewidth=1)
        axes.xaxis.set_major_locator(plt.MaxNLocator(4))
    title = f"{title} (paired with {baseline}, 95 % intervals)"
    return finish(figure, title, x=f"difference in {measure}", y="")


def in_and_out_of_domain(means: pd.DataFrame, measure: str) -> Figure:
    """Do in-domain gains carry over to other domains? Columns ranker, in_domain, out_of_domain."""
    figure, (axes,) = panels(width=6.6, height=4.4)
    for row in means.itertuples():
        colour, marker, _ = style(row.ranker)
        axes.plot(row.in_domain, row.out_of_domain, marker, color=colour, markersize=10, label=row.ranker)
    labels = {"x": f"in-domain {measure}", "y": f"out-of-domain {measure} (mean of the sets)"}
    return finish(figure, "Do in-domain gains carry over to other domains?", **labels)


def gradients(margin: np.ndarray, pushes: dict[str, np.ndarray], groups: dict[str, Sequence[str]]) -> Figure:
    """How hard does each loss push a pair apart? Margins (points,), pushes by loss (points,), losses by panel."""
    figure, places = panels(groups, width=5.6, height=4.2, sharey=True)
    for axes, names in zip(places, groups.values(), strict=True):
        for number, name in enumerate(names):
            line(axes, pd.Series(pushes[name], margin), name, number)
        axes.axhline(0, color="black", linewidth=1)
        axes.set_ylim(-3, 5)
    labels = {"x": "the student's margin: positive minus negative", "y": "push to a larger margin (minus the gradient)"}
    return finish(figure, "How hard does each loss push a pair apart?", **labels)


def training_margins(histories: dict[str, pd.DataFrame], *, window: int = 10) -> Figure:
    """How do scores move during training? Histories by architecture, drawn as in the first figure of 2010.02666."""
    figure, places = panels(histories, width=3.4, height=3.2)
    for axes, (name, history) in zip(places, histories.items(), strict=True):
        colour = style(name).colour
        smooth = history.set_index("step")[["positive", "negative"]].rolling(window, min_periods=1).mean()
        axes.fill_between(smooth.index, *smooth.to_numpy().T, color=colour, alpha=0.25, label="margin")
        marks = {"marker": ".", "markevery": max(1, len(smooth) // 8)}  # a single step has no line
        axes.plot(smooth["positive"], color=colour, label="positives", **marks)
        axes.plot(smooth["negative"], color=colour, linestyle="--", label="negatives", **marks)
    title = "How do scores move during training? Each architecture has its own scale"
    return finish(figure, title, x="step", y=f"mean raw score (over {window} steps)")


def before_and_after(scores: dict[tuple[str, str], pd.DataFrame]) -> Figure:
    """How far apart are relevant documents and others before and after training? By (when, architecture)."""
    columns = len({name for _, name in scores})
    return score_distributions({f"{name}, {when}": scores[when, name] for when, name in scores}, columns=columns)


def by_supervision(table: pd.DataFrame, columns: Sequence[str], measure: str, others: pd.Series) -> Figure:
    """How good is each architecture with each supervision? One row per pair of these: mean, low, high; `references`."""
    figure, (axes,) = panels(width=9, height=4.6)
    references(axes, others)
    dodge = 0.14 * (table["architecture"].nunique() - 1)
    points(axes, table, "architecture", x="supervision", y="value", order=columns, dodge=dodge)
    axes.set_xticks(range(len(columns)), [column.replace(", ", ",\n") for column in columns], fontsize=8)
    title = "How good is each architecture with each kind of supervision?"
    return finish(figure, title, x="supervision", y=f"{measure} (95 % interval over queries)")


def quality_and_cost(table: pd.DataFrame, measure: str) -> Figure:
    """What does quality cost? Columns architecture, milliseconds, labels, distilled."""
    figure, (axes,) = panels(width=7, height=4)
    for row in table.itertuples():
        colour, marker, _ = style(row.architecture)
        moved(axes, row.milliseconds, row.labels, row.distilled, colour, marker=marker, size=9, label=row.architecture)
    log_ticks(axes)
    title = "What does quality cost? Hollow: from labels; filled: distilled"
    return finish(figure, title, x="milliseconds to re-rank one query (log)", y=measure)


def margins_and_similarities(histories: dict[str, pd.DataFrame], *, window: int = 5) -> Figure:
    """How do margins, target margins and document similarities move? Histories by strategy."""
    figure, places = panels(histories, width=3, height=3, sharey=True)
    for axes, (name, history) in zip(places, histories.items(), strict=True):
        smooth = history.set_index("step").rolling(window, min_periods=1).mean()
        colour = style(name).colour
        axes.plot(smooth["positive"] - smooth["negative"], color=colour, label="margin")
        if strategies.named(name).paradigm == "self-distillation":  # else its targets are labels
            axes.plot(smooth["target_margin"], color=colour, linestyle="--", label="target margin")
        axes.plot(smooth["similarity"], color="#777777", linestyle=":", label="cos(positive, negative)")
    title = "How do margins and document similarities move during training?"
    return finish(figure, title, x="step", y=f"cosine (mean over {window} steps)")


def over_data(table: pd.DataFrame, measure: str, others: pd.Series) -> Figure:
    """How much data does each strategy need? Columns strategy, groups, mean, low, high; `references`."""
    figure, (axes,) = panels(width=8, height=4.6)
    references(axes, others)
    for number, (name, part) in enumerate(table.groupby("strategy", sort=False)):
        (colour, marker, dash), part = style(name), part.sort_values("groups")
        place = part["groups"] * 1.03**number  # so that intervals are side by side
        axes.plot(place, part["mean"], color=colour, marker=marker, linestyle=dash, label=name)
        axes.vlines(place, part["low"], part["high"], color=colour, linewidth=1)
    log_ticks(axes)
    axes.set_xticks(table["groups"].unique())
    labels = {"x": "training groups (log)", "y": f"{measure} (95 % interval over queries)"}
    return finish(figure, "How much data does each strategy need?", **labels)


def ablations(table: pd.DataFrame, measure: str, others: pd.Series) -> Figure:
    """What does each choice change? Columns question, answer, mean, low, high; a panel per question; `references`."""
    questions = table["question"].unique()
    figure, places = panels(questions, width=3.6, height=2.6, columns=4, sharex=True)
    for axes, question in zip(places, questions, strict=True):
        points(axes, table[table["question"] == question], "answer", x="value", y="answer")
        references(axes, others, vertical=True)
        axes.tick_params(labelsize=8, labelbottom=True)
    return finish(figure, "What does each choice change? Mean and 95 % interval over dev queries", x=measure, y="")


def quality_over_time(table: pd.DataFrame, measure: str, others: pd.Series) -> Figure:
    """What does a training cost in total? Columns training, mean, low, high, "all in, seconds"; `references`."""
    figure, (axes,) = panels(width=8.5, height=4.6)
    references(axes, others)
    paradigms = {"labels": "in_batch", "own margins": "adaptive_margin", "teacher": "margin_mse"}
    for number, (_, row) in enumerate(table.iterrows()):
        colour, place = style(paradigms[row["training"].split(",")[0]]).colour, row["all in, seconds"]
        axes.vlines(place, row["low"], row["high"], color=colour, linewidth=1)
        axes.plot(place, row["mean"], "osD^vPX<"[number % 8], color=colour, markersize=8, label=row["training"])
    log_ticks(axes)
    title, y = "What does each training method cost in total?", f"{measure} (95 % interval over queries)"
    return finish(figure, title, x="training time with all that it needs, seconds (log)", y=y)


def where_time_goes(parts: pd.DataFrame) -> Figure:
    """Where does the time of a step go? Milliseconds per pair: one row per kind of work, one column per way."""
    figure, (axes,) = panels(width=8.5, height=4)
    shares = (100 * parts / parts.sum()).rename_axis("kind").reset_index().melt("kind", var_name="way")
    names = {way: f"{way}: {total:.1f} ms per pair" for way, total in parts.sum().items()}
    shares["way"] = shares["way"].map(names)
    grey = dict(zip(names.values(), ("white", "#444444"), strict=True))
    sns.barplot(shares, x="value", y="kind", hue="way", palette=grey, saturation=1, edgecolor="black", ax=axes)
    for bars in axes.containers:
        axes.bar_label(bars, fmt=" {:.0f}", fontsize=7)
    return finish(figure, "Where does the time of a training step go?", x="share of the step's time, percent", y="")


def ladder(table: pd.DataFrame, *, title: str) -> Figure:
    """What does each step bring? Rows from slow to fast; columns pairs_per_second, ratio, to_first."""
    figure, (axes,) = panels(width=9, height=0.36 * len(table) + 1.4)
    axes.barh(table.index, table["pairs_per_second"], color="#bbbbbb", edgecolor="black")
    for place, row in enumerate(table.itertuples()):
        text = f" {row.pairs_per_second:.0f}" + (f"  ({row.ratio:.2f}; {row.to_first:.1f} in all)" if place else "")
        axes.text(row.pairs_per_second, place, text, va="center", fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.25)
    return finish(figure, title, x="pairs per second (ratio to the step above; to the first)", y="")


def verdicts(table: pd.DataFrame, measure: str, within: float) -> Figure:
    """Which claims hold? Columns claim, where, difference, low, high, verdict; the band counts as equivalent."""
    places, claims = table["where"].unique(), list(dict.fromkeys(table["claim"]))
    figure, panes = panels(places, width=4.4, height=0.34 * len(claims) + 1.2, sharey=True)
    marks = {"better": ("#111111", ">"), "worse": ("#111111", "<"), "equivalent": ("#3d8fc4", "o")}
    for axes, place in zip(panes, places, strict=True):
        axes.axvspan(-within, within, color="#dddddd")
        axes.axvline(0, color="black", linewidth=1)
        for row in table[table["where"] == place].itertuples():
            colour, marker = marks.get(row.verdict, ("#777777", "x"))
            height = claims.index(row.claim)
            axes.plot([row.low, row.high], [height, height], color=colour, linewidth=2)
            axes.plot(row.difference, height, marker, color=colour, markersize=7, label=row.verdict)
        axes.set_yticks(range(len(claims)), claims)
        axes.xaxis.set_major_locator(plt.MaxNLocator(5))
    panes[0].invert_yaxis()
    return finish(figure, "Which claims hold on this text?", x=f"difference in {measure} (95 % interval)", y="")


def moves(before: np.ndarray, after: dict[str, np.ndarray]) -> Figure:
    """How does one training step move the scores of a query's documents? Scores (docs,), after the step by strategy."""
    figure, places = panels(after, width=3.6, height=3.2, sharey=True)
    for axes, (name, scores) in zip(places, after.items(), strict=True):
        moved(axes, [str(column) for column in range(len(before))], before, scores, style(name).colour)
    title = "How does one step move the scores of a query's ten documents? Hollow: before; filled: after"
    return finish(figure, title, x="column: 0 is the positive", y="score (cosine)")
