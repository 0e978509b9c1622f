"""Ray: prediction columns for a dataset, and whole files scored by shards that commit; both on a pool of actors.

Every actor loads the model once. Ray restarts an actor that dies, but gives up a batch or a shard after `retries`
attempts; Ray's own default would retry a text that crashes the process forever.
"""

from importlib.util import find_spec

from manylabel.errors import MissingDependency

if find_spec("ray") is None:
    raise MissingDependency('manylabel[ray] is required to score on Ray. pip install "manylabel[ray,cpu]"')

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import ray.data

from manylabel.bundle.variants import Precision
from manylabel.engines.model_spec import ModelSpec
from manylabel.frames.arrow import FrameOptions, frame_schema, predict_frame
from manylabel.frames.prediction_columns import ProbabilityLayout
from manylabel.inference.pipeline import CHUNK_TEXTS
from manylabel.inference.thresholding import Thresholds
from manylabel.scoring.job import Job
from manylabel.scoring.run import Progress, ScoreRequest
from manylabel.scoring.run import score_files as score_files_with
from manylabel.scoring.shard import CommitRecord, read_commit
from manylabel.scoring.worker_supervisor import WorkerConfig, WorkerSupervisor

BATCH_ROWS = 4 * CHUNK_TEXTS
"""Rows in a batch of an actor: several chunks, so that one is tokenized while another runs."""

RETRIES = 3


def score(
    dataset: "ray.data.Dataset",
    bundle: Path | str,
    *,
    text_column: str = "text",
    probabilities: ProbabilityLayout = "columns",
    prefix: str = "",
    thresholds: Thresholds | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    precision: Precision = "auto",
    actors: int | None = None,
    threads: int = 1,
    retries: int = RETRIES,
) -> "ray.data.Dataset":
    """Return a dataset's columns and the prediction columns after them; lazy.

    Args:
        dataset: The rows.
        bundle: The bundle's folder, the same path on every node.
        text_column: The column of texts.
        probabilities: One column per label, one list, or none.
        prefix: Prefix of the names of the added columns.
        thresholds: In place of the bundle's own: one for all, one per label, or some by name.
        device: The device; an actor on `"cuda"` reserves a GPU.
        precision: A variant of the bundle; `"auto"` takes the fastest for the device.
        actors: The number of actors; None lets Ray choose by the free resources.
        threads: Cores of an actor.
        retries: How often a batch is retried after its actor has died.

    Raises:
        InputError: There is no bundle, or it has no such variant.
        BundleError: The bundle is damaged.
        DataError: There is no such column of strings, or a column has the name of a prediction column.
        UnknownLabel: A threshold names a label that does not exist.

    Example:
        >>> reviews = ray.data.read_parquet("s3://bucket/reviews")  # doctest: +SKIP
        >>> score(reviews, "bundle", actors=8).write_parquet("s3://bucket/scored")  # doctest: +SKIP
    """
    spec = ModelSpec.from_bundle(bundle, device=device, precision=precision, threads=threads)
    options = FrameOptions(text_column, probabilities, prefix, thresholds)
    spec.check_thresholds(options)
    known = dataset.schema(fetch_if_missing=False)
    if known is not None and isinstance(known.base_schema, pa.Schema):  # otherwise the first batch is checked
        frame_schema(known.base_schema, spec.labels, options)
    with _ignore_deprecation():
        return dataset.map_batches(
            _BatchScorer,
            fn_constructor_args=[spec, options],
            batch_format="pyarrow",
            batch_size=BATCH_ROWS,
            **_pool(actors, device, threads, retries),
        )


def score_files(
    request: ScoreRequest,
    *,
    progress: Progress | None = None,
    actors: int | None = None,
    retries: int = RETRIES,
) -> dict[str, Any]:
    """Score files into files as `manylabel score` does: each row once, even if processes die. The same call resumes.

    The dataset is the list of shards. An actor scores a shard in a supervised worker process, writes the part and
    commits it. A shard that is scored twice, because its actor died before the end, counts once; a row that crashes the
    process is quarantined.

    Args:
        request: Inputs, output and bundle are paths or URIs that every node can reach; `threads` are an actor's.
        progress: Receives the progress of the run.
        actors: The number of actors; None lets Ray choose by the free resources.
        retries: How often a shard is retried after its actor has died.

    Returns:
        The run's summary, as `manylabel score` prints it.

    Raises:
        JobChanged: The output holds a run with another bundle, input or option; the message names it.
        OutputExists: The output exists, and `force` is False.
        DataError: An input cannot be read.

    Example:
        >>> from manylabel.scoring import ScoreOptions
        >>> request = ScoreRequest("bundle", ["s3://bucket/in"], None, "s3://bucket/out", ScoreOptions())
        >>> score_files(request, actors=8)["errors"]  # doctest: +SKIP
        0
    """
    return score_files_with(request, progress, partial(_score_shards, actors=actors, retries=retries))


def _score_shards(
    job: Job,
    request: ScoreRequest,
    shards: Sequence[int],
    progress: Callable[[int], object],
    *,
    actors: int | None,
    retries: int,
) -> Iterator[CommitRecord]:
    """Score shards on the pool; yield commit records as they arrive."""
    device: Literal["cpu", "cuda"] = "cuda" if request.device == "cuda" else "cpu"
    threads = request.threads or 1
    numbers = ray.data.from_items([{"shard": number} for number in shards], override_num_blocks=len(shards))
    with _ignore_deprecation():
        committed = numbers.map(
            _ShardScorer,
            fn_constructor_args=[job.output, job.to_json(), WorkerConfig(str(request.bundle), device, threads)],
            **_pool(actors, device, threads, retries),
        )
    for row in committed.iter_rows():
        commit = CommitRecord(**json.loads(row["commit"]))
        progress(commit.rows)
        yield commit


def _pool(actors: int | None, device: str, threads: int, retries: int) -> dict[str, Any]:
    """Return the options of an actor pool. Restarts are unlimited, so that rare failures do not end a long run."""
    return {
        "compute": ray.data.ActorPoolStrategy(size=actors),
        "num_cpus": threads,
        "num_gpus": 1 if device == "cuda" else None,
        "max_restarts": -1,
        "max_task_retries": retries,
    }


@contextmanager
def _ignore_deprecation() -> Iterator[None]:
    """Ignore Ray's warning about `max_restarts` and `max_task_retries`; before 2.64 nothing else bounds its retries."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        yield


class _BatchScorer:
    """An actor that adds prediction columns to batches."""

    def __init__(self, spec: ModelSpec, options: FrameOptions) -> None:
        self._classifier = spec.load_classifier()
        self._options = options

    def __call__(self, table: Any) -> Any:
        return predict_frame(self._classifier, table, self._options)


class _ShardScorer:
    """An actor that scores shards and commits them."""

    def __init__(self, output: str, job: dict[str, Any], config: WorkerConfig) -> None:
        self._job = Job.from_json(output, job)
        self._supervisor = WorkerSupervisor(self._job, config)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        number = int(row["shard"])
        commit = read_commit(self._job, number) or self._supervisor.score(number, lambda rows: None)
        return {"shard": number, "commit": json.dumps(asdict(commit))}
