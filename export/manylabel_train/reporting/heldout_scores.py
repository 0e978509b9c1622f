"""What a report is drawn from: held-out texts with their labels and the scores that the model gave them.

A run keeps them in `scores.npz`, `validation.jsonl` and `test.jsonl`, so that its report can be written anew at any
time without the model.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manylabel.errors import CheckpointError
from manylabel_train.data.dataset import Dataset, read_jsonl, write_jsonl

SCORES_FILE = "scores.npz"
HELD_OUT = ("validation", "test")

Scores = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Scored:
    """A split that was not trained on, as the model sees it.

    Attributes:
        split: `"validation"` or `"test"`.
        scores: Probabilities, shape `(n_texts, n_labels)`.
        targets: 1, 0, or NaN for unknown, same shape.
        texts: The texts; empty where they are not to be shown.
    """

    split: str
    scores: Scores
    targets: NDArray[np.float32]
    texts: tuple[str, ...] = ()

    @property
    def known(self) -> NDArray[np.bool_]:
        """Where it is known whether a text has a label, shape `(n_texts, n_labels)`."""
        return np.asarray(~np.isnan(self.targets))

    @property
    def truth(self) -> NDArray[np.bool_]:
        """Where a text is known to have a label, same shape."""
        return np.asarray(self.targets == 1)

    def without_texts(self) -> "Scored":
        """The same for readers who are not to see the texts."""
        return Scored(self.split, self.scores, self.targets)


def keep_evidence(folder: Path, scores: Mapping[str, Scores], data: Dataset) -> None:
    """Write a run's held-out scores, and the texts of its test split if it has one.

    Args:
        folder: The run; `validation.jsonl` is there.
        scores: By split, each of shape `(n_texts, n_labels)`.
        data: All rows, with their splits.
    """
    np.savez(folder / SCORES_FILE, **scores)  # type: ignore[arg-type]  # numpy's stub takes them for allow_pickle
    if "test" in scores:
        write_jsonl(folder / "test.jsonl", data.part("test"))


def read_evidence(folder: Path, labels: tuple[str, ...]) -> tuple[Scored, ...]:
    """What `keep_evidence` wrote: validation, and test if there is one.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    path = folder / SCORES_FILE
    try:
        with np.load(path, allow_pickle=False) as file:
            scores = {name: np.asarray(file[name], dtype=np.float32) for name in HELD_OUT if name in file}
    except FileNotFoundError as exc:
        raise CheckpointError(f"{path} is missing: the run was trained by an older manylabel. Train anew.") from exc
    except (OSError, ValueError, zipfile.BadZipFile) as exc:
        raise CheckpointError(f"{path} is damaged: {exc}. Train anew.") from exc
    return tuple(_of_split(folder, name, found, labels) for name, found in scores.items())


def _of_split(folder: Path, split: str, scores: Scores, labels: tuple[str, ...]) -> Scored:
    rows = read_jsonl(folder / f"{split}.jsonl", labels)
    if scores.shape != rows.targets.shape:
        raise CheckpointError(
            f"{folder / SCORES_FILE} has scores of shape {scores.shape} for {split}, and {split}.jsonl says "
            f"{rows.targets.shape}. Train anew."
        )
    return Scored(split, scores, rows.targets, rows.texts)
