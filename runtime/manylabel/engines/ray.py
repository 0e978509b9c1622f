"""Ray: answers beside the columns of a dataset, and whole files by shards that commit; both on a pool of actors.

Each actor loads the model once. Ray starts an actor that has died again, but gives up a batch or a shard after so many
`retries`. Ray's own default would let a text that ends the process do so for ever.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from manylabel.bundle.variants import Precision
from manylabel.data.output_schema import Probabilities
from manylabel.engines.model_spec import Recipe
from manylabel.errors import MissingDependency
from manylabel.frames.arrow import Form, answered_frame, answered_schema
from manylabel.inference.pipeline import WINDOW_TEXTS
from manylabel.inference.thresholding import Thresholds
from manylabel.scoring.job import Job
from manylabel.scoring.run import Progress, Request, run
from manylabel.scoring.shard import Commit, read_commit
from manylabel.scoring.worker_supervisor import Loading, Watch

if find_spec("ray") is None:
    raise MissingDependency('manylabel[ray] is required to score on Ray. pip install "manylabel[ray,cpu]"')

import ray.data

BATCH_ROWS = 4 * WINDOW_TEXTS
"""Rows that an actor is handed at a time: some windows, so that one is tokenised while another runs."""

RETRIES = 3


def score(
    dataset: "ray.data.Dataset",
    bundle: Path | str,
    *,
    text_column: str = "text",
    probabilities: Probabilities = "columns",
    prefix: str = "",
    thresholds: Thresholds | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    precision: Precision = "auto",
    actors: int | None = None,
    threads: int = 1,
    retries: int = RETRIES,
) -> "ray.data.Dataset":
    """A dataset's columns and the answers behind them; lazy.

    Args:
        dataset: The rows.
        bundle: Its folder, the same path on every node.
        text_column: Where the texts are.
        probabilities: One column a label, one list, or none.
        prefix: Before the names of the answer's columns.
        thresholds: In place of the bundle's own: one for all, one a label, or some by name.
        device: What runs; an actor on `"cuda"` asks for a GPU of its own.
        precision: A variant of the bundle; `"auto"` takes the fastest that is meant for the device.
        actors: How many; None lets Ray choose by what is free.
        threads: Cores of an actor.
        retries: How often a batch whose actor has died is tried again.

    Raises:
        InputError: There is no bundle, or no such variant in it.
        BundleError: The bundle is damaged.
        DataError: There is no such column of strings, or one has a name of the answer's.
        UnknownLabel: A threshold is given for a label that is not there.
    """
    recipe = Recipe.of(bundle, device=device, precision=precision, threads=threads)
    form = recipe.checked(Form(text_column, probabilities, prefix, thresholds))
    known = dataset.schema(fetch_if_missing=False)
    if known is not None and isinstance(known.base_schema, pa.Schema):  # else the first batch tells
        answered_schema(known.base_schema, recipe.labels, form)
    with _allowed():
        return dataset.map_batches(
            _Answers,
            fn_constructor_args=[recipe, form],
            batch_format="pyarrow",
            batch_size=BATCH_ROWS,
            **_pool(actors, device, threads, retries),
        )


def score_files(
    request: Request,
    *,
    progress: Progress | None = None,
    actors: int | None = None,
    retries: int = RETRIES,
) -> dict[str, Any]:
    """As `manylabel score`: files in, files out, each row once whatever dies; called once more, it goes on.

    The dataset is the list of shards. An actor scores a shard in a process that it watches, writes the part and commits
    it. A shard that is scored twice, since its actor died on the way, is seen once; a row that ends the process is
    found and left out.

    Args:
        request: What is scored. Inputs, output and bundle are where every node finds them; `threads` are an actor's.
        progress: Told how the run comes on.
        actors: How many; None lets Ray choose by what is free.
        retries: How often a shard whose actor has died is tried again.

    Returns:
        The run's summary.

    Raises:
        JobChanged: The output holds a run that was begun otherwise; the message says what changed.
        OutputExists: The output is there, and `force` was not given.
        DataError: An input cannot be read.
    """
    return run(request, progress, partial(_commits, actors=actors, retries=retries))


def _commits(
    job: Job,
    request: Request,
    shards: Sequence[int],
    scored: Callable[[int], object],
    *,
    actors: int | None,
    retries: int,
) -> Iterator[Commit]:
    """Score shards on the pool; commits as they come."""
    device: Literal["cpu", "cuda"] = "cuda" if request.device == "cuda" else "cpu"
    threads = request.threads or 1
    listed = ray.data.from_items([{"shard": number} for number in shards], override_num_blocks=len(shards))
    with _allowed():
        committed = listed.map(
            _Shards,
            fn_constructor_args=[job.output, job.to_json(), Loading(str(request.bundle), device, threads)],
            **_pool(actors, device, threads, retries),
        )
    for row in committed.iter_rows():
        commit = Commit(**json.loads(row["commit"]))
        scored(commit.rows)
        yield commit


def _pool(actors: int | None, device: str, threads: int, retries: int) -> dict[str, Any]:
    """A pool of actors. Restarts are not counted: a machine that fails now and then must not use a long run's up."""
    return {
        "compute": ray.data.ActorPoolStrategy(size=actors),
        "num_cpus": threads,
        "num_gpus": 1 if device == "cuda" else None,
        "max_restarts": -1,
        "max_task_retries": retries,
    }


@contextmanager
def _allowed() -> Iterator[None]:
    """Ray warns of `max_restarts` and `max_task_retries`, which go with 2.64; nothing else bounds its retries yet."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        yield


class _Answers:
    """An actor that answers batches."""

    def __init__(self, recipe: Recipe, form: Form) -> None:
        self._classifier = recipe.classifier()
        self._form = form

    def __call__(self, table: Any) -> Any:
        return answered_frame(self._classifier, table, self._form)


class _Shards:
    """An actor that scores shards and commits them."""

    def __init__(self, output: str, job: dict[str, Any], loading: Loading) -> None:
        self._job = Job.from_json(output, job)
        self._watch = Watch(self._job, loading)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        number = int(row["shard"])
        commit = read_commit(self._job, number) or self._watch.score(number, lambda rows: None)
        return {"shard": number, "commit": json.dumps(asdict(commit))}
