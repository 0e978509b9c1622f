"""What was named on the command line, as files whose format and compression are known."""

import bz2
import gzip
import hashlib
import io
import lzma
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Literal, get_args

import pyarrow as pa

from manylabel.data import filesystem
from manylabel.errors import DataError, InputError

Format = Literal["csv", "tsv", "jsonl", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[str, Format] = {f".{name}": name for name in FORMATS} | {".ndjson": "jsonl", ".pq": "parquet"}
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
STANDARD_INPUT = "-"
SPOOL = "stdin"


@dataclass(frozen=True)
class Source:
    """A file to read.

    Attributes:
        uri: Where it lies.
        format: What it holds.
        compression: `.gz`, `.bz2`, `.xz`, `.zst`, or nothing.
    """

    uri: str
    format: Format
    compression: str = ""

    @property
    def name(self) -> str:
        """For messages: the file's own name."""
        return self.uri.partition("?")[0].rpartition("/")[2]


def find_sources(arguments: Sequence[str], *, format: Format | None, spool: str) -> list[Source]:
    """The files that the arguments name, in their order, those of a folder or glob by name.

    Args:
        arguments: Files, folders, globs, URIs, or `-` for standard input.
        format: What all files hold, whatever their suffixes say.
        spool: Where standard input is kept: a shard is read from an offset, and perhaps once more.

    Raises:
        DataError: An argument names nothing, or a file's suffix says no format.
    """
    return [
        source
        for argument in arguments
        for source in (
            [_spooled(spool, format)]
            if argument == STANDARD_INPUT
            else [_source(uri, format) for uri in filesystem.expand(argument)]
        )
    ]


def _source(uri: str, format: Format | None) -> Source:
    path = uri.partition("?")[0] if filesystem.is_remote(uri) else uri
    compression = next((suffix for suffix in COMPRESSIONS if path.lower().endswith(suffix)), "")
    stem = path[: len(path) - len(compression)].rpartition("/")[2]
    by_suffix = SUFFIXES.get("." + stem.lower().rpartition(".")[2])
    found = format or by_suffix
    if found is None:
        raise DataError(
            f"{uri} has none of the suffixes {', '.join(SUFFIXES)}, perhaps followed by {', '.join(COMPRESSIONS)}. "
            "Say what it holds with --format."
        )
    if found == "parquet" and compression:
        raise DataError(f"{uri} is a compressed Parquet file; Parquet compresses within. Unpack it.")
    return Source(uri, found, compression)


def _spooled(spool: str, format: Format | None) -> Source:
    if format is None:
        raise InputError(f"standard input has no suffix. Say what it holds with --format {'|'.join(FORMATS)}.")
    if sys.stdin is None:
        raise InputError("standard input is closed. Name files, or pipe rows in.")
    with filesystem.new_file(spool) as path, open(path, "wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file, filesystem.COPY_BYTES)
    return Source(spool, format)


@contextmanager
def open_content(source: Source, *, offset: int = 0, digest: Any = None) -> Iterator[IO[bytes]]:
    """A file's bytes, unpacked, from an offset in what is unpacked.

    Args:
        source: The file.
        offset: Where to begin. What is compressed is unpacked up to there and thrown away.
        digest: A hash that is fed the bytes as they lie there.

    Raises:
        DataError: The file cannot be read, or its compression is damaged.
    """
    raw = filesystem.open_input(source.uri)
    try:
        with raw:
            if not source.compression:
                raw.seek(offset)
            packed = raw if digest is None else io.BufferedReader(_Hashing(raw, digest), filesystem.COPY_BYTES)
            content = _unpack(packed, source.compression)
            if source.compression:
                _skip(content, offset)
            yield content
            if digest is not None:
                _skip(packed, sys.maxsize)  # what lies behind the last compressed byte
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, pa.ArrowException) as exc:
        raise DataError(f"{source.uri} is damaged: {exc}. Fetch it anew.") from exc
    except OSError as exc:
        raise DataError(f"{source.uri} cannot be read: {exc}.") from exc


def new_digest() -> Any:
    """The hash that tells whether an input is the same."""
    return hashlib.sha256()


class _Hashing(io.RawIOBase):
    """Bytes on their way, hashed."""

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


def _unpack(file: IO[bytes], compression: str) -> IO[bytes]:
    if compression == ".gz":
        return io.BufferedReader(gzip.GzipFile(fileobj=file), filesystem.COPY_BYTES)
    if compression == ".bz2":
        return io.BufferedReader(bz2.BZ2File(file), filesystem.COPY_BYTES)
    if compression == ".xz":
        return io.BufferedReader(lzma.LZMAFile(file), filesystem.COPY_BYTES)
    if compression == ".zst":
        unpacked = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")
        return io.BufferedReader(unpacked, filesystem.COPY_BYTES)
    return file


def _skip(file: IO[bytes], count: int) -> None:
    while count > 0 and (content := file.read(min(count, filesystem.COPY_BYTES))):
        count -= len(content)
