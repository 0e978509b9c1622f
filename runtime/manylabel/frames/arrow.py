"""Arrow tables in, Arrow tables out: what a frame or an engine hands in is answered as the rows of a file are."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow.interchange import from_dataframe

from manylabel.classifier import Classifier
from manylabel.data.output_schema import (
    Probabilities,
    answer_fields,
    answered_table,
    check_apart,
    check_text_column,
    is_text,
)
from manylabel.data.readers.block import BLOCK_ROWS, Block
from manylabel.errors import DataError
from manylabel.inference.thresholding import Thresholds, resolve_thresholds
from manylabel.scoring.shard import answered


@dataclass(frozen=True)
class Form:
    """What is read and what is given.

    Attributes:
        text_column: Where the texts are.
        probabilities: One column a label, one list, or none.
        prefix: Before the names of the answer's columns.
        thresholds: In place of the bundle's own: one for all, one a label, or some by name.
    """

    text_column: str = "text"
    probabilities: Probabilities = "columns"
    prefix: str = ""
    thresholds: Thresholds | None = None


def read_frame(frame: Any) -> Any:
    """A frame of any library as an Arrow table, by Arrow's PyCapsule interface or the dataframe interchange protocol.

    Raises:
        DataError: It speaks neither, or holds what Arrow has no type for.
    """
    try:
        if hasattr(frame, "__arrow_c_stream__") or hasattr(frame, "__arrow_c_array__"):
            return pa.table(frame)
        if hasattr(frame, "__dataframe__"):
            return from_dataframe(frame)
    except pa.ArrowException as exc:
        raise DataError(f"the frame cannot be read as an Arrow table: {str(exc).splitlines()[0]}") from exc
    raise DataError(
        f"a {type(frame).__name__} is no frame that speaks Arrow. Pass one of pandas, polars, DuckDB or pyarrow; "
        "collect a lazy one first."
    )


def answered_frame(classifier: Classifier, frame: Any, form: Form) -> Any:
    """A frame's columns and the answers behind them, as one Arrow table.

    Raises:
        DataError: The frame cannot be read, or has no such column of texts.
        UnknownLabel: A threshold is given for a label that is not there.
        InputError: A threshold is not between 0 and 1.
        BundleError: The graph fails.
    """
    table = read_frame(frame)
    schema = answered_schema(table.schema, classifier.bundle.labels, form)
    return pa.Table.from_batches(answered_batches(classifier, table.to_batches(), form), schema=schema)


def answered_schema(schema: Any, labels: Sequence[str], form: Form) -> Any:
    """The columns of a table and, behind them, the answer's.

    Raises:
        DataError: There is no such column of texts, or a column has the name of one of the answer's.
    """
    check_text_column("the frame", schema.names, form.text_column)
    kind = schema.field(form.text_column).type
    if not is_text(kind):
        raise DataError(f"the column {form.text_column!r} is {kind}, not string. Name another, or convert it.")
    answer = answer_fields(labels, form.probabilities, form.prefix)
    check_apart(schema, answer)
    return pa.schema([*schema, *answer], metadata=schema.metadata)  # in which pandas notes its index


def answered_batches(classifier: Classifier, batches: Iterable[Any], form: Form) -> Iterator[Any]:
    """Record batches of one schema and the answers to them, in order, some thousand rows at a time, in bounded memory.

    A text that is null or cannot be scored has its `error`; its neighbours are answered all the same.

    Raises:
        DataError: There is no such column of texts, or a column has the name of one of the answer's.
        UnknownLabel: A threshold is given for a label that is not there.
        InputError: A threshold is not between 0 and 1.
        BundleError: The graph fails.
    """
    labels = classifier.bundle.labels
    thresholds = resolve_thresholds(form.thresholds, labels, classifier.variant.thresholds)
    for block, answers in answered(classifier, _blocks(batches, form.text_column), first_row=0):
        yield from answered_table(
            block,
            answers,
            schema=answered_schema(block.columns.schema, labels, form),
            labels=labels,
            thresholds=thresholds,
            probabilities=form.probabilities,
        ).to_batches()


def _blocks(batches: Iterable[Any], text_column: str) -> Iterator[Block]:
    for batch in batches:
        for start in range(0, len(batch), BLOCK_ROWS):
            part = batch.slice(start, BLOCK_ROWS)
            texts = part.column(text_column).to_pylist()
            null = f"no text: {text_column!r} is null."
            yield Block(part, texts, {place: null for place, text in enumerate(texts) if text is None})
