"""`manylabel triton`."""

import json
import re
from pathlib import Path
from typing import Literal

import click

from manylabel.bundle.bundle import Bundle
from manylabel.engines.triton.config_pbtxt import Serving
from manylabel.engines.triton.repository import write_repository
from manylabel.errors import InputError
from manylabel.hub.hub_ref import name_of

NAME = re.compile(r"[A-Za-z0-9_.-]+")


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="The repository: a new folder.")
@click.option("--name", help="Of the model that clients ask for.  [default: the bundle's folder]")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--long-text",
    type=click.Choice(["error", "truncate"]),
    help="For texts that the model does not read at once; windows cannot be had.  [default: the bundle's]",
)
@click.option(
    "--pad-to",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Round lengths up to a multiple, so that requests of like length share a batch; 1 pads no text that is alone.",
)
@click.option("--max-batch-size", type=click.IntRange(min=1), default=Serving.max_batch_size, show_default=True)
@click.option(
    "--max-queue-size",
    type=click.IntRange(min=1),
    default=Serving.max_queue_size,
    show_default=True,
    help="Requests that may wait; more are refused.",
)
@click.option(
    "--queue-delay",
    "queue_delay_us",
    type=click.IntRange(min=0),
    default=Serving.queue_delay_us,
    show_default=True,
    help="Microseconds that a request waits for others to share its batch.",
)
@click.option(
    "--timeout",
    "timeout_us",
    type=click.IntRange(min=0),
    default=Serving.timeout_us,
    show_default=True,
    help="Microseconds after which a request that still waits is refused; 0 for never.",
)
@click.option("--force", is_flag=True, help="Replace an output that is there.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def triton(
    bundle: Path,
    output: Path,
    name: str | None,
    device: Literal["cpu", "cuda"],
    long_text: Literal["error", "truncate"] | None,
    pad_to: int,
    max_batch_size: int,
    max_queue_size: int,
    queue_delay_us: int,
    timeout_us: int,
    force: bool,
    as_json: bool,
) -> None:
    """Write BUNDLE as a model repository for NVIDIA's Triton Inference Server."""
    opened = Bundle.open(bundle)
    chosen = name or name_of(bundle)
    if not NAME.fullmatch(chosen):
        raise InputError(f"{chosen!r} is no name for a Triton model: letters, digits, '.', '_' and '-'. Give --name.")
    serving = Serving(chosen, device, max_batch_size, max_queue_size, queue_delay_us, timeout_us)
    write_repository(opened, output, serving, long_text=long_text, pad_to=pad_to, force=force)
    if as_json:
        models = [chosen, f"{chosen}_tokenizer", f"{chosen}_graph"]
        click.echo(json.dumps({"repository": str(output), "models": models, "digest": opened.digest}))
        return
    click.echo(f"{output}: {chosen}, {chosen}_tokenizer and {chosen}_graph. tritonserver --model-repository {output}")
