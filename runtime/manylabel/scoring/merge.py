"""Parts and their commit records into one file, once every row is there, in order, and as it was written."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from manylabel.data import filesystem
from manylabel.errors import DataError, InputError, JobChanged
from manylabel.scoring.job import Job
from manylabel.scoring.shard import Commit, read_commit
from manylabel.scoring.writers import csv_header


def merge(folders: Sequence[str], output: str) -> list[Commit]:
    """Make one file of the parts that lie in one folder or, from several machines, in several.

    Args:
        folders: Outputs of one job.
        output: The file; it appears when it is complete.

    Returns:
        What the parts came to, in order.

    Raises:
        InputError: A folder holds no run, or shards are missing.
        JobChanged: The folders are of different jobs.
        DataError: A part is not as it was committed.
    """
    jobs = [Job.load(folder) for folder in folders]
    for job in jobs[1:]:
        if job.digest != jobs[0].digest:
            raise JobChanged(f"{job.output} and {jobs[0].output} are of different runs. Merge the parts of one.")
    check_suffix(output, jobs[0])
    found = [_find(jobs, number) for number in range(len(jobs[0].plan.shards))]
    commits = [commit for _, commit in found]
    _check_ids(jobs[0], commits)
    with filesystem.new_file(output) as path:
        _write(path, jobs[0], found)
    return commits


def check_suffix(output: str, job: Job) -> None:
    """Refuse a file whose name says another format than the parts have.

    Raises:
        InputError: It does.
    """
    if not output.partition("?")[0].endswith(f".{job.options.format}"):
        raise InputError(f"the parts are {job.options.format}; name the output so: {output}.{job.options.format}")


def _find(jobs: Sequence[Job], number: int) -> tuple[str, Commit]:
    for job in jobs:
        commit = read_commit(job, number)
        if commit is not None:
            return job.part(number), commit
    shards = jobs[0].plan.shards
    missing = sum(all(read_commit(job, at) is None for job in jobs) for at in range(len(shards)))
    shard = shards[number]
    raise InputError(
        f"{missing} of {len(shards)} parts are missing, {jobs[0].part_name(number)} (rows {shard.first:,} to "
        f"{shard.first + shard.rows - 1:,}) the first. Run manylabel score once more, then merge."
    )


def _check_ids(job: Job, commits: Sequence[Commit]) -> None:
    """Every row once: each part begins where the one before ends."""
    expected = 0
    for commit, shard in zip(commits, job.plan.shards, strict=True):
        if (commit.first, commit.rows) != (expected, shard.rows):
            raise DataError(
                f"{commit.part} holds {commit.rows:,} rows from {commit.first:,}, where {shard.rows:,} from "
                f"{expected:,} were planned. Remove its record and score it again."
            )
        expected += commit.rows
    if expected != job.plan.rows:
        raise DataError(f"the parts hold {expected:,} rows, and the inputs {job.plan.rows:,}.")


def _write(path: Path, job: Job, found: Sequence[tuple[str, Commit]]) -> None:
    if job.options.format == "parquet":
        with pq.ParquetWriter(path, job.schema, compression="zstd") as writer:
            for uri, commit in found:
                _check_digest(uri, commit)
                for group in _groups(uri):
                    writer.write_table(group, row_group_size=max(1, group.num_rows))
        return
    header = csv_header(job.schema, for_spreadsheet=job.options.for_spreadsheet) if job.options.format == "csv" else b""
    with open(path, "wb") as sink:
        sink.write(header)
        for uri, commit in found:
            with filesystem.open_input(uri) as part:
                _append(sink, part, commit, uri, header)


def _append(sink: IO[bytes], part: IO[bytes], commit: Commit, uri: str, header: bytes) -> None:
    digest = hashlib.sha256(part.read(len(header)))
    while content := part.read(filesystem.COPY_BYTES):
        digest.update(content)
        sink.write(content)
    if digest.hexdigest() != commit.sha256:
        raise _changed(uri)


def _groups(uri: str) -> Iterator[pa.Table]:
    with filesystem.open_input(uri) as raw, pq.ParquetFile(raw) as file:
        for group in range(file.metadata.num_row_groups):
            yield file.read_row_group(group)


def _check_digest(uri: str, commit: Commit) -> None:
    digest = hashlib.sha256()
    with filesystem.open_input(uri) as part:
        while content := part.read(filesystem.COPY_BYTES):
            digest.update(content)
    if digest.hexdigest() != commit.sha256:
        raise _changed(uri)


def _changed(uri: str) -> DataError:
    return DataError(f"{uri} was changed after it was committed. Remove it and its record, and score it again.")


def summary(commits: Sequence[Commit]) -> dict[str, int]:
    """The sums over all parts."""
    names = ("rows", "errors", "truncated", "tokens")
    sums = {name: sum(getattr(commit, name) for commit in commits) for name in names}
    return {**sums, "quarantined": sum(len(commit.quarantined) for commit in commits), "parts": len(commits)}
