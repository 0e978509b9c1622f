"""Is anything lost, done twice, or half-written and taken for whole, where scoring, training or exporting is killed?

A run is killed by SIGKILL at a moment drawn at random from all of its time, started again as its user would, killed
again perhaps, and at last let through. After each kill and at the end its output is held against that of a run that
nothing happened to: the same rows, the same weights, the old bundle or the new one. The controls are careless twins of
the same work, killed as often.
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
from tests.fault_injection import forkserver, report, tiny_task
from tests.fault_injection.workloads import Exporting, Scoring, Training, Work, export_arguments
from tqdm import tqdm

MOST = 4
"""Kills before a run is let through."""

NOTE = (
    "A run that was killed is started again with the same command (`--resume` once a training is begun), and after one "
    f"to {MOST} kills let through. In the midst of writing: something lay there under a temporary name, or a "
    "checkpoint was cut short. Faults after a kill: the output was there and not whole, or less was kept than before. "
    "Wrong ends: the run that was let through failed, or did not end as one that nothing happened to: the same rows "
    "with the same labels, each once; the same weights to the bit, thresholds and figures; the bundle of the same "
    "digest, which `verify` passes."
)


@click.command()
@click.option("--kills", type=click.IntRange(min=1), default=100, show_default=True, help="Of each work.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the moments.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A folder for the result.")
def main(kills: int, seed: int, output: Path) -> None:
    """Kill runs of scoring, training and exporting a tiny model at random moments."""
    with TemporaryDirectory() as scratch:
        rows = [
            _row(work, strike(work, Path(scratch), kills, seed, careless=careless), careless)
            for work in works(Path(scratch))
            for careless in (False, True)
        ]
    words = ["python", "-m", "tests.fault_injection.process_kill", "--kills", str(kills), "--output", "FOLDER"]
    title = f"{kills} kills at random moments of scoring, training and exporting"
    click.echo(report.write(output, "kills", title=title, command=shlex.join(words), rows=rows, notes=[NOTE]))


def works(folder: Path) -> Sequence[Work]:
    """The three works, with a run of each that nothing happened to."""
    data, encoder, rows = tiny_task.write(folder / "given")
    whole, old = folder / "whole", folder / "old"
    whole.mkdir()
    training, exporting = Training(whole, data, encoder), Exporting(whole, whole / "run", old)
    scoring = Scoring(whole, whole / "bundle", rows)
    _let_through(_start(training, whole), whole)
    _let_through(forkserver.start(export_arguments(whole / "run", old, "fp32"), whole / "said.txt"), whole)
    for work in (exporting, scoring):
        _let_through(_start(work, whole), whole)
    return scoring, training, exporting


def strike(work: Work, scratch: Path, kills: int, seed: int, *, careless: bool) -> Counter[str]:
    """Kill a work so often, in as many lives as that takes, and count what went wrong."""
    dice, found = random.Random(seed), Counter[str]()  # no secret
    with _fresh(work, scratch) as place:
        started = time.monotonic()
        _let_through(_start(work, place, careless=careless), place)
        full = time.monotonic() - started
    with tqdm(total=kills, desc=f"careless {work.name}" if careless else work.name) as bar:
        while found["kills"] < kills:
            moments = [dice.uniform(0, full) for _ in range(dice.randint(1, MOST))]
            with _fresh(work, scratch) as place:
                found.update(_live(work, place, moments[: kills - found["kills"]], careless=careless))
            bar.update(found["kills"] - bar.n)
    return found


def _live(work: Work, place: Path, moments: Sequence[float], *, careless: bool) -> Counter[str]:
    """One output from its beginning to its end, killed so many seconds after each start."""
    found: Counter[str] = Counter()
    for moment in moments:
        before, process = work.kept(place), _start(work, place, careless=careless)
        process.join(moment)
        if process.exitcode is not None:  # it came to its end before
            break
        process.kill()
        process.join()
        found["kills"] += 1
        found["half-written"] += work.half_written(place)
        found["faults"] += work.kept(place) < before or (work.done(place) and bool(work.fault(place)))
        if work.done(place):
            break
    if not work.done(place):
        _start(work, place, careless=careless).join()
    found["ends"] += 1
    found["wrong ends"] += not work.done(place) or bool(work.fault(place))
    return found


@contextmanager
def _fresh(work: Work, scratch: Path) -> Iterator[Path]:
    with TemporaryDirectory(dir=scratch) as folder:
        work.prepare(Path(folder))
        yield Path(folder)


def _start(work: Work, place: Path, *, careless: bool = False) -> BaseProcess:
    return forkserver.start(work.arguments(place), place / "said.txt", work.careless if careless else None)


def _let_through(process: BaseProcess, place: Path) -> None:
    process.join()
    if process.exitcode:
        raise click.ClickException((place / "said.txt").read_text(encoding="utf-8"))


def _row(work: Work, found: Counter[str], careless: bool) -> dict[str, Any]:
    return {
        "work": f"control: {work.name} that {work.twin}" if careless else work.name,
        "kills": found["kills"],
        "in the midst of writing": found["half-written"],
        "faults after a kill": found["faults"],
        "runs let through": found["ends"],
        "wrong ends": found["wrong ends"],
    }


if __name__ == "__main__":
    main()
