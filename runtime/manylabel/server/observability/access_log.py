"""One request and what became of it, for those who keep records: metrics, logs, traces. It holds no text."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from manylabel.server.worker_pool import Timings

access = logging.getLogger("manylabel.access")


@dataclass(frozen=True)
class Finished:
    """A request that is over.

    Attributes:
        request_id: The client's, or one that was made up.
        method: HTTP's.
        route: Which of our routes, such as `tei.predict`; never the path, which is the client's.
        status: HTTP's; 499 where the client went away.
        reason: Why it was refused; empty where it was not.
        started: Seconds since the epoch.
        seconds: From the headers to the answer.
        texts: How many were answered.
        timings: Where the seconds went; zeros where nothing was computed.
        headers: The request's, for those who follow it across services.
    """

    request_id: str
    method: str
    route: str
    status: int
    reason: str
    started: float
    seconds: float
    texts: int
    timings: Timings
    headers: Mapping[str, str]


Recorder = Callable[[Finished], None]


def log_access(done: Finished) -> None:
    """A line for every request."""
    fields: dict[str, Any] = {
        "request_id": done.request_id,
        "method": done.method,
        "route": done.route,
        "status": done.status,
        "ms": round(done.seconds * 1000, 3),
    }
    if done.reason:
        fields["reason"] = done.reason
    if done.texts:
        fields |= {
            "texts": done.texts,
            "queue_ms": round(done.timings.queue * 1000, 3),
            "inference_ms": round(done.timings.inference * 1000, 3),
        }
    access.info("%s %d", done.route, done.status, extra={"fields": fields})


class JsonFormatter(logging.Formatter):
    """A log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


class PlainFormatter(logging.Formatter):
    """A log record for a reader at a terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """The line, with what belongs to it."""
        fields = "".join(f" {name}={value}" for name, value in getattr(record, "fields", {}).items())
        return super().format(record) + fields
