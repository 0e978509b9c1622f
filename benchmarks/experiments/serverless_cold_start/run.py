"""How long does the cold start of a serverless function take, and which steps take the time?

The given Python starts `examples/lambda_handler.py` as a cloud would: interpreter, imports, bundle, one event with one
text; once with all files in the page cache, once with the files of the environment and the bundle dropped from it. What
a cloud does before (finding a machine, fetching the image) is not included.
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

from experiments.common.result_io import format_command, format_machine, write_result
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


def time_start(python: Path, bundle: Path) -> dict[str, Any]:
    """Return the milliseconds of each step from before the process until its answer, and its peak memory in MB."""
    environment = {"PATH": os.environ["PATH"], "BUNDLE": str(bundle.absolute()), "PYTHONPATH": str(EXAMPLES)}
    before = time.monotonic()  # the system's clock, which the child process reads as well
    done = subprocess.run(
        [python, "-c", START, json.dumps(EVENT)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise click.ClickException(f"{python} failed: {done.stderr.strip().splitlines()[-1]}")
    report = json.loads(done.stdout)
    times = [before, *report["at"]]
    steps = {name: 1000 * (times[at + 1] - times[at]) for at, name in enumerate(STEPS)}
    total = 1000 * (times[-1] - before)
    return {**steps, "total": total, "peak_mb": report["kib"] * 1024 / 1e6, "precision": report["precision"]}


def files_read_at_start(python: Path, bundle: Path) -> Iterator[Path]:
    """Yield the files that a start may read: environment, standard library, bundle and example."""
    asked = subprocess.run(
        [python, "-c", "import sys, sysconfig; print(*sys.path[1:], sysconfig.get_path('stdlib'), sep='\\n')"],
        capture_output=True,
        text=True,
        check=True,
    )
    for root in {*asked.stdout.split("\n"), str(bundle), str(EXAMPLES)} - {""}:
        for folder, _, names in os.walk(root):
            yield from (Path(folder) / name for name in names)


def measure_starts(python: Path, bundle: Path, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Time starts with all files in the page cache and with none, in turns."""
    time_start(python, bundle)  # not counted: compiles what is compiled once
    starts: dict[str, list[dict[str, Any]]] = {"in memory": [], "not in memory": []}
    for _ in tqdm(range(rounds), desc="starts", unit="pair"):
        starts["in memory"].append(time_start(python, bundle))
        drop_from_page_cache(files_read_at_start(python, bundle))
        starts["not in memory"].append(time_start(python, bundle))
    return starts


def render_readme(result: dict[str, Any]) -> str:
    """Return the page of a result."""
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
            f"event: medians of {result['rounds']} starts, in turns with the files of environment and bundle in the "
            "page cache and dropped from it (the disk may still cache them). A cloud also has to find a machine and "
            f"fetch an image. The bundle is {result['bundle_mb']:.0f} MB, {result['precision']}.",
            "",
            "| files | total | slowest | interpreter | import manylabel | load the bundle | answer | peak MB |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *rows,
            "",
            format_machine(result["machine"]),
            "",
            f"`{result['command']}`",
            "",
        ]
    )


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--python", type=click.Path(path_type=Path), required=True, help="Python of an environment with the runtime only."
)
@click.option("--rounds", type=click.IntRange(min=2), default=20, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="For result.json and README.md.")
@click.option("--title", required=True, help="The title of README.md.")
def main(bundle: Path, python: Path, rounds: int, output: Path, title: str) -> None:
    """Measure the cold start of the example handler with BUNDLE."""
    opened = Bundle.open(bundle)
    options = {"python": python, "rounds": rounds, "output": "FOLDER", "title": title}
    result = {
        "title": title,
        "command": format_command("serverless_cold_start", [f"build/{bundle.name}"], options, {}),
        "bundle": opened.digest,
        "bundle_mb": sum(record.bytes for record in opened.manifest.files.values()) / 1e6,
        "rounds": rounds,
        "machine": describe_hardware(),
        "starts": (starts := measure_starts(python, bundle, rounds)),
        "precision": starts["in memory"][0]["precision"],
    }
    write_result(result, output, render_readme)
    click.echo(render_readme(result))


if __name__ == "__main__":
    main()
