"""Turns requests away while the queue is crowded, before they cost anything.

A server in Python cannot refuse ten times what it answers by the way that answers take: a task, a body, JSON, a line
in the log. So a request is refused once its headers are there, its body is skipped as it comes, and the log has a line
a second.
"""

import asyncio
import logging
from collections.abc import Iterable
from http import HTTPStatus

from manylabel.server.http.errors import Refusal, dialect_of
from manylabel.server.http.request_id import request_id
from manylabel.server.service import Service

REPOSITORY = b"/v2/repository/"
"""What is posted there are no texts."""

logger = logging.getLogger("manylabel.server")


class Gate:
    """Stands between connections and the application."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._untold = 0

    def refusal(self, method: bytes, url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
        """The whole response to a request that is turned away; `None` where it may go on to the application."""
        if method != b"POST" or url.startswith(REPOSITORY):
            return None
        given = dict(headers)
        if b"origin" in given:  # a browser's, which asks for headers that the application adds
            return None
        timeout = given.get(b"x-timeout-ms")
        try:
            refusal = self._service.crowded(timeout.decode("latin-1") if timeout else None)
        except Refusal:  # for another reason, which the application gives
            return None
        if refusal is None:
            return None
        self._note()
        identity = given.get(b"x-request-id")
        return _response(refusal, url.decode("latin-1"), request_id(identity.decode("latin-1") if identity else None))

    def _note(self) -> None:
        self._service.metrics.turned_away()
        if not self._untold:
            asyncio.get_running_loop().call_later(1.0, self._tell)
        self._untold += 1

    def _tell(self) -> None:
        logger.warning("the queue is full: %d requests were turned away within a second", self._untold)
        self._untold = 0


def _response(refusal: Refusal, path: str, identity: str) -> bytes:
    rendered = dialect_of(path, "POST")(refusal, identity)
    headers = {
        "content-type": rendered.content_type,
        "content-length": len(rendered.body),
        "x-request-id": identity,
        **refusal.headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {rendered.status} {HTTPStatus(rendered.status).phrase}\r\n{lines}\r\n".encode() + rendered.body
