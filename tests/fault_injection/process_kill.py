"""When a command is killed, is anything lost, duplicated, or written in part and then treated as complete?

Scoring, training or exporting is killed with SIGKILL at a random moment, started again as a user would, perhaps killed
again, and finally left to finish. After each kill and at the end its output is compared with that of a run that was
never killed: the same rows, the same weights, the old bundle or the new one. The controls are naive versions of the
same commands, killed as often.
"""

import random
import shlex
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from tests.fault_injection import forkserver, report
from tests.fault_injection.workloads import (
    ExportCommand,
    KillableCommand,
    ScoringCommand,
    TrainingCommand,
    export_arguments,
    write_inputs,
)
from tqdm import tqdm

MAX_KILLS = 4
"""Kills before a run is left to finish."""

NOTE = (
    "A run that was killed is started again with the same command (with `--resume` once a training has started), "
    f"and left to finish after one to {MAX_KILLS} kills. Partial output: a file or folder had its temporary name, or "
    "a checkpoint was truncated. Faults after a kill: there was an output and it was incomplete, or less was kept "
    "than before. Wrong results: the finished run failed, or differed from an uninterrupted one: it must have the "
    "same rows with the same labels, each once; the same weights bit for bit, thresholds and metrics; a bundle with "
    "the same digest that `verify` accepts."
)


@click.command()
@click.option("--kills", type=click.IntRange(min=1), default=100, show_default=True, help="Kills of each command.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the moments.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A folder for the result.")
def main(kills: int, seed: int, output: Path) -> None:
    """Kill scoring, training and exporting of a toy model at random moments."""
    with TemporaryDirectory() as scratch:
        rows = [
            _row(command, kill_repeatedly(command, Path(scratch), kills, seed, naive=naive), naive)
            for command in prepare_commands(Path(scratch))
            for naive in (False, True)
        ]
    words = ["python", "-m", "tests.fault_injection.process_kill", "--kills", str(kills), "--output", "FOLDER"]
    title = f"{kills} kills at random moments of scoring, training and exporting"
    click.echo(report.write_section(output, "kills", title=title, command=shlex.join(words), rows=rows, notes=[NOTE]))


def prepare_commands(folder: Path) -> Sequence[KillableCommand]:
    """Return the three commands, after a run of each that is not killed."""
    data, encoder, rows = write_inputs(folder / "inputs")
    reference, old = folder / "reference", folder / "old"
    reference.mkdir()
    training = TrainingCommand(reference, data, encoder)
    exporting = ExportCommand(reference, reference / "run", old)
    scoring = ScoringCommand(reference, reference / "bundle", rows)
    _finish(_start(training, reference), reference)
    arguments = export_arguments(reference / "run", old, "fp32")
    _finish(forkserver.start_command(arguments, reference / "log.txt"), reference)
    for command in (exporting, scoring):
        _finish(_start(command, reference), reference)
    return scoring, training, exporting


def kill_repeatedly(command: KillableCommand, scratch: Path, kills: int, seed: int, *, naive: bool) -> Counter[str]:
    """Kill a command `kills` times, over as many runs as that takes, and count what went wrong."""
    rng, counts = random.Random(seed), Counter[str]()
    with _new_folder(command, scratch) as folder:
        started = time.monotonic()
        _finish(_start(command, folder, naive=naive), folder)
        full = time.monotonic() - started
    with tqdm(total=kills, desc=f"naive {command.name}" if naive else command.name) as bar:
        while counts["kills"] < kills:
            moments = [rng.uniform(0, full) for _ in range(rng.randint(1, MAX_KILLS))]
            with _new_folder(command, scratch) as folder:
                counts.update(run_with_kills(command, folder, moments[: kills - counts["kills"]], naive=naive))
            bar.update(counts["kills"] - bar.n)
    return counts


def run_with_kills(command: KillableCommand, folder: Path, moments: Sequence[float], *, naive: bool) -> Counter[str]:
    """Run a command to its end, killed at the given seconds after each start, and count what went wrong."""
    counts: Counter[str] = Counter()
    for moment in moments:
        before, process = command.progress(folder), _start(command, folder, naive=naive)
        process.join(moment)
        if process.exitcode is not None:  # it finished earlier
            break
        process.kill()
        process.join()
        counts["kills"] += 1
        counts["partial"] += command.has_partial_output(folder)
        faulty = command.is_done(folder) and bool(command.find_fault(folder))
        counts["faults"] += command.progress(folder) < before or faulty
        if command.is_done(folder):
            break
    if not command.is_done(folder):
        _start(command, folder, naive=naive).join()
    counts["runs"] += 1
    counts["wrong"] += not command.is_done(folder) or bool(command.find_fault(folder))
    return counts


@contextmanager
def _new_folder(command: KillableCommand, scratch: Path) -> Iterator[Path]:
    with TemporaryDirectory(dir=scratch) as folder:
        command.prepare(Path(folder))
        yield Path(folder)


def _start(command: KillableCommand, folder: Path, *, naive: bool = False) -> BaseProcess:
    before = command.install_naive_version if naive else None
    return forkserver.start_command(command.arguments(folder), folder / "log.txt", before)


def _finish(process: BaseProcess, folder: Path) -> None:
    process.join()
    if process.exitcode:
        raise click.ClickException((folder / "log.txt").read_text(encoding="utf-8"))


def _row(command: KillableCommand, counts: Counter[str], naive: bool) -> dict[str, Any]:
    return {
        "command": f"control: {command.name} that {command.naive_version}" if naive else command.name,
        "kills": counts["kills"],
        "partial output": counts["partial"],
        "faults after a kill": counts["faults"],
        "finished runs": counts["runs"],
        "wrong results": counts["wrong"],
    }


if __name__ == "__main__":
    main()
