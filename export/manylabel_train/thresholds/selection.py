"""Threshold selection: a threshold for every label by its objective, and the objectives that are not met."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manylabel.errors import InputError
from manylabel_train.thresholds.constraints import OperatingPoint, find_constrained_threshold
from manylabel_train.thresholds.learn_then_test import Guarantee, guarantee_precision, guarantee_recall
from manylabel_train.thresholds.objectives import Objective, Objectives
from manylabel_train.thresholds.tuning import UNTUNED, tune_thresholds

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class ThresholdSelection:
    """Selected thresholds, and where they fall short of their objectives.

    Attributes:
        thresholds: Shape `(n_labels,)`.
        objectives: What they were selected for.
        unmet: By label, what was requested and what was reached instead.
        bounds: By label with a guarantee, the lower confidence bound of its metric.
    """

    thresholds: Scores
    objectives: Objectives
    unmet: Mapping[str, str]
    bounds: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return objectives and outcome as a run and a bundle store them beside the thresholds."""
        return {"goals": self.objectives.as_dict(), "unmet": dict(self.unmet), "bounds": dict(self.bounds)}


@dataclass(frozen=True)
class ScoredTexts:
    """Probabilities of some texts, with their true labels.

    Attributes:
        probabilities: Shape `(n_texts, n_labels)`.
        targets: 0, 1, or NaN for unknown, same shape. Unknown entries are ignored.
    """

    probabilities: Scores
    targets: Scores

    def known(self, column: int) -> tuple[Scores, NDArray[np.bool_]]:
        """Return one label's scores and truth for the texts where the label is known."""
        known = ~np.isnan(self.targets[:, column])
        return self.probabilities[known, column], self.targets[known, column] > 0.5


def select_thresholds(
    validation: ScoredTexts, labels: Sequence[str], objectives: Objectives, *, holdout: ScoredTexts | None = None
) -> ThresholdSelection:
    """Select a threshold for every label by its objective, independently of other labels' objectives.

    Args:
        validation: Validation texts.
        labels: The labels in column order.
        objectives: What the thresholds are for.
        holdout: Texts that nothing else has used. Minimums with a confidence are tested on them.

    Returns:
        The thresholds; where a minimum cannot be met, the threshold that comes nearest to it.

    Raises:
        UnknownLabel: An objective is for a label that is not among `labels`.
        InputError: An objective has a confidence, and there is no `holdout`.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> targets = (rng.random((200, 1)) < 0.3).astype(np.float32)
        >>> scores = (0.4 * targets + 0.5 * rng.random((200, 1))).astype(np.float32)
        >>> recall = Objectives(Objective("recall", 1.0))
        >>> selection = select_thresholds(ScoredTexts(scores, targets), ["urgent"], recall)
        >>> bool((scores >= selection.thresholds)[targets == 1].all()), selection.unmet
        (True, {})
    """
    by_label = objectives.for_labels(labels)
    thresholds = _tune(validation, by_label)
    unmet: dict[str, str] = {}
    bounds: dict[str, float] = {}
    for column, (label, objective) in enumerate(zip(labels, by_label, strict=True)):
        if objective.confidence:
            guarantee = guarantee_threshold(column, objective, validation, holdout)
            thresholds[column], bounds[label] = guarantee.threshold, guarantee.bound
            if guarantee.bound < objective.value:
                unmet[label] = f"{objective}: the held-out texts support {guarantee.bound:.3f}"
        elif objective.figure != "f_beta":
            scores, truth = validation.known(column)
            if not truth.any():
                unmet[label] = f"{objective}: no validation text has the label, so its threshold is tuned for F1"
                continue
            point = find_constrained_threshold(scores, truth, objective.figure, objective.value)
            thresholds[column] = point.threshold
            if getattr(point, objective.figure) < objective.value:
                unmet[label] = _describe_shortfall(objective, point, int(truth.sum()))
    return ThresholdSelection(thresholds, objectives, unmet, bounds)


def guarantee_threshold(
    column: int, objective: Objective, validation: ScoredTexts, holdout: ScoredTexts | None
) -> Guarantee:
    """Select one label's threshold for a minimum with a confidence.

    Args:
        column: The label's column.
        objective: A minimum with a confidence.
        validation: Validation texts, on which the order of the tests is learned.
        holdout: Texts that nothing else has used.

    Returns:
        The threshold and its bound; 0.5 and a bound of 0 where `validation` or `holdout` has no text with the label.

    Raises:
        InputError: There is no `holdout`.
    """
    if holdout is None:
        raise InputError(f"{objective}: there are no held-out texts to test the guarantee on.")
    scores, truth = holdout.known(column)
    learned = validation.known(column)
    if not truth.any() or not learned[1].any():
        return Guarantee(UNTUNED, 0.0)
    if objective.figure == "recall":
        return guarantee_recall(scores, truth, objective.value, objective.confidence)
    return guarantee_precision(scores, truth, learned, objective.value, objective.confidence)


def warn_about_unmet(unmet: Mapping[str, str]) -> None:
    """Warn about labels that miss their objective, and by how much."""
    if unmet:
        details = "; ".join(f"{label!r} ({reason})" for label, reason in unmet.items())
        warnings.warn(
            f"{len(unmet)} {'label misses its' if len(unmet) == 1 else 'labels miss their'} objective on the "
            f"validation texts: {details}. Their thresholds come as near as possible. Ask for less, or add texts with "
            "these labels.",
            stacklevel=3,
        )


def _tune(validation: ScoredTexts, objectives: Sequence[Objective]) -> Scores:
    """Tune thresholds for F-beta, and for F1 where the objective is another.

    For each beta all labels are tuned, even if only one label has this beta: rare labels borrow strength from others.
    """
    betas = [objective.value if objective.figure == "f_beta" else 1.0 for objective in objectives]
    tuned = {beta: tune_thresholds(validation.probabilities, validation.targets, beta=beta) for beta in set(betas)}
    return np.array([tuned[beta][column] for column, beta in enumerate(betas)], dtype=np.float32)


def _describe_shortfall(objective: Objective, point: OperatingPoint, positives: int) -> str:
    texts = "text has" if positives == 1 else "texts have"
    return (
        f"{objective}: {getattr(point, objective.figure):.3f} at most, with precision {point.precision:.3f} and recall "
        f"{point.recall:.3f}; {positives} validation {texts} the label"
    )
