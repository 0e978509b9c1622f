"""Options for the columns of a file of labelled texts, and the dataset that they describe."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for the columns of a file of labelled texts to a command."""
    options = (
        click.option("--text-column", default="text", show_default=True, help="Column of texts."),
        click.option(
            "--labels-column",
            default="labels",
            show_default=True,
            help="Column of labels: a list, or a string with separators.",
        ),
        click.option(
            "--label-columns", metavar="A,B,...", help="One 0/1 column per label, instead of a labels column."
        ),
        click.option("--separator", default="|", show_default=True, help="Separator of labels in a string."),
        click.option(
            "--unlisted",
            type=click.Choice(["absent", "unknown"]),
            default="absent",
            show_default=True,
            help="The value of labels that a row does not list, unless the row has a 'known' list.",
        ),
        click.option(
            "--split-column",
            default="split",
            show_default=True,
            help="Column of splits: train, validation (dev) or test; may be missing.",
        ),
        click.option(
            "--labels",
            "label_names",
            metavar="A,B,...",
            help='The labels that may occur, in column order; "in, quotes" if one has a comma.  '
            "[default: those that occur]",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def read_data(path: Path, options: dict[str, Any], *, labels: tuple[str, ...] = ()) -> Any:
    """Read the dataset that the options describe.

    Args:
        path: The file.
        options: The values of `data_options`.
        labels: The labels that may occur if the options do not name any.
    """
    from manylabel.data.labeled_data import Columns
    from manylabel_train.data.dataset import read_dataset

    columns = Columns(
        text=options["text_column"],
        labels=options["labels_column"],
        indicators=parse_names(options["label_columns"]),
        separator=options["separator"],
        split=options["split_column"],
        unlisted=options["unlisted"],
    )
    return read_dataset(path, columns, labels=parse_names(options["label_names"]) or labels)


def parse_names(names: str | None) -> tuple[str, ...]:
    """Parse a comma-separated list of names, quoted as in CSV.

    Example:
        >>> parse_names('price, "speed, delivery"')
        ('price', 'speed, delivery')
    """
    return tuple(name.strip() for name in next(csv.reader([names], skipinitialspace=True))) if names else ()
