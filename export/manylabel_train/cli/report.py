"""`manylabel report`. Light to import: PyTorch is loaded when the command runs."""

import json
from pathlib import Path

import click

from manylabel_train.cli.require_extras import needs_workbench


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@needs_workbench
def report(run: Path, as_json: bool) -> None:
    """Write RUN's report.html anew, with the rows to review where manylabel review-labels has run."""
    from manylabel_train.reporting.run_report import write_report
    from manylabel_train.review.io import read_review
    from manylabel_train.training.train import read_run

    page = write_report(run, read_run(run), read_review(run))
    click.echo(json.dumps({"report": str(page)}) if as_json else f"{page} is ready: open it in a browser")
