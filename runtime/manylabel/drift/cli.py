"""`manylabel drift`: compare files that `manylabel score` wrote with the validation texts."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from manylabel.bundle.manifest import PRECISIONS
from manylabel.bundle.variants import Precision, choose_variant
from manylabel.cli.rendering import write_utf8
from manylabel.data.readers.open_table import SUFFIXES, open_table
from manylabel.drift.monitor import DriftMonitor
from manylabel.drift.report import DriftReport
from manylabel.errors import DataError, InputError
from manylabel.hub import open_bundle
from manylabel.system.did_you_mean import suggest_path

DRIFTED = 1
"""Exit code if a label has drifted."""

UNLIMITED = sys.maxsize
"""A window that holds all rows of the files."""

MISSING_COLUMN_HINT = (
    "Score with this bundle and --probabilities columns, and give drift the --prefix that was given to score."
)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("scored", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--prefix", default="", help="Prefix of the output columns, as given to manylabel score.")
@click.option(
    "--precision",
    type=click.Choice(["auto", *PRECISIONS]),
    default="auto",
    show_default=True,
    help="The variant that scored the files; auto is the CPU's default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def drift(bundle: Path, scored: tuple[Path, ...], prefix: str, precision: Precision, as_json: bool) -> None:
    """Compare the scores in SCORED, written by manylabel score, with those of BUNDLE's validation texts.

    SCORED are .parquet, .csv or .jsonl files with a column p_LABEL for each label, or folders of parts. Exit codes: 0
    if no label has drifted, 1 if one has, 2 for wrong usage or input.
    """
    opened = open_bundle(bundle)
    monitor = DriftMonitor.from_variant(opened, choose_variant(opened, "cpu", precision), window=UNLIMITED)
    for path in scored:
        for probabilities in read_probabilities(path, opened.labels, prefix):
            monitor.update(probabilities)
    report = monitor.report()
    if not report.texts:
        raise InputError(f"there is no scored row in {', '.join(map(str, scored))}.")
    write_utf8()
    if as_json:
        click.echo(json.dumps(_as_document(report), ensure_ascii=False))
    else:
        for line in _format_table(report):
            click.echo(line)
    if report.drifted:
        sys.exit(DRIFTED)


def read_probabilities(path: Path, labels: Sequence[str], prefix: str = "") -> Iterator[NDArray[np.float32]]:
    r"""Yield the probabilities of a file's rows, or of all parts in a folder; rows with an error are left out.

    Args:
        path: A file that `manylabel score` wrote, or its folder of parts.
        labels: The labels in column order.
        prefix: The prefix of the column names.

    Yields:
        Shape `(n_rows, n_labels)`, some thousand rows at a time.

    Raises:
        DataError: A file cannot be read, or lacks a column.
        MissingDependency: A file is in Parquet format, and pyarrow is not installed.

    Example:
        >>> _ = Path("scored.csv").write_text("text,p_price,error\ndear,0.75,\n,,no text\n")
        >>> [rows.tolist() for rows in read_probabilities(Path("scored.csv"), ["price"])]
        [[[0.75]]]
    """
    columns = [f"{prefix}p_{label}" for label in labels]
    for file in _list_parts(path):
        with open_table(file) as table:
            for rows in table.read_numbers(columns, hint=MISSING_COLUMN_HINT):
                yield rows[np.isfinite(rows).all(axis=1)]


def _list_parts(path: Path) -> list[Path]:
    if not path.exists():
        raise DataError(f"{path} cannot be read: No such file or directory.{suggest_path(path)}")
    parts = sorted(path.glob("part-*")) if path.is_dir() else [path]
    if not parts or any(part.suffix not in SUFFIXES for part in parts):
        raise DataError(f"{path} is not a .parquet, .csv or .jsonl file or a folder of such parts.")
    return parts


def _as_document(report: DriftReport) -> dict[str, Any]:
    return {"drifted": report.drifted, **asdict(report)}


def _format_table(report: DriftReport) -> Iterator[str]:
    yield f"{report.texts:,} texts compared with {report.reference_texts:,} validation texts"
    yield f"  {'label':<28}{'PSI':>8}{'limit':>8}{'rate':>9}{'expected':>10}{'likely':>17}"
    for each in sorted(report.labels, key=lambda label: -label.psi):
        mark = "!" if each.drifted else " "
        yield (
            f"{mark} {each.label:<28}{each.psi:>8.3f}{each.psi_limit:>8.3f}{each.rate:>9.4f}{each.expected_rate:>10.4f}"
            f"{each.likely[0]:>10.4f} to {each.likely[1]:.4f}"
        )
    drifted = report.drifted
    yield f"{len(drifted)} of {len(report.labels)} labels have drifted" + (f": {', '.join(drifted)}" if drifted else "")
