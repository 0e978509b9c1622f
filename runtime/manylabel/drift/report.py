"""The drift report: whether scores and rates of labels differ from the baseline by more than chance."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from manylabel.drift.baseline import Histogram, ScoreBaseline

FALSE_ALARM_RATE = 0.001
"""Probability that a report on texts of the same kind names any label. It is divided among labels and statistics, and
low because the report of a server is read again and again."""

MIN_PSI = 0.1
"""A lower PSI counts as stable, however many texts there are (a rule of thumb from credit scoring)."""

PSEUDOCOUNT = 0.5
"""Added to the count of every bin, so that the logarithm of an empty one is finite."""

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class LabelDrift:
    """One label's scores compared with the validation texts'.

    Attributes:
        label: The label.
        psi: The population stability index of its scores.
        psi_limit: The PSI that chance may cause with this number of texts, at least 0.1.
        rate: Share of the texts that have the label.
        expected_rate: Share of the validation texts that have it.
        likely: The range of rates that as many texts of the validation texts' kind may have.

    Example:
        >>> label = LabelDrift("price", psi=0.3, psi_limit=0.1, rate=0.2, expected_rate=0.18, likely=(0.1, 0.26))
        >>> label.scores_drifted, label.rate_drifted
        (True, False)
    """

    label: str
    psi: float
    psi_limit: float
    rate: float
    expected_rate: float
    likely: tuple[float, float]

    @property
    def scores_drifted(self) -> bool:
        """Whether the PSI exceeds its limit."""
        return self.psi > self.psi_limit

    @property
    def rate_drifted(self) -> bool:
        """Whether the rate is outside the likely range."""
        return not self.likely[0] <= self.rate <= self.likely[1]

    @property
    def drifted(self) -> bool:
        """Whether the scores or the rate have drifted."""
        return self.scores_drifted or self.rate_drifted


@dataclass(frozen=True)
class DriftReport:
    """Current texts compared with the validation texts.

    Attributes:
        texts: The number of current texts.
        reference_texts: The number of validation texts.
        labels: Every label in column order; empty if there are no current texts.

    Example:
        >>> label = LabelDrift("price", psi=0.3, psi_limit=0.1, rate=0.2, expected_rate=0.18, likely=(0.1, 0.26))
        >>> DriftReport(texts=500, reference_texts=2000, labels=(label,)).drifted
        ('price',)
    """

    texts: int
    reference_texts: int
    labels: tuple[LabelDrift, ...]

    @property
    def drifted(self) -> tuple[str, ...]:
        """The labels whose scores or rate have drifted."""
        return tuple(each.label for each in self.labels if each.drifted)


def compare_with_baseline(
    baseline: ScoreBaseline, labels: tuple[str, ...], texts: int, counts: Counts, positives: Counts
) -> DriftReport:
    """Return the drift report of counted texts.

    Args:
        baseline: The validation texts' scores.
        labels: The labels in column order.
        texts: The number of counted texts.
        counts: The number of texts in each bin, shape `(n_labels, max_bins)`.
        positives: The number of texts that have the label, shape `(n_labels,)`.
    """
    alpha = FALSE_ALARM_RATE / (2 * len(labels))
    rows = zip(labels, counts, positives.tolist(), strict=True) if texts else ()
    return DriftReport(
        texts,
        baseline.texts,
        tuple(
            _compare_label(label, baseline.labels[label], baseline.texts, row, count, texts, alpha)
            for label, row, count in rows
        ),
    )


def _compare_label(
    label: str, expected: Histogram, expected_texts: int, counts: Counts, positives: int, texts: int, alpha: float
) -> LabelDrift:
    bins = len(expected.counts)
    low, high = likely_counts(expected.positives, expected_texts, texts, alpha)
    return LabelDrift(
        label=label,
        psi=psi(np.array(expected.counts), counts[:bins]),
        psi_limit=max(MIN_PSI, psi_by_chance(bins, expected_texts, texts, alpha)),
        rate=positives / texts,
        expected_rate=expected.positives / expected_texts,
        likely=(low / texts, high / texts),
    )


def psi(expected: Counts, observed: Counts) -> float:
    """Return the population stability index of two histograms over the same bins: 0 if their shares are equal.

    Example:
        >>> round(psi(np.array([80, 20]), np.array([50, 50])), 2)
        0.41
    """
    shares = [(counts + PSEUDOCOUNT) / (counts.sum() + PSEUDOCOUNT * len(counts)) for counts in (expected, observed)]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def psi_by_chance(bins: int, expected_texts: int, texts: int, alpha: float) -> float:
    """Return the PSI that two samples of the same kind exceed with probability `alpha`.

    Their PSI is distributed as chi-squared with `bins - 1` degrees of freedom, times `1 / expected_texts + 1 / texts`
    (Yurdakul and Naranjo 2020, Statistical properties of the population stability index).

    Example:
        >>> round(psi_by_chance(10, 2000, 1000, 0.01), 3)
        0.033
    """
    return chi_squared(bins - 1, 1 - alpha) * (1 / expected_texts + 1 / texts) if bins > 1 else 0.0


def chi_squared(degrees: int, quantile: float) -> float:
    """Return a quantile of the chi-squared distribution, within 1 % (Wilson and Hilferty 1931).

    Example:
        >>> round(chi_squared(9, 0.95), 1)
        16.9
    """
    variance = 2 / (9 * degrees)
    return degrees * max(0.0, 1 - variance + NormalDist().inv_cdf(quantile) * math.sqrt(variance)) ** 3


def likely_counts(positives: int, sample: int, texts: int, alpha: float) -> tuple[int, int]:
    """Return the range of the number of positives among new texts, with probability `1 - alpha`.

    It is that of the beta-binomial distribution that follows from Jeffreys' prior: exact for rare labels and few texts,
    too.

    Args:
        positives: The number of positives in a sample of the same kind.
        sample: The size of that sample.
        texts: The number of new texts.
        alpha: The probability that the number is outside the range.

    Example:
        >>> likely_counts(20, 100, 50, 0.05)
        (4, 17)
    """
    a, b, count = positives + 0.5, sample - positives + 0.5, np.arange(texts, dtype=np.float64)
    ratios = (texts - count) / (count + 1) * (count + a) / (texts - count - 1 + b)
    log_weights = np.concatenate([[0.0], np.cumsum(np.log(ratios))])
    cumulative = np.cumsum(np.exp(log_weights - log_weights.max()))
    low, high = np.searchsorted(cumulative / cumulative[-1], [alpha / 2, 1 - alpha / 2])
    return int(low), int(min(high, texts))
