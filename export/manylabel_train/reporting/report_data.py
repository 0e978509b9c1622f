"""The data of the report's charts and tables: metrics by label, calibration, co-occurrence, errors, learning curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve

from manylabel_train.evaluation.metrics import LOWER_IS_BETTER, expected_calibration_error, per_label_metrics
from manylabel_train.reporting.heldout_scores import HeldOutScores

MAX_CURVE_POINTS = 60
HISTOGRAM_BINS = 20
MAX_ERRORS = 25

Numbers = NDArray[np.float64]
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, eq=False)
class LabelMetrics:
    """How well the model predicts one label.

    Attributes:
        label: The label.
        threshold: Its threshold.
        support: The number of texts that have it.
        known: The number of texts for which it is known.
        predicted: The number of these that are predicted to have it.
        precision, recall, f1: At the threshold.
        average_precision: NaN without both positives and negatives.
        calibration_error: Expected calibration error; NaN if the label is known for no text.
        recalls, precisions: The precision-recall curve by increasing recall; empty if it is undefined.
        positive_scores, negative_scores: Histograms of the scores of texts with and without the label, as shares, shape
            `(HISTOGRAM_BINS,)`.
        quantiles: The 10 %, 50 % and 90 % quantiles of the scores of texts with and without the label, shape `(2, 3)`.
    """

    label: str
    threshold: float
    support: int
    known: int
    predicted: int
    precision: float
    recall: float
    f1: float
    average_precision: float
    calibration_error: float
    recalls: Numbers
    precisions: Numbers
    positive_scores: Numbers
    negative_scores: Numbers
    quantiles: Numbers


@dataclass(frozen=True)
class CalibrationBin:
    """Decisions with similar probabilities.

    Attributes:
        predicted: Their mean probability.
        observed: The share that is true.
        count: The number of decisions.
    """

    predicted: float
    observed: float
    count: int


@dataclass(frozen=True)
class ErrorExample:
    """A text with a wrong decision.

    Attributes:
        text: The text.
        labels: The labels that it has.
        missed: Labels that it has and that are not predicted, with their probabilities.
        spurious: Labels that are predicted and that it does not have, with their probabilities.
    """

    text: str
    labels: tuple[str, ...]
    missed: dict[str, float]
    spurious: dict[str, float]


@dataclass(frozen=True)
class LearningCurves:
    """Losses and metrics over epochs.

    Attributes:
        training_loss, validation_loss: By epoch; the training loss is the mean since the previous point.
        macro_f1, micro_f1: On validation texts at a threshold of 0.5, by epoch.
        best_epoch: The epoch whose model was kept; `None` if the log does not say.
        best_by: The metric that decided.
    """

    training_loss: Points
    validation_loss: Points
    macro_f1: Points
    micro_f1: Points
    best_epoch: float | None
    best_by: str


def compute_label_metrics(
    held_out: HeldOutScores, labels: Sequence[str], thresholds: Sequence[float]
) -> list[LabelMetrics]:
    """Return the metrics, curves and histograms of every label, in column order."""
    limits = np.asarray(thresholds, dtype=np.float32)
    at_threshold = per_label_metrics(held_out.scores, held_out.targets, labels, limits)
    result = []
    for column, label in enumerate(labels):
        known = held_out.known[:, column]
        scores, truth = held_out.scores[known, column], held_out.truth[known, column]
        has_both = bool(truth.any() and not truth.all())
        recalls, precisions = _curve(scores, truth, limits[column]) if has_both else (np.empty(0), np.empty(0))
        metrics = at_threshold[label]
        result.append(
            LabelMetrics(
                label=label,
                threshold=float(limits[column]),
                support=int(truth.sum()),
                known=len(truth),
                predicted=int((scores >= limits[column]).sum()),
                precision=metrics["precision"],
                recall=metrics["recall"],
                f1=metrics["f1"],
                average_precision=float(average_precision_score(truth, scores)) if has_both else float("nan"),
                calibration_error=expected_calibration_error(scores, truth) if len(scores) else float("nan"),
                recalls=recalls,
                precisions=precisions,
                positive_scores=_histogram(scores[truth]),
                negative_scores=_histogram(scores[~truth]),
                quantiles=np.stack([_quantiles(scores[truth]), _quantiles(scores[~truth])]),
            )
        )
    return result


def compute_calibration_bins(held_out: HeldOutScores, bins: int = 10) -> list[CalibrationBin]:
    """Return the reliability of all known entries together, in bins of equal width; empty bins are left out."""
    scores, truth = held_out.scores[held_out.known].astype(np.float64), held_out.truth[held_out.known]
    bin_of = np.minimum((scores * bins).astype(np.intp), bins - 1)
    return [
        CalibrationBin(float(scores[mask].mean()), float(truth[mask].mean()), int(mask.sum()))
        for mask in (bin_of == number for number in range(bins))
        if mask.any()
    ]


def compute_cooccurrence(present: NDArray[np.bool_]) -> Numbers:
    """Return the share of the texts with a row's label that also have a column's label.

    Args:
        present: Shape `(n_texts, n_labels)`.

    Returns:
        Shape `(n_labels, n_labels)`.

    Example:
        >>> compute_cooccurrence(np.array([[True, True], [True, False]])).tolist()
        [[1.0, 0.5], [1.0, 1.0]]
    """
    both = present.T.astype(np.float64) @ present
    return np.asarray(both / np.maximum(np.diag(both), 1)[:, None])


def find_worst_errors(
    held_out: HeldOutScores, labels: Sequence[str], thresholds: Sequence[float]
) -> list[ErrorExample]:
    """Return the texts with the most confident wrong decisions, alternating between missed and spurious labels.

    They alternate because the model is more confident of a rare label's absence than of anything else. The list is
    empty if the texts must not be shown.
    """
    if not held_out.texts:
        return []
    decided = held_out.scores >= np.asarray(thresholds, dtype=np.float32)
    wrong = (decided != held_out.truth) & held_out.known
    by_kind = [
        _lowest_rows(np.where(wrong & kind, probability_of_truth, np.inf).min(axis=1))
        for kind, probability_of_truth in ((held_out.truth, held_out.scores), (~held_out.truth, 1 - held_out.scores))
    ]
    rows = dict.fromkeys(row for pair in zip_longest(*by_kind) for row in pair if row is not None)
    return [_error_example(held_out, row, wrong[row], labels) for row in list(rows)[:MAX_ERRORS]]


def read_learning_curves(details: Mapping[str, Any]) -> LearningCurves | None:
    """Return the learning curves of a run; `None` if it has no log.

    Args:
        details: The run's details, with its log and training configuration.
    """
    log = details.get("log", [])
    if not log:
        return None
    best_by = str(details.get("recipe", {}).get("best_by", "macro_f1"))
    values = _points(log, f"eval_{best_by}")
    choose = min if best_by in LOWER_IS_BETTER else max
    return LearningCurves(
        training_loss=_points(log, "loss"),
        validation_loss=_points(log, "eval_loss"),
        macro_f1=_points(log, "eval_macro_f1"),
        micro_f1=_points(log, "eval_micro_f1"),
        best_epoch=choose(values, key=lambda point: point[1])[0] if values else None,
        best_by=best_by,
    )


def _lowest_rows(values: NDArray[np.floating]) -> list[int]:
    """Return the indices of the lowest finite values, lowest first."""
    return [int(row) for row in np.argsort(values, kind="stable")[:MAX_ERRORS] if np.isfinite(values[row])]


def _error_example(held_out: HeldOutScores, row: int, wrong: NDArray[np.bool_], labels: Sequence[str]) -> ErrorExample:
    present, scores = held_out.truth[row], held_out.scores[row]
    return ErrorExample(
        text=held_out.texts[row],
        labels=tuple(labels[column] for column in np.flatnonzero(present).tolist()),
        missed={labels[column]: float(scores[column]) for column in np.flatnonzero(wrong & present).tolist()},
        spurious={labels[column]: float(scores[column]) for column in np.flatnonzero(wrong & ~present).tolist()},
    )


def _curve(scores: NDArray[np.floating], truth: NDArray[np.bool_], threshold: float) -> tuple[Numbers, Numbers]:
    """Return increasing recalls and the best precision at each: `MAX_CURVE_POINTS` points and the threshold's own."""
    precision, recall, limits = precision_recall_curve(truth, scores)
    order = np.argsort(recall[:-1], kind="stable")  # the last point is a convention, not a threshold
    levels, starts = np.unique(recall[order], return_index=True)
    best = np.maximum.reduceat(precision[order], starts)
    kept = np.unique(np.linspace(0, len(levels) - 1, MAX_CURVE_POINTS).round().astype(np.intp))
    points = list(zip(levels[kept].tolist(), best[kept].tolist(), strict=True))
    reached = np.flatnonzero(limits >= threshold)
    if len(reached):
        points.append((float(recall[reached[0]]), float(precision[reached[0]])))
    recalls, precisions = zip(*sorted(points, key=lambda point: (point[0], -point[1])), strict=True)
    return np.asarray(recalls), np.asarray(precisions)


def _histogram(scores: NDArray[np.floating]) -> Numbers:
    counts, _ = np.histogram(scores, bins=HISTOGRAM_BINS, range=(0, 1))
    return np.asarray(counts / max(len(scores), 1))


def _quantiles(scores: NDArray[np.floating]) -> Numbers:
    return np.asarray(np.quantile(scores, (0.1, 0.5, 0.9)) if len(scores) else np.full(3, np.nan))


def _points(log: Sequence[Mapping[str, Any]], name: str) -> Points:
    """Return a quantity by epoch; entries without it, or with NaN, are left out."""
    return [
        (float(entry["epoch"]), float(entry[name]))
        for entry in log
        if entry.get(name) is not None and entry.get("epoch") is not None
    ]
