"""The options of `train` and `export` that say what thresholds are for, and how probabilities are calibrated."""

from collections.abc import Callable
from typing import Any

import click

from manylabel.errors import InputError
from manylabel_train.thresholds.objectives import Figure, Goal, Goals

FIGURES: dict[str, Figure] = {
    "beta": "f_beta",
    "min_precision": "precision",
    "min_recall": "recall",
    "guarantee_precision": "precision",
    "guarantee_recall": "recall",
}
"""By option."""

OPTIONS = (
    (
        "beta",
        "B",
        "Tune thresholds for F-beta: 2 weighs recall more, 0.5 precision; LABEL=B for one label.  [default: 1]",
    ),
    ("min_precision", "P", "A floor on precision, under which recall is the greatest, in place of F-beta."),
    ("min_recall", "R", "A floor on recall, under which precision is the greatest, in place of F-beta."),
    ("guarantee_precision", "P", "A floor on precision that holds on new texts with --confidence."),
    ("guarantee_recall", "R", "The same for recall. Half of the validation texts are set aside to prove it by."),
)


def goal_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options for what thresholds are chosen for; see `goals_of`."""
    command = click.option(
        "--confidence",
        type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
        default=0.95,
        show_default=True,
        help="Of each guarantee: the share of draws of the texts set aside in which it holds.",
    )(command)
    for name, number, text in reversed(OPTIONS):
        flag = f"--{name.replace('_', '-')}"
        command = click.option(flag, multiple=True, metavar=f"[LABEL=]{number}", help=text)(command)
    return command


def calibration_option(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """How probabilities are made to mean what they say."""
    return click.option(
        "--calibrate",
        type=click.Choice(["platt", "temperature", "none"]),
        default=default,
        show_default=True,
        help="Make probabilities mean what they say, by validation texts and at no cost in use: a scale and shift "
        "for each label that gains by it, or one temperature for all. A run is calibrated when it is trained.",
    )


def goals_of(options: dict[str, Any]) -> Goals | None:
    """The goals that the options name; None where they name none.

    An option with a label's name goes before one for all labels.

    Raises:
        InputError: An option is neither a number nor `LABEL=number`, a number is out of range, or two options say
            something of the same label.
    """
    by_label: dict[str | None, Goal] = {}
    for option, figure in FIGURES.items():
        for item in options[option]:
            label, value = _read(option, item)
            goal = Goal(figure, value, options["confidence"] if option.startswith("guarantee") else 0.0)
            if label in by_label:
                raise InputError(_two(label, by_label[label], goal))
            by_label[label] = goal
    named = {label: goal for label, goal in by_label.items() if label is not None}
    return Goals(by_label.get(None, Goal()), named) if by_label else None


def _read(option: str, item: str) -> tuple[str | None, float]:
    """The label, None for all, and the number of `LABEL=number` or `number`."""
    label, equals, number = item.rpartition("=")
    try:
        return (label if equals else None), float(number)
    except ValueError as exc:
        flag = f"--{option.replace('_', '-')}"
        raise InputError(f"{flag} {item!r} is neither a number nor LABEL=number, such as 0.9 or price=0.9.") from exc


def _two(label: str | None, one: Goal, other: Goal) -> str:
    whose = "all labels are" if label is None else f"{label!r} is"
    return (
        f"{whose} given two goals, {one} and {other}, and a threshold serves one. Drop one of them, or name "
        "the label that it is for: LABEL=number."
    )
