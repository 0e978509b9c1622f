"""Atomic writes: files and folders that appear complete or not at all.

Content is written under a temporary name beside its destination, synced to disk, and renamed. A process that is killed
midway leaves the previous content, or none.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from manylabel.errors import InputError, OutputExists
from manylabel.system.resource_errors import write_errors

TEMPORARY_SUFFIX = ".tmp"
"""Suffix of a file that is not complete yet; its name starts with a dot."""


def atomic_write_text(path: Path, text: str, *, advice: str = "") -> None:
    """Write a UTF-8 text file atomically, replacing a file that exists.

    Args:
        path: The file.
        text: Its content. Line ends are written as they are.
        advice: A sentence for the error message: what is kept, and how to continue.

    Raises:
        CannotWrite: The disk is full or read-only, or access is denied.
        InputError: The file cannot be created.

    Example:
        >>> from pathlib import Path
        >>> atomic_write_text(Path("settings.json"), "{}")
        >>> Path("settings.json").read_text()
        '{}'
    """
    with atomic_text_file(path, advice=advice) as file:
        file.write(text)


def atomic_write_bytes(path: Path, content: bytes, *, advice: str = "") -> None:
    """Write a file atomically, replacing a file that exists.

    Args:
        path: The file.
        content: Its content.
        advice: A sentence for the error message: what is kept, and how to continue.

    Raises:
        CannotWrite: The disk is full or read-only, or access is denied.
        InputError: The file cannot be created.

    Example:
        >>> from pathlib import Path
        >>> atomic_write_bytes(Path("ids.bin"), bytes(3))
        >>> Path("ids.bin").stat().st_size
        3
    """
    with atomic_file(path, advice=advice) as temporary:
        temporary.write_bytes(content)


@contextmanager
def atomic_text_file(path: Path, *, encoding: str = "utf-8", advice: str = "") -> Iterator[TextIO]:
    r"""Open a text file that replaces `path` when the block ends without an error.

    Lone surrogates, which UTF-8 cannot encode, are written as escapes.

    Raises:
        CannotWrite: The disk is full or read-only, or access is denied.
        InputError: The file cannot be created.

    Example:
        >>> from pathlib import Path
        >>> with atomic_text_file(Path("report.txt")) as file:
        ...     print("finished", file=file)
        >>> Path("report.txt").read_text()
        'finished\n'
    """
    with (
        atomic_file(path, advice=advice) as temporary,
        temporary.open("w", encoding=encoding, errors="backslashreplace", newline="") as file,
    ):
        yield file


@contextmanager
def atomic_file(path: Path, *, what: str = "", advice: str = "") -> Iterator[Path]:
    """Return a temporary path to write to, which replaces `path` when the block ends without an error.

    Several processes may write the same file at once: the last to finish wins.

    Args:
        path: The file.
        what: Names the content in error messages, such as `"the output"`; the file's name by default.
        advice: A sentence for the error message: what is kept, and how to continue.

    Raises:
        CannotWrite: The disk is full or read-only, or access is denied.
        InputError: The file cannot be created.

    Example:
        >>> from pathlib import Path
        >>> with atomic_file(Path("table.bin")) as temporary:
        ...     _ = temporary.write_bytes(b"rows")
        >>> Path("table.bin").read_bytes()
        b'rows'
    """
    folder = path.absolute().parent
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        with write_errors(folder, what or path.name, advice):
            yield temporary
            sync_to_disk(temporary)
            temporary.replace(path)
            sync_to_disk(folder)
    except OSError as exc:
        if exc.filename != str(temporary):  # not ours: raised by what the block read or ran
            raise
        raise InputError(f"{path} cannot be written: {exc.strerror}. Choose another output.") from exc
    finally:
        if os.path.lexists(temporary):
            temporary.unlink()


def remove_temporary_files(folder: Path) -> None:
    """Remove the incomplete files that a killed process left in a folder.

    Example:
        >>> from pathlib import Path
        >>> Path(".part.csv.0a1b2c3d.tmp").touch()
        >>> remove_temporary_files(Path("."))
        >>> Path(".part.csv.0a1b2c3d.tmp").exists()
        False
    """
    for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path, *, force: bool = False) -> Iterator[Path]:
    """Create an empty folder to fill, which becomes `target` when the block ends without an error.

    Args:
        target: The folder.
        force: Replace a folder that exists.

    Raises:
        OutputExists: `target` exists, and `force` is False.
        InputError: `target` cannot be created.

    Example:
        >>> from pathlib import Path
        >>> with atomic_folder(Path("output")) as folder:
        ...     _ = (folder / "data.txt").write_text("complete")
        >>> Path("output/data.txt").read_text()
        'complete'
    """
    check_output_free(target, force=force)
    staging = target.with_name(f".{target.name}.new")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir()
    except OSError as exc:
        raise InputError(f"{target} cannot be created: {exc.strerror}. Choose another output.") from exc
    try:
        yield staging
        publish_folder(staging, target, force=force)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def publish_folder(staging: Path, target: Path, *, force: bool = False) -> None:
    """Sync a complete folder to disk and rename it to `target`.

    An existing target is renamed to `.NAME.old` first and removed once the new folder is in place.

    Args:
        staging: The folder, on the same disk as `target`.
        target: Its final name.
        force: Replace a folder that exists.

    Raises:
        OutputExists: `target` exists by now, and `force` is False.

    Example:
        >>> from pathlib import Path
        >>> Path("staging").mkdir()
        >>> publish_folder(Path("staging"), Path("published"))
        >>> Path("published").is_dir(), Path("staging").exists()
        (True, False)
    """
    check_output_free(target, force=force)
    for path in (*staging.rglob("*"), staging):
        sync_to_disk(path)
    old = target.with_name(f".{target.name}.old")
    try:
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
        staging.rename(target)
    except BaseException:  # Ctrl-C may fall between the two renames
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    sync_to_disk(target.absolute().parent)
    shutil.rmtree(old, ignore_errors=True)


def check_output_free(target: Path, *, force: bool) -> None:
    """Raise an error for an output folder that exists or cannot be created, before any work is done.

    Args:
        target: The folder that is going to be written.
        force: Accept a folder that exists, because it is going to be replaced.

    Raises:
        OutputExists: `target` exists, and `force` is False.
        InputError: `target` is not a folder, contains the working directory, or its parent does not exist.

    Example:
        >>> from pathlib import Path
        >>> check_output_free(Path("."), force=False)
        Traceback (most recent call last):
        manylabel.errors.OutputExists: . already exists. Choose another output, or replace it with --force.
    """
    exists = os.path.lexists(target)  # a dangling symlink exists too
    if exists and not force:
        raise OutputExists(f"{target} already exists. Choose another output, or replace it with --force.")
    if exists and (target.is_symlink() or not target.is_dir()):
        raise InputError(f"{target} is not a folder, so --force does not replace it. Choose another output.")
    if exists and Path.cwd().is_relative_to(target.resolve()):
        raise InputError(
            f"{target} contains the working directory, so --force does not replace it. Choose another output."
        )
    if not os.path.isdir(target.absolute().parent):
        raise InputError(f"the folder {target.absolute().parent} does not exist. Create it, or choose another output.")


def sync_to_disk(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk (fsync).

    Example:
        >>> from pathlib import Path
        >>> sync_to_disk(Path("."))
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
