"""`manylabel serve`."""

from pathlib import Path

import click

from manylabel.classifier import Classifier
from manylabel.cli import loading_options
from manylabel.errors import MissingDependency
from manylabel.session import Device
from manylabel.variants import Precision


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--name", help="The model's name in paths and answers.  [default: the bundle's folder]")
@loading_options
def serve(
    bundle: Path,
    host: str,
    port: int,
    name: str | None,
    device: Device,
    precision: Precision,
    threads: int | None,
) -> None:
    """Answer over HTTP with BUNDLE."""
    try:
        from manylabel.server import serving
        from manylabel.server.settings import Settings
    except ModuleNotFoundError as exc:
        raise MissingDependency(f'{exc.name} is not installed. pip install "manylabel[server,cpu]"') from exc
    classifier = Classifier.load(bundle, device=device, precision=precision, threads=threads)
    settings = Settings(name or serving.default_name(bundle))
    serving.serve(classifier, settings, host=host, port=port, workers=threads)
