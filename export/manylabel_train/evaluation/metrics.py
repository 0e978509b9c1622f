"""Multi-label metrics under their usual names, and the expected calibration error."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics as sk

from manylabel.certify.bootstrap_f1 import f1_score

METRICS = (
    "micro_f1",
    "macro_f1",
    "weighted_f1",
    "samples_f1",
    "ranking_average_precision",
    "macro_roc_auc",
    "macro_average_precision",
    "hamming_loss",
    "subset_accuracy",
)
"""The metrics of `multilabel_metrics`. Higher is better, except for `LOWER_IS_BETTER`."""
LOWER_IS_BETTER = ("hamming_loss",)

CALIBRATION_BINS = 15


def multilabel_metrics(
    probabilities: NDArray[np.float32], targets: NDArray[np.float32], thresholds: ArrayLike = 0.5
) -> dict[str, float]:
    """Compute every multi-label metric over all labels.

    A label without a positive in `targets` counts as 0 in macro-F1, so that the metric never rises by missing a label;
    ranking metrics are undefined there and leave the label out. A text without labels that is predicted none counts as
    1 in `samples_f1`.

    Unknown entries are left out of every metric. Metrics per text (`samples_f1`, `ranking_average_precision`,
    `subset_accuracy`) use only a text's known labels, which makes them easier the fewer there are, and leave out texts
    without known labels.

    Args:
        probabilities: Shape `(n_texts, n_labels)`.
        targets: 0, 1, or NaN for unknown, same shape.
        thresholds: One for all labels, or one each, shape `(n_labels,)`.

    Returns:
        The metrics in `METRICS`, each from 0 to 1.

    Example:
        >>> import numpy as np
        >>> scores = np.array([[0.9, 0.2], [0.6, 0.8]], dtype=np.float32)
        >>> targets = np.array([[1, 0], [0, 1]], dtype=np.float32)
        >>> metrics = multilabel_metrics(scores, targets)
        >>> metrics["micro_f1"], metrics["subset_accuracy"], metrics["hamming_loss"]
        (0.8, 0.5, 0.25)
    """
    known, truth = ~np.isnan(targets), targets > 0.5
    decided = _decide(probabilities, thresholds) & known  # an unknown entry is neither predicted nor true: not counted
    per_label, support = f1_score(truth, decided, axis=0), truth.sum(axis=0)
    texts = known.any(axis=1)
    values = (
        f1_score(truth, decided, axis=None),
        per_label.mean(),
        per_label @ support / max(support.sum(), 1),
        _samples_f1(truth[texts], decided[texts]) if texts.any() else 0.0,
        _ranking_average_precision(truth[texts], np.where(known, probabilities, -1)[texts]) if texts.any() else 0.0,
        _mean_over_labels(sk.roc_auc_score, truth, probabilities, known),
        _mean_over_labels(sk.average_precision_score, truth, probabilities, known),
        np.sum(truth != decided) / max(known.sum(), 1),
        np.sum((truth == decided).all(axis=1)[texts]) / max(texts.sum(), 1),
    )
    return {name: float(value) for name, value in zip(METRICS, values, strict=True)}


def per_label_metrics(
    probabilities: NDArray[np.float32],
    targets: NDArray[np.float32],
    labels: Sequence[str],
    thresholds: ArrayLike = 0.5,
) -> dict[str, dict[str, float]]:
    """Compute precision, recall, F1 and support of every label; 0 where nothing is predicted or nothing is true.

    Args:
        probabilities: Shape `(n_texts, n_labels)`.
        targets: 0, 1, or NaN for unknown, same shape. Unknown entries are left out.
        labels: The labels in column order.
        thresholds: One for all labels, or one each, shape `(n_labels,)`.

    Example:
        >>> import numpy as np
        >>> scores = np.array([[0.9], [0.6], [0.1]], dtype=np.float32)
        >>> per_label_metrics(scores, np.array([[1], [0], [0]], dtype=np.float32), ["price"])["price"]["precision"]
        0.5
    """
    decided, truth = _decide(probabilities, thresholds) & ~np.isnan(targets), targets > 0.5
    hits = (decided & truth).sum(axis=0)
    precision, recall = hits / np.maximum(decided.sum(axis=0), 1), hits / np.maximum(truth.sum(axis=0), 1)
    columns = (precision, recall, f1_score(truth, decided, axis=0), truth.sum(axis=0))
    return {
        label: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
        for label, p, r, f, n in zip(labels, *columns, strict=True)
    }


def expected_calibration_error(
    scores: NDArray[np.floating], truth: NDArray[np.bool_], *, bins: int = CALIBRATION_BINS
) -> float:
    """Return the mean gap between predicted and observed frequency, over bins of equal mass.

    The scores of one label are sorted and cut into `bins` bins of equally many texts (one text each where there are
    fewer texts than bins). A bin's gap is the distance between its mean probability and its share of positives; gaps
    are averaged over texts. This is the binary form of the adaptive calibration error (Nixon et al. 2019, section 3).
    Bins of equal width would put nearly all texts of a rare label into the lowest bin. On few texts the error is above
    0 even for perfectly calibrated scores.

    Args:
        scores: Probabilities of one label, shape `(n,)`; at least one.
        truth: Whether each text has the label, shape `(n,)`.
        bins: Number of bins.

    Returns:
        From 0 to 1.

    Example:
        >>> import numpy as np
        >>> scores = np.array([0.25, 0.25, 0.25, 0.25])
        >>> expected_calibration_error(scores, np.array([True, False, False, False]), bins=1)
        0.0
        >>> expected_calibration_error(scores, np.array([True, True, False, False]), bins=1)
        0.25
    """
    order = np.argsort(scores, kind="stable")
    difference = scores[order].astype(np.float64) - truth[order]
    parts = np.array_split(difference, min(bins, len(scores)))
    return float(sum(abs(part.sum()) for part in parts) / len(scores))


def calibration_errors(
    probabilities: NDArray[np.float32], targets: NDArray[np.float32], labels: Sequence[str]
) -> dict[str, Any]:
    """Return the expected calibration error of every label, and their mean.

    Args:
        probabilities: Shape `(n_texts, n_labels)`.
        targets: 0, 1, or NaN for unknown, same shape.
        labels: The labels in column order.

    Returns:
        `"mean"`, and `"labels"` by name. Labels without any known entry are left out of both.

    Example:
        >>> import numpy as np
        >>> scores = np.array([[0.75], [0.75]], dtype=np.float32)
        >>> calibration_errors(scores, np.array([[1], [1]], dtype=np.float32), ["price"])
        {'mean': 0.25, 'labels': {'price': 0.25}}
    """
    errors = {}
    for label, scores, target in zip(labels, probabilities.T, targets.T, strict=True):
        known = ~np.isnan(target)
        if known.any():
            errors[label] = expected_calibration_error(scores[known], target[known] > 0.5)
    return {"mean": float(np.mean(list(errors.values()))) if errors else 0.0, "labels": errors}


def _decide(probabilities: NDArray[np.float32], thresholds: ArrayLike) -> NDArray[np.bool_]:
    return np.asarray(probabilities >= np.asarray(thresholds, dtype=probabilities.dtype))


def _samples_f1(truth: NDArray[np.bool_], decided: NDArray[np.bool_]) -> float:
    """Return the mean F1 of a text. scikit-learn scores a text that correctly gets no label as 0; here it is 1."""
    both_empty = ~truth.any(axis=1) & ~decided.any(axis=1)
    return float(np.where(both_empty, 1.0, f1_score(truth, decided, axis=1)).mean())


def _ranking_average_precision(truth: NDArray[np.bool_], scores: NDArray[np.float32]) -> float:
    """Return label ranking average precision. Unknown entries have the score -1, below all others: no effect."""
    return float(sk.label_ranking_average_precision_score(truth, scores))


def _mean_over_labels(
    score: Callable[..., float],
    truth: NDArray[np.bool_],
    probabilities: NDArray[np.float32],
    known: NDArray[np.bool_],
) -> float:
    """Return the mean of a ranking metric over labels with positives and negatives; 0 without such labels."""
    ranked = np.flatnonzero(truth.any(axis=0) & (~truth & known).any(axis=0))
    columns = [(truth[known[:, at], at], probabilities[known[:, at], at]) for at in ranked]
    return float(np.mean([score(*column) for column in columns])) if columns else 0.0
