"""Out-of-sample scores: each row is scored by a model that was not trained on it."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from manylabel.errors import CheckpointError, DataError
from manylabel.inference.thresholding import logit, sigmoid
from manylabel_train.data.dataset import Dataset
from manylabel_train.data.near_duplicates import find_near_duplicates
from manylabel_train.data.splits import stratify
from manylabel_train.data.training_run import TrainingRun
from manylabel_train.models import checkpoint
from manylabel_train.models.checkpoint import make_long_text
from manylabel_train.review.frozen_encoder_probe import embed, predict_out_of_fold
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.train import train

MIN_ROWS = 10
AVERAGE_CLIP = 1e-6
"""Probabilities are clipped to this distance from 0 and 1 before their logits are averaged."""

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class RetrainConfig:
    """How to retrain models that score the rows they have not seen.

    Attributes:
        config: The training configuration; that of the run, for models of the same quality.
        folds: The number of models.
        carries_head: Whether they start from a classifier with its head.
    """

    config: TrainConfig
    folds: int = 5
    carries_head: bool = False


def score_with_run(folder: Path, run: TrainingRun, texts: tuple[str, ...]) -> Scores:
    """Return the run's own probabilities of texts that it was not trained on, shape `(len(texts), n_labels)`."""
    model, _ = checkpoint.load_model(str(folder))
    tokenizer = checkpoint.load_tokenizer(str(folder))
    reader = checkpoint.to_runtime_tokenizer(tokenizer, run.max_length, make_long_text(run.max_length))
    return checkpoint.predict_proba(model, reader, texts).astype(np.float64)


def score_with_probe(source: str, rows: Dataset, *, max_length: int, seed: int, folds: int = 5) -> Scores:
    """Return probabilities from logistic regressions on an encoder that was not trained on the rows.

    If no row is known to lack a label, it counts as absent where it is unknown: its scores are then too low, but
    correctly ordered (Elkan and Noto 2008, lemma 1).

    Args:
        source: A folder or Hub name of an encoder.
        rows: The rows to score.
        max_length: Number of tokens to read of each text.
        seed: Decides the folds.
        folds: The number of folds.

    Returns:
        Shape `(len(rows), n_labels)`.
    """
    targets = np.where((rows.targets == 0).any(axis=0), rows.targets, np.nan_to_num(rows.targets))
    fold_of_row = assign_folds(rows, folds, seed)
    return predict_out_of_fold(embed(source, rows.texts, max_length), targets, fold_of_row)


def score_with_retraining(source: str, config: RetrainConfig, rows: Dataset, validation: Dataset) -> Scores:
    """Return probabilities from models that are trained on the other folds.

    Args:
        source: A folder or Hub name of the checkpoint to start from.
        config: How to train the models, and how many.
        rows: The rows to score.
        validation: The validation split of each training.

    Returns:
        Shape `(len(rows), n_labels)`.
    """
    scores = np.zeros(rows.targets.shape)
    fold_of_row = assign_folds(rows, config.folds, config.config.seed)
    for fold in np.unique(fold_of_row):
        held_out, others = np.flatnonzero(fold_of_row == fold), np.flatnonzero(fold_of_row != fold)
        with TemporaryDirectory() as scratch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about rare labels and duplicates: the run has already warned about them
            folder = Path(scratch) / "run"
            run = train(
                _with_validation(rows.take(others.tolist()), validation),
                folder,
                model=source,
                start_from=source if config.carries_head else None,
                config=config.config,
            )
            scores[held_out] = score_with_run(folder, run, rows.take(held_out.tolist()).texts)
    return scores


def average_in_logits(first: Scores, second: Scores) -> Scores:
    """Return the mean of two sets of scores in logits; their errors are partly independent.

    Example:
        >>> average_in_logits(np.array([0.5]), np.array([0.9])).round(2).tolist()
        [0.75]
    """
    return sigmoid((logit(first, clip=AVERAGE_CLIP) + logit(second, clip=AVERAGE_CLIP)) / 2)


def resolve_encoder(run: TrainingRun, encoder: str | None) -> str:
    """Return the folder or Hub name of the checkpoint that the run started from.

    Args:
        run: The run, which records the checkpoint's public name.
        encoder: Where the user says that it is instead.

    Raises:
        CheckpointError: The checkpoint cannot be found.
    """
    origin = run.details["origin"]
    source = checkpoint.resolve_checkpoint(encoder or origin.get("carried_from") or origin["model"])
    try:
        checkpoint.load_config(source)
    except CheckpointError as exc:
        raise CheckpointError(
            f"the run started from {source!r}, which cannot be found: {exc} Give its path with --encoder."
        ) from exc
    return source


def assign_folds(rows: Dataset, folds: int, seed: int) -> NDArray[np.intp]:
    """Return the fold of each row, stratified by label, with near-duplicates in one fold; shape `(len(rows),)`.

    Raises:
        DataError: There are too few rows, or all are near-duplicates.
    """
    if len(rows) < max(MIN_ROWS, folds):
        raise DataError(f"{len(rows)} rows are too few to be scored in {folds} folds. Review held-out rows instead.")
    sizes = [len(rows) // folds + (fold < len(rows) % folds) for fold in range(folds)]
    fold_of_row = stratify(rows.targets == 1, find_near_duplicates(rows.texts).near, sizes, seed=seed)
    if len(np.unique(fold_of_row)) < 2:
        raise DataError(f"all {len(rows)} rows are near-duplicates, so none can be held out. Add other rows.")
    return fold_of_row


def _with_validation(rows: Dataset, validation: Dataset) -> Dataset:
    return replace(
        rows,
        texts=rows.texts + validation.texts,
        targets=np.concatenate([rows.targets, validation.targets]),
        split=("train",) * len(rows) + ("validation",) * len(validation),
    )
