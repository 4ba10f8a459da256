"""Exercises: errors told apart by which side, order or divisor they get wrong; and many ways to be right."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from lib import losses
from lib.exercises import check


def first(labels):
    return torch.zeros(len(labels), dtype=torch.long)


def margins(scores):
    return scores[:, :1] - scores[:, 1:]


def similar(query, documents):
    return torch.einsum("td,kld->ktl", query, documents)


def smooth(values, window):
    return pd.Series(values).rolling(window, min_periods=1).mean()


def first_below(values, guess):
    places = np.flatnonzero(values < guess - 0.1)
    return float(places[0]) if len(places) else np.nan


def leaves(values, guess, window, start):
    """The first step whose window, from `start(step)`, is below."""
    return next((step for step in range(len(values)) if np.mean(values[start(step) : step + 1]) < guess - 0.1), np.nan)


def without_correction(values):
    gains = {name: values[name] - values.iloc[:, 0] for name in values.columns[1:]}
    clear = {name: gain.mean() for name, gain in gains.items() if stats.ttest_1samp(gain, 0).pvalue < 0.05}
    return max(clear, key=clear.get) if clear and max(clear.values()) > 0 else values.columns[0]


def corrected(values):
    """Bonferroni's correction of one-sided tests."""
    default, *others = values.columns
    clear = {name: (values[name] - values[default]).mean() for name in others if len(others) * stats.ttest_rel(
        values[name], values[default], alternative="greater").pvalue < 0.05}  # fmt: skip
    return max(clear, key=clear.get) if clear else default


def permuted(values):
    """The largest gain against those with random signs, which corrects for the number of answers."""
    gains = values.iloc[:, 1:].to_numpy() - values.iloc[:, :1].to_numpy()
    if not gains.size:
        return values.columns[0]
    signs = np.random.default_rng(0).choice([-1, 1], (500, len(gains)))
    chance = np.quantile((signs @ gains / len(gains)).max(1), 0.95)
    return values.columns[1 + gains.mean(0).argmax()] if gains.mean(0).max() > chance else values.columns[0]


def by_total_rank(missing):
    """Fusion by the sum of ranks; `missing` is the rank in a list that lacks a name."""

    def fuse(one, other):
        def total(name):
            return sum(names.index(name) if name in names else missing(names) for names in (one, other))

        return sorted(dict.fromkeys([*one, *other]), key=total)

    return fuse


def by_mean_rank(one, other):
    return sorted(dict.fromkeys([*one, *other]),
                  key=lambda name: np.mean([names.index(name) for names in (one, other) if name in names]))  # fmt: skip


def in_turn(one, other):
    both = [name for pair in zip(one, other, strict=False) for name in pair]
    return list(dict.fromkeys([*both, *one, *other]))


def running_best(quality, cost):
    best, kept = -np.inf, []
    for place in np.argsort(cost):
        kept.append(quality[place] > best)
        best = max(best, quality[place])
    return np.array(kept)


def beaten(quality, cost):
    return [any(q >= mine and c <= price and (q > mine or c < price) for q, c in zip(quality, cost, strict=True))
            for mine, price in zip(quality, cost, strict=True)]  # fmt: skip


def across_grades(table):
    pairs = [(a.score, b.score) for _, part in table.groupby("query") for a in part.itertuples()
             for b in part.itertuples() if a.grade > b.grade]  # fmt: skip
    return np.mean([(a > b) + (a == b) / 2 for a, b in pairs])


def descending(p):
    order = np.argsort(-p)
    return np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)[np.argsort(order)]


def divided_after(scores, teacher, own, teachers):
    return F.kl_div(scores.log_softmax(-1) / own, teacher.softmax(-1) / teachers, reduction="none").sum(-1) * own**2


def kl_of(student, teacher, own, **more):
    return F.kl_div(student, teacher, reduction="none", **more).sum(-1) * own**2


def target(positive, negative):
    return ((1 + (positive * negative).sum(-1)) / 2).detach()


WRONG = [
    # A side that is detached
    ("info_nce", lambda s: s.logsumexp(-1) - s[:, 0].detach(), "positive's score is detached outside"),
    ("info_nce", lambda s: s.logsumexp(-1).detach() - s[:, 0], "sum of the denominator is detached"),
    ("info_nce", lambda s: torch.cat([s[:, :1], s[:, 1:].detach()], 1).logsumexp(-1) - s[:, 0], "negatives' scores are detached"),
    ("ranknet", lambda s: F.softplus(s[:, 1:] - s[:, :1].detach()).mean(-1), "positive's score is detached"),
    ("margin_mse", lambda s, t: (s[:, :1].detach() - s[:, 1:] - margins(t)).square().mean(-1), "positive's score is detached"),
    ("margin_mse", lambda s, t: (s[:, :1] - s[:, 1:].detach() - margins(t)).square().mean(-1), "negatives' scores are detached"),
    ("adaptive_loss", lambda q, p, n: ((q * (p.detach() - n)).sum(-1) - target(p, n)) ** 2, "positive is detached in the margin"),
    ("adaptive_loss", lambda q, p, n: ((q * (p - n.detach())).sum(-1) - target(p, n)) ** 2, "negative is detached in the margin"),
    ("maxsim", lambda q, d: (q @ d.detach().T).amax(1).sum(), "document is detached"),
    # A shape that is nearly right
    ("info_nce", lambda s: s.logsumexp(-1, keepdim=True) - s[:, :1], "dimension of 1 is left over"),
    ("info_nce", lambda s: s.logsumexp(-1, keepdim=True) - s[:, 0], r"column \(n, 1\) meets a row"),
    ("info_nce_gradient", lambda s: (s.softmax(-1) - F.one_hot(first(s), s.shape[1])).T, "rows and columns are swapped"),
    ("maxsim", lambda q, d: (q @ d.T).max(1).sum(), r"\.values"),
    ("maxsim", lambda q, d: (q @ d.T).max(1), r"returns a pair.*\.values"),
    ("frontier", lambda q, c: np.flatnonzero(~np.array(beaten(q, c))), "Indices"),
    # A small number in a logarithm
    ("info_nce", lambda s: -(s.softmax(-1) + 1e-6).log()[:, 0], "small number is added in a logarithm"),
    ("info_nce", lambda s: -s.softmax(-1).clamp(min=1e-12).log()[:, 0], "probability is clamped"),
    ("kl", lambda s, t, a, b: kl_of(((s / a).softmax(-1) + 1e-9).log(), (t / b).softmax(-1), a), "small number"),
    ("ranknet", lambda s: -(margins(s).sigmoid() + 1e-9).log().mean(-1), "small number"),
    # Temperatures, softmaxes, errors of another kind
    ("info_nce", lambda s: F.cross_entropy(s / 0.05, first(s), reduction="none"), r"0\.05, a temperature"),
    ("info_nce", lambda s: F.cross_entropy(s, first(s), reduction="none", label_smoothing=0.1), "smoothed"),
    ("kl", divided_after, "divide the student's log-probabilities and the teacher's"),
    ("kl", lambda s, t, a, b: kl_of((s / a).log_softmax(-1), (t / b).log_softmax(-1), a), "log_target=True"),
    ("kl", lambda s, t, a, b: kl_of((s / a).log_softmax(-1), (t / b).softmax(-1), a, log_target=True), "taken for a logarithm"),
    ("kl", lambda s, t, a, b: losses.jensen_shannon(s / a, t / b) * a**2, "Jensen and Shannon"),
    ("margin_mse", lambda s, t: losses.margin_mse(s, t.softmax(-1)), "softmax is taken of the teacher's scores alone"),
    ("margin_mse", lambda s, t: (margins(t) - margins(s)).relu().square().mean(-1), "hinge"),
    ("margin_mse", lambda s, t: F.smooth_l1_loss(margins(s), margins(t), reduction="none").mean(-1), "smooth L1"),
    ("margin_mse", lambda s, t: (margins(s) - t.amax(-1, keepdim=True) + t[:, 1:]).square().mean(-1), "best document"),
    ("ranknet", lambda s: F.softplus(s[:, None] - s[:, :, None]).mean((1, 2)), "All pairs of documents"),
    ("adaptive_loss", lambda q, p, n: ((q * (p - n)).sum(-1) - target(q, p)) ** 2, "compares query and positive"),
    ("adaptive_target", lambda p, n: (1 + (p * n).mean(-1)) / 2, "averaged over the dimensions"),
    ("adaptive_target", lambda p, n: (1 + (p * n).sum(-1) / (p.norm() * n.norm())) / 2, "length of the whole batch"),
    ("adaptive_target", lambda p, n: (1 - (F.normalize(p) - F.normalize(n)).norm(dim=-1)) / 2, "distance"),
    ("adaptive_target", lambda p, n: F.cosine_similarity(p, n).square(), "opposite of the positive"),
    ("maxsim", lambda q, d: (q @ d.T).argmax(1).sum(), "Positions are added up"),
    ("maxsim", lambda q, d: (q @ d.T).max() * len(q), "each has its own"),
    ("masked_maxsim", lambda q, d, m: (similar(q, d).amax(-1) * m[:, :1]).sum(-1), "after the maximum"),
    ("masked_maxsim", lambda q, d, m: (similar(q, d) - (~m)[:, None] * 1.0).amax(-1).sum(-1), "padding"),
    ("masked_maxsim", lambda q, d, m: similar(q, d).masked_fill(~m[:, None], -1).amax(-1).sum(-1), "padding"),
    # What is counted, averaged, divided and sorted
    ("score_margins", lambda s: s[:, :1] - s[:, 1:].mean(1, keepdims=True) + 0 * s[:, 1:], "averaged first"),
    ("correct", across_grades, "grade 2 and 1"),
    ("guessing_loss", lambda docs: 1 / np.log(docs), "divides 1"),
    ("departure", lambda curve, guess, window: first_below(smooth(curve, window) + 0.1 * guess - 0.1, guess), r"0\.9 \* guess"),
    ("departure", lambda curve, guess, window: first_below(np.convolve(curve, np.ones(window) / window, "same"), guess), "'same'"),
    ("departure", lambda curve, guess, window: first_below(np.convolve(curve, np.ones(window) / window, "valid"), guess), "looks ahead"),
    ("departure", lambda curve, guess, window: first_below(np.convolve(curve, np.ones(window) / window)[: len(curve)], guess), "before the first"),
    ("departure", lambda curve, guess, window: first_below(pd.Series(curve).ewm(span=window).mean(), guess), "exponential"),
    ("departure", lambda curve, guess, window: leaves(curve, guess, window, lambda step: max(0, step - window)), "one too long"),
    ("effect", lambda a, b: (a.mean() - b.mean()) / np.sqrt(a.var(ddof=1) + b.var(ddof=1)), "sum, unpaired"),
    ("effect", lambda a, b: (a - b).mean() / np.concatenate([a, b]).std(ddof=1), "all values together"),
    ("holm", descending, "sorted the wrong way round"),
    ("holm", lambda p: np.minimum(np.sort(p) * np.arange(len(p), 0, -1), 1), "largest so far.*come back sorted"),
    ("share_of_leaks", lambda train, test: len(test.merge(train)) / test["query"].nunique(), "merged on query and document"),
    ("share_of_leaks", lambda train, test: 0.0, "always 0[.]"),
    ("share_of_leaks", lambda train, test: test[test.document.isin(train.document)]["query"].nunique() / test.document.nunique(), "documents of the test split"),
    ("share_of_leaks", lambda train, test: test.groupby("query").document.first().isin(train.document).mean(), "Only the first document"),
    ("recall", lambda found, exact, depth: np.mean([len(set(a) & set(b)) / depth for a, b in zip(found, exact, strict=True)]), "divides alone"),
    ("search", lambda q, d, depth: np.argsort(q @ d.T, axis=1)[:, ::-1][:, -depth:], r"smallest.*\[:, ::-1\]"),
    ("search", lambda q, d, depth: np.argsort(q @ d.T, axis=1)[::-1][:, -depth:], "queries are turned round by"),
    ("frontier", running_best, "best so far.*order of cost"),
    ("frontier", lambda q, c: ~np.array(beaten(q, c))[np.argsort(c, kind="stable")], "come in the order of cost"),
    ("frontier", lambda q, c: np.array([bool((q[i] > q[c < c[i]]).all()) for i in range(len(q))]), "only with cheaper ones"),
    # Open exercises
    ("p_value", lambda a, b: float(2 * stats.norm.sf(abs((a - b).mean() / max((a - b).std(), 1e-12)))), "standard error"),
    ("choose", without_correction, "correct for their number"),
    ("choose", lambda values: values.mean().idxmax() if values.mean().max() - values.iloc[:, 0].mean() > 0.1 else values.columns[0], "chance"),
    ("fuse", lambda one, other: list(dict.fromkeys([*one, *other])), "one ranking after the other"),
    ("fuse", by_total_rank(lambda names: 0), "gains from being missing"),
    ("fuse", by_mean_rank, "gains from being missing"),
    ("fuse", lambda one, other: by_total_rank(len)(one, other)[::-1], "order is reversed"),
]  # fmt: skip

RIGHT = [
    ("info_nce", lambda s: F.cross_entropy(s, first(s), reduction="none")),
    ("info_nce", lambda s: -s.log_softmax(1)[:, 0]),
    ("info_nce", lambda s: (s - s[:, :1]).logsumexp(-1)),
    ("info_nce", lambda s: F.softplus((s[:, 1:] - s[:, :1]).logsumexp(-1))),
    ("info_nce", lambda s: F.cross_entropy(s.float(), first(s), reduction="none")),
    ("info_nce_gradient", lambda s: s.softmax(1) - F.one_hot(first(s), s.shape[1])),
    ("info_nce_gradient", lambda s: torch.cat([s.softmax(1)[:, :1] - 1, s.softmax(1)[:, 1:]], 1)),
    ("ranknet", lambda s: -F.logsigmoid(margins(s)).mean(1)),
    ("ranknet", lambda s: F.binary_cross_entropy_with_logits(margins(s), torch.ones_like(s[:, 1:]), reduction="none").mean(1)),
    ("ranknet", lambda s: torch.logaddexp(-margins(s), torch.zeros_like(s[:, 1:])).mean(1)),
    ("margin_mse", lambda s, t: F.mse_loss(margins(s), margins(t), reduction="none").mean(1)),
    ("margin_mse", lambda s, t: (margins(s - t) ** 2).sum(-1) / (s.shape[1] - 1)),
    ("margin_mse", lambda s, t: losses.margin_mse(s, t.log_softmax(-1))),  # margins do not see the logsumexp
    ("kl", lambda s, t, a, b: kl_of(F.log_softmax(s / a, 1), F.log_softmax(t / b, 1), a, log_target=True)),
    ("kl", lambda s, t, a, b: kl_of(F.log_softmax(s / a, 1), F.softmax(t / b, 1), a)),
    ("kl", lambda s, t, a, b: (F.cross_entropy(s / a, F.softmax(t / b, 1), reduction="none") + (F.softmax(t / b, 1) * F.log_softmax(t / b, 1)).sum(1)) * a**2),
    ("adaptive_target", lambda p, n: (1 + F.cosine_similarity(p.float(), n.float())) / 2),
    ("adaptive_target", lambda p, n: (1 + (F.normalize(p, dim=1) * F.normalize(n, dim=1)).sum(1)) / 2),
    ("adaptive_target", lambda p, n: 1 - (F.normalize(p, dim=1) - F.normalize(n, dim=1)).square().sum(1) / 4),
    ("adaptive_loss", lambda q, p, n: ((q * p).sum(-1) - (q * n).sum(-1) - target(p, n)) ** 2),
    ("adaptive_loss", lambda q, p, n: F.mse_loss((q @ (p - n).T).diagonal(), target(p, n), reduction="none")),
    ("adaptive_loss", lambda q, p, n: ((q * (p - n)).sum(-1) - (1 + F.cosine_similarity(p.detach(), n.detach())) / 2) ** 2),
    ("maxsim", lambda q, d: (q @ d.T).max(dim=1).values.sum()),
    ("maxsim", lambda q, d: sum((d @ token).max() for token in q)),
    ("masked_maxsim", lambda q, d, m: (d @ q.T).masked_fill(~m[..., None], -1e9).amax(1).sum(-1)),
    ("masked_maxsim", lambda q, d, m: torch.stack([(q @ one[real].T).amax(1).sum() for one, real in zip(d, m, strict=True)])),
    ("masked_maxsim", lambda q, d, m: torch.where(m[:, None], similar(q, d), -1e4).max(-1)[0].sum(-1)),
    ("score_margins", lambda s: s[:, [0]] - np.delete(s, 0, 1)),
    ("correct", lambda t: np.mean([(a > b) + (a == b) / 2 for _, part in t.groupby("query") for a in part.score[part.grade > 0] for b in part.score[part.grade == 0]])),
    ("guessing_loss", lambda docs: float(F.cross_entropy(torch.zeros(1, docs), torch.tensor([0])))),
    ("departure", lambda curve, guess, window: leaves(curve, guess, window, lambda step: max(0, step - window + 1))),
    ("departure", lambda curve, guess, window: first_below(np.convolve(curve, np.ones(window))[: len(curve)] / np.minimum(np.arange(1, len(curve) + 1), window), guess)),
    ("effect", lambda a, b: stats.ttest_rel(a, b).statistic / len(a) ** 0.5),
    ("effect", lambda a, b: pd.Series(a - b).mean() / pd.Series(a - b).std()),
    ("holm", lambda p: __import__("statsmodels.stats.multitest").stats.multitest.multipletests(p, method="holm")[1]),
    ("holm", lambda p: [min(1, max(q * (len(p) - (p < q).sum()) for q in p if q <= one)) for one in p]),
    ("p_value", lambda a, b: 1.0 if np.allclose(a, b) else stats.ttest_rel(a, b).pvalue),
    ("p_value", lambda a, b: 1.0 if np.allclose(a, b) else stats.wilcoxon(a, b).pvalue),
    ("p_value", lambda a, b: stats.permutation_test((a, b), lambda x, y, axis: (x - y).mean(axis), permutation_type="samples", n_resamples=200, vectorized=True, random_state=0).pvalue),
    ("choose", corrected),
    ("choose", permuted),
    ("fuse", by_total_rank(len)),
    ("fuse", by_total_rank(lambda names: 1000)),
    ("fuse", in_turn),
    ("recall", lambda found, exact, depth: np.mean([len({*a[:depth]} & {*b[:depth]}) / depth for a, b in zip(found, exact, strict=True)])),
    ("search", lambda q, d, depth: torch.from_numpy(q @ d.T).topk(depth).indices),
    ("search", lambda q, d, depth: np.argsort(q @ d.T, axis=1)[:, ::-1][:, :depth]),
    ("search", lambda q, d, depth: np.argsort(q @ d.T, axis=1)[:, : -depth - 1 : -1]),
    ("share_of_leaks", lambda train, test: test.merge(train, on="document")["query_x"].nunique() / test["query"].nunique()),
    ("share_of_leaks", lambda train, test: test.groupby("query").document.agg(lambda own: bool({*own} & {*train.document})).mean()),
    ("reciprocal_rank", lambda names, good, depth: max([0.0] + [1 / (place + 1) for place, name in enumerate(names) if name in good and place < depth])),
    ("frontier", lambda q, c: [not one for one in beaten(q, c)]),
    ("frontier", lambda q, c: np.array([q[i] >= q[c <= c[i]].max() and c[i] <= c[q >= q[i]].min() for i in range(len(q))])),
    ("all_in", lambda own, teacher, pairs, rate, students: (own * students + teacher + pairs / rate) / students),
    ("listwise", losses.approx_ndcg),
    ("combine", lambda teachers: teachers.argsort(-1).argsort(-1).double().mean(0)),
    ("combine", lambda teachers: ((teachers - teachers.mean(-1, keepdim=True)) / (teachers.std(-1, keepdim=True) + 1e-9)).mean(0)),
    ("agrees", lambda teacher, student: np.mean([stats.kendalltau(*pair).statistic for pair in zip(teacher, student, strict=True)])),
    ("schedule", lambda step, steps: min((step + 1) / max(1, steps // 10), (1 + np.cos(np.pi * step / steps)) / 2 + 0.025, 1)),
    ("sparing_loss", lambda s, w: F.softplus((s[:, 1:] - s[:, :1] + torch.log(1 - w[:, 1:])).logsumexp(-1))),
    ("target_margin", lambda cosine: (1 + cosine) / 2 * torch.sigmoid((0.93 - cosine) * 100)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "function", "words"), WRONG, ids=lambda one: one if isinstance(one, str) else "")
def test_a_wrong_solution_is_named(name, function, words):
    with pytest.raises(check.NotYet) as caught:
        getattr(check, name)(function)
    says = str(caught.value)
    assert re.search(words, says), says
    assert not says.startswith("For ") and "\n" not in says and says.endswith(".")


@pytest.mark.parametrize(("name", "function"), RIGHT, ids=lambda one: one if isinstance(one, str) else "")
def test_another_way_to_be_right_passes(name, function, capsys):
    getattr(check, name)(function)


def test_a_gradient_that_is_wrong_in_a_way_of_its_own_is_not_taken_for_a_wrong_value():
    with pytest.raises(check.NotYet, match="values are right and the gradients are not"):
        check.info_nce(lambda s: 2 * (v := s.logsumexp(-1) - s[:, 0]) - v.detach())


def test_an_argument_that_no_gradient_reaches_is_named():
    with pytest.raises(check.NotYet, match="no gradient reaches the first and the second argument"):
        check.adaptive_loss(lambda q, p, n: ((q.detach() * (p.detach() - n)).sum(-1) - target(p, n)) ** 2)
