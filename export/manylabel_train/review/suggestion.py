"""A row whose labels are likely wrong, and what they should be: found by `reviewing`, shown by `report`."""

from collections.abc import Mapping
from dataclasses import dataclass


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
