"""Options of `train` and `export` for threshold objectives and calibration."""

from collections.abc import Callable
from typing import Any

import click

from manylabel.errors import InputError
from manylabel_train.thresholds.objectives import Figure, Objective, Objectives

FIGURES: dict[str, Figure] = {
    "beta": "f_beta",
    "min_precision": "precision",
    "min_recall": "recall",
    "guarantee_precision": "precision",
    "guarantee_recall": "recall",
}
"""The metric of each option."""

OPTIONS = (
    (
        "beta",
        "B",
        "Tune thresholds for F-beta: 2 weighs recall more, 0.5 precision; LABEL=B for one label.  [default: 1]",
    ),
    ("min_precision", "P", "Keep precision at this minimum and maximise recall, instead of F-beta."),
    ("min_recall", "R", "Keep recall at this minimum and maximise precision, instead of F-beta."),
    ("guarantee_precision", "P", "Guarantee this precision on new texts, with --confidence."),
    ("guarantee_recall", "R", "The same for recall. Half of the validation texts are held out to test guarantees."),
)


def objective_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for threshold objectives to a command; see `parse_objective_options`."""
    command = click.option(
        "--confidence",
        type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
        default=0.95,
        show_default=True,
        help="Of each guarantee: its probability of holding, over the draw of the held-out texts.",
    )(command)
    for name, number, text in reversed(OPTIONS):
        flag = f"--{name.replace('_', '-')}"
        command = click.option(flag, multiple=True, metavar=f"[LABEL=]{number}", help=text)(command)
    return command


def calibration_option(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option for the calibration method."""
    return click.option(
        "--calibrate",
        type=click.Choice(["platt", "temperature", "none"]),
        default=default,
        show_default=True,
        help="Calibrate probabilities on validation texts, at no cost at run time: a scale and shift for each label "
        "that gains by it, or one temperature for all labels. A run is calibrated when it is trained.",
    )


def parse_objective_options(options: dict[str, Any]) -> Objectives | None:
    """Parse the objectives in the options; None if there are none.

    An option with a label's name takes precedence over one for all labels.

    Raises:
        InputError: A value is neither a number nor `LABEL=number`, a number is out of range, or two options give the
            same label an objective.

    Example:
        >>> options = dict.fromkeys(FIGURES, ()) | {"min_recall": ("urgent=0.9",), "confidence": 0.95}
        >>> objectives = parse_objective_options(options)
        >>> str(objectives.named["urgent"]), str(objectives.default)
        ('recall at least 0.9', 'F1')
    """
    by_label: dict[str | None, Objective] = {}
    for option, figure in FIGURES.items():
        for item in options[option]:
            label, value = _parse_item(option, item)
            objective = Objective(figure, value, options["confidence"] if option.startswith("guarantee") else 0.0)
            if label in by_label:
                raise InputError(_describe_conflict(label, by_label[label], objective))
            by_label[label] = objective
    named = {label: objective for label, objective in by_label.items() if label is not None}
    return Objectives(by_label.get(None, Objective()), named) if by_label else None


def _parse_item(option: str, item: str) -> tuple[str | None, float]:
    """Return the label, None for all labels, and the number of `LABEL=number` or `number`."""
    label, equals, number = item.rpartition("=")
    try:
        return (label if equals else None), float(number)
    except ValueError as exc:
        flag = f"--{option.replace('_', '-')}"
        raise InputError(f"{flag} {item!r} is neither a number nor LABEL=number, such as 0.9 or price=0.9.") from exc


def _describe_conflict(label: str | None, one: Objective, other: Objective) -> str:
    whose = "all labels have" if label is None else f"{label!r} has"
    return (
        f"{whose} two objectives, {one} and {other}, but a threshold can have only one. Drop one of them, or name "
        "the label that it is for: LABEL=number."
    )
