"""Labelled texts: every form they come in, turned into texts and one indicator matrix.

Labels are a separated string, a list, or one 0/1 column a label, which is what scikit-learn's `MultiLabelBinarizer`
gives. What nobody said of a text is unknown, which is neither. `rows` knows the formats of files.
"""

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from manylabel.errors import DataError, LabelMismatch, UnknownLabel
from manylabel_export.rows import Located, Row, read_rows

SPLITS = {
    "train": "train",
    "dev": "validation",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
"""The names that splits go by, and what they are called here."""

NAMES_SHOWN = 30

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


@dataclass(frozen=True, eq=False)
class Dataset:
    """Texts with the labels they have.

    Attributes:
        texts: The texts, `n` of them.
        targets: 1 where a text has a label, 0 where not, NaN where it is unknown; shape `(n, len(labels))`, float32.
        labels: The labels' names in column order.
        split: For each text `"train"`, `"validation"`, `"test"`, or `""` where nothing was said.

    Raises:
        DataError: Shapes do not fit, a value is none of 0, 1 and NaN, or a label is no name or comes twice.
    """

    texts: tuple[str, ...]
    targets: NDArray[np.float32]
    labels: tuple[str, ...]
    split: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.split:
            object.__setattr__(self, "split", ("",) * len(self.texts))
        _check_labels(self.labels)
        _check_shapes(self)

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def from_matrix(
        cls, texts: Sequence[str], targets: Any, labels: Sequence[str], *, split: Sequence[str] = ()
    ) -> "Dataset":
        """Texts with an indicator matrix, as `MultiLabelBinarizer.fit_transform` gives it.

        Args:
            texts: The texts, `n` of them.
            targets: 0, 1, or NaN for unknown, shape `(n, len(labels))`: an array, nested lists or a sparse matrix.
            labels: The labels' names in column order (`MultiLabelBinarizer.classes_`).
            split: For each text a name of its split; empty for none.

        Raises:
            DataError: Shapes do not fit, a value is none of 0, 1 and NaN, a text is blank, or a label comes twice.
        """
        return cls(
            tuple(_check_text(text, f"text {row}") for row, text in enumerate(texts)),
            _matrix(targets),
            tuple(str(label) if isinstance(label, str) else label for label in labels),  # np.str_ to str
            tuple(_split_name(name, f"text {row}") for row, name in enumerate(split)),
        )

    @property
    def complete(self) -> bool:
        """Whether nothing is unknown."""
        return not np.isnan(self.targets).any()

    def part(self, split: str) -> "Dataset":
        """The rows of one split: `"train"`, `"validation"` or `"test"`."""
        return self.take([row for row, name in enumerate(self.split) if name == split])

    def take(self, rows: Sequence[int]) -> "Dataset":
        """Some rows, in the order given."""
        return Dataset(
            tuple(self.texts[row] for row in rows),
            self.targets[np.asarray(rows, dtype=np.intp)],
            self.labels,
            tuple(self.split[row] for row in rows),
        )

    def reorder(self, labels: Sequence[str]) -> "Dataset":
        """The same rows with their columns in the order of a checkpoint's `labels`.

        Raises:
            LabelMismatch: `labels` are not the same set.
        """
        if set(labels) != set(self.labels):
            extra = sorted(set(self.labels) - set(labels))
            absent = sorted(set(labels) - set(self.labels))
            raise LabelMismatch(
                f"the checkpoint has {len(labels)} labels and the data {len(self.labels)}"
                + (f"; only the data has {_names(extra)}" if extra else "")
                + (f"; only the checkpoint has {_names(absent)}" if absent else "")
                + ". Name the checkpoint's labels in its config.json (id2label) as the data does."
            )
        order = [self.labels.index(label) for label in labels]
        return replace(self, targets=self.targets[:, order], labels=tuple(labels))

    def digest(self) -> str:
        """SHA-256 over texts, labels, targets and split, in hexadecimal: the same rows give the same digest."""
        rows = [self.labels, *zip(self.texts, self.targets.tolist(), self.split, strict=True)]
        joined = "\n".join(json.dumps(row) for row in rows)
        return hashlib.sha256(joined.encode()).hexdigest()


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
    rows = read_rows(path)
    _check_columns(path, rows[0][1], columns)
    texts = tuple(_check_text(row.get(columns.text), where) for where, row in rows)
    said = [_said_in(row, columns, where) for where, row in rows]
    names = _label_set(labels, columns, [one.present for one in said])
    split = tuple(_split_name(row.get(columns.split), where) for where, row in rows)
    return Dataset(texts, _indicators(rows, said, names), names, split)


def write(path: Path, data: Dataset) -> None:
    """Write a JSONL file from which `read` makes the same rows, their splits apart."""
    with path.open("w", encoding="utf-8") as file:
        for text, row in zip(data.texts, data.targets, strict=True):
            said = dict(zip(data.labels, row.tolist(), strict=True))
            content: dict[str, Any] = {"text": text, "labels": [label for label, value in said.items() if value == 1]}
            if np.isnan(row).any():
                content["known"] = [label for label, value in said.items() if not np.isnan(value)]
            file.write(json.dumps(content) + "\n")


def _check_columns(path: Path, first: Row, columns: Columns) -> None:
    wanted = (columns.text, *(columns.indicators or (columns.labels,)))
    missing = [name for name in wanted if name not in first]
    if missing:
        raise DataError(
            f"{path} has no column {_names(missing)}; it has {_names(list(first))}. "
            "Say which to use with --text-column, --labels-column or --label-columns."
        )


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
        raise DataError(f"label {_names(without_column)} has no column: the label columns are {columns.indicators}.")
    labels = tuple(given or columns.indicators or sorted({label for row in names for label in row}))
    if not labels:
        raise DataError(
            f"no row has a label in column {columns.labels!r}. Say which column holds them with --labels-column."
        )
    _check_labels(labels)
    return labels


def _indicators(rows: Sequence[Located], said: Sequence[_Said], labels: Sequence[str]) -> NDArray[np.float32]:
    """1 where a row has a label, 0 where not, NaN where it does not say; shape `(n_rows, n_labels)`."""
    column = {label: at for at, label in enumerate(labels)}
    targets = np.zeros((len(rows), len(labels)), dtype=np.float32)
    for at, ((where, _), one) in enumerate(zip(rows, said, strict=True)):
        for label in (*one.present, *(one.known or ())):
            if label not in column:
                close = get_close_matches(label, labels, n=1)
                hint = f"Did you mean {close[0]!r}?" if close else f"It is none of {_names(labels)}."
                raise UnknownLabel(f"{where}: label {label!r} is not in the given set of {len(labels)}. {hint}")
        if one.known is not None:
            targets[at] = np.nan
            targets[at, [column[label] for label in one.known]] = 0
        targets[at, [column[label] for label in one.present]] = 1
    return targets


def _matrix(targets: Any) -> NDArray[np.float32]:
    if hasattr(targets, "toarray"):  # MultiLabelBinarizer(sparse_output=True)
        targets = targets.toarray()
    try:
        return np.asarray(targets, dtype=np.float32)
    except (TypeError, ValueError) as exc:
        raise DataError(f"the indicator matrix is no matrix of 0 and 1: {exc}.") from exc


def _check_text(text: object, where: str) -> str:
    if not isinstance(text, str) or not text.strip():
        found = "an empty text" if isinstance(text, str) else f"{text!r} for a text"
        raise DataError(f"{where} has {found}. Fill it in or remove the row.")
    return str(text)


def _split_name(value: object, where: str) -> str:
    if value is None or value == "":
        return ""
    name = SPLITS.get(str(value).strip().lower())
    if name is None:
        raise DataError(f"{where}: split {value!r} is none of {', '.join(SPLITS)}.")
    return name


def _check_labels(labels: Sequence[str]) -> None:
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise DataError(f"the label {_names(twice)} comes more than once. Every label needs a name of its own.")
    for label in labels:
        if not isinstance(label, str) or not label.strip() or _has_control(label):
            raise DataError(f"{label!r} is no label's name: it has to be a string, not blank, on one line.")


def _has_control(label: str) -> bool:
    """Whether a name would break a line, a file or a terminal; lone surrogates are no text at all."""
    return any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in label)


def _check_shapes(data: Dataset) -> None:
    if data.targets.shape != (len(data.texts), len(data.labels)):
        raise DataError(
            f"the indicator matrix has shape {data.targets.shape}; {len(data.texts)} texts "
            f"and {len(data.labels)} labels need ({len(data.texts)}, {len(data.labels)})."
        )
    if len(data.split) != len(data.texts):
        raise DataError(f"there are {len(data.split)} split names for {len(data.texts)} texts.")
    if not (np.isin(data.targets, (0, 1)) | np.isnan(data.targets)).all():
        raise DataError("the indicator matrix holds values other than 0 and 1, and NaN for what is not known.")


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(repr(name) for name in names[:NAMES_SHOWN]) + more
