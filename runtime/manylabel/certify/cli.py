"""`manylabel certify`."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np

from manylabel.bundle.certificate import Budget, Certificate
from manylabel.certify.certify import certify as certify_bundle
from manylabel.cli.rendering import describe_certificate, write_utf8
from manylabel.data.labeled_data import DEFAULT_COLUMNS, Columns, LabelledTexts, read_labelled_texts
from manylabel.errors import BudgetExceeded, InputError
from manylabel.hub import open_bundle
from manylabel.inference.ort_loader import Device
from manylabel.inference.thresholding import column_of

EVERYTHING = "all"


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--text-column", default=DEFAULT_COLUMNS.text, show_default=True)
@click.option(
    "--labels-column", help=f"Holds a separated string or a list.  [default: {DEFAULT_COLUMNS.labels}, if it is there]"
)
@click.option("--label-columns", metavar="A,B,...", help="One 0/1 column a label, in place of a labels column.")
@click.option(
    "--separator", default=DEFAULT_COLUMNS.separator, show_default=True, help="Stands between labels in a string."
)
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test", EVERYTHING]),
    help="Which rows.  [default: test where the split column says so, else all]",
)
@click.option("--max-f1-drop", type=click.FloatRange(0, 1), help="Fail where micro- or macro-F1 drops by more.")
@click.option(
    "--max-flips",
    type=click.FloatRange(0, 1),
    help="Fail where more of the texts that get a label get other labels than from fp32, such as 0.02.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Cores to use.  [default: all that are granted]")
@click.option("--json", "as_json", is_flag=True, help="The certificate as one JSON document.")
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
    """Compare BUNDLE's variants with its fp32 graph on the texts of DATA (CSV, TSV, JSONL or Parquet), here.

    Labels are not needed; where there are some, F1 is compared, too. Exit codes: 0, 2 for wrong usage or input, 3 for a
    damaged bundle or a variant beyond --max-f1-drop or --max-flips.
    """
    opened = open_bundle(bundle)
    columns = Columns(
        text=text_column,
        labels=labels_column or DEFAULT_COLUMNS.labels,
        indicators=_names(label_columns, opened.labels),
        separator=separator,
    )
    rows = read_labelled_texts(data, columns, labels=opened.labels, allow_unlabelled=labels_column is None)
    which, said = _chosen(rows, split)
    texts, targets = [rows.texts[row] for row in which], rows.targets[which]
    labelled = not np.isnan(targets).all()
    if max_f1_drop is not None and not labelled:
        raise InputError(f"--max-f1-drop is about F1, and {data} has no labels. Name their column, or leave it out.")
    budget = None if max_f1_drop is None and max_flips is None else Budget(max_f1_drop, max_flips)
    certificate = certify_bundle(
        opened,
        texts,
        data=said,
        targets=targets if labelled else None,
        budget=budget,
        device=device,
        threads=threads,
    )
    write_utf8()
    if as_json:
        click.echo(json.dumps(asdict(certificate), ensure_ascii=False, indent=1))
    else:
        for line in describe_certificate(certificate):
            click.echo(line)
    _hold(certificate)


def _names(given: str | None, labels: Sequence[str]) -> tuple[str, ...]:
    """The label columns that were named, held to the bundle's labels."""
    names = tuple(name.strip() for name in given.split(",")) if given else ()
    for name in names:
        column_of(name, labels)
    return names


def _chosen(rows: LabelledTexts, split: str | None) -> tuple[list[int], str]:
    """The rows to compare on, and what to call them."""
    wanted = split or ("test" if "test" in rows.split else EVERYTHING)
    chosen = [row for row, name in enumerate(rows.split) if wanted in (EVERYTHING, name)]
    if not chosen:
        raise InputError(f"no row's split is {wanted!r}. The rows say {', '.join(sorted(set(rows.split))) or 'none'}.")
    return chosen, "all" if wanted == EVERYTHING else wanted


def _hold(certificate: Certificate) -> None:
    """Fail where a variant is beyond the budget.

    Raises:
        BudgetExceeded: With what goes beyond it.
    """
    budget = certificate.budget or Budget(None, None)
    excesses = [
        f"{precision}: {said}" for precision, parity in certificate.parity.items() if (said := budget.excess(parity))
    ]
    if excesses:
        raise BudgetExceeded(
            f"{'. '.join(excesses)}. Use a more exact variant (--precision fp32), or export anew with a "
            "stricter budget."
        )
