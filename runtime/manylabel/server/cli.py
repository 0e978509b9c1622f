"""`manylabel serve`."""

import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from manylabel.bundle.variants import Precision
from manylabel.classifier import Classifier
from manylabel.cli.main import loading_options
from manylabel.errors import InputError, MissingDependency
from manylabel.inference.ort_session import Device
from manylabel.server.settings import Settings

DEFAULTS = Settings("model")


def _number(option: str, help_: str, kind: type = int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option that sets the setting of its name."""
    default = getattr(DEFAULTS, option)
    least = click.IntRange(min=1) if kind is int else click.FloatRange(min=0.001)
    return click.option(f"--{option.replace('_', '-')}", type=least, default=default, show_default=True, help=help_)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; 0.0.0.0 for the whole network.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--name", help="The model's name in paths and answers.  [default: the bundle's folder]")
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    help="Holds the key that requests must carry.  [default: the environment's MANYLABEL_API_KEY, or none]",
)
@click.option("--cors-origin", "cors_origins", multiple=True, help="An origin that browsers may call from.")
@_number("max_queue_tokens", "Tokens that may wait; beyond, requests get 429.")
@_number("max_texts", "Texts in a request.")
@_number("max_characters", "Characters of a text.")
@_number("max_body_bytes", "Bytes of a request.")
@_number("timeout", "Seconds until a request is answered, or gets 504.", float)
@_number("body_timeout", "Seconds until a request's body has arrived, or it gets 408.", float)
@_number("header_timeout", "Seconds until a request's headers have arrived.", float)
@_number("grace", "Seconds from the signal to end until the end.", float)
@click.option("--log", type=click.Choice(["json", "plain"]), help="[default: plain on a terminal, else json]")
@click.option("--access-log/--no-access-log", default=True, show_default=True, help="A line for every request.")
@click.option("--otlp", metavar="URL", help="Send traces there (OpenTelemetry over HTTP; the extra server-otel).")
@loading_options
def serve(
    bundle: Path,
    host: str,
    port: int,
    name: str | None,
    api_key_file: Path | None,
    log: str | None,
    access_log: bool,
    otlp: str | None,
    device: Device,
    precision: Precision,
    threads: int | None,
    verify_key: Path | None,
    digest: str | None,
    **settings: Any,  # each a setting of its name
) -> None:
    """Answer over HTTP with BUNDLE.

    SIGTERM and Ctrl-C end it once what it took is answered; SIGHUP reads BUNDLE anew. Documentation is at /docs.
    """
    try:
        from manylabel.server import lifecycle as serving
        from manylabel.server.http import auth as keys
        from manylabel.server.observability import access_log as exchanges
        from manylabel.server.observability import tracing
    except ModuleNotFoundError as exc:
        raise MissingDependency(f'{exc.name} is not installed. pip install "manylabel[server,cpu]"') from exc
    serving.log_to_stderr(exchanges.PlainFormatter() if (log or _usual_log()) == "plain" else exchanges.JsonFormatter())
    if not access_log:
        exchanges.access.setLevel(logging.WARNING)
    chosen = Settings(name or serving.default_name(bundle), keys.read_key(api_key_file), **settings)
    if serving.default_name(Path("/") / chosen.name) != chosen.name:
        raise InputError(f"--name {chosen.name!r} cannot be in a path; use letters, digits, '.', '_' and '-'.")
    serving.warn_if_open(host, chosen)
    load = partial(
        Classifier.load,
        bundle,
        device=device,
        precision=precision,
        threads=threads,
        verify_key=verify_key,
        digest=digest,
    )
    with serving.bind(host, port) as listener:
        recorders = [tracing.exporting_to(otlp, chosen.name)] if otlp else []
        app, service = serving.create(load, chosen, workers=threads, recorders=recorders)
        serving.serve(app, service, listener)


def _usual_log() -> str:
    return "plain" if sys.stderr is not None and sys.stderr.isatty() else "json"
