"""A disk that is full or may not be written to, as a sentence with the next step."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from manylabel.errors import CannotWrite, ManylabelError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}


@contextmanager
def writing(folder: Path, what: str, kept: str) -> Iterator[None]:
    """Say in a sentence why a folder cannot be written to.

    Args:
        folder: What is written to.
        what: Is written, such as `"the bundle"`.
        kept: What is kept, and how to go on.

    Raises:
        CannotWrite: The disk is full or read-only, or a quota or a limit on the size of files is reached.
    """
    try:
        yield
    except ManylabelError:
        raise
    except Exception as exc:  # what a library makes of the system's reason is in the chain
        if reason := reason_not_to_write(exc):
            raise cannot_write(folder, what, reason, kept) from exc
        raise


def cannot_write(folder: Path, what: str, reason: int, kept: str) -> CannotWrite:
    """The error for a folder and the system's number of the reason."""
    if reason not in FULL:
        return CannotWrite(
            f"{folder} cannot be written to ({os.strerror(reason)}). Choose another output, or make it writable. {kept}"
        )
    free = shutil.disk_usage(folder).free / 1e6
    return CannotWrite(
        f"{folder} has no room for {what} ({os.strerror(reason)}; {free:,.0f} MB are free on the disk). "
        f"Make room there, or see to the quota (quota) and the limit on the size of files (ulimit -f). {kept}"
    )


def reason_not_to_write(
    exc: BaseException, told: Callable[[BaseException], int | None] = lambda exc: getattr(exc, "errno", None)
) -> int | None:
    """The system's number for why nothing could be written; None if that is not what happened.

    Args:
        exc: An exception, looked at with those from which it came.
        told: The number that one of them tells, if it does.
    """
    found = (told(each) for each in chain(exc))
    return next((reason for reason in found if reason in FULL | REFUSED), None)


def chain(exc: BaseException | None) -> Iterator[BaseException]:
    """An exception and those from which it came."""
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__
