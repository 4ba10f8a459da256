"""Are scores probabilities of relevance? A scaling fitted on other queries, reliability, and how far it is off.

All functions take arrays (pairs,): raw scores or probabilities, and whether the document is relevant.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import optimize, special


class Scaling(NamedTuple):
    """The probability of relevance is sigmoid(slope * score + offset)."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities, (pairs,), of raw scores, (pairs,)."""
        return special.expit(self.slope * np.asarray(scores, dtype=float) + self.offset)


def fit(scores: np.ndarray, relevant: np.ndarray, *, offset: bool) -> Scaling:
    """The scaling of the highest likelihood. Without an offset its slope is 1 / temperature, and not below 0.

    With one: Platt 1999, "Probabilistic outputs for support vector machines"; without: temperature scaling, Guo et al.
    2017, section 4.2, https://arxiv.org/abs/1706.04599. The targets are Platt's (section 2.2), a little off 0 and 1, so
    that scores which separate the two kinds have a finite slope. Raises ValueError unless there are documents of both
    kinds.
    """
    scores, relevant = np.asarray(scores, dtype=float), np.asarray(relevant, dtype=bool)
    positives, negatives = relevant.sum(), (~relevant).sum()
    if not positives or not negatives:
        raise ValueError(f"{positives} relevant and {negatives} other documents: a scaling needs both kinds")
    spread = scores.std() or 1.0  # the search runs on scores of unit size
    scores, targets = scores / spread, np.where(relevant, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        logits = values[0] * scores + (values[1] if offset else 0.0)
        errors = special.expit(logits) - targets
        gradient = [np.mean(errors * scores), np.mean(errors) if offset else 0.0]
        return float(np.mean(np.logaddexp(0, logits) - targets * logits)), np.array(gradient)

    slope, constant = optimize.minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    if not offset:  # scores that are mostly above 0 ask for a negative one; the loss is convex, so 0 is then the best
        slope = max(slope, 0.0)
    return Scaling(float(slope / spread), float(constant))


def reliability(probabilities: np.ndarray, relevant: np.ndarray, *, bins: int = 10) -> pd.DataFrame:
    """One row per bin of equally many pairs, from low to high: predicted and observed (shares), pairs."""
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    relevant = np.asarray(relevant, dtype=float)
    return pd.DataFrame({
        "predicted": [np.mean(probabilities[part]) for part in parts],
        "observed": [relevant[part].mean() for part in parts], "pairs": list(map(len, parts)),
    })  # fmt: skip


def expected_error(probabilities: np.ndarray, relevant: np.ndarray, *, bins: int = 10) -> float:
    """Expected calibration error (ECE): mean distance of predicted and observed, weighted by pairs.

    Guo et al. 2017, equation 3, with bins of equally many pairs: most documents are not relevant, and bins of equal
    width would hold nearly all of them in the first.
    """
    table = reliability(probabilities, relevant, bins=bins)
    return float(np.average((table["predicted"] - table["observed"]).abs(), weights=table["pairs"]))
