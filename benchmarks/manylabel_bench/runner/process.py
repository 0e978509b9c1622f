"""Contender processes: one per contender, all loaded, each working only during its turn."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from tqdm import tqdm

from manylabel.errors import ManylabelError
from manylabel_bench.contenders.registry import ContenderConfig, ContenderSpec
from manylabel_bench.runner.workload import Workload

Samples = dict[str, list[Any]]
"""The samples of one scenario, by contender."""


class ContenderFailed(ManylabelError):
    """A contender's process ended before it had answered."""


class ContenderProcess:
    """A contender that has loaded, has scored one text, and waits for commands.

    Attributes:
        name: The contender's name.
        load_seconds: Seconds from the imports of its process to its first answer.
        batching: As `Contender.batching`.
    """

    def __init__(self, name: str, process: "subprocess.Popen[str]", log: IO[str]) -> None:
        self.name = name
        self._process, self._log = process, log
        loaded = self._read_answer()
        self.load_seconds: float = loaded["load_seconds"]
        self.batching: str = loaded["batching"]

    def request(self, command: str, *arguments: object) -> dict[str, Any]:
        """Send a command (see `worker`) and wait for its answer.

        Raises:
            ContenderFailed: The process died.
        """
        assert self._process.stdin
        self._process.stdin.write(json.dumps([command, *arguments], default=str) + "\n")
        self._process.stdin.flush()
        return self._read_answer()

    def _read_answer(self) -> dict[str, Any]:
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith("{"):  # other lines are a library's output
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise ContenderFailed(f"{self.name} failed: {last_line(self._log)}")


@dataclass(frozen=True)
class BenchContext:
    """The contenders of a benchmark, their texts and time limits.

    Attributes:
        contenders: The contenders that are compared.
        config: The configuration of each of them.
        workload: The texts.
        texts: The file with the texts, for the contenders' processes.
        scratch: A folder to write to.
        rounds: How often each contender has its turn.
        seconds: Upper bound of a turn, where the measurement can be cut short.
        skipped: Why a contender is not measured, by name; those that fail are added.
    """

    contenders: Sequence[ContenderSpec]
    config: ContenderConfig
    workload: Workload
    texts: Path
    scratch: Path
    rounds: int
    seconds: float
    skipped: dict[str, str]

    @contextmanager
    def start_all(self, config: ContenderConfig | None = None) -> Iterator[list[ContenderProcess]]:
        """Start every contender, one after the other; those that fail to load are skipped."""
        with ExitStack() as stack:
            processes = []
            for spec in tqdm(self.contenders, desc="loading", unit="contender", leave=False):
                try:
                    processes.append(stack.enter_context(start_contender(spec, config or self.config, self.texts)))
                except ContenderFailed as exc:
                    self.skipped[spec.name] = str(exc)
            yield processes

    def take_turns(
        self, processes: Sequence[ContenderProcess], description: str
    ) -> Iterator[tuple[int, ContenderProcess]]:
        """Yield the round's number and a contender, round by round; each round starts with another contender."""
        starts = [(number, number % max(1, len(processes))) for number in range(self.rounds)]
        order = [(number, process) for number, at in starts for process in (*processes[at:], *processes[:at])]
        yield from tqdm(order, desc=description, unit="turn")


def worker_command(spec: ContenderSpec, config: ContenderConfig, *options: object) -> list[str]:
    """Return the command that starts a contender's process."""
    words = [sys.executable, "-m", "manylabel_bench.runner.worker", spec.name, json.dumps(config.to_dict()), *options]
    return list(map(str, words))


def worker_environment(threads: int) -> dict[str, str]:
    """Return an environment in which waiting threads sleep, so that idle contenders take no CPU time from others."""
    counts = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS"), str(threads))
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1", "DO_NOT_TRACK": "1"}
    return {**os.environ, **counts, **quiet, "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "true"}


@contextmanager
def start_contender(spec: ContenderSpec, config: ContenderConfig, texts: Path) -> Iterator[ContenderProcess]:
    """Run a contender in a fresh process until the block ends.

    Args:
        spec: The contender.
        config: Its configuration.
        texts: A file with texts; the contender scores the first one to show that it has loaded.

    Raises:
        ContenderFailed: It does not load.
    """
    with TemporaryFile("w+") as log:
        process = subprocess.Popen(
            worker_command(spec, config, "--serve", texts),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=worker_environment(config.threads),
        )
        try:
            yield ContenderProcess(spec.name, process, log)
        finally:
            process.kill()
            process.communicate()


def prepare_contender(spec: ContenderSpec, config: ContenderConfig) -> None:
    """Let a contender write its own files, if it has any.

    Raises:
        ContenderFailed: Preparing failed.
    """
    if spec.prepares:
        with TemporaryFile("w+") as log:
            command = worker_command(spec, config, "--prepare")
            done = subprocess.run(command, stdout=log, stderr=log, check=False, env=worker_environment(config.threads))
            if done.returncode:
                raise ContenderFailed(f"{spec.name} cannot be prepared: {last_line(log)}")


def last_line(log: IO[str]) -> str:
    """Return the last line of a process's log."""
    log.seek(0)
    lines = [line.strip() for line in log if line.strip()]
    return lines[-1][:300] if lines else "the process ended without output"
