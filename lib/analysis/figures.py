"""One function a figure. Colours, markers and dashes are the same for the same strategy everywhere.

The colours differ in lightness as well, and every line has its own dash and marker, so figures can be read in grey.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from lib.analysis import significance
from lib.machine import outputs, store
from lib.training import strategies

# strategy -> (colour, marker, dash): contrastive ones blue and green, distilled ones orange and red, mixed ones purple
STYLE: dict[str, tuple[str, str, str]] = {
    "bm25": ("#777777", "x", ":"),
    "teacher": ("#111111", "*", "-"),
    "info_nce": ("#08306b", "o", "-"),
    "bce": ("#2171b5", "s", "--"),
    "ranknet": ("#4a90c2", "^", "-."),
    "kl": ("#a63603", "D", "-"),
    "margin_mse": ("#e6770b", "v", "--"),
    "mse": ("#f3a75c", "P", "-."),
    "hinge": ("#6baed6", "D", ":"),
    "lambda_loss": ("#08519c", "v", "--"),
    "list_mle": ("#41ab5d", "P", "-."),
    "position_list_mle": ("#a1d99b", "X", ":"),
    "approx_ndcg": ("#006d2c", "<", "-"),
    "smooth_mrr": ("#74c476", ">", "--"),
    "reverse_kl": ("#7f2704", "o", "--"),
    "jensen_shannon": ("#d94801", "s", "-."),
    "pearson": ("#fdae6b", "*", ":"),
    "list_net": ("#cb181d", "^", ":"),
    "weighted_ranknet": ("#fb6a4a", "<", "--"),
    "adr_mse": ("#67000d", ">", "-."),
    "gist": ("#fcbba1", "X", "-"),
    "teacher_ranknet": ("#a50f15", "1", "--"),
    "info_nce+kl": ("#54278f", "h", "-"),
    "mse+ranknet": ("#9e9ac8", "H", "--"),
    "in_batch": ("#238b45", "P", "-"),
    "triplet": ("#005a32", "X", ":"),
    # self-distillation: purple and pink
    "fixed_margin": ("#bcbddc", "s", ":"),
    "adaptive_margin": ("#6a51a3", "^", "--"),
    "distributed_margin": ("#3f007d", "o", "-"),
    "fixed_margin_in_batch": ("#fa9fb5", "D", ":"),
    "adaptive_margin_in_batch": ("#dd3497", "v", "--"),
}
# architecture -> (colour, marker, dash)
ARCHITECTURES: dict[str, tuple[str, str, str]] = {
    "cat": ("#111111", "o", "-"), "prettr": ("#1b7f79", "s", "--"), "colbert": ("#8c510a", "^", "-."),
    "dot": ("#5ab4ac", "D", ":"), "tk": ("#bf812d", "v", (0, (3, 1, 1, 1))),
}  # fmt: skip
_OTHER = ("#444444", ".", "-")
# for lines that are no strategies: variants of one run
_PLAIN = (("#111111", "o", "-"), ("#1b7f79", "s", "--"), ("#777777", "^", "-."), ("#76b7b2", "D", ":"))


def style(name: str) -> tuple[str, str, str]:
    """Colour, marker and dash of a strategy or an architecture; what follows a comma or stands in brackets is left."""
    name = strategies.base_name(name).split(",")[0].split(" [")[0]
    return STYLE.get(name) or ARCHITECTURES.get(name, _OTHER)


def folder(profile: str, **parameters: object) -> Path:
    """Where a profile's figures go, in the data folder; a parameter that is not its default has a folder of its own.

    The figures that the README shows are copies, made by `make figures`: no run of a notebook changes them.
    """
    return store.data_folder() / "figures" / outputs.variant_folder(profile, **parameters)


def save(figure: Figure, name: str, profile: str, **parameters: object) -> Figure:
    """Write a figure as `<name>.png` into its folder and hand it back to be shown.

    `parameters`: those of the notebook's that the figure depends on, so that exploring overwrites nothing.
    """
    path = folder(profile, **parameters) / f"{name}.png"
    store.replace_file(
        path, lambda file: figure.savefig(file, dpi=110, bbox_inches="tight", metadata={"Software": None})
    )
    plt.close(figure)  # the notebook shows the returned figure once
    return figure


def _axes(
    count: int = 1, *, width: float = 4.6, height: float = 3.4, columns: int = 5, **shared: bool
) -> tuple[Figure, np.ndarray]:
    """A figure of `count` panels, at most `columns` in a row; unused ones are not drawn."""
    columns = min(columns, count)
    rows = -(-count // columns)
    with plt.rc_context({"axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False}):
        figure, axes = plt.subplots(
            rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained", **shared
        )
    for unused in axes.ravel()[count:]:
        unused.remove()
    return figure, axes.ravel()[:count]


def training_margins(histories: dict[str, pd.DataFrame], *, window: int = 10) -> Figure:
    """How do scores move during training? Histories by architecture (columns step, positive, negative).

    The first figure of 2010.02666 in form: mean raw score of positives and negatives, the margin between them shaded.
    """
    figure, panels = _axes(len(histories), width=3.4, height=3.2)
    for axes, (name, history) in zip(panels, histories.items(), strict=True):
        colour = ARCHITECTURES[name][0]
        smooth = history[["positive", "negative"]].rolling(window, min_periods=1).mean()
        axes.fill_between(
            history["step"], smooth["negative"], smooth["positive"], color=colour, alpha=0.25, label="margin"
        )
        axes.plot(history["step"], smooth["positive"], color=colour, label="positives")
        axes.plot(history["step"], smooth["negative"], color=colour, linestyle="--", label="negatives")
        axes.set(title=name, xlabel="step")
    panels[0].set_ylabel(f"mean raw score (over {window} steps)")
    panels[0].legend(fontsize=7)
    figure.suptitle("How do scores move during training? Each architecture on a scale of its own")
    return figure


def before_and_after(scores: dict[tuple[str, str], pd.DataFrame]) -> Figure:
    """How far apart are relevant and other documents, when? (when, architecture) -> columns score, grade."""
    times, names = (list(dict.fromkeys(one)) for one in zip(*scores, strict=True))
    figure, panels = _axes(len(scores), width=3, height=2, columns=len(names))
    for axes, when, name in zip(panels, np.repeat(times, len(names)), names * len(times), strict=True):
        _relevant_and_others(axes, scores[when, name], ARCHITECTURES[name][0])
        axes.set(title=f"{name}, {when}")
        axes.set_yticks([])
    for axes in panels[-len(names) :]:
        axes.set_xlabel("raw score")
    for axes in panels[:: len(names)]:
        axes.set_ylabel("density")
    panels[0].legend(fontsize=7)
    figure.suptitle("How far apart do architectures put relevant and other documents, before training and after?")
    return figure


def _relevant_and_others(axes: plt.Axes, table: pd.DataFrame, colour: str) -> None:
    """Two histograms of raw scores over one range."""
    edges = np.histogram_bin_edges(table["score"], 40)
    relevant = table["grade"] > 0
    axes.hist(table.loc[~relevant, "score"], edges, density=True, color="#cccccc", label="not relevant")
    axes.hist(
        table.loc[relevant, "score"], edges, density=True, histtype="step", color=colour, linewidth=2, label="relevant"
    )
    axes.xaxis.set_major_locator(plt.MaxNLocator(4))


def margins_and_similarities(histories: dict[str, pd.DataFrame], *, window: int = 5) -> Figure:
    """How do margins, wanted margins and document similarities move? Histories by strategy, with the column alike."""
    figure, panels = _axes(len(histories), width=3, height=3, sharey=True)
    for axes, (name, history) in zip(panels, histories.items(), strict=True):
        smooth = history.rolling(window, min_periods=1).mean()
        colour = style(name)[0]
        axes.plot(history["step"], smooth["positive"] - smooth["negative"], color=colour, label="margin")
        if strategies.named(name).paradigm == "self-distillation":  # else its targets are labels
            axes.plot(history["step"], smooth["wanted"], color=colour, linestyle="--", label="wanted margin")
        axes.plot(history["step"], smooth["alike"], color="#777777", linestyle=":", label="cos(positive, negative)")
        axes.set(title=name, xlabel="step")
    panels[0].set_ylabel(f"cosine (mean over {window} steps)")
    panels[-1].legend(fontsize=7)
    figure.suptitle("How do margins and document similarities move during training?")
    return figure


def ablations(table: pd.DataFrame, measure: str) -> Figure:
    """What does each choice change? Columns question, answer, mean, low, high; a panel a question."""
    questions = list(dict.fromkeys(table["question"]))
    figure, panels = _axes(len(questions), width=3.6, height=2.6, columns=4, sharex=True)
    for axes, question in zip(panels, questions, strict=True):
        part = table[table["question"] == question]
        place = np.arange(len(part))[::-1]
        axes.hlines(place, part["low"], part["high"], color="#3f007d", linewidth=2)
        axes.plot(part["mean"], place, "o", color="#3f007d")
        axes.set_yticks(place, part["answer"], fontsize=7)
        axes.set(title=question, xlabel=measure)
        axes.margins(y=0.2)
    figure.suptitle("What does each choice change? Mean and 95 % interval over dev queries")
    return figure


def by_teaching(table: pd.DataFrame, columns: Sequence[str], measure: str) -> Figure:
    """What does each teaching make of each architecture? One row an architecture and teaching: mean, low, high."""
    names = list(dict.fromkeys(table["architecture"]))
    figure, (axes,) = _axes(width=8, height=4)
    for name in names:
        colour, marker, _ = ARCHITECTURES[name]
        part = table[table["architecture"] == name].set_index("teaching").reindex(columns)
        place = np.arange(len(columns)) + (names.index(name) - (len(names) - 1) / 2) * 0.14
        spread = np.abs(part[["low", "high"]].to_numpy().T - part["mean"].to_numpy())
        axes.errorbar(
            place, part["mean"], yerr=spread, color=colour, marker=marker, linestyle="", capsize=2, label=name
        )
    axes.set_xticks(np.arange(len(columns)), [column.replace(", ", ",\n") for column in columns], fontsize=8)
    axes.set(ylabel=f"{measure} (95 % interval over queries)")
    axes.set_title("What does each kind of teaching make of each architecture?")
    axes.legend(fontsize=8, ncol=len(names))
    return figure


def quality_and_cost(table: pd.DataFrame, measure: str) -> Figure:
    """What does quality cost? A vertical line an architecture, from labels to distilled.

    Columns architecture, milliseconds, labels, distilled.
    """
    figure, (axes,) = _axes(width=6.5, height=4)
    for row in table.itertuples():
        colour, marker, _ = ARCHITECTURES[row.architecture]
        axes.plot([row.milliseconds] * 2, [row.labels, row.distilled], color=colour, linewidth=2)
        axes.plot(row.milliseconds, row.labels, marker, color="white", markeredgecolor=colour, markersize=9)
        axes.plot(row.milliseconds, row.distilled, marker, color=colour, markersize=9, label=row.architecture)
    axes.set(xscale="log", xlabel="milliseconds to re-rank one query (log)", ylabel=measure)
    _plain_ticks(axes)
    axes.set_title("What does quality cost? Hollow: from labels; filled: distilled")
    axes.legend(fontsize=8)
    return figure


def quality_over_time(table: pd.DataFrame, measure: str) -> Figure:
    """What does a way of training cost, all in? Columns training, mean, low, high and seconds, "all in, seconds"."""
    figure, (axes,) = _axes(width=7.5, height=4.2)
    paradigms = {"labels": "#238b45", "own margins": "#6a51a3", "teacher": "#e6770b"}
    for number, (_, row) in enumerate(table.iterrows()):
        colour = paradigms[row["training"].split(",")[0]]
        marker = "osD^vPX<"[number % 8]
        axes.vlines(row["all in, seconds"], row["low"], row["high"], color=colour, linewidth=1)
        axes.plot(row["all in, seconds"], row["mean"], marker, color=colour, markersize=8, label=row["training"])
    axes.set(xscale="log", xlabel="seconds of training, all in (log)", ylabel=f"{measure} (95 % interval over queries)")
    _plain_ticks(axes)
    axes.set_title("What does each way of training cost, with all that it needs?")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def over_data(table: pd.DataFrame, measure: str, start: float) -> Figure:
    """How much data does each strategy need? Columns strategy, groups, mean, low, high; `start` is without any."""
    figure, (axes,) = _axes(width=6.5, height=4)
    axes.axhline(start, color="black", linewidth=1, linestyle=":", label="before training")
    for number, (name, part) in enumerate(table.groupby("strategy", sort=False)):
        colour, marker, dash = style(name)
        part = part.sort_values("groups")
        axes.plot(part["groups"] * 1.03**number, part["mean"], color=colour, marker=marker, linestyle=dash, label=name)
        axes.vlines(part["groups"] * 1.03**number, part["low"], part["high"], color=colour, linewidth=1)
    axes.set(xscale="log", xlabel="training groups (log)", ylabel=f"{measure} (95 % interval over queries)")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(sorted(set(table["groups"])), sorted(set(table["groups"])))
    axes.set_title("How much data does each strategy need?")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _plain_ticks(axes: plt.Axes) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5, written as numbers."""
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def lengths(lengths_by_name: dict[str, np.ndarray], limit: int) -> Figure:
    """How long are pairs, and how many does the model's limit cut?"""
    figure, (left,) = _axes(width=7)
    for (name, values), dash in zip(lengths_by_name.items(), ("-", "--", "-.", ":", (0, (1, 3))), strict=False):
        values = np.sort(values)
        left.plot(
            values, np.linspace(0, 1, len(values)), linestyle=dash, label=f"{name} (median {np.median(values):.0f})"
        )
    left.axvline(limit, color="black", linewidth=1)
    left.annotate(f" cut at {limit}", (limit, 0.02))
    left.set(xlabel="tokens of query and passage together", ylabel="share of pairs up to this length", ylim=(0, 1.01))
    left.set_title("How long are the pairs, and what does the limit cut?")
    left.legend(fontsize=8)
    return figure


def first_stage(quality: pd.DataFrame) -> Figure:
    """How well does BM25 rank, and how much could a re-ranker gain? Columns collection, bm25, best."""
    figure, (axes,) = _axes(width=7)
    place = np.arange(len(quality))
    axes.bar(place, quality["best"], color="white", edgecolor="black", hatch="//", label="best order of its candidates")
    axes.bar(place, quality["bm25"], color=style("bm25")[0], edgecolor="black", label="BM25's order")
    axes.set_xticks(place, quality["collection"])
    axes.set(ylabel="RR@10 (mean over queries)", ylim=(0, 1.15))
    axes.set_title("How well does BM25 rank, and what could re-ranking gain?")
    axes.legend(fontsize=8, ncol=2, loc="upper center")
    return figure


def score_distributions(scores: dict[str, pd.DataFrame]) -> Figure:
    """How far apart do rankers put relevant and other documents? Ranker -> columns score, grade."""
    figure, panels = _axes(len(scores), width=3.4, height=2.6, columns=4)
    for axes, (name, table) in zip(panels, scores.items(), strict=True):
        _relevant_and_others(axes, table, style(name)[0])
        axes.set(title=name, xlabel="raw score")
    for axes in panels[::4]:
        axes.set_ylabel("density")
    panels[0].legend(fontsize=8)
    figure.suptitle("How far apart do rankers put relevant and other documents?")
    return figure


def margins(values: dict[str, np.ndarray]) -> Figure:
    """How large is the margin between a positive and its negatives? Name -> margins."""
    figure, (axes,) = _axes(width=7)
    for name, some in values.items():
        colour, _, dash = style(name)
        some = np.sort(some)
        label = f"{name}: median {np.median(some):.1f}, {np.mean(some < 0):.0%} below 0"
        axes.plot(some, np.linspace(0, 1, len(some)), linestyle=dash, color=colour, label=label)
    axes.axvline(0, color="black", linewidth=1)
    axes.set(xlabel="margin: raw score of the positive minus a negative's", ylabel="share of margins up to this value")
    axes.set_title("How large are the margins, and how often is one on the wrong side?")
    axes.legend(fontsize=8)
    return figure


def teacher_against_student(teacher: np.ndarray, students: dict[str, np.ndarray]) -> Figure:
    """Does the student copy the teacher's scores, or only their order? Margins of the same pairs."""
    figure, panels = _axes(len(students), width=3.4, sharex=True)
    for axes, (name, values) in zip(panels, students.items(), strict=True):
        axes.plot(teacher, values, ".", color=style(name)[0], markersize=2, alpha=0.4, rasterized=True)
        axes.axline((0, 0), slope=1, color="black", linewidth=1, linestyle="--")
        axes.set(title=f"{name}: r = {np.corrcoef(teacher, values)[0, 1]:.2f}", xlabel="teacher's margin")
    panels[0].set_ylabel("student's margin")
    figure.suptitle("Does the student copy the teacher's margins (dashed), or only their order?")
    return figure


def learning_curves(histories: dict[str, pd.DataFrame], plateau: float | None = None, *, title: str) -> Figure:
    """How do loss and margin move? Name -> history; the loss is smoothed over a twentieth of the steps."""
    figure, (left, right) = _axes(2, width=5.2)
    for number, (name, history) in enumerate(histories.items()):
        colour, marker, dash = STYLE.get(name) or _PLAIN[number % len(_PLAIN)]
        smooth = history.rolling(max(1, len(history) // 20), min_periods=1).mean()
        marks = {"marker": marker, "markevery": (number * 7, max(1, len(history) // 8)), "markersize": 5}
        left.plot(history["step"], smooth["loss"], color=colour, linestyle=dash, label=name, **marks)
        right.plot(history["step"], smooth["positive"] - smooth["negative"], color=colour, linestyle=dash, **marks)
    if plateau is not None:
        left.axhline(plateau, color="black", linewidth=1, linestyle=":", label="ln(group size): a guess")
    left.set(xlabel="step", ylabel="training loss", yscale="linear" if plateau is not None else "log")
    right.set(xlabel="step", ylabel="margin: positive minus negative score")
    right.legend(*left.get_legend_handles_labels(), fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(title)
    return figure


def quality(values: pd.DataFrame, names: Sequence[str], measure: str, *, title: str) -> Figure:
    """Which ranker ranks best, and how sure is it? values: columns ranker, query, value; bars are 95 % intervals."""
    figure, (axes,) = _axes(width=7, height=0.42 * len(names) + 1.4)
    for place, name in enumerate(reversed(names)):
        some = values.loc[values["ranker"] == name, "value"].to_numpy()
        low, high = significance.interval(some)
        colour, marker, _ = style(name.split(" ")[0])
        axes.plot([low, high], [place, place], color=colour, linewidth=2)
        axes.plot(some.mean(), place, marker, color=colour, markersize=8)
        axes.annotate(
            f"{some.mean():.3f}", (high, place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.set_yticks(range(len(names)), list(reversed(names)))
    axes.set(xlabel=f"{measure}: mean over queries, 95 % interval", title=title)
    axes.margins(x=0.12, y=0.1)
    return figure


def differences(table: pd.DataFrame, measure: str, baseline: str, *, title: str) -> Figure:
    """Who differs from the baseline, where? table: columns ranker, collection, difference, low, high."""
    places, rankers = (list(dict.fromkeys(table[column])) for column in ("collection", "ranker"))
    figure, panels = _axes(len(places), width=2.6, height=0.3 * len(rankers) + 1.2, sharex=True, sharey=True)
    for axes, place in zip(panels, places, strict=True):
        for row in table[table["collection"] == place].itertuples():
            height = len(rankers) - 1 - rankers.index(row.ranker)
            colour, marker, _ = style(row.ranker)
            axes.plot([row.low, row.high], [height, height], color=colour, linewidth=2)
            axes.plot(row.difference, height, marker, color=colour, markersize=7)
        axes.axvline(0, color="black", linewidth=1)
        axes.set(title=place, xlabel=f"difference in {measure}")
    panels[0].set_yticks(range(len(rankers)), list(reversed(rankers)))
    panels[0].set_ylim(-0.6, len(rankers) - 0.4)
    figure.suptitle(f"{title} (paired to {baseline}, 95 % intervals over queries)")
    return figure


def in_and_out_of_domain(means: pd.DataFrame, measure: str) -> Figure:
    """Does what helps in-domain help elsewhere? means: columns ranker, in_domain, out_of_domain."""
    figure, (axes,) = _axes(width=6, height=4.4)
    for row in means.itertuples():
        colour, marker, _ = style(row.ranker)
        axes.plot(row.in_domain, row.out_of_domain, marker, color=colour, markersize=10, linestyle="", label=row.ranker)
    axes.set(xlabel=f"in-domain {measure}", ylabel=f"out-of-domain {measure} (mean of the sets)")
    axes.set_title("Does what helps in-domain help elsewhere?")
    axes.legend(fontsize=8, loc="best")
    sns.despine(figure)
    return figure


def gradients(margin: np.ndarray, pushes: dict[str, np.ndarray], groups: dict[str, Sequence[str]]) -> Figure:
    """How hard does each loss push a pair apart? Margins (points,), pushes by loss (points,), losses by panel."""
    figure, panels = _axes(len(groups), width=6.2, height=4.2, sharey=True)
    for axes, (title, names) in zip(panels, groups.items(), strict=True):
        for number, name in enumerate(names):
            colour, marker, dash = style(name)
            marks = {"marker": marker, "markevery": (number * 3, 30), "markersize": 5}
            axes.plot(margin, pushes[name], color=colour, linestyle=dash, label=name, **marks)
        axes.axhline(0, color="black", linewidth=1)
        axes.set(title=title, xlabel="the student's margin: positive minus negative", ylim=(-3, 5))
        axes.legend(fontsize=7, ncol=2)
    panels[0].set_ylabel("push towards a larger margin (minus the gradient)")
    figure.suptitle("How hard does each loss push a pair apart?")
    return figure


def retrieval(by_query: pd.DataFrame, measure: str) -> Figure:
    """How well does each way of searching rank? One column a way, one row a query; mean and 95 % interval."""
    figure, (axes,) = _axes(width=7, height=0.5 * by_query.shape[1] + 1.2)
    for place, name in enumerate(reversed(by_query.columns)):
        values = by_query[name].to_numpy()
        low, high = significance.interval(values)
        colour, marker, _ = style("bm25") if name.startswith("BM25") else ("#08306b", "o", "-")
        axes.plot([low, high], [place, place], color=colour)
        axes.plot(values.mean(), place, marker, color=colour)
    axes.set_yticks(range(by_query.shape[1]), list(reversed(by_query.columns)))
    axes.set(xlabel=f"{measure} over the whole collection (95 % interval over {len(by_query)} queries)")
    axes.set_title("How well does each way of searching rank?")
    return figure
