"""Files of labelled texts: every form that labels come in.

Labels are a separated string, a list, or one 0/1 column a label, which is what scikit-learn's `MultiLabelBinarizer`
gives. `rows` knows the formats of files.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from manylabel.errors import DataError, UnknownLabel
from manylabel_export.dataset import Dataset, check_labels, check_text, listed, split_name
from manylabel_export.doubts import warn_of_doubts
from manylabel_export.rows import Located, Row, read_rows

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


def read(path: Path | str, columns: Columns = Columns(), *, labels: Sequence[str] = ()) -> Dataset:
    """Read labelled texts from a CSV, TSV, JSONL or Parquet file.

    Args:
        path: The file; its suffix says the format.
        columns: Which column holds what.
        labels: The labels that may occur, in column order. Empty: those that occur, sorted.

    Raises:
        DataError: The file is missing, empty or unreadable, a column is missing, or a row has no text.
        UnknownLabel: A row has a label that is not among `labels`.
    """
    path = Path(path)
    data, present = _read(path, columns, labels)
    warn_of_doubts(path, data.texts, data.labels, present, columns.separator)
    return data


def read_back(path: Path, labels: Sequence[str]) -> Dataset:
    """Read what `write` has written: its labels in column order, and nothing in it doubted anew.

    Raises:
        DataError: The file is missing or damaged.
        UnknownLabel: A row has a label that is not among `labels`.
    """
    return _read(path, Columns(), labels)[0]


def write(path: Path, data: Dataset) -> None:
    """Write a JSONL file from which `read_back` makes the same rows, their splits apart."""
    with path.open("w", encoding="utf-8") as file:
        for text, row in zip(data.texts, data.targets, strict=True):
            said = dict(zip(data.labels, row.tolist(), strict=True))
            content: dict[str, Any] = {"text": text, "labels": [label for label, value in said.items() if value == 1]}
            if np.isnan(row).any():
                content["known"] = [label for label, value in said.items() if not np.isnan(value)]
            file.write(json.dumps(content) + "\n")


def _read(path: Path, columns: Columns, labels: Sequence[str]) -> tuple[Dataset, list[list[str]]]:
    """A file's rows, and the labels that each of them names."""
    rows = read_rows(path)
    _check_columns(path, rows[0][1], columns)
    texts = tuple(check_text(row.get(columns.text), where) for where, row in rows)
    said = [_said_in(row, columns, where) for where, row in rows]
    present = [one.present for one in said]
    names = _label_set(labels, columns, present)
    split = tuple(split_name(row.get(columns.split), where) for where, row in rows)
    return Dataset(texts, _indicators(rows, said, names), names, split), present


def _check_columns(path: Path, first: Row, columns: Columns) -> None:
    wanted = (columns.text, *(columns.indicators or (columns.labels,)))
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
        cells = {name: _is_one(row.get(name), name, where) for name in columns.indicators}
        return _Said(
            [name for name, one in cells.items() if one], [name for name, one in cells.items() if one is not None]
        )
    if row.get(columns.labels) is None:
        raise DataError(f"{where}: no {columns.labels!r}. A text without labels has an empty string or list there.")
    present = _names_in(row, columns.labels, columns, where)
    if row.get(columns.known) is not None:
        return _Said(present, _names_in(row, columns.known, columns, where))
    return _Said(present, [] if columns.unlisted == "unknown" else None)


def _names_in(row: Row, column: str, columns: Columns, where: str) -> list[str]:
    """A list of names, or a string that separates them."""
    value = names = row[column]
    if isinstance(value, str):
        names = [part.strip() for part in value.split(columns.separator)] if value.strip() else []
    if not isinstance(names, list) or not all(isinstance(label, str) and label.strip() for label in names):
        raise DataError(
            f"{where}: {column!r} holds {value!r}; "
            f"expected names separated by {columns.separator!r}, or a list of names."
        )
    return names


def _is_one(value: object, name: str, where: str) -> bool | None:
    """None for unknown."""
    said = "" if value is None else str(value).strip().lower()
    if said in {"", "nan"}:
        return None
    if said not in {"0", "1", "0.0", "1.0", "true", "false"}:
        raise DataError(f"{where}: column {name!r} holds {value!r}; expected 0 or 1, or nothing where it is not known.")
    return said in {"1", "1.0", "true"}


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
                close = get_close_matches(label, labels, n=1)
                hint = f"Did you mean {close[0]!r}?" if close else f"It is none of {listed(labels)}."
                raise UnknownLabel(f"{where}: label {label!r} is not in the given set of {len(labels)}. {hint}")
        if one.known is not None:
            targets[at] = np.nan
            targets[at, [column[label] for label in one.known]] = 0
        targets[at, [column[label] for label in one.present]] = 1
    return targets
