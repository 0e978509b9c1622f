"""Labelled texts from files: every form in which labels are stored.

Labels are a separated string, a list, or one 0/1 column per label, which is what scikit-learn's `MultiLabelBinarizer`
returns. `readers.open_table` knows the formats of files, `cell_validation` what a value may be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from manylabel.data.cell_validation import (
    check_labels,
    check_text,
    parse_indicator,
    parse_labels,
    parse_split,
    quote_names,
    unknown_label,
)
from manylabel.data.readers.open_table import LocatedRow, read_rows
from manylabel.errors import DataError

Unlisted = Literal["absent", "unknown"]
DELIMITERS = ("\t", ";", "|")


@dataclass(frozen=True)
class Columns:
    """Which columns of a file hold what.

    Attributes:
        text: The column of texts.
        labels: The column of labels, a list or a separated string. Ignored when `indicators` is given.
        indicators: One 0/1 column per label; the columns' names are the labels. An empty cell or NaN means unknown.
        separator: Separates the labels in a string.
        split: The column with the names of splits; it may be missing.
        unlisted: Whether a label that a row does not list is absent or unknown.
        known: The column that lists the labels whose value is known; the column, or a row's value, may be missing. A
            label that is listed neither there nor among the row's labels is unknown, whatever `unlisted` is.

    Example:
        >>> Columns(text="review", labels="topics", separator=";").split
        'split'
    """

    text: str = "text"
    labels: str = "labels"
    indicators: tuple[str, ...] = ()
    separator: str = "|"
    split: str = "split"
    unlisted: Unlisted = "absent"
    known: str = "known"

    def __post_init__(self) -> None:
        if not self.separator:
            raise DataError("the separator is empty. Give the text that separates labels, such as '|' or ';'.")
        if self.unlisted not in ("absent", "unknown"):
            raise DataError(f"unlisted is {self.unlisted!r}; expected 'absent' or 'unknown'.")


DEFAULT_COLUMNS = Columns()


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """The rows of a file.

    Attributes:
        texts: The texts, `n` of them.
        targets: 1 where a text has a label, 0 where it does not, NaN where that is unknown; shape `(n, len(labels))`.
        labels: The labels in column order.
        split: For each text `"train"`, `"validation"`, `"test"`, or `""` where the file does not say.
        present: The labels that each row lists.
    """

    texts: tuple[str, ...]
    targets: NDArray[np.float32]
    labels: tuple[str, ...]
    split: tuple[str, ...]
    present: list[list[str]]


def read_labelled_texts(
    path: Path, columns: Columns = DEFAULT_COLUMNS, *, labels: Sequence[str] = (), allow_unlabelled: bool = False
) -> LabelledTexts:
    r"""Read labelled texts from a CSV, TSV, JSON lines or Parquet file.

    Args:
        path: The file; its suffix names the format.
        columns: Which column holds what.
        labels: The labels that may occur, in column order. Empty: those that occur, sorted.
        allow_unlabelled: Accept a file without the labels' column; every label of every text is unknown then.

    Raises:
        DataError: The file is missing, empty or unreadable, a column is missing, or a row has no text.
        UnknownLabel: A row has a label that is not among `labels`.

    Example:
        >>> _ = Path("two.csv").write_text("text,labels\nlate and dear,delivery|price\nlate,delivery\n")
        >>> data = read_labelled_texts(Path("two.csv"))
        >>> data.labels, data.targets.tolist()
        (('delivery', 'price'), [[1.0, 1.0], [1.0, 0.0]])
    """
    rows = read_rows(path)
    unlabelled = allow_unlabelled and not columns.indicators and columns.labels not in rows[0][1]
    _check_columns(path, rows[0][1], columns, unlabelled=unlabelled)
    texts = tuple(check_text(row.get(columns.text), where) for where, row in rows)
    row_labels = [_RowLabels([], []) if unlabelled else _row_labels(row, columns, where) for where, row in rows]
    present = [each.present for each in row_labels]
    names = _label_set(labels, columns, present)
    split = tuple(parse_split(row.get(columns.split), where) for where, row in rows)
    return LabelledTexts(texts, _targets(rows, row_labels, names), names, split, present)


def _check_columns(path: Path, first: Mapping[str, Any], columns: Columns, *, unlabelled: bool) -> None:
    wanted = (columns.text, *(() if unlabelled else columns.indicators or (columns.labels,)))
    missing = [name for name in wanted if name not in first]
    if missing:
        raise DataError(
            f"{path} has no column {quote_names(missing)}; it has {quote_names(list(first))}. "
            + _delimiter_hint(list(first))
            + "Name the columns with --text-column, --labels-column or --label-columns."
        )


def _delimiter_hint(header: Sequence[str]) -> str:
    """Return a sentence about a header that looks like several columns with another delimiter."""
    other = next((mark for mark in DELIMITERS if len(header) == 1 and mark in header[0]), None)
    if other is None:
        return ""
    return f"Its columns seem to be separated by {other!r}: save it with commas, or with tabs as a .tsv file. "


@dataclass(frozen=True)
class _RowLabels:
    """The labels that a row has, and those whose value it knows; None for all."""

    present: list[str]
    known: list[str] | None


def _row_labels(row: Mapping[str, Any], columns: Columns, where: str) -> _RowLabels:
    if columns.indicators:
        cells = {name: parse_indicator(row.get(name), name, where) for name in columns.indicators}
        known = [name for name, value in cells.items() if value is not None]
        return _RowLabels([name for name in known if cells[name]], known)
    if row.get(columns.labels) is None:
        raise DataError(f"{where}: no {columns.labels!r}. A text without labels has an empty string or list there.")
    present = parse_labels(row[columns.labels], columns.labels, columns.separator, where)
    if row.get(columns.known) is not None:
        return _RowLabels(present, parse_labels(row[columns.known], columns.known, columns.separator, where))
    return _RowLabels(present, [] if columns.unlisted == "unknown" else None)


def _label_set(given: Sequence[str], columns: Columns, names: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the labels in column order."""
    without_column = [label for label in given if columns.indicators and label not in columns.indicators]
    if without_column:
        raise DataError(
            f"label {quote_names(without_column)} has no column; the label columns are "
            f"{quote_names(columns.indicators)}."
        )
    labels = tuple(given or columns.indicators or sorted({label for row in names for label in row}))
    if not labels:
        raise DataError(
            f"no row has a label in column {columns.labels!r}. Name the column of labels with --labels-column."
        )
    check_labels(labels)
    return labels


def _targets(
    rows: Sequence[LocatedRow], row_labels: Sequence[_RowLabels], labels: Sequence[str]
) -> NDArray[np.float32]:
    """Return 1 where a row has a label, 0 where it does not, NaN where unknown; shape `(n_rows, n_labels)`."""
    column = {label: index for index, label in enumerate(labels)}
    targets = np.zeros((len(rows), len(labels)), dtype=np.float32)
    for target, (where, _), row in zip(targets, rows, row_labels, strict=True):
        for label in (*row.present, *(row.known or ())):
            if label not in column:
                raise unknown_label(label, labels, where)
        if row.known is not None:
            target[:] = np.nan
            target[[column[label] for label in row.known]] = 0
        target[[column[label] for label in row.present]] = 1
    return targets
