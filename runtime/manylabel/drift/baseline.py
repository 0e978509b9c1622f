"""What a bundle carries of its validation texts' scores: `scores.json`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manylabel.bundle.bundle import Bundle
from manylabel.bundle.strict_json import parse
from manylabel.errors import BundleError, InputError

FILE = "scores.json"

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Where a label's bins end, as shares of the validation texts: tenths, and finer at the upper end, where rare labels
are."""

GAP = 0.01
"""Edges are at least this far apart, and from 0. Precisions differ by a tenth of it on average, so that one histogram
serves them all; what happens to a probability below it decides nothing."""


@dataclass(frozen=True)
class Histogram:
    """A label's scores.

    Attributes:
        edges: Where the second bin begins, the third, and so on; a score on an edge is above it.
        counts: Texts in each bin, one more than there are edges.
        positives: Texts whose score reached the label's threshold.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    positives: int


@dataclass(frozen=True)
class Reference:
    """The validation texts' scores.

    Attributes:
        texts: How many there were.
        labels: A histogram for each label.
    """

    texts: int
    labels: Mapping[str, Histogram]

    @classmethod
    def of(cls, labels: Sequence[str], probabilities: NDArray[np.float32], thresholds: ArrayLike) -> "Reference":
        """Count scores.

        Args:
            labels: In column order.
            probabilities: Shape `(n_texts, n_labels)`, at least one text.
            thresholds: Shape `(n_labels,)`.
        """
        positives = (probabilities >= np.asarray(thresholds, dtype=np.float32)).sum(axis=0)
        return cls(
            len(probabilities),
            {
                label: _histogram(probabilities[:, column], int(positives[column]))
                for column, label in enumerate(labels)
            },
        )

    @classmethod
    def read(cls, bundle: Bundle) -> "Reference":
        """A bundle's.

        Raises:
            InputError: It has none.
            BundleError: It is none, or of other labels.
        """
        if FILE not in bundle.manifest.files:
            raise InputError(
                f"{bundle.path} has no {FILE}: it was exported without validation texts, or by an earlier manylabel. "
                "Export it anew with manylabel export RUN, or with --validation."
            )
        where = str(bundle.path / FILE)
        try:
            found = parse(cls, json.loads(bundle.read(FILE)), where=where)
        except ValueError as exc:
            raise BundleError(f"{where} is no JSON. Export the bundle anew.") from exc
        if set(found.labels) != set(bundle.labels):
            raise BundleError(f"{where} speaks of other labels than the bundle has. Export the bundle anew.")
        return found

    def to_bytes(self) -> bytes:
        """The file's content."""
        return (json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _histogram(scores: NDArray[np.float32], positives: int) -> Histogram:
    edges: list[float] = []
    for edge in np.quantile(scores, SHARES).tolist():
        if edge - (edges[-1] if edges else 0.0) >= GAP:
            edges.append(edge)
    bins = np.searchsorted(np.array(edges, dtype=np.float32), scores, side="right")
    return Histogram(tuple(edges), tuple(np.bincount(bins, minlength=len(edges) + 1).tolist()), positives)
