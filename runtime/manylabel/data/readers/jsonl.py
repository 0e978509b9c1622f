"""JSON lines (NDJSON): one object per line. Blank lines are skipped."""

import json
from collections.abc import Iterator
from typing import IO, Any

from manylabel.data.readers.table import ROW_BYTES, START, LineTable, Position, Row, RowTooLong


class JsonLinesTable(LineTable):
    r"""A file of JSON lines.

    Args:
        file: The decompressed bytes, at `start`.
        name: The file's name.
        start: The position of the first row that is wanted.
        allow_nan: Accept `NaN` and `Infinity`, which Python writes and JSON does not know.

    Example:
        >>> import io
        >>> table = JsonLinesTable(io.BytesIO(b'{"text": "late again"}\n[1]\n'), "reviews.jsonl")
        >>> [row.error or row.values["text"] for row in table]
        ['late again', 'reviews.jsonl, line 2: expected an object such as {"text": "..."}, found list.']
    """

    columns = None

    def __init__(self, file: IO[bytes], name: str, *, start: Position = START, allow_nan: bool = False) -> None:
        super().__init__(file, name, start)
        self._hooks: dict[str, Any] = {} if allow_nan else {"parse_float": _finite, "parse_constant": _finite}

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows in order, rows with an error among them."""
        while True:
            self.lines.begin_row()
            location = self.location
            try:
                line = next(self.lines)
            except StopIteration:
                return
            except RowTooLong:
                error = f"{location}: a row of more than {ROW_BYTES >> 20} MiB."
                yield Row(location, {}, error, self.lines.row_bytes)
                continue
            if line.strip():
                values, error_or_none = self._parse(line, location)
                yield Row(location, values, error_or_none, self.lines.row_bytes)

    def _parse(self, line: str, location: str) -> tuple[dict[str, Any], str | None]:
        if self.lines.bad_bytes:
            return {}, f"{location}: not UTF-8. Save the file as UTF-8."
        try:
            values = json.loads(line, **self._hooks)
        except (ValueError, RecursionError) as exc:
            return {}, f"{location}: not valid JSON ({exc})."
        if isinstance(values, dict):
            return values, None
        return {}, f'{location}: expected an object such as {{"text": "..."}}, found {type(values).__name__}.'


def _finite(number: str) -> float:
    value = float(number)
    if value - value != 0:  # infinite or NaN
        raise ValueError(f"{number} is not a number in JSON")
    return value
