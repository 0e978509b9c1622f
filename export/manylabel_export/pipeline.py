"""A checkpoint in, a bundle out: trace, fuse, quantise, tune, prove, and only then write."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manylabel.bundle.bundle import FORMAT_VERSION, Bundle, Manifest, Probe, SpecialTokens
from manylabel.bundle.certificate import Budget
from manylabel.certify.parity import VariantScores
from manylabel.errors import InputError
from manylabel.inference.tokenizer import Policy
from manylabel.system.atomic_write import check_output_free
from manylabel_export import parity
from manylabel_export.bundle_writer import write_bundle
from manylabel_export.card.bundle_report import bundle_report
from manylabel_export.evaluator import Judge, scored
from manylabel_export.graph import build
from manylabel_export.score_reference import score_reference
from manylabel_export.single_file import SingleFile
from manylabel_export.source import Subject, load_subject
from manylabel_export.variants import Made, make_variants
from manylabel_export.vocabulary_pruning.model import trim
from manylabel_train.calibration.fit import CalibrationMethod, calibrate_model
from manylabel_train.data.dataset import Dataset
from manylabel_train.models import checkpoint
from manylabel_train.models.checkpoint import make_long_text
from manylabel_train.thresholds.objectives import Objectives
from manylabel_train.thresholds.selection import ThresholdSelection, select_thresholds, warn_about_unmet

HALF = 0.5
BUDGET = Budget()

Scores = NDArray[np.float32]


def export(
    folder: Path | str,
    output: Path | str,
    *,
    validation: Dataset | None = None,
    engine: str = "auto",
    precisions: Sequence[str] = ("fp32", "int8", "fp16"),
    policy: Policy | None = None,
    goals: Objectives | None = None,
    calibration: CalibrationMethod = "none",
    budget: Budget | None = BUDGET,
    corpus: Sequence[str] = (),
    single_file: bool = False,
    limit: int = build.MAX_BYTES,
    force: bool = False,
) -> Bundle:
    """Turn a multi-label checkpoint into a bundle whose answers are proved equal to PyTorch's.

    Args:
        folder: A run of `manylabel train`, or any Hugging Face sequence classifier trained for many labels.
        output: The bundle's folder.
        validation: Labelled texts that the model has not seen, for thresholds and parity; a run brings its own. Without
            them thresholds are 0.5, the bundle says so, and parity is proved on the probes.
        engine: What traces: `"optimum"`, `"torch"`, or `"auto"`: Optimum where it is installed.
        precisions: The variants to write. The fp32 graph is always made and proved, and written if it is among them.
        policy: What happens to texts beyond `max_length`; None for what the run was trained for, and `"window"` for
            other checkpoints.
        goals: What thresholds are chosen for. None: what the run's were; F1 without a run.
        calibration: For a checkpoint that was trained elsewhere; a run was calibrated when it was trained.
        budget: What a variant may differ by from PyTorch on the validation texts. One that is beyond it, or answers a
            probe wrongly, keeps in fp32 what does most harm; where that is not enough it is left out, and the bundle's
            certificate says why. None: the probes alone.
        corpus: Texts whose pieces the vocabulary is trimmed to; empty leaves it whole.
        single_file: Write a graph that takes text, too.
        limit: Bytes of weights that a graph may hold; beyond, a file beside it has them.
        force: Replace an existing output.

    Raises:
        OutputExists: The output is there already.
        CheckpointError: The checkpoint is no multi-label classifier.
        LabelMismatch: The validation texts have other labels.
        UnknownLabel: A goal is for a label that the checkpoint lacks.
        InputError: There are goals or a calibration, and no validation texts.
        ParityError: The fp32 graph answers otherwise than PyTorch. Nothing is written.
        BudgetExceeded: Every variant that was asked for is beyond its budget. Nothing is written.
        ExportError: The model cannot be traced.
    """
    check_output_free(Path(output), force=force)
    subject = load_subject(Path(folder), validation, policy, goals)
    if calibration != "none":
        subject = _calibrated(subject, calibration)
    trimmed = trim(subject, corpus) if corpus else None
    subject = trimmed.subject if trimmed else subject
    whole = SingleFile.of(subject) if single_file else None
    encodings = subject.reader.encode(subject.texts)
    parity.require_same_tokens(subject.texts, subject.tokenizer, encodings)
    probabilities = (
        trimmed.expected if trimmed else checkpoint.predict_proba(subject.model, subject.reader, subject.texts)
    )
    chosen = _chosen(probabilities, subject)
    judge = Judge(subject, encodings, VariantScores(probabilities, chosen.thresholds), _probes(subject), limit)
    allowed = None if subject.targets is None else budget  # half a dozen probes are no evidence
    with TemporaryDirectory() as folder:
        made = make_variants(judge, engine, precisions, allowed, build.Store(Path(folder)))
        files = dict(score_reference(subject, probabilities, chosen.thresholds))
        if whole:
            content, said = whole.make(made.best, judge)
            files |= content
            subject = replace(subject, source={**subject.source, "single_file": said})
        manifest = _manifest(subject, made, chosen, judge.probes, engine)
        return write_bundle(
            Path(output),
            manifest,
            made.graphs,
            files,
            subject.model,
            subject.tokenizer,
            report=bundle_report(Path(output).name, manifest, subject, probabilities, chosen.thresholds),
            limit=limit,
            force=force,
        )


def _calibrated(subject: Subject, method: CalibrationMethod) -> Subject:
    """The subject with its model calibrated, which the graphs are traced from and parity is proved with."""
    if subject.targets is None:
        raise InputError("probabilities are calibrated on labelled texts. Name some with --validation DATA.")
    if subject.source.get("calibration", {}).get("labels"):
        raise InputError("this run was calibrated when it was trained. Leave --calibrate out.")
    rows = Dataset(tuple(subject.texts), subject.targets, subject.labels).take(np.flatnonzero(~subject.aside).tolist())
    found = calibrate_model(subject.model, subject.reader, {"validation": rows}, method)
    # what the training measured, it measured before
    return replace(subject, source={**subject.source, "calibration": dict(found.details)}, metrics={})


def _chosen(probabilities: Scores, subject: Subject) -> ThresholdSelection:
    """Thresholds for the subject's goals; 0.5 where there are no labelled texts to choose them on."""
    if subject.targets is None:
        return ThresholdSelection(np.full(probabilities.shape[1], HALF, dtype=np.float32), subject.goals, {}, {})
    rows, aside = scored(probabilities, subject.targets, subject.aside)
    chosen = select_thresholds(rows, subject.labels, subject.goals, holdout=aside)
    warn_about_unmet(chosen.unmet)
    return chosen


def _manifest(
    subject: Subject, made: Made, chosen: ThresholdSelection, probes: Sequence[Probe], engine: str
) -> Manifest:
    prefix, suffix = checkpoint.special_tokens(subject.tokenizer)
    return Manifest(
        format_version=FORMAT_VERSION,
        labels=subject.labels,
        max_length=subject.reader.max_length,
        long_text=make_long_text(subject.reader.max_length, subject.policy),
        special_tokens=SpecialTokens(tuple(prefix), tuple(suffix)),
        variants=made.variants,
        probes=tuple(probes),
        thresholds_tuned=subject.targets is not None,
        source={
            **subject.source,
            **({} if subject.targets is None else {"thresholds": chosen.as_dict()}),
            "engine": build.resolve_engine(engine),
        },
        metrics=subject.metrics,
        certificate=made.certificate,
        files={},
    )


def _probes(subject: Subject) -> tuple[Probe, ...]:
    """The probes with PyTorch's answers."""
    rows: list[list[Any]] = checkpoint.predict_proba(subject.model, subject.reader, subject.probes).tolist()
    return tuple(
        Probe(text, dict(zip(subject.labels, row, strict=True))) for text, row in zip(subject.probes, rows, strict=True)
    )
