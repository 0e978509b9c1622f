"""Labelled texts from files, and back; `manylabel.data.labeled_data` knows the forms that they come in."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from manylabel.data.labeled_data import USUAL, Columns, Labelled, read_labelled
from manylabel_train.data.dataset import Dataset
from manylabel_train.data.sanity_checks import warn_of_doubts

__all__ = ["Columns", "read", "read_back", "write"]


def read(path: Path | str, columns: Columns = USUAL, *, labels: Sequence[str] = ()) -> Dataset:
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
    rows = read_labelled(path, columns, labels=labels)
    warn_of_doubts(path, rows.texts, rows.labels, rows.present, columns.separator)
    return _dataset(rows)


def read_back(path: Path, labels: Sequence[str]) -> Dataset:
    """Read what `write` has written: its labels in column order, and nothing in it doubted anew.

    Raises:
        DataError: The file is missing or damaged.
        UnknownLabel: A row has a label that is not among `labels`.
    """
    return _dataset(read_labelled(path, labels=labels))


def write(path: Path, data: Dataset) -> None:
    """Write a JSONL file from which `read_back` makes the same rows, their splits apart."""
    with path.open("w", encoding="utf-8") as file:
        for text, row in zip(data.texts, data.targets, strict=True):
            said = dict(zip(data.labels, row.tolist(), strict=True))
            content: dict[str, Any] = {"text": text, "labels": [label for label, value in said.items() if value == 1]}
            if np.isnan(row).any():
                content["known"] = [label for label, value in said.items() if not np.isnan(value)]
            file.write(json.dumps(content) + "\n")


def _dataset(rows: Labelled) -> Dataset:
    return Dataset(rows.texts, rows.targets, rows.labels, rows.split)
