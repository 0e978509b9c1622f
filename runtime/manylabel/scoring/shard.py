"""Score one shard and commit it: a plain function of a classifier, a job and a number, callable in any process.

The part is written first and its commit record last, both atomically; a shard without a record counts as not done. Two
processes that score the same shard write the same bytes, so neither harms the other.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from manylabel.classifier import Classifier
from manylabel.data import filesystem
from manylabel.data.readers.block import Block
from manylabel.errors import JobChanged
from manylabel.frames.prediction_columns import append_predictions, predict_blocks
from manylabel.scoring.job import Job
from manylabel.scoring.planner import read_shard
from manylabel.scoring.writers import open_part


@dataclass(frozen=True)
class CommitRecord:
    """The record that makes a shard count as done.

    Attributes:
        part: The part's file name.
        rows: The number of its rows.
        first: The id of the first row; that of the last is `first + rows - 1`.
        errors: Rows without a prediction.
        truncated: Rows whose text was not read to its end.
        tokens: Tokens of all rows.
        bytes: The part's size.
        sha256: The part's digest.
        job: Digest of the job: bundle, inputs and options.
        bundle: Digest of the bundle.
        options: How the rows were scored and written.
        quarantined: Rows, by their index in the shard, that were left out because they crashed the process.

    Example:
        >>> from manylabel.scoring.run import ScoreOptions, ScoreRequest, score_files
        >>> request = ScoreRequest("bundle", ["texts.csv"], None, "scored", ScoreOptions(), device="cpu")
        >>> _ = score_files(request)
        >>> commit = read_commit(Job.load("scored"), 0)
        >>> commit.part, commit.rows, commit.quarantined
        ('part-000000.parquet', 200, [])
    """

    part: str
    rows: int
    first: int
    errors: int
    truncated: int
    tokens: int
    bytes: int
    sha256: str
    job: str
    bundle: str
    options: dict[str, Any]
    quarantined: list[int]


def score_shard(
    classifier: Classifier,
    job: Job,
    number: int,
    *,
    quarantined: Mapping[int, str] = {},
    progress: Callable[[int], object] = lambda rows: None,
) -> CommitRecord:
    """Score a shard, write its part, and commit it.

    Args:
        classifier: Of the job's bundle and precision.
        job: The job specification.
        number: The shard's index in the job.
        quarantined: Errors of rows that are left out, by their index in the shard.
        progress: Called with a number of rows, as they are scored.

    Raises:
        JobChanged: The classifier is of another bundle or precision.
        DataError: The input has changed.
        BundleError: The graph fails.
        CannotWrite: The disk is full or cannot be written to.

    Example:
        >>> from manylabel.scoring.run import ScoreOptions, ScoreRequest, score_files
        >>> request = ScoreRequest("bundle", ["texts.csv"], None, "again", ScoreOptions(shard_rows=150), device="cpu")
        >>> _ = score_files(request)
        >>> classifier = Classifier.load("bundle", device="cpu")
        >>> [score_shard(classifier, Job.load("again"), number).rows for number in (0, 1)]
        [150, 50]
    """
    check_classifier(classifier, job)
    shard = job.plan.shards[number]
    thresholds = np.array(job.options.thresholds or classifier.variant.thresholds, dtype=np.float32)
    rows = errors = truncated = tokens = 0
    with filesystem.new_file(job.part(number)) as path:
        with open(path, "wb") as file, open_part(file, job.schema, job.options) as part:
            blocks = _blocks(job, number, quarantined)
            for block, predictions in predict_blocks(classifier, blocks, first_row=shard.first):
                part.write(
                    append_predictions(
                        block,
                        predictions,
                        schema=job.schema,
                        labels=job.labels,
                        thresholds=thresholds,
                        probabilities=job.options.probabilities,
                    )
                )
                rows += len(block)
                errors += len({*block.errors, *predictions.errors})
                truncated += int(predictions.truncated.sum())
                tokens += int(predictions.n_tokens.sum())
                progress(len(block))
        size, sha256 = path.stat().st_size, file_digest(path)
    commit = CommitRecord(
        part=job.part_name(number),
        rows=rows,
        first=shard.first,
        errors=errors,
        truncated=truncated,
        tokens=tokens,
        bytes=size,
        sha256=sha256,
        job=job.digest,
        bundle=job.bundle,
        options=asdict(job.options),
        quarantined=sorted(quarantined),
    )
    filesystem.write_bytes(job.record(number), (json.dumps(asdict(commit), indent=1) + "\n").encode())
    return commit


def try_rows(classifier: Classifier, job: Job, number: int, rows: range, *, quarantined: Mapping[int, str]) -> None:
    """Score some rows of a shard and keep nothing, to see whether the process survives them."""
    outside = dict.fromkeys(range(job.plan.shards[number].rows), "not tried")
    for row in rows:
        del outside[row]
    for _ in predict_blocks(classifier, _blocks(job, number, {**outside, **quarantined}), first_row=0):
        pass


def read_commit(job: Job, number: int) -> CommitRecord | None:
    """Return the commit record of a shard; None where the shard is not done.

    Raises:
        JobChanged: The record is of another job.
    """
    content = filesystem.read_bytes(job.record(number))
    if content is None:
        return None
    commit = CommitRecord(**json.loads(content))
    if commit.job != job.digest:
        raise JobChanged(f"{job.record(number)} belongs to another run than {job.output}. Choose another output.")
    status = filesystem.status(job.part(number))
    return commit if status is not None and status.bytes == commit.bytes else None


def check_classifier(classifier: Classifier, job: Job) -> None:
    """Refuse a classifier of another bundle or precision than the job's.

    Raises:
        JobChanged: It is one.
    """
    if (classifier.bundle.digest, classifier.precision) != (job.bundle, job.precision):
        raise JobChanged(
            f"the run in {job.output} was started with the bundle {job.bundle[:12]} in {job.precision}; "
            f"{classifier.bundle.path} is {classifier.bundle.digest[:12]} in {classifier.precision}."
        )


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _blocks(job: Job, number: int, quarantined: Mapping[int, str]) -> Iterator[Block]:
    """Yield a shard's blocks, with an error in place of the text of every quarantined row."""
    shard = job.plan.shards[number]
    first = 0
    for block in read_shard(job.plan.inputs[shard.file], shard, job.options.text_column):
        left_out = {row - first: quarantined[row] for row in quarantined if first <= row < first + len(block)}
        first += len(block)
        if left_out:
            texts = [None if index in left_out else text for index, text in enumerate(block.texts)]
            block = replace(block, texts=texts, errors={**block.errors, **left_out})
        yield block
