"""Thresholds by which a label's precision or recall is at least so much on texts to come, with stated confidence.

What is guaranteed. Let the texts set aside and the texts to come be exchangeable (no order in which they might have
come is likelier than another: one source, one time, one way of labelling), and let nothing else have looked at the
texts set aside: no training, no choice of an epoch, no calibration, no tuning. Then, with probability `confidence`
over the draw of the texts set aside, precision or recall at the threshold is at least `floor` on all texts of their
kind. For one label: several labels' chances of failing add up.

This is Learn then Test (Angelopoulos et al. 2021, section 2): every threshold is a hypothesis, that the figure lies
below the floor there, with an exact binomial p-value; hypotheses are tested in an order fixed beforehand until one is
not rejected (fixed-sequence testing), which needs no correction for how many there are. Conformal risk control
(Angelopoulos et al. 2022, theorem 1) is another promise: it bounds the *expected* recall, on average over draws, so
that about half of the draws fall short.

Recall falls as the threshold rises, so the order is from the lowest up, and the last threshold that passes is an order
statistic of the positives' scores. Precision knows no such order: it is learned on the validation texts, which tuning
and calibration use as well (their split fixed-sequence testing), beginning where the case is strongest
and going down, toward more recall.
"""

from dataclasses import dataclass
from math import ceil, log

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binom

from manylabel_train.thresholds.constraints import LEAST, halfway

Numbers = NDArray[np.floating]
Truth = NDArray[np.bool_]
Counts = NDArray[np.intp]


@dataclass(frozen=True)
class Proved:
    """What the texts set aside say of a threshold.

    Attributes:
        threshold: A float32 number, as the bundle keeps it.
        bound: What the figure is at least, with the confidence that was asked for.
    """

    threshold: float
    bound: float


def fewest(floor: float, confidence: float) -> int:
    """Texts set aside from which on a guarantee can be had: with so many and not one of them wrong."""
    return ceil(log(1 - confidence) / log(floor) - 1e-9)


def recall_guaranteed(scores: Numbers, truth: Truth, floor: float, confidence: float) -> Proved:
    """The highest threshold with the guarantee on recall; below all positives where there are too few for one.

    It lies under the positive that decides, halfway to the next lower score: that misses no more and flips less.

    Args:
        scores: One label's probabilities of the texts set aside, shape `(n,)`.
        truth: Whether each has the label, shape `(n,)`; at least one has.
        floor: The least recall, above 0 and below 1.
        confidence: Above 0 and below 1.
    """
    positives = np.sort(scores[truth])
    chances = binom.cdf(np.arange(len(positives)), len(positives), 1 - floor)
    missed = max(int((chances <= 1 - confidence).sum()) - 1, 0)
    threshold = max(float(halfway(scores, int((scores >= positives[missed]).sum()))), LEAST)
    hits = int((positives >= np.float32(threshold)).sum())
    return Proved(threshold, lower_bound(hits, len(positives), confidence))


def precision_guaranteed(
    scores: Numbers, truth: Truth, learned: tuple[Numbers, Truth], floor: float, confidence: float
) -> Proved:
    """The lowest threshold with the guarantee on precision; the one of the strongest case where none has it.

    Args:
        scores: One label's probabilities of the texts set aside, shape `(n,)`.
        truth: Whether each has the label, shape `(n,)`.
        learned: Scores and truth of other texts, by which thresholds are put in order; at least one has the label.
        floor: The least precision, above 0 and below 1.
        confidence: Above 0 and below 1.
    """
    candidates = _in_order(*learned, floor)
    hits, decided = _counted(scores, truth, candidates)
    failed = np.flatnonzero(binom.sf(hits - 1, decided, floor) > 1 - confidence)
    last = max(int(failed[0] if len(failed) else len(candidates)) - 1, 0)
    return Proved(float(candidates[last]), lower_bound(int(hits[last]), int(decided[last]), confidence))


def lower_bound(hits: int, of: int, confidence: float) -> float:
    """What a share is at least, by the exact one-sided bound of Clopper and Pearson (1934)."""
    return float(beta.ppf(1 - confidence, hits, of - hits + 1)) if hits else 0.0


def _in_order(scores: Numbers, truth: Truth, floor: float) -> NDArray[np.float64]:
    """Thresholds right below positives, from that of the least p-value downward."""
    positives = np.unique(scores[truth])[::-1]
    ranks = len(scores) - np.searchsorted(np.sort(scores), positives)
    thresholds = np.maximum(halfway(scores, ranks), LEAST)
    hits, decided = _counted(scores, truth, thresholds)
    return thresholds[int(np.argmin(binom.sf(hits - 1, decided, floor))) :]


def _counted(scores: Numbers, truth: Truth, thresholds: NDArray[np.float64]) -> tuple[Counts, Counts]:
    """Texts that have the label among those that get it at each threshold, and how many get it."""
    order = np.argsort(scores)
    below = np.searchsorted(scores[order], thresholds.astype(np.float32))
    return truth.sum() - np.append(0, np.cumsum(truth[order]))[below], len(scores) - below
