"""The drift monitor: counts the scores of current texts in bounded memory. Thread-safe."""

import threading

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manylabel.bundle.bundle import Bundle, Variant
from manylabel.classifier import Classifier
from manylabel.drift.baseline import ScoreBaseline
from manylabel.drift.report import Counts, DriftReport, compare_with_baseline
from manylabel.errors import InputError

WINDOW = 10_000
"""Number of texts after which older ones are forgotten."""

BLOCK_ROWS = 4096
"""Texts that are counted at a time. Bounds memory: about ten bytes for each text and label."""


class DriftMonitor:
    """Compares a model's current scores with those of its validation texts.

    It counts the last `window` texts, and up to as many before them. Older texts are forgotten, so that a change shows
    within one window however long the process has run.

    Args:
        baseline: The validation texts' scores.
        labels: The labels in column order.
        thresholds: The thresholds that decide, shape `(n_labels,)`.
        window: Number of texts.

    Raises:
        InputError: `window` is below 1.

    Example:
        >>> from manylabel import Classifier
        >>> classifier = Classifier.load("bundle")
        >>> monitor = DriftMonitor.from_classifier(classifier)
        >>> monitor.update(classifier.predict_proba(["The courier never came.", "Too expensive."]))
        >>> report = monitor.report()
        >>> report.texts, len(report.labels)
        (2, 4)
    """

    def __init__(
        self, baseline: ScoreBaseline, labels: tuple[str, ...], thresholds: ArrayLike, *, window: int = WINDOW
    ) -> None:
        if window < 1:
            raise InputError(f"window is {window} texts; it must be at least 1.")
        self._baseline = baseline
        self._labels = labels
        self._thresholds = np.asarray(thresholds, dtype=np.float32)
        self._window = window
        edges = [baseline.labels[label].edges for label in labels]
        self._edges = np.full((len(labels), max(map(len, edges))), np.inf, dtype=np.float32)
        for row, values in zip(self._edges, edges, strict=True):
            row[: len(values)] = values
        self._lock = threading.Lock()
        self._previous, self._current = self._empty(), self._empty()

    @classmethod
    def from_classifier(cls, classifier: Classifier, *, window: int = WINDOW) -> "DriftMonitor":
        """Return a monitor of a classifier's scores.

        Raises:
            InputError: The bundle does not have the scores of its validation texts.
        """
        return cls.from_variant(classifier.bundle, classifier.variant, window=window)

    @classmethod
    def from_variant(cls, bundle: Bundle, variant: Variant, *, window: int = WINDOW) -> "DriftMonitor":
        """Return a monitor of a variant's scores, with its thresholds.

        Raises:
            InputError: The bundle does not have the scores of its validation texts.
        """
        return cls(ScoreBaseline.read(bundle), bundle.labels, variant.thresholds, window=window)

    def update(self, probabilities: NDArray[np.float32]) -> None:
        """Count the scores of texts.

        Args:
            probabilities: Shape `(n_texts, n_labels)`, as from `Classifier.predict_proba`.

        Raises:
            InputError: The shape is another.
        """
        if probabilities.ndim != 2 or probabilities.shape[1] != len(self._labels):
            raise InputError(
                f"probabilities have shape {probabilities.shape}; expected (n_texts, {len(self._labels)}), one column "
                "per label."
            )
        size = min(self._window, BLOCK_ROWS)
        for start in range(0, len(probabilities), size):
            self._count(probabilities[start : start + size])

    def report(self) -> DriftReport:
        """Compare the counted texts with the validation texts."""
        with self._lock:
            (texts, counts, positives), previous = self._current, self._previous
        return compare_with_baseline(
            self._baseline, self._labels, texts + previous[0], counts + previous[1], positives + previous[2]
        )

    def _count(self, probabilities: NDArray[np.float32]) -> None:
        bins = (probabilities[:, :, None] >= self._edges).sum(axis=2)
        new_counts = np.stack([(bins == number).sum(axis=0) for number in range(self._edges.shape[1] + 1)], axis=1)
        new_positives = (probabilities >= self._thresholds).sum(axis=0)
        with self._lock:
            if self._current[0] >= self._window:
                self._previous, self._current = self._current, self._empty()
            texts, counts, positives = self._current
            self._current = texts + len(probabilities), counts + new_counts, positives + new_positives

    def _empty(self) -> tuple[int, Counts, Counts]:
        n_labels, n_edges = self._edges.shape
        return 0, np.zeros((n_labels, n_edges + 1), dtype=np.int64), np.zeros(n_labels, dtype=np.int64)
