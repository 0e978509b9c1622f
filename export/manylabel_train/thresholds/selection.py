"""From goals to thresholds, and what the texts do not bear out."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manylabel.errors import InputError
from manylabel_train.thresholds.constraints import Reached, floor_threshold
from manylabel_train.thresholds.learn_then_test import Proved, precision_guaranteed, recall_guaranteed
from manylabel_train.thresholds.objectives import Goal, Goals
from manylabel_train.thresholds.tuning import tune_thresholds

HALF = 0.5

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Chosen:
    """Thresholds, and what they fall short of.

    Attributes:
        thresholds: Shape `(n_labels,)`.
        goals: What they were chosen for.
        unmet: By label, what was asked for and what was reached on the validation texts instead.
        bounds: By label with a guarantee, what its figure is at least, with the confidence that was asked for.
    """

    thresholds: Scores
    goals: Goals
    unmet: Mapping[str, str]
    bounds: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Goals and what became of them, as a run and a bundle keep them beside the thresholds."""
        return {"goals": self.goals.as_dict(), "unmet": dict(self.unmet), "bounds": dict(self.bounds)}


@dataclass(frozen=True)
class Scored:
    """Texts' scores and what is so.

    Attributes:
        probabilities: Shape `(n_texts, n_labels)`.
        targets: 0, 1, or NaN for unknown, same shape. Unknown entries have no say.
    """

    probabilities: Scores
    targets: Scores

    def known(self, column: int) -> tuple[Scores, NDArray[np.bool_]]:
        """One label's scores of the texts of which it is known whether they have it, and whether they do."""
        there = ~np.isnan(self.targets[:, column])
        return self.probabilities[there, column], self.targets[there, column] > 0.5


def choose_thresholds(rows: Scored, labels: Sequence[str], goals: Goals, *, aside: Scored | None = None) -> Chosen:
    """A threshold for every label by its goal. A label's depends on no other label's goal.

    Args:
        rows: Validation texts.
        labels: The columns' names.
        goals: What for.
        aside: Texts that nothing has been chosen by. Floors with a confidence are proved on them.

    Returns:
        Thresholds; where a floor cannot be held, the one that comes nearest to it.

    Raises:
        UnknownLabel: A goal is for a label that is not among `labels`.
        InputError: There is a confidence and nothing was set aside.
    """
    by_label = goals.of(labels)
    thresholds = _tuned(rows, by_label)
    unmet: dict[str, str] = {}
    bounds: dict[str, float] = {}
    for column, (label, goal) in enumerate(zip(labels, by_label, strict=True)):
        if goal.confidence:
            proved = guaranteed(column, goal, rows, aside)
            thresholds[column], bounds[label] = proved.threshold, proved.bound
            if proved.bound < goal.value:
                unmet[label] = f"{goal}: the texts set aside bear out {proved.bound:.3f}"
        elif goal.figure != "f_beta":
            scores, truth = rows.known(column)
            if not truth.any():
                unmet[label] = f"{goal}: no validation text has the label, and its threshold is that for F1"
                continue
            found = floor_threshold(scores, truth, goal.figure, goal.value)
            thresholds[column] = found.threshold
            if getattr(found, goal.figure) < goal.value:
                unmet[label] = _short(goal, found, int(truth.sum()))
    return Chosen(thresholds, goals, unmet, bounds)


def guaranteed(column: int, goal: Goal, rows: Scored, aside: Scored | None) -> Proved:
    """One label's threshold for a floor with a confidence.

    Args:
        column: The label's.
        goal: A floor with a confidence.
        rows: Validation texts, by which the order of thresholds is learned.
        aside: Texts that nothing has been chosen by.

    Returns:
        0.5 with nothing proved where either have no text with the label.

    Raises:
        InputError: Nothing was set aside.
    """
    if aside is None:
        raise InputError(f"{goal}: there are no texts set aside to prove it by.")
    scores, truth = aside.known(column)
    learned = rows.known(column)
    if not truth.any() or not learned[1].any():
        return Proved(HALF, 0.0)
    if goal.figure == "recall":
        return recall_guaranteed(scores, truth, goal.value, goal.confidence)
    return precision_guaranteed(scores, truth, learned, goal.value, goal.confidence)


def warn_of_unmet(unmet: Mapping[str, str]) -> None:
    """Say which labels fall short of their goal, and by how much."""
    if unmet:
        listed = "; ".join(f"{label!r} ({said})" for label, said in unmet.items())
        warnings.warn(
            f"{len(unmet)} {'label falls' if len(unmet) == 1 else 'labels fall'} short of the goal on the validation "
            f"texts: {listed}. Their thresholds come as near as can be. Ask for less, or add texts that have them.",
            stacklevel=3,
        )


def _tuned(rows: Scored, goals: Sequence[Goal]) -> Scores:
    """Thresholds for F-beta; F1 where the goal is another.

    All labels are tuned for each beta that occurs, also where it is one label's alone: a rare label leans on others.
    """
    betas = [goal.value if goal.figure == "f_beta" else 1.0 for goal in goals]
    tuned = {beta: tune_thresholds(rows.probabilities, rows.targets, beta=beta) for beta in set(betas)}
    return np.array([tuned[beta][column] for column, beta in enumerate(betas)], dtype=np.float32)


def _short(goal: Goal, found: Reached, positives: int) -> str:
    texts = "text has" if positives == 1 else "texts have"
    return (
        f"{goal}: {getattr(found, goal.figure):.3f} at most, with precision {found.precision:.3f} and recall "
        f"{found.recall:.3f}; {positives} validation {texts} the label"
    )
