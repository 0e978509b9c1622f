"""`manylabel drift`."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from manylabel.bundle.bundle import Bundle
from manylabel.bundle.variants import Precision, choose_variant
from manylabel.cli.rendering import write_utf8
from manylabel.drift.monitor import DriftMonitor
from manylabel.drift.report import DriftReport
from manylabel.errors import InputError, MissingDependency

DRIFTED = 1
"""Exit code where a label has drifted."""

EVERYTHING = sys.maxsize
"""A window that holds all rows of the files."""


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("scored", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--prefix", default="", help="Before the names of the answer's columns, as for manylabel score.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "int8", "fp16"]),
    default="auto",
    show_default=True,
    help="Which variant scored the files; auto is the one for the CPU.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def drift(bundle: Path, scored: tuple[Path, ...], prefix: str, precision: Precision, as_json: bool) -> None:
    """Hold files that manylabel score wrote against BUNDLE's validation texts.

    SCORED are .parquet, .csv or .jsonl files with a column p_LABEL for each label, or folders of parts. Exit codes: 0
    where no label has drifted, 1 where one has, 2 for wrong usage or input.
    """
    if find_spec("pyarrow") is None:
        raise MissingDependency('manylabel[files] is required to read files. pip install "manylabel[files]"')
    opened = Bundle.open(bundle)
    monitor = DriftMonitor.for_variant(opened, choose_variant(opened, "cpu", precision), window=EVERYTHING)
    from manylabel.drift.scored_files import probabilities_of

    for path in scored:
        for probabilities in probabilities_of(path, opened.labels, prefix):
            monitor.update(probabilities)
    report = monitor.report()
    if not report.texts:
        raise InputError(f"there is no scored row in {', '.join(map(str, scored))}.")
    write_utf8()
    if as_json:
        click.echo(json.dumps(_content(report), ensure_ascii=False))
    else:
        for line in _table(report):
            click.echo(line)
    if report.drifted:
        sys.exit(DRIFTED)


def _content(report: DriftReport) -> dict[str, Any]:
    return {"drifted": report.drifted, **asdict(report)}


def _table(report: DriftReport) -> Iterator[str]:
    yield f"{report.texts:,} texts beside {report.reference_texts:,} validation texts"
    yield f"  {'label':<28}{'PSI':>8}{'limit':>8}{'rate':>9}{'expected':>10}{'likely':>17}"
    for each in sorted(report.labels, key=lambda label: -label.psi):
        mark = "!" if each.drifted else " "
        yield (
            f"{mark} {each.label:<28}{each.psi:>8.3f}{each.psi_limit:>8.3f}{each.rate:>9.4f}{each.expected_rate:>10.4f}"
            f"{each.likely[0]:>10.4f} to {each.likely[1]:.4f}"
        )
    drifted = report.drifted
    yield f"{len(drifted)} of {len(report.labels)} labels have drifted" + (f": {', '.join(drifted)}" if drifted else "")
