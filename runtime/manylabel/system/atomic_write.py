"""Folders that appear whole or not at all.

A folder is filled under a name beside its own and renamed at the end; whoever is killed before leaves the old one, or
none.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from manylabel.errors import InputError, OutputExists


def check_free(target: Path, *, force: bool) -> None:
    """Refuse a target that exists or cannot be made, before any work is done.

    Raises:
        OutputExists: `target` exists, and `force` was not given.
        InputError: `target` is not a folder, is where the caller stands, or its parent is missing.
    """
    there = os.path.lexists(target)  # a link that leads nowhere is there too
    if there and not force:
        raise OutputExists(f"{target} is there already. Choose another output, or replace it with --force.")
    if there and (target.is_symlink() or not target.is_dir()):
        raise InputError(f"{target} is not a folder, so --force does not replace it. Choose another output.")
    if there and Path.cwd().is_relative_to(target.resolve()):
        raise InputError(
            f"{target} holds the folder you are in, so --force does not replace it. Choose another output."
        )
    if not os.path.isdir(target.absolute().parent):
        raise InputError(f"the folder {target.absolute().parent} does not exist. Create it, or choose another output.")


@contextmanager
def new_folder(target: Path, *, force: bool = False) -> Iterator[Path]:
    """An empty folder to fill, which becomes `target` when the block ends without an error.

    Raises:
        OutputExists: `target` exists, and `force` was not given.
        InputError: `target` cannot be made.
    """
    check_free(target, force=force)
    staging = target.with_name(f".{target.name}.new")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir()
    except OSError as exc:
        raise InputError(f"{target} cannot be made: {exc.strerror}. Choose another output.") from exc
    try:
        yield staging
        publish(staging, target, force=force)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def publish(staging: Path, target: Path, *, force: bool = False) -> None:
    """Make a filled folder the target: written through to the disk, then renamed.

    An old target is set aside as `.NAME.old` for the moment of the change; it goes once the new one has its name.

    Raises:
        OutputExists: `target` exists by now, and `force` was not given.
    """
    check_free(target, force=force)
    for path in (*staging.rglob("*"), staging):
        _sync(path)
    old = target.with_name(f".{target.name}.old")
    try:
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
        staging.rename(target)
    except BaseException:  # Ctrl-C may fall between the two
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    _sync(target.absolute().parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
