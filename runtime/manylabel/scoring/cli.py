"""`manylabel score` and `manylabel merge`."""

import json
import re
import sys
from pathlib import Path
from typing import Any, get_args

import click
from tqdm import tqdm

from manylabel.bundle.bundle import Bundle
from manylabel.bundle.signing import open_signed
from manylabel.bundle.variants import choose_variant
from manylabel.cli.main import loading_options, read_thresholds
from manylabel.cli.rendering import write_utf8
from manylabel.data import filesystem
from manylabel.errors import InputError
from manylabel.inference.ort_session import resolve_device
from manylabel.inference.thresholding import resolve_thresholds
from manylabel.scoring import Options
from manylabel.scoring.inputs import FORMATS
from manylabel.scoring.merge import merge as merge_parts
from manylabel.scoring.merge import summary
from manylabel.scoring.run import Progress, Request, run
from manylabel.scoring.writers import OutputFormat

TOO_MANY_ERRORS = 4
"""Exit code of a run that is complete, with more bad rows than `--max-errors`."""


tqdm.monitor_interval = 0  # a thread that would move bars which are told of little; ours is told every second


class _Bar(Progress):
    """A bar on the terminal: rows, texts a second, time left."""

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
    help="What a folder's parts are; a file's suffix says it.",
)
@click.option("--format", "input_format", type=click.Choice(FORMATS), help="Of the inputs.  [default: by their suffix]")
@click.option("--text-column", default="text", show_default=True)
@click.option(
    "--probabilities",
    type=click.Choice(["columns", "list", "none"]),
    default="columns",
    show_default=True,
    help="One column a label, one list, or none.",
)
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    metavar="[LABEL=]P",
    help="In place of the bundle's own, for all labels or one; may be repeated, the last one counts.",
)
@click.option("--prefix", default="", help="Before the names of the answer's columns.")
@click.option("--separator", default="|", show_default=True, help="Between labels in a CSV cell.")
@click.option("--for-spreadsheet", is_flag=True, help="Escape cells of a CSV that start a formula.")
@click.option(
    "--shard-rows",
    type=click.IntRange(min=1),
    default=50_000,
    show_default=True,
    help="Rows that are committed together.",
)
@click.option(
    "--shard", "share", metavar="I/N", default="1/1", help="Score the I-th of N shares of the parts, such as 3/8."
)
@click.option(
    "--max-errors",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help=f"Exit with {TOO_MANY_ERRORS} where more rows have an error.",
)
@click.option("--force", is_flag=True, help="Replace an output that is there.")
@click.option("--progress/--no-progress", default=True, help="A bar, on a terminal.")
@loading_options
def score(**given: Any) -> None:
    """Score the texts of INPUTS (files, folders, globs, s3:// and the like, - for standard input).

    Other columns are kept. A run that was interrupted goes on when it is started once more. Prints a summary, one line
    of JSON. Exit codes: 0, 2 for wrong usage or input, 3 for a damaged bundle, 4 for more bad rows than --max-errors.
    """  # fmt: skip
    request = _request(given)
    bar = _Bar(shown=given["progress"])
    try:
        result = run(request, bar)
    finally:
        bar.close()
    write_utf8()
    click.echo(json.dumps(result, ensure_ascii=False))
    if result["errors"] > given["max_errors"]:
        sys.exit(TOO_MANY_ERRORS)


@click.command()
@click.argument("folders", nargs=-1, required=True)
@click.option("--output", "-o", required=True, help="The file to make, with the parts' suffix.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def merge(folders: tuple[str, ...], output: str, force: bool) -> None:
    """Make one file of the parts in FOLDERS, once counts, ids and digests are right."""
    if filesystem.status(output) is not None and not force:
        raise InputError(f"{output} is there already. Choose another output, or replace it with --force.")
    commits = merge_parts(folders, output)
    write_utf8()
    click.echo(json.dumps({**summary(commits), "output": output}, ensure_ascii=False))


def _request(given: dict[str, Any]) -> Request:
    bundle = open_signed(given["bundle"], given["verify_key"], digest=given["digest"])
    options = Options(
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
    return Request(
        bundle=bundle.path,  # of the hub: one commit for all that follows
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
    named = read_thresholds(given["thresholds"], bundle.labels)
    return tuple(resolve_thresholds(named, bundle.labels, variant.thresholds).tolist())


def _share(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(f"--shard {text!r} is not I/N with I from 1 to N, such as 3/8.")
    return int(found[1]), int(found[2])
