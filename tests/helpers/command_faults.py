"""Run `manylabel` commands that are killed or run out of resources, each forked from a process that has PyTorch."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.fault_injection import forkserver

Hook = Callable[[int], None]
"""Called after each evaluation with the number of evaluations so far, before the checkpoint is written."""


def run(arguments: Sequence[object], folder: Path, hook: str = "nothing", *values: int) -> tuple[int | None, str]:
    """Run `manylabel ARGUMENTS` with a hook of this module; return its exit code, negative for a signal, and stderr."""
    return ended(
        forkserver.start_command(arguments, folder / "stderr.txt", _call_after_evaluations, hook, values), folder
    )


def run_limited(arguments: Sequence[object], folder: Path, kind: int, size: int) -> tuple[int | None, str]:
    """Run `manylabel ARGUMENTS` under a resource limit; return its exit code and stderr."""
    return ended(forkserver.start_command(arguments, folder / "stderr.txt", _limit, kind, size), folder)


def ended(process: Any, folder: Path) -> tuple[int | None, str]:
    """Wait for a process, and return its exit code and stderr."""
    process.join(300)
    return process.exitcode, (folder / "stderr.txt").read_text(encoding="utf-8")


def _limit(kind: int, size: int) -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(kind, (size, resource.getrlimit(kind)[1]))


def _call_after_evaluations(hook: str, values: tuple[int, ...]) -> None:
    from manylabel_train.training.callbacks import ProgressBar

    seen, original, act = [0], ProgressBar.on_evaluate, globals()[hook]

    def on_evaluate(self: Any, *given: Any, **named: Any) -> None:
        original(self, *given, **named)
        seen[0] += 1
        act(seen[0], *values)

    ProgressBar.on_evaluate = on_evaluate


def nothing(epoch: int) -> None:
    """Do nothing."""


def send(epoch: int, at: int, number: int) -> None:
    """Send a signal to the process itself, as a terminal or `kill` does."""
    if epoch == at:
        os.kill(os.getpid(), number)


def limit_files(epoch: int, at: int, size: int, deadly: int) -> None:
    """Limit the size of files from now on: a write beyond it fails, or kills the process in the middle."""
    import resource

    if epoch == at:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if deadly else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def limit_memory(epoch: int, at: int, more: int) -> None:
    """Limit memory to `more` bytes beyond what is used, and then allocate as many."""
    import resource

    import torch

    if epoch == at:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + more, resource.RLIM_INFINITY))
        torch.ones(more)


def kill_while_writing(epoch: int, at: int, nth: int) -> None:
    """Send SIGKILL when a file beside the output is opened, renamed or removed for the nth time from now on."""
    if epoch != at:
        return
    count = [0]

    def listen(event: str, given: tuple[Any, ...]) -> None:
        if event in {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"} and "/.run." in str(given[0]):
            count[0] += 1
            if count[0] == nth:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(listen)
