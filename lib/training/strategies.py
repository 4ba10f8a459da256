"""The strategies of the kit, by name."""

from collections.abc import Callable
from dataclasses import replace

from lib import losses
from lib.data.groups import LABELS
from lib.losses import margins, representations, selective
from lib.models import parts
from lib.training import peers
from lib.training.bound import bind, parameters
from lib.training.strategy import OWN, PEERS, STATES, TEACHER, Strategy, Term

TEMPERATURE = 0.05  # of a cosine in InfoNCE: 1 / 20, the scale of sentence-transformers' in-batch loss


def named(name: str, **values: object) -> Strategy:
    """The strategy of a name, with other values for parameters of its losses or margins: `named("kl", temperature=2)`.

    A parameter of several functions, as in "info_nce+kl", gets the value in all of them. Raises ValueError if no
    strategy has that name, its functions no such parameter or value, or several of them with different defaults.
    """
    if not isinstance(name, str) or name not in STRATEGIES:
        raise ValueError(f"strategy={name!r}: give one of {', '.join(STRATEGIES)}")
    base = STRATEGIES[name]
    functions = [one for term in base.terms for one in (term.loss, term.part)]
    functions = list(filter(None, (*functions, base.columns, base.peers, base.align)))
    known = {parameter for function in functions for parameter in parameters(function)}
    known |= {"layers"} if base.compares_states else set()
    if unknown := [parameter for parameter in values if parameter not in known]:
        raise ValueError(f"strategy {name}: no parameter {unknown[0]!r}; it has {', '.join(sorted(known)) or 'none'}")
    for parameter in values:
        own = [parameters(function)[parameter] for function in functions if parameter in parameters(function)]
        if len({*map(repr, own)}) > 1:
            fix = "make a Strategy, and bind the value in the Term that is meant"
            raise ValueError(f"strategy {name}: {parameter!r} means {' and '.join(map(repr, own))} in its parts; {fix}")
    if not values:
        return base

    def bound(function: Callable | None) -> Callable | None:
        own = {} if function is None else parameters(function)
        return function and bind(function, **{one: value for one, value in values.items() if one in own})

    terms = tuple(replace(term, loss=bound(term.loss), part=bound(term.part)) for term in base.terms)
    text = ", ".join(f"{parameter}={value}" for parameter, value in sorted(values.items()))
    hooks = {name: bound(getattr(base, name)) for name in ("columns", "peers", "align")}
    layers = values.get("layers", base.layers)
    return replace(base, name=f"{name}({text})", terms=terms, layers=layers, **hooks)


def _labels(name: str, *style: str, **values: object) -> Strategy:
    return Strategy(name, "contrastive", (Term(bind(getattr(losses, name), **values), LABELS),), style=style)


def _teacher(name: str, *style: str) -> Strategy:
    return Strategy(name, "distillation", (Term(getattr(losses, name), TEACHER),), style=style)


def _both(name: str, *style: str, terms: tuple[Term, ...], **fields: object) -> Strategy:
    """Labels beside something else, both with weight 1, as the papers have it."""
    return Strategy(name, terms=(Term(losses.info_nce, LABELS), *terms), style=style, **fields)


def _states(name: str, terms: tuple[Term, ...], *style: str, **fields: object) -> Strategy:
    """Terms on hidden states beside one on the same teacher's scores, which trains the head."""
    return Strategy(name, "distillation", (Term(losses.kl, TEACHER), *terms), style=style, **fields)


def _own(name: str, columns: Callable, *style: str, **values: object) -> Strategy:
    return Strategy(name, "self-distillation", (Term(losses.margin_error, OWN),), bind(columns, **values), style)


# Colours: contrastive ones blue and green, distilled ones orange and red, self-distillation purple and pink, preference
# optimisation and mutual learning olive. They differ in lightness too, and in a paradigm each has its own marker and
# dash, so that figures can be read in grey.
_ALL = (
    _labels("info_nce", "#08306b", "o", "-"),
    _labels("bce", "#2171b5", "s", "--"),
    _labels("hinge", "#0e93b8", "D", ":"),
    _labels("ranknet", "#4a90c2", "^", "-."),
    _labels("lambda_loss", "#08519c", "v", "--"),
    _labels("list_mle", "#379e54", "P", "-."),
    _labels("position_list_mle", "#7a9413", "X", ":"),
    _labels("approx_ndcg", "#006d2c", "<", "-"),
    _labels("smooth_mrr", "#2f9c86", ">", "--"),
    _teacher("kl", "#a63603", "D", "-"),
    _teacher("reverse_kl", "#7f2704", "o", "--"),
    _teacher("jensen_shannon", "#d94801", "s", "-."),
    _teacher("margin_mse", "#e06c00", "v", "--"),
    _teacher("mse", "#b5890b", "P", "-."),
    _teacher("pearson", "#bf7b26", "*", ":"),
    _teacher("list_net", "#cb181d", "^", ":"),
    _teacher("weighted_ranknet", "#ef5238", "<", "--"),
    _teacher("bounded_weighted_ranknet", "#d6604d", "p", ":"),
    _teacher("adr_mse", "#67000d", ">", "-."),
    _teacher("gist", "#c4765d", "X", "-"),
    # A teacher's hidden states beside its scores
    # ARDIR: states as further labels, under perturbed inputs, which are the data's part. Only the abstract was read:
    # the distance, its weight and the layers are inferred (2211.00239)
    _states("ardir", (Term(representations.matching, STATES, 1.0, parts.projected),), "#9c3b0e", "d", "--"),
    # AFD: attention decides which layers teach which (2102.02973)
    _states("afd", (Term(representations.attended, STATES, 1.0, parts.layer_attention),), "#d2691e", "H", ":",
            layers="all"),
    # WCoRD: transport within a batch, contrast over it, of what the head reads (2012.08674)
    _states("wcord", (Term(representations.wasserstein, STATES, 1.0, parts.projected),
                      Term(representations.contrast, STATES, 0.1, parts.critic)),
            "#8b2500", "1", "-", layers=(-1,)),
    # The teacher's channels in the student's order (2103.16844)
    _states("consistent", (Term(representations.matching, STATES),), "#b35900", "h", "-.",
            align=representations.permuted),
    # Margins that the model's own document similarities ask for (2407.21515)
    _own("fixed_margin", margins.fixed, "#7f8bcb", "s", ":", margin=0.3),
    _own("adaptive_margin", margins.adaptive, "#6a51a3", "^", "--"),
    _own("distributed_margin", margins.distributed, "#3f007d", "o", "-"),
    _own("fixed_margin_in_batch", margins.fixed, "#e5628c", "D", ":", margin=0.3, in_batch=True),
    _own("adaptive_margin_in_batch", margins.adaptive, "#dd3497", "v", "--", in_batch=True),
    # Baselines without a teacher, for bi-encoders with cosine
    Strategy("in_batch", "contrastive", (Term(bind(losses.info_nce, temperature=TEMPERATURE), LABELS),),
             margins.contrast, ("#238b45", "P", "-")),
    Strategy("triplet", "contrastive", (Term(bind(losses.hinge, margin=0.3), LABELS),), style=("#005a32", "d", ":")),
    # Labels that a ranker corrected (lib.study.sources.Relabelled)
    Strategy("relabelled", "contrastive", (Term(losses.info_nce, TEACHER),), style=("#1c7f8c", "1", ":")),
    # RankNet on the teacher's order instead of the labels'
    Strategy("teacher_ranknet", "distillation", (Term(losses.ranknet, TEACHER),), style=("#a50f15", "1", "--")),
    # The teacher's scores and the labels at once; the second is "MSERanknetTeacher" in the code of 2010.02666
    Strategy("info_nce+kl", "distillation", (Term(losses.info_nce, LABELS, 0.5), Term(losses.kl, TEACHER, 0.5)),
             style=("#54278f", "h", "-")),
    Strategy("mse+ranknet", "distillation", (Term(losses.mse, TEACHER), Term(losses.ranknet, LABELS)),
             style=("#8a82c0", "H", "--")),
    # Related systems: what a ranker makes of them is said where their functions are
    Strategy("tst", "distillation", (Term(selective.teachable, TEACHER),), style=("#b2182b", "2", "-.")),
    _both("ssd", "#8c2d04", "3", ":", paradigm="distillation", terms=(Term(selective.student_guided, TEACHER),)),
    _both("reff_akd", "#b35806", "4", "--", paradigm="distillation", terms=(Term(losses.kl, TEACHER),)),
    _both("ctsl_mkt", "#99000d", "d", "-", paradigm="distillation", peers=peers.mutual, terms=(
        Term(losses.kl, TEACHER), Term(losses.kl, PEERS), Term(selective.relations, PEERS))),
    _both("mutual", "#6e6e00", "8", "-", paradigm="mutual learning", peers=peers.mutual,
          terms=(Term(losses.kl, PEERS),)),
    _both("cooperative", "#8a8a14", "D", "--", paradigm="mutual learning", peers=peers.cooperative,
          terms=(Term(losses.kl, PEERS),)),
    # The positive is preferred to each negative; DPO's teacher is its reference, typically what the run starts from
    Strategy("dpo", "preference optimisation", (Term(losses.dpo, TEACHER),), style=("#575000", "o", "-")),
    Strategy("orpo", "preference optimisation", (Term(losses.orpo, LABELS),), style=("#8f8400", "s", "--")),
)  # fmt: skip
STRATEGIES: dict[str, Strategy] = {strategy.name: strategy for strategy in _ALL}
# Losses that learn from labels, from a teacher's scores, and from preferences: their strategies have the loss's name.
CONTRASTIVE, DISTILLATION, PREFERENCE = (
    tuple(one.name for one in _ALL if one.paradigm == paradigm and hasattr(losses, one.name))
    for paradigm in ("contrastive", "distillation", "preference optimisation")
)
