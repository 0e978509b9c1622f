"""Labelled texts and a checkpoint in, a run out: `train`.

A run is a folder with the fine-tuned checkpoint in Hugging Face's layout, `run.json` (labels, thresholds, metrics,
recipe), `validation.jsonl`, the texts on which the export proves parity, and `report.html` with what it is drawn from.
Until it is whole its checkpoints lie under `.NAME.partial`, from where an interrupted training goes on.
"""

import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerFast, TrainerCallback, set_seed

from manylabel import __version__
from manylabel.errors import InputError
from manylabel.inference.tokenizer import Tokenizer
from manylabel.system.atomic_write import atomic_folder, check_output_free
from manylabel_train.calibration.fit import Method
from manylabel_train.calibration.model_calibration import calibrate
from manylabel_train.data.dataset import Dataset
from manylabel_train.data.guarantee_holdout import ASIDE, set_aside
from manylabel_train.data.splits import settle_splits
from manylabel_train.data.training_run import (
    ASIDE_FILE,
    RUN_FILE,
    VALIDATION_FILE,
    Run,
    long_text_for,
    read_run,
    write_run,
)
from manylabel_train.evaluation.metrics import multilabel_metrics, per_label_metrics
from manylabel_train.models import checkpoint
from manylabel_train.reporting.report import keep_evidence
from manylabel_train.reporting.run_report import write_report
from manylabel_train.thresholds.objectives import Goals
from manylabel_train.thresholds.selection import Scored, choose_thresholds, warn_of_unmet
from manylabel_train.training import add_labels as adding
from manylabel_train.training.checkpoints import CHECKPOINTS
from manylabel_train.training.config import Recipe
from manylabel_train.training.hyperparameter_search import Search, require_no_resume, search_recipe
from manylabel_train.training.label_priors import priors, settle, shown, warn_of_empty_labels
from manylabel_train.training.long_texts import lean_attention
from manylabel_train.training.lora import add_adapters, merge_adapters, require_peft
from manylabel_train.training.model_init import carried_model, fit_biases, fresh_model
from manylabel_train.training.precision import own_threads
from manylabel_train.training.resume import check_unbegun, open_attempt, running_out
from manylabel_train.training.trainer import fit

__all__ = ["ASIDE_FILE", "RUN_FILE", "VALIDATION_FILE", "Recipe", "Run", "Search", "long_text_for", "read_run", "train"]

Head = Literal["fresh", "carried", "grown"]
"""A new one, one carried over by label name, or one that keeps its rows as they are and gets more."""

SPLITS = ("train", "validation", "test")
PACKAGES = ("torch", "transformers", "tokenizers")


def train(
    data: Dataset,
    output: Path | str,
    *,
    model: str = checkpoint.DEFAULT_MODEL,
    start_from: str | None = None,
    add_labels: Sequence[str] = (),
    recipe: Recipe = Recipe(),
    goals: Goals = Goals(),
    calibration: Method = "none",
    force: bool = False,
    resume: bool = False,
    drop_leaked: bool = False,
    search: Search | None = None,
) -> Run:
    """Fine-tune a classifier that gives every label that applies.

    Args:
        data: Labelled texts; without a split of their own they are split, stratified, copies together.
        output: The folder to write.
        model: The encoder to start from, when `start_from` is not given: a folder or a hub name.
        start_from: A classifier, multi-class or multi-label, whose head is carried over by label name.
        add_labels: Labels that `start_from`, a multi-label classifier, is to learn besides its own, which it keeps.
        recipe: How to train.
        goals: What thresholds are chosen for.
        calibration: How probabilities are made to mean what they say; `"none"` leaves them as they are.
        force: Replace an existing output, or an interrupted run's remains.
        resume: Go on with an interrupted run.
        drop_leaked: Leave rows out of training that say the same as a validation or test row, or nearly.
        search: Try other recipes around this one first, and train by the best on validation.

    Raises:
        OutputExists: The output, or an interrupted run of it, is there already.
        DataError: The data cannot be trained on.
        CheckpointError: The checkpoint cannot be started from.
        UnknownLabel: A goal is for a label that the data lacks.
        InputError: The recipe does not fit the model, training diverged, or there is nothing to resume.
        CannotWrite: The disk is full, or cannot be written to. What was kept resumes.
        OutOfMemory: Memory ran out.
    """
    output = Path(output)
    if recipe.lora:
        require_peft()
    check_output_free(output, force=force)
    if search:
        require_no_resume(output, resume=resume)
        check_unbegun(output, force=force)
    if start_from and recipe.pooling != "own":
        raise InputError(f"--from carries a head over with what it reads. Leave out --pooling {recipe.pooling}.")
    source = checkpoint.resolve(start_from or model)
    if add_labels:
        adding.require_cross_entropy(recipe)
        data = adding.widen(data, source, add_labels)
    data, splits = settle_splits(data, seed=recipe.seed, drop_leaked=drop_leaked)
    adding.require_both_answers(data, add_labels)
    goals.of(data.labels)  # a name that is no label's is found before the training
    data = set_aside(data, goals)
    recipe = settle(recipe.complete(checkpoint.load_config(source), len(data.part("train"))), data)
    tokenizer = checkpoint.load_tokenizer(source)
    head: Head = "grown" if add_labels else "carried" if start_from else "fresh"

    def begin() -> tuple[PreTrainedModel, dict[str, Any], adding.Memory | None]:
        """The same model each time, to the bit."""
        set_seed(recipe.seed)
        learner, origin = _start(source, start_from or model, data, tokenizer, recipe, head)
        memory = adding.remember(learner, _reader(tokenizer, recipe), data, source, add_labels) if add_labels else None
        if recipe.lora:
            add_adapters(learner, recipe.lora)
        return learner, origin, memory

    def attempt_at(candidate: Recipe, folder: Path, watcher: TrainerCallback) -> None:
        learner, _, memory = begin()
        _fit(learner, tokenizer, data, candidate, folder, memory, [watcher])

    warn_of_empty_labels(adding.only_told(data) if add_labels else data, SPLITS)
    tried: dict[str, Any] = {}
    if search:
        with own_threads():
            recipe, tried["search"] = search_recipe(search, recipe, attempt_at, output)
    plan = _plan(data, source, start_from, recipe) | {
        "adds": [*add_labels],
        "goals": goals.as_dict(),
        "calibration": calibration,
    }
    learner, origin, memory = begin()
    with own_threads(), running_out(output, recipe):
        attempt = open_attempt(output, plan, force=force, resume=resume)
        log = _fit(learner, tokenizer, data, recipe, attempt, memory)
        if recipe.lora:
            merge_adapters(learner)
        details = {"origin": origin, "log": log, **{key: plan[key] for key in ("recipe", "data", "versions")}}
        details |= {"splits": splits} | tried
        run, scores = _judge(learner, tokenizer, data, recipe, goals, calibration, details, memory)
        with atomic_folder(output, force=force) as folder:
            write_run(folder, run, learner, tokenizer, data.part("validation"), data.part(ASIDE))
            keep_evidence(folder, scores, data)
            write_report(folder, run, title=output.absolute().name)
    shutil.rmtree(attempt, ignore_errors=True)
    return run


def measure(scores: NDArray[np.float32], data: Dataset, thresholds: NDArray[np.float32]) -> dict[str, Any]:
    """All metrics at 0.5 and at `thresholds`, and per label at `thresholds`."""
    return {
        "texts": len(data),
        "at_half": multilabel_metrics(scores, data.targets),
        "tuned": multilabel_metrics(scores, data.targets, thresholds),
        "per_label": per_label_metrics(scores, data.targets, data.labels, thresholds),
    }


def _plan(data: Dataset, source: str, start_from: str | None, recipe: Recipe) -> dict[str, Any]:
    """All that decides what comes out; an interrupted run goes on only under the same plan."""
    counts = {name: len(data.part(name)) for name in SPLITS}
    sums = np.nansum(data.part("train").targets, axis=0).astype(int).tolist()
    return {
        "source": source,
        "carries_head": start_from is not None,
        "recipe": recipe.as_dict(),
        "data": {
            "sha256": data.digest(),
            "texts": counts,
            "training_positives": dict(zip(data.labels, sums, strict=True)),
            "unknown_entries": {name: int(np.isnan(data.part(name).targets).sum()) for name in SPLITS},
        },
        "versions": {"manylabel": __version__, **{name: version(name) for name in PACKAGES}},
    }


def _start(
    source: str, name: str, data: Dataset, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, head: Head
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model before its first step, and where it comes from."""
    rows, called = data.part("train"), checkpoint.public_name(name)
    start = priors(rows.targets, recipe.loss, recipe.labels_per_text)
    reader = _reader(tokenizer, recipe)
    changes = lean_attention(checkpoint.load_config(source), reader, rows.texts)
    if head == "fresh":
        return fresh_model(source, data.labels, start, changes, recipe.pooling), {"model": called}
    model, fresh, dropped = carried_model(source, data.labels, start, changes)
    if head == "grown":  # the rows that were there start as they were
        return model, {"carried_from": called, "added_labels": fresh}
    fit_biases(model, reader, rows.texts, start, None if rows.complete else shown(rows.targets))
    return model, {"carried_from": called, "fresh_labels": fresh, "dropped_labels": dropped}


def _fit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    data: Dataset,
    recipe: Recipe,
    attempt: Path,
    memory: adding.Memory | None,
    watchers: Sequence[TrainerCallback] = (),
) -> list[dict[str, float]]:
    return fit(
        model,
        _reader(tokenizer, recipe),
        data.part("train"),
        memory.judge_of(data.part("validation")) if memory else data.part("validation"),
        recipe,
        attempt / CHECKPOINTS,
        pad_token_id=tokenizer.pad_token_id or 0,
        soft=memory.train if memory else None,
        watchers=watchers,
    )


def _reader(tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> Tokenizer:
    """What is read of a text, in training as by the runtime."""
    max_length = recipe.max_length or 0
    return checkpoint.runtime_tokenizer(tokenizer, max_length, long_text_for(max_length, recipe.long_text))


def _judge(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    data: Dataset,
    recipe: Recipe,
    goals: Goals,
    calibration: Method,
    details: dict[str, Any],
    memory: adding.Memory | None,
) -> tuple[Run, Mapping[str, NDArray[np.float32]]]:
    """Calibrate and choose thresholds on validation alone, and measure on every split that was not trained on.

    Returns:
        The run, and the scores of these splits, each of shape `(n_texts, n_labels)`.
    """
    reader = _reader(tokenizer, recipe)
    held_out = {name: data.part(name) for name in SPLITS if name != "train" and name in data.split}
    judged = calibrate(model, reader, held_out, calibration)
    rows, aside = Scored(judged.scores["validation"], held_out["validation"].targets), data.part(ASIDE)
    proof = Scored(checkpoint.predict_proba(model, reader, aside.texts), aside.targets) if len(aside) else None
    chosen = choose_thresholds(rows, data.labels, goals, aside=proof)
    warn_of_unmet(chosen.unmet)
    thresholds = chosen.thresholds
    if memory:
        thresholds = memory.keep(thresholds, rows.probabilities, held_out["validation"])
        details["origin"] |= memory.fared(rows.probabilities, thresholds, data)
    metrics = {name: measure(found, held_out[name], thresholds) for name, found in judged.scores.items()}
    details = details | {"thresholds": chosen.as_dict(), "calibration": judged.details}
    return Run(data.labels, reader.max_length, tuple(thresholds.tolist()), metrics, details), judged.scores
