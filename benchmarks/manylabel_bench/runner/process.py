"""A contender's process, which works only while it is its turn."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from manylabel.errors import ManylabelError
from manylabel_bench.contenders import Kind, Setting


class ContenderFailed(ManylabelError):
    """A contender's process ended before it was through."""


class Turn:
    """A contender that has loaded and answered once, and waits.

    Attributes:
        name: The contender's.
        load_seconds: From the imports of its process to its first answer.
        batching: As `Contender.batching`.
    """

    def __init__(self, name: str, process: "subprocess.Popen[str]", log: IO[str]) -> None:
        self.name = name
        self._process, self._log = process, log
        loaded = self._answer()
        self.load_seconds: float = loaded["load_seconds"]
        self.batching: str = loaded["batching"]

    def ask(self, command: str, *arguments: object) -> dict[str, Any]:
        """Do what the command says (see `worker`) and wait for it.

        Raises:
            ContenderFailed: The process died.
        """
        assert self._process.stdin
        self._process.stdin.write(json.dumps([command, *arguments], default=str) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith("{"):  # a library may print what it likes
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise ContenderFailed(f"{self.name} failed: {said(self._log)}")


def command(kind: Kind, setting: Setting, *more: object) -> list[str]:
    """What starts a contender's process."""
    words = [sys.executable, "-m", "manylabel_bench.runner.worker", kind.name, json.dumps(setting.given()), *more]
    return list(map(str, words))


def environment(threads: int) -> dict[str, str]:
    """Waiting threads sleep, so that a contender whose turn is over takes nothing from the next."""
    counts = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS"), str(threads))
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1", "DO_NOT_TRACK": "1"}
    return {**os.environ, **counts, **quiet, "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "true"}


@contextmanager
def started(kind: Kind, setting: Setting, texts: Path) -> Iterator[Turn]:
    """A contender in a fresh process, until the block ends.

    Args:
        kind: Who.
        setting: What it is given.
        texts: A file of texts, the first of which it answers at once.

    Raises:
        ContenderFailed: It does not load.
    """
    with TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command(kind, setting, "--serve", texts),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment(setting.threads),
        )
        try:
            yield Turn(kind.name, process, log)
        finally:
            process.kill()
            process.communicate()


def prepare(kind: Kind, setting: Setting) -> None:
    """Have a contender make its own files, where it has any.

    Raises:
        ContenderFailed: It cannot.
    """
    if kind.prepares:
        with TemporaryFile("w+") as log:
            words = command(kind, setting, "--prepare")
            done = subprocess.run(words, stdout=log, stderr=log, check=False, env=environment(setting.threads))
            if done.returncode:
                raise ContenderFailed(f"{kind.name} cannot be prepared: {said(log)}")


def said(log: IO[str]) -> str:
    """The last line that a process wrote."""
    log.seek(0)
    lines = [line.strip() for line in log if line.strip()]
    return lines[-1][:300] if lines else "it ended without a word"
