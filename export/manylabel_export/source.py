"""The export source: a model, its tokenizer and labels, and the texts that its graphs are evaluated on.

It is loaded from a run of `manylabel train` or from any multi-label checkpoint of Hugging Face.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from manylabel.errors import missing_extra

if find_spec("transformers") is None:
    raise missing_extra("export", "transformers")

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from manylabel.errors import CheckpointError, InputError
from manylabel.inference.tokenizer import Policy, Tokenizer
from manylabel.system.did_you_mean import suggest_path
from manylabel_train.data.dataset import Dataset, read_jsonl
from manylabel_train.data.splits import GUARANTEE_SPLIT, check_holdout_size, hold_out_for_guarantees
from manylabel_train.data.training_run import GUARANTEE_FILE, RUN_FILE, VALIDATION_FILE, TrainingRun, read_run
from manylabel_train.models import checkpoint
from manylabel_train.reporting.heldout_scores import SCORES_FILE, HeldOutScores, read_heldout_scores
from manylabel_train.thresholds.objectives import Objectives, parse_objectives

PROBES = (
    "The parcel came two days late, but the woman on the hotline sorted it out at once and even refunded the postage.",
    "Die App ist hübsch, nur stürzt sie bei jeder zweiten Zahlung ab. So macht das keinen Spaß!",
    "ok",
    "I am so happy for you, and a little bit jealous. Thank you for sharing this with us 🎉",
    "Warum wurde mir der Betrag doppelt abgebucht? Seit drei Wochen antwortet niemand auf meine E-Mails.",
    "The second season loses its way: beautiful pictures, a wonderful score, and a story that forgets its own people. "
    "Still, for the price of a coffee there is little to complain about, and my mother, who is eighty-one, "
    "watched all of it in one night and rang me at six in the morning to talk about the ending.",
)
"""Texts whose probabilities every bundle carries, so that a machine can be checked.

Written for this purpose: a bundle contains none of its user's texts.
"""

RUN_PROVENANCE = ("origin", "recipe", "calibration", "data", "versions")
"""Details of a run that the manifest of a bundle repeats."""


@dataclass(frozen=True)
class ExportSource:
    """What is exported.

    Attributes:
        model: The classifier in fp32.
        tokenizer: Its tokenizer as a transformers object.
        runtime_tokenizer: Its tokenizer as the runtime will use it, except that it reads long texts in windows if the
            policy is `"error"`.
        policy: What the runtime does with texts beyond `max_length`.
        labels: The labels in column order.
        texts: The validation texts; the probes if there are none.
        targets: The true labels of the texts, shape `(n_texts, n_labels)`; None without validation texts.
        holdout: Which texts are held out for guarantees, shape `(n_texts,)`; they are used for nothing else.
        objectives: What thresholds are selected for.
        provenance: Where the model comes from, for the manifest.
        metrics: What training measured, by split.
        run_details: What else a run recorded; empty for other checkpoints.
        run_scores: The held-out scores of a run; empty if there are none, or if other validation texts were given.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    runtime_tokenizer: Tokenizer
    policy: Policy
    labels: tuple[str, ...]
    texts: Sequence[str]
    targets: NDArray[np.float32] | None
    holdout: NDArray[np.bool_]
    objectives: Objectives
    provenance: dict[str, Any]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    run_details: Mapping[str, Any] = field(default_factory=dict)
    run_scores: tuple[HeldOutScores, ...] = ()

    @property
    def probes(self) -> tuple[str, ...]:
        """The probes that the runtime accepts: under the policy `"error"`, only the short ones."""
        encodings = self.runtime_tokenizer.encode(PROBES)
        return tuple(
            text
            for text, encoding in zip(PROBES, encodings, strict=True)
            if self.policy != "error" or len(encoding.windows) == 1
        )


def read_checkpoint_labels(folder: Path) -> tuple[str, ...]:
    """Return the labels of a multi-label checkpoint in column order.

    Raises:
        CheckpointError: The folder does not contain a multi-label classifier.

    Example:
        >>> read_checkpoint_labels(Path("run"))
        ('billing', 'delivery', 'price', 'user experience')
    """
    _require_multi_label(folder)
    return checkpoint.read_labels(checkpoint.load_config(str(folder)))


def load_export_source(
    folder: Path,
    validation: Dataset | None = None,
    policy: Policy | None = None,
    objectives: Objectives | None = None,
) -> ExportSource:
    """Load a run, or a checkpoint that was trained elsewhere.

    Args:
        folder: The run or checkpoint.
        validation: Labelled texts for evaluation; a run brings its own.
        policy: What the runtime does with texts beyond `max_length`. By default what the run was trained for, and
            `"window"` for other checkpoints.
        objectives: What thresholds are selected for. By default the run's objectives, and F1 for other checkpoints.

    Raises:
        CheckpointError: The folder does not contain a multi-label classifier, or is damaged.
        LabelMismatch: The labels of the validation texts differ from the model's.
        UnknownLabel: An objective is for a label that the model does not have.
        InputError: There are objectives but no validation texts, or too few texts for a guarantee.

    Example:
        >>> source = load_export_source(Path("run"))
        >>> source.labels, source.policy
        (('billing', 'delivery', 'price', 'user experience'), 'window')
    """
    load = _load_run if (folder / RUN_FILE).exists() else _load_checkpoint
    return load(folder, validation, policy, objectives)


def _load_run(
    folder: Path, validation: Dataset | None, policy: Policy | None, objectives: Objectives | None
) -> ExportSource:
    """Load a run of `manylabel train`, with its validation texts unless others are given."""
    labels = read_checkpoint_labels(folder)
    run = _read_run(folder, labels)
    run_objectives = Objectives()  # older runs recorded no objectives: they were all tuned for F1
    if "thresholds" in run.details:
        run_objectives = parse_objectives(run.details["thresholds"].get("goals"), where=str(folder / RUN_FILE))
    objectives = objectives or run_objectives
    source = _load_model(folder, labels, policy or run.long_text, run.max_length)
    source = replace(
        source,
        provenance=source.provenance | {key: run.details[key] for key in RUN_PROVENANCE if key in run.details},
        metrics=run.metrics if objectives == run_objectives else {},  # measured at the thresholds of its objectives
        run_details=run.details,
        run_scores=() if validation or not (folder / SCORES_FILE).exists() else read_heldout_scores(folder, labels),
    )
    return _with_validation(source, validation or _read_run_texts(folder, objectives, labels), objectives)


def _load_checkpoint(
    folder: Path, validation: Dataset | None, policy: Policy | None, objectives: Objectives | None
) -> ExportSource:
    """Load a checkpoint that was trained elsewhere."""
    source = _load_model(folder, read_checkpoint_labels(folder), policy or "window")
    if validation is not None:
        return _with_validation(source, validation, objectives or Objectives())
    if objectives is not None:
        objectives.for_labels(source.labels)
        raise InputError("thresholds for an objective need labelled texts. Name them with --validation DATA.")
    return source


def _load_model(folder: Path, labels: tuple[str, ...], policy: Policy, max_length: int | None = None) -> ExportSource:
    """Load model and tokenizer, with the probes as texts."""
    model = _load_complete_model(folder)
    tokenizer = checkpoint.load_tokenizer(str(folder))
    max_length = max_length or checkpoint.default_max_length(model.config)
    long_text = checkpoint.make_long_text(max_length, "window" if policy == "error" else policy)
    return ExportSource(
        model=model,
        tokenizer=tokenizer,
        runtime_tokenizer=checkpoint.to_runtime_tokenizer(tokenizer, max_length, long_text),
        policy=policy,
        labels=labels,
        texts=PROBES,
        targets=None,
        holdout=np.zeros(0, dtype=bool),
        objectives=Objectives(),
        provenance={"checkpoint": checkpoint.public_name(str(folder))},
    )


def _with_validation(source: ExportSource, validation: Dataset, objectives: Objectives) -> ExportSource:
    """Return the source with validation texts in place of the probes, some held out if an objective is a guarantee."""
    objectives.for_labels(source.labels)
    rows = validation.reorder(source.labels)
    if GUARANTEE_SPLIT in rows.split:
        check_holdout_size(rows.part(GUARANTEE_SPLIT), objectives)
    elif objectives.need_guarantee:
        rows = hold_out_for_guarantees(replace(rows, split=("validation",) * len(rows)), objectives)
    return replace(
        source,
        texts=rows.texts,
        targets=rows.targets,
        holdout=np.array([name == GUARANTEE_SPLIT for name in rows.split], dtype=bool),
        objectives=objectives,
        provenance={**source.provenance, "validation_sha256": rows.digest()},
    )


def _read_run_texts(folder: Path, objectives: Objectives, labels: Sequence[str]) -> Dataset:
    """Read a run's validation texts, and the texts that it held out if an objective is a guarantee."""
    rows = read_jsonl(folder / VALIDATION_FILE, labels)
    if not objectives.need_guarantee:
        return rows
    if not (folder / GUARANTEE_FILE).exists():
        raise InputError(
            f"{folder} held out no texts for guarantees, and its validation texts selected its best epoch, so they "
            "cannot support one. Name texts that training has not seen with --validation DATA, or train with the "
            "guarantee."
        )
    holdout = read_jsonl(folder / GUARANTEE_FILE, labels)
    split = ("",) * len(rows) + (GUARANTEE_SPLIT,) * len(holdout)
    return Dataset(rows.texts + holdout.texts, np.concatenate([rows.targets, holdout.targets]), rows.labels, split)


def _require_multi_label(folder: Path) -> None:
    """Raise for a checkpoint whose scores must not go through a sigmoid."""
    if not folder.exists():
        raise CheckpointError(f"there is no folder {folder}.{suggest_path(folder)}")
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder} is not a checkpoint: it has no config.json. "
            "Name the folder that manylabel train or a Trainer's save_model wrote."
        )
    problem_type = checkpoint.load_config(str(folder)).problem_type
    if problem_type == checkpoint.MULTI_LABEL:
        return
    if problem_type == "single_label_classification":
        raise CheckpointError(
            f"{folder} was trained for one label per text (softmax); with a sigmoid its scores would be wrong. "
            f"Make it multi-label with: manylabel train DATA --from {folder} --output RUN"
        )
    stated = "no problem_type" if problem_type is None else f"the problem_type {problem_type!r}"
    raise CheckpointError(
        f"{folder}/config.json has {stated}, so it is unknown whether its scores go through a sigmoid. "
        f'If it was trained for several labels per text, set "problem_type": "{checkpoint.MULTI_LABEL}" there; '
        f"otherwise run: manylabel train DATA --from {folder} --output RUN"
    )


def _load_complete_model(folder: Path) -> PreTrainedModel:
    """Load a model, and raise if weights are missing."""
    model, missing = checkpoint.load_model(str(folder))
    if missing:
        raise CheckpointError(
            f"{folder} lacks trained weights for {', '.join(sorted(missing)[:3])} in the shapes that its config.json "
            f"specifies: it is an encoder without a head, or its head is not for {model.config.num_labels} labels. "
            f"Fine-tune it with: manylabel train DATA --model {folder} --output RUN"
        )
    return model


def _read_run(folder: Path, labels: Sequence[str]) -> TrainingRun:
    run = read_run(folder)
    if run.labels != tuple(labels):
        raise CheckpointError(
            f"{folder}: {RUN_FILE} names {len(run.labels)} labels and config.json {len(labels)}, and they are not "
            f"the same in the same order. Retrain, or remove {RUN_FILE} to export a plain checkpoint."
        )
    return run
