"""The options that say where a file of labelled texts keeps what, and the data that they name."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where a file of labelled texts keeps what."""
    options = (
        click.option("--text-column", default="text", show_default=True, help="Holds the texts."),
        click.option(
            "--labels-column", default="labels", show_default=True, help="Holds a separated string or a list."
        ),
        click.option("--label-columns", metavar="A,B,...", help="One 0/1 column a label, in place of a labels column."),
        click.option("--separator", default="|", show_default=True, help="Stands between labels in a string."),
        click.option(
            "--unlisted",
            type=click.Choice(["absent", "unknown"]),
            default="absent",
            show_default=True,
            help="What a label is that a row does not list; rows with a 'known' list say it themselves.",
        ),
        click.option(
            "--split-column",
            default="split",
            show_default=True,
            help="Says train, validation (dev) or test; may be absent.",
        ),
        click.option(
            "--labels",
            "label_names",
            metavar="A,B,...",
            help='The labels that may occur, in column order; "in, quotes" where one has a comma.  '
            "[default: those that occur]",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def read_data(path: Path, options: dict[str, Any], *, labels: tuple[str, ...] = ()) -> Any:
    """The data that the options name; `labels` are the ones that may occur where the options do not say."""
    from manylabel_train.data.io import Columns, read

    columns = Columns(
        text=options["text_column"],
        labels=options["labels_column"],
        indicators=names_in(options["label_columns"]),
        separator=options["separator"],
        split=options["split_column"],
        unlisted=options["unlisted"],
    )
    return read(path, columns, labels=names_in(options["label_names"]) or labels)


def names_in(names: str | None) -> tuple[str, ...]:
    """The names in a line of CSV."""
    return tuple(name.strip() for name in next(csv.reader([names], skipinitialspace=True))) if names else ()
