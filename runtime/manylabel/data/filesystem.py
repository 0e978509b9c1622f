"""Where files lie: a disk, or an object store by its URI. A file that is written appears whole or not at all.

On a disk: a temporary file beside its place, written through, renamed, and the folder written through. In an object
store: an upload, which is seen once it is complete.
"""

import fnmatch
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from pyarrow import fs

from manylabel.errors import DataError, InputError, MissingDependency
from manylabel.system.atomic_write import atomic_file, remove_temporary_files
from manylabel.system.did_you_mean import near_path

COPY_BYTES = 1 << 20
GLOB_MARKS = "*?["
GOES_ON = "What is committed is kept; the same command goes on."


@dataclass(frozen=True)
class Status:
    """What tells that a file is still the one it was, without reading it."""

    bytes: int
    mtime_ns: int


def is_remote(uri: str) -> bool:
    """Whether a path names an object store, such as `s3://bucket/key`."""
    return "://" in uri


def join(folder: str, name: str) -> str:
    """The place of a file in a folder, before a URI's query (`?endpoint_override=...`)."""
    base, mark, query = folder.partition("?") if is_remote(folder) else (folder, "", "")
    return f"{base.rstrip('/')}/{name}{mark}{query}" if base != "/" else f"/{name}"


def open_input(uri: str) -> IO[bytes]:
    """A file's bytes, seekable.

    Raises:
        DataError: It is not there or cannot be read.
    """
    try:
        if not is_remote(uri):
            return open(uri, "rb")
        system, path = _resolve(uri)
        return io.BufferedReader(system.open_input_file(path), COPY_BYTES)
    except (OSError, pa.ArrowException) as exc:
        raise DataError(f"{uri} cannot be read: {_reason(exc)}") from exc


def status(uri: str) -> Status | None:
    """Size and time of a file; None where there is none."""
    if not is_remote(uri):
        try:
            found = os.stat(uri)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Status(found.st_size, found.st_mtime_ns)
    system, path = _resolve(uri)
    (info,) = _guarded(uri, lambda: system.get_file_info([path]))
    return None if info.type == fs.FileType.NotFound else Status(info.size or 0, info.mtime_ns or 0)


def expand(uri: str) -> list[str]:
    """The files that a path, a folder (with those below) or a glob names, in order of their names. Hidden ones are not.

    Raises:
        DataError: There are none.
    """
    if is_remote(uri):
        found = _expand_remote(uri)
    elif os.path.isdir(uri):
        found = _below(Path(uri), Path(uri).rglob("*"))
    elif any(mark in uri for mark in GLOB_MARKS) and not os.path.exists(uri):
        anchor = Path(Path(uri).anchor)
        found = _below(anchor, anchor.glob(str(Path(uri).relative_to(anchor))))
    else:
        found = [uri] if os.path.exists(uri) else []
    if not found:
        near = "" if is_remote(uri) else near_path(uri)
        raise DataError(f"{uri} names no file.{near or ' Check the path; a glob in quotes is expanded here.'}")
    return sorted(found)


def read_bytes(uri: str) -> bytes | None:
    """A small file as a whole; None where there is none."""
    if status(uri) is None:
        return None
    with open_input(uri) as file:
        return file.read()


@contextmanager
def new_file(uri: str) -> Iterator[Path]:
    """A temporary file to fill, which becomes `uri` when the block ends without an error.

    Raises:
        CannotWrite: The disk is full or cannot be written to.
    """
    if is_remote(uri):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "new"
            yield path
            _upload(path, uri)
        return
    with atomic_file(Path(uri), what="the output", advice=GOES_ON) as path:
        yield path


def write_bytes(uri: str, content: bytes) -> None:
    """Write a small file, whole or not at all."""
    with new_file(uri) as path:
        path.write_bytes(content)


def make_folder(uri: str) -> None:
    """Make a folder with those above it. An object store needs none.

    Raises:
        InputError: It cannot be made.
    """
    if is_remote(uri):
        return
    try:
        os.makedirs(uri, exist_ok=True)
    except OSError as exc:
        raise InputError(f"{uri} cannot be made: {exc.strerror}. Choose another output.") from exc


def remove(uri: str) -> None:
    """Remove a file, or a folder with all in it; nothing happens where there is none."""
    if not is_remote(uri):
        shutil.rmtree(uri, ignore_errors=True) if os.path.isdir(uri) else Path(uri).unlink(missing_ok=True)
        return
    system, path = _resolve(uri)
    (info,) = _guarded(uri, lambda: system.get_file_info([path]))
    if info.type == fs.FileType.Directory:
        system.delete_dir(path)
    elif info.type == fs.FileType.File:
        system.delete_file(path)


def remove_temporaries(folder: str) -> None:
    """Remove what a killed run has left half-written."""
    if not is_remote(folder):
        remove_temporary_files(Path(folder))


def _below(root: Path, paths: Iterator[Path]) -> list[str]:
    return [
        str(path)
        for path in paths
        if path.is_file() and not any(part.startswith((".", "_")) for part in path.relative_to(root).parts)
    ]


def _expand_remote(uri: str) -> list[str]:
    system, path = _resolve(uri)
    scheme, query = uri.split("://")[0], uri.partition("?")[2]
    if any(mark in path for mark in GLOB_MARKS):
        fixed = path[: min(path.index(mark) for mark in GLOB_MARKS if mark in path)].rpartition("/")[0]
        infos = _guarded(uri, lambda: system.get_file_info(fs.FileSelector(fixed, recursive=True)))
        found = [info.path for info in infos if info.is_file and fnmatch.fnmatchcase(info.path, path)]
    else:
        (info,) = _guarded(uri, lambda: system.get_file_info([path]))
        if info.type == fs.FileType.File:
            return [uri]
        selector = fs.FileSelector(path, recursive=True, allow_not_found=True)
        infos = _guarded(uri, lambda: system.get_file_info(selector))
        found = [info.path for info in infos if info.is_file]
    hidden = (".", "_")
    shown = [each for each in found if not each.rpartition("/")[2].startswith(hidden) and "/_" not in each]
    return [f"{scheme}://{each}" + (f"?{query}" if query else "") for each in shown]


def _resolve(uri: str) -> tuple[Any, str]:
    """The file system of a URI, pyarrow's own or fsspec's, and the path there."""
    try:
        system, path = fs.FileSystem.from_uri(uri)
        return system, path
    except pa.ArrowInvalid:
        pass  # none of pyarrow's own
    except (OSError, ImportError, ValueError) as exc:
        raise InputError(f"{uri} cannot be reached: {_reason(exc)}") from exc
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(uri)
    except ImportError as exc:
        raise MissingDependency(
            f"{uri} needs a package that is not installed: {exc}. pip install fsspec and the one it names."
        ) from exc
    except ValueError as exc:
        raise InputError(f"{uri} cannot be reached: {exc}") from exc
    return fs.PyFileSystem(fs.FSSpecHandler(system)), path


def _upload(path: Path, uri: str) -> None:
    system, target = _resolve(uri)

    def copy() -> None:
        with open(path, "rb") as source, system.open_output_stream(target, compression=None) as sink:
            while content := source.read(COPY_BYTES):
                sink.write(content)

    _guarded(uri, copy)


def _guarded(uri: str, call: Any) -> Any:
    try:
        return call()
    except (OSError, pa.ArrowException) as exc:
        raise InputError(f"{uri} cannot be reached: {_reason(exc)}") from exc


def _reason(exc: BaseException) -> str:
    strerror = getattr(exc, "strerror", None)
    return str(strerror or exc).strip().split("\n")[0]
