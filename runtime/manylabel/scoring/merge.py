"""Merge parts into one file, after checking that every row is present, in order, and unchanged."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from manylabel.data import filesystem
from manylabel.errors import DataError, InputError, JobChanged
from manylabel.scoring.job import Job
from manylabel.scoring.shard import CommitRecord, read_commit
from manylabel.scoring.writers import csv_header


def merge_parts(folders: Sequence[str], output: str) -> list[CommitRecord]:
    """Merge the parts in one folder or, from several machines, in several.

    Args:
        folders: Output folders of one job.
        output: The file, written atomically.

    Returns:
        The parts' commit records, in order.

    Raises:
        InputError: A folder holds no run, or parts are missing.
        JobChanged: The folders belong to different jobs.
        DataError: A part was changed after it was committed.

    Example:
        >>> from manylabel.scoring.run import ScoreOptions, ScoreRequest, score_files
        >>> for share in ((1, 2), (2, 2)):
        ...     options = ScoreOptions(format="csv", shard_rows=90)
        ...     request = ScoreRequest("bundle", ["texts.csv"], None, f"scored-{share[0]}", options, "cpu", share=share)
        ...     _ = score_files(request)
        >>> [commit.rows for commit in merge_parts(["scored-1", "scored-2"], "scored.csv")]
        [90, 90, 20]
    """
    jobs = [Job.load(folder) for folder in folders]
    for job in jobs[1:]:
        if job.digest != jobs[0].digest:
            raise JobChanged(f"{job.output} and {jobs[0].output} belong to different runs. Merge the parts of one run.")
    check_suffix(output, jobs[0])
    parts = [_find_part(jobs, number) for number in range(len(jobs[0].plan.shards))]
    commits = [commit for _, commit in parts]
    _check_rows(jobs[0], commits)
    with filesystem.new_file(output) as path:
        _write(path, jobs[0], parts)
    return commits


def check_suffix(output: str, job: Job) -> None:
    """Refuse an output file whose suffix does not name the parts' format.

    Raises:
        InputError: It does not.
    """
    if not filesystem.split_query(output)[0].endswith(f".{job.options.format}"):
        raise InputError(
            f"the parts are {job.options.format}; give the output that suffix: {output}.{job.options.format}"
        )


def _find_part(jobs: Sequence[Job], number: int) -> tuple[str, CommitRecord]:
    for job in jobs:
        commit = read_commit(job, number)
        if commit is not None:
            return job.part(number), commit
    shards = jobs[0].plan.shards
    missing = sum(all(read_commit(job, at) is None for job in jobs) for at in range(len(shards)))
    shard = shards[number]
    raise InputError(
        f"{missing} of {len(shards)} parts are missing, {jobs[0].part_name(number)} (rows {shard.first:,} to "
        f"{shard.first + shard.rows - 1:,}) the first. Run the same manylabel score command again, then merge."
    )


def _check_rows(job: Job, commits: Sequence[CommitRecord]) -> None:
    """Check that each part starts where the one before ends, so that every row is present once."""
    expected = 0
    for commit, shard in zip(commits, job.plan.shards, strict=True):
        if (commit.first, commit.rows) != (expected, shard.rows):
            raise DataError(
                f"{commit.part} holds {commit.rows:,} rows from {commit.first:,}; expected {shard.rows:,} rows from "
                f"{expected:,}. Remove its commit record, and run the same manylabel score command again."
            )
        expected += commit.rows
    if expected != job.plan.rows:
        raise DataError(f"the parts hold {expected:,} rows, and the inputs {job.plan.rows:,}. Score the inputs again.")


def _write(path: Path, job: Job, parts: Sequence[tuple[str, CommitRecord]]) -> None:
    if job.options.format == "parquet":
        with pq.ParquetWriter(path, job.schema, compression="zstd") as writer:
            for uri, commit in parts:
                _check_digest(uri, commit)
                for group in _row_groups(uri):
                    writer.write_table(group, row_group_size=max(1, group.num_rows))
        return
    header = csv_header(job.schema, for_spreadsheet=job.options.for_spreadsheet) if job.options.format == "csv" else b""
    with open(path, "wb") as sink:
        sink.write(header)
        for uri, commit in parts:
            with filesystem.open_input(uri) as part:
                _append(sink, part, commit, uri, header)


def _append(sink: IO[bytes], part: IO[bytes], commit: CommitRecord, uri: str, header: bytes) -> None:
    digest = hashlib.sha256(part.read(len(header)))
    while content := part.read(filesystem.COPY_BYTES):
        digest.update(content)
        sink.write(content)
    if digest.hexdigest() != commit.sha256:
        raise _changed(uri)


def _row_groups(uri: str) -> Iterator[pa.Table]:
    with filesystem.open_input(uri) as raw, pq.ParquetFile(raw) as file:
        for group in range(file.metadata.num_row_groups):
            yield file.read_row_group(group)


def _check_digest(uri: str, commit: CommitRecord) -> None:
    digest = hashlib.sha256()
    with filesystem.open_input(uri) as part:
        while content := part.read(filesystem.COPY_BYTES):
            digest.update(content)
    if digest.hexdigest() != commit.sha256:
        raise _changed(uri)


def _changed(uri: str) -> DataError:
    return DataError(
        f"{uri} was changed after it was committed. Remove it and its commit record, and run manylabel score again."
    )


def summarize(commits: Sequence[CommitRecord]) -> dict[str, int]:
    """Return the sums over all parts, as the commands print them.

    Example:
        >>> summarize([])["rows"]
        0
    """
    names = ("rows", "errors", "truncated", "tokens")
    sums = {name: sum(getattr(commit, name) for commit in commits) for name in names}
    return {**sums, "quarantined": sum(len(commit.quarantined) for commit in commits), "parts": len(commits)}
