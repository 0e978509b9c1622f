"""Write scored rows to a part: Parquet, CSV or JSON lines. Equal rows give equal bytes."""

import base64
import json
from abc import abstractmethod
from contextlib import AbstractContextManager
from datetime import date, datetime, time
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from manylabel.data.cell_validation import escape_formula
from manylabel.data.readers.type_inference import is_json
from manylabel.scoring.job import ScoreOptions

GROUP_BYTES = 32_000_000
GROUP_ROWS = 100_000
"""A row group of a Parquet part ends at whichever limit comes first."""


class PartWriter(AbstractContextManager["PartWriter"]):
    """Writes a part in some format to an open file."""

    @abstractmethod
    def write(self, table: Any) -> None:
        """Add the rows of an Arrow table."""

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:  # only Parquet has more to write
        """Write the end of the format. The caller closes the file."""


class ParquetPartWriter(PartWriter):
    """Writes Parquet with zstd."""

    def __init__(self, file: IO[bytes], schema: Any) -> None:
        self._writer = pq.ParquetWriter(file, schema, compression="zstd")
        self._schema = schema
        self._tables: list[Any] = []
        self._bytes = self._rows = 0

    def write(self, table: Any) -> None:
        """Collect rows until a row group is full."""
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
        """Write the last row group and the footer."""
        if self._tables:
            self._flush()
        self._writer.close()


class CsvPartWriter(PartWriter):
    """Writes CSV: strings are quoted, so that an empty one differs from null; lists are joined, other values JSON."""

    def __init__(self, file: IO[bytes], schema: Any, *, separator: str, for_spreadsheet: bool) -> None:
        self._separator = separator
        self._for_spreadsheet = for_spreadsheet
        self._file = file
        self._file.write(csv_header(schema, for_spreadsheet=for_spreadsheet))

    def write(self, table: Any) -> None:
        """Add rows."""
        flat = pa.Table.from_arrays([self._flatten(column) for column in table.columns], names=table.schema.names)
        pyarrow.csv.write_csv(flat, self._file, pyarrow.csv.WriteOptions(include_header=False))

    def _flatten(self, column: Any) -> Any:
        if pa.types.is_list(column.type) and pa.types.is_string(column.type.value_type):
            column = pc.binary_join(column, self._separator)
        elif pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
            values = (None if value is None else json_text(value) for value in column.to_pylist())
            column = pa.chunked_array([pa.array(values, type=pa.string())])
        if self._for_spreadsheet and (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            cells = (None if cell is None else escape_formula(cell) for cell in column.to_pylist())
            column = pa.chunked_array([pa.array(cells, type=pa.string())])
        return column


class JsonlPartWriter(PartWriter):
    """Writes JSON lines; columns of JSON texts become values again."""

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


def open_part(file: IO[bytes], schema: Any, options: ScoreOptions) -> PartWriter:
    """Return a writer of the format that the options name.

    Args:
        file: An open file.
        schema: The Arrow schema of the rows.
        options: Format, separator, and whether formulas are escaped.
    """
    if options.format == "parquet":
        return ParquetPartWriter(file, schema)
    if options.format == "csv":
        return CsvPartWriter(file, schema, separator=options.separator, for_spreadsheet=options.for_spreadsheet)
    return JsonlPartWriter(file, schema)


def csv_header(schema: Any, *, for_spreadsheet: bool) -> bytes:
    r"""Return the line that names the columns.

    Example:
        >>> csv_header(pa.schema([("text", pa.string()), ("=x", pa.int64())]), for_spreadsheet=True)
        b'"text","\'=x"\n'
    """
    names = [escape_formula(name) if for_spreadsheet else name for name in schema.names]
    return (",".join('"' + name.replace('"', '""') + '"' for name in names) + "\n").encode()


def json_text(value: Any) -> str:
    r"""Return a value as JSON text; bytes are base64, times ISO 8601, NaN null, other types their text.

    Example:
        >>> json_text({"when": date(2026, 1, 2), "score": float("nan"), "raw": b"\x00\xff"})
        '{"when": "2026-01-02", "score": null, "raw": "AP8="}'
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_to_json)
    except ValueError:  # a NaN in a Parquet column
        return json.dumps(_without_nan(value), ensure_ascii=False, allow_nan=False, default=_to_json)


def _to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if isinstance(value, datetime | date | time) else str(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    return [_without_nan(each) for each in value] if isinstance(value, list) else value
