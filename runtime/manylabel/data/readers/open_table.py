"""Open a file of rows: its format and compression by its suffix, its bytes decompressed, its rows one at a time.

Every reader of tables goes through `open_table`: training, certify and tune through `read_rows`, drift through
`Table.read_numbers`, `manylabel score` through `block`. A new format is one more entry in `SUFFIXES` and one more
case in `open_table`; a new compression is one in `_decompress`. CSV, TSV and JSON lines need nothing but Python;
Parquet and Zstandard need pyarrow (the extra `files`).
"""

import bz2
import gzip
import io
import lzma
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Literal, get_args

from manylabel.data import filesystem
from manylabel.data.readers.csv import CsvTable
from manylabel.data.readers.jsonl import JsonLinesTable
from manylabel.data.readers.table import START, Position, Table
from manylabel.errors import DataError, InputError

Format = Literal["csv", "tsv", "jsonl", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[str, Format] = {f".{name}": name for name in FORMATS} | {".ndjson": "jsonl", ".pq": "parquet"}
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")

LocatedRow = tuple[str, Mapping[str, Any]]
"""A row's location, for messages, and its values by column."""


@dataclass(frozen=True)
class Source:
    """A file to read.

    Attributes:
        uri: Path or URI.
        format: The format of its rows.
        compression: `.gz`, `.bz2`, `.xz`, `.zst`, or nothing.
    """

    uri: str
    format: Format
    compression: str = ""

    @property
    def name(self) -> str:
        """The file's own name, for messages."""
        return filesystem.split_query(self.uri)[0].rpartition("/")[2]

    @classmethod
    def from_uri(cls, uri: str, format: Format | None = None, *, hint: str = "") -> "Source":
        """Read format and compression from a file's suffixes.

        Args:
            uri: Path or URI.
            format: The format, where the suffix does not decide it.
            hint: A sentence for the error about an unknown suffix: what else to do.

        Raises:
            DataError: The suffix is not one of `SUFFIXES`, or the file is a compressed Parquet file.

        Example:
            >>> Source.from_uri("s3://bucket/reviews.csv.gz")
            Source(uri='s3://bucket/reviews.csv.gz', format='csv', compression='.gz')
        """
        path, _ = filesystem.split_query(uri)
        compression = next((suffix for suffix in COMPRESSIONS if path.lower().endswith(suffix)), "")
        stem = path[: len(path) - len(compression)].rpartition("/")[2]
        format = format or SUFFIXES.get("." + stem.lower().rpartition(".")[2])
        if format is None:
            raise DataError(
                f"{uri} has none of the suffixes {', '.join(SUFFIXES)}, optionally followed by "
                f"{', '.join(COMPRESSIONS)}. Convert it to one of these formats. {hint}".rstrip()
            )
        if format == "parquet" and compression:
            raise DataError(f"{uri} is a compressed Parquet file; Parquet compresses within. Decompress it.")
        return cls(uri, format, compression)


@contextmanager
def open_table(
    source: Source | Path | str | IO[bytes],
    *,
    format: Format | None = None,
    start: Position = START,
    columns: Sequence[str] | None = None,
    allow_nan: bool = False,
    carriage_returns: bool = False,
    digest: Any = None,
) -> Iterator[Table]:
    r"""Open a file or a stream of rows.

    Args:
        source: A path, a URI, or a binary stream.
        format: The format; None for that of the suffix.
        start: The position of the first row that is wanted.
        columns: The columns in the header of a CSV file, if `start` is after it.
        allow_nan: Accept `NaN` and `Infinity` in JSON lines.
        carriage_returns: Accept a text file whose lines end with a carriage return alone, as some programs for the Mac
            write it. Its positions are of no use without this argument.
        digest: A hash that is updated with the bytes as they are stored.

    Raises:
        DataError: The file cannot be read, or is not in the format that its suffix names.
        MissingDependency: The format or the compression needs pyarrow, which is not installed.

    Example:
        >>> import io
        >>> with open_table(io.BytesIO(b"text,labels\nlate,delivery\n"), format="csv") as table:
        ...     [(row.location, row.values) for row in table]
        [('the stream, line 2', {'text': 'late', 'labels': 'delivery'})]
    """
    if isinstance(source, Path | str):
        source = Source.from_uri(str(source), format)
    opened: AbstractContextManager[IO[bytes]]
    if isinstance(source, Source):
        opened = filesystem.open_input(source.uri)
    elif format is None:
        raise InputError(f"a stream has no suffix. Name its format: {', '.join(FORMATS)}.")
    else:
        opened, source = nullcontext(source), Source("the stream", format)
    with opened as stream:
        if source.format == "parquet":
            with _parquet(source).open_parquet(stream, source.uri, source.name) as table:
                yield table
            return
        with _content(stream, source, start.offset, digest) as file:
            if carriage_returns:
                file = _with_line_feeds(file)
            if source.format == "jsonl":
                yield JsonLinesTable(file, source.name, start=start, allow_nan=allow_nan)
            else:
                delimiter = "\t" if source.format == "tsv" else ","
                yield CsvTable(file, source.name, delimiter=delimiter, start=start, columns=columns)


def read_rows(path: Path) -> list[LocatedRow]:
    r"""Read all rows of a file, and refuse a file that has a row with an error.

    Returns:
        Each row's location, such as `reviews.csv, line 2`, and its values by column.

    Raises:
        DataError: The file is missing, unreadable, empty, or not in the format that its suffix names.
        MissingDependency: It is a Parquet file, and pyarrow is not installed.

    Example:
        >>> _ = Path("one.csv").write_text("text,labels\nlate again,delivery\n")
        >>> read_rows(Path("one.csv"))
        [('one.csv, line 2', {'text': 'late again', 'labels': 'delivery'})]
    """
    if path.is_dir():
        raise DataError(
            f"{path} cannot be read: it is a folder. Name a file in it, with one of the suffixes {', '.join(SUFFIXES)}."
        )
    rows: list[LocatedRow] = []
    with open_table(path, allow_nan=True, carriage_returns=True) as table:
        for location, values, error, _ in table:
            if error is not None:
                raise DataError(error)
            rows.append((location, values))
    if not rows:
        raise DataError(f"{path} holds no rows. It needs at least one labelled text.")
    return rows


def _parquet(source: Source) -> ModuleType:
    if find_spec("pyarrow") is None:
        raise filesystem.needs_files_extra(f"read {source.name}")
    from manylabel.data.readers import parquet

    return parquet


@contextmanager
def _content(raw: IO[bytes], source: Source, offset: int, digest: Any) -> Iterator[IO[bytes]]:
    """Yield a file's bytes, decompressed, from an offset in the decompressed bytes."""
    try:
        if not source.compression and offset:
            raw.seek(offset)
        stored = raw if digest is None else io.BufferedReader(_HashingReader(raw, digest), filesystem.COPY_BYTES)
        content = _decompress(stored, source)
        if source.compression:
            _skip(content, offset)  # decompressed up to there and discarded
        yield content
        if digest is not None:
            _skip(stored, sys.maxsize)  # bytes after the last compressed one
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError) as exc:
        raise DataError(f"{source.uri} is damaged: {exc}. Get a new copy.") from exc
    except OSError as exc:
        raise DataError(f"{source.uri} cannot be read: {exc}.") from exc


class _HashingReader(io.RawIOBase):
    """Bytes that are hashed as they are read."""

    def __init__(self, file: IO[bytes], digest: Any) -> None:
        self._file = file
        self._digest = digest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(len(buffer))
        self._digest.update(content)
        buffer[: len(content)] = content
        return len(content)


def _with_line_feeds(file: IO[bytes]) -> IO[bytes]:
    """Return a file with line feeds in place of carriage returns, if its first lines end with these alone."""
    buffered = file if isinstance(file, io.BufferedReader) else io.BufferedReader(file)  # type: ignore[type-var]
    head = buffered.peek()
    return io.BufferedReader(_LineFeeds(buffered)) if b"\r" in head and b"\n" not in head else buffered


class _LineFeeds(io.RawIOBase):
    """Bytes with line feeds in place of carriage returns."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(content)] = content
        return len(content)


def _decompress(file: IO[bytes], source: Source) -> IO[bytes]:
    match source.compression:
        case ".gz":
            return io.BufferedReader(gzip.GzipFile(fileobj=file), filesystem.COPY_BYTES)
        case ".bz2":
            return io.BufferedReader(bz2.BZ2File(file), filesystem.COPY_BYTES)
        case ".xz":
            return io.BufferedReader(lzma.LZMAFile(file), filesystem.COPY_BYTES)
        case ".zst":
            try:
                import pyarrow as pa
            except ImportError as exc:
                raise filesystem.needs_files_extra(f"read {source.name}") from exc
            zstd = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")
            return io.BufferedReader(zstd, filesystem.COPY_BYTES)
    return file


def _skip(file: IO[bytes], count: int) -> None:
    while count > 0 and (content := file.read(min(count, filesystem.COPY_BYTES))):
        count -= len(content)
