"""Thresholds with a minimum precision or recall, for one label on validation data."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MIN_THRESHOLD, MAX_THRESHOLD = 1e-6, 1 - 1e-6
"""A threshold lies strictly between 0 and 1. A constraint may need one outside the bounds of tuning for F-beta."""


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold with the precision and recall of one label at it.

    Attributes:
        threshold: A float32 number, as the bundle stores it.
        precision: 0 where no text reaches the threshold.
        recall: 0 where the label has no positive.
    """

    threshold: float
    precision: float
    recall: float


def find_constrained_threshold(
    scores: NDArray[np.floating], truth: NDArray[np.bool_], figure: Literal["precision", "recall"], minimum: float
) -> OperatingPoint:
    """Find the threshold that satisfies a constraint at the best other metric, else the one that comes nearest to it.

    Args:
        scores: Probabilities of one label, shape `(n,)`.
        truth: Whether each text has the label, shape `(n,)`; at least one has.
        figure: The metric that is constrained; the other one is maximised.
        minimum: The least precision or recall, above 0 and at most 1.

    Returns:
        The threshold, and the precision and recall at it.

    Example:
        >>> import numpy as np
        >>> scores, truth = np.array([0.9, 0.8, 0.6, 0.2]), np.array([True, False, True, False])
        >>> point = find_constrained_threshold(scores, truth, "recall", 1.0)
        >>> round(point.threshold, 3), round(point.precision, 3), point.recall
        (0.4, 0.667, 1.0)
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    separable = np.append(ranked[:-1] != ranked[1:], True)  # no threshold separates equal scores
    hits, predicted = np.cumsum(truth[order])[separable], np.arange(1, len(ranked) + 1)[separable]
    precision, recall = hits / predicted, hits / truth.sum()
    constrained, other = (precision, recall) if figure == "precision" else (recall, precision)
    satisfied = constrained >= minimum
    # np.lexsort sorts by its last key first
    by_merit = np.lexsort((constrained, other, satisfied) if satisfied.any() else (other, constrained))
    return evaluate_threshold(scores, truth, float(midpoint_thresholds(scores, predicted[by_merit[-1]])))


def evaluate_threshold(scores: NDArray[np.floating], truth: NDArray[np.bool_], threshold: float) -> OperatingPoint:
    """Compute precision and recall at a threshold, with decisions in float32.

    Args:
        scores: Probabilities of one label, shape `(n,)`.
        truth: Whether each text has the label, shape `(n,)`.
        threshold: Clipped to lie between 0 and 1.

    Example:
        >>> import numpy as np
        >>> evaluate_threshold(np.array([0.9, 0.2]), np.array([True, True]), 0.5)
        OperatingPoint(threshold=0.5, precision=1.0, recall=0.5)
    """
    clipped = np.float32(np.clip(threshold, MIN_THRESHOLD, MAX_THRESHOLD))
    decided = scores.astype(np.float32) >= clipped
    hits = int((decided & truth).sum())
    return OperatingPoint(float(clipped), hits / max(int(decided.sum()), 1), hits / max(int(truth.sum()), 1))


def midpoint_thresholds(scores: NDArray[np.floating], n_positive: int | NDArray[np.intp]) -> NDArray[np.float64]:
    """Return thresholds that exactly the `n_positive` highest scores reach, halfway to the next lower score.

    Halfway as far as float32 allows; otherwise the threshold is the lowest score that reaches it.

    Args:
        scores: Probabilities of one label, shape `(n,)`.
        n_positive: How many scores are to reach the threshold, from 1 to `n`, of any shape. The next score must differ.

    Returns:
        Thresholds in the shape of `n_positive`.

    Example:
        >>> import numpy as np
        >>> midpoint_thresholds(np.array([0.75, 0.25, 0.5]), np.array([1, 2, 3]))
        array([0.625, 0.375, 0.125])
    """
    ranked = -np.sort(-scores.astype(np.float64))
    above, below = ranked[np.asarray(n_positive) - 1], np.append(ranked, 0.0)[n_positive]
    middle = ((above + below) / 2).astype(np.float32)
    thresholds: NDArray[np.float64] = np.where(middle > below, middle, above)
    return thresholds
