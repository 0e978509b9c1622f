"""How good are the labels: the field's multi-label metrics, under their own names."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics as sk

from manylabel.certify.bootstrap_f1 import f1

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
"""What `multilabel_metrics` gives; all but `hamming_loss` rise with quality."""


def multilabel_metrics(
    probabilities: NDArray[np.float32], targets: NDArray[np.float32], thresholds: ArrayLike = 0.5
) -> dict[str, float]:
    """Every multi-label metric, over all labels.

    A label without a positive in `targets` counts as 0 in macro-F1, so that the figure never rises by lacking a label;
    the ranking metrics are undefined there and leave it out. A text without labels that gets none counts as 1 in
    `samples_f1`.

    Unknown entries are left out of every figure. The metrics of texts (`samples_f1`, `ranking_average_precision`,
    `subset_accuracy`) look at a text's known labels alone, which makes them easier the fewer there are, and leave out
    a text of which nothing is known.

    Args:
        probabilities: Shape `(n_texts, n_labels)`.
        targets: 0, 1, or NaN for unknown, same shape.
        thresholds: One for all labels, or one each, shape `(n_labels,)`.

    Returns:
        The figures named in `METRICS`, each from 0 to 1.
    """
    known, truth = ~np.isnan(targets), targets > 0.5
    decided = _decided(probabilities, thresholds) & known  # an unknown entry: not decided for, not true, in no count
    per_label, support = f1(truth, decided, axis=0), truth.sum(axis=0)
    texts = known.any(axis=1)
    values = (
        f1(truth, decided, axis=None),
        per_label.mean(),
        per_label @ support / max(support.sum(), 1),
        _samples_f1(truth[texts], decided[texts]) if texts.any() else 0.0,
        _ranking(truth[texts], np.where(known, probabilities, -1)[texts]) if texts.any() else 0.0,
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
    """Precision, recall, F1 and support of every label; 0 where nothing was predicted or nothing is there.

    Args:
        probabilities: Shape `(n_texts, n_labels)`.
        targets: 0, 1, or NaN for unknown, same shape. Unknown entries are left out.
        labels: The columns' names.
        thresholds: One for all labels, or one each, shape `(n_labels,)`.
    """
    decided, truth = _decided(probabilities, thresholds) & ~np.isnan(targets), targets > 0.5
    hits = (decided & truth).sum(axis=0)
    precision, recall = hits / np.maximum(decided.sum(axis=0), 1), hits / np.maximum(truth.sum(axis=0), 1)
    columns = (precision, recall, f1(truth, decided, axis=0), truth.sum(axis=0))
    return {
        label: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
        for label, p, r, f, n in zip(labels, *columns, strict=True)
    }


def _decided(probabilities: NDArray[np.float32], thresholds: ArrayLike) -> NDArray[np.bool_]:
    return np.asarray(probabilities >= np.asarray(thresholds, dtype=probabilities.dtype))


def _samples_f1(truth: NDArray[np.bool_], decided: NDArray[np.bool_]) -> float:
    """Mean over texts of a text's F1. scikit-learn would score a text that rightly gets no label as 0."""
    nothing = ~truth.any(axis=1) & ~decided.any(axis=1)
    return float(np.where(nothing, 1.0, f1(truth, decided, axis=1)).mean())


def _ranking(truth: NDArray[np.bool_], scores: NDArray[np.float32]) -> float:
    """Label ranking average precision; an unknown entry has the score -1, below all others, and is in nobody's way."""
    return float(sk.label_ranking_average_precision_score(truth, scores))


def _mean_over_labels(
    score: Callable[..., float],
    truth: NDArray[np.bool_],
    probabilities: NDArray[np.float32],
    known: NDArray[np.bool_],
) -> float:
    """Mean of a ranking metric over the labels that have positives and negatives; 0 where there are none."""
    ranked = np.flatnonzero(truth.any(axis=0) & (~truth & known).any(axis=0))
    columns = [(truth[known[:, at], at], probabilities[known[:, at], at]) for at in ranked]
    return float(np.mean([score(*column) for column in columns])) if columns else 0.0
