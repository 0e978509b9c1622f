"""F1 over many labels, with bootstrap confidence intervals."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manylabel.bundle.certificate import Estimate, Quality

REPLICATES = 1000
INTERVAL = (0.025, 0.975)
CHUNK_ELEMENTS = 2**22
"""Number of bootstrap weights in memory at once, 32 MB."""

Decisions = NDArray[np.bool_]
Floats = NDArray[np.float64]


def f1_score(targets: Decisions, decisions: Decisions, *, axis: int | None) -> Floats:
    """Return F1 along an axis; 0 where there is neither a positive target nor a positive decision.

    Args:
        targets: Whether a text has a label, shape `(n_texts, n_labels)`.
        decisions: Whether the label is predicted, same shape.
        axis: As in numpy; `None` for micro-F1 over all decisions.

    Example:
        >>> targets, decisions = np.array([[True, False], [True, True]]), np.array([[True, False], [True, False]])
        >>> f1_score(targets, decisions, axis=0).tolist()
        [1.0, 0.0]
    """
    counts = _Counts.of(targets, decisions)
    return _f1(counts.hits.sum(axis=axis, dtype=np.float64), counts.totals.sum(axis=axis, dtype=np.float64))


def estimate_quality(targets: NDArray[np.float32], reference: Decisions, decisions: Decisions) -> Quality:
    """Return micro- and macro-F1, and their change from the reference, with 95 % confidence intervals.

    The intervals are percentiles of a bootstrap over texts (Efron 1979): a replicate draws as many texts with
    replacement. Both sides are evaluated on the same draws, so that the changes are paired.

    Args:
        targets: 0, 1, or NaN for unknown, which is not counted; shape `(n_texts, n_labels)`.
        reference: The reference's decisions, same shape.
        decisions: The decisions to evaluate, same shape.

    Example:
        >>> targets = np.array([[1, 0], [0, 1], [1, 1]], dtype=np.float32)
        >>> quality = estimate_quality(targets, targets > 0.5, targets > 0.5)
        >>> quality.micro_f1.value, quality.micro_f1_change.value
        (1.0, 0.0)
    """
    known = ~np.isnan(targets)
    counts = [_Counts.of(targets > 0.5, side & known) for side in (reference, decisions)]
    ones = np.ones((1, len(targets)), dtype=np.float32)
    values = np.stack([side.micro_macro(ones) for side in counts])
    chunks = [np.stack([side.micro_macro(weights) for side in counts]) for weights in _weights(len(targets))]
    replicates = np.concatenate(chunks, axis=1)  # (2 sides, REPLICATES, micro and macro)
    value, change = values[1, 0], values[1, 0] - values[0, 0]
    value_replicates, change_replicates = replicates[1], replicates[1] - replicates[0]
    return Quality(
        micro_f1=_estimate(value[0], value_replicates[:, 0]),
        macro_f1=_estimate(value[1], value_replicates[:, 1]),
        micro_f1_change=_estimate(change[0], change_replicates[:, 0]),
        macro_f1_change=_estimate(change[1], change_replicates[:, 1]),
    )


@dataclass(frozen=True, eq=False)
class _Counts:
    """The terms of F1 for every text and label: true positives, and positive targets plus positive decisions."""

    hits: NDArray[np.float32]
    totals: NDArray[np.float32]

    @classmethod
    def of(cls, targets: Decisions, decisions: Decisions) -> "_Counts":
        return cls((targets & decisions).astype(np.float32), targets.astype(np.float32) + decisions)

    def micro_macro(self, weights: NDArray[np.float32]) -> Floats:
        """Return micro- and macro-F1 for weights of the texts: `(replicates, n_texts)` to `(replicates, 2)`."""
        hits, totals = (np.asarray(weights @ terms, dtype=np.float64) for terms in (self.hits, self.totals))
        micro = _f1(hits.sum(axis=1), totals.sum(axis=1))
        return np.stack([micro, _f1(hits, totals).mean(axis=1)], axis=1)


def _f1(hits: Floats, totals: Floats) -> Floats:
    return np.asarray(np.divide(2 * hits, totals, out=np.zeros_like(totals), where=totals > 0))


def _weights(n_texts: int) -> Iterator[NDArray[np.float32]]:
    """Yield how often each replicate draws each text, shape `(replicates, n_texts)`, in chunks that fit into memory."""
    generator = np.random.default_rng(0)
    share = np.full(n_texts, 1 / n_texts)
    size = max(1, CHUNK_ELEMENTS // n_texts)
    for start in range(0, REPLICATES, size):
        yield generator.multinomial(n_texts, share, min(size, REPLICATES - start)).astype(np.float32)


def _estimate(value: float, replicates: Floats) -> Estimate:
    low, high = np.quantile(replicates, INTERVAL)
    return Estimate(float(value), float(low), float(high))
