"""Load shedding: admission control that rejects requests while the queue is full, before their bodies are read.

A server in Python cannot reject ten times its capacity on the normal path of a request, with a task, a body, JSON and a
log line each. Instead, a request is rejected as soon as its headers are complete, its body is skipped while it arrives,
and the log gets one line per second.
"""

import asyncio
import logging
from collections.abc import Iterable
from http import HTTPStatus

from manylabel.server.http.errors import HTTPRefusal, error_format
from manylabel.server.http.request_headers import resolve_request_id
from manylabel.server.service import Service

REPOSITORY_PATH = b"/v2/repository/"
"""Requests below this path do not contain texts."""

logger = logging.getLogger("manylabel.server")


class AdmissionControl:
    """Decides whether a request is admitted, from its headers alone."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._unlogged = 0

    def check(self, method: bytes, url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
        """Return the complete 429 response if the request is rejected; `None` if the application should handle it."""
        if method != b"POST" or url.startswith(REPOSITORY_PATH):
            return None
        by_name = dict(headers)
        if b"origin" in by_name:  # a browser needs the CORS headers that the application adds
            return None
        timeout = by_name.get(b"x-timeout-ms")
        try:
            refusal = self._service.refuse_overload(timeout.decode("latin-1") if timeout else None)
        except HTTPRefusal:  # an invalid header: the application reports it
            return None
        if refusal is None:
            return None
        self._count()
        client_id = by_name.get(b"x-request-id")
        request_id = resolve_request_id(client_id.decode("latin-1") if client_id else None)
        return _encode_response(refusal, url.decode("latin-1"), request_id)

    def _count(self) -> None:
        self._service.metrics.count_shed_request()
        if not self._unlogged:
            asyncio.get_running_loop().call_later(1.0, self._log)
        self._unlogged += 1

    def _log(self) -> None:
        logger.warning("the queue is full; requests rejected within one second: %d", self._unlogged)
        self._unlogged = 0


def _encode_response(refusal: HTTPRefusal, path: str, request_id: str) -> bytes:
    response = error_format(path, "POST")(refusal, request_id)
    headers = {
        "content-type": response.content_type,
        "content-length": len(response.body),
        "x-request-id": request_id,
        **refusal.headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    status = f"{response.status} {HTTPStatus(response.status).phrase}"
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + response.body
