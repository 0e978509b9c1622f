"""What does an hour of fuzzing find in the readers of hostile bytes?

Runs `tests/fault_injection/fuzz/run.py` on every target in turn, over and over, and counts. The control is a reader
without a guard, which the same search must find a fault in.
"""

import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
from tests.fault_injection import report

TARGETS = {
    "texts": "tokenisation",
    "requests": "the request decoder",
    "manifest": "the manifest reader",
    "csv": "the CSV reader",
    "jsonl": "the JSON lines reader",
}
CONTROL = "careless"
UNITS = re.compile(r"number_of_executed_units: (\d+)")
WRITTEN = re.compile(r"Test unit written to (\S+)")
HANGS = 10
"""Seconds; of a search that is kept waiting on a busy machine it says nothing, so what it stopped at is read again."""
COVERED = re.compile(r"cov: (\d+) ft: (\d+)")
NOTE = (
    "Branches are those of `manylabel` that the target reached, features libFuzzer's finer count of them. A finding is "
    "an input on which a target raises, hangs for 10 seconds or uses 2 GB, and does so again when it is read alone. "
    "Seconds of a core are those that the search was given; a busy machine gives it less than the time that it ran."
)


@click.command()
@click.option("--seconds", type=click.IntRange(min=1), default=180, show_default=True, help="Of a turn of a target.")
@click.option("--turns", type=click.IntRange(min=1), default=4, show_default=True, help="Of each target.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Turns at the same time.")
@click.option(
    "--script", type=click.Path(path_type=Path), default=Path("tests/fault_injection/fuzz/run.py"), show_default=True
)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A folder for the result.")
def main(seconds: int, turns: int, jobs: int, script: Path, output: Path) -> None:
    """Fuzz every target, and the control, and write what was found."""
    with ThreadPoolExecutor(jobs) as pool:
        under_way = {target: [pool.submit(run, script, target, seconds) for _ in range(turns)] for target in TARGETS}
        under_way[CONTROL] = [pool.submit(run, script, CONTROL, seconds)]
        rows = [row(target, [each.result() for each in runs]) for target, runs in under_way.items()]
    title = f"Fuzzing: {turns} times {seconds} seconds a target"
    words = ["--seconds", str(seconds), "--turns", str(turns), "--jobs", str(jobs), "--output", "FOLDER"]
    command = shlex.join(["python", "-m", "tests.fault_injection.fuzz_report", *words])
    click.echo(report.write(output, "fuzzing", title=title, command=command, rows=rows, notes=[NOTE]))


def run(script: Path, target: str, seconds: int) -> dict[str, Any]:
    """One turn: executions, branches, features, findings, and the seconds of a core it was given."""
    command = [sys.executable, str(script), target, "--seconds", str(seconds), "--verbose"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    shown = process.stdout.read() if process.stdout else ""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    units, covered = UNITS.findall(shown), COVERED.findall(shown)
    if not covered:
        raise click.ClickException(shown)
    return {
        "executions": int(units[-1]) if units else 0,
        "branches": int(covered[-1][0]),
        "features": int(covered[-1][1]),
        "findings": sum(fails(script, target, path) for path in WRITTEN.findall(shown)),
        "seconds": used.ru_utime + used.ru_stime,
    }


def fails(script: Path, target: str, path: str) -> bool:
    """Whether a target fails on an input that a search stopped at, read once more."""
    command = [sys.executable, str(script), target, "--replay", path]
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=3 * HANGS).returncode != 0
    except subprocess.TimeoutExpired:
        return True


def row(target: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """A target's turns, added up."""
    return {
        "target": f"control: {target}" if target == CONTROL else f"{target}: {TARGETS[target]}",
        "seconds of a core": f"{sum(each['seconds'] for each in runs):,.0f}",
        "executions": f"{sum(each['executions'] for each in runs):,}",
        "branches": max(each["branches"] for each in runs),
        "features": max(each["features"] for each in runs),
        "findings": sum(each["findings"] for each in runs),
    }


if __name__ == "__main__":
    main()
