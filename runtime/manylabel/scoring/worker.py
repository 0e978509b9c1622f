"""The process that scores: told by lines of JSON on standard input, telling by lines on standard output.

It is a process of its own because a text is hostile input: what it might crash is the tokeniser, the graph or the
memory's end, and none of these raises an exception. It ends when its input does, so it never outlives who started it.
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
    """Load the classifier that the first line names, then do what each line says."""
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no message
    try:
        lines = _lines_of(sys.stdin)
        spec = json.loads(lines.get())
        job = Job.from_json(spec["output"], spec["job"])
        classifier = Classifier.load(
            spec["bundle"],
            device=spec["device"],
            precision=job.precision,  # type: ignore[arg-type]  # a variant's name
            threads=spec["threads"],
        )
        classifier.predict_proba(["", "."])  # what fails on every text fails here, and blames no row
    except Exception as exc:
        if not isinstance(exc, ManylabelError | OSError) and not is_lack_of_memory(exc):
            raise
        _say(told, _failure(exc))
        return
    _say(told, {"ready": True})
    while True:
        _say(told, _obey(json.loads(lines.get()), classifier, job, told))


def _obey(command: Message, classifier: Classifier, job: Job, told: IO[str]) -> Message:
    quarantined = {int(row): error for row, error in command["quarantined"].items()}
    try:
        if "rows" in command:
            try_rows(classifier, job, command["shard"], range(*command["rows"]), quarantined=quarantined)
            return {"tried": True}
        commit = score_shard(
            classifier, job, command["shard"], quarantined=quarantined, scored=lambda rows: _say(told, {"rows": rows})
        )
    # The input has changed, the disk is full, a batch finds no memory: no row's fault.
    except (InputError, CannotWrite, OutOfMemory, OSError) as exc:
        return _failure(exc)
    except Exception as exc:  # a row's fault, perhaps; as if the process had died of it
        return {"died": f"{type(exc).__name__}: {exc}"}
    return {"commit": asdict(commit)}


def _failure(exc: Exception) -> Message:
    told = out_of_memory(exc) if is_lack_of_memory(exc) else exc  # whatever took it for damage
    return {"failed": type(told).__name__, "message": str(told)}


def _lines_of(file: IO[str]) -> "queue.SimpleQueue[str]":
    """Lines as they come; where they end, so does the process, whatever it is at."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in file:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _say(told: IO[str], message: Message) -> None:
    told.write(json.dumps(message) + "\n")
    told.flush()


if __name__ == "__main__":
    main()
