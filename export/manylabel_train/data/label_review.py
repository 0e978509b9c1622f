"""The result of a label review, kept in a run as `review.json` for its report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from manylabel.errors import CheckpointError
from manylabel.system.atomic_write import atomic_write_text
from manylabel.system.unicode import valid_unicode
from manylabel_train.models import checkpoint

REVIEW_FILE = "review.json"


@dataclass(frozen=True)
class LabelSuggestion:
    """A row with a label that is likely missing or wrong, and what to change.

    Attributes:
        row: The row in the data, counted from 1.
        split: Its split; "" if the data has no splits.
        text: Its text.
        given: The labels that it has.
        suggested: The labels that it likely should have.
        add: Labels to add, each with the probability that the text has it, as far as the scores can be trusted.
        remove: Labels to remove, each with the probability that the text does not have it.

    Example:
        >>> suggestion = LabelSuggestion(7, "train", "lost parcel", (), ("delivery",), {"delivery": 0.9}, {})
        >>> suggestion.confidence
        0.9
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
        """The probability of the most likely change."""
        return max([*self.add.values(), *self.remove.values()])


def as_document(suggestions: Sequence[LabelSuggestion], total: int) -> dict[str, Any]:
    """Return suggestions as a JSON document; lone surrogates in texts become U+FFFD.

    Args:
        suggestions: The suggestions to include.
        total: How many were found.
    """
    rows = [asdict(each) | {"text": valid_unicode(each.text), "confidence": each.confidence} for each in suggestions]
    return {"found": total, "suggestions": rows}


def write_review(document: Mapping[str, Any], folder: Path) -> None:
    """Write a document to a run's `review.json`, where the report finds it."""
    atomic_write_text(folder / REVIEW_FILE, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def read_review(folder: Path) -> list[LabelSuggestion]:
    """Return the suggestions of a run's last review; none if there was no review.

    Raises:
        CheckpointError: The file is damaged.
    """
    path = folder / REVIEW_FILE
    if not path.exists():
        return []
    try:
        return [_parse_suggestion(row) for row in checkpoint.read_json(path)["suggestions"]]
    except (KeyError, TypeError, AttributeError) as exc:
        raise CheckpointError(f"{path} is damaged. Remove it, or rewrite it with manylabel review-labels.") from exc


def _parse_suggestion(row: Mapping[str, Any]) -> LabelSuggestion:
    return LabelSuggestion(
        row=int(row["row"]),
        split=str(row["split"]),
        text=str(row["text"]),
        given=tuple(row["given"]),
        suggested=tuple(row["suggested"]),
        add={str(label): float(value) for label, value in row["add"].items()},
        remove={str(label): float(value) for label, value in row["remove"].items()},
    )
