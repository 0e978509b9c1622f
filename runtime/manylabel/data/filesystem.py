"""Files by path or URI: a local disk or an object store, both through `pyarrow.fs` (the extra `files`).

Writes are atomic. On a local disk a temporary file is written, synced and renamed; in an object store an upload becomes
visible when it is complete. A local file is opened for reading with `open`, so that CSV and JSON lines can be read
without pyarrow.
"""

import fnmatch
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from manylabel.errors import DataError, InputError, MissingDependency, first_line
from manylabel.system.atomic_write import atomic_file, remove_temporary_files
from manylabel.system.did_you_mean import suggest_path

COPY_BYTES = 1 << 20
GLOB_MARKS = "*?["
HIDDEN = (".", "_")
RESUME_HINT = "Committed parts are kept; run the same command again to resume."

Result = TypeVar("Result")


@dataclass(frozen=True)
class FileStatus:
    """Size and modification time: whether a file is unchanged, without reading it."""

    bytes: int
    mtime_ns: int


def is_remote(uri: str) -> bool:
    """Return whether a path names an object store, such as `s3://bucket/key`.

    Example:
        >>> is_remote("s3://bucket/reviews.csv"), is_remote("data/reviews.csv")
        (True, False)
    """
    return "://" in uri


def split_query(uri: str) -> tuple[str, str]:
    """Return a URI without its query, and the query with its `?`. A local path has none, even with a `?` in its name.

    Example:
        >>> split_query("s3://bucket/reviews.csv?region=eu"), split_query("what?.csv")
        (('s3://bucket/reviews.csv', '?region=eu'), ('what?.csv', ''))
    """
    path, mark, query = uri.partition("?") if is_remote(uri) else (uri, "", "")
    return path, mark + query


def join(folder: str, name: str) -> str:
    """Return the URI of a file in a folder; a URI's query (`?endpoint_override=...`) stays at the end.

    Example:
        >>> join("s3://bucket/out?region=eu", "part-000000.csv")
        's3://bucket/out/part-000000.csv?region=eu'
    """
    base, query = split_query(folder)
    return f"{base.rstrip('/')}/{name}{query}"


def resolve(uri: str) -> tuple[Any, str]:
    """Return the file system of a path or URI and the path in it.

    `s3://`, `gs://` and others are pyarrow's own; the rest, such as `hf://`, come from fsspec.

    Raises:
        MissingDependency: pyarrow, fsspec or the package for the scheme is not installed.
        InputError: The scheme is unknown, or the file system cannot be reached.

    Example:
        >>> system, path = resolve("data/reviews.csv")
        >>> system.type_name, path
        ('local', 'data/reviews.csv')
    """
    try:
        from pyarrow import fs
    except ImportError as exc:
        raise needs_files_extra(f"reach {uri}") from exc
    if not is_remote(uri):
        return fs.LocalFileSystem(), uri
    try:
        system, path = fs.FileSystem.from_uri(uri)
        return system, path
    except ValueError:
        pass  # not one of pyarrow's own
    except (OSError, ImportError) as exc:
        raise InputError(f"{uri} cannot be reached: {_reason(exc)}") from exc
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(uri)
    except ImportError as exc:
        raise MissingDependency(
            f"{uri} needs a package that is not installed: {exc}. pip install fsspec and the package that it names."
        ) from exc
    except ValueError as exc:
        raise InputError(f"{uri} cannot be reached: {exc}") from exc
    return fs.PyFileSystem(fs.FSSpecHandler(system)), path


def open_input(uri: str) -> IO[bytes]:
    """Open a file for reading, seekable.

    Raises:
        DataError: It does not exist or cannot be read.
    """
    try:
        if not is_remote(uri):
            return open(uri, "rb")
        system, path = resolve(uri)
        return io.BufferedReader(system.open_input_file(path), COPY_BYTES)
    except (OSError, ValueError) as exc:
        raise DataError(f"{uri} cannot be read: {_reason(exc)}.{_near(uri)}") from exc


def status(uri: str) -> FileStatus | None:
    """Return a file's size and time; None where it does not exist."""
    system, path = resolve(uri)
    info = _info(uri, system, path)
    return FileStatus(info.size or 0, info.mtime_ns or 0) if info.is_file or _is_folder(info) else None


def expand(uri: str) -> list[str]:
    """Return the files of a path, a folder (with those below it) or a glob, sorted by name. Hidden files are left out.

    In a glob, `*` and `?` stay within one folder, and `**` stands for any folders. A file whose name starts with `.` or
    `_`, or that lies in such a folder, is hidden. A link to a file is a file. A link to a folder is followed where the
    path or a part of the glob names it, but not below a folder or by `**`: there it could form a cycle.

    Raises:
        DataError: There are none, or the path is a pipe or a device, which has no end or cannot be read twice.
    """
    system, path = resolve(uri)
    info = _info(uri, system, path)
    if info.is_file:
        return [uri]
    if info.type.name == "Unknown":
        raise DataError(f"{uri} is a pipe or a device. Write its content to a file, or give it as standard input (-).")
    found = _call(uri, lambda: set(_files(system, path, is_folder=_is_folder(info))))
    if not found:
        raise DataError(f"{uri}: no file found.{_near(uri) or ' Check the path, and put a glob in quotes.'}")
    scheme = uri[: uri.index("://") + 3] if is_remote(uri) else ""
    return sorted(f"{scheme}{each}{split_query(uri)[1]}" for each in found)


def read_bytes(uri: str) -> bytes | None:
    """Return the content of a small file; None where it does not exist."""
    if status(uri) is None:
        return None
    with open_input(uri) as file:
        return file.read()


@contextmanager
def new_file(uri: str) -> Iterator[Path]:
    """Yield a temporary file to fill, which becomes `uri` when the block ends without an error.

    Raises:
        CannotWrite: The disk is full or cannot be written to.
    """
    system, path = resolve(uri)
    if _is_local(system):
        with atomic_file(Path(path), what="the output", advice=RESUME_HINT) as temporary:
            yield temporary
        return
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / "new"
        yield temporary
        _upload(temporary, uri, system, path)


def write_bytes(uri: str, content: bytes) -> None:
    """Write a small file atomically."""
    with new_file(uri) as path:
        path.write_bytes(content)


def make_folder(uri: str) -> None:
    """Create a folder and its parents. An object store needs none.

    Raises:
        InputError: It cannot be created.
    """
    system, path = resolve(uri)
    if not _is_local(system):
        return
    try:
        system.create_dir(path, recursive=True)
    except OSError as exc:
        raise InputError(f"{uri} cannot be created: {_reason(exc)}. Choose another output.") from exc


def remove(uri: str) -> None:
    """Remove a file, or a folder with its content, if it exists."""
    system, path = resolve(uri)
    info = _info(uri, system, path)
    if info.is_file:
        _call(uri, lambda: system.delete_file(path))
    elif _is_folder(info):
        _call(uri, lambda: system.delete_dir(path))


def remove_temporaries(folder: str) -> None:
    """Remove the temporary files that a killed run has left in a local folder."""
    if not is_remote(folder):
        remove_temporary_files(Path(folder))


def needs_files_extra(purpose: str) -> MissingDependency:
    """Return the error for a task that needs pyarrow.

    Example:
        >>> print(needs_files_extra("read reviews.parquet"))
        manylabel[files] is required to read reviews.parquet. pip install "manylabel[files,cpu]"
    """
    return MissingDependency(f'manylabel[files] is required to {purpose}. pip install "manylabel[files,cpu]"')


def _files(system: Any, path: str, *, is_folder: bool) -> Iterator[str]:
    """Yield the visible files below a folder or of a glob."""
    if is_folder:
        yield from _below(system, path.rstrip("/") or "/", ["**", "*"])
        return
    parts = path.split("/")
    fixed = next((at for at, part in enumerate(parts) if any(mark in part for mark in GLOB_MARKS)), None)
    if fixed is not None:
        pattern = [part for part in parts[fixed:] if part not in ("", ".")]
        yield from _below(system, "/".join(parts[:fixed]) or ("/" if path.startswith("/") else "."), pattern)


def _below(system: Any, folder: str, pattern: list[str]) -> Iterator[str]:
    """Yield the visible files below a folder whose relative path matches a pattern, one part per folder."""
    from pyarrow import fs

    part, *rest = pattern
    if part != "**":
        for info in system.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
            if _is_hidden(info.base_name) or not fnmatch.fnmatchcase(info.base_name, part):
                continue
            if rest and _is_folder(info):
                yield from _below(system, info.path, rest)
            elif not rest and info.is_file:
                yield info.path.removeprefix("./")
        return
    rest = rest or ["*"]
    if len(rest) == 1 and not _is_local(system):  # one request lists all folders of an object store
        for info in system.get_file_info(fs.FileSelector(folder, allow_not_found=True, recursive=True)):
            parts = info.path.removeprefix(folder).strip("/").split("/")
            if info.is_file and fnmatch.fnmatchcase(parts[-1], rest[0]) and not any(map(_is_hidden, parts)):
                yield info.path
        return
    yield from _below(system, folder, rest)
    for info in system.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
        linked = _is_local(system) and os.path.islink(info.path)  # may form a cycle
        if _is_folder(info) and not linked and not _is_hidden(info.base_name):
            yield from _below(system, info.path, pattern)


def _is_hidden(name: str) -> bool:
    return name.startswith(HIDDEN)


def _upload(file: Path, uri: str, system: Any, path: str) -> None:
    def copy() -> None:
        with open(file, "rb") as source, system.open_output_stream(path, compression=None) as sink:
            while content := source.read(COPY_BYTES):
                sink.write(content)

    _call(uri, copy)


def _near(uri: str) -> str:
    """Return a sentence with the name of a similar local file; nothing if there is none."""
    return "" if is_remote(uri) else suggest_path(uri)


def _info(uri: str, system: Any, path: str) -> Any:
    (info,) = _call(uri, lambda: system.get_file_info([path]))
    return info


def _is_folder(info: Any) -> bool:
    return bool(info.type.name == "Directory")


def _is_local(system: Any) -> bool:
    return bool(system.type_name == "local")


def _call(uri: str, call: Callable[[], Result]) -> Result:
    try:
        return call()
    except (OSError, ValueError, NotImplementedError) as exc:
        raise InputError(f"{uri} cannot be reached: {_reason(exc)}") from exc


def _reason(exc: BaseException) -> str:
    """Return the system's reason, which pyarrow surrounds with its own words, or else the first line."""
    number = getattr(exc, "errno", None)
    return os.strerror(number) if isinstance(number, int) else first_line(exc).rstrip(".")
