"""Labelled texts and a checkpoint in, a run out: `train`.

A run is a folder with the fine-tuned checkpoint in Hugging Face's layout, `run.json` (labels, thresholds, metrics,
recipe), `validation.jsonl`, the texts on which the export proves parity, and `report.html` with what it is drawn from.
Until it is whole its checkpoints lie under `.NAME.partial`, from where an interrupted training goes on.
"""

import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerFast, set_seed

from manylabel import __version__
from manylabel.folders import check_free, new_folder
from manylabel.tokenization import LongText, Tokenizer
from manylabel_export import checkpoint
from manylabel_export.dataset import Dataset
from manylabel_export.metrics import multilabel_metrics, per_label_metrics
from manylabel_export.report import keep_evidence
from manylabel_export.splits import settle_splits
from manylabel_export.thresholds import tune_thresholds
from manylabel_export.training.attempt import open_attempt
from manylabel_export.training.evidence import priors, settle, shown, warn_of_empty_labels
from manylabel_export.training.loop import fit
from manylabel_export.training.model import carried_model, fit_biases, fresh_model
from manylabel_export.training.recipe import Recipe
from manylabel_export.training.reporting import write_report
from manylabel_export.training.run import RUN_FILE, VALIDATION_FILE, Run, long_text_for, read_run, write_run

__all__ = ["RUN_FILE", "VALIDATION_FILE", "Recipe", "Run", "long_text_for", "read_run", "train"]

SPLITS = ("train", "validation", "test")
PACKAGES = ("torch", "transformers", "tokenizers")


def train(
    data: Dataset,
    output: Path | str,
    *,
    model: str = checkpoint.DEFAULT_MODEL,
    start_from: str | None = None,
    recipe: Recipe = Recipe(),  # noqa: B008 - frozen
    force: bool = False,
    resume: bool = False,
    drop_leaked: bool = False,
) -> Run:
    """Fine-tune a classifier that gives every label that applies.

    Args:
        data: Labelled texts; without a split of their own they are split, stratified, copies together.
        output: The folder to write.
        model: The encoder to start from, when `start_from` is not given: a folder or a hub name.
        start_from: A classifier, multi-class or multi-label, whose head is carried over by label name.
        recipe: How to train.
        force: Replace an existing output, or an interrupted run's remains.
        resume: Go on with an interrupted run.
        drop_leaked: Leave rows out of training that say the same as a validation or test row, or nearly.

    Raises:
        OutputExists: The output, or an interrupted run of it, is there already.
        DataError: The data cannot be trained on.
        CheckpointError: The checkpoint cannot be started from.
        InputError: The recipe does not fit the model, training diverged, or there is nothing to resume.
    """
    output = Path(output)
    check_free(output, force=force)
    data, splits = settle_splits(data, seed=recipe.seed, drop_leaked=drop_leaked)
    source = checkpoint.resolve(start_from or model)
    recipe = settle(recipe.complete(checkpoint.load_config(source), len(data.part("train"))), data)
    plan = _plan(data, source, start_from, recipe)
    set_seed(recipe.seed)
    tokenizer = checkpoint.load_tokenizer(source)
    learner, origin = _start(source, start_from or model, data, tokenizer, recipe, carry=start_from is not None)
    attempt = open_attempt(output, plan, force=force, resume=resume)
    warn_of_empty_labels(data, SPLITS)
    log = _fit(learner, tokenizer, data, recipe, attempt)
    details = {"origin": origin, "log": log, **{key: plan[key] for key in ("recipe", "data", "versions")}}
    details["splits"] = splits
    run, scores = _judge(learner, tokenizer, data, recipe, details)
    with new_folder(output, force=force) as folder:
        write_run(folder, run, learner, tokenizer, data.part("validation"))
        keep_evidence(folder, scores, data)
    shutil.rmtree(attempt)
    write_report(output, run)
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
    source: str, name: str, data: Dataset, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, *, carry: bool
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model before its first step, and where it comes from."""
    rows, called = data.part("train"), checkpoint.public_name(name)
    start = priors(rows.targets, recipe.loss, recipe.labels_per_text)
    if not carry:
        return fresh_model(source, data.labels, start), {"model": called}
    model, fresh, dropped = carried_model(source, data.labels, start)
    fit_biases(model, _beginnings(tokenizer, recipe), rows.texts, start, None if rows.complete else shown(rows.targets))
    return model, {"carried_from": called, "fresh_labels": fresh, "dropped_labels": dropped}


def _fit(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, data: Dataset, recipe: Recipe, attempt: Path
) -> list[dict[str, float]]:
    return fit(
        model,
        _beginnings(tokenizer, recipe),
        data.part("train"),
        data.part("validation"),
        recipe,
        attempt / "checkpoints",
        pad_token_id=tokenizer.pad_token_id or 0,
    )


def _beginnings(tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> Tokenizer:
    """What training reads of a text: its first `max_length` tokens."""
    return checkpoint.runtime_tokenizer(tokenizer, recipe.max_length or 0, LongText("truncate", overlap=0))


def _judge(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    data: Dataset,
    recipe: Recipe,
    details: dict[str, Any],
) -> tuple[Run, dict[str, NDArray[np.float32]]]:
    """Tune thresholds on the validation split alone, and measure on every split that was not trained on.

    Returns:
        The run, and the scores of these splits, each of shape `(n_texts, n_labels)`.
    """
    max_length = recipe.max_length or 0
    reader = checkpoint.runtime_tokenizer(tokenizer, max_length, long_text_for(max_length))
    held_out = [name for name in SPLITS if name != "train" and name in data.split]
    scores = {name: checkpoint.predict_proba(model, reader, data.part(name).texts) for name in held_out}
    thresholds = tune_thresholds(scores["validation"], data.part("validation").targets)
    metrics = {name: measure(found, data.part(name), thresholds) for name, found in scores.items()}
    return Run(data.labels, max_length, tuple(thresholds.tolist()), metrics, details), scores
