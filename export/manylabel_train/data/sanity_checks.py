"""Sanity checks: warnings about data that can be read and still looks like a mistake."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from manylabel.data.cell_validation import quote_names

EMPTY_CELLS = {"nan", "none", "null", "n/a", "#n/a", "<na>"}
"""What pandas, databases and spreadsheets write for an empty cell."""

SEPARATORS = (";", ",", "|", "/", "\t")

MANY_LABELS = 20
"""Labels from which on it is suspicious that nearly every text has a label of its own."""


def warn_about_suspicious_data(
    path: Path, texts: Sequence[str], labels: Sequence[str], present: Sequence[Sequence[str]], separator: str
) -> None:
    """Warn about texts that stand for empty cells, labels that look like several, and labels that look like texts.

    Args:
        path: The file.
        texts: Its texts.
        labels: The labels in column order.
        present: The labels of each text.
        separator: The separator of labels in a string.
    """
    for finding in (
        _check_empty_texts(texts),
        _check_separator(labels, present, separator),
        _check_label_count(labels, present),
    ):
        if finding:
            warnings.warn(f"{path.name}: {finding}", stacklevel=3)


def _check_empty_texts(texts: Sequence[str]) -> str:
    empty = [text for text in texts if text.strip().lower() in EMPTY_CELLS]
    if not empty:
        return ""
    return (
        f"{len(empty):,} of {len(texts):,} texts are {empty[0]!r}, which stands for an empty cell. Remove these rows."
    )


def _check_separator(labels: Sequence[str], present: Sequence[Sequence[str]], separator: str) -> str:
    if any(len(names) > 1 for names in present):
        return ""
    for other in SEPARATORS:
        joined = [label for label in labels if other in label]
        parts = {part.strip() for label in labels for part in label.split(other)}
        if other != separator and joined and len(parts) < len(labels):
            return (
                f"no row has two labels separated by {separator!r}, and {len(joined)} of {len(labels)} labels contain "
                f"{other!r}, such as {joined[0]!r}. If it separates labels, pass --separator {other!r}."
            )
    return ""


def _check_label_count(labels: Sequence[str], present: Sequence[Sequence[str]]) -> str:
    labelled = sum(bool(names) for names in present)
    if len(labels) <= max(MANY_LABELS, labelled / 2):
        return ""
    return (
        f"there are {len(labels):,} labels for {labelled:,} labelled texts, such as {quote_names(labels[:3])}. "
        "If another column has the labels, pass --labels-column."
    )
