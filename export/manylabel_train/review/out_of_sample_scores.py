"""Out-of-sample scores for every row: no score comes from a model that learnt from the row."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from manylabel.errors import CheckpointError, DataError
from manylabel_train.data.dataset import Dataset
from manylabel_train.data.near_duplicates import find_near_duplicates
from manylabel_train.data.splits import stratify
from manylabel_train.data.training_run import TrainingRun
from manylabel_train.models import checkpoint
from manylabel_train.models.checkpoint import make_long_text
from manylabel_train.review.frozen_encoder_probe import embed, held_out_scores
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.train import train

FEWEST = 10

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Retraining:
    """How models are trained to score the rows that they have not seen.

    Attributes:
        recipe: As the run's, so that they are as good as it.
        folds: How many models.
        carries_head: Whether they start from a classifier's head.
    """

    recipe: TrainConfig
    folds: int = 5
    carries_head: bool = False


def run_scores(folder: Path, run: TrainingRun, texts: tuple[str, ...]) -> Scores:
    """The run's own probabilities, for texts that it has not learnt from; shape `(len(texts), n_labels)`."""
    model, _ = checkpoint.load_model(str(folder))
    tokenizer = checkpoint.load_tokenizer(str(folder))
    reader = checkpoint.to_runtime_tokenizer(tokenizer, run.max_length, make_long_text(run.max_length))
    return checkpoint.predict_proba(model, reader, texts).astype(np.float64)


def quick_scores(source: str, rows: Dataset, *, max_length: int, seed: int, folds: int = 5) -> Scores:
    """By logistic regressions on an encoder that has not learnt from the rows; shape as `rows.targets`.

    A label that is known to be absent from no row is taken to be absent where it is unknown: its scores are low then,
    but in the right order (Elkan and Noto 2008, lemma 1).
    """
    parts = _folds(rows, folds, seed)
    targets = np.where((rows.targets == 0).any(axis=0), rows.targets, np.nan_to_num(rows.targets))
    return held_out_scores(embed(source, rows.texts, max_length), targets, parts)


def trained_scores(source: str, plan: Retraining, rows: Dataset, validation: Dataset) -> Scores:
    """By models that are trained without the rows that they score; shape as `rows.targets`.

    Args:
        source: A folder or hub name of what they start from.
        plan: How they are trained, and how many.
        rows: What is scored.
        validation: What each training is judged by.
    """
    result = np.zeros(rows.targets.shape)
    for held_out, others in _held_out(_folds(rows, plan.folds, plan.recipe.seed)):
        with TemporaryDirectory() as scratch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of rare labels and copies; the run itself has warned of them
            folder = Path(scratch) / "run"
            trained = train(
                _together(rows.take(others.tolist()), validation),
                folder,
                model=source,
                start_from=source if plan.carries_head else None,
                config=plan.recipe,
            )
            result[held_out] = run_scores(folder, trained, rows.take(held_out.tolist()).texts)
    return result


def together(one: Scores, other: Scores) -> Scores:
    """The mean of two kinds of scores in logits: they err in different places."""
    bounded = [np.clip(scores, 1e-6, 1 - 1e-6) for scores in (one, other)]
    mean = sum(np.log(scores / (1 - scores)) for scores in bounded) / 2
    return np.asarray(1 / (1 + np.exp(-mean)))


def source_of(run: TrainingRun, encoder: str | None) -> str:
    """The folder or hub name of what the run started from.

    Args:
        run: Knows it by its public name.
        encoder: What the user says instead.

    Raises:
        CheckpointError: It is not to be found under that name.
    """
    origin = run.details["origin"]
    source = checkpoint.resolve_checkpoint(encoder or origin.get("carried_from") or origin["model"])
    try:
        checkpoint.load_config(source)
    except CheckpointError as exc:
        raise CheckpointError(
            f"the run started from {source!r}, which is not to be found under that name: {exc} "
            "Say where it lies with --encoder."
        ) from exc
    return source


def _held_out(folds: NDArray[np.intp]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    for fold in np.unique(folds):
        yield np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)


def _folds(rows: Dataset, folds: int, seed: int) -> NDArray[np.intp]:
    """The fold of each row, stratified by label, copies in one fold; shape `(len(rows),)`."""
    if len(rows) < max(FEWEST, folds):
        raise DataError(f"{len(rows)} rows are too few to be scored in {folds} folds. Review rows that were held out.")
    sizes = [len(rows) // folds + (fold < len(rows) % folds) for fold in range(folds)]
    found = stratify(rows.targets == 1, find_near_duplicates(rows.texts).near, sizes, seed=seed)
    if len(np.unique(found)) < 2:
        raise DataError(f"all {len(rows)} rows say nearly the same, so none can be scored by the others. Add others.")
    return found


def _together(rows: Dataset, validation: Dataset) -> Dataset:
    return replace(
        rows,
        texts=rows.texts + validation.texts,
        targets=np.concatenate([rows.targets, validation.targets]),
        split=("train",) * len(rows) + ("validation",) * len(validation),
    )
