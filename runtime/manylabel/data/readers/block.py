"""Blocks: some thousand neighbouring rows by column, each row with its text or the reason why it has none.

`scan_file` reads a file once and finds its columns and where every shard starts; `read_blocks` reads from such a
position on. Blocks are Arrow record batches, so this module needs pyarrow (the extra `files`).
"""

import hashlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from manylabel.data import filesystem
from manylabel.data.readers.open_table import Source, open_table
from manylabel.data.readers.parquet import ParquetTable, footer_digest
from manylabel.data.readers.table import LineTable, Position, Row, Table
from manylabel.data.readers.type_inference import ColumnTypes, json_value
from manylabel.errors import DataError

if find_spec("pyarrow") is None:
    raise filesystem.needs_files_extra("read files as Arrow tables")

import pyarrow as pa

BLOCK_ROWS = 4096
BLOCK_BYTES = 4_000_000
"""A block of long rows ends after as many bytes, so that it stays small whatever it holds."""


@dataclass(frozen=True)
class Block:
    """Neighbouring rows of a file or a frame.

    Attributes:
        columns: An Arrow record batch.
        texts: The text of each row; None where there is an error.
        errors: Why a row has no text, by its index in the block.
    """

    columns: Any
    texts: Sequence[str | None]
    errors: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.texts)

    def head(self, rows: int) -> "Block":
        """Return the first rows."""
        kept = {index: error for index, error in self.errors.items() if index < rows}
        return Block(self.columns.slice(0, rows), self.texts[:rows], kept)


@dataclass(frozen=True)
class FileScan:
    """The result of one pass over a file.

    Attributes:
        schema: An Arrow schema of its columns.
        rows: The number of its rows.
        starts: Where every shard starts.
        sha256: Digest of the file; of a Parquet file, of its footer, which places every byte.
    """

    schema: Any
    rows: int
    starts: list[Position]
    sha256: str


def scan_file(source: Source, text_column: str, shard_rows: int) -> FileScan:
    """Read a file once: its columns and their types, where its shards start, its digest.

    Of a Parquet file the footer is read.

    Args:
        source: The file.
        text_column: The column of texts.
        shard_rows: Rows of a shard.

    Raises:
        DataError: The file cannot be read, or lacks the text column.
    """
    digest = hashlib.sha256()
    with open_table(source, digest=digest) as table:
        if isinstance(table, ParquetTable):
            schema, rows = table.schema, table.num_rows
            starts = [Position(row, row + 1, 0) for row in range(0, max(rows, 1), shard_rows)]
        else:
            schema, rows, starts = _scan_lines(source, table, text_column, shard_rows)
    if rows or table.columns:
        check_text_column(source.name, schema, text_column)
    return FileScan(schema, rows, starts, _footer_digest(source) or digest.hexdigest())


def read_blocks(source: Source, schema: Any, text_column: str, start: Position) -> Generator[Block, None, None]:
    """Yield the blocks of a file from a position on.

    Args:
        source: The file.
        schema: The file's own Arrow schema, as `scan_file` found it.
        text_column: The column of texts.
        start: The position of the first row.
    """
    with open_table(source, start=start, columns=schema.names) as table:
        if isinstance(table, ParquetTable):
            yield from _parquet_blocks(table, schema, text_column, start.row)
            return
        rows = _BlockRows()
        for row in table:
            rows.add(row, text_column)
            if rows.full:
                yield rows.block(schema, text_column, json=table.columns is None)
                rows = _BlockRows()
        if rows.texts:
            yield rows.block(schema, text_column, json=table.columns is None)


def check_has_column(file: object, columns: Sequence[str], text_column: str) -> None:
    """Refuse a table without the column of texts.

    Raises:
        DataError: It has no such column.
    """
    if text_column not in columns:
        names = ", ".join(map(repr, columns[:20]))
        raise DataError(
            f"{file} has no column {text_column!r}; it has {names}. Name the column of texts (--text-column)."
        )


def check_text_column(file: object, schema: Any, text_column: str) -> None:
    """Refuse a table without a column of strings of that name. A column of nulls counts as one of strings.

    Raises:
        DataError: There is none.
    """
    check_has_column(file, schema.names, text_column)
    arrow_type = schema.field(text_column).type
    value_type = arrow_type.value_type if pa.types.is_dictionary(arrow_type) else arrow_type
    is_text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    if not any(check(value_type) for check in is_text):
        raise DataError(f"{file}: the column {text_column!r} is {arrow_type}, not string. Name another, or convert it.")


def _scan_lines(source: Source, table: Table, text_column: str, shard_rows: int) -> tuple[Any, int, list[Position]]:
    assert isinstance(table, LineTable)
    if table.columns == []:
        raise DataError(f"{source.uri} is empty; its first line should name the columns.")
    types, rows, starts = ColumnTypes(), 0, [table.next_position(0)]
    for rows, row in enumerate(table, start=1):
        if table.columns is None:
            types.add(row.values)
        if rows % shard_rows == 0:
            starts.append(table.next_position(rows))
    if table.columns is None:
        return types.schema(text_column), rows, starts
    return pa.schema([pa.field(name, pa.string()) for name in table.columns]), rows, starts


def _footer_digest(source: Source) -> str:
    if source.format != "parquet":
        return ""
    with filesystem.open_input(source.uri) as file:
        return footer_digest(file)


@dataclass
class _BlockRows:
    """Rows that are gathered into a block."""

    values: list[Mapping[str, Any]] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)
    bytes: int = 0

    def add(self, row: Row, text_column: str) -> None:
        """Add a row; one with an error has no text."""
        text = row.values.get(text_column)
        error = row.error or (None if isinstance(text, str) else f"{row.location}: {_no_text(row.values, text_column)}")
        if error is not None:
            self.errors[len(self.texts)] = error
        self.values.append(row.values)
        self.texts.append(text if error is None else None)
        self.bytes += row.size

    @property
    def full(self) -> bool:
        """Whether the block should end."""
        return len(self.texts) >= BLOCK_ROWS or self.bytes >= BLOCK_BYTES

    def block(self, schema: Any, text_column: str, *, json: bool) -> Block:
        """Return the block of the rows, whose values are JSON's or, of CSV, texts."""
        arrays = []
        for each in schema:
            values = [row.get(each.name) for row in self.values]
            if json:
                values = [json_value(value, each, is_text=each.name == text_column) for value in values]
            arrays.append(pa.array(values, type=each.type))
        return Block(pa.RecordBatch.from_arrays(arrays, schema=schema), self.texts, self.errors)


def _no_text(values: Mapping[str, Any], text_column: str) -> str:
    if text_column not in values:
        return f"no text: the field {text_column!r} is missing."
    if values[text_column] is None:
        return f"no text: {text_column!r} is null."
    return f"no text: {text_column!r} is {type(values[text_column]).__name__}, not a string."


def _parquet_blocks(table: ParquetTable, schema: Any, text_column: str, row: int) -> Iterator[Block]:
    for batch in table.read_batches(BLOCK_ROWS, first_row=row):
        for part in _split_to_size(batch):
            columns = pa.RecordBatch.from_arrays(
                [column.cast(each.type) for column, each in zip(part.columns, schema, strict=True)], schema=schema
            )
            texts = columns.column(text_column).to_pylist()
            errors = {
                index: f"{table.name}, row {row + index + 1}: no text: {text_column!r} is null."
                for index, text in enumerate(texts)
                if text is None
            }
            yield Block(columns, texts, errors)
            row += len(part)


def _split_to_size(batch: Any) -> Iterator[Any]:
    """Split a batch of long rows in halves until each is within `BLOCK_BYTES`."""
    if len(batch) == 1 or batch.get_total_buffer_size() <= BLOCK_BYTES or batch.nbytes <= BLOCK_BYTES:
        yield batch
        return
    middle = len(batch) // 2
    yield from _split_to_size(batch.slice(0, middle))
    yield from _split_to_size(batch.slice(middle))
