"""Errors for a full disk or exhausted memory during training and export, with what is kept and how to continue."""

import errno
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from manylabel.errors import ExportError, ManylabelError, OutOfMemory
from manylabel.system.resource_errors import cannot_write, is_lack_of_memory, write_error_number
from manylabel_train.training.checkpoints import describe_progress
from manylabel_train.training.config import TrainConfig

RUST_ERROR = re.compile(r"\(os error (\d+)\)")
"""How the messages of safetensors' and tokenizers' own exceptions, which are written in Rust, end."""
TORCH_WRITE_ERRORS = ("unexpected pos", "PytorchStreamWriter failed")
"""Messages of the RuntimeError that torch.save raises without the system's reason."""


@contextmanager
def explain_shortage(output: Path, what: str, *, short: str, kept: Callable[[], str]) -> Iterator[None]:
    """Turn errors about disk space and memory into ours, which say what is kept and what to do.

    Args:
        output: The path of the finished output.
        what: What is being written, such as `"the run"`.
        short: Where memory ran out, and what to do: completes the sentence that starts with "memory ran out".
        kept: Returns what is kept, and how to continue.

    Raises:
        CannotWrite: The disk is full or read-only, or a quota or a limit on the size of files is reached.
        OutOfMemory: Memory ran out.
    """
    try:
        yield
    except Exception as exc:  # safetensors, torch and tokenizers each raise errors of their own
        if is_lack_of_memory(exc):
            raise OutOfMemory(f"memory ran out {short} {kept()}") from exc
        if isinstance(exc, ManylabelError) and not isinstance(exc, ExportError):  # which blames the traced model
            raise
        if reason := write_error_number(exc, _find_errno):
            raise cannot_write(_fullest_folder(output.absolute().parent), what, reason, kept()) from exc
        raise


def explain_training_shortage(output: Path, config: TrainConfig) -> AbstractContextManager[None]:
    """Turn errors about disk space and memory during training into ours.

    Args:
        output: The folder of the finished run.
        config: A completed configuration.
    """
    short = (
        f"over batches of {config.batch_size} texts of up to {config.max_length} tokens. Lower --batch-size or "
        "--max-length and start over with --force, or free memory."
    )
    return explain_shortage(output, "the run", short=short, kept=partial(describe_progress, output))


def _fullest_folder(folder: Path) -> Path:
    """Return the output's folder or, if it has less space, the folder for temporary files."""
    return min(folder, Path(tempfile.gettempdir()), key=lambda path: shutil.disk_usage(path).free)


def _find_errno(exc: BaseException) -> int | None:
    """Return the system's error number from an exception or from the message of a library's own exception."""
    if isinstance(exc, OSError):
        return exc.errno
    if match := RUST_ERROR.search(str(exc)):
        return int(match[1])
    no_reason = isinstance(exc, RuntimeError) and any(message in str(exc) for message in TORCH_WRITE_ERRORS)
    return errno.ENOSPC if no_reason else None
