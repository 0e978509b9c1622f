"""Decorators of commands that train or export: required packages, quiet libraries, and errors for signals."""

import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import click

from manylabel.errors import Interrupted, MissingDependency
from manylabel.system.resource_errors import memory_for_import

EXPORT_PACKAGES = ("torch", "transformers", "accelerate", "onnx", "sklearn", "pyarrow")
"""Packages of the extra `export`."""
IMPORT_MEGABYTES = 1024
"""Memory that importing them takes: 992 MB with torch 2.13 for CPUs, which with less may be killed."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Stopped(BaseException):
    """A signal arrived. Not an `Exception`, so that no library catches it."""

    def __init__(self, number: int) -> None:
        self.number = number


def require_export_extra(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command that needs the extra `export`: raise if it is missing, and silence its libraries."""

    @wraps(command)
    def guarded(**options: Any) -> None:
        try:
            with memory_for_import("torch", IMPORT_MEGABYTES):
                for name in EXPORT_PACKAGES:
                    import_module(name)
        except ImportError as exc:
            raise MissingDependency(
                f'{exc.name} is required to train and export. pip install "manylabel[export,cpu]"'
            ) from exc
        with _quiet_libraries():
            command(**options)

    return guarded


def handle_interrupts(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command with the option `output`: SIGINT and SIGTERM end it with an error message."""

    @wraps(command)
    def guarded(**options: Any) -> None:
        with raise_on_signals(options["output"]):
            command(**options)

    return guarded


@contextmanager
def raise_on_signals(output: Path) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into an error that says what is kept of the run. A second signal ends the process.

    Files that are being written when a signal arrives may be incomplete, as after a kill. Signals that were ignored
    before stay ignored, for `nohup` and the background jobs of a shell.

    Args:
        output: The folder of the finished run.

    Raises:
        Interrupted: A signal arrived; the exit code is 128 plus the signal's number.
    """
    handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]

    def stop(number: int, _: FrameType | None) -> None:
        for each in handled:
            signal.signal(each, signal.SIG_DFL)
        raise _Stopped(number)

    before = {number: signal.signal(number, stop) for number in handled}
    try:
        yield
    except _Stopped as exc:
        from manylabel_train.training.checkpoints import describe_progress

        message = f"stopped by {signal.Signals(exc.number).name}. {describe_progress(output)}"
        raise Interrupted(message, exit_code=128 + exc.number) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Print our own warnings as one line each, and none of the libraries' warnings, logs and progress bars."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("default", module="manylabel")
            warnings.showwarning = lambda message, *_: click.echo(f"warning: {message}", err=True)
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
