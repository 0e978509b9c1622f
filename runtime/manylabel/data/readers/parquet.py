"""Parquet: the columns with their types, read from the row group that holds the first row that is wanted."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from manylabel.data import filesystem
from manylabel.data.output_schema import check_names, check_text_column, is_text
from manylabel.data.readers.block import BLOCK_BYTES, BLOCK_ROWS, Block, Position, Scan
from manylabel.errors import DataError
from manylabel.scoring.inputs import Source

FOOTER_END = 8
"""A Parquet file ends with the footer's length in 4 bytes and `PAR1`."""


def scan(source: Source, text_column: str, shard_rows: int) -> Scan:
    """Read a file's footer: its columns, its rows.

    Raises:
        DataError: It is no Parquet file, or has no such column of strings.
    """
    with _open(source) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
    check_names(source.name, schema.names)
    check_text_column(source.name, schema.names, text_column)
    kind = schema.field(text_column).type
    if not is_text(kind):
        raise DataError(
            f"{source.name}: the column {text_column!r} is {kind}, not string. Name another, or convert it."
        )
    starts = [Position(row, row + 1, 0) for row in range(0, max(rows, 1), shard_rows)]
    return Scan(_plain(schema), rows, starts, _footer_digest(source))


def read(source: Source, schema: pa.Schema, text_column: str, start: Position) -> Iterator[Block]:
    """Blocks of rows from a position on."""
    with _open(source) as file:
        groups = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
        ends = list(accumulate(groups))
        first = next((group for group, end in enumerate(ends) if end > start.row), len(ends))
        skip = start.row - (ends[first] - groups[first] if first < len(ends) else start.row)
        row = start.row
        for batch in file.iter_batches(batch_size=BLOCK_ROWS, row_groups=range(first, len(groups))):
            skipped, skip = min(skip, len(batch)), max(0, skip - len(batch))
            for part in _small(batch.slice(skipped)):
                yield _block(source, part, schema, text_column, row)
                row += len(part)


def _block(source: Source, batch: Any, schema: Any, text_column: str, row: int) -> Block:
    columns = pa.RecordBatch.from_arrays(
        [column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)], schema=schema
    )
    texts = columns.column(text_column).to_pylist()
    errors = {
        place: f"{source.name}, row {row + place + 1}: no text: {text_column!r} is null."
        for place, text in enumerate(texts)
        if text is None
    }
    return Block(columns, texts, errors)


def _small(batch: Any) -> Iterator[Any]:
    """A batch of long rows in halves, until they are small."""
    if len(batch) == 0:
        return
    if len(batch) == 1 or batch.get_total_buffer_size() <= BLOCK_BYTES or batch.nbytes <= BLOCK_BYTES:
        yield batch
        return
    middle = len(batch) // 2
    yield from _small(batch.slice(0, middle))
    yield from _small(batch.slice(middle))


def _plain(schema: Any) -> Any:
    """The schema without dictionaries, whose indices would differ from part to part, and without pandas' notes."""
    return pa.schema(
        [
            pa.field(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
            for field in schema
        ]
    )


@contextmanager
def _open(source: Source) -> Iterator[Any]:
    try:
        with filesystem.open_input(source.uri) as raw, pq.ParquetFile(raw) as file:
            yield file
    except pa.ArrowException as exc:
        raise DataError(f"{source.uri} is not a Parquet file that can be read: {str(exc).splitlines()[0]}") from exc
    except OSError as exc:
        raise DataError(f"{source.uri} cannot be read: {str(exc).splitlines()[0]}") from exc


def _footer_digest(source: Source) -> str:
    with filesystem.open_input(source.uri) as file:
        size = file.seek(0, 2)
        file.seek(size - FOOTER_END)
        length = int.from_bytes(file.read(4), "little")
        file.seek(size - FOOTER_END - length)
        return hashlib.sha256(str(size).encode() + file.read()).hexdigest()
