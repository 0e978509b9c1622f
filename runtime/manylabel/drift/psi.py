"""How far two samples of scores may lie apart by chance.

Knows nothing of labels or bundles: counts in, figures out.
"""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

HALF_A_TEXT = 0.5
"""Added to the count of every bin, so that an empty one has a logarithm."""

Counts = NDArray[np.int64]


def psi(expected: Counts, found: Counts) -> float:
    """Population stability index of two histograms over the same bins: 0 where they are alike."""
    one, other = ((each + HALF_A_TEXT) / (each.sum() + HALF_A_TEXT * len(each)) for each in (expected, found))
    return float(((other - one) * np.log(other / one)).sum())


def psi_by_chance(bins: int, expected: int, found: int, risk: float) -> float:
    """What the index exceeds with probability `risk` where both samples are of one kind.

    It is then distributed as chi-squared with `bins - 1` degrees of freedom, times `1 / expected + 1 / found`
    (Yurdakul and Naranjo 2020, Statistical properties of the population stability index).
    """
    return chi_squared(bins - 1, 1 - risk) * (1 / expected + 1 / found) if bins > 1 else 0.0


def chi_squared(degrees: int, share: float) -> float:
    """The value below which a share of the distribution lies, within 1 % (Wilson and Hilferty 1931)."""
    spread = 2 / (9 * degrees)
    return degrees * max(0.0, 1 - spread + NormalDist().inv_cdf(share) * math.sqrt(spread)) ** 3


def likely_counts(having: int, of: int, texts: int, risk: float) -> tuple[int, int]:
    """Between how many of some texts have a label, with probability `1 - risk`, where so many of others had it.

    The beta-binomial distribution that follows from Jeffreys' prior: exact for rare labels and few texts, too.

    Args:
        having: How many of the others had it.
        of: How many others there were.
        texts: How many texts there are.
        risk: That there are fewer or more all the same.
    """
    with_, without, count = having + 0.5, of - having + 0.5, np.arange(texts, dtype=np.float64)
    growth = (texts - count) / (count + 1) * (count + with_) / (texts - count - 1 + without)
    logarithms = np.concatenate([[0.0], np.cumsum(np.log(growth))])
    shares = np.cumsum(np.exp(logarithms - logarithms.max()))
    low, high = np.searchsorted(shares / shares[-1], [risk / 2, 1 - risk / 2])
    return int(low), int(min(high, texts))
