"""One pass over the inputs: what columns they have, and where every shard begins.

The cut depends on the inputs and on the rows a shard has, nothing else, so any machine makes the same one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType

import pyarrow as pa

from manylabel.data import filesystem
from manylabel.data.output_schema import unify
from manylabel.data.readers import csv, jsonl, parquet
from manylabel.data.readers.block import Block, Position, Scan
from manylabel.errors import DataError
from manylabel.scoring.inputs import Source

READERS: dict[str, ModuleType] = {"csv": csv, "tsv": csv, "jsonl": jsonl, "parquet": parquet}


@dataclass(frozen=True)
class Input:
    """A file as it was when the work was planned.

    Attributes:
        source: Where it lies and what it holds.
        status: Its size and time.
        sha256: Its digest; of a Parquet file, its footer's.
        rows: How many it has.
        schema: An Arrow schema of its columns.
    """

    source: Source
    status: filesystem.Status
    sha256: str
    rows: int
    schema: pa.Schema


@dataclass(frozen=True)
class Shard:
    """Neighbouring rows of one file.

    Attributes:
        file: The file's place among the inputs.
        first: The number of the first row among the rows of all inputs: its id.
        rows: How many there are.
        start: Where the first begins in the file.
    """

    file: int
    first: int
    rows: int
    start: Position


@dataclass(frozen=True)
class Plan:
    """The inputs, their common schema and the shards, in order."""

    inputs: list[Input]
    shards: list[Shard]
    schema: pa.Schema

    @property
    def rows(self) -> int:
        """Rows of all inputs."""
        return sum(each.rows for each in self.inputs)


def plan(sources: Sequence[Source], *, text_column: str, shard_rows: int, seen: Callable[[int], object]) -> Plan:
    """Read the inputs once.

    Args:
        sources: The files.
        text_column: The column of texts.
        shard_rows: Rows of a shard; a file's last one may have fewer.
        seen: Told how many rows each file has, as it is read.

    Raises:
        DataError: A file cannot be read, or the files' columns do not go together.
    """
    inputs: list[Input] = []
    shards: list[Shard] = []
    first = 0
    for file, source in enumerate(sources):
        status = _status(source)
        scan: Scan = READERS[source.format].scan(source, text_column, shard_rows)
        inputs.append(Input(source, status, scan.sha256, scan.rows, scan.schema))
        for start in scan.starts:
            rows = min(shard_rows, scan.rows - start.row)
            if rows:
                shards.append(Shard(file, first + start.row, rows, start))
        first += scan.rows
        seen(scan.rows)
    return Plan(inputs, shards, unify({each.source.uri: each.schema for each in inputs}))


def read_shard(read: Input, shard: Shard, text_column: str) -> Iterator[Block]:
    """The blocks of a shard, the same ones every time.

    Raises:
        DataError: The file is not the one that was planned with.
    """
    if _status(read.source) != read.status:
        raise DataError(f"{read.source.uri} was changed while it was being scored. Start anew with another output.")
    left = shard.rows
    blocks = READERS[read.source.format].read(read.source, read.schema, text_column, shard.start)
    for block in blocks:
        yield block if len(block) <= left else block.head(left)
        left -= min(left, len(block))
        if not left:
            blocks.close()
            return
    raise DataError(f"{read.source.uri} has {left:,} rows fewer than when it was planned with. Fetch it anew.")


def _status(source: Source) -> filesystem.Status:
    status = filesystem.status(source.uri)
    if status is None:
        raise DataError(f"{source.uri} is not there any more.")
    return status
