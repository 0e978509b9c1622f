"""Adding labels to a multi-label classifier without losing its old ones.

Learning without Forgetting (Li and Hoiem 2016, sec. 3): where an old label is unknown in the new data, the targets are
the old model's own probabilities for the new texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from manylabel.data.cell_validation import quote_names
from manylabel.errors import CheckpointError, DataError, InputError, LabelMismatch
from manylabel.inference.tokenizer import Tokenizer
from manylabel_train.data.dataset import Dataset
from manylabel_train.data.training_run import RUN_FILE, read_run
from manylabel_train.models import checkpoint
from manylabel_train.thresholds.tuning import UNTUNED, match_thresholds
from manylabel_train.training.config import TrainConfig


@dataclass(frozen=True)
class TeacherScores:
    """The old model's probabilities for the new texts.

    Attributes:
        old: Which columns the old model has, shape `(n_labels,)`.
        train: Its probabilities for the training texts, NaN for added labels, shape `(n_train, n_labels)`.
        validation: Its probabilities for the validation texts.
        thresholds: Its thresholds, shape `(n_labels,)`; 0.5 where it has none.
    """

    old: NDArray[np.bool_]
    train: NDArray[np.float32]
    validation: NDArray[np.float32]
    thresholds: NDArray[np.float32]

    def fill_unknown(self, validation: Dataset) -> Dataset:
        """Return the validation split with the old model's decisions in place of unknown entries of old labels.

        It selects the best checkpoint: one that has learned the new labels and still decides the old ones as before.
        """
        decided = np.where(np.isnan(self.validation), np.nan, self.validation >= self.thresholds).astype(np.float32)
        known = ~np.isnan(validation.targets)
        return replace(validation, targets=np.where(known, validation.targets, decided))

    def keep_thresholds(
        self, tuned: NDArray[np.float32], scores: NDArray[np.float32], validation: Dataset
    ) -> NDArray[np.float32]:
        """Return tuned thresholds, and for incomplete labels thresholds that decide as the old model does.

        Args:
            tuned: Thresholds tuned on the known entries, shape `(n_labels,)`.
            scores: The new model's probabilities for the validation texts, shape `(n_texts, n_labels)`.
            validation: The validation split.
        """
        columns = self.find_incomplete(validation)
        result = tuned.copy()
        result[columns] = match_thresholds(self.validation[:, columns], self.thresholds[columns], scores[:, columns])
        return result

    def find_incomplete(self, validation: Dataset) -> NDArray[np.bool_]:
        """Return the old labels that are unknown for a text of the validation split, shape `(n_labels,)`."""
        return np.asarray(self.old & np.isnan(validation.targets).any(axis=0))

    def summarize(self, scores: NDArray[np.float32], thresholds: NDArray[np.float32], data: Dataset) -> dict[str, Any]:
        """Return what a run records of the old labels: the share of unchanged decisions, and kept thresholds."""
        same = (self.validation >= self.thresholds) == (scores >= thresholds)
        kept = self.find_incomplete(data.part("validation")).tolist()
        return {
            "old_decisions_kept": float(same[:, self.old].mean()),
            "thresholds_kept": [label for label, is_kept in zip(data.labels, kept, strict=True) if is_kept],
        }


def widen_labels(data: Dataset, source: str, added: Sequence[str]) -> Dataset:
    """Return the data with columns for the checkpoint's labels and the added ones; NaN for labels that it lacks.

    Args:
        data: Texts with the added labels, and as many of the old labels as are known.
        source: A folder or Hub name of a multi-label classifier.
        added: The new labels.

    Raises:
        InputError: The checkpoint already has a label, or a label is repeated.
        CheckpointError: The checkpoint is not a multi-label classifier.
        LabelMismatch: The data lacks an added label, or has one that is neither old nor added.
    """
    config = checkpoint.load_config(source)
    old, name = checkpoint.read_labels(config), checkpoint.public_name(source)
    if config.problem_type != checkpoint.MULTI_LABEL:
        raise CheckpointError(
            f"{name} assigns each text exactly one of its {len(old)} labels (problem_type is "
            f"{config.problem_type!r}), so it cannot tell which of them the new texts have. Leave --add-label out: "
            "--from alone carries its head over."
        )
    if existing := [label for label in added if label in old]:
        raise InputError(f"{name} already has the label {quote_names(existing)}. Leave it out of --add-label.")
    if len(set(added)) < len(added):
        raise InputError(f"--add-label repeats a label: {quote_names(added)}. Pass each label once.")
    if absent := [label for label in added if label not in data.labels]:
        raise LabelMismatch(
            f"no text in the data has {quote_names(absent)}; the labels in the data are {quote_names(data.labels)}. "
            "Add texts with and without the label, or pass the name that the data uses."
        )
    if unexpected := [label for label in data.labels if label not in (*old, *added)]:
        raise LabelMismatch(
            f"the data has {quote_names(unexpected)}, neither among the {len(old)} labels of {name} nor added. "
            "Add it with --add-label, or rename it to the checkpoint's label."
        )
    labels = (*old, *added)
    targets = np.full((len(data), len(labels)), np.nan, dtype=np.float32)
    targets[:, [labels.index(label) for label in data.labels]] = data.targets
    return replace(data, labels=labels, targets=targets)


def check_added_labels(data: Dataset, added: Sequence[str]) -> None:
    """Reject a training split without a known positive, or without a known negative, of an added label.

    Raises:
        DataError: An added label has no known positive, or no known negative.
    """
    for label in added:
        column = data.part("train").targets[:, data.labels.index(label)]
        for value, verb in ((1, "have"), (0, "lack")):
            if not (column == value).any():
                raise DataError(f"no training text is known to {verb} the added label {label!r}. Add texts that do.")


def drop_unlabelled_columns(data: Dataset) -> Dataset:
    """Return the data without the labels that are unknown for every text."""
    known = np.asarray(~np.isnan(data.targets).all(axis=0))
    labels = tuple(label for label, is_known in zip(data.labels, known, strict=True) if is_known)
    return replace(data, labels=labels, targets=data.targets[:, known])


def score_with_teacher(
    model: PreTrainedModel, tokenizer: Tokenizer, data: Dataset, source: str, added: Sequence[str]
) -> TeacherScores:
    """Score the new texts with the old model, before its first training step.

    Args:
        model: The checkpoint with its head widened.
        tokenizer: The tokenizer of the training.
        data: Widened data with splits.
        source: Where the model comes from; if it is a run, its `run.json` has its thresholds.
        added: The new labels.
    """
    old = np.array([label not in added for label in data.labels])
    scores = {}
    for split in ("train", "validation"):
        scores[split] = checkpoint.predict_proba(model, tokenizer, data.part(split).texts)
        scores[split][:, ~old] = np.nan
    run = read_run(Path(source)) if (Path(source) / RUN_FILE).is_file() else None
    of_run = dict(zip(run.labels, run.thresholds, strict=True)) if run else {}
    thresholds = np.array([of_run.get(label, UNTUNED) for label in data.labels], dtype=np.float32)
    return TeacherScores(old, scores["train"], scores["validation"], thresholds)


def check_loss(config: TrainConfig) -> None:
    """Reject a loss that cannot learn from probabilities.

    Raises:
        InputError: It is neither `auto` nor `bce`.
    """
    if config.loss not in ("auto", "bce"):
        raise InputError(f"--add-label trains with cross-entropy, not {config.loss!r}. Leave --loss out.")
