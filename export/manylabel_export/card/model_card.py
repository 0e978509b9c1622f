"""The model card: what a bundle is, how accurate it is, and how to use it."""

import json
from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from manylabel.bundle.bundle import FP32, MANIFEST, Manifest
from manylabel_export.card import tables
from manylabel_train.thresholds.objectives import Objective, Objectives, parse_objectives

HUB_METRICS = {
    "micro_f1": ("f1", "micro-F1"),
    "macro_f1": ("f1", "macro-F1"),
    "samples_f1": ("f1", "F1 of a text, mean"),
    "subset_accuracy": ("accuracy", "share of texts with all labels right"),
    "macro_average_precision": ("average_precision", "average precision of a label, mean"),
    "macro_roc_auc": ("roc_auc", "area under the ROC curve of a label, mean"),
}
"""The metrics of training that the metadata lists: the Hub's name for the type of metric, and the name to show."""


def render_model_card(manifest: Manifest, name: str) -> str:
    """Render a bundle's README.md.

    Args:
        manifest: The bundle's manifest; its list of files is not needed.
        name: The name of the bundle.

    Example:
        >>> from manylabel import Bundle
        >>> card = render_model_card(Bundle.open("bundle").manifest, "support-mail")
        >>> "# support-mail" in card
        True
    """
    origin = manifest.source.get("origin", {})
    objectives = _objectives(manifest)
    return _TEMPLATES.get_template("model_card.md").render(
        name=name,
        manifest=manifest,
        certificate=manifest.certificate,
        metadata=_metadata(manifest, name),
        base=origin.get("carried_from") or origin.get("model") or manifest.source.get("checkpoint", "a checkpoint"),
        labels=tables.thresholds_table(manifest),
        objectives="" if set(objectives) == {Objective()} else tables.objectives_table(manifest, objectives),
        has_guarantees=bool(manifest.source.get("thresholds", {}).get("bounds")),
        variants=tables.variants_table(manifest),
        has_fp32=FP32 in (variant.file for variant in manifest.variants),
        flips=tables.flips_table(manifest),
        vocabulary=manifest.source.get("vocabulary"),
        metrics={split: tables.metrics_table(figures) for split, figures in manifest.metrics.items()},
        calibration=manifest.source.get("calibration"),
        calibration_errors=tables.calibration_table(manifest),
        single_file=manifest.source.get("single_file"),
    )


def _objectives(manifest: Manifest) -> tuple[Objective, ...]:
    """Return the objective of every label's threshold; F1 for bundles that record none."""
    recorded = manifest.source.get("thresholds")
    objectives = parse_objectives(recorded["goals"], where=MANIFEST) if recorded else Objectives()
    return objectives.for_labels(manifest.labels)


def _metadata(manifest: Manifest, name: str) -> str:
    """Return the card's metadata as YAML. Languages, a licence and a base model on the Hub are not known."""
    results = _evaluation_results(manifest)
    data = ModelCardData(
        library_name="manylabel",
        pipeline_tag="text-classification",
        tags=["multi-label", "multi-label-classification", "onnx"],
        model_name=name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml()


def _evaluation_results(manifest: Manifest) -> list[EvalResult]:
    """Return the metrics on unseen texts if there are any, otherwise those on the validation texts."""
    for split in ("test", "validation"):
        if figures := manifest.metrics.get(split):
            return _results(manifest, split, figures["texts"], figures["tuned"])
    parity = manifest.certificate.parity.get("fp32")
    if parity is None or parity.quality is None:
        return []
    values = {"micro_f1": parity.quality.micro_f1.value, "macro_f1": parity.quality.macro_f1.value}
    return _results(manifest, manifest.certificate.data, manifest.certificate.texts, values)


def _results(manifest: Manifest, split: str, texts: int, values: Mapping[str, Any]) -> list[EvalResult]:
    is_tuned = split == "validation" and manifest.thresholds_tuned
    return [
        EvalResult(
            task_type="text-classification",
            task_name="Multi-label text classification",
            dataset_type="custom",
            dataset_name=f"{texts:,} {split} texts" + ", which the thresholds were selected on" * is_tuned,
            dataset_split=split,
            dataset_revision=manifest.source.get("data", {}).get("sha256"),
            metric_type=kind,
            metric_name=shown,
            metric_value=values[key],
        )
        for key, (kind, shown) in HUB_METRICS.items()
        if values.get(key) is not None
    ]


_TEMPLATES = Environment(
    loader=PackageLoader("manylabel_export.card"),
    autoescape=select_autoescape(),  # escapes HTML, not Markdown: `tables` escapes its cells
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters |= {"code": tables.code, "json": lambda value: json.dumps(value, ensure_ascii=False)}
