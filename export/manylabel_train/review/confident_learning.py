"""Which given labels do not fit scores that were made without them: confident learning, a label at a time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_RATE = 1e-6

Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Suspicions:
    """Entries of a label matrix that are likely wrong, the likeliest first.

    Attributes:
        rows: Row of each entry, shape `(n_found,)`.
        columns: Label of each entry, shape `(n_found,)`.
        confidence: Probability that the entry is wrong, as far as the scores can be believed, shape `(n_found,)`.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    confidence: Scores


def suspicions(scores: Scores, targets: NDArray[np.float32]) -> Suspicions:
    """Find labels that are likely missing, and such that are likely wrong.

    Confident learning (Northcutt, Jiang and Chuang 2021, section 3.1), each label alone: an entry given as 0 is
    suspicious where its score reaches the mean score of the entries given as 1, and the other way round. A rare label
    is so judged by what is high for it. How often labels are missing, and how often wrong, is estimated from the
    counts (the confident joint, eq. 1 to 3, summed over labels), since one is usually much more frequent than the
    other. The confidence is Bayes' rule with these rates: an entry of score p given as 0 is wrong at odds of
    p / (1 - p) times the rate at which labels are missing.

    Args:
        scores: Out-of-sample probabilities, shape `(n, n_labels)`.
        targets: 1, 0 or NaN for unknown, which is never suspicious; same shape.
    """
    given = (targets == 0, targets == 1)
    high = (_reaches_usual(1 - scores, given[0]), _reaches_usual(scores, given[1]))
    confidence = np.zeros(scores.shape)
    for said, against in ((0, scores), (1, 1 - scores)):
        odds = _odds(against) * _rate(given, high, scores, said)
        confidence = np.where(given[said] & high[1 - said], odds / (1 + odds), confidence)
    return _ranked(confidence)


def likely_present(scores: Scores, targets: NDArray[np.float32]) -> Suspicions:
    """Find unknown entries that are likely labels which the text has: the score is what is usual for those that do.

    The confidence is the score itself. Where a label is known to be absent from no row, scores are high or low among
    themselves only, and so is the confidence.

    Args:
        scores: Out-of-sample probabilities, shape `(n, n_labels)`.
        targets: 1, 0 or NaN for unknown; same shape.
    """
    return _ranked(np.where(np.isnan(targets) & _reaches_usual(scores, targets == 1), scores, 0))


def _ranked(confidence: Scores) -> Suspicions:
    """The entries above 0, greatest first."""
    rows, columns = np.nonzero(confidence)
    order = np.argsort(-confidence[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    return Suspicions(rows, columns, confidence[rows, columns])


def _reaches_usual(scores: Scores, having: Mask) -> Mask:
    """Where a score reaches the mean of those rows that have the label, or lack it; nowhere if there are none."""
    count = having.sum(axis=0)
    usual = np.where(having, scores, 0).sum(axis=0) / np.maximum(count, 1)
    return np.asarray((scores >= usual) & (count > 0))


def _rate(given: tuple[Mask, Mask], high: tuple[Mask, Mask], scores: Scores, said: int) -> float:
    """Of the entries that are truly not `said`, the share that is given as `said`."""
    certain = (high[0] & ~(high[1] & (scores >= 0.5)), high[1] & ~(high[0] & (scores < 0.5)))
    truth, joint = 1 - said, []
    for one in (0, 1):  # given as `one` and truly `truth`, scaled to all entries given as `one`
        counted = sum(int((given[one] & each).sum()) for each in certain)
        joint.append((given[one] & certain[truth]).sum() * given[one].sum() / max(counted, 1))
    return max(float(joint[said] / max(sum(joint), 1e-9)), LEAST_RATE)


def _odds(probability: Scores) -> Scores:
    bounded = np.clip(probability, 1e-9, 1 - 1e-9)
    return np.asarray(bounded / (1 - bounded))
