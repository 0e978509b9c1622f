"""CSV and TSV: every cell is kept as the text it is; a row that is no row is an error with its line.

A row that cannot be read (a quote that is never closed, say) ends with its first line, and reading goes on at the
next. Blank lines are no rows.
"""

import csv
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from manylabel.data.output_schema import check_names, check_text_column
from manylabel.data.readers.block import ROW_BYTES, Block, Position, Rows, Scan
from manylabel.data.readers.line_reader import Lines, RowTooLong
from manylabel.errors import DataError
from manylabel.scoring.inputs import Source, new_digest, open_content

csv.field_size_limit(2**31 - 1)  # the default of 128 KiB refuses long texts; `Lines` bounds a row


class Record(NamedTuple):
    """A row's cells, or why there are none."""

    cells: list[str | None]
    error: str | None


def scan(source: Source, text_column: str, shard_rows: int) -> Scan:
    """Read a file once: its columns, where its shards begin, its digest.

    Raises:
        DataError: It cannot be read, has no header, or no such column.
    """
    digest = new_digest()
    with open_content(source, digest=digest) as file:
        lines = Lines(file)
        names = _header(source, lines)
        check_text_column(source.name, names, text_column)
        rows, starts = 0, [Position(0, lines.line, lines.offset)]
        for _ in _records(source, lines):
            rows += 1
            if rows % shard_rows == 0:
                lines.begin_row()
                starts.append(Position(rows, lines.line, lines.offset))
    schema = pa.schema([pa.field(name, pa.string()) for name in names])
    return Scan(schema, rows, starts, digest.hexdigest())


def read(source: Source, schema: pa.Schema, text_column: str, start: Position) -> Iterator[Block]:
    """Blocks of rows from a position on."""
    names = schema.names
    place = names.index(text_column)
    with open_content(source, offset=start.offset) as file:
        lines = Lines(file, line=start.line, offset=start.offset)
        rows = Rows(names)
        for cells, error in _records(source, lines):
            if error is None and len(cells) != len(names):
                error = f"{source.name}, line {lines.line}: {_ragged(cells, names)}"
            if len(cells) != len(names):
                cells = [*cells, *[None] * len(names)][: len(names)]
            rows.add(cells, cells[place], error, lines.row_bytes)
            if rows.full:
                yield rows.block(schema)
                rows = Rows(names)
        if rows.values:
            yield rows.block(schema)


def _header(source: Source, lines: Lines) -> list[str]:
    """The columns' names; `lines` is left at the first row."""
    for cells, error in _records(source, lines):
        if error:
            raise DataError(f"{error} The header cannot be read.")
        names = [name or "" for name in cells]
        check_names(source.name, names)
        lines.begin_row()
        return names
    raise DataError(f"{source.uri} is empty; its first line should name the columns.")


def _records(source: Source, lines: Lines) -> Iterator[Record]:
    """Rows, each while `lines` stands at its beginning."""
    reader = csv.reader(lines, delimiter="\t" if source.format == "tsv" else ",", strict=True)
    while True:
        lines.begin_row()
        try:
            cells: list[str | None] = [*next(reader)]
        except StopIteration:
            return
        except RowTooLong:
            lines.give_up_row()
            limit = f"{ROW_BYTES >> 20} MiB"
            yield Record([], f"{source.name}, line {lines.line}: a row of more than {limit}; is a quote not closed?")
            continue
        except csv.Error as exc:
            lines.give_up_row()
            yield Record([], f"{source.name}, line {lines.line}: not valid CSV ({exc}).")
            continue
        if not cells:
            continue
        where = f"{source.name}, line {lines.line}"
        yield Record(cells, f"{where}: not UTF-8." if lines.bad_bytes else None)


def _ragged(cells: Sequence[object], names: Sequence[str]) -> str:
    return f"{len(cells)} cells where the header has {len(names)}."
