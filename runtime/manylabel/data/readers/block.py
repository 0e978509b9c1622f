"""Rows on their way: some thousand at a time, by column, each with its text or the reason why it has none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

BLOCK_ROWS = 4096
BLOCK_BYTES = 4_000_000
"""A block of long rows ends after as many bytes, so that it stays small whatever it holds."""

ROW_BYTES = 16 << 20
"""A row of more bytes is an error of its own: most likely a quote that is never closed."""


@dataclass(frozen=True)
class Position:
    """Where a row begins in its file.

    Attributes:
        row: Its number in the file, from 0.
        line: Its line, from 1; in a Parquet file its row, from 1.
        offset: Bytes of the unpacked file before it; 0 in a Parquet file.
    """

    row: int
    line: int
    offset: int


@dataclass(frozen=True)
class Block:
    """Neighbouring rows of a file.

    Attributes:
        columns: An Arrow record batch of the file's columns.
        texts: The text of each row; None where there is an error.
        errors: Why a row has no text, by its place here.
    """

    columns: Any
    texts: Sequence[str | None]
    errors: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.texts)

    def head(self, rows: int) -> "Block":
        """The first rows."""
        kept = {place: error for place, error in self.errors.items() if place < rows}
        return Block(self.columns.slice(0, rows), self.texts[:rows], kept)


@dataclass(frozen=True)
class Scan:
    """What one pass over a file found.

    Attributes:
        schema: An Arrow schema of its columns.
        rows: How many rows there are.
        starts: Where every shard begins.
        sha256: Digest of the file; of a Parquet file, of its footer, which places every byte.
    """

    schema: Any
    rows: int
    starts: list[Position]
    sha256: str


@dataclass
class Rows:
    """Rows that are gathered into a block."""

    names: Sequence[str]
    values: list[Sequence[Any]] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)
    bytes: int = 0

    def add(self, values: Sequence[Any], text: str | None, error: str | None, size: int) -> None:
        """Add a row; one with an error has no text."""
        if error is not None:
            self.errors[len(self.values)] = error
        self.values.append(values)
        self.texts.append(None if error is not None else text)
        self.bytes += size

    @property
    def full(self) -> bool:
        """Whether the block should end."""
        return len(self.values) >= BLOCK_ROWS or self.bytes >= BLOCK_BYTES

    def block(self, schema: Any) -> Block:
        """The block of what was gathered."""
        columns = zip(*self.values, strict=True)
        arrays = [pa.array(column, type=each.type) for column, each in zip(columns, schema, strict=True)]
        return Block(pa.RecordBatch.from_arrays(arrays, schema=schema), self.texts, self.errors)
