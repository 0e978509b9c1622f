"""A checkpoint in, a bundle out: trace, fuse, quantise, tune, prove, and only then write."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manylabel import __version__
from manylabel.batching import score
from manylabel.bundle import FORMAT_VERSION, FP32, WEIGHTS, Bundle, Manifest, Probe, SpecialTokens, Variant
from manylabel.errors import InputError
from manylabel.folders import check_free
from manylabel.session import Session
from manylabel.tokenization import Encoding, Policy
from manylabel_export import checkpoint, graph, parity
from manylabel_export.bundle_report import bundle_report
from manylabel_export.bundling import write_bundle
from manylabel_export.calibration import Method
from manylabel_export.choosing import Chosen, Scored, choose_thresholds, guaranteed, warn_of_unmet
from manylabel_export.dataset import Dataset
from manylabel_export.goals import Goals
from manylabel_export.metrics import multilabel_metrics
from manylabel_export.single_file import SingleFile
from manylabel_export.subject import Subject, load_subject
from manylabel_export.thresholds import matched_thresholds
from manylabel_export.training import long_text_for
from manylabel_export.training.judging import calibrate
from manylabel_export.trimming import trim

HALF = 0.5
PACKAGES = ("torch", "transformers", "optimum-onnx", "onnx", "onnxruntime")

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Judged:
    """A graph, its answers on the subject's texts, and the thresholds by which it decides as PyTorch.

    Attributes:
        made: The graph and what is known of it.
        content: It, serialized, with its weights apart where they are too large.
        scores: Its probabilities, shape `(n_texts, n_labels)`.
        thresholds: Shape `(n_labels,)`.
    """

    made: graph.Graph
    content: graph.Packed
    scores: Scores
    thresholds: Scores

    @property
    def file(self) -> str:
        """Its file in the bundle."""
        return _file_of(self.made)

    @property
    def files(self) -> dict[str, bytes]:
        """Its files in the bundle by name."""
        weights = {self.file + WEIGHTS: self.content.weights} if self.content.weights else {}
        return {self.file: self.content.model, **weights}


def _file_of(made: graph.Graph) -> str:
    return FP32 if made.precision == "fp32" else f"model_{made.precision}.onnx"


def export(
    folder: Path | str,
    output: Path | str,
    *,
    validation: Dataset | None = None,
    engine: str = "auto",
    precisions: Sequence[str] = ("fp32", "int8", "fp16"),
    policy: Policy | None = None,
    goals: Goals | None = None,
    calibration: Method = "none",
    corpus: Sequence[str] = (),
    single_file: bool = False,
    limit: int = graph.MAX_BYTES,
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
        ExportError: The model cannot be traced.
    """
    check_free(Path(output), force=force)
    subject = load_subject(Path(folder), validation, policy, goals)
    if calibration != "none":
        subject = _calibrated(subject, calibration)
    expected = None
    if corpus:
        subject, expected = trim(subject, corpus)
    whole = SingleFile.of(subject) if single_file else None
    encodings = subject.reader.encode(subject.texts)
    parity.require_same_tokens(subject.texts, subject.tokenizer, encodings)
    if expected is None:
        expected = checkpoint.predict_proba(subject.model, subject.reader, subject.texts)
    chosen = _chosen(expected, subject)
    thresholds = chosen.thresholds
    graphs = graph.build(
        subject.model, engine=engine, precisions=tuple(dict.fromkeys(("fp32", *precisions))), limit=limit
    )
    judged = [_judge(made, subject, encodings, expected, thresholds, limit) for made in graphs.values()]
    files: dict[str, bytes] = {}
    if whole:
        best = next((one for one in judged if one.made.precision == "int8"), judged[0])
        files, said = whole.make(best.made.proto, best.scores, best.thresholds, best.made.precision, limit=limit)
        subject = replace(subject, source={**subject.source, "single_file": said})
    judged = [one for one in judged if one.made.precision in precisions]
    variants = [_variant(one, subject, expected, thresholds) for one in judged]
    manifest = _manifest(subject, variants, chosen, engine)
    return write_bundle(
        Path(output),
        manifest,
        files | {name: content for one in judged for name, content in one.files.items()},
        subject.model,
        subject.tokenizer,
        report=bundle_report(Path(output).name, manifest, subject, expected, thresholds),
        force=force,
    )


def _judge(
    made: graph.Graph, subject: Subject, encodings: Sequence[Encoding], expected: Scores, thresholds: Scores, limit: int
) -> Judged:
    """Run a graph on the subject's texts. The fp32 graph has to answer as PyTorch and shares its thresholds."""
    content = graph.pack(made.proto, _file_of(made) + WEIGHTS, limit=limit)
    found = _run(made, content, encodings, len(subject.labels))
    if made.precision == "fp32":
        parity.require_equal(subject.texts, subject.labels, expected, found, thresholds)
    elif subject.targets is not None:
        thresholds = matched_thresholds(expected, thresholds, found)
        thresholds = _guaranteed(found, thresholds, subject.targets, subject)
    return Judged(made, content, found, thresholds)


def _guaranteed(found: Scores, thresholds: Scores, targets: Scores, subject: Subject) -> Scores:
    """A variant's thresholds where those of labels with a guarantee are proved anew, by its own scores.

    To decide as PyTorch nearly always does is not enough for a promise (docs/decisions/0009-guarantees.md).
    """
    rows, aside = _scored(found, targets, subject.aside)
    result = thresholds.copy()
    for column, goal in enumerate(subject.goals.of(subject.labels)):
        if goal.confidence:
            proved = guaranteed(column, goal, rows, aside)
            result[column] = proved.threshold
            if proved.bound < goal.value:
                warn_of_unmet({subject.labels[column]: f"{goal}: a variant's scores bear out {proved.bound:.3f}"})
    return result


def _scored(probabilities: Scores, targets: Scores, aside: NDArray[np.bool_]) -> tuple[Scored, Scored | None]:
    """The texts that choices are made by, and those set aside, if any were."""
    rows, proof = (Scored(probabilities[which], targets[which]) for which in (~aside, aside))
    return rows, proof if aside.any() else None


def _calibrated(subject: Subject, method: Method) -> Subject:
    """The subject with its model calibrated, which the graphs are traced from and parity is proved with."""
    if subject.targets is None:
        raise InputError("probabilities are calibrated on labelled texts. Name some with --validation DATA.")
    if subject.source.get("calibration", {}).get("labels"):
        raise InputError("this run was calibrated when it was trained. Leave --calibrate out.")
    rows = Dataset(tuple(subject.texts), subject.targets, subject.labels).take(np.flatnonzero(~subject.aside).tolist())
    found = calibrate(subject.model, subject.reader, {"validation": rows}, method)
    # what the training measured, it measured before
    return replace(subject, source={**subject.source, "calibration": dict(found.details)}, metrics={})


def _chosen(probabilities: Scores, subject: Subject) -> Chosen:
    """Thresholds for the subject's goals; 0.5 where there are no labelled texts to choose them on."""
    if subject.targets is None:
        return Chosen(np.full(probabilities.shape[1], HALF, dtype=np.float32), subject.goals, {}, {})
    rows, aside = _scored(probabilities, subject.targets, subject.aside)
    chosen = choose_thresholds(rows, subject.labels, subject.goals, aside=aside)
    warn_of_unmet(chosen.unmet)
    return chosen


def _run(made: graph.Graph, content: graph.Packed, encodings: Sequence[Encoding], n_labels: int) -> Scores:
    """A graph's probabilities on the CPU, along the way that the runtime goes."""
    weights = {_file_of(made) + WEIGHTS: content.weights}
    session = Session(content.model, device="cpu", optimized=made.precision != "fp32", weights=weights)
    return score([encoding.windows for encoding in encodings], session.run, n_labels=n_labels)


def _variant(one: Judged, subject: Subject, expected: Scores, expected_thresholds: Scores) -> Variant:
    compared = parity.compare(
        expected, one.scores, expected_thresholds=expected_thresholds, found_thresholds=one.thresholds
    )
    figures = compared.as_dict()
    if subject.targets is not None:
        figures["validation"] = multilabel_metrics(
            one.scores[~subject.aside], subject.targets[~subject.aside], one.thresholds
        )
    everywhere = ("CPUExecutionProvider", "CUDAExecutionProvider")
    return Variant(
        precision=one.made.precision,
        file=one.file,
        providers=everywhere if one.made.precision == "fp32" else (one.made.provider,),
        thresholds=tuple(one.thresholds.tolist()),
        parity=figures,
        fusions=dict(one.made.fusions),
        note=one.made.note,
    )


def _manifest(subject: Subject, variants: Sequence[Variant], chosen: Chosen, engine: str) -> Manifest:
    prefix, suffix = checkpoint.special_tokens(subject.tokenizer)
    return Manifest(
        format_version=FORMAT_VERSION,
        labels=subject.labels,
        max_length=subject.reader.max_length,
        long_text=long_text_for(subject.reader.max_length, subject.policy),
        special_tokens=SpecialTokens(tuple(prefix), tuple(suffix)),
        variants=tuple(variants),
        probes=_probes(subject),
        thresholds_tuned=subject.targets is not None,
        source={
            **subject.source,
            **({} if subject.targets is None else {"thresholds": chosen.as_dict()}),
            "engine": graph.resolve_engine(engine),
            "exported_with": {"manylabel": __version__, **{name: _version(name) for name in PACKAGES}},
            "machine": platform.machine(),
        },
        metrics=subject.metrics,
        files={},
    )


def _probes(subject: Subject) -> tuple[Probe, ...]:
    """The probes with PyTorch's answers."""
    rows: list[list[Any]] = checkpoint.predict_proba(subject.model, subject.reader, subject.probes).tolist()
    return tuple(
        Probe(text, dict(zip(subject.labels, row, strict=True))) for text, row in zip(subject.probes, rows, strict=True)
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
