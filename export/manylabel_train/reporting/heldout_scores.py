"""The held-out scores of a run: `scores.npz`, with the texts in `validation.jsonl` and `test.jsonl`.

They let the report be rewritten at any time without the model.
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
HELD_OUT_SPLITS = ("validation", "test")

Scores = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class HeldOutScores:
    """A held-out split with the model's scores.

    Attributes:
        split: `"validation"` or `"test"`.
        scores: Probabilities, shape `(n_texts, n_labels)`.
        targets: 1, 0, or NaN for unknown, same shape.
        texts: The texts; empty if they must not be shown.

    Example:
        >>> held_out = HeldOutScores("test", np.array([[0.9]], np.float32), np.array([[1]], np.float32), ("late",))
        >>> held_out.truth.tolist(), held_out.without_texts().texts
        ([[True]], ())
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

    def without_texts(self) -> "HeldOutScores":
        """Return a copy for readers who must not see the texts."""
        return HeldOutScores(self.split, self.scores, self.targets)


def write_heldout_scores(folder: Path, scores: Mapping[str, Scores], data: Dataset) -> None:
    """Write a run's held-out scores, and the texts of its test split if it has one.

    Args:
        folder: The run; it already contains `validation.jsonl`.
        scores: By split, each of shape `(n_texts, n_labels)`.
        data: All rows with their splits.
    """
    np.savez(folder / SCORES_FILE, **scores)  # type: ignore[arg-type]  # numpy's stub takes them for allow_pickle
    if "test" in scores:
        write_jsonl(folder / "test.jsonl", data.part("test"))


def read_heldout_scores(folder: Path, labels: tuple[str, ...]) -> tuple[HeldOutScores, ...]:
    """Return what `write_heldout_scores` wrote: validation, and test if there is such a split.

    Raises:
        CheckpointError: A file is missing or damaged.

    Example:
        >>> from manylabel_train import read_run
        >>> splits = read_heldout_scores(Path("run"), read_run(Path("run")).labels)
        >>> splits[0].split
        'validation'
    """
    path = folder / SCORES_FILE
    try:
        with np.load(path, allow_pickle=False) as file:
            scores = {name: np.asarray(file[name], dtype=np.float32) for name in HELD_OUT_SPLITS if name in file}
    except FileNotFoundError as exc:
        raise CheckpointError(f"{path} is missing: the run is from an older version of manylabel. Retrain.") from exc
    except (OSError, ValueError, zipfile.BadZipFile) as exc:
        raise CheckpointError(f"{path} is damaged: {exc}. Retrain.") from exc
    return tuple(_read_split(folder, split, of_split, labels) for split, of_split in scores.items())


def _read_split(folder: Path, split: str, scores: Scores, labels: tuple[str, ...]) -> HeldOutScores:
    rows = read_jsonl(folder / f"{split}.jsonl", labels)
    if scores.shape != rows.targets.shape:
        raise CheckpointError(
            f"{folder / SCORES_FILE} has scores of shape {scores.shape} for {split}, but {split}.jsonl has labels of "
            f"shape {rows.targets.shape}. Retrain."
        )
    return HeldOutScores(split, scores, rows.targets, rows.texts)
