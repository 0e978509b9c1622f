"""The watched worker: a shard that ends its process is tried again; the row that does it is found and left out."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from manylabel import errors
from manylabel.data import filesystem
from manylabel.errors import InputError, ManylabelError, WorkerDied
from manylabel.scoring.job import Job
from manylabel.scoring.shard import Commit
from manylabel.system.resource_errors import more_memory

DEATHS = 2
"""So many ends of the process make a shard suspect; one may be the machine's."""

QUARANTINE = 20
"""Rows of a shard that are left out at most; beyond, it is not the rows."""


@dataclass(frozen=True)
class Loading:
    """What a worker loads."""

    bundle: str
    device: str
    threads: int | None


class Died(Exception):
    """The worker has ended, or a text has brought it near to its end."""


class Watch(AbstractContextManager["Watch"]):
    """Scores a job's shards in a worker, which is started when it is needed and started again when it has died.

    Args:
        job: What is done.
        loading: What the worker loads.
    """

    def __init__(self, job: Job, loading: Loading) -> None:
        self._job = job
        self._loading = loading
        self._workers: list[_Worker] = []

    def score(self, number: int, scored: Callable[[int], object]) -> Commit:
        """Score a shard and commit it, whatever its rows do.

        Args:
            number: The shard.
            scored: Told the number of rows as they come; less than 0 where they are to be scored again.

        Raises:
            WorkerDied: The process ends again and again, and no row is to blame.
            ManylabelError: The input has changed, the output cannot be written, or the like.
        """
        quarantined: dict[int, str] = {}
        deaths = 0
        while True:
            done = 0

            def count(rows: int) -> None:
                nonlocal done
                done += rows
                scored(rows)

            try:
                reply = self._ask({"shard": number, "quarantined": quarantined}, count)
                return Commit(**reply["commit"])
            except Died as exc:
                scored(-done)
                deaths += 1
                if deaths == DEATHS:
                    row, deaths = self._culprit(number, quarantined, exc), 0
                    quarantined[row] = f"this row ended the process that scored it ({exc}) and was left out."

    def _culprit(self, number: int, quarantined: Mapping[int, str], reason: Died) -> int:
        """Halve the shard until one row is left that ends the process by itself."""
        low, high = 0, self._job.plan.shards[number].rows
        while high - low > 1 and len(quarantined) < QUARANTINE:
            middle = (low + high) // 2
            if self._dies(number, low, middle, quarantined):
                high = middle
            elif self._dies(number, middle, high, quarantined):
                low = middle
            else:
                break
        if high - low > 1 or len(quarantined) >= QUARANTINE:
            raise WorkerDied(
                f"the process that scores part {number} ended {DEATHS} times ({reason}), {len(quarantined)} rows were "
                "left out, and no other row does it alone. Most likely memory is short. "
                f"{more_memory()} {filesystem.GOES_ON}"
            )
        return low

    def _dies(self, number: int, low: int, high: int, quarantined: Mapping[int, str]) -> bool:
        try:
            self._ask({"shard": number, "quarantined": quarantined, "rows": [low, high]}, lambda rows: None)
        except Died:
            return True
        return False

    def _ask(self, command: Mapping[str, Any], scored: Callable[[int], object]) -> dict[str, Any]:
        if not self._workers:
            self._workers.append(self._started())
        try:
            return self._workers[0].ask(command, scored)
        except Died:
            self._workers.pop().end()
            raise

    def _started(self) -> "_Worker":
        reason = Died()
        for _ in range(DEATHS):
            try:
                return _Worker(self._job, self._loading)
            except Died as exc:
                reason = exc
        raise WorkerDied(
            f"the process that scores ended {DEATHS} times before it scored anything ({reason}). Most likely memory is "
            f"too short for the model. {more_memory()} {filesystem.GOES_ON}"
        ) from reason

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()


class _Worker:
    """One process of `manylabel.scoring.worker`, ready."""

    def __init__(self, job: Job, loading: Loading) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "manylabel.scoring.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # an interrupt at the terminal is for us; it ends with our end of the pipe
        )
        spec = {
            "bundle": loading.bundle,
            "device": loading.device,
            "threads": loading.threads,
            "output": job.output,
            "job": job.to_json(),
        }
        try:
            self.ask(spec, lambda rows: None)
        except BaseException:
            self.end()
            raise

    def ask(self, command: Mapping[str, Any], scored: Callable[[int], object]) -> dict[str, Any]:
        """Send a command and wait for the reply to it."""
        if self._process.stdin is None or self._process.stdout is None:
            raise Died("no pipes")
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except OSError as exc:
            raise Died(self._last_word()) from exc
        for line in self._process.stdout:
            reply: dict[str, Any] = json.loads(line)
            if "rows" in reply:
                scored(reply["rows"])
            elif "died" in reply:
                raise Died(reply["died"])
            elif "failed" in reply:
                raise _error(reply["failed"], reply["message"])
            else:
                return reply
        raise Died(self._last_word())

    def _last_word(self) -> str:
        code = self._process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def end(self) -> None:
        """End the process and close its pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what was not yet written to a process that has died
                    continue


def _error(kind: str, message: str) -> ManylabelError:
    """The worker's error once more, of its own kind."""
    found = getattr(errors, kind, None)
    if isinstance(found, type) and issubclass(found, ManylabelError):
        return found(message)
    return InputError(f"{kind}: {message}")
