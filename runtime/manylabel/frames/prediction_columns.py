"""The columns that predictions add to a table: their names and types, and their values for a block of rows."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from manylabel.data.readers.block import Block
from manylabel.data.readers.type_inference import cast_columns
from manylabel.errors import DataError
from manylabel.inference.predictions import PredictionBatch, Predictor
from manylabel.inference.thresholding import decide

ProbabilityLayout = Literal["columns", "list", "none"]


def prediction_fields(labels: Sequence[str], probabilities: ProbabilityLayout, prefix: str) -> list[Any]:
    """Return the Arrow fields of the prediction columns.

    Args:
        labels: The labels in column order.
        probabilities: One column per label, one list, or none.
        prefix: Stands before the names of the columns.

    Example:
        >>> [field.name for field in prediction_fields(["delivery", "price"], "columns", prefix="x_")]
        ['x_labels', 'x_p_delivery', 'x_p_price', 'x_n_tokens', 'x_truncated', 'x_error']
    """
    scores = {
        "columns": [(f"p_{label}", pa.float32()) for label in labels],
        "list": [("probabilities", pa.list_(pa.float32()))],
        "none": [],
    }[probabilities]
    return [
        pa.field(prefix + name, arrow_type)
        for name, arrow_type in [
            ("labels", pa.list_(pa.string())),
            *scores,
            ("n_tokens", pa.int64()),
            ("truncated", pa.bool_()),
            ("error", pa.string()),
        ]
    ]


def check_no_clash(columns: Sequence[str], fields: Sequence[Any]) -> None:
    """Refuse a table that already has a column with the name of a prediction column.

    Args:
        columns: The names of the table's columns.
        fields: The prediction columns.

    Raises:
        DataError: It has one.
    """
    taken = sorted({field.name for field in fields} & set(columns))
    if taken:
        raise DataError(
            f"the input already has columns named {', '.join(map(repr, taken))}, like those of the predictions. "
            "Choose other names for the predictions with --prefix, such as --prefix predicted_."
        )


def predict_blocks(
    predictor: Predictor, blocks: Iterable[Block], *, first_row: int
) -> Iterator[tuple[Block, PredictionBatch]]:
    """Yield blocks with their predictions, while the predictor reads ahead.

    Args:
        predictor: A classifier.
        blocks: The rows.
        first_row: The number of the first row in error messages.
    """
    waiting: deque[Block] = deque()

    def chunks() -> Iterator[Sequence[str | None]]:
        for block in blocks:
            waiting.append(block)
            yield block.texts

    for predictions in predictor.predict_chunks(chunks(), first_row=first_row):
        yield waiting.popleft(), predictions


def append_predictions(
    block: Block,
    predictions: PredictionBatch,
    *,
    schema: Any,
    labels: Sequence[str],
    thresholds: NDArray[np.float32],
    probabilities: ProbabilityLayout,
) -> Any:
    """Return a block's columns and its prediction columns as an Arrow table. A row with an error has no prediction.

    Args:
        block: The rows.
        predictions: One for each row.
        schema: The schema of the table: the input's columns, then the prediction columns.
        labels: The labels in column order.
        thresholds: Shape `(n_labels,)`.
        probabilities: One column per label, one list, or none.
    """
    errors = {
        **{index: f"{type(error).__name__}: {error}" for index, error in predictions.errors.items()},
        **block.errors,
    }
    failed = np.zeros(len(block), dtype=np.bool_)
    failed[list(errors)] = True
    added = [
        _labels(predictions.probabilities, thresholds, labels, failed),
        *_probabilities(predictions.probabilities, probabilities, failed),
        pa.array(predictions.n_tokens, mask=failed),
        pa.array(predictions.truncated, mask=failed),
        pa.array([errors.get(index) for index in range(len(block))], type=pa.string()),
    ]
    kept = cast_columns(block.columns, pa.schema(list(schema)[: len(schema) - len(added)]))
    return pa.Table.from_arrays([*kept, *added], schema=schema)


def _probabilities(
    scores: NDArray[np.float32], probabilities: ProbabilityLayout, failed: NDArray[np.bool_]
) -> list[Any]:
    if probabilities == "columns":
        return [pa.array(scores[:, column], mask=failed) for column in range(scores.shape[1])]
    if probabilities == "list":
        sizes = np.where(failed, 0, scores.shape[1])
        return [_lists(pa.array(scores[~failed].ravel()), sizes, failed)]
    return []


def _labels(
    scores: NDArray[np.float32], thresholds: NDArray[np.float32], labels: Sequence[str], failed: NDArray[np.bool_]
) -> Any:
    """Return the labels that apply to each row, the most probable first, as `Prediction.labels` has them."""
    order = np.argsort(-scores, axis=1, kind="stable")
    applies = np.take_along_axis(decide(scores, thresholds), order, axis=1) & ~failed[:, None]
    names = pa.array(labels, type=pa.string()).take(pa.array(order[applies]))
    return _lists(names, applies.sum(axis=1), failed)


def _lists(values: Any, sizes: NDArray[Any], failed: NDArray[np.bool_]) -> Any:
    """Return lists of consecutive `values`, of a size for each row; null where the row has failed."""
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(failed))
