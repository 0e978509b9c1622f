"""The page: what is known of a model, arranged for `templates/report.html`."""

import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from manylabel.bundle.certificate import Certificate, Estimate
from manylabel.bundle.manifest import Variant
from manylabel.system.unicode import valid_unicode
from manylabel_train.evaluation.metrics import multilabel_metrics
from manylabel_train.reporting import svg_charts
from manylabel_train.reporting.heldout_scores import Scored
from manylabel_train.reporting.label_figures import LabelFigures, cooccurrence, label_figures, mistakes, reliability
from manylabel_train.reporting.learning_curves import Learning, learning_of
from manylabel_train.review.suggestion import Suggestion

REPORT_FILE = "report.html"

DRAWN = 48
"""Labels that get pictures of their own; all are in the table, up to `LISTED`."""
LISTED = 500
OPENED = 12
"""Labels whose pictures are open; the others are a click away, so that a phone's page does not go on for ever."""
CROSSED = 14
"""Labels whose co-occurrence is drawn."""
PAIRS = 10
REVIEWED = 50
TEXT_SHOWN, NAME_SHOWN, NAME_DRAWN = 600, 80, 22
FEW = 10
"""Texts with a label below which its figures may well be chance."""


@dataclass(frozen=True, eq=False)
class Material:
    """What a report is made of.

    Attributes:
        title: What the model is called.
        labels: In column order.
        thresholds: One a label.
        splits: What was not trained on, with the model's scores; the last one is drawn. Empty where there is none.
        details: Origin, recipe, log and all else that a run keeps; empty for a checkpoint from elsewhere.
        review: Rows to review, the likeliest wrong first.
        variants: The graphs of a bundle.
        certificate: How they compare with PyTorch; None for a run.
    """

    title: str
    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    splits: tuple[Scored, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    review: tuple[Suggestion, ...] = ()
    variants: tuple[Variant, ...] = ()
    certificate: Certificate | None = None


def render(material: Material) -> str:
    """The whole page.

    It holds no script and forbids any, asks for nothing outside itself, and shows every text and name as text.
    """
    judged = material.splits[-1] if material.splits else None
    return _TEMPLATES.get_template("report.html").render(
        title=material.title,
        labels=material.labels,
        metrics={scored.split: _metrics(scored, material.thresholds) for scored in material.splits},
        tuned=len(set(material.thresholds)) > 1 or material.thresholds[0] != 0.5,
        origin=_origin(material.details),
        training=material.details.get("data", {}).get("training_positives", {}),
        trained_on=material.details.get("data", {}).get("texts", {}).get("train"),
        judged=_judged(material, judged) if judged is not None else None,
        learning=learning_of(material.details),
        draw_learning=_draw_learning,
        review=material.review[:REVIEWED],
        reviewed=len(material.review),
        variants=material.variants,
        made=_made(material.details),
        certificate=material.certificate,
        leaks=material.details.get("splits", {}).get("leaks", {}),
        splits_made=material.details.get("splits", {}).get("made"),
        digest=material.details.get("data", {}).get("sha256"),
    )


def _judged(material: Material, scored: Scored) -> dict[str, Any]:
    """All that is said of the split that is drawn."""
    figures = label_figures(scored, material.labels, material.thresholds)
    ranked = sorted(figures, key=lambda one: (-one.support, one.label))
    errors = [one.calibration_error for one in figures if not math.isnan(one.calibration_error)]
    decided = (scored.scores >= np.asarray(material.thresholds, dtype=np.float32)) & scored.known
    rows = max(int(scored.known.any(axis=1).sum()), 1)
    bins = reliability(scored)
    return {
        "split": scored.split,
        "texts": len(scored.scores),
        "unknown": int((~scored.known).sum()),
        "calibration_error": float(np.mean(errors)) if errors else 0.0,
        "per_text": (float(scored.truth.sum()) / rows, float(decided.sum()) / rows),
        "listed": ranked[:LISTED],
        "drawn": [one for one in ranked if len(one.recalls)][:DRAWN],
        "drawable": sum(bool(len(one.recalls)) for one in ranked),
        "bins": bins,
        "reliability": svg_charts.reliability_diagram(bins),
        "findings": list(_findings(ranked)),
        "crossed": _crossed(material.labels, scored, decided, ranked),
        "mistakes": mistakes(scored, material.labels, material.thresholds),
    }


def _metrics(scored: Scored, thresholds: Sequence[float]) -> dict[str, Any]:
    return {
        "texts": len(scored.scores),
        "at_half": multilabel_metrics(scored.scores, scored.targets),
        "tuned": multilabel_metrics(scored.scores, scored.targets, thresholds),
    }


def _findings(ranked: Sequence[LabelFigures]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Sentences that a reader would come to after an hour with the tables, each with the labels that it is about."""
    enough = [one for one in ranked if one.support >= FEW]
    weak = sorted((one for one in enough if one.f1 < 0.7), key=lambda one: one.f1)[:5]
    if weak:
        yield "Hardest to find:", [(one.label, f"F1 {one.f1:.2f}") for one in weak]
    often = sorted((one for one in enough if one.given > 1.5 * one.support), key=lambda one: -one.given / one.support)
    if often:
        yield (
            "Given much more often than it is there:",
            [(one.label, f"{one.given} for {one.support}") for one in often[:5]],
        )
    seldom = sorted((one for one in enough if one.given * 1.5 < one.support), key=lambda one: one.given / one.support)
    if seldom:
        yield (
            "Given much less often than it is there:",
            [(one.label, f"{one.given} for {one.support}") for one in seldom[:5]],
        )
    few = [one for one in ranked if one.support < FEW]
    if few:
        yield (
            f"Fewer than {FEW} texts to be judged by, so that their figures may be chance:",
            [(one.label, f"{one.support}") for one in few[:12]]
            + ([(f"and {len(few) - 12} more", "")] if len(few) > 12 else []),
        )


def _crossed(labels: Sequence[str], scored: Scored, decided: Any, ranked: Sequence[LabelFigures]) -> Any:
    """Which labels come together, as given and as predicted; None where there is no pair to show."""
    names = [one.label for one in ranked if one.support][:CROSSED]
    whole = scored.known.all(axis=1)  # where a label is unknown nobody knows what it comes with
    if len(names) < 2 or not whole.any():
        return None
    columns = [labels.index(name) for name in names]
    given, predicted = (cooccurrence(each[whole][:, columns]) for each in (scored.truth, decided))
    short = [_clipped(name, NAME_DRAWN) for name in names]
    off = np.abs(given - predicted)
    np.fill_diagonal(off, -1)
    pairs = [np.unravel_index(at, off.shape) for at in np.argsort(-off, axis=None, kind="stable")[:PAIRS]]
    return {
        "given": svg_charts.heatmap(given, short, said="How often labels come together in the data; numbers below."),
        "predicted": svg_charts.heatmap(predicted, short, said="How often they are predicted together; numbers below."),
        "pairs": [
            (names[row], names[column], given[row, column], predicted[row, column])
            for row, column in pairs
            if off[row, column] > 0
        ],
        "left": sum(bool(one.support) for one in ranked) - len(names),
    }


def _origin(details: Mapping[str, Any]) -> str:
    origin = details.get("origin", {})
    return str(origin.get("carried_from") or origin.get("model") or "")


def _made(details: Mapping[str, Any]) -> dict[str, Any]:
    """What else there is to say of a run's making: what has a section of its own is left out, and figures a label."""
    made = {key: value for key, value in details.items() if key not in ("log", "data", "splits")}
    if "calibration" in made:
        kept = {key: value for key, value in made["calibration"].items() if key not in ("labels", "error")}
        errors = made["calibration"].get("error", {}).items()
        made["calibration"] = kept | {
            f"error, {split}": {when: found["mean"] for when, found in both.items()} for split, both in errors
        }
    return made


def _draw_learning(learning: Learning) -> list[tuple[str, list[tuple[str, str]], Markup]]:
    """The charts of training, each with a heading and what its lines are."""
    loss = [("training loss", learning.training_loss), ("validation loss", learning.validation_loss)]
    score = [("macro-F1 at 0.5", learning.macro_f1), ("micro-F1 at 0.5", learning.micro_f1)]
    drawn = []
    for name, series in (("Loss", loss), ("F1 on validation texts", score)):
        present = [(title, points) for title, points in series if points]
        if present:
            legend = [(kind, title) for kind, (title, _) in zip("ab", present, strict=False)]
            drawn.append((name, legend, svg_charts.learning_curve(present, name=name, best=learning.best_epoch)))
    return drawn


def _shown(text: str) -> str:
    """A text as it can stand on a page: not endless, without what is no character or steers a terminal."""
    clipped = _clipped(text, TEXT_SHOWN)
    return "".join(
        "\ufffd" if unicodedata.category(mark) in {"Cc", "Cn"} and mark not in "\n\t" else mark
        for mark in valid_unicode(clipped)
    )


def _name(name: str) -> str:
    return _clipped(name, NAME_SHOWN)


def _clipped(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _figure(value: float | None, digits: int = 2) -> str:
    """A number, or a dash where there is none."""
    return "\N{EN DASH}" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _estimate(figure: Estimate, sign: str = "") -> str:
    """A figure with its interval."""
    return f"{figure.value:{sign}.4f} ({figure.low:{sign}.4f} to {figure.high:{sign}.4f})"


def _flipped(labels: Sequence[str], certificate: Certificate) -> list[str]:
    """The labels that some graph decides otherwise, those most often flipped first, up to `LISTED`."""
    counts = {
        label: sum(one.labels[label].gained + one.labels[label].lost for one in certificate.parity.values())
        for label in labels
    }
    return [label for label in sorted(labels, key=lambda name: -counts[name]) if counts[label]][:LISTED]


def _percent(value: float) -> str:
    return f"{100 * value:.0f}\u00a0%"


def _metric(name: str) -> str:
    """A metric's key as people write it."""
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
_TEMPLATES.filters |= {"shown": _shown, "name": _name, "figure": _figure, "percent": _percent, "metric": _metric}
_TEMPLATES.filters |= {"estimate": _estimate, "flipped": _flipped}
_TEMPLATES.globals |= {
    "precision_recall": svg_charts.precision_recall,
    "histogram": svg_charts.histogram,
    "score_bar": svg_charts.score_bar,
    "OPENED": OPENED,
}
