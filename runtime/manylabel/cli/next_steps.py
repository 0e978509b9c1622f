"""What to type next, by what is installed and what lies in the folder: said where `manylabel` gets no command."""

import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from manylabel.bundle.manifest import MANIFEST
from manylabel.data.readers.tables import READERS

RUN = "run.json"
LOOKED_AT = 1000
"""Entries of the folder; in one with more, nobody waits for the rest."""


def next_commands(folder: Path) -> Iterator[tuple[str, str]]:
    """Commands, the most likely first, and what each is for."""
    entries = _entries(folder)
    bundle = next((path for path in entries if (path / MANIFEST).is_file()), None)
    run = next((path for path in entries if (path / RUN).is_file()), None)
    data = next((path for path in entries if path.suffix in READERS and path.is_file()), None)
    if find_spec("onnxruntime") is None:
        yield 'pip install "manylabel[cpu]"', "what runs a bundle; manylabel[gpu] for NVIDIA GPUs"
    if bundle:
        name = shlex.quote(bundle.name)
        yield f'manylabel predict {name} "a text"', "answer with the bundle that lies here"
        yield f"manylabel serve {name}", "answer over HTTP"
    if run and not bundle:
        yield f"manylabel export {shlex.quote(run.name)} --output bundle", "make a bundle of the run that lies here"
    if find_spec("torch") is None and not bundle:
        yield 'pip install "manylabel[export,cpu]"', "the workbench: it trains and exports"
    elif not run and not bundle:
        name = shlex.quote(data.name) if data else "DATA.csv"
        yield f"manylabel train {name} --output run", "learn from texts and their labels"
    yield "manylabel doctor", "see whether this machine can answer"


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path, _ in zip(folder.iterdir(), range(LOOKED_AT), strict=False))
    except OSError:
        return []
