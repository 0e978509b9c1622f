"""Scales and shifts of logits by least log-loss: one scale for all labels, or a scale and shift a label."""

import numpy as np
from numpy.typing import NDArray

MOST_STEPS, SMALLEST_STEP = 50, 1e-7
ROUNDING = 1e-12
RIDGE = 1e-3
"""Precision of a normal prior around scale 1 and shift 0: it keeps a label whose scores are all alike solvable."""

Scores = NDArray[np.float32]
Numbers = NDArray[np.float64]


def logits_of(probabilities: Scores) -> Numbers:
    """Log-odds, of probabilities no nearer to 0 and 1 than float32 tells apart from 1."""
    bounded = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    return np.asarray(np.log(bounded / (1 - bounded)))


def probabilities_of(logits: Numbers) -> Scores:
    """The way back."""
    return _sigmoid(logits).astype(np.float32)


def log_loss(logits: Numbers, targets: Scores) -> Numbers:
    """Each entry's log-loss, 0 where it is unknown; the shape of `targets`."""
    signed = np.where(targets > 0.5, -logits, logits)
    return np.where(np.isnan(targets), 0, np.logaddexp(0, signed))


def temperature_scale(logits: Numbers, targets: Scores) -> float:
    """One over the temperature of least log-loss over all known entries (Guo et al. 2017, section 4.2)."""
    known = ~np.isnan(targets)
    z, truth = logits[known], targets[known]
    scale = 1.0
    for _ in range(MOST_STEPS):
        p = _sigmoid(scale * z)
        step = float(((p - truth) @ z + RIDGE * (scale - 1)) / ((z * z) @ (p * (1 - p)) + RIDGE))
        kept = max(scale - step, scale / 2)  # no further than half way to 0, where Newton's step may overshoot
        scale, step = kept, scale - kept
        if abs(step) < SMALLEST_STEP:
            break
    return scale


def platt(logits: Numbers, targets: Scores) -> tuple[Numbers, Numbers]:
    """Every label's scale and shift of least log-loss (Platt 1999).

    In place of 1 and 0 the targets are (p + 1) / (p + 2) and 1 / (n + 2), of p positives and n negatives (Platt 1999,
    section 2.2): so a label that is told apart perfectly on few texts is not taken for certain.

    Args:
        logits: Shape `(n_texts, n_labels)`.
        targets: 0, 1, or NaN for unknown, same shape.

    Returns:
        Scales and shifts, each of shape `(n_labels,)`.
    """
    known, truth = ~np.isnan(targets), targets > 0.5
    positives, negatives = truth.sum(axis=0), (known & ~truth).sum(axis=0)
    smoothed = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    scale, shift = np.ones(logits.shape[1]), np.zeros(logits.shape[1])
    loss = _smoothed_loss(logits, smoothed, known, scale, shift)
    for _ in range(MOST_STEPS):
        scale_step, shift_step = _newton(logits, smoothed, known, scale, shift)
        part = np.ones_like(scale)
        for _ in range(20):  # halve the steps that lead uphill
            tried = _smoothed_loss(logits, smoothed, known, scale - part * scale_step, shift - part * shift_step)
            if not (uphill := tried > loss * (1 + ROUNDING)).any():
                break
            part = np.where(uphill, part / 2, part)
        part = np.where(tried > loss * (1 + ROUNDING), 0, part)
        scale, shift = scale - part * scale_step, shift - part * shift_step
        loss = np.minimum(tried, loss)
        if max(np.abs(part * scale_step).max(), np.abs(part * shift_step).max()) < SMALLEST_STEP:
            break
    return scale, shift


def _newton(
    logits: Numbers, smoothed: Numbers, known: NDArray[np.bool_], scale: Numbers, shift: Numbers
) -> tuple[Numbers, Numbers]:
    """Newton's step for scale and shift of every label."""
    p = _sigmoid(scale * logits + shift)
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


def _sigmoid(logits: Numbers) -> Numbers:
    return np.asarray((1 + np.tanh(logits / 2)) / 2)
