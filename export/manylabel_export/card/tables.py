"""The tables of the model card, in Markdown that shows names as they are."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from manylabel.bundle.bundle import Manifest
from manylabel.bundle.certificate import Estimate
from manylabel_train.thresholds.objectives import Objective

MARKDOWN = ("\\", "|", "`", "*", "_", "<", "[", "]")
"""Characters that would format a table's cell or end it; the backslash first."""


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Return a table in Markdown, with its cells escaped.

    >>> print(markdown_table(["label", "threshold"], [["user_name | x", "0.500"]]))
    | label | threshold |
    | --- | --- |
    | user\_name \| x | 0.500 |
    """
    lines = [[_escape(cell) for cell in row] for row in (header, ["---"] * len(header), *rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _escape(text: str) -> str:
    """Escape text that may contain Markdown or line breaks, so that it stays in its cell."""
    for mark in MARKDOWN:
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def code(text: str) -> str:
    """Format text as code."""
    return f"`{text.replace('`', chr(39))}`"


def thresholds_table(manifest: Manifest) -> str:
    """Return the threshold of every label in every variant."""
    rows = [
        [label, *(f"{variant.thresholds[column]:.3f}" for variant in manifest.variants)]
        for column, label in enumerate(manifest.labels)
    ]
    return markdown_table(["label", *(f"thresholds {variant.precision}" for variant in manifest.variants)], rows)


def objectives_table(manifest: Manifest, objectives: Sequence[Objective]) -> str:
    """Return the objective of every label's threshold, and whether it was met."""
    outcome = manifest.source["thresholds"]
    rows = [
        [label, str(objective), _describe_outcome(label, objective, outcome)]
        for label, objective in zip(manifest.labels, objectives, strict=True)
    ]
    return markdown_table(["label", "objective", "on validation texts"], rows)


def _describe_outcome(label: str, objective: Objective, outcome: Mapping[str, Any]) -> str:
    if label in outcome["unmet"]:
        return str(outcome["unmet"][label])
    if label in outcome["bounds"]:
        return f"at least {outcome['bounds'][label]:.3f}"
    return "" if objective.figure == "f_beta" else "met"


def variants_table(manifest: Manifest) -> str:
    """Return the comparison of every evaluated variant with PyTorch."""
    header = [
        *("variant", "for", "greatest difference", "99.9th percentile", "mean difference"),
        *("texts with other labels", "ties", "batch-invariant", "micro-F1", "macro-F1"),
    ]
    return markdown_table(header, [_variant_row(manifest, precision) for precision in manifest.certificate.parity])


def _variant_row(manifest: Manifest, precision: str) -> list[str]:
    parity, written = manifest.certificate.parity[precision], {one.precision: one for one in manifest.variants}
    providers = written[precision].providers if precision in written else ()
    quality = parity.quality
    return [
        precision,
        ", ".join(name.removesuffix("ExecutionProvider") for name in providers) or "not written",
        *(f"{value:.1e}" for value in (parity.max_difference, parity.p999_difference, parity.mean_difference)),
        f"{parity.texts_flipped:,} of {parity.texts_labelled:,} ({parity.flips:.2%})",
        f"{parity.ties:,}",
        f"{parity.alone.same} of {parity.alone.tried}",
        _describe_f1(quality.micro_f1, quality.micro_f1_change) if quality else "not measured",
        _describe_f1(quality.macro_f1, quality.macro_f1_change) if quality else "not measured",
    ]


def _describe_f1(value: Estimate, change: Estimate) -> str:
    return (
        f"{value.value:.4f} ({value.low:.3f} to {value.high:.3f}), change {change.value:+.4f} "
        f"({change.low:+.4f} to {change.high:+.4f})"
    )


def flips_table(manifest: Manifest) -> str:
    """Return the labels that some variant assigns to other texts than PyTorch; "" if there are none."""
    parity = manifest.certificate.parity
    by_label = {label: [each.labels[label] for each in parity.values()] for label in manifest.labels}
    rows = [
        [label, f"{sides[0].given:,}", *(f"+{side.gained} -{side.lost}" for side in sides)]
        for label, sides in by_label.items()
        if any(side.gained or side.lost for side in sides)
    ]
    return markdown_table(["label", "PyTorch", *parity], rows) if rows else ""


def metrics_table(figures: Mapping[str, Any]) -> str:
    """Return the metrics of one split at the threshold 0.5 and at the tuned thresholds."""
    rows = [[name, f"{figures['at_half'][name]:.4f}", f"{figures['tuned'][name]:.4f}"] for name in figures["tuned"]]
    return markdown_table(["metric", "threshold 0.5", "tuned"], rows)


def calibration_table(manifest: Manifest) -> str:
    """Return the calibration error of every label before and after calibration; "" if it was not measured."""
    calibration = manifest.source.get("calibration")
    if not calibration:
        return ""
    errors = {split: calibration["error"][split] for split in ("validation", "test") if split in calibration["error"]}
    columns = [(f"{split}, {time}", errors[split][time]) for split in errors for time in ("before", "after")]
    rows = [["mean of all labels", *(f"{error['mean']:.4f}" for _, error in columns)]]
    for label in manifest.labels:
        values = [error["labels"].get(label) for _, error in columns]
        rows.append([label, *("not measured" if value is None else f"{value:.4f}" for value in values)])
    return markdown_table(["label", *(title for title, _ in columns)], rows)
