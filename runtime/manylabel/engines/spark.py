"""Spark: prediction columns for a DataFrame, by `mapInArrow`.

Spark forks its Python workers from a daemon. Nothing is loaded in the daemon: a worker loads the model with its first
task and keeps it for the next ones. Spark retries a lost task up to `spark.task.maxFailures` times, and its writer
publishes each row once.
"""

from importlib.util import find_spec

from manylabel.errors import DataError, MissingDependency

if find_spec("pyspark") is None:
    raise MissingDependency('manylabel[spark] is required to score on Spark. pip install "manylabel[spark,cpu]"')

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StringType, StructType

from manylabel.bundle.variants import Precision
from manylabel.data.readers.block import check_has_column
from manylabel.engines.model_spec import ModelSpec
from manylabel.frames.arrow import FrameOptions, predict_record_batches
from manylabel.frames.prediction_columns import ProbabilityLayout, check_no_clash, prediction_fields
from manylabel.inference.thresholding import Thresholds


def score(
    df: DataFrame,
    bundle: Path | str,
    *,
    text_column: str = "text",
    probabilities: ProbabilityLayout = "columns",
    prefix: str = "",
    thresholds: Thresholds | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    precision: Precision = "auto",
) -> DataFrame:
    """Return a DataFrame's columns and the prediction columns after them; lazy, for batches and for streams.

    A task uses `spark.task.cpus` cores.

    Args:
        df: The rows.
        bundle: The bundle's folder, the same path on the driver and on every executor.
        text_column: The column of texts.
        probabilities: One column per label, one list, or none.
        prefix: Prefix of the names of the added columns.
        thresholds: In place of the bundle's own: one for all, one per label, or some by name.
        device: The device. Nothing here distributes GPUs among workers.
        precision: A variant of the bundle; `"auto"` takes the fastest for the device.

    Raises:
        InputError: There is no bundle, or it has no such variant.
        BundleError: The bundle is damaged.
        DataError: There is no such column of strings, or a column has the name of a prediction column.
        UnknownLabel: A threshold names a label that does not exist.

    Example:
        >>> reviews = spark.read.parquet("s3://bucket/reviews")  # doctest: +SKIP
        >>> score(reviews, "bundle").write.parquet("s3://bucket/scored")  # doctest: +SKIP
    """
    spec = ModelSpec.from_bundle(bundle, device=device, precision=precision)
    options = FrameOptions(text_column, probabilities, prefix, thresholds)
    spec.check_thresholds(options)

    def add_predictions(batches: Iterable[Any]) -> Iterator[Any]:
        batches = iter(batches)
        for first in batches:  # a partition without rows loads nothing
            classifier = spec.with_threads(TaskContext.get().cpus()).load_classifier()
            yield from predict_record_batches(classifier, chain([first], batches), options)

    return df.mapInArrow(add_predictions, _schema(df.schema, spec.labels, options))


def _schema(schema: StructType, labels: tuple[str, ...], options: FrameOptions) -> StructType:
    check_has_column("the DataFrame", schema.names, options.text_column)
    spark_type = schema[options.text_column].dataType
    if not isinstance(spark_type, StringType):
        raise DataError(f"the column {options.text_column!r} is {spark_type.simpleString()}, not string. Cast it.")
    fields = prediction_fields(labels, options.probabilities, options.prefix)
    check_no_clash(schema.names, fields)
    return StructType([*schema.fields, *from_arrow_schema(pa.schema(fields)).fields])
