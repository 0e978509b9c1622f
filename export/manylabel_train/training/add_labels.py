"""Labels added to a multi-label classifier that keeps what it knows of the others.

Learning without Forgetting (Li and Hoiem 2016, sec. 3): where the data says nothing of an old label, the old model's
own answers to the new texts are the targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from manylabel.data.cell_validation import listed
from manylabel.errors import CheckpointError, DataError, InputError, LabelMismatch
from manylabel.inference.tokenizer import Tokenizer
from manylabel_train.data.dataset import Dataset
from manylabel_train.data.training_run import RUN_FILE, read_run
from manylabel_train.models import checkpoint
from manylabel_train.thresholds.tuning import matched_thresholds
from manylabel_train.training.config import Recipe

UNTUNED = 0.5


@dataclass(frozen=True)
class Memory:
    """What the old model says of the new texts.

    Attributes:
        old: Which columns the old model knew, shape `(n_labels,)`.
        train: Its probabilities of the training texts, NaN for the added labels, shape `(n_train, n_labels)`.
        validation: The same of the validation texts.
        thresholds: What its probabilities are decided by, shape `(n_labels,)`; 0.5 where nobody says otherwise.
    """

    old: NDArray[np.bool_]
    train: NDArray[np.float32]
    validation: NDArray[np.float32]
    thresholds: NDArray[np.float32]

    def judge_of(self, validation: Dataset) -> Dataset:
        """The validation split with the old model's decisions where nothing is known of an old label.

        By it the best checkpoint is chosen: one that has learned the new labels and still decides as before on others.
        """
        decided = np.where(np.isnan(self.validation), np.nan, self.validation >= self.thresholds).astype(np.float32)
        known = ~np.isnan(validation.targets)
        return replace(validation, targets=np.where(known, validation.targets, decided))

    def keep(self, tuned: NDArray[np.float32], found: NDArray[np.float32], validation: Dataset) -> NDArray[np.float32]:
        """Thresholds: tuned ones where the validation split knows a label of every text, else as the old model decides.

        Args:
            tuned: Thresholds from what is known, shape `(n_labels,)`.
            found: The new model's probabilities of the validation texts, shape `(n_texts, n_labels)`.
            validation: The validation split.
        """
        unsure = self.unsure(validation)
        matched = matched_thresholds(self.validation[:, unsure], self.thresholds[unsure], found[:, unsure])
        result = tuned.copy()
        result[unsure] = matched
        return result

    def unsure(self, validation: Dataset) -> NDArray[np.bool_]:
        """The old labels that the validation split does not know of every text, shape `(n_labels,)`."""
        return np.asarray(self.old & np.isnan(validation.targets).any(axis=0))

    def fared(self, found: NDArray[np.float32], thresholds: NDArray[np.float32], data: Dataset) -> dict[str, Any]:
        """What a run tells of the old labels: validation decisions that are as before, and whose thresholds."""
        same = (self.validation >= self.thresholds) == (found >= thresholds)
        unsure = self.unsure(data.part("validation"))
        return {
            "old_decisions_kept": float(same[:, self.old].mean()),
            "thresholds_kept": [label for label, one in zip(data.labels, unsure.tolist(), strict=True) if one],
        }


def widen(data: Dataset, source: str, added: Sequence[str]) -> Dataset:
    """The data with the checkpoint's labels and the added ones for columns; unknown where it has no such label.

    Args:
        data: Labelled texts that know the added labels, and as many of the old ones as they like.
        source: A folder or hub name of a multi-label classifier.
        added: The new labels.

    Raises:
        InputError: A label is there already, or comes twice.
        CheckpointError: The checkpoint is no multi-label classifier.
        LabelMismatch: The data lacks an added label, or has one that is neither old nor added.
    """
    config = checkpoint.load_config(source)
    old, name = checkpoint.labels_of(config), checkpoint.public_name(source)
    if config.problem_type != checkpoint.MULTI_LABEL:
        raise CheckpointError(
            f"{name} gives each text one of its {len(old)} labels (problem_type is {config.problem_type!r}), so that "
            "it cannot say which of them the new texts have. Leave --add-label out: --from alone carries its head over."
        )
    if there := [label for label in added if label in old]:
        raise InputError(f"{name} has the label {listed(there)} already. Leave it out of --add-label.")
    if len(set(added)) < len(added):
        raise InputError(f"--add-label names {listed(added)}, one of them twice. Name each once.")
    if absent := [label for label in added if label not in data.labels]:
        raise LabelMismatch(
            f"the data has no text with {listed(absent)}; it has {listed(data.labels)}. "
            "Add texts that have it and texts that have not, or name it as the data does."
        )
    if unasked := [label for label in data.labels if label not in (*old, *added)]:
        raise LabelMismatch(
            f"the data has {listed(unasked)}, which is neither among the {len(old)} labels of {name} nor added. "
            "Add it with --add-label, or name it as the checkpoint does."
        )
    labels = (*old, *added)
    targets = np.full((len(data), len(labels)), np.nan, dtype=np.float32)
    targets[:, [labels.index(label) for label in data.labels]] = data.targets
    return replace(data, labels=labels, targets=targets)


def require_both_answers(data: Dataset, added: Sequence[str]) -> None:
    """Refuse a training split that does not show what an added label is and what it is not.

    Raises:
        DataError: It has no text that is known to have one, or none that is known to lack it.
    """
    for label in added:
        column = data.part("train").targets[:, data.labels.index(label)]
        for value, verb in ((1, "have"), (0, "lack")):
            if not (column == value).any():
                raise DataError(f"no training text is known to {verb} the added label {label!r}. Add some that do.")


def only_told(data: Dataset) -> Dataset:
    """The data without the labels of which it says nothing at all."""
    told = np.asarray(~np.isnan(data.targets).all(axis=0))
    labels = tuple(label for label, one in zip(data.labels, told, strict=True) if one)
    return replace(data, labels=labels, targets=data.targets[:, told])


def remember(model: PreTrainedModel, reader: Tokenizer, data: Dataset, source: str, added: Sequence[str]) -> Memory:
    """Ask the model, before its first step, what it says of the new texts.

    Args:
        model: The checkpoint with its head widened.
        reader: Reads as the training does.
        data: Widened data with splits.
        source: Where the model comes from; its `run.json` has its thresholds, if there is one.
        added: The new labels.
    """
    old = np.array([label not in added for label in data.labels])
    said = {}
    for split in ("train", "validation"):
        said[split] = checkpoint.predict_proba(model, reader, data.part(split).texts)
        said[split][:, ~old] = np.nan
    run = read_run(Path(source)) if (Path(source) / RUN_FILE).is_file() else None
    before = dict(zip(run.labels, run.thresholds, strict=True)) if run else {}
    thresholds = np.array([before.get(label, UNTUNED) for label in data.labels], dtype=np.float32)
    return Memory(old, said["train"], said["validation"], thresholds)


def require_cross_entropy(recipe: Recipe) -> None:
    """Refuse a loss that cannot learn from answers between 0 and 1.

    Raises:
        InputError: It is none of auto and bce.
    """
    if recipe.loss not in ("auto", "bce"):
        raise InputError(f"--add-label learns by cross-entropy, not by {recipe.loss!r}. Leave --loss out.")
