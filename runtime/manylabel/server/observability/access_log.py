"""Access log: the record of a finished request, and the log in JSON or plain text."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from manylabel.server.worker_pool import Timings

access_logger = logging.getLogger("manylabel.access")


@dataclass(frozen=True)
class RequestRecord:
    """A finished request, as metrics, log and traces see it. It does not contain any text.

    Attributes:
        request_id: The client's request ID, or a generated one.
        method: HTTP method.
        route: The name of the route, such as `tei.predict`; never the path, which the client chooses.
        status: HTTP status code; 499 if the client disconnected.
        reason: Why the request was refused; empty if it was not.
        started: Seconds since the epoch.
        seconds: Duration from the headers to the response.
        texts: Number of classified texts.
        timings: Where the time went; zeros if nothing was computed.
        headers: The request's headers, for trace propagation.
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


Recorder = Callable[[RequestRecord], None]


def log_request(request: RequestRecord) -> None:
    """Write one line to the access log."""
    fields: dict[str, Any] = {
        "request_id": request.request_id,
        "method": request.method,
        "route": request.route,
        "status": request.status,
        "ms": round(request.seconds * 1000, 3),
    }
    if request.reason:
        fields["reason"] = request.reason
    if request.texts:
        fields |= {
            "texts": request.texts,
            "queue_ms": round(request.timings.queue * 1000, 3),
            "inference_ms": round(request.timings.inference * 1000, 3),
        }
    access_logger.info("%s %d", request.route, request.status, extra={"fields": fields})


class JsonFormatter(logging.Formatter):
    """Formats a log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record and its fields as JSON."""
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
    """Formats a log record as plain text for a terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line, followed by its fields as `name=value`."""
        fields = "".join(f" {name}={value}" for name, value in getattr(record, "fields", {}).items())
        return super().format(record) + fields
