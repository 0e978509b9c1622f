"""`manylabel certify`."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np

from manylabel.bundle.certificate import Budget, Certificate
from manylabel.certify.certify import certify as certify_bundle
from manylabel.cli.options import device_option, threads_option
from manylabel.cli.rendering import describe_certificate, write_utf8
from manylabel.data.labeled_data import DEFAULT_COLUMNS, Columns, LabelledTexts, read_labelled_texts
from manylabel.errors import BudgetExceeded, InputError
from manylabel.hub import open_bundle
from manylabel.inference.ort_loader import Device
from manylabel.inference.thresholding import column_of

ALL_ROWS = "all"


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--text-column", default=DEFAULT_COLUMNS.text, show_default=True)
@click.option(
    "--labels-column",
    help=f"Column with a separated string or a list of labels.  [default: {DEFAULT_COLUMNS.labels}, if it exists]",
)
@click.option("--label-columns", metavar="A,B,...", help="One 0/1 column per label, instead of a labels column.")
@click.option("--separator", default=DEFAULT_COLUMNS.separator, show_default=True, help="Separates labels in a string.")
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test", ALL_ROWS]),
    help="Rows to use.  [default: test if the split column has such rows, otherwise all]",
)
@click.option("--max-f1-drop", type=click.FloatRange(0, 1), help="Fail if micro- or macro-F1 drops by more.")
@click.option(
    "--max-flips",
    type=click.FloatRange(0, 1),
    help="Fail if a larger share of the texts with at least one label get other labels than from fp32, such as 0.02.",
)
@device_option
@threads_option
@click.option("--json", "as_json", is_flag=True, help="Print the certificate as one JSON document.")
def certify(
    bundle: Path,
    data: Path,
    text_column: str,
    labels_column: str | None,
    label_columns: str | None,
    separator: str,
    split: str | None,
    max_f1_drop: float | None,
    max_flips: float | None,
    device: Device,
    threads: int | None,
    as_json: bool,
) -> None:
    """Compare BUNDLE's variants with its fp32 graph on the texts of DATA (CSV, TSV, JSONL or Parquet), on this machine.

    Labels are optional; with labels, F1 is compared as well. Exit codes: 0, 2 for wrong usage or input, 3 for a damaged
    bundle or a variant that exceeds --max-f1-drop or --max-flips.
    """
    opened = open_bundle(bundle)
    columns = Columns(
        text=text_column,
        labels=labels_column or DEFAULT_COLUMNS.labels,
        indicators=_parse_label_columns(label_columns, opened.labels),
        separator=separator,
    )
    rows = read_labelled_texts(data, columns, labels=opened.labels, allow_unlabelled=labels_column is None)
    selected, description = _select_rows(rows, split)
    targets = rows.targets[selected]
    labelled = not np.isnan(targets).all()
    if max_f1_drop is not None and not labelled:
        raise InputError(f"--max-f1-drop needs labels, and {data} has none. Name their column, or omit the option.")
    certificate = certify_bundle(
        opened,
        [rows.texts[row] for row in selected],
        data=description,
        targets=targets if labelled else None,
        budget=None if max_f1_drop is None and max_flips is None else Budget(max_f1_drop, max_flips),
        device=device,
        threads=threads,
    )
    write_utf8()
    if as_json:
        click.echo(json.dumps(asdict(certificate), ensure_ascii=False, indent=1))
    else:
        for line in describe_certificate(certificate):
            click.echo(line)
    _enforce_budget(certificate)


def _parse_label_columns(value: str | None, labels: Sequence[str]) -> tuple[str, ...]:
    """Return the names of `--label-columns`, each of which has to be a label of the bundle."""
    names = tuple(name.strip() for name in value.split(",")) if value else ()
    for name in names:
        column_of(name, labels)
    return names


def _select_rows(rows: LabelledTexts, split: str | None) -> tuple[list[int], str]:
    """Return the indices of the rows to compare on, and their description."""
    wanted = split or ("test" if "test" in rows.split else ALL_ROWS)
    selected = [row for row, name in enumerate(rows.split) if wanted in (ALL_ROWS, name)]
    if not selected:
        splits = ", ".join(sorted(set(rows.split) - {""})) or "none"
        raise InputError(f"no row is in the split {wanted!r}; the splits are: {splits}.")
    return selected, wanted


def _enforce_budget(certificate: Certificate) -> None:
    """Raise if a variant exceeds the budget.

    Raises:
        BudgetExceeded: With the figures that exceed it.
    """
    budget = certificate.budget or Budget(None, None)
    excesses = [
        f"{precision}: {excess}"
        for precision, parity in certificate.parity.items()
        if (excess := budget.excess(parity))
    ]
    if excesses:
        raise BudgetExceeded(
            f"{'. '.join(excesses)}. Use a more exact variant (--precision fp32), or re-export with a stricter budget."
        )
