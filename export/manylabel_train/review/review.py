"""Review the labels of a data set: from a run and its data to the rows whose labels are likely missing or wrong.

Rows that the run was not trained on are scored by the run. Training rows are scored by models that were not trained on
them: logistic regressions on the encoder that the run started from, which take seconds, or retrained models.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manylabel.errors import DataError
from manylabel_train.data.dataset import Dataset
from manylabel_train.data.label_review import LabelSuggestion
from manylabel_train.data.splits import assign_splits
from manylabel_train.data.training_run import TrainingRun, read_run
from manylabel_train.review.confident_learning import find_label_issues, find_likely_labels
from manylabel_train.review.out_of_sample_scores import (
    RetrainConfig,
    Scores,
    average_in_logits,
    resolve_encoder,
    score_with_probe,
    score_with_retraining,
    score_with_run,
)
from manylabel_train.review.suggestions import build_suggestions
from manylabel_train.training.config import TrainConfig

__all__ = ["LabelSuggestion", "review_labels"]


def review_labels(
    folder: Path | str,
    data: Dataset,
    *,
    unknown: bool = False,
    retrain: bool = False,
    folds: int = 5,
    encoder: str | None = None,
) -> list[LabelSuggestion]:
    """Find the rows with a label that is likely missing or wrong, most likely first.

    Args:
        folder: A finished run.
        data: The rows to review, usually those that the run was trained on.
        unknown: Review unknown entries instead, for labels that the texts likely have.
        retrain: Also score training rows with retrained models: more accurate, and as slow as `folds` trainings.
        folds: The number of folds of the training rows.
        encoder: The path of the checkpoint that the run started from, if it has moved.

    Raises:
        CheckpointError: The run, or the checkpoint it started from, cannot be read.
        LabelMismatch: The labels of the data are not those of the run.
        DataError: There are too few rows, or `retrain` is given and there are no validation rows.

    Example:
        >>> from manylabel_train.data.dataset import read_dataset
        >>> data = read_dataset("reviews.csv")
        >>> held_out = [row for row, split in enumerate(data.split) if split in ("validation", "test")]
        >>> suggestions = review_labels("run", data.take(held_out))
        >>> all(suggestion.add or suggestion.remove for suggestion in suggestions)
        True
    """
    folder = Path(folder)
    run = read_run(folder)
    data = data.reorder(run.labels)
    splits = _splits_of_run(run, data)
    find_issues = find_likely_labels if unknown else find_label_issues
    suggestions: list[LabelSuggestion] = []
    for rows, scores in _score(folder, run, data, splits, retrain=retrain, folds=folds, encoder=encoder):
        suggestions += build_suggestions(data, rows, find_issues(scores, data.targets[rows]))
    return sorted(suggestions, key=lambda each: -each.confidence)


def _score(
    folder: Path,
    run: TrainingRun,
    data: Dataset,
    splits: NDArray[np.str_],
    *,
    retrain: bool,
    folds: int,
    encoder: str | None,
) -> Iterator[tuple[NDArray[np.intp], Scores]]:
    """Yield the training rows and the held-out rows, each with out-of-sample scores."""
    training, held_out = np.flatnonzero(splits == "train"), np.flatnonzero(splits != "train")
    if len(training):
        rows, source = data.take(training.tolist()), resolve_encoder(run, encoder)
        options: dict[str, Any] = dict(run.details["recipe"])
        config = TrainConfig(**options)
        scores = score_with_probe(source, rows, max_length=run.max_length, seed=config.seed, folds=folds)
        if retrain:
            retrain_config = RetrainConfig(config, folds, carries_head="carried_from" in run.details["origin"])
            validation = data.take(np.flatnonzero(splits == "validation").tolist())
            scores = average_in_logits(scores, score_with_retraining(source, retrain_config, rows, validation))
        yield training, scores
    if len(held_out):
        yield held_out, score_with_run(folder, run, data.take(held_out.tolist()).texts)


def _splits_of_run(run: TrainingRun, data: Dataset) -> NDArray[np.str_]:
    """Return each row's split in the run's training; "train" if the run may have been trained on it.

    Splits in the data are trusted. Data without splits was split by the training, and the same split is repeated here;
    if the data has changed since, the run may have been trained on any row.
    """
    if any(data.split):
        return np.array([split or "train" for split in data.split])
    with suppress(DataError):  # too few rows to split: the run was trained on other data
        with_splits = assign_splits(data, seed=int(run.details["recipe"]["seed"]))
        if with_splits.digest() == run.details["data"]["sha256"]:
            return np.array(with_splits.split)
    return np.array(["train"] * len(data))
