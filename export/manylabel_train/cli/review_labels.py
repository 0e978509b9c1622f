"""`manylabel review-labels`. Light to import: PyTorch is loaded when the command runs."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import click

from manylabel.cli.rendering import write_utf8
from manylabel_train.cli.data_options import data_options, read_data
from manylabel_train.cli.require_extras import needs_workbench

TABLE = "review.csv"


@click.command("review-labels")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help=f"The table to write, a CSV file.  [default: RUN/{TABLE}]"
)
@data_options
@click.option(
    "--unknown", is_flag=True, help="Suggest labels for entries that are unknown, in place of corrections of others."
)
@click.option(
    "--retrain",
    is_flag=True,
    help="Score training rows by models trained anew, too: better, and as slow as --folds trainings.",
)
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True, help="Parts of the training rows.")
@click.option("--encoder", help="Where the checkpoint lies that the run started from, if not where it was.")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="Rows of the table at most.")
@click.option("--raw", is_flag=True, help="Put no apostrophe before cells that a spreadsheet would take for formulas.")
@click.option("--json", "as_json", is_flag=True, help="Print the suggestions as one JSON document, too.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@needs_workbench
def review_labels(**options: Any) -> None:
    """List the rows of DATA of which labels are likely missing or wrong, the likeliest first; a person decides.

    RUN is what manylabel train made of DATA. No row is judged by a model that has learnt from it. The confidence puts
    rows in order; as a probability it is rough.
    """
    from manylabel_train.reporting.heldout_scores import SCORES_FILE
    from manylabel_train.reporting.run_report import write_report
    from manylabel_train.review import io, review
    from manylabel_train.training.train import read_run

    output = options["output"] or options["run"] / TABLE
    run = read_run(options["run"])
    io.check_output(output, force=options["force"] or options["output"] is None)
    data = read_data(options["data"], options, labels=run.labels)
    chosen = {name: options[name] for name in ("unknown", "retrain", "folds", "encoder")}
    found = review.review_labels(options["run"], data, **chosen)
    shown = found[: options["limit"]]
    document = io.as_document(shown, len(found))
    io.write_table(shown, output, separator=options["separator"], raw=options["raw"])
    io.write_review(document, options["run"])
    if (options["run"] / SCORES_FILE).exists():  # runs of before had no report
        write_report(options["run"], run, shown)
    if options["as_json"]:
        write_utf8()
        click.echo(json.dumps(document, ensure_ascii=False, indent=1))
    click.echo(_summary(output, data, shown, len(found), unknown=options["unknown"]), err=options["as_json"])


def _summary(output: Path, data: Any, shown: Any, found: int, *, unknown: bool) -> str:
    changes = Counter(kind for one in shown for kind in [*["add"] * len(one.add), *["remove"] * len(one.remove)])
    n_unknown = int((data.targets != data.targets).sum())
    hint = f" {n_unknown:,} unknown entries were left alone; --unknown looks at them." * (n_unknown > 0 and not unknown)
    return (
        f"{output}: {len(shown):,} of {found:,} suspicious rows among {len(data):,}; "
        f"{changes['add']:,} labels to add, {changes['remove']:,} to remove.{hint}"
    )
