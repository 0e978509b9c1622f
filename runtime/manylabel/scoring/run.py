"""A run from its inputs to its output: plan it or resume it, score its shards, and merge the parts into one file."""

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from manylabel.bundle.variants import Precision, choose_variant
from manylabel.data import filesystem
from manylabel.data.readers.open_table import Format, Source
from manylabel.errors import InputError, OutputExists
from manylabel.hub import open_bundle
from manylabel.inference.ort_loader import Device, resolve_device
from manylabel.scoring.job import JOB, RECORDS, Job, OutputFormat, ScoreOptions
from manylabel.scoring.merge import merge_parts, summarize
from manylabel.scoring.planner import STANDARD_INPUT, ShardPlan, find_sources, plan_shards
from manylabel.scoring.shard import CommitRecord, read_commit
from manylabel.scoring.worker_supervisor import WorkerConfig, WorkerSupervisor
from manylabel.system.resource_errors import memory_errors, write_errors

SPOOL = "stdin"
"""Standard input, stored: the name of the file."""

OUTPUT_SUFFIXES: dict[str, OutputFormat] = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl"}


@dataclass(frozen=True)
class ScoreRequest:
    """Everything that a run needs to know.

    Attributes:
        bundle: The bundle's folder.
        inputs: Files, folders, globs, URIs, or `-` for standard input.
        input_format: The format of all inputs; None for that of their suffixes.
        output: A file, by its suffix, or a folder.
        options: How the rows are scored and written; an output file's suffix overrides the format.
        device: `"cpu"`, `"cuda"` or `"auto"`.
        precision: The variant that scores.
        threads: Cores to use; None for all.
        verify_key: A public key; the bundle must be signed by it. None trusts the folder.
        digest: The digest of the expected bundle; None accepts any.
        share: Which shards this machine scores: `(1, 3)` are the first, the fourth, and so on.
        force: Replace an output that exists.

    Example:
        >>> request = ScoreRequest("bundle", ["reviews.csv"], None, "scored.csv", ScoreOptions(), share=(3, 8))
        >>> request.share
        (3, 8)
    """

    bundle: Path | str
    inputs: Sequence[str]
    input_format: Format | None
    output: str
    options: ScoreOptions
    device: Device = "auto"
    precision: Precision = "auto"
    threads: int | None = None
    verify_key: Path | None = None
    digest: str | None = None
    share: tuple[int, int] = (1, 1)
    force: bool = False


class Progress:
    """Receives the progress of a run; this base class ignores it.

    Example:
        >>> class PrintProgress(Progress):
        ...     def started(self, rows: int, done: int) -> None:
        ...         print(f"{rows - done} rows to score")
        >>> PrintProgress().started(rows=600, done=360)
        240 rows to score
    """

    def planned(self, rows: int) -> None:
        """Receive the number of rows of one more input file."""

    def started(self, rows: int, done: int) -> None:
        """Receive the number of rows that this machine scores, and how many of them are done already."""

    def scored(self, rows: int) -> None:
        """Receive the number of further rows that were scored."""


ShardScorer = Callable[[Job, ScoreRequest, Sequence[int], Callable[[int], object]], Iterable[CommitRecord]]
"""Scores shards of a job and commits them, in any order; calls the last argument with the number of scored rows."""


def score_in_worker(
    job: Job, request: ScoreRequest, shards: Sequence[int], progress: Callable[[int], object]
) -> Iterator[CommitRecord]:
    """Score shards one after the other in a supervised worker process."""
    config = WorkerConfig(str(request.bundle), request.device, request.threads)
    with WorkerSupervisor(job, config) as supervisor:
        yield from (supervisor.score(number, progress) for number in shards)


@memory_errors(filesystem.RESUME_HINT)
def score_files(
    request: ScoreRequest, progress: Progress | None = None, score_shards: ShardScorer = score_in_worker
) -> dict[str, Any]:
    """Score files into files. The same call resumes a run that was interrupted.

    Args:
        request: Inputs, output, bundle and options.
        progress: Receives the progress of the run.
        score_shards: Scores the shards: in a worker process, or on an engine.

    Returns:
        The run's summary, as `manylabel score` prints it.

    Raises:
        JobChanged: The output holds a run with another bundle, input or option; the message names it.
        OutputExists: The output exists, and `force` is False.
        DataError: An input cannot be read.
        CannotWrite: The disk is full or cannot be written to. The same call resumes.
        OutOfMemory: Memory ran out. The same call resumes.
        WorkerDied: The process that scores crashes again and again.

    Example:
        >>> request = ScoreRequest("bundle", ["texts.csv"], None, "scored.csv", ScoreOptions(), device="cpu")
        >>> score_files(request)["rows"]
        200
    """
    started, progress = time.monotonic(), progress or Progress()
    target = _OutputTarget.from_request(request)
    target.check(force=request.force)
    with ExitStack() as stack:
        spool = target.spool(stack)
        _lock(stack, target.folder, request.share)
        if request.force:
            target.clear()
        if request.share[1] == 1:  # else other machines may be writing
            for folder in (target.folder, filesystem.join(target.folder, RECORDS)):
                filesystem.remove_temporaries(folder)
        sources = find_sources(request.inputs, format=request.input_format, spool=spool)
        job = _job(request, target, sources, progress)
        job.save()
        mine = range(request.share[0] - 1, len(job.plan.shards), request.share[1])
        commits, resumed = _score(job, request, mine, progress, score_shards)
        if target.file is not None:
            merge_parts([target.folder], target.file)
            filesystem.remove(target.folder)
        elif STANDARD_INPUT in request.inputs:
            filesystem.remove(spool)
    seconds = time.monotonic() - started
    new_rows = sum(commit.rows for commit in commits) - resumed
    return {
        **summarize(commits),
        "rows_resumed": resumed,
        "seconds": round(seconds, 3),
        "texts_per_second": round(new_rows / seconds, 1),
        "output": request.output,
        "bundle": job.bundle,
        "precision": job.precision,
    }


def _score(
    job: Job, request: ScoreRequest, mine: Sequence[int], progress: Progress, score_shards: ShardScorer
) -> tuple[list[CommitRecord], int]:
    """Return the commit records of this machine's shards, and how many of their rows were done before."""
    done = {number: commit for number in mine if (commit := read_commit(job, number)) is not None}
    resumed = sum(commit.rows for commit in done.values())
    progress.started(sum(job.plan.shards[number].rows for number in mine), resumed)
    left = [number for number in mine if number not in done]
    return [*done.values(), *(score_shards(job, request, left, progress.scored) if left else ())], resumed


def _job(request: ScoreRequest, target: "_OutputTarget", sources: Sequence[Source], progress: Progress) -> Job:
    # the worker compares the digest with that of the bundle it loads
    bundle = open_bundle(request.bundle, verify_key=request.verify_key, digest=request.digest)
    variant = choose_variant(bundle, resolve_device(request.device), request.precision)
    options = replace(request.options, format=target.format)
    planned = _stored_plan(target.folder, sources, options) or plan_shards(
        sources, text_column=options.text_column, shard_rows=options.shard_rows, progress=progress.planned
    )
    job = Job(target.folder, bundle.digest, variant.precision, bundle.labels, options, planned)
    _ = job.schema  # refuses names that clash before any work
    return job


def _stored_plan(folder: str, sources: Sequence[Source], options: ScoreOptions) -> ShardPlan | None:
    """Return the plan of the run that is resumed, if the inputs still have the same sizes and times."""
    if filesystem.status(filesystem.join(folder, f"{RECORDS}/{JOB}")) is None:
        return None
    job = Job.load(folder)
    same = [(each.source, each.status) for each in job.plan.inputs] == [
        (source, filesystem.status(source.uri)) for source in sources
    ]
    cut = ("text_column", "shard_rows")
    return job.plan if same and all(getattr(job.options, name) == getattr(options, name) for name in cut) else None


@dataclass(frozen=True)
class _OutputTarget:
    """Where the output goes.

    Attributes:
        folder: The folder of the parts.
        file: The file into which they are merged; None where the folder is the output.
        format: The format of both.
    """

    folder: str
    file: str | None
    format: OutputFormat

    @classmethod
    def from_request(cls, request: ScoreRequest) -> "_OutputTarget":
        path, query = filesystem.split_query(request.output)
        format = OUTPUT_SUFFIXES.get("." + path.rpartition("/")[2].rpartition(".")[2])
        if format is None or os.path.isdir(path):
            return cls(request.output, None, request.options.format)
        if request.share != (1, 1):
            raise InputError(
                f"{request.output} is a single file, and --shard scores only a share of it. Give --output a folder, "
                f"then: manylabel merge FOLDER --output {request.output}"
            )
        head, slash, name = path.rpartition("/")
        return cls(f"{head}{slash}.{name}.parts{query}", request.output, format)

    def check(self, *, force: bool) -> None:
        """Refuse an output that holds something else."""
        if self.file is not None:
            if filesystem.status(self.file) is not None and not force:
                raise OutputExists(f"{self.file} already exists. Choose another output, or replace it with --force.")
            parent = Path(self.file).absolute().parent
            if not filesystem.is_remote(self.file) and not parent.is_dir():
                raise InputError(f"the folder {parent} does not exist. Create it, or choose another output.")
        elif not filesystem.is_remote(self.folder) and os.path.lexists(self.folder):
            if not os.path.isdir(self.folder):
                raise OutputExists(
                    f"{self.folder} is a file without one of the suffixes {', '.join(OUTPUT_SUFFIXES)}. "
                    "Choose another output."
                )
            if os.listdir(self.folder) and not os.path.isdir(os.path.join(self.folder, RECORDS)):
                raise OutputExists(f"{self.folder} holds other files. Choose an empty or a new folder.")

    def clear(self) -> None:
        """Remove an earlier run, and nothing else."""
        if filesystem.status(filesystem.join(self.folder, f"{RECORDS}/{JOB}")) is not None:
            job = Job.load(self.folder)
            filesystem.remove(filesystem.join(self.folder, f"{RECORDS}/{JOB}"))
            for number in range(len(job.plan.shards)):
                filesystem.remove(job.record(number))
                filesystem.remove(job.part(number))

    def spool(self, stack: ExitStack) -> str:
        """Return where standard input is stored: beside the commit records, or locally where these are remote."""
        if filesystem.is_remote(self.folder):
            return f"{stack.enter_context(tempfile.TemporaryDirectory())}/{SPOOL}"
        filesystem.make_folder(filesystem.join(self.folder, RECORDS))
        return filesystem.join(self.folder, f"{RECORDS}/{SPOOL}")


def _lock(stack: ExitStack, folder: str, share: tuple[int, int]) -> None:
    """Refuse a second run on the same share of a local folder."""
    if filesystem.is_remote(folder):
        return
    path = filesystem.join(folder, f"{RECORDS}/lock-{share[0]}-{share[1]}")
    with write_errors(Path(folder), "the output", filesystem.RESUME_HINT):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    stack.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        raise InputError(f"another run is using {folder}. Wait until it ends, or choose another output.") from exc
