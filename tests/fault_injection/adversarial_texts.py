"""How much time and memory does a text of ten megabytes take, whatever its content?

Every kind of text is tokenised in a process of its own by a bundle's tokenizer and, as the control, a tenth of it once
by the tokenizers library, which reads a whole text before it truncates; ten megabytes would take it minutes. Memory is
what tokenising adds to the process, without the text itself.
"""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import tokenizers
from tests.fault_injection import report
from tqdm import tqdm

from manylabel import Bundle
from manylabel.bundle.bundle import TOKENIZER
from manylabel.inference.tokenizer import Tokenizer

SIZE = 10_000_000
UNITS = {
    "words": "the courier was late and rude, ",
    "German words": "Die Lieferung kam viel zu spät. ",
    "one letter": "a",
    "letters and spaces": "a ",
    "spaces": " ",
    "line ends": "\n",
    "digits": "0123456789",
    "punctuation": "!?.,;",
    "Chinese": "服务态度非常差",
    "emoji": "😀👍🏽",
    "joined emoji": "👩\u200d👩\u200d👧\u200d👦",
    "combining marks": "a\u0301\u0327\u0328",
    "marks alone": "\u0301",
    "zero width": "\u200b\u200d\ufeff",
    "right to left": "\u202e\u05e9\u05dc\u05d5\u05dd ",
    "control characters": "\x00\x01\x1b",
    "lone surrogates": "\ud800\udfff",
    "special tokens": "[CLS][SEP]</s><s>[MASK]",
}
ROUNDS = 3
CONTROL_SHARE = 10
"""The control reads this fraction of the text: one byte in ten."""
MAX_SECONDS, MAX_MEGABYTES = 0.1, 50
"""The guaranteed bounds for a text of ten megabytes."""


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--size", type=click.IntRange(min=1), default=SIZE, show_default=True, help="Size of a text in bytes of UTF-8."
)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A folder for the result.")
def main(bundle: Path, size: int, output: Path) -> None:
    """Tokenise texts of every kind with the tokenizer of BUNDLE, each in a process of its own."""
    words = ["python", "-m", "tests.fault_injection.adversarial_texts", str(bundle), "--output", "FOLDER"]
    manifest = Bundle.open(bundle).manifest
    costs = {kind: [_measure(bundle, kind, size, reader) for reader in READERS] for kind in tqdm(UNITS)}
    within = [sum(map(_is_within_bounds, costs_of_reader)) for costs_of_reader in zip(*costs.values(), strict=True)]
    section = report.write_section(
        output,
        "texts",
        title=f"Texts of {size:,} bytes",
        command=shlex.join(words),
        rows=[_row(kind, *measured) for kind, measured in costs.items()],
        notes=[
            f"At most {MAX_SECONDS * 1000:.0f} ms and {MAX_MEGABYTES} MB: {within[0]} of {len(costs)} kinds; the "
            f"control, on a tenth of the text, {within[1]}.",
            f"Tokenised by the tokenizer of `{bundle.name}`, up to {manifest.max_length} tokens per window and "
            f"{manifest.long_text.max_windows} windows; the best of {ROUNDS} runs. These tokens are then scored like "
            "those of any long text. The control is the tokenizers library on a tenth of the text, once.",
        ],
    )
    click.echo(section)


def _is_within_bounds(cost: Any) -> bool:
    return cost is not None and cost["seconds"] <= MAX_SECONDS and cost["megabytes"] <= MAX_MEGABYTES


def _row(kind: str, ours: Any, control: Any) -> dict[str, Any]:
    return {
        "text": kind,
        "ms": f"{ours['seconds'] * 1000:.0f}",
        "MB": f"{ours['megabytes']:.0f}",
        "tokens read": f"{ours['tokens']:,}",
        "control, a tenth: ms": "fails" if control is None else f"{control['seconds'] * 1000:,.0f}",
        "control, a tenth: MB": "" if control is None else f"{control['megabytes']:,.0f}",
    }


def _measure(bundle: Path, kind: str, size: int, reader: str) -> Any:
    """Measure in a process of its own; return None if it fails."""
    command = [sys.executable, "-m", __spec__.name, "--in-process", str(bundle), kind, str(size), reader]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def _load_ours(bundle: Bundle) -> Callable[[str], int]:
    manifest = bundle.manifest
    tokenizer = Tokenizer(
        bundle.read(TOKENIZER),
        prefix=manifest.special_tokens.prefix,
        suffix=manifest.special_tokens.suffix,
        max_length=manifest.max_length,
        long_text=manifest.long_text,
    )
    return lambda text: tokenizer.encode(text)[0].n_tokens


def _load_library(bundle: Bundle) -> Callable[[str], int]:
    tokenizer = tokenizers.Tokenizer.from_buffer(bundle.read(TOKENIZER))
    return lambda text: len(tokenizer.encode(text).ids)


READERS = {"ours": _load_ours, "library": _load_library}


def measure_reader(folder: str, kind: str, size: str, reader: str) -> dict[str, float]:
    """Tokenise a text a few times; return the seconds of the best run, the added memory in MB and the tokens."""
    unit = UNITS[kind]
    n_bytes, rounds = (int(size), ROUNDS) if reader == "ours" else (int(size) // CONTROL_SHARE, 1)
    text = unit * (n_bytes // len(unit.encode("utf-8", "surrogatepass")))
    read = READERS[reader](Bundle.open(folder))
    read(unit)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    held, seconds = _memory("VmRSS"), []
    for _ in range(rounds):
        started = time.perf_counter()
        tokens = read(text)
        seconds.append(time.perf_counter() - started)
    return {"seconds": min(seconds), "megabytes": _memory("VmHWM") - held, "tokens": tokens}


def _memory(name: str) -> float:
    """Return a field of the process's status in MB."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name)) / 1000


def _run(arguments: Sequence[str]) -> None:
    if arguments[:1] == ["--in-process"]:
        print(json.dumps(measure_reader(*arguments[1:])))
    else:
        main(arguments)


if __name__ == "__main__":
    _run(sys.argv[1:])
