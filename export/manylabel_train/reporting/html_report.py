"""The HTML page: arranges what is known of a model for `templates/report.html`."""

import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from manylabel.bundle.certificate import Certificate, Estimate
from manylabel.bundle.manifest import Variant
from manylabel.system.unicode import valid_unicode
from manylabel_train.data.label_review import LabelSuggestion
from manylabel_train.evaluation.metrics import multilabel_metrics
from manylabel_train.reporting import svg_charts
from manylabel_train.reporting.heldout_scores import HeldOutScores
from manylabel_train.reporting.report_data import (
    LabelMetrics,
    LearningCurves,
    compute_calibration_bins,
    compute_cooccurrence,
    compute_label_metrics,
    find_worst_errors,
    read_learning_curves,
)

REPORT_FILE = "report.html"

MAX_CHART_LABELS = 48
"""Labels with charts of their own; the table lists up to `MAX_TABLE_LABELS`."""
MAX_TABLE_LABELS = 500
OPEN_CHARTS = 12
"""Labels whose charts are open; the others are collapsed, to keep the page short on a phone."""
MAX_MATRIX_LABELS = 14
"""Labels in the co-occurrence matrices."""
MAX_PAIRS = 10
MAX_REVIEW_ROWS = 50
MAX_TEXT_LENGTH, MAX_NAME_LENGTH, MAX_CHART_NAME_LENGTH = 600, 80, 22
MIN_SUPPORT = 10
"""With fewer texts, a label's metrics may well be due to chance."""


@dataclass(frozen=True, eq=False)
class ReportContent:
    """The content of a report.

    Attributes:
        title: The model's name.
        labels: The labels in column order.
        thresholds: One per label.
        splits: The held-out splits with the model's scores; the report shows the last one. May be empty.
        details: Origin, configuration, log and everything else that a run records; empty for a checkpoint that was
            trained elsewhere.
        review: Rows to review, most likely wrong first.
        variants: The graphs of a bundle.
        certificate: How they compare with PyTorch; `None` for a run.
    """

    title: str
    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    splits: tuple[HeldOutScores, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    review: tuple[LabelSuggestion, ...] = ()
    variants: tuple[Variant, ...] = ()
    certificate: Certificate | None = None


def render_report(content: ReportContent) -> str:
    """Return the page.

    It contains no scripts and forbids them, loads nothing, and escapes every text and name.

    Example:
        >>> page = render_report(ReportContent("reviews", labels=("price", "delivery"), thresholds=(0.5, 0.4)))
        >>> page[:15]
        '<!doctype html>'
    """
    held_out = content.splits[-1] if content.splits else None
    return _TEMPLATES.get_template("report.html").render(
        title=content.title,
        labels=content.labels,
        metrics={split.split: _split_metrics(split, content.thresholds) for split in content.splits},
        tuned=len(set(content.thresholds)) > 1 or content.thresholds[0] != 0.5,
        origin=_origin(content.details),
        training=content.details.get("data", {}).get("training_positives", {}),
        trained_on=content.details.get("data", {}).get("texts", {}).get("train"),
        evaluation=_evaluate(content, held_out) if held_out is not None else None,
        learning=read_learning_curves(content.details),
        draw_learning=_draw_learning,
        review=content.review[:MAX_REVIEW_ROWS],
        reviewed=len(content.review),
        variants=content.variants,
        run_details=_run_details(content.details),
        certificate=content.certificate,
        leaks=content.details.get("splits", {}).get("leaks", {}),
        splits_made=content.details.get("splits", {}).get("made"),
        digest=content.details.get("data", {}).get("sha256"),
    )


def _evaluate(content: ReportContent, held_out: HeldOutScores) -> dict[str, Any]:
    """Return what the page shows of the held-out split."""
    metrics = compute_label_metrics(held_out, content.labels, content.thresholds)
    by_support = sorted(metrics, key=lambda each: (-each.support, each.label))
    with_curve = [each for each in by_support if len(each.recalls)]
    errors = [each.calibration_error for each in metrics if not math.isnan(each.calibration_error)]
    decided = (held_out.scores >= np.asarray(content.thresholds, dtype=np.float32)) & held_out.known
    rows = max(int(held_out.known.any(axis=1).sum()), 1)
    bins = compute_calibration_bins(held_out)
    return {
        "split": held_out.split,
        "texts": len(held_out.scores),
        "unknown": int((~held_out.known).sum()),
        "calibration_error": float(np.mean(errors)) if errors else 0.0,
        "labels_per_text": (float(held_out.truth.sum()) / rows, float(decided.sum()) / rows),
        "table": by_support[:MAX_TABLE_LABELS],
        "charts": with_curve[:MAX_CHART_LABELS],
        "n_with_curve": len(with_curve),
        "bins": bins,
        "reliability": svg_charts.draw_reliability(bins),
        "findings": list(_findings(by_support)),
        "cooccurrence": _compare_cooccurrence(content.labels, held_out, decided, by_support),
        "errors": find_worst_errors(held_out, content.labels, content.thresholds),
    }


def _split_metrics(held_out: HeldOutScores, thresholds: Sequence[float]) -> dict[str, Any]:
    return {
        "texts": len(held_out.scores),
        "at_half": multilabel_metrics(held_out.scores, held_out.targets),
        "tuned": multilabel_metrics(held_out.scores, held_out.targets, thresholds),
    }


def _findings(by_support: Sequence[LabelMetrics]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield what a reader would notice after an hour with the tables: a sentence and the labels it is about."""
    supported = [each for each in by_support if each.support >= MIN_SUPPORT]
    weak = sorted((each for each in supported if each.f1 < 0.7), key=lambda each: each.f1)[:5]
    if weak:
        yield "Hardest to predict:", [(each.label, f"F1 {each.f1:.2f}") for each in weak]
    ratio = {each.label: each.predicted / each.support for each in supported}
    for sentence, labels in (
        (
            "Predicted much more often than present:",
            sorted((each for each in supported if ratio[each.label] > 1.5), key=lambda each: -ratio[each.label]),
        ),
        (
            "Predicted much less often than present:",
            sorted((each for each in supported if ratio[each.label] * 1.5 < 1), key=lambda each: ratio[each.label]),
        ),
    ):
        if labels:
            yield sentence, [(each.label, f"{each.predicted} for {each.support}") for each in labels[:5]]
    rare = [each for each in by_support if each.support < MIN_SUPPORT]
    if rare:
        more = [(f"and {len(rare) - 12} more", "")] if len(rare) > 12 else []
        yield (
            f"Evaluated on fewer than {MIN_SUPPORT} texts, so that their metrics may be due to chance:",
            [*((each.label, f"{each.support}") for each in rare[:12]), *more],
        )


def _compare_cooccurrence(
    labels: Sequence[str], held_out: HeldOutScores, decided: NDArray[np.bool_], by_support: Sequence[LabelMetrics]
) -> dict[str, Any] | None:
    """Return which labels occur together, as given and as predicted; `None` if there are no pairs to show."""
    names = [each.label for each in by_support if each.support][:MAX_MATRIX_LABELS]
    complete = held_out.known.all(axis=1)  # with an unknown label, the row's combination is unknown
    if len(names) < 2 or not complete.any():
        return None
    columns = [labels.index(name) for name in names]
    given, predicted = (compute_cooccurrence(each[complete][:, columns]) for each in (held_out.truth, decided))
    short = [_clip(name, MAX_CHART_NAME_LENGTH) for name in names]
    difference = np.abs(given - predicted)
    np.fill_diagonal(difference, -1)
    order = np.argsort(-difference, axis=None, kind="stable")[:MAX_PAIRS]
    pairs = [np.unravel_index(index, difference.shape) for index in order]
    return {
        "given": svg_charts.draw_heatmap(
            given, short, description="How often labels occur together in the data; the numbers are below."
        ),
        "predicted": svg_charts.draw_heatmap(
            predicted, short, description="How often they are predicted together; the numbers are below."
        ),
        "pairs": [
            (names[row], names[column], given[row, column], predicted[row, column])
            for row, column in pairs
            if difference[row, column] > 0
        ],
        "left_out": sum(bool(each.support) for each in by_support) - len(names),
    }


def _origin(details: Mapping[str, Any]) -> str:
    origin = details.get("origin", {})
    return str(origin.get("carried_from") or origin.get("model") or "")


def _run_details(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's details, except for those with a section of their own and those by label."""
    shown = {key: value for key, value in details.items() if key not in ("log", "data", "splits")}
    if "calibration" in shown:
        calibration = shown["calibration"]
        shown["calibration"] = {key: value for key, value in calibration.items() if key not in ("labels", "error")} | {
            f"error, {split}": {when: errors["mean"] for when, errors in both.items()}
            for split, both in calibration.get("error", {}).items()
        }
    return shown


def _draw_learning(curves: LearningCurves) -> list[tuple[str, list[tuple[str, str]], Markup]]:
    """Return the charts of training, each with a heading and a legend."""
    loss = [("training loss", curves.training_loss), ("validation loss", curves.validation_loss)]
    score = [("macro-F1 at 0.5", curves.macro_f1), ("micro-F1 at 0.5", curves.micro_f1)]
    charts = []
    for name, series in (("Loss", loss), ("F1 on validation texts", score)):
        present = [(title, points) for title, points in series if points]
        if present:
            legend = [(kind, title) for kind, (title, _) in zip("ab", present, strict=False)]
            charts.append((name, legend, svg_charts.draw_learning_curves(present, name=name, best=curves.best_epoch)))
    return charts


def _show_text(text: str) -> str:
    """Return a text that can be shown on a page: of limited length, without control characters."""
    return "".join(
        "\ufffd" if unicodedata.category(character) in {"Cc", "Cn"} and character not in "\n\t" else character
        for character in valid_unicode(_clip(text, MAX_TEXT_LENGTH))
    )


def _show_name(name: str) -> str:
    return _clip(name, MAX_NAME_LENGTH)


def _clip(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _show_number(value: float | None, digits: int = 2) -> str:
    """Return a number, or a dash for NaN and None."""
    return "\N{EN DASH}" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _show_estimate(estimate: Estimate, sign: str = "") -> str:
    """Return an estimate with its confidence interval."""
    return f"{estimate.value:{sign}.4f} ({estimate.low:{sign}.4f} to {estimate.high:{sign}.4f})"


def _flipped_labels(labels: Sequence[str], certificate: Certificate) -> list[str]:
    """Return the labels with flipped decisions, most flips first, up to `MAX_TABLE_LABELS`."""
    counts = {
        label: sum(each.labels[label].gained + each.labels[label].lost for each in certificate.parity.values())
        for label in labels
    }
    return [label for label in sorted(labels, key=lambda name: -counts[name]) if counts[label]][:MAX_TABLE_LABELS]


def _show_percent(value: float) -> str:
    return f"{100 * value:.0f}\u00a0%"


def _show_metric(name: str) -> str:
    """Return a metric's key as people write it."""
    for key, written in (("_f1", "-F1"), ("roc_auc", "ROC-AUC"), ("_", " ")):
        name = name.replace(key, written)
    return name


_TEMPLATES = Environment(
    loader=PackageLoader("manylabel_train.reporting"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {
    "shown": _show_text,
    "name": _show_name,
    "number": _show_number,
    "percent": _show_percent,
    "metric": _show_metric,
    "estimate": _show_estimate,
    "flipped": _flipped_labels,
}
_TEMPLATES.globals |= {
    "draw_precision_recall": svg_charts.draw_precision_recall,
    "draw_histogram": svg_charts.draw_histogram,
    "draw_score_bar": svg_charts.draw_score_bar,
    "OPEN_CHARTS": OPEN_CHARTS,
}
