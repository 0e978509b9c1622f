"""Thresholds that hold a floor on precision or recall, for one label on validation data."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

LEAST, GREATEST = 1e-6, 1 - 1e-6
"""A threshold lies strictly between 0 and 1. A floor may need one beyond the bounds of tuning for F-beta."""


@dataclass(frozen=True)
class Reached:
    """A threshold, and the precision and recall of one label at it.

    Attributes:
        threshold: A float32 number, as the bundle keeps it.
        precision: 0 where nothing reaches the threshold.
        recall: 0 where the label has no positive.
    """

    threshold: float
    precision: float
    recall: float


def floor_threshold(
    scores: NDArray[np.floating], truth: NDArray[np.bool_], figure: Literal["precision", "recall"], floor: float
) -> Reached:
    """Of the thresholds that reach the floor, the one with the most of the other figure; else the nearest to it.

    Args:
        scores: Probabilities of one label, shape `(n,)`.
        truth: Whether each text has the label, shape `(n,)`; at least one has.
        figure: What the floor is about.
        floor: The least precision or recall, above 0 and at most 1.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    parts = np.append(ranked[:-1] != ranked[1:], True)  # no threshold parts equal scores
    hits, decided = np.cumsum(truth[order])[parts], np.arange(1, len(ranked) + 1)[parts]
    precision, recall = hits / decided, hits / truth.sum()
    wanted, other = (precision, recall) if figure == "precision" else (recall, precision)
    reached = wanted >= floor
    by_merit = np.lexsort((wanted, other, reached) if reached.any() else (other, wanted))  # the last key goes first
    return measured(scores, truth, float(halfway(scores, decided[by_merit[-1]])))


def measured(scores: NDArray[np.floating], truth: NDArray[np.bool_], threshold: float) -> Reached:
    """Precision and recall at a threshold, as float32 decides.

    Args:
        scores: Probabilities of one label, shape `(n,)`.
        truth: Whether each text has the label, shape `(n,)`.
        threshold: Brought between 0 and 1 where it is not.
    """
    kept = np.float32(np.clip(threshold, LEAST, GREATEST))
    decided = scores.astype(np.float32) >= kept
    hits = int((decided & truth).sum())
    return Reached(float(kept), hits / max(int(decided.sum()), 1), hits / max(int(truth.sum()), 1))


def halfway(scores: NDArray[np.floating], decided: int | NDArray[np.intp]) -> NDArray[np.float64]:
    """Thresholds that the highest `decided` scores reach and no other, halfway between two as far as float32 goes.

    Args:
        scores: Probabilities of one label, shape `(n,)`.
        decided: From 1 to `n`, of any shape; the score after it is another.

    Returns:
        Of the shape of `decided`.
    """
    ranked = -np.sort(-scores.astype(np.float64))
    above, below = ranked[np.asarray(decided) - 1], np.append(ranked, 0.0)[decided]
    middle = ((above + below) / 2).astype(np.float32)
    thresholds: NDArray[np.float64] = np.where(middle > below, middle, above)
    return thresholds
