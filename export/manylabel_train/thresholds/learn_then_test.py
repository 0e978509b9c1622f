"""Thresholds that guarantee a label's precision or recall on new texts, with stated confidence.

The guarantee. Let the held-out texts and the new texts be exchangeable (same source, same time, same way of labelling:
every order of them is equally likely), and let nothing else have used the held-out texts: not training, not the choice
of an epoch, not calibration, not tuning. Then, with probability `confidence` over the draw of the held-out texts,
precision or recall at the threshold is at least `minimum` on all texts of this kind. The guarantee is for one label:
for several labels the probabilities of failure add up.

The method is Learn then Test (Angelopoulos et al. 2021, section 2). Every threshold is a hypothesis, that the metric is
below the minimum there, with an exact binomial p-value. Hypotheses are tested in an order fixed beforehand until one is
not rejected (fixed-sequence testing), which needs no correction for multiple tests. Conformal risk control
(Angelopoulos et al. 2022, theorem 1) guarantees something else: it bounds the *expected* recall, averaged over draws,
so that about half of the draws fall short.

Recall falls as the threshold rises, so thresholds are tested in rising order, and the last that passes is an order
statistic of the positives' scores. Precision has no such order. Its order is learned on the validation texts, which
tuning and calibration use as well (the paper's split fixed-sequence testing): it starts at the threshold with the
strongest evidence and goes down, toward more recall.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from math import ceil, log

from manylabel.errors import missing_extra

if find_spec("scipy") is None:
    raise missing_extra("export", "scipy")

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binom

from manylabel_train.thresholds.constraints import MIN_THRESHOLD, midpoint_thresholds

Numbers = NDArray[np.floating]
Truth = NDArray[np.bool_]
Counts = NDArray[np.intp]


@dataclass(frozen=True)
class Guarantee:
    """A threshold with what the held-out texts guarantee of it.

    Attributes:
        threshold: A float32 number, as the bundle stores it.
        bound: Lower confidence bound of the metric, at the requested confidence.
    """

    threshold: float
    bound: float


def min_sample_size(minimum: float, confidence: float) -> int:
    """Return how many held-out texts a guarantee needs at least, if all of them are decided correctly.

    Example:
        >>> min_sample_size(0.9, 0.95)
        29
    """
    return ceil(log(1 - confidence) / log(minimum) - 1e-9)


def guarantee_recall(scores: Numbers, truth: Truth, minimum: float, confidence: float) -> Guarantee:
    """Return the highest threshold that guarantees recall, or one below all positives where there are too few.

    The threshold lies below the deciding positive, halfway to the next lower score: it misses no more positives, and
    small numerical differences change fewer decisions.

    Args:
        scores: Probabilities of one label for the held-out texts, shape `(n,)`.
        truth: Whether each text has the label, shape `(n,)`; at least one has.
        minimum: The least recall, above 0 and below 1.
        confidence: Above 0 and below 1.

    Example:
        >>> import numpy as np
        >>> scores = np.linspace(0.01, 0.99, 99)
        >>> guarantee = guarantee_recall(scores, scores > 0.5, minimum=0.8, confidence=0.9)
        >>> round(guarantee.threshold, 3), round(guarantee.bound, 3)
        (0.555, 0.819)
    """
    positives = np.sort(scores[truth])
    p_values = binom.cdf(np.arange(len(positives)), len(positives), 1 - minimum)
    missed = max(int((p_values <= 1 - confidence).sum()) - 1, 0)
    threshold = max(float(midpoint_thresholds(scores, int((scores >= positives[missed]).sum()))), MIN_THRESHOLD)
    hits = int((positives >= np.float32(threshold)).sum())
    return Guarantee(threshold, lower_confidence_bound(hits, len(positives), confidence))


def guarantee_precision(
    scores: Numbers, truth: Truth, validation: tuple[Numbers, Truth], minimum: float, confidence: float
) -> Guarantee:
    """Return the lowest threshold that guarantees precision; without one, the threshold with the strongest evidence.

    Args:
        scores: Probabilities of one label for the held-out texts, shape `(n,)`.
        truth: Whether each text has the label, shape `(n,)`.
        validation: Scores and truth of other texts, on which the order of the tests is learned; at least one has the
            label.
        minimum: The least precision, above 0 and below 1.
        confidence: Above 0 and below 1.

    Example:
        >>> import numpy as np
        >>> scores = np.linspace(0.01, 0.99, 99)
        >>> guarantee = guarantee_precision(scores, scores > 0.5, (scores, scores > 0.5), 0.8, 0.9)
        >>> round(guarantee.threshold, 3), round(guarantee.bound, 3)
        (0.505, 0.954)
    """
    candidates = _order_thresholds(*validation, minimum)
    hits, predicted = _count_predictions(scores, truth, candidates)
    failed = np.flatnonzero(binom.sf(hits - 1, predicted, minimum) > 1 - confidence)
    last = max(int(failed[0] if len(failed) else len(candidates)) - 1, 0)
    bound = lower_confidence_bound(int(hits[last]), int(predicted[last]), confidence)
    return Guarantee(float(candidates[last]), bound)


def lower_confidence_bound(successes: int, trials: int, confidence: float) -> float:
    """Return the exact one-sided lower bound of a binomial proportion (Clopper and Pearson 1934).

    Example:
        >>> round(lower_confidence_bound(29, 29, 0.95), 4)
        0.9019
    """
    return float(beta.ppf(1 - confidence, successes, trials - successes + 1)) if successes else 0.0


def _order_thresholds(scores: Numbers, truth: Truth, minimum: float) -> NDArray[np.float64]:
    """Return thresholds right below positives, in falling order from the one with the least p-value."""
    positives = np.unique(scores[truth])[::-1]
    ranks = len(scores) - np.searchsorted(np.sort(scores), positives)
    thresholds = np.maximum(midpoint_thresholds(scores, ranks), MIN_THRESHOLD)
    hits, predicted = _count_predictions(scores, truth, thresholds)
    return thresholds[int(np.argmin(binom.sf(hits - 1, predicted, minimum))) :]


def _count_predictions(scores: Numbers, truth: Truth, thresholds: NDArray[np.float64]) -> tuple[Counts, Counts]:
    """Return for each threshold the number of true positives, and of all predicted positives."""
    order = np.argsort(scores)
    below = np.searchsorted(scores[order], thresholds.astype(np.float32))
    return truth.sum() - np.append(0, np.cumsum(truth[order]))[below], len(scores) - below
