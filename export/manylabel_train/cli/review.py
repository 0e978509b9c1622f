"""The commands `manylabel review-labels` and `manylabel report`."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import click

from manylabel.cli.rendering import write_utf8
from manylabel_train.cli.command_setup import require_export_extra
from manylabel_train.cli.data_options import data_options, read_data

TABLE = "review.csv"


@click.command("review-labels")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path), help=f"The CSV file to write.  [default: RUN/{TABLE}]")
@data_options
@click.option("--unknown", is_flag=True, help="Suggest labels for unknown entries, instead of correcting known ones.")
@click.option(
    "--retrain",
    is_flag=True,
    help="Also score training rows by retrained models: more accurate, and as slow as --folds trainings.",
)
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True, help="Folds of the training rows.")
@click.option("--encoder", help="The checkpoint that the run started from, if it has moved.")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="Maximum rows of the table.")
@click.option("--raw", is_flag=True, help="Do not escape cells that a spreadsheet would take for formulas.")
@click.option("--json", "as_json", is_flag=True, help="Also print the suggestions as one JSON document.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@require_export_extra
def review_labels(**options: Any) -> None:
    """List the rows of DATA whose labels are likely missing or wrong, most likely first, for a person to decide.

    RUN is the run that manylabel train made from DATA. No row is scored by a model that was trained on it. The
    confidence ranks the rows; as a probability it is rough.
    """
    from manylabel_train.data.label_review import as_document, write_review
    from manylabel_train.data.training_run import read_run
    from manylabel_train.reporting.heldout_scores import SCORES_FILE
    from manylabel_train.reporting.run_report import write_report
    from manylabel_train.review.review import review_labels as find_suggestions
    from manylabel_train.review.suggestions import check_table_path, write_table

    output = options["output"] or options["run"] / TABLE
    run = read_run(options["run"])
    check_table_path(output, force=options["force"] or options["output"] is None)
    data = read_data(options["data"], options, labels=run.labels)
    review_options = {name: options[name] for name in ("unknown", "retrain", "folds", "encoder")}
    suggestions = find_suggestions(options["run"], data, **review_options)
    listed = suggestions[: options["limit"]]
    document = as_document(listed, len(suggestions))
    write_table(listed, output, separator=options["separator"], raw=options["raw"])
    write_review(document, options["run"])
    if (options["run"] / SCORES_FILE).exists():  # runs of older versions have no report
        write_report(options["run"], run, listed)
    if options["as_json"]:
        write_utf8()
        click.echo(json.dumps(document, ensure_ascii=False, indent=1))
    summary = _summarize(output, data, listed, len(suggestions), unknown=options["unknown"])
    click.echo(summary, err=options["as_json"])


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@require_export_extra
def report(run: Path, as_json: bool) -> None:
    """Rewrite RUN's report.html, with the rows to review if manylabel review-labels has run."""
    from manylabel_train.data.label_review import read_review
    from manylabel_train.data.training_run import read_run
    from manylabel_train.reporting.run_report import write_report

    page = write_report(run, read_run(run), read_review(run))
    click.echo(json.dumps({"report": str(page)}) if as_json else f"{page} is ready: open it in a browser")


def _summarize(output: Path, data: Any, listed: Any, total: int, *, unknown: bool) -> str:
    changes = Counter(kind for row in listed for kind in [*["add"] * len(row.add), *["remove"] * len(row.remove)])
    n_unknown = int((data.targets != data.targets).sum())
    hint = f" {n_unknown:,} unknown entries were not reviewed; --unknown reviews them."
    return (
        f"{output}: {len(listed):,} of {total:,} suspicious rows among {len(data):,}; "
        f"{changes['add']:,} labels to add, {changes['remove']:,} to remove.{hint if n_unknown and not unknown else ''}"
    )
