"""The process that scores: reads JSON lines on standard input, writes JSON lines on standard output.

It is a process of its own because a text is untrusted input: it may crash the tokenizer or the graph, or exhaust the
memory, and none of these raises an exception. It ends when its standard input does, so it never outlives its parent.
"""

import json
import os
import queue
import sys
import threading
from dataclasses import asdict
from typing import IO, Any

from manylabel.classifier import Classifier
from manylabel.errors import CannotWrite, InputError, ManylabelError, OutOfMemory
from manylabel.scoring.job import Job
from manylabel.scoring.shard import score_shard, try_rows
from manylabel.system.resource_errors import is_lack_of_memory, out_of_memory

Message = dict[str, Any]


def main() -> None:
    """Load the classifier that the first line names, then execute the command of every further line."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # output of libraries must not mix with the replies
    try:
        lines = _read_lines(sys.stdin)
        specification = json.loads(lines.get())
        job = Job.from_json(specification["output"], specification["job"])
        classifier = Classifier.load(
            specification["bundle"],
            device=specification["device"],
            precision=job.precision,  # type: ignore[arg-type]  # a variant's name
            threads=specification["threads"],
        )
        classifier.predict_proba(["", "."])  # what fails on every text fails here, and blames no row
    except Exception as exc:
        if not isinstance(exc, ManylabelError | OSError) and not is_lack_of_memory(exc):
            raise
        _send(output, _failure(exc))
        return
    _send(output, {"ready": True})
    while True:
        _send(output, execute(json.loads(lines.get()), classifier, job, output))


def execute(command: Message, classifier: Classifier, job: Job, output: IO[str]) -> Message:
    """Execute a command and return the reply; progress is written to `output` meanwhile.

    Args:
        command: `shard`, the shard's number; `quarantined`, errors of rows that are left out, by row; and, to try rows
            without keeping anything, `rows`, the first row and the row after the last.
        classifier: Of the job's bundle and precision.
        job: The job specification.
        output: Receives a line `{"rows": N}` whenever N more rows are scored.

    Returns:
        `commit`, the commit record; `tried` after a trial; `failed` and `message` for an error that no row has caused;
        or `died` for one that a row may have caused, as if the process had crashed.
    """
    quarantined = {int(row): error for row, error in command["quarantined"].items()}
    try:
        if "rows" in command:
            try_rows(classifier, job, command["shard"], range(*command["rows"]), quarantined=quarantined)
            return {"tried": True}
        commit = score_shard(
            classifier,
            job,
            command["shard"],
            quarantined=quarantined,
            progress=lambda rows: _send(output, {"rows": rows}),
        )
    except (InputError, CannotWrite, OutOfMemory, OSError) as exc:
        return _failure(exc)  # a changed input, a full disk, a batch that finds no memory: not a row's fault
    except Exception as exc:
        return {"died": f"{type(exc).__name__}: {exc}"}
    return {"commit": asdict(commit)}


def _failure(exc: Exception) -> Message:
    error = out_of_memory(exc) if is_lack_of_memory(exc) else exc  # other code may have reported it as damage
    return {"failed": type(error).__name__, "message": str(error)}


def _read_lines(file: IO[str]) -> "queue.SimpleQueue[str]":
    """Return a queue of the lines as they arrive; the process exits at the end of the file, whatever it is doing."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in file:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _send(output: IO[str], message: Message) -> None:
    output.write(json.dumps(message) + "\n")
    output.flush()


if __name__ == "__main__":
    main()
