"""A run and labelled texts in, the rows whose labels are likely missing or wrong out: `review_labels`.

Rows that the run did not learn from are scored by the run. Training rows are scored by models that never saw them:
logistic regressions on the encoder that the run started from, which take seconds, or models trained anew.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manylabel.errors import DataError
from manylabel_train.data.dataset import Dataset
from manylabel_train.data.splits import assign_splits
from manylabel_train.data.training_run import TrainingRun, read_run
from manylabel_train.review.confident_learning import likely_present, suspicions
from manylabel_train.review.out_of_sample_scores import (
    Retraining,
    Scores,
    quick_scores,
    run_scores,
    source_of,
    together,
    trained_scores,
)
from manylabel_train.review.suggestion import Suggestion
from manylabel_train.review.suggestion_building import of_rows
from manylabel_train.training.config import TrainConfig

__all__ = ["Suggestion", "review_labels"]


def review_labels(
    folder: Path | str,
    data: Dataset,
    *,
    unknown: bool = False,
    retrain: bool = False,
    folds: int = 5,
    encoder: str | None = None,
) -> list[Suggestion]:
    """Find the rows of `data` of which a label is likely missing or wrong, the likeliest first.

    Args:
        folder: A finished run.
        data: The texts to review, as a rule those that the run was trained on.
        unknown: Look at the entries that are unknown instead, for labels that the texts likely have.
        retrain: Score training rows by models trained anew, too; better, and as slow as that.
        folds: In how many parts the training rows are scored, each by what was learnt from the others.
        encoder: Where the checkpoint lies that the run started from, if not where it was.

    Raises:
        CheckpointError: The run, or what it started from, is unreadable.
        LabelMismatch: The data has other labels than the run.
        DataError: There are too few rows to be scored by each other, or none for validation when `retrain` is given.
    """
    folder = Path(folder)
    run = read_run(folder)
    data = data.reorder(run.labels)
    parts = _parts(run, data)
    find = likely_present if unknown else suspicions
    found: list[Suggestion] = []
    for rows, scores in _scored(folder, run, data, parts, retrain=retrain, folds=folds, encoder=encoder):
        found += of_rows(data, rows, find(scores, data.targets[rows]))
    return sorted(found, key=lambda one: -one.confidence)


def _scored(
    folder: Path,
    run: TrainingRun,
    data: Dataset,
    parts: NDArray[np.str_],
    *,
    retrain: bool,
    folds: int,
    encoder: str | None,
) -> list[tuple[NDArray[np.intp], Scores]]:
    """The rows that the run has not learnt from, and those that it has, each with scores that have not either."""
    result = []
    held_out, learnt = (np.flatnonzero(part) for part in (parts != "train", parts == "train"))
    if len(learnt):
        rows, source = data.take(learnt.tolist()), source_of(run, encoder)
        recipe = _recipe(run)
        scores = quick_scores(source, rows, max_length=run.max_length, seed=recipe.seed, folds=folds)
        if retrain:
            plan = Retraining(recipe, folds, carries_head="carried_from" in run.details["origin"])
            validation = data.take(np.flatnonzero(parts == "validation").tolist())
            scores = together(scores, trained_scores(source, plan, rows, validation))
        result.append((learnt, scores))
    if len(held_out):
        result.append((held_out, run_scores(folder, run, data.take(held_out.tolist()).texts)))
    return result


def _recipe(run: TrainingRun) -> TrainConfig:
    options: dict[str, Any] = dict(run.details["recipe"])
    return TrainConfig(**options)


def _parts(run: TrainingRun, data: Dataset) -> NDArray[np.str_]:
    """Which rows the run learnt from: "train" where it may have.

    Splits that the data names are believed. Data without any was split when the run was trained, and is split alike
    here; unless it has changed since, when any row may have been learnt from.
    """
    if any(data.split):
        return np.array([split or "train" for split in data.split])
    with suppress(DataError):  # too few to be split: then it is not what the run was trained on
        found = assign_splits(data, seed=int(run.details["recipe"]["seed"]))
        if found.digest() == run.details["data"]["sha256"]:
            return np.array(found.split)
    return np.array(["train"] * len(data))
