"""Spark: answers beside the columns of a DataFrame, by `mapInArrow`.

Spark forks its Python workers from a daemon. Nothing is loaded in the daemon: a worker loads the model with its first
task and keeps it for the next ones. A task that is lost is scored again by Spark, as often as `spark.task.maxFailures`
says, and its writer shows each row once.
"""

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from manylabel.bundle.variants import Precision
from manylabel.data.output_schema import Probabilities, answer_fields, check_apart, check_text_column
from manylabel.engines.model_spec import Recipe
from manylabel.errors import DataError, MissingDependency
from manylabel.frames.arrow import Form, answered_batches
from manylabel.inference.thresholding import Thresholds

if find_spec("pyspark") is None:
    raise MissingDependency('manylabel[spark] is required to score on Spark. pip install "manylabel[spark,cpu]"')

from pyspark import TaskContext
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StringType, StructType


def score(
    df: DataFrame,
    bundle: Path | str,
    *,
    text_column: str = "text",
    probabilities: Probabilities = "columns",
    prefix: str = "",
    thresholds: Thresholds | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    precision: Precision = "auto",
) -> DataFrame:
    """A DataFrame's columns and the answers behind them; lazy, for batches and for streams.

    A task uses `spark.task.cpus` cores.

    Args:
        df: The rows.
        bundle: Its folder, the same path on the driver and on every executor.
        text_column: Where the texts are.
        probabilities: One column a label, one list, or none.
        prefix: Before the names of the answer's columns.
        thresholds: In place of the bundle's own: one for all, one a label, or some by name.
        device: What runs. Nothing here shares a GPU out among workers.
        precision: A variant of the bundle; `"auto"` takes the fastest that is meant for the device.

    Raises:
        InputError: There is no bundle, or no such variant in it.
        BundleError: The bundle is damaged.
        DataError: There is no such column of strings, or one has a name of the answer's.
        UnknownLabel: A threshold is given for a label that is not there.
    """
    recipe = Recipe.of(bundle, device=device, precision=precision)
    form = recipe.checked(Form(text_column, probabilities, prefix, thresholds))

    def answer(batches: Iterable[Any]) -> Iterator[Any]:
        batches = iter(batches)
        for first in batches:  # a partition without rows loads nothing
            classifier = recipe.with_threads(TaskContext.get().cpus()).classifier()
            yield from answered_batches(classifier, chain([first], batches), form)

    return df.mapInArrow(answer, _schema(df.schema, recipe.labels, form))


def _schema(given: StructType, labels: tuple[str, ...], form: Form) -> StructType:
    check_text_column("the DataFrame", given.names, form.text_column)
    kind = given[form.text_column].dataType
    if not isinstance(kind, StringType):
        raise DataError(f"the column {form.text_column!r} is {kind.simpleString()}, not string. Cast it.")
    answer = answer_fields(labels, form.probabilities, form.prefix)
    check_apart(given, answer)
    return StructType([*given.fields, *from_arrow_schema(pa.schema(answer)).fields])
