"""Counts the scores of texts that are answered. Bounded memory, whatever comes; may be fed from several threads."""

import threading

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manylabel.bundle.bundle import Bundle, Variant
from manylabel.classifier import Classifier
from manylabel.drift.baseline import Reference
from manylabel.drift.psi import Counts
from manylabel.drift.report import DriftReport, compare
from manylabel.errors import InputError

WINDOW = 10_000
"""Texts after which the older ones begin to be forgotten."""

BLOCK = 4096
"""Texts that are counted at once, which bounds memory: some ten bytes for each of them and each label."""


class DriftMonitor:
    """Holds what a model says now against what it said of the validation texts.

    The last `window` texts are counted, and up to as many before them: what came before those is forgotten, so that a
    change shows within a window however long the process has run.

    Args:
        reference: The validation texts' scores.
        labels: In column order.
        thresholds: Those that decide, shape `(n_labels,)`.
        window: Texts.

    Example:
        >>> monitor = DriftMonitor.of(classifier)  # doctest: +SKIP
        >>> monitor.update(classifier.predict_proba(texts))  # doctest: +SKIP
        >>> monitor.report().drifted  # doctest: +SKIP
        ('delivery',)
    """

    def __init__(
        self, reference: Reference, labels: tuple[str, ...], thresholds: ArrayLike, *, window: int = WINDOW
    ) -> None:
        if window < 1:
            raise InputError(f"window is {window} texts; it has to be 1 or more.")
        self._reference = reference
        self._labels = labels
        self._thresholds = np.asarray(thresholds, dtype=np.float32)
        self._window = window
        edges = [reference.labels[label].edges for label in labels]
        self._edges = np.full((len(labels), max(map(len, edges))), np.inf, dtype=np.float32)
        for row, each in zip(self._edges, edges, strict=True):
            row[: len(each)] = each
        self._lock = threading.Lock()
        self._before, self._now = self._empty(), self._empty()

    @classmethod
    def of(cls, classifier: Classifier, *, window: int = WINDOW) -> "DriftMonitor":
        """For what a classifier says.

        Raises:
            InputError: Its bundle carries no scores of validation texts.
        """
        return cls.for_variant(classifier.bundle, classifier.variant, window=window)

    @classmethod
    def for_variant(cls, bundle: Bundle, variant: Variant, *, window: int = WINDOW) -> "DriftMonitor":
        """For what a variant of a bundle says, by its thresholds.

        Raises:
            InputError: The bundle carries no scores of validation texts.
        """
        return cls(Reference.read(bundle), bundle.labels, variant.thresholds, window=window)

    def update(self, probabilities: NDArray[np.float32]) -> None:
        """Count texts.

        Args:
            probabilities: Shape `(n_texts, n_labels)`, as `Classifier.predict_proba` gives them.

        Raises:
            InputError: They are of another number of labels.
        """
        if probabilities.ndim != 2 or probabilities.shape[1] != len(self._labels):
            raise InputError(
                f"probabilities have shape {probabilities.shape}; expected (n_texts, {len(self._labels)}), a column a "
                "label."
            )
        size = min(self._window, BLOCK)
        for start in range(0, len(probabilities), size):
            self._count(probabilities[start : start + size])

    def report(self) -> DriftReport:
        """How the texts that are counted compare with the validation texts."""
        with self._lock:
            (texts, counts, positives), before = self._now, self._before
        return compare(self._reference, self._labels, texts + before[0], counts + before[1], positives + before[2])

    def _count(self, probabilities: NDArray[np.float32]) -> None:
        bins = (probabilities[:, :, None] >= self._edges).sum(axis=2)
        counts = np.stack([(bins == each).sum(axis=0) for each in range(self._edges.shape[1] + 1)], axis=1)
        positives = (probabilities >= self._thresholds).sum(axis=0)
        with self._lock:
            if self._now[0] >= self._window:
                self._before, self._now = self._now, self._empty()
            texts, counted, having = self._now
            self._now = texts + len(probabilities), counted + counts, having + positives

    def _empty(self) -> tuple[int, Counts, Counts]:
        n_labels, n_edges = self._edges.shape
        return 0, np.zeros((n_labels, n_edges + 1), dtype=np.int64), np.zeros(n_labels, dtype=np.int64)
