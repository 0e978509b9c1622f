"""The run: the folder that a training leaves and an export starts from."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from manylabel.bundle.strict_json import parse
from manylabel.errors import BundleError, CheckpointError
from manylabel.inference.tokenizer import LongText, Policy
from manylabel.system.did_you_mean import near_path
from manylabel_train.data.dataset import Dataset
from manylabel_train.data.io import write
from manylabel_train.models import checkpoint

RUN_FILE = "run.json"
VALIDATION_FILE = "validation.jsonl"
ASIDE_FILE = "aside.jsonl"


@dataclass(frozen=True)
class Run:
    """What `run.json` holds.

    Attributes:
        labels: In column order.
        max_length: Tokens of a text that are read at once.
        thresholds: Per label, tuned on the validation split.
        metrics: By split, at 0.5 and at the tuned thresholds.
        details: Origin, recipe, data, versions and the Trainer's log.
    """

    labels: tuple[str, ...]
    max_length: int
    thresholds: tuple[float, ...]
    metrics: Mapping[str, Any]
    details: Mapping[str, Any]

    @property
    def long_text(self) -> Policy:
        """What it was trained and judged to do with long texts; earlier runs were judged by windows."""
        policy: Policy = self.details.get("recipe", {}).get("long_text", "window")
        return policy


def read_run(folder: Path) -> Run:
    """Read a run's `run.json`.

    Raises:
        CheckpointError: It is missing, unreadable, or not what a training writes.
    """
    path = folder / RUN_FILE
    if not folder.exists():
        raise CheckpointError(f"there is no run {folder}.{near_path(folder)}")
    try:
        run = parse(Run, checkpoint.read_json(path), where=str(path))
    except BundleError as exc:
        raise CheckpointError(f"{exc} Train anew, or remove {RUN_FILE} to export a plain checkpoint.") from exc
    if len(run.thresholds) != len(run.labels):
        raise CheckpointError(f"{path} has {len(run.thresholds)} thresholds for {len(run.labels)} labels. Train anew.")
    return run


def write_run(
    folder: Path,
    run: Run,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    validation: Dataset,
    aside: Dataset,
) -> None:
    """Fill a folder with a finished run: the checkpoint in Hugging Face's layout, `run.json`, the validation texts.

    Texts that were set aside for guarantees have a file of their own; without any there is none.
    """
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write(folder / VALIDATION_FILE, validation)
    if len(aside):
        write(folder / ASIDE_FILE, aside)
    document = json.dumps(_finite(asdict(run)), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / RUN_FILE).write_text(document + "\n", encoding="utf-8")


def long_text_for(max_length: int, policy: Policy = "window") -> LongText:
    """What happens to long texts; windows share a sixteenth of their tokens: 32 of 512."""
    return LongText(policy, overlap=max_length // 16)


def _finite(value: Any) -> Any:
    """The same with None for numbers that JSON lacks: a gradient's norm may overflow in a run that ends well."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
