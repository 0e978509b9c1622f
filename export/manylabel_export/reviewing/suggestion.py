"""What is suggested for a row: the labels that it gets and loses, and how sure that is."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manylabel_export.dataset import Dataset
from manylabel_export.reviewing.suspicion import Suspicions

LIKELY = 0.5
"""A row's first change is suggested however sure it is; further ones where they are right more likely than not."""


@dataclass(frozen=True)
class Suggestion:
    """One row of which a label is likely missing or wrong.

    Attributes:
        row: The row in the data, counted from 1.
        split: Its split; "" where the data has none.
        text: Its text.
        given: The labels that it has.
        suggested: The labels that it likely should have.
        add: What is added, by label the probability that the text has it, as far as the scores can be believed.
        remove: What is taken away, by label the probability that the text lacks it.
    """

    row: int
    split: str
    text: str
    given: tuple[str, ...]
    suggested: tuple[str, ...]
    add: Mapping[str, float]
    remove: Mapping[str, float]

    @property
    def confidence(self) -> float:
        """That of the likeliest change."""
        return max([*self.add.values(), *self.remove.values()])


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
