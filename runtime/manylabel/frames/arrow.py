"""Frames and record batches: the predictions of `manylabel score` beside a table's own columns.

A frame is an object of any library that supports Arrow's PyCapsule interface or the dataframe interchange protocol.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
from pyarrow.interchange import from_dataframe

from manylabel.data.readers.block import BLOCK_ROWS, Block, check_text_column
from manylabel.errors import DataError, first_line
from manylabel.frames.prediction_columns import (
    ProbabilityLayout,
    append_predictions,
    check_no_clash,
    predict_blocks,
    prediction_fields,
)
from manylabel.inference.predictions import Predictor
from manylabel.inference.thresholding import Thresholds, resolve_thresholds


class ArrowStream(Protocol):
    """Supports Arrow's PyCapsule interface for tables: pandas, polars, DuckDB, pyarrow.

    Example:
        >>> hasattr(pa.table({"text": ["late again"]}), "__arrow_c_stream__")
        True
    """

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return a capsule with a stream of record batches."""


class ArrowArray(Protocol):
    """Supports Arrow's PyCapsule interface for a single record batch.

    Example:
        >>> hasattr(pa.record_batch({"text": ["late again"]}), "__arrow_c_array__")
        True
    """

    def __arrow_c_array__(self, requested_schema: object | None = None) -> object:
        """Return capsules with a schema and an array."""


class Interchange(Protocol):
    """Supports the dataframe interchange protocol.

    Example:
        >>> hasattr(pa.table({"text": ["late again"]}), "__dataframe__")
        True
    """

    def __dataframe__(self, nan_as_null: bool = False, allow_copy: bool = True) -> object:
        """Return the frame as the protocol defines it."""


Frame = ArrowStream | ArrowArray | Interchange


@dataclass(frozen=True)
class FrameOptions:
    """Which column is scored, and which columns are added.

    Attributes:
        text_column: The column of texts.
        probabilities: One column per label, one list, or none.
        prefix: Prefix of the names of the added columns.
        thresholds: In place of the bundle's own: one for all, one per label, or some by name.

    Example:
        >>> FrameOptions("review", probabilities="list", thresholds={"price": 0.7}).prefix
        ''
    """

    text_column: str = "text"
    probabilities: ProbabilityLayout = "columns"
    prefix: str = ""
    thresholds: Thresholds | None = None


def predict_frame(predictor: Predictor, frame: Frame, options: FrameOptions = FrameOptions()) -> Any:
    """Return a frame's columns and the prediction columns after them.

    Args:
        predictor: A classifier.
        frame: From pandas, polars, DuckDB, pyarrow, or another library that supports Arrow.
        options: Which column is scored, and which columns are added.

    Returns:
        A `pyarrow.Table` with the frame's rows in order.

    Raises:
        DataError: The frame cannot be read, or has no such column of texts.
        UnknownLabel: A threshold names a label that does not exist.
        InputError: A threshold is not between 0 and 1.
        BundleError: The graph fails.

    Example:
        >>> from manylabel import Classifier
        >>> frame = pa.table({"text": ["The parcel arrived broken."], "id": [7]})
        >>> predict_frame(Classifier.load("bundle"), frame, FrameOptions(probabilities="none")).column_names
        ['text', 'id', 'labels', 'n_tokens', 'truncated', 'error']
    """
    table = read_frame(frame)
    schema = frame_schema(table.schema, predictor.labels, options)
    return pa.Table.from_batches(list(predict_record_batches(predictor, table.to_batches(), options)), schema=schema)


def predict_record_batches(predictor: Predictor, batches: Iterable[Any], options: FrameOptions) -> Iterator[Any]:
    """Yield record batches with their prediction columns, in order, some thousand rows at a time, in bounded memory.

    A text that is null or cannot be scored gets an `error`; the other rows get their predictions.

    Args:
        predictor: A classifier.
        batches: Arrow record batches of one schema.
        options: Which column is scored, and which columns are added.

    Raises:
        DataError: There is no such column of texts, or a column has the name of a prediction column.
        UnknownLabel: A threshold names a label that does not exist.
        InputError: A threshold is not between 0 and 1.
        BundleError: The graph fails.

    Example:
        >>> from manylabel import Classifier
        >>> batches = pa.table({"text": ["late again"] * 5000}).to_batches()
        >>> scored = predict_record_batches(Classifier.load("bundle"), batches, FrameOptions())
        >>> [batch.num_rows for batch in scored]
        [4096, 904]
    """
    labels = predictor.labels
    thresholds = resolve_thresholds(options.thresholds, labels, predictor.thresholds_.tolist())
    for block, predictions in predict_blocks(predictor, _blocks(batches, options.text_column), first_row=0):
        yield from append_predictions(
            block,
            predictions,
            schema=frame_schema(block.columns.schema, labels, options),
            labels=labels,
            thresholds=thresholds,
            probabilities=options.probabilities,
        ).to_batches()


def read_frame(frame: Frame) -> Any:
    """Return a frame of any library as an Arrow table.

    Raises:
        DataError: It supports neither Arrow nor the interchange protocol, or holds values that Arrow has no type for.

    Example:
        >>> read_frame(pa.record_batch({"text": ["late again"]})).num_rows
        1
    """
    try:
        if hasattr(frame, "__arrow_c_stream__") or hasattr(frame, "__arrow_c_array__"):
            return pa.table(frame)
        if hasattr(frame, "__dataframe__"):
            return from_dataframe(frame)
    except pa.ArrowException as exc:
        raise DataError(f"the frame cannot be read as an Arrow table: {first_line(exc)}") from exc
    raise DataError(
        f"a {type(frame).__name__} is not a frame that supports Arrow. Pass one of pandas, polars, DuckDB or pyarrow; "
        "collect a lazy one first."
    )


def frame_schema(schema: Any, labels: Sequence[str], options: FrameOptions) -> Any:
    """Return the Arrow schema of a table with the prediction columns after its own.

    Args:
        schema: The table's Arrow schema.
        labels: The labels in column order.
        options: Which column is scored, and which columns are added.

    Raises:
        DataError: There is no such column of texts, or a column has the name of a prediction column.

    Example:
        >>> schema = pa.schema([("text", pa.string())])
        >>> frame_schema(schema, ["delivery"], FrameOptions(prefix="x_")).names
        ['text', 'x_labels', 'x_p_delivery', 'x_n_tokens', 'x_truncated', 'x_error']
    """
    check_text_column("the frame", schema, options.text_column)
    fields = prediction_fields(labels, options.probabilities, options.prefix)
    check_no_clash(schema.names, fields)
    return pa.schema([*schema, *fields], metadata=schema.metadata)  # in which pandas keeps its index


def _blocks(batches: Iterable[Any], text_column: str) -> Iterator[Block]:
    for batch in batches:
        for start in range(0, len(batch), BLOCK_ROWS):
            columns = batch.slice(start, BLOCK_ROWS)
            texts = columns.column(text_column).to_pylist()
            null = f"no text: {text_column!r} is null."
            yield Block(columns, texts, {index: null for index, text in enumerate(texts) if text is None})
