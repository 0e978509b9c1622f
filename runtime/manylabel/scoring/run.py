"""A run from its inputs to its output: planned or gone on with, shard after shard, merged where one file is wanted."""

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from manylabel.bundle.signing import open_signed
from manylabel.bundle.variants import Precision, choose_variant
from manylabel.data import filesystem
from manylabel.errors import InputError, OutputExists
from manylabel.inference.ort_session import Device, resolve_device
from manylabel.scoring.inputs import SPOOL, STANDARD_INPUT, Format, Source, find_sources
from manylabel.scoring.job import JOB, RECORDS, Job, Options
from manylabel.scoring.merge import merge, summary
from manylabel.scoring.planner import Plan, plan
from manylabel.scoring.shard import Commit, read_commit
from manylabel.scoring.worker_supervisor import Loading, Watch
from manylabel.scoring.writers import OutputFormat
from manylabel.system.resource_errors import remembering, writing

OUTPUT_SUFFIXES: dict[str, OutputFormat] = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl"}


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        bundle: The bundle's folder.
        inputs: Files, folders, globs, URIs, or `-`.
        input_format: Of all inputs; None where their suffixes say it.
        output: A file, by its suffix, or a folder.
        options: How the rows are scored and written; an output file's suffix overrules the format.
        device: Where.
        precision: By which variant.
        threads: Cores to use; None for all.
        verify_key: A public key by which the bundle has to be signed; None to trust the folder.
        digest: The bundle that is meant; None for whichever lies there.
        share: Which shards are for this machine: `(1, 3)` are the first, the fourth, and so on.
        force: Whether an output that is there is replaced.
    """

    bundle: Path
    inputs: Sequence[str]
    input_format: Format | None
    output: str
    options: Options
    device: Device = "auto"
    precision: Precision = "auto"
    threads: int | None = None
    verify_key: Path | None = None
    digest: str | None = None
    share: tuple[int, int] = (1, 1)
    force: bool = False


class Progress:
    """Told how the run comes on; this one keeps silent."""

    def planned(self, rows: int) -> None:
        """So many more rows were counted."""

    def started(self, rows: int, done: int) -> None:
        """So many rows are to be scored by this machine, of which some are done already."""

    def scored(self, rows: int) -> None:
        """So many more rows were scored."""


Scoring = Callable[[Job, Request, Sequence[int], Callable[[int], object]], Iterable[Commit]]
"""Scores shards of a job and commits them, in any order; tells the number of rows as they come."""


def watched(job: Job, request: Request, shards: Sequence[int], scored: Callable[[int], object]) -> Iterator[Commit]:
    """Score shards one after the other, in a worker that is watched."""
    with Watch(job, Loading(str(request.bundle), request.device, request.threads)) as watch:
        yield from (watch.score(number, scored) for number in shards)


@remembering(filesystem.GOES_ON)
def run(request: Request, progress: Progress | None = None, scoring: Scoring = watched) -> dict[str, Any]:
    """Score files into files. Called once more after any interruption, it goes on where it was.

    Args:
        request: What was asked for.
        progress: Told how the run comes on.
        scoring: Who scores: a process beside this one, or an engine.

    Returns:
        The run's summary.

    Raises:
        JobChanged: The output holds a run that was begun otherwise; the message says what changed.
        OutputExists: The output is there, and `force` was not given.
        DataError: An input cannot be read.
        CannotWrite: The disk is full or cannot be written to. The same call goes on.
        OutOfMemory: Memory ran out. The same call goes on.
        WorkerDied: The process that scores ends again and again.
    """
    started, progress = time.monotonic(), progress or Progress()
    target = _Target.of(request)
    target.check(force=request.force)
    with ExitStack() as stack:
        spool = target.spool(stack)
        _lock(stack, target.folder, request.share)
        if request.force:
            target.clear()
        if request.share[1] == 1:  # else other shares may be writing
            for folder in (target.folder, filesystem.join(target.folder, RECORDS)):
                filesystem.remove_temporaries(folder)
        sources = find_sources(request.inputs, format=request.input_format, spool=spool)
        job = _job(request, target, sources, progress)
        job.save()
        mine = range(request.share[0] - 1, len(job.plan.shards), request.share[1])
        commits, resumed = _score(job, request, mine, progress, scoring)
        if target.file is not None:
            merge([target.folder], target.file)
            filesystem.remove(target.folder)
        elif STANDARD_INPUT in request.inputs:
            filesystem.remove(spool)
    seconds = time.monotonic() - started
    new_rows = sum(commit.rows for commit in commits) - resumed
    return {
        **summary(commits),
        "rows_resumed": resumed,
        "seconds": round(seconds, 3),
        "texts_per_second": round(new_rows / seconds, 1),
        "output": request.output,
        "bundle": job.bundle,
        "precision": job.precision,
    }


def _score(
    job: Job, request: Request, mine: Sequence[int], progress: Progress, scoring: Scoring
) -> tuple[list[Commit], int]:
    """The commits of all my shards, and how many rows of them were done before."""
    done = {number: commit for number in mine if (commit := read_commit(job, number)) is not None}
    resumed = sum(commit.rows for commit in done.values())
    progress.started(sum(job.plan.shards[number].rows for number in mine), resumed)
    left = [number for number in mine if number not in done]
    return [*done.values(), *(scoring(job, request, left, progress.scored) if left else ())], resumed


def _job(request: Request, target: "_Target", sources: Sequence[Source], progress: Progress) -> Job:
    # the worker holds what it loads to the digest
    bundle = open_signed(request.bundle, request.verify_key, digest=request.digest)
    variant = choose_variant(bundle, resolve_device(request.device), request.precision)
    options = replace(request.options, format=target.format)
    planned = _known_plan(target.folder, sources, options) or plan(
        sources, text_column=options.text_column, shard_rows=options.shard_rows, seen=progress.planned
    )
    job = Job(target.folder, bundle.digest, variant.precision, bundle.labels, options, planned)
    job.schema  # noqa: B018  # names that clash are refused before any work
    return job


def _known_plan(folder: str, sources: Sequence[Source], options: Options) -> Plan | None:
    """The plan of the run that is gone on with, where sizes and times say that the inputs are the same."""
    if filesystem.status(filesystem.join(folder, f"{RECORDS}/{JOB}")) is None:
        return None
    job = Job.load(folder)
    same = [(each.source, each.status) for each in job.plan.inputs] == [
        (source, filesystem.status(source.uri)) for source in sources
    ]
    cut = ("text_column", "shard_rows")
    return job.plan if same and all(getattr(job.options, name) == getattr(options, name) for name in cut) else None


@dataclass(frozen=True)
class _Target:
    """Where the parts go and, if one is wanted, the one file.

    Attributes:
        folder: Of the parts.
        file: The file they become; None where the folder is the output.
        format: Of both.
    """

    folder: str
    file: str | None
    format: OutputFormat

    @classmethod
    def of(cls, request: Request) -> "_Target":
        path, mark, query = request.output.partition("?") if filesystem.is_remote(request.output) else (
            request.output, "", ""
        )  # fmt: skip
        format = OUTPUT_SUFFIXES.get("." + path.rpartition("/")[2].rpartition(".")[2])
        if format is None or os.path.isdir(path):
            return cls(request.output, None, request.options.format)
        if request.share != (1, 1):
            raise InputError(
                f"{request.output} is one file, and --shard writes a share of it. Give --output a folder, "
                f"then: manylabel merge FOLDER --output {request.output}"
            )
        head, slash, name = path.rpartition("/")
        return cls(f"{head}{slash}.{name}.parts{mark}{query}", request.output, format)

    def check(self, *, force: bool) -> None:
        """Refuse an output that would be overwritten."""
        if self.file is not None:
            if filesystem.status(self.file) is not None and not force:
                raise OutputExists(f"{self.file} is there already. Choose another output, or replace it with --force.")
            parent = Path(self.file).absolute().parent
            if not filesystem.is_remote(self.file) and not parent.is_dir():
                raise InputError(f"the folder {parent} does not exist. Create it, or choose another output.")
        elif not filesystem.is_remote(self.folder) and os.path.lexists(self.folder):
            if not os.path.isdir(self.folder):
                raise OutputExists(f"{self.folder} is a file without one of the suffixes {', '.join(OUTPUT_SUFFIXES)}.")
            if os.listdir(self.folder) and not os.path.isdir(os.path.join(self.folder, RECORDS)):
                raise OutputExists(f"{self.folder} holds other files. Choose an empty or a new folder.")

    def clear(self) -> None:
        """Remove a run that was begun here, and nothing else."""
        if filesystem.status(filesystem.join(self.folder, f"{RECORDS}/{JOB}")) is not None:
            job = Job.load(self.folder)
            filesystem.remove(filesystem.join(self.folder, f"{RECORDS}/{JOB}"))
            for number in range(len(job.plan.shards)):
                filesystem.remove(job.record(number))
                filesystem.remove(job.part(number))

    def spool(self, stack: ExitStack) -> str:
        """Where standard input is kept: with the records, or on this machine where they are elsewhere."""
        if filesystem.is_remote(self.folder):
            return f"{stack.enter_context(tempfile.TemporaryDirectory())}/{SPOOL}"
        filesystem.make_folder(filesystem.join(self.folder, RECORDS))
        return filesystem.join(self.folder, f"{RECORDS}/{SPOOL}")


def _lock(stack: ExitStack, folder: str, share: tuple[int, int]) -> None:
    """Keep a second run out of the same share of a folder on this disk."""
    if filesystem.is_remote(folder):
        return
    path = filesystem.join(folder, f"{RECORDS}/lock-{share[0]}-{share[1]}")
    with writing(Path(folder), "the output", filesystem.GOES_ON):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    stack.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        raise InputError(f"another run is at work in {folder}. Wait for it, or choose another output.") from exc
