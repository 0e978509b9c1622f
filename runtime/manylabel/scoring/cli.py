"""`manylabel score` and `manylabel merge`."""

import json
import re
import sys
from pathlib import Path
from typing import Any, get_args

import click
from tqdm import tqdm

from manylabel.bundle.bundle import Bundle
from manylabel.bundle.variants import choose_variant
from manylabel.cli.options import loading_options, parse_thresholds, threshold_option
from manylabel.cli.rendering import write_utf8
from manylabel.data import filesystem
from manylabel.data.readers.open_table import FORMATS
from manylabel.errors import InputError
from manylabel.hub import open_bundle
from manylabel.inference.ort_loader import resolve_device
from manylabel.inference.thresholding import resolve_thresholds
from manylabel.scoring.job import OutputFormat, ScoreOptions
from manylabel.scoring.merge import merge_parts, summarize
from manylabel.scoring.run import Progress, ScoreRequest, score_files

TOO_MANY_ERRORS = 4
"""Exit code of a complete run with more rows in error than `--max-errors`."""

tqdm.monitor_interval = 0  # no thread that refreshes idle bars: ours is updated every second


class _ProgressBar(Progress):
    """A progress bar on the terminal: rows, texts per second, time left."""

    def __init__(self, *, shown: bool) -> None:
        self._off = None if shown else True
        self._bar = tqdm(desc="reading", unit=" rows", unit_scale=True, disable=self._off, file=sys.stderr)

    def planned(self, rows: int) -> None:
        self._bar.update(rows)

    def started(self, rows: int, done: int) -> None:
        self._bar.close()
        self._bar = tqdm(
            desc="scoring", total=rows, initial=done, unit=" texts", unit_scale=True, disable=self._off,
            file=sys.stderr,
        )  # fmt: skip

    def scored(self, rows: int) -> None:
        self._bar.update(rows)

    def close(self) -> None:
        self._bar.close()


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, required=True)
@click.option("--output", "-o", required=True, help="A .parquet, .csv or .jsonl file, or a folder of parts.")
@click.option(
    "--to",
    type=click.Choice(get_args(OutputFormat)),
    default="parquet",
    show_default=True,
    help="Format of the parts in a folder. A single file has the format of its suffix.",
)
@click.option(
    "--format", "input_format", type=click.Choice(FORMATS), help="Format of all inputs.  [default: by suffix]"
)
@click.option("--text-column", default="text", show_default=True, help="The column of texts.")
@click.option(
    "--probabilities",
    type=click.Choice(["columns", "list", "none"]),
    default="columns",
    show_default=True,
    help="One column per label, one list, or none.",
)
@threshold_option
@click.option("--prefix", default="", help="Prefix of the added columns' names.")
@click.option("--separator", default="|", show_default=True, help="Separator of labels in a CSV cell.")
@click.option("--for-spreadsheet", is_flag=True, help="Escape CSV cells that a spreadsheet would compute as formulas.")
@click.option(
    "--shard-rows",
    type=click.IntRange(min=1),
    default=50_000,
    show_default=True,
    help="Rows of a part, which are committed together.",
)
@click.option(
    "--shard", "share", metavar="I/N", default="1/1", help="Score the I-th of N shares of the parts, for example 3/8."
)
@click.option(
    "--max-errors",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help=f"Rows with an error to tolerate; with more, the exit code is {TOO_MANY_ERRORS}.",
)
@click.option("--force", is_flag=True, help="Replace an output that exists.")
@click.option("--progress/--no-progress", default=True, help="Show a progress bar on a terminal.")
@loading_options
def score(**given: Any) -> None:
    """Score the texts of INPUTS (files, folders, globs, s3:// and the like, - for standard input).

    Other columns are kept. The same command resumes an interrupted run. The last line of output is a summary in JSON.
    Exit codes: 0, 2 for wrong usage or input, 3 for a damaged bundle, 4 for more rows in error than --max-errors.
    """  # fmt: skip
    request = _request(given)
    bar = _ProgressBar(shown=given["progress"])
    try:
        result = score_files(request, bar)
    finally:
        bar.close()
    write_utf8()
    click.echo(json.dumps(result, ensure_ascii=False))
    if result["errors"] > given["max_errors"]:
        sys.exit(TOO_MANY_ERRORS)


@click.command()
@click.argument("folders", nargs=-1, required=True)
@click.option("--output", "-o", required=True, help="The file to write, with the suffix of the parts.")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
def merge(folders: tuple[str, ...], output: str, force: bool) -> None:
    """Merge the parts in FOLDERS into one file, after checking their rows and digests."""
    if filesystem.status(output) is not None and not force:
        raise InputError(f"{output} already exists. Choose another output, or replace it with --force.")
    commits = merge_parts(folders, output)
    write_utf8()
    click.echo(json.dumps({**summarize(commits), "output": output}, ensure_ascii=False))


def _request(given: dict[str, Any]) -> ScoreRequest:
    bundle = open_bundle(given["bundle"], verify_key=given["verify_key"], digest=given["digest"])
    options = ScoreOptions(
        text_column=given["text_column"],
        format=given["to"],
        probabilities=given["probabilities"],
        prefix=given["prefix"],
        separator=given["separator"],
        for_spreadsheet=given["for_spreadsheet"],
        shard_rows=given["shard_rows"],
        thresholds=_thresholds(bundle, given),
    )
    if options.for_spreadsheet and given["to"] != "csv" and not given["output"].endswith(".csv"):
        raise InputError("--for-spreadsheet escapes the cells of a CSV. Name a .csv output, or give --to csv.")
    return ScoreRequest(
        bundle=bundle.path,  # of a Hub reference: one commit for the whole run
        inputs=given["inputs"],
        input_format=given["input_format"],
        output=given["output"],
        options=options,
        device=given["device"],
        precision=given["precision"],
        threads=given["threads"],
        verify_key=given["verify_key"],
        digest=bundle.digest,
        share=_share(given["share"]),
        force=given["force"],
    )


def _thresholds(bundle: Bundle, given: dict[str, Any]) -> tuple[float, ...] | None:
    if not given["thresholds"]:
        return None
    variant = choose_variant(bundle, resolve_device(given["device"]), given["precision"])
    named = parse_thresholds(given["thresholds"], bundle.labels)
    return tuple(resolve_thresholds(named, bundle.labels, variant.thresholds).tolist())


def _share(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(f"--shard {text!r} is not I/N with I from 1 to N, for example 3/8.")
    return int(match[1]), int(match[2])
