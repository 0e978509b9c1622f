"""Platt scaling and temperature scaling: scales and shifts of logits with the lowest log-loss, by Newton's method.

Similar fits in scikit-learn and scipy are not used: scikit-learn's is private, fits one label at a time and has no
prior, and scipy's general minimisers stop at about eight digits. Either would change the weights that calibration is
folded into. The steps here converge to the last bits of float32, for all labels at once.
"""

import numpy as np
from numpy.typing import NDArray

from manylabel.inference.thresholding import logit, sigmoid

MAX_STEPS, MIN_STEP = 50, 1e-7
ROUNDING = 1e-12
RIDGE = 1e-3
"""Precision of a normal prior around scale 1 and shift 0: keeps labels solvable whose scores are all alike."""
CLIP = 1e-7
"""Probabilities are clipped to this distance from 0 and 1, about the resolution of float32 near 1."""

Scores = NDArray[np.float32]
Numbers = NDArray[np.float64]


def to_logits(probabilities: Scores) -> Numbers:
    """Return the logits of probabilities, clipped so that 0 and 1 give finite values.

    Example:
        >>> import numpy as np
        >>> to_logits(np.array([0.5, 1.0], dtype=np.float32)).round(3)
        array([ 0.   , 16.118])
    """
    return logit(probabilities, clip=CLIP)


def to_probabilities(logits: Numbers) -> Scores:
    """Return the sigmoid of logits in float32.

    Example:
        >>> import numpy as np
        >>> to_probabilities(np.array([0.0]))
        array([0.5], dtype=float32)
    """
    return sigmoid(logits).astype(np.float32)


def log_loss(logits: Numbers, targets: Scores) -> Numbers:
    """Return each entry's log-loss, 0 where the target is unknown, in the shape of `targets`.

    Example:
        >>> import numpy as np
        >>> log_loss(np.array([0.0, 0.0]), np.array([1, np.nan], dtype=np.float32)).round(3)
        array([0.693, 0.   ])
    """
    signed = np.where(targets > 0.5, -logits, logits)
    return np.where(np.isnan(targets), 0, np.logaddexp(0, signed))


def fit_temperature(logits: Numbers, targets: Scores) -> float:
    """Fit one scale for all labels: the inverse temperature with the lowest log-loss (Guo et al. 2017, section 4.2).

    Args:
        logits: Shape `(n_texts, n_labels)`.
        targets: 0, 1, or NaN for unknown, same shape.

    Returns:
        The scale, above 0; below 1 where the scores are overconfident.

    Example:
        >>> import numpy as np
        >>> logits = np.array([[4.0], [4.0], [-4.0], [-4.0]])
        >>> fit_temperature(logits, np.array([[1], [0], [0], [0]], dtype=np.float32)) < 1
        True
    """
    known = ~np.isnan(targets)
    z, truth = logits[known], targets[known]
    scale = 1.0
    for _ in range(MAX_STEPS):
        p = sigmoid(scale * z)
        step = float(((p - truth) @ z + RIDGE * (scale - 1)) / ((z * z) @ (p * (1 - p)) + RIDGE))
        updated = max(scale - step, scale / 2)  # at most half way to 0, as Newton's step may overshoot
        scale, step = updated, scale - updated
        if abs(step) < MIN_STEP:
            break
    return scale


def fit_platt_scaling(logits: Numbers, targets: Scores) -> tuple[Numbers, Numbers]:
    """Fit the scale and shift of every label with the lowest log-loss (Platt 1999).

    Instead of 1 and 0 the targets are (p + 1) / (p + 2) and 1 / (n + 2) for p positives and n negatives (Platt 1999,
    section 2.2), so that a label with few, perfectly separated texts is not scaled to certainty.

    Args:
        logits: Shape `(n_texts, n_labels)`.
        targets: 0, 1, or NaN for unknown, same shape.

    Returns:
        Scales and shifts, each of shape `(n_labels,)`.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> logits = rng.normal(size=(5000, 1))
        >>> targets = (rng.random((5000, 1)) < 1 / (1 + np.exp(-(2 * logits + 1)))).astype(np.float32)
        >>> scale, shift = fit_platt_scaling(logits, targets)
        >>> scale.round(), shift.round()
        (array([2.]), array([1.]))
    """
    known, truth = ~np.isnan(targets), targets > 0.5
    positives, negatives = truth.sum(axis=0), (known & ~truth).sum(axis=0)
    smoothed = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    scale, shift = np.ones(logits.shape[1]), np.zeros(logits.shape[1])
    loss = _smoothed_loss(logits, smoothed, known, scale, shift)
    for _ in range(MAX_STEPS):
        scale_step, shift_step = _newton_step(logits, smoothed, known, scale, shift)
        fraction = np.ones_like(scale)
        for _ in range(20):  # halve the steps that raise the loss
            tried = _smoothed_loss(
                logits, smoothed, known, scale - fraction * scale_step, shift - fraction * shift_step
            )
            if not (raised := tried > loss * (1 + ROUNDING)).any():
                break
            fraction = np.where(raised, fraction / 2, fraction)
        fraction = np.where(tried > loss * (1 + ROUNDING), 0, fraction)
        scale, shift = scale - fraction * scale_step, shift - fraction * shift_step
        loss = np.minimum(tried, loss)
        if max(np.abs(fraction * scale_step).max(), np.abs(fraction * shift_step).max()) < MIN_STEP:
            break
    return scale, shift


def _newton_step(
    logits: Numbers, smoothed: Numbers, known: NDArray[np.bool_], scale: Numbers, shift: Numbers
) -> tuple[Numbers, Numbers]:
    """Compute Newton's step for the scale and shift of every label."""
    p = sigmoid(scale * logits + shift)
    error, weight = np.where(known, p - smoothed, 0), np.where(known, p * (1 - p), 0)
    first, second = (error * logits).sum(axis=0) + RIDGE * (scale - 1), error.sum(axis=0) + RIDGE * shift
    a = (weight * logits**2).sum(axis=0) + RIDGE
    b, c = (weight * logits).sum(axis=0), weight.sum(axis=0) + RIDGE
    determinant = a * c - b * b
    return (c * first - b * second) / determinant, (a * second - b * first) / determinant


def _smoothed_loss(
    logits: Numbers, smoothed: Numbers, known: NDArray[np.bool_], scale: Numbers, shift: Numbers
) -> Numbers:
    z = scale * logits + shift
    loss = np.where(known, np.logaddexp(0, z) - smoothed * z, 0).sum(axis=0)
    return np.asarray(loss + RIDGE * ((scale - 1) ** 2 + shift**2) / 2)
