"""Trainings that end before their time, each in a process of its own that is forked from one that has PyTorch."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Hook = Callable[[int], None]
"""Called after each evaluation with the number of those that were, before the checkpoint is written."""

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["manylabel_export.training", "manylabel_export.train_cli", "manylabel.cli"])


def run(arguments: Sequence[object], folder: Path, hook: str = "nothing", *values: int) -> tuple[int | None, str]:
    """`manylabel ARGUMENTS` with a hook of this module; its exit code, negative for a signal, and what it showed."""
    errors = folder / "stderr.txt"
    process = _server.Process(target=_main, args=([str(each) for each in arguments], errors, hook, values))
    process.start()
    process.join(300)
    return process.exitcode, errors.read_text(encoding="utf-8")


def _main(arguments: list[str], errors: Path, hook: str, values: tuple[int, ...]) -> None:
    from manylabel.cli import main
    from manylabel_export.training.progress import Progress

    descriptor = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = sys.stderr = open(descriptor, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    seen, before, act = [0], Progress.on_evaluate, globals()[hook]

    def on_evaluate(self: Any, *given: Any, **named: Any) -> None:
        before(self, *given, **named)
        seen[0] += 1
        act(seen[0], *values)

    Progress.on_evaluate = on_evaluate
    os.environ["HF_HUB_OFFLINE"] = "1"
    main(arguments)


def nothing(epoch: int) -> None:
    """Let it be."""


def send(epoch: int, at: int, number: int) -> None:
    """A signal to the process itself, as from a terminal or `kill`."""
    if epoch == at:
        os.kill(os.getpid(), number)


def limit_files(epoch: int, at: int, size: int, deadly: int) -> None:
    """No file may grow beyond `size` from now on: a write fails, or kills the process in the middle of it."""
    import resource

    if epoch == at:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if deadly else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def limit_memory(epoch: int, at: int, more: int) -> None:
    """No more than `more` bytes of memory beyond what there is, and then ask for them."""
    import resource

    import torch

    if epoch == at:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + more, resource.RLIM_INFINITY))
        torch.ones(more)


def kill_while_writing(epoch: int, at: int, nth: int) -> None:
    """SIGKILL when a file beside the output is opened, renamed or removed for the nth time from now on."""
    if epoch != at:
        return
    count = [0]

    def listen(event: str, given: tuple[Any, ...]) -> None:
        if event in {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"} and "/.run." in str(given[0]):
            count[0] += 1
            if count[0] == nth:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(listen)
