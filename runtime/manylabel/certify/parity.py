"""A variant's answers beside the reference's: how far probabilities differ, and whether decisions do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from manylabel.bundle.certificate import Alone, LabelParity, Parity
from manylabel.certify.bootstrap_f1 import quality
from manylabel.inference.thresholding import decide

TIE = 1e-4
"""Decisions that differ while both probabilities are as near as this to their thresholds differ by rounding."""

ALONE = 32
"""Texts that are scored by themselves, too."""

Scores = NDArray[np.float32]
Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Answers:
    """What a graph says of some texts, and what it is decided by.

    Attributes:
        probabilities: Shape `(n_texts, n_labels)`.
        thresholds: Shape `(n_labels,)`.
    """

    probabilities: Scores
    thresholds: Scores

    @property
    def decided(self) -> NDArray[np.bool_]:
        """Which labels are given, shape `(n_texts, n_labels)`."""
        return decide(self.probabilities, self.thresholds)

    @property
    def near(self) -> NDArray[np.bool_]:
        """Which probabilities are within rounding of their threshold, shape `(n_texts, n_labels)`."""
        return np.asarray(np.abs(self.probabilities - self.thresholds) <= TIE)


def compare(
    expected: Answers, found: Answers, labels: Sequence[str], *, alone: Alone, targets: Scores | None = None
) -> Parity:
    """Compare a variant with the reference, on at least one text.

    Args:
        expected: What the reference says.
        found: What the variant says of the same texts.
        labels: In column order.
        alone: What `scored_alone` found.
        targets: 0, 1, or NaN for unknown, shape `(n_texts, n_labels)`; None where the texts have no labels.
    """
    difference = np.abs(expected.probabilities.astype(np.float64) - found.probabilities)
    flips, ties = flips_and_ties(expected, found)
    given, gives = expected.decided, found.decided
    columns = zip(
        labels, *(each.sum(axis=0).tolist() for each in (given, flips & gives, flips & given, ties)), strict=True
    )
    return Parity(
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        p999_difference=float(np.quantile(difference, 0.999)),
        flipped=int(flips.sum()),
        ties=int(ties.sum()),
        texts_flipped=int(flips.any(axis=1).sum()),
        texts_labelled=int((given | gives).any(axis=1).sum()),
        labels={label: LabelParity(*counts) for label, *counts in columns},
        alone=alone,
        quality=None if targets is None else quality(targets, given, gives),
    )


def flips_and_ties(expected: Answers, found: Answers) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where decisions differ beyond rounding, and where within it; both of shape `(n_texts, n_labels)`."""
    differs, near = expected.decided != found.decided, expected.near & found.near
    return differs & ~near, differs & near


def scored_alone(items: Sequence[Item], found: Scores, answer: Callable[[Sequence[Item]], Scores]) -> Alone:
    """Score a few of the texts by themselves, and compare the bits.

    Args:
        items: The texts, in any form.
        found: Their probabilities in company, shape `(n_texts, n_labels)`.
        answer: Scores texts of that form.
    """
    rows = np.unique(np.linspace(0, len(items) - 1, min(ALONE, len(items))).round().astype(int)).tolist()
    same = sum(answer([items[row]]).tobytes() == found[row : row + 1].tobytes() for row in rows)
    return Alone(len(rows), same)
