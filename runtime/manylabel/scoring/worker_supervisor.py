"""The worker supervisor: restarts a worker that crashes, retries its shard, and quarantines a row that crashes it."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

from manylabel import errors
from manylabel.data import filesystem
from manylabel.errors import InputError, ManylabelError, WorkerDied
from manylabel.scoring.job import Job
from manylabel.scoring.shard import CommitRecord
from manylabel.system.resource_errors import memory_advice

MAX_CRASHES = 2
"""After so many crashes a row of the shard is suspected; a single one may be the machine's fault."""

MAX_QUARANTINED = 20
"""Rows of a shard that are left out at most; with more, the rows are not the cause."""


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker loads.

    Attributes:
        bundle: The bundle's path.
        device: `"cpu"`, `"cuda"` or `"auto"`.
        threads: Cores to use; None for all.
    """

    bundle: str
    device: str
    threads: int | None


class WorkerCrash(Exception):
    """The worker process has ended, or a row has raised an error that nobody expected."""


class WorkerSupervisor(AbstractContextManager["WorkerSupervisor"]):
    """Scores a job's shards in a worker process, which is started on demand and restarted after a crash.

    Args:
        job: The job specification.
        config: What the worker loads.

    Example:
        >>> from manylabel.scoring.run import ScoreOptions, ScoreRequest, score_files
        >>> _ = score_files(ScoreRequest("bundle", ["texts.csv"], None, "scored", ScoreOptions(), device="cpu"))
        >>> with WorkerSupervisor(Job.load("scored"), WorkerConfig("bundle", "cpu", threads=1)) as supervisor:
        ...     supervisor.score(0, progress=lambda rows: None).rows
        200
    """

    def __init__(self, job: Job, config: WorkerConfig) -> None:
        self._job = job
        self._config = config
        self._worker: WorkerProcess | None = None

    def score(self, number: int, progress: Callable[[int], object]) -> CommitRecord:
        """Score a shard and commit it, whatever its rows do.

        Args:
            number: The shard's index in the job.
            progress: Called with a number of rows, as they are scored; below 0 where rows will be scored again.

        Raises:
            WorkerDied: The process crashes again and again, and no row causes it.
            ManylabelError: For example, the input has changed, or the output cannot be written.
        """
        quarantined: dict[int, str] = {}
        crashes = 0
        while True:
            done = 0

            def count(rows: int) -> None:
                nonlocal done
                done += rows
                progress(rows)

            try:
                reply = self._request({"shard": number, "quarantined": quarantined}, count)
                return CommitRecord(**reply["commit"])
            except WorkerCrash as exc:
                progress(-done)
                crashes += 1
                if crashes == MAX_CRASHES:
                    row, crashes = self._find_crashing_row(number, quarantined, exc), 0
                    quarantined[row] = f"this row ended the process that scored it ({exc}) and was left out."

    def _find_crashing_row(self, number: int, quarantined: Mapping[int, str], reason: WorkerCrash) -> int:
        """Bisect the shard until one row is left that crashes the worker on its own."""
        low, high = 0, self._job.plan.shards[number].rows
        while high - low > 1 and len(quarantined) < MAX_QUARANTINED:
            middle = (low + high) // 2
            if self._crashes(number, low, middle, quarantined):
                high = middle
            elif self._crashes(number, middle, high, quarantined):
                low = middle
            else:
                break
        if high - low > 1 or len(quarantined) >= MAX_QUARANTINED:
            raise WorkerDied(
                f"the process that scores part {number} ended {MAX_CRASHES} times ({reason}), {len(quarantined)} rows "
                "were left out, and no other row ends it on its own. Most likely there is too little memory. "
                f"{memory_advice()} {filesystem.RESUME_HINT}"
            )
        return low

    def _crashes(self, number: int, low: int, high: int, quarantined: Mapping[int, str]) -> bool:
        try:
            self._request({"shard": number, "quarantined": quarantined, "rows": [low, high]}, lambda rows: None)
        except WorkerCrash:
            return True
        return False

    def _request(self, command: Mapping[str, Any], progress: Callable[[int], object]) -> dict[str, Any]:
        if self._worker is None:
            self._worker = self._start_worker()
        try:
            return self._worker.request(command, progress)
        except WorkerCrash:
            self._stop_worker()
            raise

    def _start_worker(self) -> "WorkerProcess":
        reason = WorkerCrash()
        for _ in range(MAX_CRASHES):
            try:
                return WorkerProcess(self._job, self._config)
            except WorkerCrash as exc:
                reason = exc
        raise WorkerDied(
            f"the process that scores ended {MAX_CRASHES} times before it scored anything ({reason}). Most likely "
            f"there is too little memory for the model. {memory_advice()} {filesystem.RESUME_HINT}"
        ) from reason

    def _stop_worker(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def __exit__(self, *_: object) -> None:
        self._stop_worker()


class WorkerProcess:
    """A process of `manylabel.scoring.worker` that has loaded its classifier.

    Args:
        job: The job specification.
        config: What the worker loads.

    Raises:
        WorkerCrash: The process ends while it loads.
        ManylabelError: The bundle cannot be loaded.
    """

    def __init__(self, job: Job, config: WorkerConfig) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "manylabel.scoring.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C at the terminal reaches this process; the worker ends with its pipe
        )
        try:
            self.request({**asdict(config), "output": job.output, "job": job.to_json()}, lambda rows: None)
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def request(self, command: Mapping[str, Any], progress: Callable[[int], object]) -> dict[str, Any]:
        """Send a command and return the reply.

        Raises:
            WorkerCrash: The process has ended, or a row may have caused an error.
            ManylabelError: The error that the worker reports, of the same type.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise WorkerCrash("no pipes")
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except OSError as exc:
            raise WorkerCrash(self._exit_reason()) from exc
        for line in self._process.stdout:
            reply: dict[str, Any] = json.loads(line)
            if "rows" in reply:
                progress(reply["rows"])
            elif "died" in reply:
                raise WorkerCrash(reply["died"])
            elif "failed" in reply:
                raise _error(reply["failed"], reply["message"])
            else:
                return reply
        raise WorkerCrash(self._exit_reason())

    def _exit_reason(self) -> str:
        code = self._process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def stop(self) -> None:
        """Kill the process and close its pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # unwritten bytes for a process that has died
                    continue


def _error(name: str, message: str) -> ManylabelError:
    """Return the worker's error, of the same type."""
    error_type = getattr(errors, name, None)
    if isinstance(error_type, type) and issubclass(error_type, ManylabelError):
        return error_type(message)
    return InputError(f"{name}: {message}")
