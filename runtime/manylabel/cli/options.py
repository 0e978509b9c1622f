"""Options that several commands share."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import click

from manylabel.bundle.manifest import PRECISIONS
from manylabel.bundle.variants import Precision
from manylabel.errors import InputError
from manylabel.inference.ort_loader import Device
from manylabel.inference.thresholding import column_of

Command = TypeVar("Command", bound=Callable[..., Any])

device_option = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to run."
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["auto", *PRECISIONS]),
    default="auto",
    show_default=True,
    help="Which variant of the bundle to run.",
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="CPU cores to use.  [default: all available cores]"
)


class LoadOptions(TypedDict):
    """The values of `loading_options`: keyword arguments of `Classifier.load`."""

    device: Device
    precision: Precision
    threads: int | None
    verify_key: Path | None
    digest: str | None


def loading_options(command: Command) -> Command:
    """Add the options of every command that loads a bundle; `LoadOptions` has their values."""
    for option in (
        click.option(
            "--verify-key",
            type=click.Path(path_type=Path),
            help="A public key: load the bundle only if it is signed with it (requires the extra sign).",
        ),
        click.option("--digest", help="Load the bundle only if it has this digest, as printed by inspect."),
        threads_option,
        precision_option,
        device_option,
    ):
        command = option(command)
    return command


threshold_option = click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    metavar="[LABEL=]P",
    help="Override the bundle's thresholds, for one label or for all. May be repeated; the last value wins.",
)


def parse_thresholds(values: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
    """Return the threshold of each label that the values of `--threshold` name.

    Args:
        values: `0.3` for all labels, or `label=0.3`.
        labels: In column order.

    Raises:
        InputError: A value is neither.
        UnknownLabel: The bundle does not have a label of this name.

    Example:
        >>> parse_thresholds(["0.5", "price=0.25"], ["price", "delivery"])
        {'price': 0.25, 'delivery': 0.5}
    """
    thresholds: dict[str, float] = {}
    for value in values:
        label, equals, number = value.rpartition("=")
        try:
            threshold = float(number)
        except ValueError as exc:
            raise InputError(
                f"--threshold {value!r} is neither a number nor LABEL=number, such as 0.4 or 'price=0.4'."
            ) from exc
        thresholds |= {labels[column_of(label, labels)]: threshold} if equals else dict.fromkeys(labels, threshold)
    return thresholds


API_KEY_VARIABLE = "MANYLABEL_API_KEY"
"""Environment variable with the API key of a server: of `serve` itself, and of the endpoint that `doctor` checks."""

api_key_file_option = click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    help=f"File with the server's API key.  [default: the environment variable {API_KEY_VARIABLE}, or no key]",
)


def read_api_key(file: Path | None) -> str:
    """Return the API key from a file, else from the environment; empty if neither is given.

    Raises:
        InputError: The file cannot be read, or is empty.
    """
    if file is None:
        value = os.environ.get(API_KEY_VARIABLE, "")
        return (
            value.strip() or value
        )  # a blank value is kept, so that `serve` rejects it instead of running without a key
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"the API key file {file} cannot be read: {exc}.") from exc
    if not key:
        raise InputError(f"the API key file {file} is empty; expected one line with the key.")
    return key
