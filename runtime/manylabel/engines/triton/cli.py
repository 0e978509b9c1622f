"""`manylabel triton`."""

import json
import re
from pathlib import Path
from typing import Literal

import click

from manylabel.engines.triton.model_repository import ServingConfig, write_repository
from manylabel.errors import InputError
from manylabel.hub import open_bundle
from manylabel.hub.client import bundle_name

NAME = re.compile(r"[A-Za-z0-9_.-]+")


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), required=True, help="The model repository, a new folder."
)
@click.option("--name", help="The model name that clients use.  [default: the bundle's folder]")
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="The graph's device."
)
@click.option(
    "--long-text",
    type=click.Choice(["error", "truncate"]),
    help="For texts that exceed the model's length; Triton cannot score windows.  [default: the bundle's policy]",
)
@click.option(
    "--pad-to",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Round lengths up to a multiple, so that requests of similar length share a batch; 1 pads no single texts.",
)
@click.option(
    "--max-batch-size",
    type=click.IntRange(min=1),
    default=ServingConfig.max_batch_size,
    show_default=True,
    help="Texts in a batch at most.",
)
@click.option(
    "--max-queue-size",
    type=click.IntRange(min=1),
    default=ServingConfig.max_queue_size,
    show_default=True,
    help="Requests that may wait; Triton rejects more.",
)
@click.option(
    "--queue-delay",
    "queue_delay_us",
    type=click.IntRange(min=0),
    default=ServingConfig.queue_delay_us,
    show_default=True,
    help="Microseconds that a request waits for others to share its batch.",
)
@click.option(
    "--timeout",
    "timeout_us",
    type=click.IntRange(min=0),
    default=ServingConfig.timeout_us,
    show_default=True,
    help="Microseconds after which a waiting request is rejected; 0 for never.",
)
@click.option("--force", is_flag=True, help="Replace an output that exists.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
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
    opened = open_bundle(bundle)
    model_name = name or bundle_name(bundle)
    if not NAME.fullmatch(model_name):
        raise InputError(
            f"{model_name!r} cannot name a Triton model: use letters, digits, '.', '_' and '-'. Give --name."
        )
    serving = ServingConfig(model_name, device, max_batch_size, max_queue_size, queue_delay_us, timeout_us)
    write_repository(opened, output, serving, long_text=long_text, pad_to=pad_to, force=force)
    if as_json:
        models = [model_name, f"{model_name}_tokenizer", f"{model_name}_graph"]
        click.echo(json.dumps({"repository": str(output), "models": models, "digest": opened.digest}))
        return
    click.echo(f"{output}: {model_name}, {model_name}_tokenizer and {model_name}_graph")
    click.echo(f"serve it: tritonserver --model-repository {output}")
