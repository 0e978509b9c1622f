"""Figures of samples, each with the interval in which it would lie in 95 of 100 repetitions (percentile bootstrap)."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
Statistic = Callable[..., NDArray[np.float64]]


def interval(samples: Sequence[float], statistic: Statistic = np.median) -> tuple[float, float]:
    """Low and high end, by resampling with replacement; the same samples give the same ends.

    Args:
        samples: At least one. Of three rounds the ends are little more than the least and the greatest.
        statistic: Takes `axis`.
    """
    values = np.asarray(samples, dtype=np.float64)
    drawn = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(statistic(values[drawn], axis=1), (2.5, 97.5))
    return float(low), float(high)


def percentile(q: float) -> Statistic:
    """A percentile, as a statistic."""
    return lambda values, axis=None: np.asarray(np.percentile(values, q, axis=axis))
