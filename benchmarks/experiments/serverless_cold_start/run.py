"""How long does a function that is started on demand take until it has answered its first event, and for what?

`examples/lambda_handler.py` is started anew by the Python that is named, as a cloud would: the interpreter, the
imports, the bundle, one event of one text. Once with all files in memory, once with the environment's and the bundle's
dropped from the page cache. What a cloud does before (finding a machine, fetching the image) is not in it.
"""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from experiments.common.result_io import command, machine_line, write
from manylabel import Bundle
from manylabel_bench.hardware import describe_hardware
from manylabel_bench.scenarios.cold_start import drop_from_page_cache

EXAMPLES = Path(__file__).parents[3] / "examples"
EVENT = {"body": json.dumps({"texts": ["Great fabric, but it took two weeks and nobody answered my mails."]})}
STEPS = ("interpreter", "import", "load", "answer")
START = """
import json, sys, time
began = time.monotonic()
import manylabel.classifier
imported = time.monotonic()
from lambda_handler import classifier, handler
loaded = time.monotonic()
assert handler(json.loads(sys.argv[1]))["statusCode"] == 200
answered = time.monotonic()
from resource import RUSAGE_SELF, getrusage
kib = getrusage(RUSAGE_SELF).ru_maxrss
print(json.dumps({"at": [began, imported, loaded, answered], "kib": kib, "precision": classifier.precision}))
"""


def start(python: Path, bundle: Path) -> dict[str, Any]:
    """Milliseconds of every step of one start, from before the process until it has answered, and its peak MB."""
    environment = {"PATH": os.environ["PATH"], "BUNDLE": str(bundle.absolute()), "PYTHONPATH": str(EXAMPLES)}
    before = time.monotonic()  # the clock of the system, which the child reads as well
    done = subprocess.run(
        [python, "-c", START, json.dumps(EVENT)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise click.ClickException(f"{python} failed: {done.stderr.strip().splitlines()[-1]}")
    said = json.loads(done.stdout)
    times = [before, *said["at"]]
    steps = {name: 1000 * (times[at + 1] - times[at]) for at, name in enumerate(STEPS)}
    total = 1000 * (times[-1] - before)
    return {**steps, "total": total, "peak_mb": said["kib"] * 1024 / 1e6, "precision": said["precision"]}


def files(python: Path, bundle: Path) -> Iterator[Path]:
    """What a start may read: the environment, the interpreter's own library, the bundle, the example."""
    asked = subprocess.run(
        [python, "-c", "import sys, sysconfig; print(*sys.path[1:], sysconfig.get_path('stdlib'), sep='\\n')"],
        capture_output=True,
        text=True,
        check=True,
    )
    for root in {*asked.stdout.split("\n"), str(bundle), str(EXAMPLES)} - {""}:
        for folder, _, names in os.walk(root):
            yield from (Path(folder) / name for name in names)


def measure(python: Path, bundle: Path, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Starts with all in memory and with nothing, in turns."""
    start(python, bundle)  # not counted: what is compiled once is
    found: dict[str, list[dict[str, Any]]] = {"in memory": [], "not in memory": []}
    for _ in tqdm(range(rounds), desc="starts", unit="pair"):
        found["in memory"].append(start(python, bundle))
        drop_from_page_cache(files(python, bundle))
        found["not in memory"].append(start(python, bundle))
    return found


def markdown(result: dict[str, Any]) -> str:
    """The page of a result."""
    rows = []
    for state, starts in result["starts"].items():
        middle = {key: statistics.median(each[key] for each in starts) for key in (*STEPS, "total", "peak_mb")}
        worst = max(each["total"] for each in starts)
        steps = " | ".join(f"{middle[name]:.0f}" for name in STEPS)
        rows.append(f"| {state} | {middle['total']:.0f} | {worst:.0f} | {steps} | {middle['peak_mb']:.0f} |")
    return "\n".join(
        [
            f"# {result['title']}",
            "",
            "Milliseconds from before the process is started until `examples/lambda_handler.py` has answered its first "
            f"event: medians of {result['rounds']} starts, in turns with the environment's and the bundle's files in "
            "memory and dropped from the page cache (which the disk may still hold). Finding a machine and fetching an "
            f"image come on top in a cloud. The bundle is {result['bundle_mb']:.0f} MB, {result['precision']}.",
            "",
            "| files | total | slowest | interpreter | import manylabel | load the bundle | answer | peak MB |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *rows,
            "",
            machine_line(result["machine"]),
            "",
            f"`{result['command']}`",
            "",
        ]
    )


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--python", type=click.Path(path_type=Path), required=True, help="Of an environment that answers alone.")
@click.option("--rounds", type=click.IntRange(min=2), default=20, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="For result.json and README.md.")
@click.option("--title", required=True, help="Heads README.md.")
def main(bundle: Path, python: Path, rounds: int, output: Path, title: str) -> None:
    """Start the handler of BUNDLE anew, again and again."""
    opened = Bundle.open(bundle)
    several = {"python": python, "rounds": rounds, "output": "FOLDER", "title": title}
    result = {
        "title": title,
        "command": command("cold_start", [f"build/{bundle.name}"], several, {}),
        "bundle": opened.digest,
        "bundle_mb": sum(record.bytes for record in opened.manifest.files.values()) / 1e6,
        "rounds": rounds,
        "machine": describe_hardware(),
        "starts": (starts := measure(python, bundle, rounds)),
        "precision": starts["in memory"][0]["precision"],
    }
    write(result, output, markdown(result))
    click.echo(markdown(result))


if __name__ == "__main__":
    main()
