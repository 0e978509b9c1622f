"""What does an hour of fuzzing find in the parsers of untrusted bytes?

Runs `tests/fault_injection/fuzz/run.py` several times on every target, and counts executions and findings. The control
is a parser without protection, in which the same search must find a fault.
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
    "texts": "the tokenizer",
    "requests": "the request decoder",
    "manifest": "the manifest reader",
    "csv": "the CSV reader",
    "jsonl": "the JSON lines reader",
}
CONTROL = "careless"
EXECUTIONS = re.compile(r"number_of_executed_units: (\d+)")
CRASH_FILE = re.compile(r"Test unit written to (\S+)")
HANG_SECONDS = 10
"""An input that takes longer is a finding if it does so again: on a busy machine the search itself may be delayed."""
COVERAGE = re.compile(r"cov: (\d+) ft: (\d+)")
NOTE = (
    "Branches are those of `manylabel` that the target covered; features are libFuzzer's finer count. A finding is an "
    "input on which a target raises, hangs for 10 seconds or uses 2 GB, and does so again when it is replayed alone. "
    "CPU seconds are those that the search used, which on a busy machine is less than the time that it ran."
)


@click.command()
@click.option("--seconds", type=click.IntRange(min=1), default=180, show_default=True, help="Seconds of a turn.")
@click.option("--turns", type=click.IntRange(min=1), default=4, show_default=True, help="Turns of each target.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Turns in parallel.")
@click.option(
    "--script", type=click.Path(path_type=Path), default=Path("tests/fault_injection/fuzz/run.py"), show_default=True
)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A folder for the result.")
def main(seconds: int, turns: int, jobs: int, script: Path, output: Path) -> None:
    """Fuzz every target and the control, and write the result."""
    with ThreadPoolExecutor(jobs) as pool:
        running = {
            target: [pool.submit(run_fuzzer, script, target, seconds) for _ in range(turns)] for target in TARGETS
        }
        running[CONTROL] = [pool.submit(run_fuzzer, script, CONTROL, seconds)]
        rows = [table_row(target, [each.result() for each in runs]) for target, runs in running.items()]
    title = f"Fuzzing: {turns} times {seconds} seconds a target"
    words = ["--seconds", str(seconds), "--turns", str(turns), "--jobs", str(jobs), "--output", "FOLDER"]
    command = shlex.join(["python", "-m", "tests.fault_injection.fuzz_report", *words])
    click.echo(report.write_section(output, "fuzzing", title=title, command=command, rows=rows, notes=[NOTE]))


def run_fuzzer(script: Path, target: str, seconds: int) -> dict[str, Any]:
    """Run one turn; return executions, branches, features, findings and CPU seconds."""
    command = [sys.executable, str(script), target, "--seconds", str(seconds), "--verbose"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    shown = process.stdout.read() if process.stdout else ""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    units, covered = EXECUTIONS.findall(shown), COVERAGE.findall(shown)
    if not covered:
        raise click.ClickException(shown)
    return {
        "executions": int(units[-1]) if units else 0,
        "branches": int(covered[-1][0]),
        "features": int(covered[-1][1]),
        "findings": sum(reproduces(script, target, path) for path in CRASH_FILE.findall(shown)),
        "seconds": used.ru_utime + used.ru_stime,
    }


def reproduces(script: Path, target: str, path: str) -> bool:
    """Return whether a target fails again on an input at which a search stopped."""
    command = [sys.executable, str(script), target, "--replay", path]
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=3 * HANG_SECONDS).returncode != 0
    except subprocess.TimeoutExpired:
        return True


def table_row(target: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum up the turns of a target."""
    return {
        "target": f"control: {target}" if target == CONTROL else f"{target}: {TARGETS[target]}",
        "CPU seconds": f"{sum(each['seconds'] for each in runs):,.0f}",
        "executions": f"{sum(each['executions'] for each in runs):,}",
        "branches": max(each["branches"] for each in runs),
        "features": max(each["features"] for each in runs),
        "findings": sum(each["findings"] for each in runs),
    }


if __name__ == "__main__":
    main()
