"""From goals to thresholds, and what the texts do not bear out."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manylabel_export.floors import Reached, floor_threshold
from manylabel_export.goals import Goal, Goals
from manylabel_export.thresholds import tune_thresholds

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Chosen:
    """Thresholds, and what they fall short of.

    Attributes:
        thresholds: Shape `(n_labels,)`.
        goals: What they were chosen for.
        unmet: By label, what was asked for and what was reached on the validation texts instead.
    """

    thresholds: Scores
    goals: Goals
    unmet: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Goals and what falls short of them, as a run and a bundle keep them beside the thresholds."""
        return {"goals": self.goals.as_dict(), "unmet": dict(self.unmet)}


def choose_thresholds(probabilities: Scores, targets: Scores, labels: Sequence[str], goals: Goals) -> Chosen:
    """A threshold for every label by its goal. A label's depends on no other label's goal.

    Args:
        probabilities: Validation scores, shape `(n_texts, n_labels)`.
        targets: 0, 1, or NaN for unknown, same shape. Unknown entries have no say.
        labels: The columns' names.
        goals: What for.

    Returns:
        Thresholds; where a floor cannot be held, the one that comes nearest to it.

    Raises:
        UnknownLabel: A goal is for a label that is not among `labels`.
    """
    by_label, unmet = goals.of(labels), {}
    thresholds = _tuned(probabilities, targets, by_label)
    for column, goal in enumerate(by_label):
        scores, truth = known(probabilities[:, column], targets[:, column])
        if goal.figure == "f_beta":
            continue
        if not truth.any():
            unmet[labels[column]] = f"{goal}: no validation text has the label, and its threshold is that for F1"
            continue
        found = floor_threshold(scores, truth, goal.figure, goal.value)
        thresholds[column] = found.threshold
        if getattr(found, goal.figure) < goal.value:
            unmet[labels[column]] = _short(goal, found, int(truth.sum()))
    return Chosen(thresholds, goals, unmet)


def warn_of_unmet(unmet: Mapping[str, str]) -> None:
    """Say which labels fall short of their goal, and by how much."""
    if unmet:
        listed = "; ".join(f"{label!r} ({said})" for label, said in unmet.items())
        warnings.warn(
            f"{len(unmet)} {'label falls' if len(unmet) == 1 else 'labels fall'} short of the goal on the validation "
            f"texts: {listed}. Their thresholds come as near as can be. Ask for less, or add texts that have them.",
            stacklevel=3,
        )


def known(scores: Scores, target: Scores) -> tuple[Scores, NDArray[np.bool_]]:
    """One label's scores of the texts of which it is known whether they have it, and whether they do."""
    there = ~np.isnan(target)
    return scores[there], target[there] > 0.5


def _tuned(probabilities: Scores, targets: Scores, goals: Sequence[Goal]) -> Scores:
    """Thresholds for F-beta; F1 where the goal is another.

    All labels are tuned for each beta that occurs, also where it is one label's alone: a rare label leans on others.
    """
    betas = np.array([goal.value if goal.figure == "f_beta" else 1.0 for goal in goals])
    tuned = {beta: tune_thresholds(probabilities, targets, beta=beta) for beta in np.unique(betas).tolist()}
    return np.array([tuned[beta][column] for column, beta in enumerate(betas.tolist())], dtype=np.float32)


def _short(goal: Goal, found: Reached, positives: int) -> str:
    texts = "text has" if positives == 1 else "texts have"
    return (
        f"{goal}: {getattr(found, goal.figure):.3f} at most, with precision {found.precision:.3f} and recall "
        f"{found.recall:.3f}; {positives} validation {texts} the label"
    )
