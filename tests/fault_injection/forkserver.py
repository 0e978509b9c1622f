"""Commands in processes of their own, forked from one that has PyTorch, which takes seconds to import."""

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


def start(
    arguments: Sequence[object], said: Path, before: Callable[..., object] | None = None, *given: object
) -> BaseProcess:
    """Start `manylabel ARGUMENTS`.

    Args:
        arguments: Of the command.
        said: A file for what it shows.
        before: A module's function that the process calls first.
        given: Its arguments.
    """
    process = _server.Process(target=_main, args=([str(each) for each in arguments], said, before, given))
    process.start()
    return process


def _main(arguments: list[str], said: Path, before: Callable[..., object] | None, given: tuple[object, ...]) -> None:
    from manylabel.cli.main import main

    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = sys.stderr = open(descriptor, "w", encoding="utf-8", closefd=False)
    os.environ["HF_HUB_OFFLINE"] = "1"
    if before:
        before(*given)
    main(arguments)
