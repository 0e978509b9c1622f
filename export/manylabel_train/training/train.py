"""The entry point of training: labelled texts and a checkpoint in, a run out.

A run is a folder with the fine-tuned checkpoint in Hugging Face's layout, `run.json` (labels, thresholds, metrics,
configuration), `validation.jsonl`, the texts on which the export proves parity, and `report.html` with its data. Until
it is complete, its checkpoints are in `.NAME.partial`, from which an interrupted training resumes.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerFast, TrainerCallback, set_seed

from manylabel import __version__
from manylabel.errors import InputError
from manylabel.inference.tokenizer import Tokenizer
from manylabel.system.atomic_write import atomic_folder, check_output_free
from manylabel_train.calibration.fit import CalibrationMethod, calibrate_model
from manylabel_train.data.dataset import Dataset
from manylabel_train.data.splits import GUARANTEE_SPLIT, SPLITS, hold_out_for_guarantees, prepare_splits
from manylabel_train.data.training_run import TrainingRun, write_run
from manylabel_train.evaluation.metrics import multilabel_metrics, per_label_metrics
from manylabel_train.models import DEFAULT_MODEL, checkpoint
from manylabel_train.reporting.heldout_scores import write_heldout_scores
from manylabel_train.reporting.run_report import write_report
from manylabel_train.thresholds.objectives import Objectives
from manylabel_train.thresholds.selection import ScoredTexts, select_thresholds, warn_about_unmet
from manylabel_train.training.add_labels import (
    TeacherScores,
    check_added_labels,
    check_loss,
    drop_unlabelled_columns,
    score_with_teacher,
    widen_labels,
)
from manylabel_train.training.checkpoints import CHECKPOINTS, check_no_partial_run, open_partial_run
from manylabel_train.training.config import TrainConfig
from manylabel_train.training.hyperparameter_search import SearchConfig, check_not_resuming, search_config
from manylabel_train.training.label_priors import (
    estimate_priors,
    prior_mask,
    resolve_loss,
    warn_about_uninformative_labels,
)
from manylabel_train.training.long_texts import attention_dropout_overrides
from manylabel_train.training.lora import add_adapters, merge_adapters, require_peft
from manylabel_train.training.model_init import carry_over_model, create_model, fit_biases
from manylabel_train.training.resource_errors import explain_training_shortage
from manylabel_train.training.trainer import fine_tune, limit_threads

RECORDED_PACKAGES = ("torch", "transformers", "tokenizers")
"""Packages whose versions a run records."""

DEFAULT_CONFIG = TrainConfig()
DEFAULT_OBJECTIVES = Objectives()


def train(
    data: Dataset,
    output: Path | str,
    *,
    model: str = DEFAULT_MODEL,
    start_from: str | None = None,
    add_labels: Sequence[str] = (),
    config: TrainConfig = DEFAULT_CONFIG,
    objectives: Objectives = DEFAULT_OBJECTIVES,
    calibration: CalibrationMethod = "none",
    force: bool = False,
    resume: bool = False,
    drop_leaked: bool = False,
    search: SearchConfig | None = None,
) -> TrainingRun:
    """Fine-tune a multi-label classifier, and write a run.

    Args:
        data: Labelled texts; without splits they are split by stratification, near-duplicates together.
        output: The folder to write.
        model: The encoder to start from if `start_from` is not given: a folder or a Hub name.
        start_from: A classifier, multi-class or multi-label, whose head is carried over by label name.
        add_labels: New labels for `start_from`, a multi-label classifier, which keeps its old labels.
        config: Hyperparameters.
        objectives: What thresholds are selected for.
        calibration: The calibration method; `"none"` leaves probabilities as they are.
        force: Replace an existing output, or an interrupted run.
        resume: Resume an interrupted run.
        drop_leaked: Leave rows out of training that are near-duplicates of validation or test rows.
        search: Try other configurations around this one first, and train with the best on validation.

    Returns:
        The content of `run.json`.

    Raises:
        OutputExists: The output, or an interrupted run of it, exists already.
        DataError: The data cannot be trained on.
        CheckpointError: Training cannot start from the checkpoint.
        UnknownLabel: An objective is for a label that the data lacks.
        InputError: The configuration does not fit the model, training diverged, or there is nothing to resume.
        CannotWrite: The disk is full, or cannot be written to. The run can be resumed from its last checkpoint.
        OutOfMemory: Memory ran out.

    Example:
        >>> from manylabel_train import TrainConfig, read_dataset, train
        >>> run = train(read_dataset("reviews.csv"), "new-run", config=TrainConfig(epochs=1))
        >>> list(run.metrics)
        ['validation', 'test']
    """
    output = Path(output)
    if config.lora:
        require_peft()
    check_output_free(output, force=force)
    if search:
        check_not_resuming(output, resume=resume)
        check_no_partial_run(output, force=force)
    start = _StartingPoint.resolve(model, start_from, add_labels)
    job = _TrainingJob.prepare(data, start, config, objectives, calibration, drop_leaked=drop_leaked)
    job.warn_about_labels()
    search_record: dict[str, Any] = {}
    if search:
        with limit_threads():
            best, search_record["search"] = search_config(search, job.config, job.try_config, output)
        job = replace(job, config=best)
    return job.run(output, search_record, force=force, resume=resume)


def evaluate_split(scores: NDArray[np.float32], data: Dataset, thresholds: NDArray[np.float32]) -> dict[str, Any]:
    """Compute all metrics of one split at 0.5 and at `thresholds`, and per label at `thresholds`."""
    return {
        "texts": len(data),
        "at_half": multilabel_metrics(scores, data.targets),
        "tuned": multilabel_metrics(scores, data.targets, thresholds),
        "per_label": per_label_metrics(scores, data.targets, data.labels, thresholds),
    }


@dataclass(frozen=True)
class _StartingPoint:
    """The checkpoint that training starts from, and how its head is used.

    Attributes:
        source: A folder or Hub name.
        name: The same for display.
        carries_head: Whether its head is carried over; otherwise the head is new.
        added_labels: Labels that are added to the checkpoint's own, whose rows stay as they are.
    """

    source: str
    name: str
    carries_head: bool
    added_labels: tuple[str, ...]

    @classmethod
    def resolve(cls, model: str, start_from: str | None, added_labels: Sequence[str]) -> "_StartingPoint":
        name = start_from or model
        return cls(
            checkpoint.resolve_checkpoint(name),
            checkpoint.public_name(name),
            start_from is not None,
            tuple(added_labels),
        )


@dataclass(frozen=True)
class _InitialModel:
    """The model before its first step, where it comes from, and the old model's scores if labels are added."""

    model: PreTrainedModel
    origin: dict[str, Any]
    teacher: TeacherScores | None


@dataclass(frozen=True)
class _TrainingJob:
    """Everything that determines a run, and the steps of a training.

    Attributes:
        data: All rows, with their splits.
        splits: The `splits` section of `run.json`.
        starting_point: The checkpoint.
        tokenizer: Its tokenizer.
        config: Completed hyperparameters.
        objectives: What thresholds are selected for.
        calibration: The calibration method.
    """

    data: Dataset
    splits: dict[str, Any]
    starting_point: _StartingPoint
    tokenizer: PreTrainedTokenizerFast
    config: TrainConfig
    objectives: Objectives
    calibration: CalibrationMethod

    @classmethod
    def prepare(
        cls,
        data: Dataset,
        start: _StartingPoint,
        config: TrainConfig,
        objectives: Objectives,
        calibration: CalibrationMethod,
        *,
        drop_leaked: bool,
    ) -> "_TrainingJob":
        """Check the inputs against each other, split the data, and complete the configuration."""
        if start.carries_head and config.pooling != "own":
            raise InputError(
                f"--from keeps the pooling of the head that it carries over. Drop --pooling {config.pooling}."
            )
        if start.added_labels:
            check_loss(config)
            data = widen_labels(data, start.source, start.added_labels)
        data, splits = prepare_splits(data, seed=config.seed, drop_leaked=drop_leaked)
        check_added_labels(data, start.added_labels)
        objectives.for_labels(data.labels)  # raises for an unknown label, before the training
        data = hold_out_for_guarantees(data, objectives)
        config = config.complete(checkpoint.load_config(start.source), len(data.part("train")))
        tokenizer = checkpoint.load_tokenizer(start.source)
        return cls(data, splits, start, tokenizer, resolve_loss(config, data), objectives, calibration)

    @property
    def runtime_tokenizer(self) -> Tokenizer:
        """The tokenizer of training and evaluation, which is also the runtime's."""
        max_length = self.config.max_length or 0
        long_text = checkpoint.make_long_text(max_length, self.config.long_text)
        return checkpoint.to_runtime_tokenizer(self.tokenizer, max_length, long_text)

    def warn_about_labels(self) -> None:
        data = drop_unlabelled_columns(self.data) if self.starting_point.added_labels else self.data
        warn_about_uninformative_labels(data, SPLITS)

    def try_config(self, candidate: TrainConfig, folder: Path, callback: TrainerCallback) -> None:
        """Train with another configuration, for a search."""
        initial = self.create_initial_model()
        self.fit(initial, candidate, folder, [callback])

    def run(self, output: Path, search_record: Mapping[str, Any], *, force: bool, resume: bool) -> TrainingRun:
        """Train, calibrate, tune, evaluate, and write the run."""
        plan = self.plan()
        initial = self.create_initial_model()
        with limit_threads(), explain_training_shortage(output, self.config):
            partial = open_partial_run(output, plan, force=force, resume=resume)
            log = self.fit(initial, self.config, partial)
            if self.config.lora:
                merge_adapters(initial.model)
            details = {"origin": initial.origin, "log": log}
            details |= {key: plan[key] for key in ("recipe", "data", "versions")}
            details |= {"splits": self.splits, **search_record}
            run, scores = self.evaluate(initial, details)
            self.write(output, run, initial.model, scores, force=force)
        shutil.rmtree(partial, ignore_errors=True)
        return run

    def plan(self) -> dict[str, Any]:
        """Return everything that determines the result; an interrupted run resumes only under the same plan."""
        counts = {name: len(self.data.part(name)) for name in SPLITS}
        positives = np.nansum(self.data.part("train").targets, axis=0).astype(int).tolist()
        return {
            "source": self.starting_point.source,
            "carries_head": self.starting_point.carries_head,
            "recipe": self.config.as_dict(),
            "data": {
                "sha256": self.data.digest(),
                "texts": counts,
                "training_positives": dict(zip(self.data.labels, positives, strict=True)),
                "unknown_entries": {name: int(np.isnan(self.data.part(name).targets).sum()) for name in SPLITS},
            },
            "versions": {"manylabel": __version__, **{name: version(name) for name in RECORDED_PACKAGES}},
            "adds": [*self.starting_point.added_labels],
            "goals": self.objectives.as_dict(),
            "calibration": self.calibration,
        }

    def create_initial_model(self) -> _InitialModel:
        """Return the model before its first step, bit-identical each time."""
        set_seed(self.config.seed)
        model, origin = self._create_model()
        teacher, added = None, self.starting_point.added_labels
        if added:
            source = self.starting_point.source
            teacher = score_with_teacher(model, self.runtime_tokenizer, self.data, source, added)
        if self.config.lora:
            add_adapters(model, self.config.lora)
        return _InitialModel(model, origin, teacher)

    def fit(
        self, initial: _InitialModel, config: TrainConfig, folder: Path, callbacks: Sequence[TrainerCallback] = ()
    ) -> list[dict[str, float]]:
        """Fine-tune the model in place, and return the Trainer's log."""
        validation = self.data.part("validation")
        return fine_tune(
            initial.model,
            self.runtime_tokenizer,
            self.data.part("train"),
            initial.teacher.fill_unknown(validation) if initial.teacher else validation,
            config,
            folder / CHECKPOINTS,
            pad_token_id=self.tokenizer.pad_token_id or 0,
            soft=initial.teacher.train if initial.teacher else None,
            callbacks=callbacks,
        )

    def evaluate(
        self, initial: _InitialModel, details: dict[str, Any]
    ) -> tuple[TrainingRun, Mapping[str, NDArray[np.float32]]]:
        """Calibrate and select thresholds on validation alone, and evaluate every split that was not trained on.

        Returns:
            The run, and the scores of these splits, each of shape `(n_texts, n_labels)`.
        """
        tokenizer, labels = self.runtime_tokenizer, self.data.labels
        held_out = {name: self.data.part(name) for name in SPLITS if name != "train" and name in self.data.split}
        validation = held_out["validation"]
        calibrated = calibrate_model(initial.model, tokenizer, held_out, self.calibration)
        scored = ScoredTexts(calibrated.scores["validation"], validation.targets)
        selection = select_thresholds(scored, labels, self.objectives, holdout=self._score_holdout(initial.model))
        warn_about_unmet(selection.unmet)
        thresholds = selection.thresholds
        if initial.teacher:
            thresholds = initial.teacher.keep_thresholds(thresholds, scored.probabilities, validation)
            details["origin"] |= initial.teacher.summarize(scored.probabilities, thresholds, self.data)
        metrics = {
            name: evaluate_split(scores, held_out[name], thresholds) for name, scores in calibrated.scores.items()
        }
        details = details | {"thresholds": selection.as_dict(), "calibration": calibrated.details}
        run = TrainingRun(labels, tokenizer.max_length, tuple(thresholds.tolist()), metrics, details)
        return run, calibrated.scores

    def write(
        self,
        output: Path,
        run: TrainingRun,
        model: PreTrainedModel,
        scores: Mapping[str, NDArray[np.float32]],
        *,
        force: bool,
    ) -> None:
        """Write the run with its report atomically."""
        with atomic_folder(output, force=force) as folder:
            write_run(folder, run, model, self.tokenizer, self.data.part("validation"), self.data.part(GUARANTEE_SPLIT))
            write_heldout_scores(folder, scores, self.data)
            write_report(folder, run, title=output.absolute().name)

    def _create_model(self) -> tuple[PreTrainedModel, dict[str, Any]]:
        """Create the model, and return it with the `origin` section of `run.json`."""
        start, labels, rows = self.starting_point, self.data.labels, self.data.part("train")
        priors = estimate_priors(rows.targets, self.config.loss, self.config.labels_per_text)
        tokenizer = self.runtime_tokenizer
        changes = attention_dropout_overrides(checkpoint.load_config(start.source), tokenizer, rows.texts)
        if not start.carries_head:
            return create_model(start.source, labels, priors, changes, self.config.pooling), {"model": start.name}
        model, new, dropped = carry_over_model(start.source, labels, priors, changes)
        if start.added_labels:  # the old rows stay as they are
            return model, {"carried_from": start.name, "added_labels": new}
        fit_biases(model, tokenizer, rows.texts, priors, None if rows.complete else prior_mask(rows.targets))
        return model, {"carried_from": start.name, "fresh_labels": new, "dropped_labels": dropped}

    def _score_holdout(self, model: PreTrainedModel) -> ScoredTexts | None:
        """Score the texts that are held out for guarantees, if there are any."""
        holdout = self.data.part(GUARANTEE_SPLIT)
        if not len(holdout):
            return None
        return ScoredTexts(checkpoint.predict_proba(model, self.runtime_tokenizer, holdout.texts), holdout.targets)
