"""F1 of many labels, and how far it may lie from what other texts of the same kind would give."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manylabel.bundle.certificate import Estimate, Quality

REPLICATES = 1000
INTERVAL = (0.025, 0.975)
DRAWN_AT_ONCE = 2**22
"""Counts in memory at once, 32 MB."""

Decisions = NDArray[np.bool_]
Floats = NDArray[np.float64]


def f1(truth: Decisions, decided: Decisions, *, axis: int | None) -> Floats:
    """F1 along an axis (`None`: of all decisions), 0 where nothing is there and nothing was decided for.

    Args:
        truth: Whether a text has a label, shape `(n_texts, n_labels)`.
        decided: Whether it was given, same shape.
        axis: As numpy has it.
    """
    counts = _Counts.of(truth, decided)
    return _of_counts(counts.hits.sum(axis=axis, dtype=np.float64), counts.total.sum(axis=axis, dtype=np.float64))


def quality(targets: NDArray[np.float32], expected: Decisions, found: Decisions) -> Quality:
    """Micro- and macro-F1 of decisions, and their change from others on the same texts, with 95 % intervals.

    The intervals are percentiles of a bootstrap over texts (Efron 1979): a replicate draws as many texts with
    replacement. Both sides are counted on the same draws, so that a change is compared pair by pair.

    Args:
        targets: 0, 1, or NaN for unknown, which is in no count; shape `(n_texts, n_labels)`.
        expected: The reference's decisions, same shape.
        found: The decisions that are judged, same shape.
    """
    known = ~np.isnan(targets)
    sides = [_Counts.of(targets > 0.5, side & known) for side in (expected, found)]
    once = np.ones((1, len(targets)), dtype=np.float32)
    values = np.stack([side.micro_macro(once) for side in sides])
    drawn = np.concatenate(
        [np.stack([side.micro_macro(weights) for side in sides]) for weights in _weights(len(targets))], axis=1
    )
    (reference, value), (references, replicates) = values[:, 0], drawn
    return Quality(
        *(_estimate(value[at], replicates[:, at]) for at in (0, 1)),
        *(_estimate((value - reference)[at], (replicates - references)[:, at]) for at in (0, 1)),
    )


@dataclass(frozen=True, eq=False)
class _Counts:
    """What F1 is computed of, for every text and label: right decisions, and what is there or was decided for."""

    hits: NDArray[np.float32]
    total: NDArray[np.float32]

    @classmethod
    def of(cls, truth: Decisions, decided: Decisions) -> "_Counts":
        return cls((truth & decided).astype(np.float32), truth.astype(np.float32) + decided)

    def micro_macro(self, weights: NDArray[np.float32]) -> Floats:
        """Micro- and macro-F1 under weights of the texts, `(replicates, n_texts)` to `(replicates, 2)`."""
        hits, total = (np.asarray(weights @ each, dtype=np.float64) for each in (self.hits, self.total))
        micro = _of_counts(hits.sum(axis=1), total.sum(axis=1))
        return np.stack([micro, _of_counts(hits, total).mean(axis=1)], axis=1)


def _of_counts(hits: Floats, total: Floats) -> Floats:
    return np.asarray(np.divide(2 * hits, total, out=np.zeros_like(total), where=total > 0))


def _weights(n_texts: int) -> Iterator[NDArray[np.float32]]:
    """How often each replicate draws each text, `(replicates, n_texts)`, as many at once as memory should hold."""
    generator = np.random.default_rng(0)
    share = np.full(n_texts, 1 / n_texts)
    at_once = max(1, DRAWN_AT_ONCE // n_texts)
    for start in range(0, REPLICATES, at_once):
        yield generator.multinomial(n_texts, share, min(at_once, REPLICATES - start)).astype(np.float32)


def _estimate(value: float, replicates: Floats) -> Estimate:
    low, high = np.quantile(replicates, INTERVAL)
    return Estimate(float(value), float(low), float(high))
