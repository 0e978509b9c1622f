"""Score one shard and commit it: a plain function of a classifier, a job and a number, for any process anywhere.

The part is written first and the commit record last, each whole or not at all; a shard without a record is not done.
Two processes that score the same shard write the same bytes, so neither harms the other.
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from manylabel.classifier import Classifier
from manylabel.data import filesystem
from manylabel.data.output_schema import answered_table
from manylabel.data.readers.block import Block
from manylabel.errors import JobChanged
from manylabel.inference.predictions import PredictionBatch
from manylabel.scoring.job import Job
from manylabel.scoring.planner import read_shard
from manylabel.scoring.writers import open_part


@dataclass(frozen=True)
class Commit:
    """What a shard came to: the record that makes it count.

    Attributes:
        part: The file's name.
        rows: How many it holds.
        first: The id of the first; the last is `first + rows - 1`.
        errors: Rows without an answer.
        truncated: Rows of which some was not read.
        tokens: Tokens of all rows.
        bytes: The file's size.
        sha256: The file's digest.
        job: Digest of the job: its bundle, inputs and options.
        bundle: Digest of the bundle.
        options: How the rows were scored and written.
        quarantined: Rows, by their place in the shard, that were left out because they ended the process.
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
    scored: Callable[[int], object] = lambda rows: None,
) -> Commit:
    """Score a shard, write its part, and commit it.

    Args:
        classifier: Of the job's bundle and precision.
        job: What is done.
        number: Which of its shards.
        quarantined: Rows that are not to be touched, by their place in the shard, and the error that they get.
        scored: Told the number of rows, as they come.

    Raises:
        JobChanged: The classifier is not the job's.
        DataError: The input is not what was planned with.
        BundleError: The graph fails.
        CannotWrite: The disk is full or cannot be written to.
    """
    check_classifier(classifier, job)
    shard = job.plan.shards[number]
    thresholds = job.options.thresholds or classifier.variant.thresholds
    rows = errors = truncated = tokens = 0
    with filesystem.new_file(job.part(number)) as path:
        with (
            open(path, "wb") as file,
            open_part(
                file,
                job.schema,
                format=job.options.format,
                separator=job.options.separator,
                for_spreadsheet=job.options.for_spreadsheet,
            ) as part,
        ):
            for block, answers in answered(classifier, _blocks(job, number, quarantined), first_row=shard.first):
                part.write(
                    answered_table(
                        block,
                        answers,
                        schema=job.schema,
                        labels=job.labels,
                        thresholds=np.array(thresholds, dtype=np.float32),
                        probabilities=job.options.probabilities,
                    )
                )
                rows += len(block)
                errors += len({*block.errors, *answers.errors})
                truncated += int(answers.truncated.sum())
                tokens += int(answers.n_tokens.sum())
                scored(len(block))
        size, sha256 = path.stat().st_size, file_digest(path)
    commit = Commit(
        job.part_name(number), rows, shard.first, errors, truncated, tokens, size, sha256,
        job.digest, job.bundle, asdict(job.options), sorted(quarantined),
    )  # fmt: skip
    filesystem.write_bytes(job.record(number), (json.dumps(asdict(commit), indent=1) + "\n").encode())
    return commit


def try_rows(classifier: Classifier, job: Job, number: int, rows: range, *, quarantined: Mapping[int, str]) -> None:
    """Score some rows of a shard and keep nothing: does the process survive it?"""
    outside = dict.fromkeys(range(job.plan.shards[number].rows), "not tried")
    for row in rows:
        del outside[row]
    for _ in answered(classifier, _blocks(job, number, {**outside, **quarantined}), first_row=0):
        pass


def read_commit(job: Job, number: int) -> Commit | None:
    """The record of a shard that is done; None for one that is not.

    Raises:
        JobChanged: It is of another job.
    """
    content = filesystem.read_bytes(job.record(number))
    if content is None:
        return None
    commit = Commit(**json.loads(content))
    if commit.job != job.digest:
        raise JobChanged(f"{job.record(number)} is of another run than {job.output}. Choose another output.")
    status = filesystem.status(job.part(number))
    return commit if status is not None and status.bytes == commit.bytes else None


def check_classifier(classifier: Classifier, job: Job) -> None:
    """Refuse a classifier that would answer otherwise than the job says.

    Raises:
        JobChanged: It is of another bundle or precision.
    """
    if (classifier.bundle.digest, classifier.precision) != (job.bundle, job.precision):
        raise JobChanged(
            f"the run in {job.output} was begun with the bundle {job.bundle[:12]} in {job.precision}; "
            f"{classifier.bundle.path} is {classifier.bundle.digest[:12]} in {classifier.precision}."
        )


def answered(
    classifier: Classifier, blocks: Iterable[Block], *, first_row: int
) -> Iterator[tuple[Block, PredictionBatch]]:
    """Blocks and the answers to them, while the classifier reads ahead."""
    waiting: deque[Block] = deque()

    def texts() -> Iterator[str | None]:
        for block in blocks:
            waiting.append(block)
            yield from block.texts

    ready = PredictionBatch.empty(len(classifier.bundle.labels))
    for answers in classifier.predict_batches(texts(), first_row=first_row):
        ready = ready.followed_by(answers)
        while waiting and len(ready) >= len(waiting[0]):
            block = waiting.popleft()
            head, ready = ready.split(len(block))
            yield block, head


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _blocks(job: Job, number: int, quarantined: Mapping[int, str]) -> Iterator[Block]:
    """A shard's blocks; rows in quarantine have lost their texts."""
    shard = job.plan.shards[number]
    first = 0
    for block in read_shard(job.plan.inputs[shard.file], shard, job.options.text_column):
        kept = {row - first: quarantined[row] for row in quarantined if first <= row < first + len(block)}
        first += len(block)
        if kept:
            texts = [None if place in kept else text for place, text in enumerate(block.texts)]
            block = replace(block, texts=texts, errors={**block.errors, **kept})
        yield block
