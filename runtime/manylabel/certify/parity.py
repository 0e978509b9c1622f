"""Parity: how far a variant's probabilities are from the reference's, and how many decisions differ."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from manylabel.bundle.certificate import BatchInvariance, LabelParity, Parity
from manylabel.certify.bootstrap_f1 import estimate_quality
from manylabel.inference.thresholding import decide

TIE_TOLERANCE = 1e-4
"""A differing decision is a tie, not a flip, if both probabilities are this close to their thresholds."""

MAX_INVARIANCE_TEXTS = 32
"""Number of texts that are scored again in a batch of their own."""

Scores = NDArray[np.float32]
Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class VariantScores:
    """A graph's probabilities of some texts, with its thresholds.

    Attributes:
        probabilities: Shape `(n_texts, n_labels)`.
        thresholds: Shape `(n_labels,)`.
    """

    probabilities: Scores
    thresholds: Scores

    @property
    def decisions(self) -> NDArray[np.bool_]:
        """Which labels are predicted, shape `(n_texts, n_labels)`."""
        return decide(self.probabilities, self.thresholds)

    @property
    def near_threshold(self) -> NDArray[np.bool_]:
        """Which probabilities are within rounding of their threshold, shape `(n_texts, n_labels)`."""
        return np.asarray(np.abs(self.probabilities - self.thresholds) <= TIE_TOLERANCE)


def compute_parity(
    reference: VariantScores,
    variant: VariantScores,
    labels: Sequence[str],
    *,
    batch_invariance: BatchInvariance,
    targets: Scores | None = None,
) -> Parity:
    """Compare a variant with the reference, on at least one text.

    Args:
        reference: The reference's scores.
        variant: The variant's scores of the same texts.
        labels: The labels in column order.
        batch_invariance: The result of `check_batch_invariance`.
        targets: 0, 1, or NaN for unknown, shape `(n_texts, n_labels)`; `None` if the texts are unlabelled.

    Example:
        >>> thresholds = np.array([0.5, 0.5], dtype=np.float32)
        >>> fp32 = VariantScores(np.array([[0.9, 0.2]], dtype=np.float32), thresholds)
        >>> int8 = VariantScores(np.array([[0.8, 0.6]], dtype=np.float32), thresholds)
        >>> parity = compute_parity(fp32, int8, ["price", "delivery"], batch_invariance=BatchInvariance(0, 0))
        >>> parity.flipped, parity.labels["delivery"].gained
        (1, 1)
    """
    difference = np.abs(reference.probabilities.astype(np.float64) - variant.probabilities)
    flips, ties = find_flips_and_ties(reference, variant)
    given, predicted = reference.decisions, variant.decisions
    counts = [each.sum(axis=0).tolist() for each in (given, flips & predicted, flips & given, ties)]
    return Parity(
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        p999_difference=float(np.quantile(difference, 0.999)),
        flipped=int(flips.sum()),
        ties=int(ties.sum()),
        texts_flipped=int(flips.any(axis=1).sum()),
        texts_labelled=int((given | predicted).any(axis=1).sum()),
        labels={label: LabelParity(*of_label) for label, *of_label in zip(labels, *counts, strict=True)},
        alone=batch_invariance,
        quality=None if targets is None else estimate_quality(targets, given, predicted),
    )


def find_flips_and_ties(
    reference: VariantScores, variant: VariantScores
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return where decisions differ beyond rounding, and where within it; both of shape `(n_texts, n_labels)`."""
    differs = reference.decisions != variant.decisions
    near = reference.near_threshold & variant.near_threshold
    return differs & ~near, differs & near


def check_batch_invariance(
    items: Sequence[Item], scores: Scores, score: Callable[[Sequence[Item]], Scores]
) -> BatchInvariance:
    """Score some of the texts again, each in a batch of its own, and compare the scores bit by bit.

    Args:
        items: The texts, in any form.
        scores: Their probabilities from larger batches, shape `(n_texts, n_labels)`.
        score: Returns the probabilities of texts in this form.
    """
    rows = np.unique(np.linspace(0, len(items) - 1, min(MAX_INVARIANCE_TEXTS, len(items))).round().astype(int)).tolist()
    same = sum(score([items[row]]).tobytes() == scores[row : row + 1].tobytes() for row in rows)
    return BatchInvariance(len(rows), same)
