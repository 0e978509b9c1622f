"""`manylabel serve`."""

import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from manylabel.classifier import Classifier
from manylabel.cli.options import LoadOptions, api_key_file_option, loading_options, read_api_key
from manylabel.errors import InputError, MissingDependency
from manylabel.server.settings import Settings

DEFAULTS = Settings("model")


def _setting(name: str, help_: str, kind: type = int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option for a numeric setting, with the setting's default."""
    value_range = click.IntRange(min=1) if kind is int else click.FloatRange(min=0.001)
    option = f"--{name.replace('_', '-')}"
    return click.option(option, type=value_range, default=getattr(DEFAULTS, name), show_default=True, help=help_)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 for any free port.")
@click.option("--name", help="The model's name in URLs and responses.  [default: the bundle's folder]")
@api_key_file_option
@click.option(
    "--cors-origin", "cors_origins", multiple=True, help="Origin that browsers may call from. May be repeated."
)
@_setting("max_queue_tokens", "Maximum tokens in the queue; further requests get 429.")
@_setting("max_texts", "Maximum texts in a request.")
@_setting("max_characters", "Maximum characters in a text.")
@_setting("max_body_bytes", "Maximum bytes in a request body.")
@_setting("timeout", "Seconds for a response; later, a request gets 504.", float)
@_setting("body_timeout", "Seconds for a request's body to arrive; later, it gets 408.", float)
@_setting("header_timeout", "Seconds for a request's headers to arrive; later, it gets 408.", float)
@_setting("grace", "Seconds for a graceful shutdown.", float)
@click.option(
    "--log", type=click.Choice(["json", "plain"]), help="Log format.  [default: plain on a terminal, else json]"
)
@click.option("--access-log/--no-access-log", default=True, show_default=True, help="Log every request.")
@click.option(
    "--otlp", metavar="URL", help="Send OpenTelemetry traces to URL, over HTTP (requires the extra server-otel)."
)
@loading_options
def serve(
    bundle: Path,
    host: str,
    port: int,
    name: str | None,
    api_key_file: Path | None,
    cors_origins: tuple[str, ...],
    log: str | None,
    access_log: bool,
    otlp: str | None,
    **options: Any,
) -> None:
    """Serve BUNDLE over HTTP.

    SIGTERM and Ctrl-C drain: requests in progress are answered, then the server exits. SIGHUP reloads BUNDLE. The API
    documentation is at /docs.
    """
    try:
        from manylabel.server import lifecycle
        from manylabel.server.observability import access_log as logs
        from manylabel.server.observability import tracing
    except ModuleNotFoundError as exc:
        raise MissingDependency(f'{exc.name} is not installed. pip install "manylabel[server,cpu]"') from exc
    lifecycle.configure_logging(logs.PlainFormatter() if (log or _default_log()) == "plain" else logs.JsonFormatter())
    if not access_log:
        logs.access_logger.setLevel(logging.WARNING)
    load_options = {key: options.pop(key) for key in LoadOptions.__annotations__}
    settings = Settings(
        name or lifecycle.default_model_name(bundle), read_api_key(api_key_file), cors_origins=cors_origins, **options
    )
    if lifecycle.default_model_name(Path("/") / settings.name) != settings.name:
        raise InputError(f"--name {settings.name!r} cannot be part of a URL; use letters, digits, '.', '_' and '-'.")
    lifecycle.warn_if_unauthenticated(host, settings)
    load = partial(Classifier.load, bundle, **load_options)
    with lifecycle.bind_socket(host, port) as listener:
        recorders = [tracing.create_span_recorder(otlp, settings.name)] if otlp else []
        app, service = lifecycle.create_app(load, settings, workers=load_options["threads"], recorders=recorders)
        lifecycle.serve(app, service, listener)


def _default_log() -> str:
    return "plain" if sys.stderr is not None and sys.stderr.isatty() else "json"
