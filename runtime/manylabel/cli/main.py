"""The command `manylabel` with predict, inspect, verify and sign; entry points add the other commands."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Unpack

import click

from manylabel import __version__
from manylabel.bundle.bundle import Bundle
from manylabel.bundle.signing import sign as sign_bundle
from manylabel.bundle.variants import choose_variant, variants_for
from manylabel.classifier import Classifier
from manylabel.cli.command_group import LazyGroup
from manylabel.cli.getting_started import completion, next_steps
from manylabel.cli.options import LoadOptions, loading_options, parse_thresholds, threshold_option
from manylabel.cli.rendering import (
    decode_arguments,
    describe_bundle,
    format_json_line,
    format_table,
    read_lines,
    write_utf8,
)
from manylabel.errors import InputError, InvalidText
from manylabel.hub import open_bundle
from manylabel.inference.ort_loader import resolve_device
from manylabel.load_options import find_plan

CHUNK_SIZE = 256
"""Lines of standard input that are classified together; lines typed on a terminal are classified one by one."""


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.version_option(__version__, prog_name="manylabel")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Multi-label text classification: train, export, predict.

    Exit codes: 0 for success; 1 if doctor or drift reports a problem, or tune finds no setting; 2 for wrong usage or
    input; 3 if a bundle fails verification; 4 for too many rows with errors; 130 and 143 if a command is stopped by
    Ctrl-C or SIGTERM.
    """
    if ctx.invoked_subcommand is None:
        write_utf8()
        click.echo(ctx.get_help())
        steps = list(next_steps(Path()))
        width = max(len(command) for command, _ in steps)
        click.echo("\nNext:")
        for command, purpose in steps:
            click.echo(f"  {command:<{width}}  {purpose}")


main.add_command(completion)


@main.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("texts", nargs=-1)
@click.option("--top-k", type=click.IntRange(min=1), help="Number of scores to show for each text.  [default: all]")
@threshold_option
@click.option(
    "--json/--table",
    "as_json",
    default=None,
    help="Print one JSON line for each text, or a table.  [default: a table on a terminal, otherwise JSON]",
)
@loading_options
def predict(
    bundle: Path,
    texts: tuple[str, ...],
    top_k: int | None,
    thresholds: tuple[str, ...],
    as_json: bool | None,
    **load_options: Unpack[LoadOptions],
) -> None:
    """Print the labels of TEXTS, or of standard input with one text per line."""
    classifier = Classifier.load(bundle, **load_options)
    overrides = parse_thresholds(thresholds, classifier.bundle.labels)
    show = format_json_line if (not sys.stdout.isatty() if as_json is None else as_json) else format_table
    write_utf8()
    interactive = not texts and sys.stdin is not None and sys.stdin.isatty()
    for start, chunk in _split_chunks(decode_arguments(texts) or read_lines(), 1 if interactive else CHUNK_SIZE):
        try:
            predictions = classifier.classify(chunk, top_k=top_k, thresholds=overrides)
        except InvalidText as exc:
            raise InputError(f"{exc} (Texts are counted from 0, starting at text {start + 1} of the input.)") from exc
        for text, prediction in zip(chunk, predictions, strict=True):
            click.echo(show(text, prediction))


@main.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the whole manifest as JSON.")
def inspect(bundle: Path, as_json: bool) -> None:
    """Show the labels, thresholds, variants and metrics of BUNDLE."""
    opened = open_bundle(bundle)
    write_utf8()
    if as_json:
        click.echo(opened.manifest.to_bytes().decode(), nl=False)
        return
    for line in describe_bundle(opened):
        click.echo(line)
    click.echo()
    click.echo(f"on this machine: {find_plan(opened)}")


@main.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@loading_options
def verify(bundle: Path, as_json: bool, **load_options: Unpack[LoadOptions]) -> None:
    """Check the files, graphs and probes of BUNDLE on this machine, and its signature with --verify-key."""
    report: Callable[[str], None] = (lambda line: None) if as_json else click.echo
    key, precision = load_options["verify_key"], load_options["precision"]
    opened = open_bundle(bundle, verify_key=key, digest=load_options["digest"])
    opened.verify()
    report(f"{len(opened.manifest.files)} files match the manifest" + (f", signed with the key {key}" if key else ""))
    device = resolve_device(load_options["device"])
    choose_variant(opened, device, precision)  # raises if there is nothing to check
    supported = {variant.precision for variant in variants_for(opened, device)}
    checked: dict[str, bool] = {}
    for name in opened.variants if precision == "auto" else [precision]:
        checked[name] = name in supported
        if name not in supported:
            report(f"{name}: not checked, it is not for {device}")
            continue
        classifier = Classifier.load(opened.path, device=device, precision=name, threads=load_options["threads"])  # type: ignore[arg-type]  # a precision
        classifier.check_probes()
        report(f"{name} on {device}: {len(opened.manifest.probes)} probes passed")
    if as_json:
        summary = {"files": len(opened.manifest.files), "signed": key is not None, "device": device}
        click.echo(json.dumps({**summary, "bundle": opened.origin, "digest": opened.digest, "checked": checked}))


@main.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), required=True, help="An elliptic-curve private key (PEM).")
@click.option("--password", envvar="MANYLABEL_KEY_PASSWORD", help="The key's password.  [env: MANYLABEL_KEY_PASSWORD]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def sign(bundle: Path, key: Path, password: str | None, as_json: bool) -> None:
    """Sign BUNDLE with OpenSSF model signing, and write the signature to BUNDLE.sig beside it."""
    opened = Bundle.open(bundle)
    path = sign_bundle(opened, key, password=password)
    click.echo(json.dumps({"signature": str(path), "digest": opened.digest}) if as_json else f"signed: {path}")


def _split_chunks(texts: Iterable[str], size: int) -> Iterator[tuple[int, list[str]]]:
    """Yield lists of up to `size` texts, each with the index of its first text."""
    source, start = iter(texts), 0
    while chunk := list(islice(source, size)):
        yield start, chunk
        start += len(chunk)
