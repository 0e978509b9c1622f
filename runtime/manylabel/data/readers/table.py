"""An open table: its rows, each with its location, and for text formats the lines that they come from."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from manylabel.errors import DataError

ROW_BYTES = 16 << 20
"""A longer row is an error of its own: most likely a quote that is never closed."""

NUMBERS_ROWS = 4096

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""UTF-8's byte order mark, which some programs write before the first line."""


class Row(NamedTuple):
    """One row of a table.

    Attributes:
        location: File and line (in Parquet: file and row), such as `reviews.csv, line 2`.
        values: The row's values by column. A column that the row lacks may be missing.
        error: Why the row cannot be used; None for a valid row. It starts with the location.
        size: Bytes that the row takes in the file; 0 where rows are not stored one after the other.

    Example:
        >>> row = Row("reviews.csv, line 2", {"text": "late again"})
        >>> row.error is None
        True
    """

    location: str
    values: dict[str, Any]
    error: str | None = None
    size: int = 0


@dataclass(frozen=True)
class Position:
    """Where a row starts in its file, so that reading can start there.

    Attributes:
        row: Its number in the file, from 0.
        line: Its line, from 1; in a Parquet file its row, from 1.
        offset: Bytes of the decompressed file before it; 0 in a Parquet file.
    """

    row: int = 0
    line: int = 1
    offset: int = 0


START = Position()


class Table(ABC, Iterable[Row]):
    """Rows of an open file.

    Attributes:
        name: The file's name, for locations.
        columns: The names of the columns; None where every row names its own, as in JSON lines.
    """

    name: str
    columns: Sequence[str] | None

    @abstractmethod
    def __iter__(self) -> Iterator[Row]:
        """Yield the rows in order, rows with an error among them."""

    def read_numbers(self, columns: Sequence[str], *, hint: str = "") -> Iterator[NDArray[np.float32]]:
        """Yield columns of numbers, some thousand rows at a time.

        Args:
            columns: Their names.
            hint: A sentence for the error about a missing column: what to do.

        Yields:
            Shape `(n_rows, len(columns))`; NaN where a cell is empty.

        Raises:
            DataError: A column is missing, a row cannot be read, or a cell does not hold a number.
        """
        self._check_columns(self.columns, columns, hint)
        rows = iter(self)
        while batch := list(islice(rows, NUMBERS_ROWS)):
            if self.columns is None:
                self._check_columns(list(batch[0].values), columns, hint)
            yield np.array([[_number(row, name) for name in columns] for row in batch], dtype=np.float32)

    def _check_columns(self, present: Sequence[str] | None, wanted: Sequence[str], hint: str) -> None:
        missing = [name for name in wanted if present is not None and name not in present]
        if missing:
            raise DataError(
                f"{self.name} has no column {missing[0]!r}, one of {len(wanted)} that are needed. {hint}".rstrip()
            )


class LineTable(Table):
    """A table in a text format. While a row is yielded, `lines` is at that row.

    Args:
        file: The decompressed bytes, at `start`.
        name: The file's name.
        start: The position of the first row that is wanted.
    """

    def __init__(self, file: IO[bytes], name: str, start: Position = START) -> None:
        self.name = name
        self.lines = LineReader(file, line=start.line, offset=start.offset)

    def next_position(self, row: int) -> Position:
        """Return where the next row starts, given its number."""
        self.lines.begin_row()
        return Position(row, self.lines.line, self.lines.offset)

    @property
    def location(self) -> str:
        """File and line of the current row."""
        return f"{self.name}, line {self.lines.line}"


class RowTooLong(Exception):
    """A row has more than `ROW_BYTES`."""


class LineReader:
    r"""An iterator over the lines of a file that knows their offsets and can return to a row's second line.

    Args:
        file: Bytes, read from their current position.
        line: The number of the first line.
        offset: The bytes before it.

    Example:
        >>> import io
        >>> lines = LineReader(io.BytesIO(b"text\nlate again\n"))
        >>> next(lines)
        'text\n'
        >>> lines.begin_row()
        >>> lines.line, lines.offset
        (2, 5)
    """

    def __init__(self, file: IO[bytes], *, line: int = 1, offset: int = 0) -> None:
        self._file = file
        self._unread: deque[bytes] = deque()
        self._row: list[bytes] = []
        self._row_bytes = 0
        self._skipped = 0
        self.line = line
        self.offset = offset
        self.bad_bytes = False

    def begin_row(self) -> None:
        """Start a new row: `line` and `offset` move past the lines that were read."""
        self.line += len(self._row)
        self.offset += self._row_bytes + self._skipped
        self._row = []
        self._row_bytes = self._skipped = 0
        self.bad_bytes = False

    def give_up_row(self) -> None:
        """End the row with its first line; the lines after it are read again."""
        rest = self._row[1:]
        self._unread.extendleft(reversed(rest))
        del self._row[1:]
        self._row_bytes -= sum(map(len, rest))

    @property
    def row_bytes(self) -> int:
        """Bytes of the current row."""
        return self._row_bytes

    def __iter__(self) -> "LineReader":
        return self

    def __next__(self) -> str:
        raw = self._unread.popleft() if self._unread else self._file.readline(ROW_BYTES)
        if not raw:
            raise StopIteration
        self._row.append(raw)
        self._row_bytes += len(raw)
        if self._row_bytes >= ROW_BYTES:
            self._skip_rest(raw)
            raise RowTooLong
        if self.offset == 0 and len(self._row) == 1:
            raw = raw.removeprefix(BYTE_ORDER_MARK)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self.bad_bytes = True
            return raw.decode(errors="replace")

    def _skip_rest(self, raw: bytes) -> None:
        while raw and not raw.endswith(b"\n"):
            raw = self._file.readline(ROW_BYTES)
            self._skipped += len(raw)


def _number(row: Row, column: str) -> float:
    if row.error is not None:
        raise DataError(row.error)
    value = row.values.get(column)
    try:
        return float("nan") if value is None or value == "" else float(value)
    except (TypeError, ValueError) as exc:
        raise DataError(f"{row.location}: {column!r} is {value!r}; expected a number.") from exc


def check_unique(file: object, names: Sequence[str]) -> None:
    """Refuse a header that has two columns of the same name.

    Raises:
        DataError: It has two such columns.

    Example:
        >>> check_unique("reviews.csv", ["text", "labels"])
    """
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        quoted = ", ".join(map(repr, duplicates))
        raise DataError(f"{file} has more than one column named {quoted}. Rename or remove one.")
