"""The export pipeline: load a checkpoint, build and evaluate its graphs, and only then write a bundle."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manylabel.bundle.bundle import FORMAT_VERSION, Bundle, Manifest, Probe, SpecialTokens
from manylabel.bundle.certificate import Budget
from manylabel.bundle.manifest import PRECISIONS
from manylabel.certify.parity import VariantScores
from manylabel.drift.baseline import BASELINE_FILE, ScoreBaseline
from manylabel.errors import InputError
from manylabel.inference.tokenizer import Policy
from manylabel.system.atomic_write import check_output_free
from manylabel_export.bundle_writer import BundleContent, write_bundle
from manylabel_export.evaluator import ParityEvaluator, require_same_tokens, split_holdout
from manylabel_export.graph.ir.external_data import WeightStore
from manylabel_export.graph.ir.serialization import MAX_BYTES
from manylabel_export.graph.torch_export import resolve_engine
from manylabel_export.single_file import SingleFileBuilder
from manylabel_export.source import ExportSource, load_export_source
from manylabel_export.variants import VariantSet, build_variants
from manylabel_export.vocabulary_pruning.model import prune_vocabulary
from manylabel_train.calibration.fit import CalibrationMethod, calibrate_model
from manylabel_train.data.dataset import Dataset
from manylabel_train.models import checkpoint
from manylabel_train.reporting.heldout_scores import HeldOutScores
from manylabel_train.reporting.html_report import ReportContent, render_report
from manylabel_train.thresholds.objectives import Objectives
from manylabel_train.thresholds.selection import ThresholdSelection, select_thresholds, warn_about_unmet

DEFAULT_THRESHOLD = 0.5
DEFAULT_BUDGET = Budget()

Scores = NDArray[np.float32]


def export(
    folder: Path | str,
    output: Path | str,
    *,
    validation: Dataset | None = None,
    engine: str = "auto",
    precisions: Sequence[str] = PRECISIONS,
    policy: Policy | None = None,
    objectives: Objectives | None = None,
    calibration: CalibrationMethod = "none",
    budget: Budget | None = DEFAULT_BUDGET,
    corpus: Sequence[str] = (),
    single_file: bool = False,
    limit: int = MAX_BYTES,
    force: bool = False,
) -> Bundle:
    """Export a multi-label checkpoint as a bundle, after checking its graphs against PyTorch.

    Args:
        folder: A run of `manylabel train`, or any multi-label sequence classifier of Hugging Face.
        output: The bundle's folder.
        validation: Labelled texts that the model was not trained on, for thresholds and parity. A run brings its own.
            Without them thresholds are 0.5, the bundle says so, and parity is checked on the probes.
        engine: The tracing engine: `"optimum"`, `"torch"`, or `"auto"`: optimum if it is installed.
        precisions: The variants to write. The fp32 graph is always built and checked.
        policy: What happens to texts beyond `max_length`. By default what the run was trained for, and `"window"` for
            other checkpoints.
        objectives: What thresholds are selected for. By default the run's objectives, and F1 for other checkpoints.
        calibration: The calibration method for a checkpoint that was trained elsewhere; a run is calibrated in
            training.
        budget: How far a variant may differ from PyTorch on the validation texts. A variant that exceeds it or fails a
            probe keeps its most harmful layers in fp32. If that does not suffice it is left out, and the certificate
            says why. None: only the probes are checked.
        corpus: Texts whose tokens the vocabulary is pruned to; empty to keep all tokens.
        single_file: Also write a graph that takes text.
        limit: Largest size of the weights inside a graph, in bytes; larger weights go into a second file.
        force: Replace an existing output.

    Returns:
        The bundle.

    Raises:
        OutputExists: The output exists.
        CheckpointError: The checkpoint is not a multi-label classifier.
        LabelMismatch: The labels of the validation texts differ from the model's.
        UnknownLabel: An objective is for a label that the model does not have.
        InputError: There are objectives or a calibration, but no validation texts.
        ParityError: The fp32 graph differs from PyTorch. Nothing is written.
        BudgetExceeded: Every requested variant exceeds its budget. Nothing is written.
        ExportError: The model cannot be traced.

    Example:
        >>> bundle = export("run", "bundle-fp32", precisions=["fp32"])
        >>> bundle.labels, list(bundle.variants)
        (('billing', 'delivery', 'price', 'user experience'), ['fp32'])
    """
    output = Path(output)
    check_output_free(output, force=force)
    source = load_export_source(Path(folder), validation, policy, objectives)
    if calibration != "none":
        source = _calibrate(source, calibration)
    scores: Scores | None = None
    if corpus:
        source, scores = prune_vocabulary(source, corpus)
    single_file_builder = SingleFileBuilder(source) if single_file else None
    if scores is None:
        scores = checkpoint.predict_proba(source.model, source.runtime_tokenizer, source.texts)
    encodings = source.runtime_tokenizer.encode(source.texts)
    require_same_tokens(source.texts, source.tokenizer, encodings)
    selection = _select_thresholds(scores, source)
    reference = VariantScores(scores, selection.thresholds)
    evaluator = ParityEvaluator(source, encodings, reference, _score_probes(source), limit)
    variant_budget = None if source.targets is None else budget  # half a dozen probes are too few to measure F1 on
    with TemporaryDirectory() as scratch:
        variants = build_variants(evaluator, engine, precisions, variant_budget, WeightStore(Path(scratch)))
        files = _score_baseline(source, reference)
        if single_file_builder:
            text_graph, details = single_file_builder.build(variants.best_on_cpu, evaluator)
            files |= text_graph
            source = replace(source, provenance={**source.provenance, "single_file": details})
        manifest = _manifest(source, variants, selection, evaluator.probes, engine)
        report = _render_report(output.name, manifest, source, reference)
        content = BundleContent(manifest, variants.graphs, source.model, source.tokenizer, report, files)
        return write_bundle(output, content, limit=limit, force=force)


def _calibrate(source: ExportSource, method: CalibrationMethod) -> ExportSource:
    """Calibrate the model, which graphs are then traced from and compared with."""
    if source.targets is None:
        raise InputError("calibration needs labelled texts. Name them with --validation DATA.")
    if source.provenance.get("calibration", {}).get("labels"):
        raise InputError("this run was calibrated in training. Leave --calibrate out.")
    data = Dataset(tuple(source.texts), source.targets, source.labels)
    rows = data.take(np.flatnonzero(~source.holdout).tolist())
    result = calibrate_model(source.model, source.runtime_tokenizer, {"validation": rows}, method)
    provenance = {**source.provenance, "calibration": dict(result.details)}
    return replace(source, provenance=provenance, metrics={})  # training measured them before the calibration


def _select_thresholds(scores: Scores, source: ExportSource) -> ThresholdSelection:
    """Select thresholds for the source's objectives; 0.5 without labelled texts."""
    if source.targets is None:
        thresholds = np.full(scores.shape[1], DEFAULT_THRESHOLD, dtype=np.float32)
        return ThresholdSelection(thresholds, source.objectives, {}, {})
    rows, holdout = split_holdout(scores, source.targets, source.holdout)
    selection = select_thresholds(rows, source.labels, source.objectives, holdout=holdout)
    warn_about_unmet(selection.unmet)
    return selection


def _score_probes(source: ExportSource) -> tuple[Probe, ...]:
    """Return the probes with PyTorch's probabilities."""
    scores = checkpoint.predict_proba(source.model, source.runtime_tokenizer, source.probes).tolist()
    return tuple(
        Probe(text, dict(zip(source.labels, row, strict=True))) for text, row in zip(source.probes, scores, strict=True)
    )


def _score_baseline(source: ExportSource, reference: VariantScores) -> dict[str, bytes]:
    """Return the file with the distribution of validation scores, for drift detection; none without such texts."""
    if source.targets is None or not len(reference.probabilities):  # half a dozen probes are not a distribution
        return {}
    baseline = ScoreBaseline.from_scores(source.labels, reference.probabilities, reference.thresholds)
    return {BASELINE_FILE: baseline.to_bytes()}


def _manifest(
    source: ExportSource, variants: VariantSet, selection: ThresholdSelection, probes: Sequence[Probe], engine: str
) -> Manifest:
    """Return the manifest without its list of files."""
    prefix, suffix = checkpoint.special_tokens(source.tokenizer)
    max_length = source.runtime_tokenizer.max_length
    provenance: Mapping[str, Any] = {
        **source.provenance,
        **({} if source.targets is None else {"thresholds": selection.as_dict()}),
        "engine": resolve_engine(engine),
    }
    return Manifest(
        format_version=FORMAT_VERSION,
        labels=source.labels,
        max_length=max_length,
        long_text=checkpoint.make_long_text(max_length, source.policy),
        special_tokens=SpecialTokens(tuple(prefix), tuple(suffix)),
        variants=variants.variants,
        probes=tuple(probes),
        thresholds_tuned=source.targets is not None,
        source=provenance,
        metrics=source.metrics,
        certificate=variants.certificate,
        files={},
    )


def _render_report(name: str, manifest: Manifest, source: ExportSource, reference: VariantScores) -> str:
    """Render the bundle's `report.html`: the run's report without its users' texts, and the parity of the graphs.

    Why without texts: docs/decisions/0006-use-our-own-texts-as-probes.md.
    """
    validation = (
        [] if source.targets is None else [HeldOutScores("validation", reference.probabilities, source.targets)]
    )
    test = [scored.without_texts() for scored in source.run_scores if scored.split == "test"]
    return render_report(
        ReportContent(
            title=name,
            labels=manifest.labels,
            thresholds=tuple(reference.thresholds.tolist()),
            splits=(*validation, *test),
            details=source.run_details,
            variants=manifest.variants,
            certificate=manifest.certificate,
        )
    )
