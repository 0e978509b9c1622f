"""Find the input files, and cut them into shards in one pass over them.

The cut depends on the inputs and the rows of a shard alone, so that every machine makes the same one.
"""

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import pyarrow as pa

from manylabel.data import filesystem
from manylabel.data.readers.block import Block, read_blocks, scan_file
from manylabel.data.readers.open_table import FORMATS, Format, Source
from manylabel.data.readers.table import Position
from manylabel.data.readers.type_inference import unify
from manylabel.errors import DataError, InputError

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class InputFile:
    """A file as it was when the shards were planned.

    Attributes:
        source: Its URI, format and compression.
        status: Its size and modification time.
        sha256: Its digest; of a Parquet file, its footer's.
        rows: The number of its rows.
        schema: An Arrow schema of its columns.
    """

    source: Source
    status: filesystem.FileStatus
    sha256: str
    rows: int
    schema: pa.Schema


@dataclass(frozen=True)
class Shard:
    """Consecutive rows of one file, which are committed together.

    Attributes:
        file: The file's index among the inputs.
        first: The number of the first row among the rows of all inputs: its id.
        rows: The number of rows.
        start: Where the first row starts in the file.
    """

    file: int
    first: int
    rows: int
    start: Position


@dataclass(frozen=True)
class ShardPlan:
    """The inputs, their common schema, and the shards in order."""

    inputs: list[InputFile]
    shards: list[Shard]
    schema: pa.Schema

    @property
    def rows(self) -> int:
        """Rows of all inputs."""
        return sum(each.rows for each in self.inputs)


def find_sources(arguments: Sequence[str], *, format: Format | None, spool: str) -> list[Source]:
    """Return the files that the arguments name, in the order of the arguments, those of a folder or glob by name.

    Args:
        arguments: Files, folders, globs, URIs, or `-` for standard input.
        format: The format of all files; None for that of their suffixes.
        spool: Where standard input is stored: a shard is read from an offset, and perhaps more than once.

    Raises:
        DataError: An argument names no file, or a file's suffix is unknown.
    """
    return [
        source
        for argument in arguments
        for source in (
            [_spool_standard_input(spool, format)]
            if argument == STANDARD_INPUT
            else [
                Source.from_uri(uri, format, hint="Or name its format with --format.")
                for uri in filesystem.expand(argument)
            ]
        )
    ]


def plan_shards(
    sources: Sequence[Source], *, text_column: str, shard_rows: int, progress: Callable[[int], object]
) -> ShardPlan:
    """Read the inputs once, and cut them into shards.

    Args:
        sources: The files.
        text_column: The column of texts.
        shard_rows: Rows of a shard; the last one of a file may have fewer.
        progress: Called with the number of rows of each file once it is read.

    Raises:
        DataError: A file cannot be read, or the files have a column of types without a common type.
    """
    inputs: list[InputFile] = []
    shards: list[Shard] = []
    first = 0
    for file, source in enumerate(sources):
        status = _status(source)
        result = scan_file(source, text_column, shard_rows)
        inputs.append(InputFile(source, status, result.sha256, result.rows, result.schema))
        for start in result.starts:
            rows = min(shard_rows, result.rows - start.row)
            if rows:
                shards.append(Shard(file, first + start.row, rows, start))
        first += result.rows
        progress(result.rows)
    return ShardPlan(inputs, shards, unify({each.source.uri: each.schema for each in inputs}))


def read_shard(file: InputFile, shard: Shard, text_column: str) -> Iterator[Block]:
    """Yield the blocks of a shard, the same ones every time.

    Raises:
        DataError: The file has changed since the shards were planned.
    """
    if _status(file.source) != file.status:
        raise DataError(f"{file.source.uri} was changed while it was being scored. Start again with another output.")
    left = shard.rows
    with closing(read_blocks(file.source, file.schema, text_column, shard.start)) as blocks:
        for block in blocks:
            yield block if len(block) <= left else block.head(left)
            left -= min(left, len(block))
            if not left:
                return
    raise DataError(f"{file.source.uri} has {left:,} rows fewer than when the shards were planned. Get a new copy.")


def _status(source: Source) -> filesystem.FileStatus:
    status = filesystem.status(source.uri)
    if status is None:
        raise DataError(f"{source.uri} no longer exists.")
    return status


def _spool_standard_input(spool: str, format: Format | None) -> Source:
    if format is None:
        raise InputError(f"standard input has no suffix. Name its format with --format {'|'.join(FORMATS)}.")
    if sys.stdin is None:
        raise InputError("standard input is closed. Name files, or pipe rows in.")
    with filesystem.new_file(spool) as path, open(path, "wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file, filesystem.COPY_BYTES)
    return Source(spool, format)
