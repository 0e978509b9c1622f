"""Suggestions: what to change in each row with a label issue, and the table for a spreadsheet."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manylabel.data.cell_validation import escape_formula
from manylabel.errors import InputError, OutputExists
from manylabel.system.atomic_write import atomic_text_file
from manylabel_train.data.dataset import Dataset
from manylabel_train.data.label_review import LabelSuggestion
from manylabel_train.review.confident_learning import LabelIssues

MIN_FURTHER_CONFIDENCE = 0.5
"""A row's most likely change is always suggested; further changes need at least this confidence."""

COLUMNS = ("text", "given", "suggested", "confidence", "add", "remove", "split", "row")


def build_suggestions(data: Dataset, rows: NDArray[np.intp], issues: LabelIssues) -> list[LabelSuggestion]:
    """Return a suggestion for every row with an issue.

    Args:
        data: All rows.
        rows: The indices of the reviewed rows in `data`, shape `(n,)`.
        issues: The issues among the reviewed rows, most likely first.

    Example:
        >>> data = Dataset.from_matrix(["lost parcel"], [[0, 1]], ["delivery", "price"])
        >>> issues = LabelIssues(np.array([0]), np.array([0]), np.array([0.9]))
        >>> (suggestion,) = build_suggestions(data, np.array([0]), issues)
        >>> suggestion.suggested, suggestion.add
        (('delivery', 'price'), {'delivery': 0.9})
    """
    changes: dict[int, dict[str, float]] = {}
    for index, column, confidence in zip(rows[issues.rows], issues.columns, issues.confidence, strict=True):
        of_row = changes.setdefault(int(index), {})
        if not of_row or confidence >= MIN_FURTHER_CONFIDENCE:
            of_row[data.labels[column]] = float(confidence)
    return [_build_suggestion(data, index, of_row) for index, of_row in changes.items()]


def _build_suggestion(data: Dataset, index: int, changes: Mapping[str, float]) -> LabelSuggestion:
    given = tuple(label for label, value in zip(data.labels, data.targets[index], strict=True) if value == 1)
    return LabelSuggestion(
        row=index + 1,
        split=data.split[index],
        text=data.texts[index],
        given=given,
        suggested=tuple(label for label in data.labels if (label in given) != (label in changes)),
        add={label: confidence for label, confidence in changes.items() if label not in given},
        remove={label: confidence for label, confidence in changes.items() if label in given},
    )


def write_table(suggestions: Sequence[LabelSuggestion], path: Path, *, separator: str = "|", raw: bool = False) -> None:
    """Write suggestions to a CSV file that a spreadsheet opens safely.

    A cell that a spreadsheet would take for a formula is escaped. The file starts with a byte order mark, without which
    Excel misreads umlauts.

    Args:
        suggestions: The rows in order.
        path: The file.
        separator: Separates labels.
        raw: Do not escape formulas, for programs that read the table.

    Raises:
        InputError: The file cannot be written.
    """
    with atomic_text_file(path, encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for each in suggestions:
            labels = [separator.join(names) for names in (each.given, each.suggested, each.add, each.remove)]
            text, given, suggested, add, remove = (
                cell if raw else escape_formula(cell) for cell in (each.text, *labels)
            )
            writer.writerow([text, given, suggested, f"{each.confidence:.4f}", add, remove, each.split, each.row])


def check_table_path(path: Path, *, force: bool) -> None:
    """Raise an error for a table that exists or cannot be created, before any work is done.

    Raises:
        OutputExists: The file exists, and `force` is False.
        InputError: The path is a folder, or its parent does not exist.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder. Name a file, such as {path / 'review.csv'}.")
    if os.path.lexists(path) and not force:
        raise OutputExists(f"{path} already exists. Choose another output, or replace it with --force.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"the folder {path.absolute().parent} does not exist. Create it, or choose another output.")
