"""What a machine may run out of while it trains or exports, room or memory, as a sentence with what is kept."""

import errno
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from manylabel.errors import ExportError, ManylabelError, OutOfMemory
from manylabel.system.resource_errors import cannot_write, is_lack_of_memory, reason_not_to_write

SAFETENSORS = re.compile(r"\(os error (\d+)\)")
"""safetensors and tokenizers are written in Rust and have exceptions of their own, which end like this."""
TORCH_WRITING = ("unexpected pos", "PytorchStreamWriter failed")
"""torch.save raises a RuntimeError without the system's reason; this is what its writer says."""


@contextmanager
def explained(output: Path, what: str, *, short: str, kept: Callable[[], str]) -> Iterator[None]:
    """Say in a sentence what the machine ran out of.

    Args:
        output: Where what is finished is to lie.
        what: Is being made, such as `"the run"`.
        short: Where memory ran out, and what to do: ends the sentence that begins "memory ran out".
        kept: Says what is kept, and how to go on.

    Raises:
        CannotWrite: The disk is full or read-only, or a quota or a limit on the size of files is reached.
        OutOfMemory: Memory ran out.
    """
    try:
        yield
    except Exception as exc:  # safetensors, torch and tokenizers each raise their own
        if is_lack_of_memory(exc):
            raise OutOfMemory(f"memory ran out {short} {kept()}") from exc
        if isinstance(exc, ManylabelError) and not isinstance(exc, ExportError):  # which blames what traces
            raise
        if reason := reason_not_to_write(exc, _told):
            raise cannot_write(_tightest(output.absolute().parent), what, reason, kept()) from exc
        raise


def _tightest(folder: Path) -> Path:
    """The output's folder or, where less is free, the one for temporary files."""
    return min(folder, Path(tempfile.gettempdir()), key=lambda path: shutil.disk_usage(path).free)


def _told(exc: BaseException) -> int | None:
    """The system's number that an exception holds, or that a library's own exception tells."""
    if isinstance(exc, OSError):
        return exc.errno
    if found := SAFETENSORS.search(str(exc)):
        return int(found[1])
    silent = isinstance(exc, RuntimeError) and any(name in str(exc) for name in TORCH_WRITING)
    return errno.ENOSPC if silent else None
