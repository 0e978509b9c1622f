"""What a machine may be short of, room on a disk or memory, as a sentence with the next step."""

import errno
import mmap
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from manylabel.errors import CannotWrite, ManylabelError, OutOfMemory

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}
NO_MEMORY = (
    "allocate memory",
    "out of memory",
    "bad_alloc",
    "bad allocation",
    "failed to map segment",
    "can't start new thread",
)
"""What onnxruntime, torch, CUDA, C++, the loader of libraries and Python say where no memory is granted."""


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


@contextmanager
def loading(package: str, megabytes: int) -> Iterator[None]:
    """Load a package, and what is loaded with it, where there is room; or say that there is none.

    The system is asked for the room before: with too little of it numpy's OpenBLAS ends the process and onnxruntime
    crashes, and neither raises anything. Nothing of what is granted is touched, so it costs nothing.

    Args:
        package: Such as `"onnxruntime"`; where it is loaded already, no room is asked for.
        megabytes: Of addresses that it takes.

    Raises:
        OutOfMemory: There are fewer.
    """
    try:
        if package not in sys.modules:
            mmap.mmap(-1, megabytes << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ).close()
        yield
    except Exception as exc:
        if not is_lack_of_memory(exc):
            raise
        raise OutOfMemory(
            f"memory ran out while {package} was loaded, which takes {megabytes:,} MB ({_reason(exc)}). {more_memory()}"
        ) from exc


@contextmanager
def remembering(kept: str) -> Iterator[None]:
    """Say, where memory runs out, what is kept and how to go on.

    Raises:
        OutOfMemory: It did.
    """
    try:
        yield
    except Exception as exc:  # whatever met it, and took it for damage perhaps
        if is_lack_of_memory(exc):
            raise out_of_memory(exc, kept) from exc
        raise


def out_of_memory(exc: BaseException, kept: str = "") -> OutOfMemory:
    """The error for an exception that a lack of memory led to.

    Args:
        exc: For which `is_lack_of_memory` holds.
        kept: What is kept, and how to go on.
    """
    first = next(filter(_says_so, chain(exc)))  # what took it for damage comes before
    said = str(first) if isinstance(first, OutOfMemory) else f"memory ran out ({_reason(first)}). {more_memory()}"
    return OutOfMemory(f"{said} {kept}".rstrip())


def is_lack_of_memory(exc: BaseException) -> bool:
    """Whether that is what an exception, or one from which it came, says."""
    return any(map(_says_so, chain(exc)))


def _says_so(exc: BaseException) -> bool:
    return (
        isinstance(exc, MemoryError | OutOfMemory)
        or getattr(exc, "errno", None) == errno.ENOMEM
        or (isinstance(exc, RuntimeError | ImportError) and mentions_out_of_memory(str(exc)))
    )


def mentions_out_of_memory(message: str) -> bool:
    """Whether a library's message is about memory."""
    return any(words in message.lower() for words in NO_MEMORY)


def more_memory() -> str:
    """What to do, with the limit where one is set."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    limited = "" if limit == resource.RLIM_INFINITY else f", now {limit >> 20:,} MB"
    return f"Free some, raise the limit (ulimit -v{limited}, or the container's), or use fewer threads."


def _reason(exc: BaseException) -> str:
    """The line of a message that tells: numpy has some fifty for a failed import."""
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return next(filter(mentions_out_of_memory, lines), lines[0] if lines else "no more was granted")
