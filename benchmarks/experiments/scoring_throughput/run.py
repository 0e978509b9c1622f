"""Is `manylabel score` as fast as the library, and is its memory independent of the file's size?

Writes a CSV of short rows (or takes a file), scores it with the command, and scores the same texts with the library in
a process of its own, before and after. Peak memory is sampled over the command and its worker together. The last line
of output is one JSON document.

    python -m experiments.scoring_throughput.run BUNDLE --rows 5000000
        --output benchmarks/experiments/scoring_throughput
"""

import csv
import json
import random
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click

from manylabel.system.hardware_info import available_cores
from manylabel_bench.hardware import describe_hardware

WORDS = ("the", "was", "not", "very", "good", "bad", "late", "app", "parcel", "courier", "invoice", "cheap", "slow")
SAMPLE_SECONDS = 0.05
LIBRARY = """
import csv, json, sys, time
from itertools import islice
from manylabel import Classifier
bundle, path, column, rows, threads = sys.argv[1:]
classifier = Classifier.load(bundle, device="cpu", threads=int(threads))
with open(path, newline="", encoding="utf-8") as file:
    texts = [row[column] for row in islice(csv.DictReader(file), int(rows))]
classifier.predict_proba(texts[:1000])
started = time.perf_counter()
classifier.predict_proba(texts)
print(len(texts) / (time.perf_counter() - started))
"""


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--rows", type=click.IntRange(min=1), default=5_000_000, show_default=True, help="Number of rows to write."
)
@click.option("--data", type=click.Path(path_type=Path), help="A CSV file to score instead of written rows.")
@click.option("--text-column", default="text", show_default=True)
@click.option(
    "--library-rows",
    type=click.IntRange(min=1),
    default=500_000,
    show_default=True,
    help="Maximum number of texts to score with the library.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads for both.  [default: all available cores]")
@click.option("--name", default="short-rows", show_default=True, help="Name of the result file.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="A folder for NAME.json.")
def main(**given: Any) -> None:
    """Measure the speed and memory of scoring a file with BUNDLE."""
    with TemporaryDirectory() as scratch:
        path = given["data"] or write_rows(Path(scratch) / "rows.csv", given["rows"])
        result = measure_scoring(given, path, Path(scratch) / "out")
    if given["output"]:
        given["output"].mkdir(parents=True, exist_ok=True)
        (given["output"] / f"{given['name']}.json").write_text(json.dumps(result, indent=1) + "\n")
    click.echo(json.dumps(result))


def measure_scoring(given: dict[str, Any], path: Path, scored: Path) -> dict[str, Any]:
    """Time the command between two runs of the library."""
    threads = given["threads"] or available_cores()
    rates = [measure_library_rate(given, path, threads)]
    started = time.perf_counter()
    summary, peak = run_with_peak_memory(
        [
            *(sys.executable, "-m", "manylabel", "score", given["bundle"], path, "-o", scored, "--device", "cpu"),
            *("--text-column", given["text_column"], "--threads", threads, "--prefix", "predicted_"),
        ]
    )
    seconds = time.perf_counter() - started
    rates.append(measure_library_rate(given, path, threads))
    rate = summary["rows"] / seconds
    return {
        "command": shlex.join(
            [sys.executable.rpartition("/")[2], "-m", "experiments.scoring_throughput.run", *sys.argv[1:]]
        ),
        "machine": describe_hardware(),
        "threads": threads,
        "rows": summary["rows"],
        "errors": summary["errors"],
        "file_mb": round(path.stat().st_size / 1e6, 1),
        "seconds": round(seconds, 1),
        "score_texts_per_second": round(rate, 1),
        "library_texts_per_second": [round(each, 1) for each in rates],
        "score_against_library": round(rate / median(rates), 3),
        "peak_rss_mb": round(peak, 1),
    }


def write_rows(path: Path, rows: int) -> Path:
    """Write rows of three columns with texts of 1 to 12 words, the same ones every time."""
    rng = random.Random(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "note"])
        for row in range(rows):
            writer.writerow([row, " ".join(rng.choices(WORDS, k=1 + row % 12)), f"note {row}"])
    return path


def measure_library_rate(given: dict[str, Any], path: Path, threads: int) -> float:
    """Return the texts per second of `predict_proba` on a list, in a fresh process."""
    arguments = [given["bundle"], path, given["text_column"], given["library_rows"], threads]
    done = subprocess.run(
        [sys.executable, "-c", LIBRARY, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def run_with_peak_memory(command: list[object]) -> tuple[dict[str, Any], float]:
    """Run a command; return its summary and the peak memory of it and its children in MB."""
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    peak, finished = 0.0, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not finished.wait(SAMPLE_SECONDS):
            peak = max(peak, sum(_resident_mb(pid) for pid in _process_tree(process.pid)))

    sampler = threading.Thread(target=sample)
    sampler.start()
    output, _ = process.communicate()
    finished.set()
    sampler.join()
    if process.returncode:
        raise click.ClickException(f"manylabel score ended with {process.returncode}")
    return json.loads(output), peak


def _process_tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in islice(children, 10):
        yield from _process_tree(int(child))


def _resident_mb(pid: int) -> float:
    """Return resident memory; a library that both processes map counts twice."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0.0)


if __name__ == "__main__":
    main()
