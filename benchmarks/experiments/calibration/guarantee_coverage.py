"""Do minimum precision and recall hold on unseen texts, and guarantees as often as their confidence says?

A guarantee is about the distribution that the held-out texts were drawn from, which is never available. Here the
held-out texts are drawn with replacement from a split, so that the split is that distribution and a figure on it has no
sampling error. The confidence bounds how often, over all draws, a guarantee is given and broken. It does not bound the
share of broken guarantees among those given (a label just below its minimum gets a guarantee in lucky draws only), nor
how often a figure falls below the minimum on another small sample: both are higher.
"""

from typing import Any

import numpy as np
from scipy.stats import binom

from manylabel_train.evaluation.metrics import per_label_metrics
from manylabel_train.thresholds.constraints import evaluate_threshold
from manylabel_train.thresholds.learn_then_test import min_sample_size
from manylabel_train.thresholds.objectives import Objective, Objectives
from manylabel_train.thresholds.selection import ScoredTexts, guarantee_threshold, select_thresholds

DRAWS = 1000
MINIMUMS = (Objective("precision", 0.9), Objective("recall", 0.9))
GUARANTEES = (Objective("precision", 0.8, 0.95), Objective("recall", 0.9, 0.95))


def check_minimum(
    labels: tuple[str, ...], validation: ScoredTexts, test: ScoredTexts, goal: Objective
) -> dict[str, Any]:
    """Check on the test split a minimum for every label that was tuned on the validation split.

    Returns:
        For labels that are not reported as unmet and occur in the test split: their number (`"labels"`), the share
        that `"held"`, and the means of the figure (`"mean"`) and of the `"other"` one.
    """
    chosen = select_thresholds(validation, labels, Objectives(goal))
    metrics = per_label_metrics(test.probabilities, test.targets, labels, chosen.thresholds)
    checked = [metrics[label] for label in labels if label not in chosen.unmet and metrics[label]["support"]]
    figures, others = ([each[name] for each in checked] for name in (goal.figure, _other(goal)))
    held = [figure >= goal.value for figure in figures]
    return {"goal": str(goal), "labels": len(checked)} | _means(held=held, mean=figures, other=others)


def check_guarantee(
    labels: tuple[str, ...], validation: ScoredTexts, test: ScoredTexts, goal: Objective, draws: int = DRAWS
) -> dict[str, Any]:
    """Count how often a guarantee is given and broken, over draws of half as many texts as the test split has.

    Returns:
        Over all draws and the labels with enough texts in half of the split: the number of labels (`"labels"`), the
        share in which the guarantee is `"given"`, in which it is given and `"broken"`, and the latter for the label
        for which it is highest (`"most"`). For guarantees that are given: the share that falls below the minimum on
        another draw of the same size (`"short_elsewhere"`), and the means of the figure (`"mean"`) and of the
        `"other"` one.
    """
    enough = (test.targets == 1).sum(axis=0) / 2 >= min_sample_size(goal.value, goal.confidence)
    columns, draw, size = np.flatnonzero(enough).tolist(), np.random.default_rng(0), len(test.targets) // 2
    given, figures, elsewhere, others = np.zeros((4, draws, len(columns)))
    for at in range(draws):
        held_out, redrawn = (_take(test, draw.integers(0, len(test.targets), size)) for _ in range(2))
        for place, column in enumerate(columns):
            proved = guarantee_threshold(column, goal, validation, held_out)
            here, there = (evaluate_threshold(*rows.known(column), proved.threshold) for rows in (test, redrawn))
            given[at, place] = proved.bound >= goal.value
            figures[at, place], others[at, place] = (getattr(here, name) for name in (goal.figure, _other(goal)))
            elsewhere[at, place] = getattr(there, goal.figure)
    sure = given > 0
    broken = sure & (figures < goal.value)
    most = [broken.mean(axis=0).max()] if columns else []
    shares = _means(given=given, broken=broken, most=most, short_elsewhere=elsewhere[sure] < goal.value)
    return {"goal": str(goal), "labels": len(columns)} | shares | _means(mean=figures[sure], other=others[sure])


def broken_share_limit(goal: Objective, draws: int = DRAWS) -> float:
    """Return the share of draws exceeded once in 1,000 repetitions if a guarantee breaks as often as allowed."""
    return float(binom.ppf(0.999, draws, 1 - goal.confidence) / draws)


def _take(rows: ScoredTexts, places: Any) -> ScoredTexts:
    return ScoredTexts(rows.probabilities[places], rows.targets[places])


def _other(goal: Objective) -> str:
    return "recall" if goal.figure == "precision" else "precision"


def _means(**values: Any) -> dict[str, float | None]:
    return {name: float(np.mean(each)) if np.size(each) else None for name, each in values.items()}
