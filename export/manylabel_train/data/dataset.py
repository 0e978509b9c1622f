"""Labelled texts: texts and one indicator matrix, in which what nobody said is neither 1 nor 0.

`reading` makes them of files.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manylabel.data.cell_validation import check_labels, check_text, listed, split_name
from manylabel.errors import DataError, LabelMismatch


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
        check_labels(self.labels)
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
            tuple(check_text(text, f"text {row}") for row, text in enumerate(texts)),
            _matrix(targets),
            tuple(str(label) if isinstance(label, str) else label for label in labels),  # np.str_ to str
            tuple(split_name(name, f"text {row}") for row, name in enumerate(split)),
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
                + (f"; only the data has {listed(extra)}" if extra else "")
                + (f"; only the checkpoint has {listed(absent)}" if absent else "")
                + ". Name the checkpoint's labels in its config.json (id2label) as the data does."
            )
        order = [self.labels.index(label) for label in labels]
        return replace(self, targets=self.targets[:, order], labels=tuple(labels))

    def digest(self) -> str:
        """SHA-256 over texts, labels, targets and split, in hexadecimal: the same rows give the same digest."""
        rows = [self.labels, *zip(self.texts, self.targets.tolist(), self.split, strict=True)]
        joined = "\n".join(json.dumps(row) for row in rows)
        return hashlib.sha256(joined.encode()).hexdigest()


def _matrix(targets: Any) -> NDArray[np.float32]:
    if hasattr(targets, "toarray"):  # MultiLabelBinarizer(sparse_output=True)
        targets = targets.toarray()
    try:
        return np.asarray(targets, dtype=np.float32)
    except (TypeError, ValueError) as exc:
        raise DataError(f"the indicator matrix is no matrix of 0 and 1: {exc}.") from exc


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
