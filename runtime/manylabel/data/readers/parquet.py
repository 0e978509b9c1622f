"""Parquet files, read as rows or as Arrow batches from any row on. Needs pyarrow (the extra `files`)."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import accumulate
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from manylabel.data import filesystem
from manylabel.data.readers.table import NUMBERS_ROWS, Row, Table, check_unique
from manylabel.errors import DataError, first_line

if find_spec("pyarrow") is None:
    raise filesystem.needs_files_extra("read Parquet files")

import pyarrow as pa
import pyarrow.parquet as pq

FOOTER_END = 8
"""A Parquet file ends with the footer's length in 4 bytes and `PAR1`."""


class ParquetTable(Table):
    """A Parquet file.

    Args:
        file: A `pyarrow.parquet.ParquetFile`.
        name: The file's name.

    Raises:
        DataError: Two columns have the same name.
    """

    columns: Sequence[str]

    def __init__(self, file: Any, name: str) -> None:
        self._file = file
        self.name = name
        self.columns = file.schema_arrow.names
        check_unique(name, self.columns)

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows in order."""
        number = 0
        for batch in self._file.iter_batches():
            for values in batch.to_pylist():
                number += 1
                yield Row(f"{self.name}, row {number}", values)

    @property
    def num_rows(self) -> int:
        """The rows of the file, by its footer."""
        return int(self._file.metadata.num_rows)

    @property
    def schema(self) -> Any:
        """The Arrow schema, without dictionaries, whose indices differ from part to part, and without metadata."""
        return pa.schema(
            [
                pa.field(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
                for field in self._file.schema_arrow
            ]
        )

    def read_batches(
        self, batch_rows: int, *, first_row: int = 0, columns: Sequence[str] | None = None
    ) -> Iterator[Any]:
        """Yield Arrow record batches, read from the row group that holds `first_row`.

        Args:
            batch_rows: Rows of a batch at most.
            first_row: The first row that is wanted, from 0.
            columns: Those to read; None for all.
        """
        groups = [self._file.metadata.row_group(group).num_rows for group in range(self._file.metadata.num_row_groups)]
        ends = list(accumulate(groups))
        first = next((group for group, end in enumerate(ends) if end > first_row), len(ends))
        skip = first_row - (ends[first] - groups[first] if first < len(ends) else first_row)
        wanted = range(first, len(groups))
        for batch in self._file.iter_batches(batch_size=batch_rows, row_groups=wanted, columns=columns):
            skipped, skip = min(skip, len(batch)), max(0, skip - len(batch))
            if skipped < len(batch):
                yield batch.slice(skipped)

    def read_numbers(self, columns: Sequence[str], *, hint: str = "") -> Iterator[NDArray[np.float32]]:
        """Yield columns of numbers as `Table.read_numbers` does, without a Python object for each."""
        self._check_columns(self.columns, columns, hint)
        for batch in self.read_batches(NUMBERS_ROWS, columns=columns):
            try:
                arrays = [batch.column(name).cast(pa.float32()).to_numpy(zero_copy_only=False) for name in columns]
            except pa.ArrowException as exc:
                raise DataError(f"{self.name}: expected columns of numbers. {first_line(exc)}") from exc
            yield np.stack(arrays, axis=1).astype(np.float32)


@contextmanager
def open_parquet(raw: IO[bytes], uri: str, name: str) -> Iterator[ParquetTable]:
    """Open a Parquet file.

    Args:
        raw: The file's bytes, seekable.
        uri: Path or URI, for messages.
        name: The file's name, for locations.

    Raises:
        DataError: It is not a Parquet file, or is damaged.
    """
    try:
        with pq.ParquetFile(raw) as file:
            yield ParquetTable(file, name)
    except pa.ArrowException as exc:
        raise DataError(f"{uri} is not a Parquet file that can be read: {first_line(exc)}") from exc
    except OSError as exc:
        raise DataError(f"{uri} cannot be read: {first_line(exc)}") from exc


def footer_digest(file: IO[bytes]) -> str:
    """Return the SHA-256 of a Parquet file's size and footer, which places every byte of the file."""
    size = file.seek(0, 2)
    file.seek(size - FOOTER_END)
    length = int.from_bytes(file.read(4), "little")
    file.seek(size - FOOTER_END - length)
    return hashlib.sha256(str(size).encode() + file.read()).hexdigest()
