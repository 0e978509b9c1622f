"""A training run: the folder that training writes and export, review and reports read, with its manifest `run.json`."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from manylabel.errors import missing_extra

if find_spec("transformers") is None:
    raise missing_extra("export", "transformers")

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from manylabel.bundle.strict_json import parse
from manylabel.errors import BundleError, CheckpointError
from manylabel.inference.tokenizer import Policy
from manylabel.system.did_you_mean import suggest_path
from manylabel_train.data.dataset import Dataset, write_jsonl
from manylabel_train.models import checkpoint

RUN_FILE = "run.json"
VALIDATION_FILE = "validation.jsonl"
GUARANTEE_FILE = "aside.jsonl"
"""Texts that were held out to test guarantees on."""


@dataclass(frozen=True)
class TrainingRun:
    """The content of `run.json`.

    Attributes:
        labels: The labels in column order.
        max_length: Tokens of a text that are read at once.
        thresholds: One per label, tuned on the validation split.
        metrics: By split, at 0.5 and at the tuned thresholds.
        details: Origin, training configuration (`"recipe"`), data, versions and the Trainer's log.

    Example:
        >>> from pathlib import Path
        >>> run = read_run(Path("run"))
        >>> run.labels
        ('billing', 'delivery', 'price', 'user experience')
        >>> len(run.thresholds)
        4
    """

    labels: tuple[str, ...]
    max_length: int
    thresholds: tuple[float, ...]
    metrics: Mapping[str, Any]
    details: Mapping[str, Any]

    @property
    def long_text(self) -> Policy:
        """The policy for long texts in training and evaluation; runs from before it was recorded used windows."""
        policy: Policy = self.details.get("recipe", {}).get("long_text", "window")
        return policy


def read_run(folder: Path) -> TrainingRun:
    """Read a run's `run.json`.

    Raises:
        CheckpointError: It is missing, unreadable, or was not written by a training.
    """
    path = folder / RUN_FILE
    if not folder.exists():
        raise CheckpointError(f"there is no run {folder}.{suggest_path(folder)}")
    try:
        run = parse(TrainingRun, checkpoint.read_json(path), where=str(path))
    except BundleError as exc:
        raise CheckpointError(f"{exc} Retrain, or remove {RUN_FILE} to export a plain checkpoint.") from exc
    if len(run.thresholds) != len(run.labels):
        raise CheckpointError(f"{path} has {len(run.thresholds)} thresholds for {len(run.labels)} labels. Retrain.")
    return run


def write_run(
    folder: Path,
    run: TrainingRun,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    validation: Dataset,
    holdout: Dataset,
) -> None:
    """Write a finished run to a folder.

    Args:
        folder: An empty folder.
        run: Written to `run.json`.
        model: Written, like the tokenizer, in Hugging Face's layout.
        tokenizer: The model's tokenizer.
        validation: Written to `validation.jsonl`.
        holdout: Texts that were held out for guarantees, written to `aside.jsonl` if there are any.
    """
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_jsonl(folder / VALIDATION_FILE, validation)
    if len(holdout):
        write_jsonl(folder / GUARANTEE_FILE, holdout)
    document = json.dumps(_replace_non_finite(asdict(run)), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / RUN_FILE).write_text(document + "\n", encoding="utf-8")


def _replace_non_finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks, by None: a gradient norm may overflow in a run that ends well."""
    if isinstance(value, dict):
        return {key: _replace_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
