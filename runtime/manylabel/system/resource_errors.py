"""A full disk, a read-only folder or exhausted memory as an error with the next step."""

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

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
WRITE_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}
OUT_OF_MEMORY_MESSAGES = (
    "allocate memory",
    "out of memory",
    "bad_alloc",
    "bad allocation",
    "failed to map segment",
    "can't start new thread",
)
"""What onnxruntime, torch, CUDA, C++, the dynamic loader and Python report when an allocation fails."""


@contextmanager
def write_errors(folder: Path, what: str, advice: str) -> Iterator[None]:
    """Translate the errors of a block that writes to a folder.

    Args:
        folder: The folder.
        what: What is written, such as `"the bundle"`.
        advice: What is kept, and how to continue.

    Raises:
        CannotWrite: The disk is full or read-only, or a quota or a limit on the size of files is reached.

    Example:
        >>> import errno
        >>> with write_errors(Path("."), "the bundle", "Then run the command again."):
        ...     raise OSError(errno.EROFS, "read-only")
        Traceback (most recent call last):
        manylabel.errors.CannotWrite: . cannot be written to (Read-only file system). Choose another output, or make it
        writable. Then run the command again.
    """
    try:
        yield
    except ManylabelError:
        raise
    except Exception as exc:  # a library may have wrapped the system's error
        if reason := write_error_number(exc):
            raise cannot_write(folder, what, reason, advice) from exc
        raise


def cannot_write(folder: Path, what: str, reason: int, advice: str) -> CannotWrite:
    """Return the error for a folder that cannot be written to.

    Args:
        folder: The folder.
        what: What was to be written.
        reason: The system's error number.
        advice: What is kept, and how to continue.

    Example:
        >>> import errno
        >>> str(cannot_write(Path("."), "the run", errno.EACCES, ""))[:47]
        '. cannot be written to (Permission denied). Cho'
    """
    if reason not in DISK_FULL:
        message = f"{folder} cannot be written to ({os.strerror(reason)}). Choose another output, or make it writable."
    else:
        free = shutil.disk_usage(folder).free / 1e6
        message = (
            f"{folder} has no room for {what} ({os.strerror(reason)}; {free:,.0f} MB are free on the disk). "
            "Make room there, or check the quota (quota) and the limit on the size of files (ulimit -f)."
        )
    return CannotWrite(f"{message} {advice}".rstrip())


def write_error_number(
    exc: BaseException, errno_of: Callable[[BaseException], int | None] = lambda exc: getattr(exc, "errno", None)
) -> int | None:
    """Return the system's error number if an exception means that a file could not be written, else None.

    Args:
        exc: The exception; those that caused it are considered, too.
        errno_of: Returns the number that a single exception carries.

    Example:
        >>> import errno
        >>> write_error_number(OSError(errno.ENOSPC, "full")) == errno.ENOSPC
        True
    """
    numbers = (errno_of(each) for each in exception_chain(exc))
    return next((number for number in numbers if number in DISK_FULL | WRITE_DENIED), None)


def exception_chain(exc: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those that caused it.

    Example:
        >>> [type(each).__name__ for each in exception_chain(ValueError())]
        ['ValueError']
    """
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


@contextmanager
def memory_for_import(package: str, megabytes: int) -> Iterator[None]:
    """Run a block that imports a package, or raise an error if there is not enough memory for it.

    The address space is reserved and released first: with too little of it, numpy's OpenBLAS exits and onnxruntime
    crashes instead of raising an exception. The memory is not touched, so this costs nothing.

    Args:
        package: Such as `"onnxruntime"`; nothing is reserved if it is already imported.
        megabytes: The address space that importing it takes.

    Raises:
        OutOfMemory: There is not enough memory.

    Example:
        >>> with memory_for_import("numpy", 112):
        ...     import numpy
    """
    try:
        if package not in sys.modules:
            mmap.mmap(-1, megabytes << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ).close()
        yield
    except Exception as exc:
        if not is_lack_of_memory(exc):
            raise
        raise OutOfMemory(
            f"memory ran out while {package} was loaded, which takes {megabytes:,} MB ({_reason(exc)}). "
            f"{memory_advice()}"
        ) from exc


@contextmanager
def memory_errors(advice: str) -> Iterator[None]:
    """Translate the errors of a block in which memory may run out.

    Args:
        advice: What is kept, and how to continue.

    Raises:
        OutOfMemory: Memory ran out.

    Example:
        >>> with memory_errors("The same command resumes."):
        ...     raise MemoryError
        Traceback (most recent call last):
        manylabel.errors.OutOfMemory: memory ran out (...). ... The same command resumes.
    """
    try:
        yield
    except Exception as exc:  # other code may have wrapped it in another error
        if is_lack_of_memory(exc):
            raise out_of_memory(exc, advice) from exc
        raise


def out_of_memory(exc: BaseException, advice: str = "") -> OutOfMemory:
    """Return the error for an exception that a lack of memory led to.

    Args:
        exc: An exception for which `is_lack_of_memory` is true.
        advice: What is kept, and how to continue.

    Example:
        >>> str(out_of_memory(MemoryError("for 4 GB")))[:27]
        'memory ran out (for 4 GB). '
    """
    first = next(filter(_means_out_of_memory, exception_chain(exc)))  # later ones may call it something else
    message = str(first) if isinstance(first, OutOfMemory) else f"memory ran out ({_reason(first)}). {memory_advice()}"
    return OutOfMemory(f"{message} {advice}".rstrip())


def is_lack_of_memory(exc: BaseException) -> bool:
    """Return whether an exception, or one that caused it, means that memory ran out.

    Example:
        >>> is_lack_of_memory(MemoryError()), is_lack_of_memory(RuntimeError("std::bad_alloc"))
        (True, True)
    """
    return any(map(_means_out_of_memory, exception_chain(exc)))


def _means_out_of_memory(exc: BaseException) -> bool:
    return (
        isinstance(exc, MemoryError | OutOfMemory)
        or getattr(exc, "errno", None) == errno.ENOMEM
        or (isinstance(exc, RuntimeError | ImportError) and mentions_out_of_memory(str(exc)))
    )


def mentions_out_of_memory(message: str) -> bool:
    """Return whether a library's error message is about memory.

    Example:
        >>> mentions_out_of_memory("CUDA error: Out of memory")
        True
    """
    return any(phrase in message.lower() for phrase in OUT_OF_MEMORY_MESSAGES)


def memory_advice() -> str:
    """Return advice on how to get more memory, with the limit if one is set.

    Example:
        >>> memory_advice()[:10]
        'Free some,'
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    current = "" if limit == resource.RLIM_INFINITY else f", now {limit >> 20:,} MB"
    return f"Free some, raise the limit (ulimit -v{current}, or the container's), or use fewer threads."


def _reason(exc: BaseException) -> str:
    """Return the informative line of a message: numpy's for a failed import has some fifty."""
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return next(filter(mentions_out_of_memory, lines), lines[0] if lines else "an allocation failed")
