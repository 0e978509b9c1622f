"""What is told of drift."""

from dataclasses import dataclass

import numpy as np

from manylabel.drift.baseline import Histogram, Reference
from manylabel.drift.psi import Counts, likely_counts, psi, psi_by_chance

RISK = 0.001
"""That texts of the same kind are reported all the same, at one look, for any label at all: it is shared out over
labels and figures, and so low because a server is looked at again and again."""

NOTABLE = 0.1
"""An index below this is taken for stable, however many texts there are (a rule of thumb of credit scoring)."""


@dataclass(frozen=True)
class LabelDrift:
    """One label's scores beside those of the validation texts.

    Attributes:
        label: The label.
        psi: The population stability index of its scores.
        psi_limit: What chance may make of it with this many texts, or 0.1, whichever is more.
        rate: Share of the texts that have the label.
        expected_rate: That of the validation texts.
        likely: Between what the rate of as many texts lies where they are of the validation texts' kind.
    """

    label: str
    psi: float
    psi_limit: float
    rate: float
    expected_rate: float
    likely: tuple[float, float]

    @property
    def scores_drifted(self) -> bool:
        """Whether the scores differ by more than chance, and notably."""
        return self.psi > self.psi_limit

    @property
    def rate_drifted(self) -> bool:
        """Whether the label is given more or less often by more than chance."""
        return not self.likely[0] <= self.rate <= self.likely[1]

    @property
    def drifted(self) -> bool:
        """Either."""
        return self.scores_drifted or self.rate_drifted


@dataclass(frozen=True)
class DriftReport:
    """Texts beside the validation texts.

    Attributes:
        texts: How many were looked at.
        reference_texts: How many validation texts there were.
        labels: Every label, in column order; none where no text was looked at.
    """

    texts: int
    reference_texts: int
    labels: tuple[LabelDrift, ...]

    @property
    def drifted(self) -> tuple[str, ...]:
        """The labels whose scores or rate have drifted."""
        return tuple(each.label for each in self.labels if each.drifted)


def compare(
    reference: Reference, labels: tuple[str, ...], texts: int, counts: Counts, positives: Counts
) -> DriftReport:
    """Hold counts against a reference.

    Args:
        reference: The validation texts'.
        labels: In column order.
        texts: How many were counted.
        counts: Texts in each bin, shape `(n_labels, most_bins)`.
        positives: Texts that have the label, shape `(n_labels,)`.
    """
    risk = RISK / (2 * len(labels))
    rows = zip(labels, counts, positives.tolist(), strict=True) if texts else ()
    return DriftReport(
        texts,
        reference.texts,
        tuple(
            _label(label, reference.labels[label], reference.texts, row, having, texts, risk)
            for label, row, having in rows
        ),
    )


def _label(
    label: str, expected: Histogram, reference_texts: int, counts: Counts, having: int, texts: int, risk: float
) -> LabelDrift:
    bins = len(expected.counts)
    low, high = likely_counts(expected.positives, reference_texts, texts, risk)
    return LabelDrift(
        label=label,
        psi=psi(np.array(expected.counts), counts[:bins]),
        psi_limit=max(NOTABLE, psi_by_chance(bins, reference_texts, texts, risk)),
        rate=having / texts,
        expected_rate=expected.positives / reference_texts,
        likely=(low / texts, high / texts),
    )
