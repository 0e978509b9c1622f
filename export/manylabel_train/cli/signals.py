"""Ctrl-C and SIGTERM at the command line: one sentence with what is kept, and the exit code that shells expect."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any

from manylabel.errors import Interrupted
from manylabel_train.training.checkpoints import what_is_kept

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Stopped(BaseException):
    """A signal came. No library's `except Exception` may take it for its own."""

    def __init__(self, number: int) -> None:
        self.number = number


def interruptible(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command with the option `output` end by a sentence when it is told to stop."""

    @wraps(command)
    def guarded(**options: Any) -> None:
        with stopped_by_signals(options["output"]):
            command(**options)

    return guarded


@contextmanager
def stopped_by_signals(output: Path) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into an error that says what is kept of the run. A second one ends the process at once.

    What a signal cuts short may be half written, as if the process had been killed: whoever writes sees to that. A
    signal that was ignored before stays so, as `nohup` and background jobs of a shell want it.

    Args:
        output: Where the finished run is to lie.

    Raises:
        Interrupted: A signal came; its exit code is 128 and the signal's number.
    """
    taken = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]

    def stop(number: int, _: FrameType | None) -> None:
        for each in taken:
            signal.signal(each, signal.SIG_DFL)
        raise _Stopped(number)

    before = {number: signal.signal(number, stop) for number in taken}
    try:
        yield
    except _Stopped as exc:
        said = f"stopped by {signal.Signals(exc.number).name}. {what_is_kept(output)}"
        raise Interrupted(said, exit_code=128 + exc.number) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
