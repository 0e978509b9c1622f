"""Files of labelled texts: every form that labels come in.

Labels are a separated string, a list, or one 0/1 column a label, which is what scikit-learn's `MultiLabelBinarizer`
gives. `rows` knows the formats of files, `cells` what a value may be.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from manylabel.data.cell_validation import (
    check_labels,
    check_text,
    is_one,
    label_names,
    listed,
    split_name,
    unknown_label,
)
from manylabel.data.readers.tables import Located, Row, read_rows
from manylabel.errors import DataError

Unlisted = Literal["absent", "unknown"]


@dataclass(frozen=True)
class Columns:
    """Where a file keeps what.

    Attributes:
        text: The column of texts.
        labels: The column of labels, a list or a separated string. Not read when `indicators` is given.
        indicators: One 0/1 column a label; the columns' names are the labels. An empty cell or NaN is unknown.
        separator: What stands between labels in a string.
        split: The column that says train, validation or test; it may be absent.
        unlisted: What a label is that a row does not list.
        known: The column that lists the labels of which a row says anything; it, or a row's value in it, may be absent.
            A label that is neither there nor among the row's labels is unknown, whatever `unlisted` says.
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
            raise DataError("the separator is empty. Name what stands between labels, such as '|' or ';'.")
        if self.unlisted not in ("absent", "unknown"):
            raise DataError(f"unlisted is {self.unlisted!r}; expected 'absent' or 'unknown'.")


USUAL = Columns()


@dataclass(frozen=True, eq=False)
class Labelled:
    """A file's rows.

    Attributes:
        texts: The texts, `n` of them.
        targets: 1 where a text has a label, 0 where not, NaN where it is unknown; shape `(n, len(labels))`.
        labels: The labels' names in column order.
        split: For each text `"train"`, `"validation"`, `"test"`, or `""` where nothing was said.
        present: The labels that each row names.
    """

    texts: tuple[str, ...]
    targets: NDArray[np.float32]
    labels: tuple[str, ...]
    split: tuple[str, ...]
    present: list[list[str]]


def read_labelled(path: Path, columns: Columns = USUAL, *, labels: Sequence[str] = (), bare: bool = False) -> Labelled:
    """Read labelled texts from a CSV, TSV, JSONL or Parquet file.

    Args:
        path: The file; its suffix says the format.
        columns: Which column holds what.
        labels: The labels that may occur, in column order. Empty: those that occur, sorted.
        bare: Whether the labels' column may be absent; every label of every text is unknown then.

    Raises:
        DataError: The file is missing, empty or unreadable, a column is missing, or a row has no text.
        UnknownLabel: A row has a label that is not among `labels`.
    """
    rows = read_rows(path)
    bare = bare and not columns.indicators and columns.labels not in rows[0][1]
    _check_columns(path, rows[0][1], columns, bare=bare)
    texts = tuple(check_text(row.get(columns.text), where) for where, row in rows)
    said = [_Said([], []) if bare else _said_in(row, columns, where) for where, row in rows]
    present = [one.present for one in said]
    names = _label_set(labels, columns, present)
    split = tuple(split_name(row.get(columns.split), where) for where, row in rows)
    return Labelled(texts, _indicators(rows, said, names), names, split, present)


def _check_columns(path: Path, first: Row, columns: Columns, *, bare: bool) -> None:
    wanted = (columns.text, *(() if bare else columns.indicators or (columns.labels,)))
    missing = [name for name in wanted if name not in first]
    if missing:
        raise DataError(
            f"{path} has no column {listed(missing)}; its first line names {listed(list(first))}. "
            + _delimiter(list(first))
            + "Say which to use with --text-column, --labels-column or --label-columns."
        )


def _delimiter(header: Sequence[str]) -> str:
    """A sentence on a header that looks like several columns under another delimiter."""
    other = next((mark for mark in ("\t", ";", "|") if len(header) == 1 and mark in header[0]), None)
    if other is None:
        return ""
    return f"Between its columns {other!r} seems to stand: save it with commas, or with tabs as a .tsv file. "


@dataclass(frozen=True)
class _Said:
    """What a row says: the labels it has, and those of which it says anything; None for all."""

    present: list[str]
    known: list[str] | None


def _said_in(row: Row, columns: Columns, where: str) -> _Said:
    if columns.indicators:
        cells = {name: is_one(row.get(name), name, where) for name in columns.indicators}
        return _Said(
            [name for name, one in cells.items() if one], [name for name, one in cells.items() if one is not None]
        )
    if row.get(columns.labels) is None:
        raise DataError(f"{where}: no {columns.labels!r}. A text without labels has an empty string or list there.")
    present = label_names(row[columns.labels], columns.labels, columns.separator, where)
    if row.get(columns.known) is not None:
        return _Said(present, label_names(row[columns.known], columns.known, columns.separator, where))
    return _Said(present, [] if columns.unlisted == "unknown" else None)


def _label_set(given: Sequence[str], columns: Columns, names: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The labels in column order."""
    without_column = [label for label in given if columns.indicators and label not in columns.indicators]
    if without_column:
        raise DataError(f"label {listed(without_column)} has no column: the label columns are {columns.indicators}.")
    labels = tuple(given or columns.indicators or sorted({label for row in names for label in row}))
    if not labels:
        raise DataError(
            f"no row has a label in column {columns.labels!r}. Say which column holds them with --labels-column."
        )
    check_labels(labels)
    return labels


def _indicators(rows: Sequence[Located], said: Sequence[_Said], labels: Sequence[str]) -> NDArray[np.float32]:
    """1 where a row has a label, 0 where not, NaN where it does not say; shape `(n_rows, n_labels)`."""
    column = {label: at for at, label in enumerate(labels)}
    targets = np.zeros((len(rows), len(labels)), dtype=np.float32)
    for at, ((where, _), one) in enumerate(zip(rows, said, strict=True)):
        for label in (*one.present, *(one.known or ())):
            if label not in column:
                raise unknown_label(label, labels, where)
        if one.known is not None:
            targets[at] = np.nan
            targets[at, [column[label] for label in one.known]] = 0
        targets[at, [column[label] for label in one.present]] = 1
    return targets
