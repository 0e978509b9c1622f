"""Texts that are set aside to prove guarantees by, before anything else looks at them."""

from dataclasses import replace

import numpy as np

from manylabel.errors import InputError
from manylabel_train.data.dataset import Dataset
from manylabel_train.thresholds.learn_then_test import fewest
from manylabel_train.thresholds.objectives import Goals

ASIDE = "aside"
"""The split's name."""


def set_aside(data: Dataset, goals: Goals) -> Dataset:
    """Half of the validation rows as a split of their own, drawn at random, where a goal is to be guaranteed.

    At random, and not so that every label has its share: the guarantee is about random draws.

    Args:
        data: Rows with splits.
        goals: What is wanted.

    Returns:
        The same rows in the same order.

    Raises:
        UnknownLabel: A goal is for a label that the data lacks.
        InputError: The rows set aside have too few texts with a label for what is to be guaranteed of it.
    """
    if not goals.guarantee:
        return data
    rows = np.random.default_rng(0).permutation([row for row, name in enumerate(data.split) if name == "validation"])
    chosen = set(rows[: (len(rows) + 1) // 2].tolist())
    data = replace(data, split=tuple(ASIDE if row in chosen else name for row, name in enumerate(data.split)))
    require_enough(data.part(ASIDE), goals)
    return data


def require_enough(aside: Dataset, goals: Goals) -> None:
    """Refuse guarantees that no score could give, before time is spent.

    Raises:
        UnknownLabel: A goal is for a label that the data lacks.
        InputError: There are too few texts with a label.
    """
    short = []
    for label, goal, target in zip(aside.labels, goals.of(aside.labels), aside.targets.T, strict=True):
        positives, needed = int((target == 1).sum()), fewest(goal.value, goal.confidence) if goal.confidence else 0
        if positives < needed:
            most = (1 - goal.confidence) ** (1 / positives) if positives else 0.0
            short.append(f"{label!r} ({goal}) needs {needed} and has {positives}, good for {most:.2f} at most")
    if short:
        raise InputError(
            f"too few of the {len(aside):,} texts set aside have the label for what is to be guaranteed: "
            f"{'; '.join(short)}. They are half of the validation texts: give more of these, ask for less, or name "
            "only the labels that have enough: LABEL=number."
        )
