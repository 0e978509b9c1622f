"""What can be read and yet looks like a mistake: a warning each, since it may be meant."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from manylabel.data.cell_validation import listed

EMPTY_CELLS = {"nan", "none", "null", "n/a", "#n/a", "<na>"}
"""What pandas, databases and spreadsheets write for an empty cell."""

SEPARATORS = (";", ",", "|", "/", "\t")

MANY = 20
"""Labels from which on it is odd that nearly every text has one of its own."""


def warn_of_doubts(
    path: Path, texts: Sequence[str], labels: Sequence[str], present: Sequence[Sequence[str]], separator: str
) -> None:
    """Name texts that stand for empty cells, labels that seem to be several, and labels that seem to be texts.

    Args:
        path: The file.
        texts: Its texts.
        labels: The labels in column order.
        present: The labels that each text has.
        separator: What stands between labels in a string.
    """
    for doubt in (_of_texts(texts), _of_separator(labels, present, separator), _of_labels(labels, present)):
        if doubt:
            warnings.warn(f"{path.name}: {doubt}", stacklevel=3)


def _of_texts(texts: Sequence[str]) -> str:
    empty = [text for text in texts if text.strip().lower() in EMPTY_CELLS]
    if not empty:
        return ""
    return (
        f"{len(empty):,} of {len(texts):,} texts are {empty[0]!r}, as programs write an empty cell. Remove such rows."
    )


def _of_separator(labels: Sequence[str], present: Sequence[Sequence[str]], separator: str) -> str:
    if any(len(names) > 1 for names in present):
        return ""
    for other in SEPARATORS:
        joined = [label for label in labels if other in label]
        parts = {part.strip() for label in labels for part in label.split(other)}
        if other != separator and joined and len(parts) < len(labels):
            return (
                f"no row has two labels separated by {separator!r}, and {len(joined)} of {len(labels)} labels hold "
                f"{other!r}, such as {joined[0]!r}. If it stands between labels, say so with --separator {other!r}."
            )
    return ""


def _of_labels(labels: Sequence[str], present: Sequence[Sequence[str]]) -> str:
    rows = sum(bool(names) for names in present)
    if len(labels) <= max(MANY, rows / 2):
        return ""
    return (
        f"there are {len(labels):,} labels for {rows:,} texts that have one, such as {listed(labels[:3])}. "
        "If another column holds the labels, say so with --labels-column."
    )
