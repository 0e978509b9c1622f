"""One HTTP/1.1 connection: uvicorn's protocol, with a deadline and a size limit for headers, and an admission check.

Without the deadline, a client that sends one byte per minute holds its connection forever (slowloris). Without the
limit, endless headers fill the memory. Requests that two parsers may read differently (request smuggling) are rejected
by httptools' strict parser and by the check of the Host header.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from httptools import HttpParserError
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES = 65_536
"""Headers that are incomplete after this many bytes are refused."""

AdmissionCheck = Callable[[bytes, bytes, Iterable[tuple[bytes, bytes]]], bytes | None]
"""Takes a request's method, URL and headers; returns the complete response to a rejected request, else `None`."""


class DeadlineProtocol(HttpToolsProtocol):
    """A connection whose requests must send their headers before a deadline.

    The time starts when the connection is made, and at the first byte of each further request. Idle connections between
    requests are closed by uvicorn (`timeout_keep_alive`).

    Args:
        header_timeout: Seconds for a request's headers to arrive.
        admission_check: Called when the headers are complete.
    """

    def __init__(self, *args: Any, header_timeout: float, admission_check: AdmissionCheck, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # uvicorn passes its own arguments
        self._admission_check = admission_check
        self._skipping_body = False
        self._header_timeout = header_timeout
        self._header_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        """Start the deadline of the first request."""
        super().connection_made(transport)
        self._start_timer()

    def on_message_begin(self) -> None:
        """Start the deadline of a further request."""
        super().on_message_begin()
        if self._timer is None:
            self._start_timer()

    def on_headers_complete(self) -> None:
        """Check the headers; then pass the request on, or reject it."""
        self._stop_timer()
        if [name for name, _ in self.headers].count(b"host") != 1 and self.parser.get_http_version() == "1.1":
            # uvicorn responds with 400 and closes the connection.
            raise HttpParserError("expected exactly one Host header (RFC 9112, section 3.2)")
        idle = self.cycle is None or self.cycle.response_complete
        rejection = self._admission_check(self.parser.get_method(), self.url, self.headers) if idle else None
        if rejection is None:
            super().on_headers_complete()
            if self.scope["method"] != "HEAD":  # a response to HEAD does not have a body to send the headers with
                self.cycle.transport = _CoalescingTransport(self.transport)  # type: ignore[assignment]  # a cycle needs no more
            return
        self._skipping_body = True
        self.transport.write(rejection)
        self._start_timer()  # the deadline for the body that is skipped

    def on_body(self, body: bytes) -> None:
        """Receive a part of a body, or skip it."""
        if not self._skipping_body:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        if not self._skipping_body:
            super().on_message_complete()
            return
        self._skipping_body = False
        self._stop_timer()
        if self.parser.should_keep_alive():
            self.on_response_complete()
        else:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Parse bytes, and limit the size of headers."""
        super().data_received(data)
        if self._timer and not self._skipping_body:  # the headers are incomplete, so all of the data belongs to them
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self._close(b"431 Request Header Fields Too Large")

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the deadline."""
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self._header_bytes = 0
        self._timer = self.loop.call_later(self._header_timeout, self._close, b"408 Request Timeout")

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None

    def _close(self, status: bytes) -> None:
        """Close the connection; first send the status if a request has started and no response is in progress."""
        self._stop_timer()
        if self.transport.is_closing():
            return
        if self._header_bytes and (self.cycle is None or self.cycle.response_complete):
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        self.transport.close()


class _CoalescingTransport:
    """A transport for one response that sends the headers together with the first part of the body.

    uvicorn writes them separately, in two packets, and each packet wakes up the client.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._headers = b""
        self._started = False

    def write(self, data: bytes) -> None:
        if not self._started and not data.startswith(b"HTTP/1.1 100 "):
            self._started = True
            self._headers = data
            return
        self._transport.write(self._headers + data)
        self._headers = b""

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        if self._headers:
            self._transport.write(self._headers)
        self._transport.close()
