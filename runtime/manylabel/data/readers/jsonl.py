"""JSON lines: an object a line. A column has the type that all its values share; where they share none, JSON."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from manylabel.data.output_schema import Kinds, check_text_column, is_json
from manylabel.data.readers.block import ROW_BYTES, Block, Position, Rows, Scan
from manylabel.data.readers.line_reader import Lines, RowTooLong
from manylabel.inference.tokenizer import valid_unicode
from manylabel.scoring.inputs import Source, new_digest, open_content


class Record(NamedTuple):
    """A row's object, or why there is none."""

    values: dict[str, Any]
    error: str | None


def scan(source: Source, text_column: str, shard_rows: int) -> Scan:
    """Read a file once: its columns and their types, where its shards begin, its digest.

    Raises:
        DataError: It cannot be read, or no row has such a column.
    """
    digest, kinds = new_digest(), Kinds()
    with open_content(source, digest=digest) as file:
        lines = Lines(file)
        rows, starts = 0, [Position(0, 1, 0)]
        for values, _ in _records(source, lines):
            kinds.see(values)
            rows += 1
            if rows % shard_rows == 0:
                lines.begin_row()
                starts.append(Position(rows, lines.line, lines.offset))
    schema = kinds.schema(text_column)
    if rows:
        check_text_column(source.name, schema.names, text_column)
    return Scan(schema, rows, starts, digest.hexdigest())


def read(source: Source, schema: pa.Schema, text_column: str, start: Position) -> Iterator[Block]:
    """Blocks of rows from a position on."""
    as_json = [is_json(field) or field.name == text_column for field in schema]
    with open_content(source, offset=start.offset) as file:
        lines = Lines(file, line=start.line, offset=start.offset)
        rows = Rows(schema.names)
        for values, error in _records(source, lines):
            where = f"{source.name}, line {lines.line}"
            text = values.get(text_column)
            if error is None and not isinstance(text, str):
                error = f"{where}: {_no_text(values, text_column)}"
            cells = [
                _json_cell(value, text=name == text_column) if json_wanted else _clean(value)
                for name, value, json_wanted in zip(schema.names, map(values.get, schema.names), as_json, strict=True)
            ]
            rows.add(cells, text, error, lines.row_bytes)
            if rows.full:
                yield rows.block(schema)
                rows = Rows(schema.names)
        if rows.values:
            yield rows.block(schema)


def _records(source: Source, lines: Lines) -> Iterator[Record]:
    """Rows, each while `lines` stands at its beginning. Blank lines are no rows."""
    while True:
        lines.begin_row()
        where = f"{source.name}, line {lines.line}"
        try:
            line = next(lines)
        except StopIteration:
            return
        except RowTooLong:
            yield Record({}, f"{where}: a row of more than {ROW_BYTES >> 20} MiB.")
            continue
        if not line.strip():
            continue
        yield Record({}, f"{where}: not UTF-8.") if lines.bad_bytes else _parse(line, where)


def _parse(line: str, where: str) -> Record:
    try:
        values = json.loads(line, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as exc:
        return Record({}, f"{where}: not valid JSON ({exc}).")
    if not isinstance(values, dict):
        return Record({}, f'{where}: expected an object such as {{"text": "..."}}, found {type(values).__name__}.')
    return Record(values, None)


def _finite(number: str) -> float:
    value = float(number)
    if value - value != 0:  # infinite, or no number
        raise ValueError(f"{number} is no number that JSON knows")
    return value


def _no_text(values: dict[str, Any], text_column: str) -> str:
    if text_column not in values:
        return f"no text: the field {text_column!r} is missing."
    if values[text_column] is None:
        return f"no text: {text_column!r} is null."
    return f"no text: {text_column!r} is {type(values[text_column]).__name__}, not a string."


def _json_cell(value: Any, *, text: bool) -> str | None:
    if value is None:
        return None
    if text and isinstance(value, str):
        return valid_unicode(value)
    return valid_unicode(json.dumps(value, ensure_ascii=False))


def _clean(value: Any) -> Any:
    return valid_unicode(value) if isinstance(value, str) else value
