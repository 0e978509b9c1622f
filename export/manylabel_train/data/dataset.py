"""Labelled texts: `Dataset`, texts with an indicator matrix in which unknown labels are NaN, and its files."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manylabel.data.cell_validation import check_labels, check_text, parse_split, quote_names
from manylabel.data.labeled_data import DEFAULT_COLUMNS, Columns, LabelledTexts, read_labelled_texts
from manylabel.errors import DataError, LabelMismatch
from manylabel_train.data.sanity_checks import warn_about_suspicious_data


@dataclass(frozen=True, eq=False)
class Dataset:
    """Texts with their labels.

    Attributes:
        texts: The texts, `n` of them.
        targets: 1 where a text has a label, 0 where it does not, NaN where this is unknown; shape `(n, len(labels))`,
            float32.
        labels: The labels in column order.
        split: For each text `"train"`, `"validation"` or `"test"`; `""` where it is not set.

    Raises:
        DataError: Shapes do not match, a value is not 0, 1 or NaN, or a label is invalid or repeated.

    Example:
        >>> data = Dataset.from_matrix(["too slow", "fine"], [[1, 0], [0, float("nan")]], ["speed", "price"])
        >>> len(data), data.complete
        (2, False)
        >>> data.take([1]).texts
        ('fine',)
    """

    texts: tuple[str, ...]
    targets: NDArray[np.float32]
    labels: tuple[str, ...]
    split: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.split:
            object.__setattr__(self, "split", ("",) * len(self.texts))
        check_labels(self.labels)
        _check_shapes(self)

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def from_matrix(
        cls, texts: Sequence[str], targets: Any, labels: Sequence[str], *, split: Sequence[str] = ()
    ) -> "Dataset":
        """Create a dataset from an indicator matrix, as returned by `MultiLabelBinarizer.fit_transform`.

        Args:
            texts: The texts, `n` of them.
            targets: 0, 1, or NaN for unknown, shape `(n, len(labels))`: an array, nested lists or a sparse matrix.
            labels: The labels in column order (`MultiLabelBinarizer.classes_`).
            split: The split of each text; empty if there are no splits.

        Raises:
            DataError: Shapes do not match, a value is not 0, 1 or NaN, a text is blank, or a label is repeated.
        """
        return cls(
            tuple(check_text(text, f"text {row}") for row, text in enumerate(texts)),
            _to_matrix(targets),
            tuple(str(label) if isinstance(label, str) else label for label in labels),  # np.str_ to str
            tuple(parse_split(name, f"text {row}") for row, name in enumerate(split)),
        )

    @property
    def complete(self) -> bool:
        """Whether every label of every text is known."""
        return not np.isnan(self.targets).any()

    def part(self, split: str) -> "Dataset":
        """Return the rows of one split, such as `"train"`, `"validation"` or `"test"`."""
        return self.take([row for row, name in enumerate(self.split) if name == split])

    def take(self, rows: Sequence[int]) -> "Dataset":
        """Return some rows, in the given order."""
        return Dataset(
            tuple(self.texts[row] for row in rows),
            self.targets[np.asarray(rows, dtype=np.intp)],
            self.labels,
            tuple(self.split[row] for row in rows),
        )

    def reorder(self, labels: Sequence[str]) -> "Dataset":
        """Return the same rows with their columns in the order of a checkpoint's `labels`.

        Raises:
            LabelMismatch: `labels` is a different set of labels.
        """
        if set(labels) != set(self.labels):
            extra = sorted(set(self.labels) - set(labels))
            absent = sorted(set(labels) - set(self.labels))
            raise LabelMismatch(
                f"the checkpoint has {len(labels)} labels and the data {len(self.labels)}"
                + (f"; only the data has {quote_names(extra)}" if extra else "")
                + (f"; only the checkpoint has {quote_names(absent)}" if absent else "")
                + ". Name the checkpoint's labels in its config.json (id2label) as the data does."
            )
        order = [self.labels.index(label) for label in labels]
        return replace(self, targets=self.targets[:, order], labels=tuple(labels))

    def digest(self) -> str:
        """Return a SHA-256 over texts, labels, targets and splits, in hexadecimal."""
        rows = [self.labels, *zip(self.texts, self.targets.tolist(), self.split, strict=True)]
        joined = "\n".join(json.dumps(row) for row in rows)
        return hashlib.sha256(joined.encode()).hexdigest()


def read_dataset(path: Path | str, columns: Columns = DEFAULT_COLUMNS, *, labels: Sequence[str] = ()) -> Dataset:
    """Read labelled texts from a CSV, TSV, JSONL or Parquet file, and warn about what looks like a mistake.

    Args:
        path: The file; its suffix determines the format.
        columns: The columns of texts, labels and splits.
        labels: The labels that may occur, in column order. Empty: those that occur, sorted.

    Raises:
        DataError: The file is missing, empty or unreadable, a column is missing, or a row has no text.
        UnknownLabel: A row has a label that is not among `labels`.

    Example:
        >>> data = read_dataset("reviews.csv", Columns(text="text", labels="labels", separator="|"))
        >>> data.labels
        ('billing', 'delivery', 'price', 'user experience')
    """
    path = Path(path)
    rows = read_labelled_texts(path, columns, labels=labels)
    warn_about_suspicious_data(path, rows.texts, rows.labels, rows.present, columns.separator)
    return _to_dataset(rows)


def read_jsonl(path: Path, labels: Sequence[str]) -> Dataset:
    """Read a file that `write_jsonl` wrote, with the given labels in column order and without warnings.

    Raises:
        DataError: The file is missing or damaged.
        UnknownLabel: A row has a label that is not among `labels`.
    """
    return _to_dataset(read_labelled_texts(path, labels=labels))


def write_jsonl(path: Path, data: Dataset) -> None:
    """Write a dataset, without its splits, to a JSONL file for `read_jsonl`.

    Example:
        >>> from pathlib import Path
        >>> write_jsonl(Path("rows.jsonl"), Dataset.from_matrix(["too slow"], [[1, 0]], ["speed", "price"]))
        >>> read_jsonl(Path("rows.jsonl"), ["speed", "price"]).targets.tolist()
        [[1.0, 0.0]]
    """
    with path.open("w", encoding="utf-8") as file:
        for text, row in zip(data.texts, data.targets, strict=True):
            values = dict(zip(data.labels, row.tolist(), strict=True))
            present = [label for label, value in values.items() if value == 1]
            content: dict[str, Any] = {"text": text, "labels": present}
            if np.isnan(row).any():
                content["known"] = [label for label, value in values.items() if not np.isnan(value)]
            file.write(json.dumps(content) + "\n")


def _to_dataset(rows: LabelledTexts) -> Dataset:
    return Dataset(rows.texts, rows.targets, rows.labels, rows.split)


def _to_matrix(targets: Any) -> NDArray[np.float32]:
    if hasattr(targets, "toarray"):  # MultiLabelBinarizer(sparse_output=True)
        targets = targets.toarray()
    try:
        return np.asarray(targets, dtype=np.float32)
    except (TypeError, ValueError) as exc:
        raise DataError(f"the indicator matrix is not a matrix of 0 and 1: {exc}.") from exc


def _check_shapes(data: Dataset) -> None:
    if data.targets.shape != (len(data.texts), len(data.labels)):
        raise DataError(
            f"the indicator matrix has shape {data.targets.shape}; {len(data.texts)} texts "
            f"and {len(data.labels)} labels need ({len(data.texts)}, {len(data.labels)})."
        )
    if len(data.split) != len(data.texts):
        raise DataError(f"there are {len(data.split)} split names for {len(data.texts)} texts.")
    if not (np.isin(data.targets, (0, 1)) | np.isnan(data.targets)).all():
        raise DataError("the indicator matrix has values other than 0, 1 and NaN (unknown).")
