"""What does a text of ten megabytes cost, whatever it is made of?

Every kind of text is read in a process of its own by a bundle's tokeniser and, as the control, a tenth of it once by
the tokenizers library, which reads all of a text before it truncates: of ten megabytes it would take minutes. Cost is
time and the memory it takes beyond what the process held, the text itself not counted.
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
    "letters and blanks": "a ",
    "blanks": " ",
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
"""The control reads one byte of so many."""
MOST_SECONDS, MOST_MEGABYTES = 0.1, 50
"""What is promised of a text of ten megabytes."""


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--size", type=click.IntRange(min=1), default=SIZE, show_default=True, help="Bytes of a text, in UTF-8.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A folder for the result.")
def main(bundle: Path, size: int, output: Path) -> None:
    """Read texts of every kind by BUNDLE's tokeniser, each in a process of its own."""
    words = ["python", "-m", "tests.fault_injection.adversarial_texts", str(bundle), "--output", "FOLDER"]
    manifest = Bundle.open(bundle).manifest
    costs = {kind: [_measured(bundle, kind, size, who) for who in READERS] for kind in tqdm(UNITS)}
    kept = [sum(map(_keeps, found)) for found in zip(*costs.values(), strict=True)]
    found = report.write(
        output,
        "texts",
        title=f"Texts of {size:,} bytes",
        command=shlex.join(words),
        rows=[_row(kind, *found) for kind, found in costs.items()],
        notes=[
            f"At most {MOST_SECONDS * 1000:.0f} ms and {MOST_MEGABYTES} MB: {kept[0]} of {len(costs)} kinds; the "
            f"control, on a tenth of the text, {kept[1]}.",
            f"Read by the tokeniser of `{bundle.name}`, up to {manifest.max_length} tokens a window and "
            f"{manifest.long_text.max_windows} windows; the best of {ROUNDS} times. What is read is then scored like "
            "any long text. The control is the tokenizers library on all of a tenth of the text, once.",
        ],
    )
    click.echo(found)


def _keeps(found: Any) -> bool:
    return found is not None and found["seconds"] <= MOST_SECONDS and found["megabytes"] <= MOST_MEGABYTES


def _row(kind: str, ours: Any, control: Any) -> dict[str, Any]:
    return {
        "text": kind,
        "ms": f"{ours['seconds'] * 1000:.0f}",
        "MB": f"{ours['megabytes']:.0f}",
        "tokens read": f"{ours['tokens']:,}",
        "control, a tenth: ms": "fails" if control is None else f"{control['seconds'] * 1000:,.0f}",
        "control, a tenth: MB": "" if control is None else f"{control['megabytes']:,.0f}",
    }


def _measured(bundle: Path, kind: str, size: int, who: str) -> Any:
    """In a process of its own; None where it fails."""
    command = [sys.executable, "-m", __spec__.name, "--in-process", str(bundle), kind, str(size), who]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def _ours(bundle: Bundle) -> Callable[[str], int]:
    said = bundle.manifest
    tokenizer = Tokenizer(
        bundle.read(TOKENIZER),
        prefix=said.special_tokens.prefix,
        suffix=said.special_tokens.suffix,
        max_length=said.max_length,
        long_text=said.long_text,
    )
    return lambda text: tokenizer.encode(text)[0].n_tokens


def _library(bundle: Bundle) -> Callable[[str], int]:
    tokenizer = tokenizers.Tokenizer.from_buffer(bundle.read(TOKENIZER))
    return lambda text: len(tokenizer.encode(text).ids)


READERS = {"ours": _ours, "library": _library}


def read_once(folder: str, kind: str, size: str, who: str) -> dict[str, float]:
    """Read a text a few times; seconds of the best, and how far memory rose above what was held before the first."""
    unit = UNITS[kind]
    n_bytes, rounds = (int(size), ROUNDS) if who == "ours" else (int(size) // CONTROL_SHARE, 1)
    text = unit * (n_bytes // len(unit.encode("utf-8", "surrogatepass")))
    read = READERS[who](Bundle.open(folder))
    read(unit)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    held, seconds = _memory("VmRSS"), []
    for _ in range(rounds):
        started = time.perf_counter()
        tokens = read(text)
        seconds.append(time.perf_counter() - started)
    return {"seconds": min(seconds), "megabytes": _memory("VmHWM") - held, "tokens": tokens}


def _memory(name: str) -> float:
    """Megabytes."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name)) / 1000


def _run(arguments: Sequence[str]) -> None:
    if arguments[:1] == ["--in-process"]:
        print(json.dumps(read_once(*arguments[1:])))
    else:
        main(arguments)


if __name__ == "__main__":
    _run(sys.argv[1:])
