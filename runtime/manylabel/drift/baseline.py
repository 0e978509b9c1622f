"""The baseline of drift detection: histograms of the validation texts' scores, in a bundle's `scores.json`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manylabel.bundle.bundle import Bundle
from manylabel.bundle.strict_json import parse
from manylabel.errors import BundleError, InputError

BASELINE_FILE = "scores.json"

QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Quantiles of the validation scores at which a label's bins end: tenths, and finer at the upper end, where the texts
of rare labels are."""

MIN_BIN_WIDTH = 0.01
"""Minimum distance of edges from each other and from 0. Scores of the precisions differ by a tenth of it on average, so
that one histogram serves them all; smaller changes of a probability rarely change a decision."""


@dataclass(frozen=True)
class Histogram:
    """A histogram of one label's scores.

    Attributes:
        edges: The lower edges of all bins but the first; a score equal to an edge is in the bin above it.
        counts: The number of texts in each bin, one more than there are edges.
        positives: The number of texts whose score reaches the label's threshold.

    Example:
        >>> histogram = Histogram(edges=(0.2, 0.6), counts=(70, 20, 10), positives=15)
        >>> sum(histogram.counts)
        100
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    positives: int


@dataclass(frozen=True)
class ScoreBaseline:
    """The scores of the validation texts.

    Attributes:
        texts: The number of validation texts.
        labels: A histogram for each label.

    Example:
        >>> from manylabel import Bundle
        >>> baseline = ScoreBaseline.read(Bundle.open("bundle"))
        >>> sorted(baseline.labels)
        ['billing', 'delivery', 'price', 'user experience']
    """

    texts: int
    labels: Mapping[str, Histogram]

    @classmethod
    def from_scores(
        cls, labels: Sequence[str], probabilities: NDArray[np.float32], thresholds: ArrayLike
    ) -> "ScoreBaseline":
        """Return the baseline of some texts' scores.

        Args:
            labels: The labels in column order.
            probabilities: Shape `(n_texts, n_labels)`, of at least one text.
            thresholds: Shape `(n_labels,)`.
        """
        positives = (probabilities >= np.asarray(thresholds, dtype=np.float32)).sum(axis=0)
        histograms = {
            label: _histogram(probabilities[:, column], int(positives[column])) for column, label in enumerate(labels)
        }
        return cls(len(probabilities), histograms)

    @classmethod
    def read(cls, bundle: Bundle) -> "ScoreBaseline":
        """Return a bundle's baseline.

        Raises:
            InputError: The bundle does not have one.
            BundleError: The file is damaged, or its labels are not the bundle's.
        """
        if BASELINE_FILE not in bundle.manifest.files:
            raise InputError(
                f"{bundle.path} has no {BASELINE_FILE}: it was exported without validation texts, or by an older "
                "version of manylabel. Re-export it with manylabel export RUN, or with --validation."
            )
        where = str(bundle.path / BASELINE_FILE)
        try:
            baseline = parse(cls, json.loads(bundle.read(BASELINE_FILE)), where=where)
        except ValueError as exc:
            raise BundleError(f"{where} is not valid JSON. Re-export the bundle.") from exc
        if set(baseline.labels) != set(bundle.labels):
            raise BundleError(f"the labels of {where} are not those of the bundle. Re-export the bundle.")
        return baseline

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        return (json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _histogram(scores: NDArray[np.float32], positives: int) -> Histogram:
    edges: list[float] = []
    for edge in np.quantile(scores, QUANTILES).tolist():
        if edge - (edges[-1] if edges else 0.0) >= MIN_BIN_WIDTH:
            edges.append(edge)
    bins = np.searchsorted(np.array(edges, dtype=np.float32), scores, side="right")
    return Histogram(tuple(edges), tuple(np.bincount(bins, minlength=len(edges) + 1).tolist()), positives)
