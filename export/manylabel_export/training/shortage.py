"""What a machine may run out of while it trains, as a sentence with what is kept: room on a disk, and memory."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from manylabel.errors import CannotWrite, ManylabelError, OutOfMemory
from manylabel_export.remains import what_is_kept
from manylabel_export.training.recipe import Recipe

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}
SAFETENSORS = re.compile(r"\(os error (\d+)\)")
"""safetensors is written in Rust and has an exception of its own, which ends like this."""
TORCH_WRITING = ("unexpected pos", "PytorchStreamWriter failed")
"""torch.save raises a RuntimeError without the system's reason; this is what its writer says."""
NO_MEMORY = ("can't allocate memory", "out of memory", "bad_alloc")
"""What torch's RuntimeErrors say on a CPU and on CUDA, and C++ in either."""


@contextmanager
def explained(output: Path, recipe: Recipe) -> Iterator[None]:
    """Say in a sentence what the machine ran out of.

    Args:
        output: Where the finished run is to lie.
        recipe: A completed recipe.

    Raises:
        CannotWrite: The disk is full or read-only, or a quota or a limit on the size of files is reached.
        OutOfMemory: Memory ran out.
    """
    try:
        yield
    except ManylabelError:
        raise
    except Exception as exc:  # safetensors, torch and tokenizers each raise their own
        if reason := _reason_not_to_write(exc):
            raise CannotWrite(f"{output.absolute().parent} {_refuses(output, reason)} {what_is_kept(output)}") from exc
        if _is_lack_of_memory(exc):
            raise OutOfMemory(
                f"memory ran out over batches of {recipe.batch_size} texts of up to {recipe.max_length} tokens. "
                "Lower --batch-size or --max-length and start over with --force, or make memory free. "
                + what_is_kept(output)
            ) from exc
        raise


def _refuses(output: Path, reason: int) -> str:
    if reason not in FULL:
        return f"cannot be written to ({os.strerror(reason)}). Choose another output, or make it writable."
    free = shutil.disk_usage(output.absolute().parent).free / 1e6
    return (
        f"has no room for the run ({os.strerror(reason)}; {free:,.0f} MB are free on the disk). "
        "Make room there, or see to the quota (quota) and the limit on the size of files (ulimit -f)."
    )


def _reason_not_to_write(exc: BaseException) -> int | None:
    """The system's number for why nothing could be written; None if that is not what happened."""
    for each in _chain(exc):
        if isinstance(each, OSError) and each.errno in FULL | REFUSED:
            return each.errno
        found = SAFETENSORS.search(str(each))
        if found and int(found[1]) in FULL | REFUSED:
            return int(found[1])
        if isinstance(each, RuntimeError) and any(name in str(each) for name in TORCH_WRITING):
            return errno.ENOSPC
    return None


def _is_lack_of_memory(exc: BaseException) -> bool:
    return any(
        isinstance(each, MemoryError)
        or (isinstance(each, RuntimeError) and any(word in str(each) for word in NO_MEMORY))
        for each in _chain(exc)
    )


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    """An exception and those from which it came."""
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__
