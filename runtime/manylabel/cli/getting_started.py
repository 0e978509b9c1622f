"""Getting started: shell completion, and the next steps that `manylabel` prints when it is run without a command."""

import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from manylabel.bundle.manifest import MANIFEST
from manylabel.data.readers.open_table import SUFFIXES

RUN_FILE = "run.json"
MAX_ENTRIES = 1000
"""Number of folder entries to look at; more would delay the help."""

COMPLETION_VARIABLE = "_MANYLABEL_COMPLETE"
"""The environment variable that the shell's script sets; click derives it from the command's name."""


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL.

    For bash and zsh, add eval "$(manylabel completion bash)" to ~/.bashrc, or the same with zsh to ~/.zshrc. For fish:
    manylabel completion fish > ~/.config/fish/completions/manylabel.fish
    """
    script = get_completion_class(shell)
    if script is None:  # click supports all three
        raise click.UsageError(f"the installed version of click has no completion for {shell}.")
    click.echo(script(ctx.find_root().command, {}, "manylabel", COMPLETION_VARIABLE).source())


def next_steps(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield commands and their purpose, the most likely first.

    They depend on what is installed, and on whether the folder contains a bundle, a training run or a table.
    """
    entries = _list_entries(folder)
    bundle = next((path for path in entries if (path / MANIFEST).is_file()), None)
    run = next((path for path in entries if (path / RUN_FILE).is_file()), None)
    data = next((path for path in entries if path.suffix in SUFFIXES and path.is_file()), None)
    if find_spec("onnxruntime") is None:
        yield 'pip install "manylabel[cpu]"', "install ONNX Runtime; manylabel[gpu] for NVIDIA GPUs"
    if bundle:
        name = shlex.quote(bundle.name)
        yield f'manylabel predict {name} "a text"', "classify a text with the bundle in this folder"
        yield f"manylabel serve {name}", "serve it over HTTP"
    if run and not bundle:
        yield f"manylabel export {shlex.quote(run.name)} --output bundle", "export the run in this folder to a bundle"
    if find_spec("torch") is None and not bundle:
        yield 'pip install "manylabel[export,cpu]"', "install what training and export need"
    elif not run and not bundle:
        name = shlex.quote(data.name) if data else "DATA.csv"
        yield f"manylabel train {name} --output run", "train on labelled texts"
    yield "manylabel doctor", "check whether this machine can run a bundle"


def _list_entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path, _ in zip(folder.iterdir(), range(MAX_ENTRIES), strict=False))
    except OSError:
        return []
