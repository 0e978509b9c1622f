"""Logits and probabilities: the sigmoid and its inverse in numpy, for thresholds, calibration, training and review.

The functions of the same name in scipy.special differ in the last bit of float64. That bit decides how a threshold
halfway between two float32 scores is rounded, so they would change the thresholds of existing runs.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

LOWEST_LOGIT = -700.0
"""Below, exp overflows; the probability is 0 in float32 long before."""


def sigmoid(logits: ArrayLike) -> NDArray[np.float64]:
    """Return the probabilities of logits, in float64 and in their shape.

    Example:
        >>> sigmoid([-1000.0, 0.0, 1000.0]).round(3)
        array([0. , 0.5, 1. ])
    """
    return np.asarray(1 / (1 + np.exp(-np.maximum(np.asarray(logits, dtype=np.float64), LOWEST_LOGIT))))


def logit(probabilities: ArrayLike, *, clip: float = 0.0) -> NDArray[np.float64]:
    """Return the logits (log-odds) of probabilities, in float64 and in their shape.

    Args:
        probabilities: From 0 to 1.
        clip: The least distance from 0 and 1 that is told apart, so that their logits are finite.

    Example:
        >>> logit([0.5, 1.0], clip=1e-6).round(3)
        array([ 0.   , 13.816])
    """
    bounded = np.clip(np.asarray(probabilities, dtype=np.float64), clip, 1 - clip)
    return np.asarray(np.log(bounded / (1 - bounded)))
