"""Confident learning: find given labels that contradict out-of-sample scores, one label at a time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_ERROR_RATE = 1e-6

Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class LabelIssues:
    """Entries of a label matrix that are likely wrong, most likely first.

    Attributes:
        rows: The row of each entry, shape `(n_issues,)`.
        columns: The label's column, same shape.
        confidence: The probability that the entry is wrong, as far as the scores can be trusted, same shape.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    confidence: Scores


def find_label_issues(scores: Scores, targets: NDArray[np.float32]) -> LabelIssues:
    """Find labels that are likely missing, and labels that are likely wrong.

    Confident learning (Northcutt, Jiang and Chuang 2021, section 3.1), separately for each label: an entry given as 0
    is suspicious if its score reaches the mean score of the entries given as 1, and vice versa, so that a rare label is
    compared with its own usual scores. How often labels are missing, and how often wrong, is estimated from the counts
    (the confident joint, eq. 1 to 3, summed over labels), since one is usually much more frequent than the other. The
    confidence is Bayes' rule with these rates: an entry of score p given as 0 is wrong at odds of p / (1 - p) times the
    rate of missing labels.

    Args:
        scores: Out-of-sample probabilities, shape `(n, n_labels)`.
        targets: 1, 0 or NaN for unknown, which is never an issue; same shape.

    Example:
        >>> scores = np.array([[0.9], [0.95], [0.8], [0.1], [0.2]])
        >>> issues = find_label_issues(scores, np.array([[1], [0], [1], [0], [0]], dtype=np.float32))
        >>> issues.rows.tolist(), issues.columns.tolist()
        ([1], [0])
    """
    given = (targets == 0, targets == 1)
    high = (_reaches_mean(1 - scores, given[0]), _reaches_mean(scores, given[1]))
    confidence = np.zeros(scores.shape)
    for value, contradiction in ((0, scores), (1, 1 - scores)):
        odds = _odds(contradiction) * _error_rate(given, high, scores, value)
        confidence = np.where(given[value] & high[1 - value], odds / (1 + odds), confidence)
    return _rank(confidence)


def find_likely_labels(scores: Scores, targets: NDArray[np.float32]) -> LabelIssues:
    """Find unknown entries where the text likely has the label: its score is usual for texts that have it.

    The confidence is the score itself. If no row is known to lack a label, its scores only rank the rows, and so does
    the confidence.

    Args:
        scores: Out-of-sample probabilities, shape `(n, n_labels)`.
        targets: 1, 0 or NaN for unknown; same shape.

    Example:
        >>> scores = np.array([[0.9], [0.95], [0.1]])
        >>> find_likely_labels(scores, np.array([[1], [np.nan], [np.nan]], dtype=np.float32)).rows.tolist()
        [1]
    """
    return _rank(np.where(np.isnan(targets) & _reaches_mean(scores, targets == 1), scores, 0))


def _rank(confidence: Scores) -> LabelIssues:
    """Return the entries above 0, highest first."""
    rows, columns = np.nonzero(confidence)
    order = np.argsort(-confidence[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    return LabelIssues(rows, columns, confidence[rows, columns])


def _reaches_mean(scores: Scores, members: Mask) -> Mask:
    """Return where a score reaches its label's mean over the member rows; nowhere if a label has no members."""
    count = members.sum(axis=0)
    mean = np.where(members, scores, 0).sum(axis=0) / np.maximum(count, 1)
    return np.asarray((scores >= mean) & (count > 0))


def _error_rate(given: tuple[Mask, Mask], high: tuple[Mask, Mask], scores: Scores, value: int) -> float:
    """Return the share of entries given as `value` among those whose true value is the other one."""
    confident = (high[0] & ~(high[1] & (scores >= 0.5)), high[1] & ~(high[0] & (scores < 0.5)))
    truth, joint = 1 - value, []
    for each in (0, 1):  # given as `each` and truly `truth`, scaled to all entries given as `each`
        counted = sum(int((given[each] & mask).sum()) for mask in confident)
        joint.append((given[each] & confident[truth]).sum() * given[each].sum() / max(counted, 1))
    return max(float(joint[value] / max(sum(joint), 1e-9)), MIN_ERROR_RATE)


def _odds(probability: Scores) -> Scores:
    bounded = np.clip(probability, 1e-9, 1 - 1e-9)
    return np.asarray(bounded / (1 - bounded))
