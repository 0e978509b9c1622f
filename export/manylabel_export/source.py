"""The checkpoint that is exported, and the texts that it is judged by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from manylabel.errors import CheckpointError, InputError
from manylabel.inference.tokenizer import Policy, Tokenizer
from manylabel.system.did_you_mean import near_path
from manylabel_export.probes import PROBES
from manylabel_train.data.dataset import Dataset, read_jsonl
from manylabel_train.data.splits import GUARANTEE_SPLIT, check_holdout_size, hold_out_for_guarantees
from manylabel_train.data.training_run import GUARANTEE_FILE, RUN_FILE, VALIDATION_FILE, TrainingRun, read_run
from manylabel_train.models import checkpoint
from manylabel_train.models.checkpoint import make_long_text
from manylabel_train.reporting.heldout_scores import SCORES_FILE, Scored, read_evidence
from manylabel_train.thresholds.objectives import Objectives, parse_objectives


@dataclass(frozen=True)
class Subject:
    """What is exported.

    Attributes:
        model: The classifier in fp32.
        tokenizer: Its tokenizer, as transformers has it.
        reader: The same as the runtime will have it, but that it refuses no text: too long ones are read in windows.
        policy: What the runtime will do with texts beyond `max_length`.
        labels: In column order.
        texts: Real texts; the probes where none were given.
        targets: Their labels, shape `(len(texts), n_labels)`, or None where none were given.
        source: Where all this comes from.
        metrics: What training measured, by split.
        goals: What thresholds are chosen for.
        aside: Which of the texts were set aside to prove guarantees by, shape `(len(texts),)`; no other choice looks at
            them.
        details: What else a run keeps; empty for a checkpoint from elsewhere.
        evidence: A run's held-out texts with its scores; empty where there are none, or other texts are judged by.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    reader: Tokenizer
    policy: Policy
    labels: tuple[str, ...]
    texts: Sequence[str]
    targets: NDArray[np.float32] | None
    source: dict[str, Any]
    metrics: Mapping[str, Any]
    goals: Objectives
    aside: NDArray[np.bool_]
    details: Mapping[str, Any] = field(default_factory=dict)
    evidence: tuple[Scored, ...] = ()

    @property
    def probes(self) -> tuple[str, ...]:
        """Those of the probes that the runtime will answer: under the policy `"error"`, the short ones."""
        encodings = self.reader.encode(PROBES)
        return tuple(
            text
            for text, encoding in zip(PROBES, encodings, strict=True)
            if self.policy != "error" or len(encoding.windows) == 1
        )


def labels_of(folder: Path) -> tuple[str, ...]:
    """The labels of a checkpoint that can be exported, in column order.

    Raises:
        CheckpointError: The folder holds no multi-label classifier.
    """
    _require_multi_label(folder)
    return checkpoint.read_labels(checkpoint.load_config(str(folder)))


def load_subject(
    folder: Path, validation: Dataset | None, policy: Policy | None, wanted: Objectives | None = None
) -> Subject:
    """Load a run, or a checkpoint that was trained elsewhere.

    Args:
        folder: The run or checkpoint.
        validation: Labelled texts to judge by; a run brings its own.
        policy: What the runtime will do with texts beyond `max_length`; None for what the run was trained for, and
            `"window"` for other checkpoints.
        wanted: What thresholds are chosen for. None: what the run's were; F1 without a run.

    Raises:
        CheckpointError: The folder holds no multi-label classifier, or is damaged.
        LabelMismatch: The validation texts have other labels.
        UnknownLabel: A goal is for a label that the checkpoint lacks.
        InputError: There are goals and no validation texts, or too few of those for what is to be guaranteed.
    """
    labels = labels_of(folder)
    model = _load_whole_model(folder)
    tokenizer = checkpoint.load_tokenizer(str(folder))
    max_length = checkpoint.default_max_length(model.config)
    source: dict[str, Any] = {"checkpoint": checkpoint.public_name(str(folder))}
    metrics: Mapping[str, Any] = {}
    details: Mapping[str, Any] = {}
    evidence: tuple[Scored, ...] = ()
    goals = Objectives()
    if (folder / RUN_FILE).exists():
        run = _read_run(folder, labels)
        max_length, metrics, policy = run.max_length, run.metrics, policy or run.long_text
        details = run.details
        evidence = () if validation or not (folder / SCORES_FILE).exists() else read_evidence(folder, labels)
        source |= {
            key: run.details[key]
            for key in ("origin", "recipe", "calibration", "data", "versions")
            if key in run.details
        }
        if "thresholds" in run.details:  # older runs were all tuned for F1
            goals = parse_objectives(run.details["thresholds"].get("goals"), where=str(folder / RUN_FILE))
        if wanted not in (None, goals):
            metrics = {}  # what the training measured, it measured at thresholds for its own goals
        validation = validation or _rows_of(folder, wanted or goals, labels)
    goals = wanted or goals
    goals.for_labels(labels)
    if validation is None and wanted is not None:
        raise InputError("thresholds are chosen for a goal on labelled texts. Name some with --validation DATA.")
    if validation is not None:
        validation = _with_aside(validation.reorder(labels), goals)
        source["validation_sha256"] = validation.digest()
    policy = policy or "window"
    judged = make_long_text(max_length, "window" if policy == "error" else policy)
    return Subject(
        model=model,
        tokenizer=tokenizer,
        reader=checkpoint.to_runtime_tokenizer(tokenizer, max_length, judged),
        policy=policy,
        labels=labels,
        texts=PROBES if validation is None else validation.texts,
        targets=None if validation is None else validation.targets,
        source=source,
        metrics=metrics,
        goals=goals,
        aside=np.array(
            [] if validation is None else [name == GUARANTEE_SPLIT for name in validation.split], dtype=bool
        ),
        details=details,
        evidence=evidence,
    )


def _rows_of(folder: Path, goals: Objectives, labels: Sequence[str]) -> Dataset:
    """A run's validation texts, and where a goal is to be guaranteed those that it set aside."""
    rows = read_jsonl(folder / VALIDATION_FILE, labels)
    if not goals.need_guarantee:
        return rows
    if not (folder / GUARANTEE_FILE).exists():
        raise InputError(
            f"{folder} set no texts aside, and its validation texts have chosen its best epoch: they can guarantee "
            "nothing. Name texts that its training has not seen with --validation DATA, or train with the guarantee."
        )
    aside = read_jsonl(folder / GUARANTEE_FILE, labels)
    split = ("",) * len(rows) + (GUARANTEE_SPLIT,) * len(aside)
    return Dataset(rows.texts + aside.texts, np.concatenate([rows.targets, aside.targets]), rows.labels, split)


def _with_aside(rows: Dataset, goals: Objectives) -> Dataset:
    """Validation texts with the split `GUARANTEE_SPLIT` where a goal is to be guaranteed."""
    if GUARANTEE_SPLIT in rows.split:
        check_holdout_size(rows.part(GUARANTEE_SPLIT), goals)
        return rows
    return (
        hold_out_for_guarantees(replace(rows, split=("validation",) * len(rows)), goals)
        if goals.need_guarantee
        else rows
    )


def _require_multi_label(folder: Path) -> None:
    """Refuse what a sigmoid would be wrong for."""
    if not folder.exists():
        raise CheckpointError(f"there is no folder {folder}.{near_path(folder)}")
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder} is no checkpoint: it has no config.json. "
            "Name the folder that manylabel train or a Trainer's save_model wrote."
        )
    problem = checkpoint.load_config(str(folder)).problem_type
    if problem == checkpoint.MULTI_LABEL:
        return
    if problem == "single_label_classification":
        raise CheckpointError(
            f"{folder} was trained for one label a text (softmax); through a sigmoid its scores would be wrong. "
            f"Make it multi-label with: manylabel train DATA --from {folder} --output RUN"
        )
    said = "no problem_type" if problem is None else f"the problem_type {problem!r}"
    raise CheckpointError(
        f"{folder}/config.json has {said}, so nobody knows whether its scores go through a sigmoid. "
        f'If it was trained for several labels a text, set "problem_type": "{checkpoint.MULTI_LABEL}" there; '
        f"if not: manylabel train DATA --from {folder} --output RUN"
    )


def _load_whole_model(folder: Path) -> PreTrainedModel:
    model, missing = checkpoint.load_model(str(folder))
    if missing:
        raise CheckpointError(
            f"{folder} lacks trained weights for {', '.join(sorted(missing)[:3])}, in the shapes that its config.json "
            f"says: it is an encoder without a head, or its head is not for {model.config.num_labels} labels. "
            f"Fine-tune it with: manylabel train DATA --model {folder} --output RUN"
        )
    return model


def _read_run(folder: Path, labels: Sequence[str]) -> TrainingRun:
    run = read_run(folder)
    if run.labels != tuple(labels):
        raise CheckpointError(
            f"{folder}: {RUN_FILE} names {len(run.labels)} labels and config.json {len(labels)}, and they are not "
            f"the same in the same order. Train anew, or remove {RUN_FILE} to export a plain checkpoint."
        )
    return run
