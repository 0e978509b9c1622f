"""How far probabilities are from what they say."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15


def expected_calibration_error(scores: NDArray[np.floating], truth: NDArray[np.bool_], *, bins: int = BINS) -> float:
    """Mean distance between what bins of equal mass promise and what they hold.

    One label's scores are sorted and cut into `bins` parts of equally many texts (as many as there are texts, where
    there are fewer): the distance between a part's mean probability and its share of positives, averaged over the
    texts. It is the binary form of the adaptive calibration error of Nixon et al. 2019. Bins of equal width would hold
    nearly all texts of a rare label in the lowest one. On few texts it is above 0 even where nothing is wrong.

    Args:
        scores: Probabilities of one label, shape `(n,)`; at least one.
        truth: Whether each text has the label, shape `(n,)`.
        bins: How many parts.

    Returns:
        From 0 to 1.
    """
    order = np.argsort(scores, kind="stable")
    difference = scores[order].astype(np.float64) - truth[order]
    parts = np.array_split(difference, min(bins, len(scores)))
    return float(sum(abs(part.sum()) for part in parts) / len(scores))


def calibration_errors(
    probabilities: NDArray[np.float32], targets: NDArray[np.float32], labels: Sequence[str]
) -> dict[str, Any]:
    """Expected calibration error of every label and their mean.

    Args:
        probabilities: Shape `(n_texts, n_labels)`.
        targets: 0, 1, or NaN for unknown, same shape.
        labels: The columns' names.

    Returns:
        `"mean"`, and `"labels"` by name; labels of which nothing is known are left out of both.
    """
    errors = {}
    for label, scores, target in zip(labels, probabilities.T, targets.T, strict=True):
        known = ~np.isnan(target)
        if known.any():
            errors[label] = expected_calibration_error(scores[known], target[known] > 0.5)
    return {"mean": float(np.mean(list(errors.values()))) if errors else 0.0, "labels": errors}
