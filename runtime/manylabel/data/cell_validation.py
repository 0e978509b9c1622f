"""Cells of labelled data: validate texts, splits, labels and 0/1 indicators, and escape spreadsheet formulas.

Every check takes `where`, the location of the row, and puts it into the error's message.
"""

import re
import unicodedata
from collections.abc import Sequence

from manylabel.errors import DataError, UnknownLabel
from manylabel.system.did_you_mean import suggest_name

SPLIT_NAMES = {
    "train": "train",
    "dev": "validation",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
"""The names of splits in files, and their names here."""

NAMES_SHOWN = 30

_FORMULA_START = re.compile("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[-+]?[0-9]+([.,][0-9]+)?([eE][-+]?[0-9]+)?")


def check_text(text: object, where: str) -> str:
    """Return the text, or refuse a value that is not a string or is blank.

    Raises:
        DataError: It is not a string, or blank.

    Example:
        >>> check_text("The parcel arrived broken.", "reviews.csv, line 2")
        'The parcel arrived broken.'
    """
    if not isinstance(text, str) or not text.strip():
        problem = "an empty text" if isinstance(text, str) else f"{text!r} for a text"
        raise DataError(f"{where} has {problem}. Fill it in or remove the row.")
    return str(text)


def parse_split(value: object, where: str) -> str:
    """Return `"train"`, `"validation"` or `"test"` for any of their names, `""` for an empty cell.

    Raises:
        DataError: The name is unknown.

    Example:
        >>> parse_split("Dev", "reviews.csv, line 2")
        'validation'
    """
    if value is None or value == "":
        return ""
    name = SPLIT_NAMES.get(str(value).strip().lower())
    if name is None:
        raise DataError(f"{where}: split {value!r} is unknown; expected one of {', '.join(SPLIT_NAMES)}.")
    return name


def parse_labels(value: object, column: str, separator: str, where: str) -> list[str]:
    """Return the labels in a list, or in a string that separates them.

    Raises:
        DataError: It is neither, or a name is blank.

    Example:
        >>> parse_labels("delivery | price", "labels", "|", "reviews.csv, line 2")
        ['delivery', 'price']
    """
    names = value
    if isinstance(value, str):
        names = [part.strip() for part in value.split(separator)] if value.strip() else []
    if not isinstance(names, list) or not all(isinstance(label, str) and label.strip() for label in names):
        raise DataError(
            f"{where}: {column!r} holds {value!r}; expected names separated by {separator!r}, or a list of names."
        )
    return names


def parse_indicator(value: object, column: str, where: str) -> bool | None:
    """Return whether a cell of a label's own column is 1; None for an empty cell or NaN, which mean unknown.

    Raises:
        DataError: It is neither 0 nor 1.

    Example:
        >>> [parse_indicator(cell, "price", "reviews.csv, line 2") for cell in ("1", 0.0, "")]
        [True, False, None]
    """
    cell = "" if value is None else str(value).strip().lower()
    if cell in {"", "nan"}:
        return None
    if cell not in {"0", "1", "0.0", "1.0", "true", "false"}:
        raise DataError(f"{where}: column {column!r} holds {value!r}; expected 0 or 1, or an empty cell for unknown.")
    return cell in {"1", "1.0", "true"}


def check_labels(labels: Sequence[str]) -> None:
    """Refuse label names that are blank, not strings, longer than a line, or duplicated.

    Raises:
        DataError: There is such a name.

    Example:
        >>> check_labels(["delivery", "price"])
    """
    duplicates = sorted({label for label in labels if labels.count(label) > 1})
    if duplicates:
        raise DataError(f"the label {quote_names(duplicates)} occurs more than once. Every label needs its own name.")
    for label in labels:
        if not isinstance(label, str) or not label.strip() or _has_control(label):
            raise DataError(f"{label!r} cannot name a label: expected a string on one line that is not blank.")


def unknown_label(label: str, labels: Sequence[str], where: str) -> UnknownLabel:
    """Return the error for a label that is not among those that may occur, with the most similar name.

    Example:
        >>> print(unknown_label("prise", ["delivery", "price"], "reviews.csv, line 2"))
        reviews.csv, line 2: label 'prise' is not in the given set of 2. Did you mean 'price'?
    """
    close = suggest_name(label, labels)
    hint = f"Did you mean {close!r}?" if close else f"Expected one of {quote_names(labels)}."
    return UnknownLabel(f"{where}: label {label!r} is not in the given set of {len(labels)}. {hint}")


def quote_names(names: Sequence[str]) -> str:
    """Return names in quotes for a message, thirty of them at most.

    Example:
        >>> quote_names(["delivery", "price"])
        "'delivery', 'price'"
    """
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(repr(name) for name in names[:NAMES_SHOWN]) + more


def escape_formula(cell: str) -> str:
    """Return a CSV cell that no spreadsheet computes: an apostrophe before a formula. Numbers stay as they are.

    CSV injection, OWASP: a cell is a formula if it starts with `=`, `+`, `-`, `@`, a tab or a line break.

    Example:
        >>> [escape_formula(cell) for cell in ("=SUM(A1:A9)", "-2.5", "late again")]
        ["'=SUM(A1:A9)", '-2.5', 'late again']
    """
    return f"'{cell}" if _FORMULA_START.match(cell) and not _NUMBER.fullmatch(cell) else cell


def _has_control(label: str) -> bool:
    """Return whether a name has a control character, a line break or a lone surrogate."""
    return any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in label)
