"""Threshold tuning: per-label thresholds for F1 or F-beta that generalise from validation data to new texts.

A label with three positives has its best validation F1 at a threshold that is meaningless on other texts: with each
label at its own best threshold, micro-F1 of a German model fell from 0.90 to 0.58. So tuning departs from 0.5 in two
steps, each only where held-out folds support it: first to the best single threshold of all labels, then to a label's
own best threshold, shrunk toward the single one, the more so the fewer positives the label has.
tests/train/thresholds/test_tuning.py simulates the effect.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manylabel.inference.thresholding import logit, sigmoid

UNTUNED = 0.5
LOWEST, HIGHEST = 0.05, 0.95
"""Bounds of a tuned threshold."""

SHRINKAGES = (0.0, 5.0, 10.0, 20.0, 40.0, 80.0)
"""Positives at which a label's own best threshold and the single one weigh the same."""
FOLDS, REPEATS = 5, 4

MIN_GAIN, MIN_LABEL_GAIN = 1.0, 1.5
"""Held-out gains that are needed, in standard errors. One text more or less is a gain of one standard error, two are
1.4: a label's threshold moves for three. Without these limits, data for which 0.5 is right loses 0.0015 of F1 in
simulation, with them 0.0003; on halves of goemotions' validation split macro-F1 gains 0.024 instead of 0.018."""
MIN_MATCH_GAIN = 2.0
"""Gain needed for a variant's own threshold, in standard deviations. With 1, noise moves some on goemotions."""
CLIP = 1e-6
"""Thresholds are clipped to this distance from 0 and 1 before their logits are computed."""

Scores = NDArray[np.float32]
Decisions = NDArray[np.float64]
"""Share of the repeats in which a label was assigned to a text, shape `(n_texts, n_labels)`."""


def tune_thresholds(probabilities: Scores, targets: Scores, *, beta: float = 1.0) -> NDArray[np.float32]:
    """Tune one threshold per label so that F1, or F-beta, rises on new texts, as measured on held-out folds.

    Args:
        probabilities: Validation scores, shape `(n_texts, n_labels)`.
        targets: 0, 1, or NaN for unknown, same shape. Unknown entries are ignored.
        beta: How many times as much recall weighs as precision.

    Returns:
        Shape `(n_labels,)`, each from 0.05 to 0.95; 0.5 for all labels if nothing better is supported, and for labels
        without any known entry.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> targets = (rng.random((400, 2)) < 0.3).astype(np.float32)
        >>> scores = (0.2 * targets + 0.2 * rng.random((400, 2))).astype(np.float32)  # far too low
        >>> bool((tune_thresholds(scores, targets) < 0.3).all())
        True
    """
    known = ~np.isnan(targets)
    rows = known.any(axis=1)
    # An entry with probability 0 is never predicted, and as it is not a positive either, no count of F1 contains it.
    tuned = _tune(np.where(known, probabilities, 0)[rows], targets[rows] > 0.5, beta)
    return np.where(known.any(axis=0), tuned, np.float32(UNTUNED))


def _tune(probabilities: Scores, truth: NDArray[np.bool_], beta: float) -> NDArray[np.float32]:
    thresholds = np.full(truth.shape[1], UNTUNED)
    if len(truth) < 2 * FOLDS:
        return thresholds.astype(np.float32)
    folds = list(_split_folds(probabilities, truth, beta))
    best = _find_best(probabilities, truth, beta)
    decided: Decisions = (probabilities >= UNTUNED).astype(np.float64)
    shared = _decide_held_out(probabilities, folds, np.inf)
    if _compute_gain(decided, shared, truth, beta).supported:
        decided, thresholds = shared, _shrink(best, np.inf)
    return _tune_labels(probabilities, truth, folds, decided, thresholds, beta).astype(np.float32)


def find_best_threshold(scores: NDArray[np.floating], truth: NDArray[np.bool_], *, beta: float = 1.0) -> float:
    """Find the threshold with the highest F-beta, halfway between two neighbouring scores; 0.5 without a positive.

    Halfway, so that rounding on another machine or in another precision changes as few decisions as possible.

    Args:
        scores: Probabilities of one label, shape `(n,)`.
        truth: Whether each text has the label, shape `(n,)`.
        beta: How many times as much recall weighs as precision.

    Example:
        >>> import numpy as np
        >>> find_best_threshold(np.array([0.75, 0.5, 0.25]), np.array([True, True, False]))
        0.375
    """
    if not truth.any():
        return UNTUNED
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    hits = np.cumsum(truth[order])
    f_beta = (1 + beta**2) * hits / (np.arange(1, len(ranked) + 1) + beta**2 * truth.sum())
    f_beta[:-1][ranked[:-1] == ranked[1:]] = -1  # no threshold separates equal scores
    last = int(np.argmax(f_beta))
    below = ranked[last + 1] if last + 1 < len(ranked) else 0.0
    return float((ranked[last] + below) / 2)


def match_thresholds(expected: Scores, thresholds: Scores, scores: Scores) -> Scores:
    """Return the reference thresholds, moved only where a variant clearly needs another one to decide alike.

    Thresholds that are tuned again for F1, or for the fewest differing decisions, follow the noise of those texts, and
    decide other texts differently more often (docs/decisions/0007-keep-pytorch-thresholds-for-quantized-variants.md).

    Args:
        expected: The reference model's probabilities (PyTorch), shape `(n_texts, n_labels)`.
        thresholds: The reference model's thresholds, shape `(n_labels,)`.
        scores: The variant's probabilities for the same texts, same shape as `expected`.

    Returns:
        Shape `(n_labels,)`; a moved threshold is from 0.05 to 0.95.

    Example:
        >>> import numpy as np
        >>> expected = np.linspace(0, 1, 100, dtype=np.float32)[:, None]
        >>> match_thresholds(expected, np.array([0.5], dtype=np.float32), expected / 2).round(2)
        array([0.25], dtype=float32)
    """
    decided = expected >= thresholds
    columns = zip(scores.T.astype(np.float64), decided.T, thresholds.tolist(), strict=True)
    return np.array([_match_threshold(*column) for column in columns], dtype=np.float32)


def _match_threshold(scores: NDArray[np.float64], decided: NDArray[np.bool_], threshold: float) -> float:
    """Return the nearest of the thresholds that clearly agree best with `decided`; `threshold` if none clearly does.

    A gain in agreeing decisions is clear beyond `MIN_MATCH_GAIN` standard deviations of a sum of random signs, one for
    each decision that changes (a sign test).
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    disagreements = np.concatenate(([0], np.cumsum(np.where(decided[order], -1, 1)))) + decided.sum()
    midpoints = np.concatenate(([(ranked[0] + 1) / 2], (ranked[:-1] + ranked[1:]) / 2, [ranked[-1] / 2]))
    separable = np.concatenate(([True], ranked[:-1] != ranked[1:], [True]))  # no threshold separates equal scores
    assigned = int((scores >= threshold).sum())
    gains = int(((scores >= threshold) != decided).sum()) - disagreements
    changed = np.abs(np.arange(len(disagreements)) - assigned)
    clear = gains > MIN_MATCH_GAIN * np.sqrt(changed)
    possible = separable & (midpoints >= LOWEST) & (midpoints <= HIGHEST) & clear
    if not possible.any():
        return threshold
    best = midpoints[possible & (gains == gains[possible].max())]
    return float(best[np.argmin(np.abs(best - threshold))])


@dataclass(frozen=True)
class _BestThresholds:
    """Thresholds with the highest F-beta on some texts: each label's own, the single one, and positives per label."""

    own: NDArray[np.float64]
    shared: float
    positives: NDArray[np.int64]


@dataclass(frozen=True)
class _Gain:
    """The gain in F-beta of one set of decisions over another, with standard errors."""

    micro: float
    macro: float
    error: float
    per_label: NDArray[np.float64]
    error_per_label: NDArray[np.float64]

    @property
    def mean(self) -> float:
        """Mean of micro- and macro-F1, so that neither frequent nor rare labels are traded off for the other."""
        return (self.micro + self.macro) / 2

    @property
    def supported(self) -> bool:
        """Whether the gain exceeds noise and lowers neither micro- nor macro-F1."""
        return self.micro >= 0 and self.macro >= 0 and self.mean > MIN_GAIN * self.error


def _tune_labels(
    probabilities: Scores,
    truth: NDArray[np.bool_],
    folds: list[tuple[NDArray[np.intp], _BestThresholds]],
    decided: Decisions,
    thresholds: NDArray[np.float64],
    beta: float,
) -> NDArray[np.float64]:
    """Move labels that gain by it to thresholds of their own, with the shrinkage that gains most over all labels."""
    greatest, result, best = 0.0, thresholds, _find_best(probabilities, truth, beta)
    for shrinkage in SHRINKAGES:
        own = _decide_held_out(probabilities, folds, shrinkage)
        of_labels = _compute_gain(decided, own, truth, beta)
        moved = of_labels.per_label > MIN_LABEL_GAIN * of_labels.error_per_label
        gain = _compute_gain(decided, np.where(moved, own, decided), truth, beta)
        if gain.supported and gain.mean > greatest:
            greatest, result = gain.mean, np.where(moved, _shrink(best, shrinkage), thresholds)
    return result


def _split_folds(
    probabilities: Scores, truth: NDArray[np.bool_], beta: float
) -> Iterator[tuple[NDArray[np.intp], _BestThresholds]]:
    """Yield held-out texts, each time with the best thresholds on all others."""
    rng = np.random.default_rng(0)  # the same scores give the same thresholds
    for _ in range(REPEATS):
        for held_out in np.array_split(rng.permutation(len(truth)), FOLDS):
            rest = np.setdiff1d(np.arange(len(truth)), held_out)
            yield held_out, _find_best(probabilities[rest], truth[rest], beta)


def _find_best(probabilities: Scores, truth: NDArray[np.bool_], beta: float) -> _BestThresholds:
    own = np.array([find_best_threshold(*column, beta=beta) for column in zip(probabilities.T, truth.T, strict=True)])
    shared = find_best_threshold(probabilities.ravel(), truth.ravel(), beta=beta)
    return _BestThresholds(own, shared, truth.sum(axis=0))


def _shrink(best: _BestThresholds, shrinkage: float) -> NDArray[np.float64]:
    """Shrink each label's own threshold toward the single one, in logits; `inf` gives all labels the single one.

    Returns:
        Shape `(n_labels,)`, each from 0.05 to 0.95.
    """
    weight = 0.0 if np.isinf(shrinkage) else best.positives / np.maximum(best.positives + shrinkage, 1)
    shrunk = weight * logit(best.own, clip=CLIP) + (1 - weight) * logit(best.shared, clip=CLIP)
    return np.asarray(np.clip(sigmoid(shrunk), LOWEST, HIGHEST))


def _decide_held_out(
    probabilities: Scores, folds: list[tuple[NDArray[np.intp], _BestThresholds]], shrinkage: float
) -> Decisions:
    """Decide every text by thresholds that were found on other texts."""
    decided = np.zeros(probabilities.shape)
    for held_out, best in folds:
        decided[held_out] += probabilities[held_out] >= _shrink(best, shrinkage)
    return decided / REPEATS


def _compute_gain(before: Decisions, after: Decisions, truth: NDArray[np.bool_], beta: float) -> _Gain:
    """Compare two sets of decisions on the same texts."""
    per_label, by_text = _compare_f_beta(before, after, truth, beta)
    micro, by_decision = _compare_f_beta(before.reshape(-1, 1), after.reshape(-1, 1), truth.reshape(-1, 1), beta)
    mean_by_text = (by_text.mean(axis=1) + by_decision.reshape(truth.shape).sum(axis=1)) / 2
    return _Gain(
        micro=float(micro[0]),
        macro=float(per_label.mean()),
        error=float(np.sqrt((mean_by_text**2).sum())),
        per_label=per_label,
        error_per_label=np.sqrt((by_text**2).sum(axis=0)),
    )


def _compare_f_beta(
    before: Decisions, after: Decisions, truth: NDArray[np.bool_], beta: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the difference in F-beta of every column, and each row's influence on it (influences sum to 0)."""
    value, influence = _f_beta(after, truth, beta)
    value_before, influence_before = _f_beta(before, truth, beta)
    return value - value_before, influence - influence_before


def _f_beta(
    decided: Decisions, truth: NDArray[np.bool_], beta: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return F-beta of every column, shape `(k,)`, and each row's influence on it, shape `(n, k)`."""
    total = decided.sum(axis=0) + beta**2 * truth.sum(axis=0)
    total = np.where(total > 0, total, 1)
    hits = decided * truth
    value = (1 + beta**2) * hits.sum(axis=0) / total
    return value, ((1 + beta**2) * hits - value * (decided + beta**2 * truth)) / total
