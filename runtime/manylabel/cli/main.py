"""`manylabel ...`: answers on the command line. Other import roots add commands by the entry-point group."""

import errno
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points
from itertools import islice
from pathlib import Path
from typing import Any

import click

from manylabel import __version__
from manylabel.bundle.bundle import Bundle
from manylabel.bundle.signing import open_signed
from manylabel.bundle.signing import sign as write_signature
from manylabel.bundle.variants import Precision, choose_variant, variants_for
from manylabel.classifier import Classifier
from manylabel.cli.next_steps import next_commands
from manylabel.cli.rendering import describe, json_line, read_arguments, read_lines, table, write_utf8
from manylabel.errors import InputError, InvalidText, ManylabelError, MissingDependency, OutOfMemory
from manylabel.inference.ort_session import Device, resolve_device
from manylabel.inference.thresholding import column_of
from manylabel.load_options import find_plan
from manylabel.system.did_you_mean import nearest
from manylabel.system.resource_errors import FULL, is_lack_of_memory, out_of_memory

GROUP = "manylabel.commands"
CHUNK = 256
"""Lines of standard input that are answered together; those typed on a terminal are answered one by one."""


class _Commands(click.Group):
    """This module's commands and those of the entry-point group, each loaded when it is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({point.name for point in entry_points(group=GROUP)} | self.commands.keys())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        return next((_load(point) for point in entry_points(group=GROUP, name=cmd_name)), None)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but that a name close to one of any root's is told."""
        known = self.list_commands(ctx)
        close = "" if args[0] in known else nearest(args[0], known)
        if close and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {close!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error that its user can mend is one line, without a traceback."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except Exception as exc:
            # first, as whatever met it may have taken it for damage or for a fault of its own
            fault = out_of_memory(exc) if is_lack_of_memory(exc) else exc
            if isinstance(fault, ManylabelError):
                click.echo(f"{type(fault).__name__}: {fault}".replace("\n", " "), err=True)
                ctx.exit(fault.exit_code)
            if not isinstance(exc, OSError) or exc.errno == errno.EPIPE:  # whose reader has gone; click ends quietly
                raise
            click.echo(_said(exc), err=True)
            _drop_unwritten()
            ctx.exit(InputError.exit_code)


def _said(exc: OSError) -> str:
    """The system's refusal in a line, with the next step where it is known."""
    where = exc.filename or "the output"
    if exc.errno in FULL:
        return f"CannotWrite: {where} has no room left ({exc.strerror}). Make room there, or write elsewhere."
    return f"{type(exc).__name__}: {exc}"


def _drop_unwritten() -> None:
    """Keep Python from trying once more, at its end, to write what standard output could not take."""
    with suppress(OSError, ValueError, AttributeError):  # closed, or not of a system's kind
        sys.stdout.flush()
        return
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _load(point: EntryPoint) -> click.Command:
    """A command of another import root; where it cannot be imported, one that says so when it is run."""
    try:
        command: click.Command = point.load()
    except (ImportError, MissingDependency, OutOfMemory) as exc:
        missing = (
            exc
            if isinstance(exc, ManylabelError) or is_lack_of_memory(exc)
            else MissingDependency(f"manylabel {point.name} cannot be loaded: {exc}. Install what {point.value} needs.")
        )
        command = click.Command(
            point.name,
            callback=lambda: _raise(missing),
            short_help="(cannot be loaded)",
            context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        )
    return command


def _raise(exc: Exception) -> None:
    raise exc


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.version_option(__version__, prog_name="manylabel")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Multi-label text classification: train, export, answer.

    Exit codes: 0, 1 where doctor or drift found something or tune nothing, 2 for wrong usage or input, 3 for a bundle
    that fails verification, 4 for too many bad rows, 130 and 143 where a command was stopped by Ctrl-C or SIGTERM.
    """
    if ctx.invoked_subcommand is None:
        write_utf8()
        click.echo(ctx.get_help())
        steps = list(next_commands(Path()))
        width = max(len(command) for command, _ in steps)
        click.echo("\nNext:")
        for command, purpose in steps:
            click.echo(f"  {command:<{width}}  {purpose}")


def loading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that loads a bundle."""
    precisions, devices = click.Choice(["auto", "fp32", "int8", "fp16"]), click.Choice(["auto", "cpu", "cuda"])
    for option in (
        click.option(
            "--verify-key",
            type=click.Path(path_type=Path),
            help="A public key: load a bundle only with a signature by it (the extra sign).",
        ),
        click.option("--digest", help="The bundle that is meant, as inspect gives it; another is refused."),
        click.option("--threads", type=click.IntRange(min=1), help="Cores to use.  [default: all that are granted]"),
        click.option("--precision", type=precisions, default="auto", show_default=True),
        click.option("--device", type=devices, default="auto", show_default=True),
    ):
        command = option(command)
    return command


@main.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("texts", nargs=-1)
@click.option("--top-k", type=click.IntRange(min=1), help="Scores to show a text.  [default: all]")
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    metavar="[LABEL=]P",
    help="In place of the bundle's own, for all labels or one; may be repeated, the last one counts.",
)
@click.option(
    "--json/--table",
    "as_json",
    default=None,
    help="One JSON line a text, or a table.  [default: a table on a terminal]",
)
@loading_options
def predict(
    bundle: Path,
    texts: tuple[str, ...],
    top_k: int | None,
    thresholds: tuple[str, ...],
    as_json: bool | None,
    device: Device,
    precision: Precision,
    threads: int | None,
    verify_key: Path | None,
    digest: str | None,
) -> None:
    """Give the labels of TEXTS, or of standard input, one text a line."""
    classifier = Classifier.load(
        bundle, device=device, precision=precision, threads=threads, verify_key=verify_key, digest=digest
    )
    limits = read_thresholds(thresholds, classifier.bundle.labels)
    show = json_line if (not sys.stdout.isatty() if as_json is None else as_json) else table
    write_utf8()
    typed = not texts and sys.stdin is not None and sys.stdin.isatty()
    for start, chunk in _chunks(read_arguments(texts) or read_lines(), 1 if typed else CHUNK):
        try:
            predictions = classifier.classify(chunk, top_k=top_k, thresholds=limits)
        except InvalidText as exc:
            raise InputError(f"{exc} (Texts are counted from 0, beginning at text {start + 1} of the input.)") from exc
        for text, prediction in zip(chunk, predictions, strict=True):
            click.echo(show(text, prediction))


@main.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The whole manifest.")
def inspect(bundle: Path, as_json: bool) -> None:
    """Show what BUNDLE is: labels, thresholds, variants, metrics."""
    opened = Bundle.open(bundle)
    write_utf8()
    if as_json:
        click.echo(opened.manifest.to_bytes().decode(), nl=False)
        return
    for line in describe(opened):
        click.echo(line)
    click.echo()
    click.echo(f"here: {find_plan(opened)}")


@main.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@loading_options
def verify(
    bundle: Path,
    as_json: bool,
    device: Device,
    precision: Precision,
    threads: int | None,
    verify_key: Path | None,
    digest: str | None,
) -> None:
    """Check BUNDLE's files, shapes and probes on this machine, and its signature where a key is given."""
    say: Callable[[str], None] = (lambda line: None) if as_json else click.echo
    opened = open_signed(bundle, verify_key, digest=digest)
    opened.verify()
    signed = "" if verify_key is None else f", signed by the key of {verify_key}"
    say(f"{len(opened.manifest.files)} files as bundled{signed}")
    resolved = resolve_device(device)
    choose_variant(opened, resolved, precision)  # so that it fails where nothing would be checked
    meant = {variant.precision for variant in variants_for(opened, resolved)}
    checked: dict[str, bool] = {}
    for name in opened.variants if precision == "auto" else [precision]:
        checked[name] = name in meant
        if name not in meant:
            say(f"{name}: not checked, it is not made for {resolved}")
            continue
        classifier = Classifier.load(opened.path, device=resolved, precision=name, threads=threads)  # type: ignore[arg-type]  # a precision
        classifier.check_probes()
        say(f"{name} on {resolved}: {len(opened.manifest.probes)} probes answered as expected")
    if as_json:
        whole = {"files": len(opened.manifest.files), "signed": verify_key is not None, "device": resolved}
        click.echo(json.dumps({**whole, "bundle": opened.origin, "digest": opened.digest, "checked": checked}))


@main.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), required=True, help="A private elliptic key, in PEM.")
@click.option("--password", envvar="MANYLABEL_KEY_PASSWORD", help="Of the key.  [env: MANYLABEL_KEY_PASSWORD]")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def sign(bundle: Path, key: Path, password: str | None, as_json: bool) -> None:
    """Sign BUNDLE by OpenSSF model signing, into BUNDLE.sig beside it."""
    opened = Bundle.open(bundle)
    path = write_signature(opened, key, password=password)
    click.echo(json.dumps({"signature": str(path), "digest": opened.digest}) if as_json else f"signed: {path}")


def read_thresholds(given: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
    """Numbers by label from `0.3`, which stands for all labels, or `label=0.3`.

    Raises:
        InputError: It is neither.
        UnknownLabel: There is no such label.
    """
    named: dict[str, float] = {}
    for item in given:
        label, equals, number = item.rpartition("=")
        try:
            value = float(number)
        except ValueError as exc:
            raise InputError(
                f"--threshold {item!r} is neither a number nor LABEL=number, such as 0.4 or 'price=0.4'."
            ) from exc
        named |= {labels[column_of(label, labels)]: value} if equals else dict.fromkeys(labels, value)
    return named


def _chunks(texts: Iterable[str], size: int) -> Iterator[tuple[int, list[str]]]:
    """Texts that are answered together, and the place of the first."""
    source, start = iter(texts), 0
    while chunk := list(islice(source, size)):
        yield start, chunk
        start += len(chunk)
