"""Rows of the answer into a file: Parquet, CSV or JSON lines. Equal rows give equal bytes."""

import base64
import json
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import date, datetime, time
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from manylabel.data.output_schema import is_json

OutputFormat = Literal["parquet", "csv", "jsonl"]
GROUP_BYTES = 32_000_000
GROUP_ROWS = 100_000
"""A row group of a Parquet part ends with whichever comes first."""

FORMULA = "^([=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20])"
NUMBER = r"^[-+]?[0-9]+([.,][0-9]+)?([eE][-+]?[0-9]+)?$"
"""What a spreadsheet takes for a formula (OWASP, CSV Injection), and what of that is a number and stays."""


class Part(AbstractContextManager["Part"]):
    """A file that is being written."""

    @abstractmethod
    def write(self, table: Any) -> None:
        """Add the rows of an Arrow table."""

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:  # only Parquet has more to write
        """Write what ends the file; the file itself is closed by who opened it."""


class ParquetPart(Part):
    """Parquet, zstd."""

    def __init__(self, file: IO[bytes], schema: Any) -> None:
        self._writer = pq.ParquetWriter(file, schema, compression="zstd")
        self._schema = schema
        self._tables: list[Any] = []
        self._bytes = self._rows = 0

    def write(self, table: Any) -> None:
        """Keep rows until a group is full."""
        self._tables.append(table)
        self._bytes += table.nbytes
        self._rows += table.num_rows
        if self._bytes >= GROUP_BYTES or self._rows >= GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(pa.concat_tables(self._tables), row_group_size=GROUP_ROWS)
        self._tables.clear()
        self._bytes = self._rows = 0

    def close(self) -> None:
        """Write the last group and the footer."""
        if self._tables:
            self._flush()
        self._writer.close()


class CsvPart(Part):
    """CSV: strings in quotes, so that an empty one differs from none; lists joined, other values as JSON."""

    def __init__(self, file: IO[bytes], schema: Any, *, separator: str, for_spreadsheet: bool) -> None:
        self._separator = separator
        self._for_spreadsheet = for_spreadsheet
        self._file = file
        self._file.write(csv_header(schema, for_spreadsheet=for_spreadsheet))

    def write(self, table: Any) -> None:
        """Add rows."""
        flat = pa.Table.from_arrays([self._flat(column) for column in table.columns], names=table.schema.names)
        pyarrow.csv.write_csv(flat, self._file, pyarrow.csv.WriteOptions(include_header=False))

    def _flat(self, column: Any) -> Any:
        if pa.types.is_list(column.type) and pa.types.is_string(column.type.value_type):
            column = pc.binary_join(column, self._separator)
        elif pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
            values = (None if value is None else json_text(value) for value in column.to_pylist())
            column = pa.chunked_array([pa.array(values, type=pa.string())])
        if self._for_spreadsheet and (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            column = escape_formulas(column)
        return column


class JsonlPart(Part):
    """JSON lines; columns that hold JSON texts are values again."""

    def __init__(self, file: IO[bytes], schema: Any) -> None:
        self._file = file
        self._json = [is_json(field) for field in schema]

    def write(self, table: Any) -> None:
        """Add rows."""
        columns = [
            [None if value is None else json.loads(value) for value in column.to_pylist()]
            if json_texts
            else column.to_pylist()
            for column, json_texts in zip(table.columns, self._json, strict=True)
        ]
        for row in zip(*columns, strict=True):
            line = json_text(dict(zip(table.schema.names, row, strict=True)))
            self._file.write(line.encode() + b"\n")


def open_part(file: IO[bytes], schema: Any, *, format: OutputFormat, separator: str, for_spreadsheet: bool) -> Part:
    """A part in a format, written to a file that is open."""
    if format == "parquet":
        return ParquetPart(file, schema)
    if format == "csv":
        return CsvPart(file, schema, separator=separator, for_spreadsheet=for_spreadsheet)
    return JsonlPart(file, schema)


def csv_header(schema: Any, *, for_spreadsheet: bool) -> bytes:
    """The line that names the columns."""
    names = pa.array(schema.names, type=pa.string())
    shown: Sequence[str] = (escape_formulas(names) if for_spreadsheet else names).to_pylist()
    return (",".join('"' + name.replace('"', '""') + '"' for name in shown) + "\n").encode()


def escape_formulas(column: Any) -> Any:
    """Texts of which a spreadsheet computes none: an apostrophe before what would start a formula."""
    escaped = pc.replace_substring_regex(column, FORMULA, r"'\1")
    return pc.if_else(pc.match_substring_regex(column, NUMBER), column, escaped)


def json_text(value: Any) -> str:
    """JSON as text, in UTF-8; what JSON does not know as text."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError:  # a NaN of a Parquet column
        return json.dumps(_without_nan(value), ensure_ascii=False, allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if isinstance(value, datetime | date | time) else str(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    return [_without_nan(each) for each in value] if isinstance(value, list) else value
