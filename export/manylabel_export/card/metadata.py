"""What a hub reads of a card: tags, and the figures as its model index has them.

JSON is YAML, so each value is written as JSON. Languages, a licence and a base model on a hub are not known here.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from manylabel.bundle.bundle import Manifest

Metric = Mapping[str, object]

FIGURES = {
    "micro_f1": ("f1", "micro-F1"),
    "macro_f1": ("f1", "macro-F1"),
    "samples_f1": ("f1", "F1 of a text, mean"),
    "subset_accuracy": ("accuracy", "share of texts with all labels right"),
    "macro_average_precision": ("average_precision", "average precision of a label, mean"),
    "macro_roc_auc": ("roc_auc", "area under the ROC curve of a label, mean"),
}
"""What training measures, by the hub's name for such a metric and the one to show."""


def front_matter(manifest: Manifest, name: str) -> Iterator[str]:
    """The lines between the card's dashes, dashes included."""
    yield from ["---", "library_name: manylabel", "pipeline_tag: text-classification"]
    yield from ["tags:", "- multi-label", "- multi-label-classification", "- onnx"]
    if figures := _figures(manifest):
        yield from _model_index(manifest, name, *figures)
    yield "---"


def _figures(manifest: Manifest) -> tuple[str, int, list[Metric]] | None:
    """A split, how many texts it has and the figures on it: those of unseen texts where there are any."""
    for split in ("test", "validation"):
        if said := manifest.metrics.get(split):
            chosen = [(kind, shown, said["tuned"].get(key)) for key, (kind, shown) in FIGURES.items()]
            return split, said["texts"], [_metric(*each) for each in chosen if each[2] is not None]
    parity = manifest.certificate.parity.get("fp32")
    if parity is None or parity.quality is None:
        return None
    quality = parity.quality
    both = [_metric("f1", "micro-F1", quality.micro_f1.value), _metric("f1", "macro-F1", quality.macro_f1.value)]
    return manifest.certificate.data, manifest.certificate.texts, both


def _metric(kind: str, name: str, value: float) -> Metric:
    return {"type": kind, "name": name, "value": value}


def _model_index(manifest: Manifest, name: str, split: str, texts: int, metrics: list[Metric]) -> Iterator[str]:
    seen = ", which the thresholds were chosen on" if split == "validation" and manifest.thresholds_tuned else ""
    data: dict[str, Any] = {"type": "custom", "name": f"{texts:,} {split} texts{seen}", "split": split}
    if digest := manifest.source.get("data", {}).get("sha256"):
        data["revision"] = digest
    shown = "".join(mark if mark.isprintable() else " " for mark in name)  # YAML refuses control characters
    yield from ["model-index:", f"- name: {_json(shown)}", "  results:"]
    yield f"  - task: {_json({'type': 'text-classification', 'name': 'Multi-label text classification'})}"
    yield f"    dataset: {_json(data)}"
    yield "    metrics:"
    yield from (f"    - {_json(metric)}" for metric in metrics)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
