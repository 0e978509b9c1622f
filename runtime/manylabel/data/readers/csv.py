"""CSV and TSV: every cell is kept as text, unchanged.

A row that cannot be parsed (a quote that is never closed, for example) ends with its first line, and reading continues
at the next line. Blank lines are skipped.
"""

import csv
from collections.abc import Iterator, Sequence
from typing import IO

from manylabel.data.readers.table import ROW_BYTES, START, LineTable, Position, Row, RowTooLong, check_unique
from manylabel.errors import DataError

csv.field_size_limit(2**31 - 1)  # the default of 128 KiB refuses long texts; `LineReader` bounds a row


class CsvTable(LineTable):
    r"""A CSV or TSV file. `columns` is empty if the file is empty.

    Args:
        file: The decompressed bytes, at `start`.
        name: The file's name.
        delimiter: What separates the cells.
        start: The position of the first row that is wanted; the header's at the start of the file.
        columns: The names in the header, if `start` is after it.

    Raises:
        DataError: The header cannot be read, or has two columns of the same name.

    Example:
        >>> import io
        >>> table = CsvTable(io.BytesIO(b"text;labels\nlate again;delivery\n"), "reviews.csv", delimiter=";")
        >>> table.columns, [row.values["labels"] for row in table]
        (['text', 'labels'], ['delivery'])
    """

    columns: Sequence[str]

    def __init__(
        self,
        file: IO[bytes],
        name: str,
        *,
        delimiter: str = ",",
        start: Position = START,
        columns: Sequence[str] | None = None,
    ) -> None:
        super().__init__(file, name, start)
        self._delimiter = delimiter
        self.columns = self._read_header() if columns is None else list(columns)

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows in order, rows with an error among them."""
        names, width = self.columns, len(self.columns)
        for cells, error in self._records():
            location, size = self.location, self.lines.row_bytes
            if len(cells) == width:
                yield Row(location, dict(zip(names, cells, strict=True)), error, size)
                continue
            fields = (
                f"{location}: found {len(cells)} fields where the header has {width}. "
                "Put quotes around fields that hold the delimiter, a quote or a line break."
            )
            kept = dict.fromkeys(names) | dict(zip(names, cells, strict=False))
            yield Row(location, kept, error or fields, size)

    def _read_header(self) -> list[str]:
        """Return the names of the columns, and leave `lines` at the first row."""
        for cells, error in self._records():
            if error:
                raise DataError(f"{error} The header cannot be read.")
            check_unique(self.name, cells)
            self.lines.begin_row()
            return cells
        return []

    def _records(self) -> Iterator[tuple[list[str], str | None]]:
        """Yield each row's cells, and why they cannot be used."""
        reader = csv.reader(self.lines, delimiter=self._delimiter, strict=True)
        while True:
            self.lines.begin_row()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except RowTooLong:
                self.lines.give_up_row()
                yield [], f"{self.location}: a row of more than {ROW_BYTES >> 20} MiB. Is a quote not closed?"
                continue
            except csv.Error as exc:
                self.lines.give_up_row()
                yield [], f"{self.location}: not valid CSV ({exc}). Check the quotes there."
                continue
            if cells:
                bad = f"{self.location}: not UTF-8. Save the file as UTF-8." if self.lines.bad_bytes else None
                yield cells, bad
