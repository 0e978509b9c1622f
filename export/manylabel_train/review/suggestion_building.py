"""From suspicious entries to a suggestion for each of their rows."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from manylabel_train.data.dataset import Dataset
from manylabel_train.review.confident_learning import Suspicions
from manylabel_train.review.suggestion import Suggestion

LIKELY = 0.5
"""A row's first change is suggested however sure it is; further ones where they are right more likely than not."""


def of_rows(data: Dataset, rows: NDArray[np.intp], found: Suspicions) -> list[Suggestion]:
    """A suggestion for every row with a suspicious entry.

    Args:
        data: All rows.
        rows: Those of it that were looked at, shape `(n,)`.
        found: Suspicious entries among these, the likeliest first.
    """
    changes: dict[int, dict[str, float]] = {}
    for place, column, confidence in zip(rows[found.rows], found.columns, found.confidence, strict=True):
        of_row = changes.setdefault(int(place), {})
        if not of_row or confidence >= LIKELY:
            of_row[data.labels[column]] = float(confidence)
    return [_of_row(data, place, of_row) for place, of_row in changes.items()]


def _of_row(data: Dataset, place: int, changes: Mapping[str, float]) -> Suggestion:
    given = tuple(label for label, value in zip(data.labels, data.targets[place], strict=True) if value == 1)
    suggested = tuple(label for label in data.labels if (label in given) != (label in changes))
    return Suggestion(
        row=place + 1,
        split=data.split[place],
        text=data.texts[place],
        given=given,
        suggested=suggested,
        add={label: confidence for label, confidence in changes.items() if label not in given},
        remove={label: confidence for label, confidence in changes.items() if label in given},
    )
