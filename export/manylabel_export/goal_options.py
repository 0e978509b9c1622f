"""The options of `train` and `export` that say what thresholds are for."""

from collections.abc import Callable
from typing import Any

import click

from manylabel.errors import InputError
from manylabel_export.goals import Figure, Goal, Goals

FIGURES: dict[str, Figure] = {"beta": "f_beta", "min_precision": "precision", "min_recall": "recall"}
"""By option."""


def goal_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options for what thresholds are chosen for; see `goals_of`."""
    said = (
        ("beta", "B", "Tune thresholds for F-beta: 2 weighs recall more, 0.5 precision; LABEL=B for one label.  "),
        ("min_precision", "P", "A floor on precision, under which recall is the greatest, in place of F-beta."),
        ("min_recall", "R", "A floor on recall, under which precision is the greatest, in place of F-beta."),
    )
    for name, number, text in reversed(said):
        flag, default = f"--{name.replace('_', '-')}", "[default: 1]" if name == "beta" else ""
        command = click.option(flag, multiple=True, metavar=f"[LABEL=]{number}", help=text + default)(command)
    return command


def goals_of(options: dict[str, Any]) -> Goals | None:
    """The goals that the options name; None where they name none.

    An option with a label's name goes before one for all labels.

    Raises:
        InputError: An option is neither a number nor `LABEL=number`, a number is out of range, or two options say
            something of the same label.
    """
    default: Goal | None = None
    named: dict[str, Goal] = {}
    for option, figure in FIGURES.items():
        for item in options[option]:
            label, value = _read(option, item)
            goal, other = Goal(figure, value), named.get(label) if label is not None else default
            if other is not None:
                raise InputError(_two(label, other, goal))
            if label is None:
                default = goal
            else:
                named[label] = goal
    return Goals(default or Goal(), named) if default or named else None


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
