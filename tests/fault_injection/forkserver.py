"""Commands in processes forked from one that has imported PyTorch, which takes seconds."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(
    [
        "manylabel_train.training.train",
        "manylabel_export.pipeline",
        "manylabel_train.cli.train",
        "manylabel_export.cli",
        "manylabel.scoring.cli",
    ]
)


def start_command(
    arguments: Sequence[object], log: Path, before: Callable[..., object] | None = None, *given: object
) -> BaseProcess:
    """Start `manylabel ARGUMENTS`.

    Args:
        arguments: The command's arguments.
        log: A file for its output.
        before: A function of a module that the process calls first.
        given: The arguments of this function.
    """
    process = _server.Process(target=_main, args=([str(each) for each in arguments], log, before, given))
    process.start()
    return process


def _main(arguments: list[str], log: Path, before: Callable[..., object] | None, given: tuple[object, ...]) -> None:
    from manylabel.cli.main import main

    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = sys.stderr = open(descriptor, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process lives
    os.environ["HF_HUB_OFFLINE"] = "1"
    if before:
        before(*given)
    main(arguments)
